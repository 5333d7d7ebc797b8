"""The lab's DNS server by itself: hostile packets, TCP, changing files."""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import select
import signal
import socket
import struct
from collections.abc import Iterator

import pytest

from podlab.kube import dns
from podlab.linux import netns
from support.dnsserver import SVC, ZONE, Server, serving
from support.dnswire import client, framed, rcode, received, wire
from support.services import service

pytestmark = pytest.mark.kernel

NAME = f"web.{SVC}"


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[Server]:
    file = tmp_path / "records.json"
    file.write_text(dns.document([service("web", "10.96.0.20")], [], ZONE))
    with serving(file) as made:
        yield made


def replace(file: pathlib.Path, text: str) -> None:
    """As podlab writes: whoever reads has the old file or the new one."""
    new = file.with_suffix(".new")
    new.write_text(text)
    os.utime(new, (0, 0))
    os.rename(new, file)


def test_a_broken_or_missing_file_changes_nothing(server: Server) -> None:
    assert server.ask(NAME) == ("NOERROR", ["10.96.0.20"])
    for text in ("", "{", '{"zone": 1}', "[]", "\udcff" * 3):
        replace(server.records, "") if not text else server.records.write_bytes(text.encode("utf-8", "surrogateescape"))
        assert server.ask(NAME) == ("NOERROR", ["10.96.0.20"]), text
    server.records.unlink()
    assert server.ask(NAME) == ("NOERROR", ["10.96.0.20"])
    replace(server.records, dns.document([service("web", "10.96.0.21")], [], ZONE))
    assert server.ask(NAME) == ("NOERROR", ["10.96.0.21"])


def test_every_one_of_many_quick_changes_counts(server: Server) -> None:
    """Same time, same size, two changes between two questions: nothing but the file itself tells them apart."""
    with client(server.namespace) as asking:
        for number in range(101, 250):
            for own in (number - 1, number):
                replace(server.records, dns.document([service("web", f"10.96.0.{own}")], [], ZONE))
            asking.send(wire(NAME))
            assert asking.recv(512)[-4:] == bytes([10, 96, 0, number])


HOSTILE = {
    "empty": b"",
    "short": b"\0" * 11,
    "an answer": wire(NAME, flags=0x8100),
}
MALFORMED = {
    "no question": struct.pack("!6H", 7, 0x100, 0, 0, 0, 0),
    "many questions": struct.pack("!6H", 7, 0x100, 0xFFFF, 0, 0, 0) + b"\0" * 900,
    "an answer in a question": struct.pack("!6H", 7, 0x100, 1, 1, 0, 0) + wire(NAME)[12:],
    "cut off": wire(NAME)[:20],
    "no type": wire(NAME)[:-3],
    "a pointer to itself": struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",
    "a pointer into the header": struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + b"\xc0\0\0\1\0\1",
    "a pointer forward": struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + b"\xc0\x20\0\1\0\1",
    "a loop": struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + b"\1a\xc0\x0c\0\1\0\1",
    "a label of 64": struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + b"\x40" + b"a" * 64 + b"\0\0\1\0\1",
    "a name of 256": wire(".".join(["a" * 63] * 4)),
    "no text": struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + b"\3\xff\xfe\xfd\0\0\1\0\1",
    "a broken option": wire(NAME, extra=b"\0\0\x29\4\xd0\0\0\0\0\0\x08\0\3\0\xff"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_question_is_not_answered(server: Server, case: str) -> None:
    with client(server.namespace) as asking:
        asking.send(HOSTILE[case])
        asking.send(wire(NAME, ident=9))
        assert asking.recv(512)[:2] == b"\0\x09"


@pytest.mark.parametrize("case", MALFORMED)
def test_what_cannot_be_read_is_a_format_error(server: Server, case: str) -> None:
    with client(server.namespace) as asking:
        asking.send(MALFORMED[case])
        answer = asking.recv(512)
        assert (answer[:2], len(answer), rcode(answer)) == (b"\0\x07", 12, 1)
        asking.send(wire(NAME, ident=9))
        assert asking.recv(512)[-4:] == bytes([10, 96, 0, 20])


def test_random_packets_do_no_harm(server: Server) -> None:
    chance = random.Random(53)
    good = wire(NAME)
    with client(server.namespace) as asking:
        for number in range(1500):
            packet = bytearray(good if number % 2 else chance.randbytes(chance.randrange(64)))
            for _ in range(min(len(packet), chance.randrange(4))):
                packet[chance.randrange(len(packet))] = chance.randrange(256)
            asking.send(packet)
            if number % 50 == 49:
                asking.send(wire(NAME, ident=0xBEEF))
                while asking.recv(65535)[:2] != b"\xbe\xef":
                    pass
    assert server.ask(NAME) == ("NOERROR", ["10.96.0.20"])


def test_one_connection_asks_many_questions_in_any_pieces(server: Server) -> None:
    with client(server.namespace, socket.SOCK_STREAM) as stream:
        stream.sendall(framed(*(wire(NAME, ident=number) for number in range(50))))
        assert {struct.unpack("!H", received(stream)[:2])[0] for _ in range(50)} == set(range(50))
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in framed(wire(NAME)):
            stream.send(bytes([octet]))
        assert received(stream)[-4:] == bytes([10, 96, 0, 20])


def test_a_connection_that_says_nothing_keeps_nobody_waiting(server: Server) -> None:
    with client(server.namespace, socket.SOCK_STREAM) as idle, client(server.namespace, socket.SOCK_STREAM) as stream:
        idle.send(b"\0")
        stream.sendall(framed(wire(NAME)))
        assert received(stream)[-4:] == bytes([10, 96, 0, 20])


def test_one_that_asks_a_lot_keeps_nobody_waiting(server: Server) -> None:
    """What it has sent is in the kernel, whole, before the server sees any of it; another's question comes after."""
    own, count = server.namespace, 100
    with contextlib.ExitStack() as stack:
        greedy, other = (stack.enter_context(client(own, socket.SOCK_STREAM)) for _ in range(2))
        for stream in (greedy, other):
            stream.sendall(framed(wire(NAME)))
            received(stream)
        with netns.entered(own.path):
            frames = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)))
        frames.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        server.process.send_signal(signal.SIGSTOP)
        greedy.sendall(framed(*(wire(NAME, ident=number) for number in range(count))))
        other.sendall(framed(wire(NAME, ident=9)))
        server.process.send_signal(signal.SIGCONT)
        assert {struct.unpack("!H", received(greedy)[:2])[0] for _ in range(count)} == set(range(count))
        assert received(other)[:2] == b"\0\x09"
        answered = answered_ports(frames)
        assert answered.index(other.getsockname()[1]) < 10 < len(answered), "it has to wait for all of the others"


def answered_ports(frames: socket.socket) -> list[int]:
    """The ports that the packets from port 53 went to which carried something, in order."""
    found = []
    while select.select([frames], [], [], 0)[0]:
        packet = frames.recv(65536)
        source, port = struct.unpack_from("!2H", packet, 20)
        if packet[9] == socket.IPPROTO_TCP and source == 53 and len(packet) > 20 + (packet[32] >> 4) * 4:
            found.append(port)
    return found


def test_the_dnssec_bit_comes_back(server: Server) -> None:
    for bits, flags in ((0x8000, "flags: do;"), (0, "flags:;")):
        assert flags in server.dig("+dnssec" if bits else "+edns=0", NAME)


def test_a_question_that_is_too_long_ends_the_connection(server: Server) -> None:
    with client(server.namespace, socket.SOCK_STREAM) as stream:
        stream.sendall(b"\xff\xff")
        assert stream.recv(1) == b""


def test_more_connections_than_there_is_room_for(server: Server) -> None:
    """Old idle ones give way, so that there is always room for one more."""
    made = []
    try:
        for _ in range(300):
            made.append(server.namespace.socket())
            made[-1].connect(("127.0.0.1", 53))
        made[-1].sendall(framed(wire(NAME)))
        assert received(made[-1])[-4:] == bytes([10, 96, 0, 20])
        assert made[0].recv(1) == b""
    finally:
        for stream in made:
            stream.close()


def test_it_ends_when_it_is_told_to(server: Server) -> None:
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=10) == 0


def test_a_port_that_is_taken_is_said(server: Server, tmp_path: pathlib.Path) -> None:
    with pytest.raises(AssertionError, match="^podlab-dns: cannot listen on port 53: Address already in use$"):
        Server(server.namespace, tmp_path / "records.json")
