"""The lab's DNS server and questions about names of others, which go on to other servers."""

from __future__ import annotations

import contextlib
import json
import pathlib
import select
import socket
import struct
from collections.abc import Iterator, Sequence

import pytest

from podlab.kube import dns
from support.dnsserver import SVC, ZONE, Server
from support.dnswire import client, framed, rcode, received, wire
from support.packets import Namespace
from support.services import service

pytestmark = pytest.mark.kernel

NAME = f"web.{SVC}"
SERVICES = [service("web", "10.96.0.20"), service("out", "", type="ExternalName", externalName="www.example.org")]
UPSTREAM, SILENT = "192.0.2.53", "192.0.2.54"
OTHERS = {
    "zone": "example.org",
    "networks": [],
    "namespaces": [],
    "records": [
        "www.example.org. 30 IN A 192.0.2.80",
        "www.example.org. 30 IN AAAA 2001:db8::80",
        "8.8.8.8.in-addr.arpa. 30 IN PTR www.example.org.",
        *(f"big.example.org. 30 IN A 198.51.{number // 200}.{number % 200}" for number in range(300)),
    ],
}


class Outside:
    """Two namespaces with a veth between them: the lab's server in one, an upstream's addresses in the other."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.near, self.far = Namespace(), Namespace()
        for namespace in (self.near, self.far):
            namespace.run("ip link set lo up")
        self.near.run(f"ip link add out type veth peer name in netns {self.far.path}")
        self.near.run("ip addr add 192.0.2.1/24 dev out")
        self.near.run("ip link set out up")
        for address in (UPSTREAM, SILENT):
            self.far.run(f"ip addr add {address}/24 dev in")
        self.far.run("ip link set in up")

    @contextlib.contextmanager
    def server(self, upstreams: Sequence[str] = (UPSTREAM,)) -> Iterator[Server]:
        file = self.directory / "records.json"
        file.write_text(dns.document(SERVICES, [], ZONE, ["10.96.0.0/16"]))
        made = Server(self.near, file, upstreams)
        try:
            yield made
        finally:
            made.close()

    @contextlib.contextmanager
    def upstream(self) -> Iterator[None]:
        file = self.directory / "others.json"
        file.write_text(json.dumps(OTHERS))
        made = Server(self.far, file)
        try:
            yield
        finally:
            made.close()

    def listening(self, address: str, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        made = self.far.socket(kind)
        made.bind((address, 53))
        return made

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture
def outside(tmp_path: pathlib.Path) -> Iterator[Outside]:
    made = Outside(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_names_of_others_are_asked_of_their_servers(outside: Outside) -> None:
    with outside.upstream(), outside.server() as server:
        for protocol in ("+notcp", "+tcp"):
            assert server.ask(protocol, "www.example.org") == ("NOERROR", ["192.0.2.80"])
            assert server.ask(protocol, "WWW.example.org", "AAAA") == ("NOERROR", ["2001:db8::80"])
            assert server.ask(protocol, "none.example.org") == ("NXDOMAIN", [])
            assert server.ask(protocol, "example.net") == ("REFUSED", [])  # the upstream's word
            assert server.ask(protocol, "-x", "8.8.8.8") == ("NOERROR", ["www.example.org."])
            assert server.ask(protocol, "-x", "10.96.9.9") == ("NXDOMAIN", [])  # ours, so not asked there
            assert server.ask(protocol, "+norecurse", "www.example.org") == ("REFUSED", [])
            assert server.ask(protocol, NAME) == ("NOERROR", ["10.96.0.20"])
        assert len(server.ask("big.example.org")[1]) == 300
        assert "flags: qr aa rd ra;" in server.dig(NAME)


def test_an_external_name_is_followed_to_its_address(outside: Outside) -> None:
    with outside.upstream(), outside.server() as server:
        for protocol in ("+notcp", "+tcp"):
            assert server.ask(protocol, f"out.{SVC}") == ("NOERROR", ["192.0.2.80", "www.example.org."])
            assert server.ask(protocol, f"out.{SVC}", "AAAA") == ("NOERROR", ["2001:db8::80", "www.example.org."])
            assert server.ask(protocol, f"out.{SVC}", "CNAME") == ("NOERROR", ["www.example.org."])


def test_where_nobody_listens_is_said_at_once(outside: Outside) -> None:
    with outside.server() as server:
        assert server.ask("www.example.org") == ("SERVFAIL", [])
        assert server.ask("+tcp", "www.example.org") == ("SERVFAIL", [])
        assert server.ask(f"out.{SVC}") == ("NOERROR", ["www.example.org."])


def test_without_a_way_there_names_of_others_are_refused(outside: Outside) -> None:
    outside.near.run("ip link del out")
    with outside.server() as server:
        assert server.ask("www.example.org") == ("REFUSED", [])
        assert server.ask(f"out.{SVC}") == ("NOERROR", ["www.example.org."])


def test_a_server_that_is_silent_is_not_waited_for_by_others(outside: Outside) -> None:
    """The next server is asked after two seconds; meanwhile our own names are answered."""
    with contextlib.ExitStack() as stack:
        silent, upstream = (stack.enter_context(outside.listening(address)) for address in (SILENT, UPSTREAM))
        asking = stack.enter_context(client(outside.near))
        with outside.server((SILENT, UPSTREAM)):
            asking.send(wire("www.example.org"))
            question, sender = silent.recvfrom(512)
            asking.send(wire("www.example.net", ident=8))
            # Each question has a port of its own while it waits.
            assert silent.recvfrom(512)[1][1] != sender[1]
            asking.send(wire(NAME, ident=9))
            assert asking.recv(512)[:2] == b"\0\x09"
            again = [upstream.recvfrom(512) for _ in range(2)]
            second, other = next(one for one in again if one[0][2:] == question[2:])
            upstream.sendto(second[:2] + b"\x81\x80" + second[4:], other)
            assert asking.recv(512) == b"\0\x07\x81\x80" + question[4:]


def test_only_the_answer_that_was_asked_for_counts(outside: Outside) -> None:
    with contextlib.ExitStack() as stack:
        upstream, stranger = (stack.enter_context(outside.listening(address)) for address in (UPSTREAM, SILENT))
        asking = stack.enter_context(client(outside.near))
        with outside.server():
            asking.send(wire("www.example.org"))
            question, sender = upstream.recvfrom(512)
            wrong = bytes([question[0] ^ 1]) + question[1:2]
            upstream.sendto(wrong + b"\x81\x83" + question[4:], sender)  # another number
            upstream.sendto(question[:2] + b"\x81\x83" + wire("other.example.org")[4:], sender)  # another question
            upstream.sendto(question, sender)  # no answer at all
            upstream.sendto(b"", sender)
            stranger.sendto(question[:2] + b"\x81\x83" + question[4:], sender)  # another server
            upstream.sendto(question[:2] + b"\x81\x80" + question[4:], sender)
            assert asking.recv(512) == b"\0\x07\x81\x80" + question[4:]
            assert select.select([asking], [], [], 0)[0] == []


def test_who_only_listens_any_more_still_gets_the_answer(outside: Outside) -> None:
    """A client that has shut down its sending side, as `nc -N` does: the answer of another server comes later."""
    with outside.listening(UPSTREAM, socket.SOCK_STREAM) as upstream, outside.server():
        upstream.listen()
        with client(outside.near, socket.SOCK_STREAM) as stream:
            stream.sendall(framed(wire("www.example.org"), wire(NAME, ident=9)))
            stream.shutdown(socket.SHUT_WR)
            with upstream.accept()[0] as asked:
                question = received(asked)
                assert received(stream)[:2] == b"\0\x09"
                asked.sendall(framed(question[:2] + b"\x81\x80" + question[4:]) + b"and more")
            assert received(stream) == b"\0\x07\x81\x80" + question[4:]
            assert stream.recv(1) == b""


def test_an_answer_that_makes_no_sense_ends_nothing(outside: Outside) -> None:
    """A record without data can be read, and not be written."""
    with outside.listening(UPSTREAM) as upstream, client(outside.near) as asking, outside.server():
        asking.send(wire(f"out.{SVC}"))
        question, sender = upstream.recvfrom(512)
        empty = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 0)
        asked = question[12 : question.index(b"\0", 12) + 5]
        upstream.sendto(question[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0) + asked + empty, sender)
        answer = asking.recv(512)
        assert (rcode(answer), answer[7]) == (0, 1)  # the CNAME, which we know
        asking.send(wire(NAME, ident=9))
        assert asking.recv(512)[:2] == b"\0\x09"


def test_an_external_names_answer_that_is_cut_off_is_asked_for_again(outside: Outside) -> None:
    with contextlib.ExitStack() as stack:
        udp = stack.enter_context(outside.listening(UPSTREAM))
        tcp = stack.enter_context(outside.listening(UPSTREAM, socket.SOCK_STREAM))
        tcp.listen()
        asking = stack.enter_context(client(outside.near))
        with outside.server():
            asking.send(wire(f"out.{SVC}"))
            question, sender = udp.recvfrom(512)
            asked = question[12 : question.index(b"\0", 12) + 5]
            udp.sendto(question[:2] + struct.pack("!5H", 0x8380, 1, 0, 0, 0) + asked, sender)
            with tcp.accept()[0] as stream:
                again = received(stream)
                address = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + bytes([192, 0, 2, 80])
                stream.sendall(framed(again[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0) + asked + address))
                assert asking.recv(512)[-4:] == bytes([192, 0, 2, 80])


def test_an_error_without_the_question_is_an_answer(outside: Outside) -> None:
    """As servers give it that know no EDNS, and as ours does."""
    with outside.listening(UPSTREAM) as upstream, client(outside.near) as asking, outside.server():
        asking.send(wire("www.example.org"))
        question, sender = upstream.recvfrom(512)
        upstream.sendto(question[:2] + struct.pack("!5H", 0x8181, 0, 0, 0, 0), sender)
        assert asking.recv(512) == struct.pack("!6H", 7, 0x8181, 0, 0, 0, 0)


def test_a_name_that_nobody_answers_for_stops_no_other(outside: Outside) -> None:
    """The servers are given a rest when they answer nothing at all, not for one name's sake."""
    with outside.listening(UPSTREAM) as upstream, client(outside.near) as asking, outside.server():

        def answered(ident: int, name: str) -> bytes:
            asking.send(wire(name, ident=ident))
            while True:
                question, sender = upstream.recvfrom(512)
                if question[12:] == wire(name)[12:]:
                    upstream.sendto(question[:2] + b"\x81\x80" + question[4:], sender)
                    return asking.recv(512)

        asking.send(wire("dead.example.org"))
        upstream.recvfrom(512)
        assert answered(8, "www.example.org")[:4] == b"\0\x08\x81\x80"
        given_up = asking.recv(512)
        assert (given_up[:2], rcode(given_up)) == (b"\0\x07", 2)
        assert answered(9, "www.example.org")[:4] == b"\0\x09\x81\x80"


def test_names_are_no_servers(outside: Outside) -> None:
    """To look one up would stop everything: the resolver would ask us."""
    with outside.server(("dns.example.org", UPSTREAM)) as server:
        assert server.said == f"answering on port 53; names of others: {UPSTREAM}\n"


def test_servers_on_loopback_are_not_asked(outside: Outside) -> None:
    with outside.server(("127.0.0.53", "::1")) as server:
        assert server.said == "answering on port 53; names of others: refused\n"
        assert server.ask("www.example.org") == ("REFUSED", [])
