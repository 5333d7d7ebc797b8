"""Requests to Services with real packets: who answers, and whom it sees.

Servers are sockets of this process in the pods' namespaces, so that every step of an exchange is made here, one after
the other. Nothing is measured by waiting: what was dropped is known by packets sent after it that have arrived.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import pathlib
import select
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from podlab.linux import netns
from podlab.linux.netlink import Netlink
from support import module_runner, sctp
from support.own_machine import own_machine, sh
from support.service_topology import ADDRESSES, FAMILIES, NODES, PODS, topology

LIBRARY = pathlib.Path(__file__).resolve().parents[2] / "library"
SECONDS = 5
# There and back so often is longer than any way to a pod and back, in packets.
FENCES = 4
FENCE_PORT = 7
FENCE_PODS = ("a4", "b3")
PORTS = {"TCP": (8080, 9090), "UDP": (5353,), "SCTP": (3868,)}
_KINDS = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM, "SCTP": socket.SOCK_RAW}
# linux/in.h, linux/in6.h: keep what ICMP told of a request.
_RECVERR = {"ipv4": (socket.IPPROTO_IP, 11), "ipv6": (socket.IPPROTO_IPV6, 25)}
_RESET = struct.pack("ii", 1, 0)

# Place and port.
Server = tuple[str, int]


class Answer(NamedTuple):
    """What came of a request. who: the pod or node that answered, with its port unless that is the first of PORTS;
    seen: address that it saw. Or who is "refused" or "dropped", and seen is empty."""

    who: str
    seen: str = ""


REFUSED, DROPPED = Answer("refused"), Answer("dropped")


class ServiceNet:
    """The network of service_topology on a machine of its own, with a server on every port of every pod and node."""

    def __init__(self, tmp: str) -> None:
        self._tmp = tmp
        # Each request comes from a port that connection tracking does not know yet.
        self._source_ports = itertools.cycle(range(20000, 60000))
        self._open = contextlib.ExitStack()
        self._open.enter_context(own_machine())
        self._open.enter_context(_one_processor())
        self.servers: dict[tuple[str, str], dict[socket.socket, Server]] = {}
        self._fences: dict[tuple[str, str], socket.socket] = {}
        try:
            self.run("podlab_topology", topology())
            for family in FAMILIES:
                self._serve(family)
        except BaseException:
            self._open.close()
            raise

    def close(self) -> None:
        """Take everything down; the machine is as it was."""
        self._open.close()

    def run(self, module: str, args: dict[str, Any], **how: bool) -> dict[str, Any]:
        """A module's result; it must not fail."""
        how = {"check": False, "diff": False, **how}
        result = module_runner.run(LIBRARY / f"{module}.py", args, **how, tmp=self._tmp)
        assert not result.get("failed"), result["msg"]
        return result

    def socket(self, place: str, family: str, protocol: str) -> socket.socket:
        """A socket in the namespace of a place."""
        with netns.entered(place):
            number = sctp.PROTOCOL if protocol == "SCTP" else 0
            return socket.socket(FAMILIES[family], _KINDS[protocol], number)

    def _serve(self, family: str) -> None:
        for protocol, ports in PORTS.items():
            served = self.servers[family, protocol] = {}
            for place in (*PODS, *NODES):
                for port in ports:
                    server = self._open.enter_context(self.socket(place, family, protocol))
                    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    server.bind((ADDRESSES[family][place], 0 if protocol == "SCTP" else port))
                    if protocol == "TCP":
                        server.listen(64)
                    served[server] = (place, port)
        for pod in FENCE_PODS:
            fence = self._open.enter_context(self.socket(pod, family, "UDP"))
            fence.bind((ADDRESSES[family][pod], FENCE_PORT))
            fence.settimeout(SECONDS)
            self._fences[family, pod] = fence

    def ask(self, asker: str, address: str, port: int, protocol: str = "TCP") -> Answer:
        """One request."""
        family = "ipv6" if ":" in address else "ipv4"
        with self.client(asker, family, protocol) as client:
            return getattr(self, f"_{protocol.lower()}")(_Request(client, asker, family, address, port))

    def ask_again(self, client: socket.socket, asker: str, address: str, port: int) -> Answer:
        """A UDP request from a socket that client() made: its port stays the same."""
        client.setblocking(False)
        return self._udp(_Request(client, asker, "ipv6" if ":" in address else "ipv4", address, port))

    def client(self, asker: str, family: str, protocol: str = "UDP") -> socket.socket:
        """A socket to ask from, bound to a port that no other has had."""
        client = self.socket(asker, family, protocol)
        client.setblocking(False)
        client.setsockopt(*_RECVERR[family], 1)
        if protocol != "SCTP":
            client.bind(("", next(self._source_ports)))
        return client

    def forget(self) -> None:
        """Let the nodes forget every connection: one with the same ports would go where the old one went.

        In one request each: of thousands that are deleted one by one, some end by themselves meanwhile.
        """
        for node in NODES:
            sh("ip", "netns", "exec", node, "conntrack", "-F")

    def fence(self, asker: str, family: str) -> None:
        """Return when packets that were sent after all others have been to the pods of both nodes and back."""
        with self.socket(asker, family, "UDP") as client:
            client.settimeout(SECONDS)
            for _ in range(FENCES):
                for pod in FENCE_PODS:
                    client.sendto(b"fence", (ADDRESSES[family][pod], FENCE_PORT))
                    server = self._fences[family, pod]
                    server.sendto(b"back", server.recvfrom(16)[1])
                    client.recv(16)

    def inject(self, asker: str, node: str, datagram: bytes) -> None:
        """Put an IPv4 packet on the wire to a node as it is, also one that the asker's kernel would not send."""
        with netns.entered(node), Netlink() as link:
            there = link.link("eth0").address
        with netns.entered(asker), Netlink() as link:
            here = link.link("eth0").address
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with wire:
            wire.bind(("eth0", 0))
            wire.send(bytes.fromhex(f"{there}{here}".replace(":", "")) + b"\x08\x00" + datagram)

    def _first(self, asked: _Request, reading: Iterable[socket.socket], writing: Sequence[socket.socket] = ()) -> Any:
        """The sockets that something happened to, at once or until the fences are back; none when nothing did."""
        for attempt in range(2):
            found = [one for ready in select.select(list(reading), writing, [], 0)[:2] for one in ready]
            if found or attempt:
                return found
            self.fence(asked.asker, asked.family)

    def _tcp(self, asked: _Request) -> Answer:
        client, servers = asked.client, self.servers[asked.family, "TCP"]
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        client.connect_ex(asked.target)
        if not self._first(asked, (), [client]):
            return DROPPED
        if number := _error(client):
            return _failed(number)
        (server,) = select.select(list(servers), [], [], SECONDS)[0]
        accepted, peer = server.accept()
        with accepted:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            accepted.send(b"answer")
            client.settimeout(SECONDS)
            assert client.recv(16) == b"answer"
        return _answer(servers[server], "TCP", peer)

    def _udp(self, asked: _Request) -> Answer:
        client, servers = asked.client, self.servers[asked.family, "UDP"]
        client.connect(asked.target)
        try:
            client.send(b"question")
        except PermissionError:  # sendto(2) tells what the sender's own rules did
            return _failed(_error(client))
        found = self._first(asked, [*servers, client])
        if not found:
            return DROPPED
        if client in found:
            return _failed(_error(client))
        question, peer = found[0].recvfrom(16)
        found[0].sendto(b"answer", peer)
        client.settimeout(SECONDS)
        assert (question, client.recv(16)) == (b"question", b"answer")
        return _answer(servers[found[0]], "UDP", peer)

    def _sctp(self, asked: _Request) -> Answer:
        client, servers = asked.client, self.servers[asked.family, "SCTP"]
        for left in select.select(list(servers), [], [], 0)[0]:  # the answer to an asker that is a server, too
            left.recv(256)
        client.connect((asked.address, 0))
        own = next(self._source_ports)
        try:
            client.send(sctp.build(sctp.Packet(own, asked.port, sctp.INIT)))
        except PermissionError:
            return _failed(_error(client))
        found = self._first(asked, [*servers, client])
        if not found:
            return DROPPED
        if client in found:
            return _failed(_error(client))
        (server,) = found
        data, peer = server.recvfrom(256)
        packet = sctp.parse(data, asked.family)
        answer = sctp.Packet(packet.destination_port, packet.source_port, sctp.INIT_ACK)
        server.sendto(sctp.build(answer), peer)
        client.settimeout(SECONDS)
        assert sctp.parse(client.recv(256), asked.family) == sctp.Packet(asked.port, own, sctp.INIT_ACK)
        return _answer((servers[server][0], packet.destination_port), "SCTP", peer)


class _Request(NamedTuple):
    client: socket.socket
    asker: str
    family: str
    address: str
    port: int

    @property
    def target(self) -> tuple[str, int]:
        return self.address, self.port


def _answer(server: Server, protocol: str, peer: Any) -> Answer:
    place, port = server
    return Answer(place if port == PORTS[protocol][0] else f"{place}:{port}", peer[0])


def _failed(number: int) -> Answer:
    return {0: DROPPED, errno.ECONNREFUSED: REFUSED}.get(number) or Answer(os.strerror(number))


def _error(client: socket.socket) -> int:
    """The error of a request, 0 for none.

    TCP over IPv6 only takes note of a refusal that comes while connect(2) still has the socket, as it does here, and
    tries again a second later; the refusal itself is in the socket's error queue.
    """
    number = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    with contextlib.suppress(BlockingIOError):
        while True:  # and is to be gone before the next request
            _, told, _, _ = client.recvmsg(0, 256, socket.MSG_ERRQUEUE)
            number = number or int(struct.unpack_from("=I", told[0][2])[0])  # struct sock_extended_err
    return number


@contextlib.contextmanager
def _one_processor() -> Iterator[None]:
    """Stay on one processor: packets that it takes from one veth to the next then keep their order."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
