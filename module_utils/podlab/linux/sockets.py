"""Who listens on which port, in the network namespace of this thread; free ports.

Sources: proc(5) (net/tcp, net/udp), net/sctp/proc.c, socket(7), ip(7).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_ANY = {"0.0.0.0", "::"}
_PROC = "/proc/thread-self/net"
_LISTEN = "0A"
_SCTP = 132
_KINDS = {
    "TCP": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "UDP": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "SCTP": (socket.SOCK_STREAM, _SCTP),
}
# How often a port that the kernel gives may be one that is not wanted.
_TRIES = 100


class Listener(NamedTuple):
    """A socket that takes what comes from anywhere. inode tells its processes, see owner()."""

    protocol: str  # TCP | UDP | SCTP
    address: str
    port: int
    inode: str

    def title(self) -> str:
        """As ss(8) shows it."""
        return f"{f'[{self.address}]' if ':' in self.address else self.address}:{self.port}"


def listeners() -> list[Listener]:
    """All of them."""
    found = []
    for protocol in ("TCP", "UDP"):
        for name in (protocol.lower(), f"{protocol.lower()}6"):
            found += parse_sockets(_read(name), protocol)
    return [*found, *parse_sctp(_read("sctp/eps"))]


def parse_sockets(text: str, protocol: str) -> list[Listener]:
    """The listeners in the text of /proc/net/tcp, tcp6, udp or udp6."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10:
            continue
        local, remote, state, inode = fields[1], fields[2], fields[3], fields[9]
        if state == _LISTEN if protocol == "TCP" else remote.endswith(":0000"):
            address, _, port = local.partition(":")
            found.append(Listener(protocol, _address(address), int(port, 16), inode))
    return found


def parse_sctp(text: str) -> list[Listener]:
    """The listeners in the text of /proc/net/sctp/eps."""
    rows = [line.split() for line in text.splitlines()[1:]]
    return [Listener("SCTP", row[8], int(row[5]), row[7]) for row in rows if len(row) > 8]


def _address(word: str) -> str:
    # Each 32 bits are printed as a number of this machine, which they are not: they are in network order.
    packed = b"".join(struct.pack("=I", int(word[at : at + 8], 16)) for at in range(0, len(word), 8))
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed).replace("::ffff:", "")


def _read(name: str) -> str:
    try:
        with open(f"{_PROC}/{name}", encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        return ""  # the kernel has no such protocol


def in_use(address: str, port: int, protocol: str, known: Iterable[Listener]) -> Listener | None:
    """The one of the known listeners that has this IPv4 address and port already."""
    for one in known:
        if (one.protocol, one.port) != (protocol, port):
            continue
        if one.address == "::" and can_bind(address, port, protocol):
            continue  # IPv6 only
        if one.address == address or one.address in _ANY or (address in _ANY and ":" not in one.address):
            return one
    return None


def owner(inode: str) -> str:
    """`nginx (pid 12)`, or empty when no process of this machine has the socket."""
    for pid in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
        with contextlib.suppress(OSError):
            if f"socket:[{inode}]" in _links(f"/proc/{pid}/fd"):
                with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                    return f"{file.read().strip()} (pid {pid})"
    return ""


def _links(directory: str) -> Iterator[str]:
    for name in os.listdir(directory):
        with contextlib.suppress(OSError):
            yield os.readlink(f"{directory}/{name}")


def can_bind(address: str, port: int, protocol: str) -> bool:
    """Whether a new socket could listen there."""
    try:
        with _socket(protocol) as probe:
            probe.bind((address, port))
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
            return False
        raise
    return True


def is_local(address: str) -> bool:
    """Whether the machine has this IPv4 address."""
    return can_bind(address, 0, "UDP")


def free_port(address: str, protocol: str, but: frozenset[int] = frozenset()) -> int:
    """A port that nobody has, as the kernel picks it. Raises OSError EADDRINUSE when there is none."""
    for _ in range(_TRIES):
        with _socket(protocol) as probe:
            probe.bind((address, 0))
            port = int(probe.getsockname()[1])
        if port not in but:
            return port
    raise OSError(errno.EADDRINUSE, f"no free {protocol} port", address)


def _socket(protocol: str) -> socket.socket:
    kind, number = _KINDS[protocol]
    try:
        made = socket.socket(socket.AF_INET, kind, number)
    except OSError as error:
        if error.errno != errno.EPROTONOSUPPORT:
            raise
        made = socket.socket(socket.AF_INET, kind)  # a kernel without SCTP
    # Else connections that ended a moment ago would count.
    if kind == socket.SOCK_STREAM:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made
