"""The wire below every netlink family: one socket, numbered requests, their answers, the kernel's errors.

Source: netlink(7), Documentation/userspace-api/netlink/intro.rst.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import Callable, TypeVar

from . import netlink_attrs as nl

T = TypeVar("T")
W = TypeVar("W", bound="Wire")

# linux/netlink.h: the family that conntrack, nfacct and nftables share. Python 3.9 has no name for it.
NETLINK_NETFILTER = 12

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_BUFFER = 1 << 18
_HEADER = struct.Struct("=IHHII")


class Wire:
    """One netlink socket in the current network namespace; a context manager.

    It belongs to the namespace that the thread is in when it is made, and stays there.
    protocol: socket.NETLINK_ROUTE or NETLINK_NETFILTER. round_trips: how many requests were made through it.
    """

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._sequence = 0
        self.round_trips = 0

    def close(self) -> None:
        """Close the socket; twice does no harm."""
        self._socket.close()

    def __enter__(self: W) -> W:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        self.round_trips += 1
        size = _HEADER.size + len(body)
        self._socket.sendto(_HEADER.pack(size, kind, nl.REQUEST | flags, self._sequence, 0) + body, (0, 0))

    def _messages(self) -> Iterator[tuple[int, int, bytes]]:
        """(type, flags, payload) of each message that answers the last request, until somebody stops listening."""
        while True:
            data = self._socket.recv(_BUFFER)
            at = 0
            while at + _HEADER.size <= len(data):
                size, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
                if sequence == self._sequence:
                    yield kind, flags, data[at + _HEADER.size : at + size]
                at += (size + 3) & ~3

    def request(self, kind: int, flags: int, body: bytes, what: str) -> bytes:
        """Send one request; the answer's payload (empty for a plain acknowledgement). Raises OSError."""
        self._send(kind, flags, body)
        for answer, answer_flags, payload in self._messages():
            if answer == nl.NLMSG_ERROR:
                raise_error(payload, answer_flags, what)
                return b""
            return payload
        return b""

    def dump(self, kind: int, body: bytes, wanted: int, parse: Callable[[bytes], T]) -> list[T]:
        """All objects; asked again when the kernel says that they changed meanwhile."""
        while True:
            found: list[T] = []
            torn = False
            self._send(kind, nl.DUMP, body)
            for answer, flags, payload in self._messages():
                torn |= bool(flags & nl.DUMP_INTR)
                if answer == nl.NLMSG_DONE:
                    break
                if answer == nl.NLMSG_ERROR:
                    raise_error(payload, flags, "dump")
                if answer == wanted:
                    found.append(parse(payload))
            if not torn:
                return found


def raise_error(payload: bytes, flags: int, what: str) -> None:
    """Raise OSError unless the acknowledgement says 0 (struct nlmsgerr, linux/netlink.h)."""
    number = -struct.unpack_from("=i", payload)[0]
    if number == 0:
        return
    words = os.strerror(number)
    if flags & nl.ACK_TLVS:
        length = struct.unpack_from("=I", payload, 4)[0]
        skip = 4 + (_HEADER.size if flags & nl.CAPPED else length)
        said = nl.parse_attrs(payload[skip:]).get(1, b"").rstrip(b"\0").decode("utf-8", "replace")
        words = f"{words} ({said})" if said else words
    raise OSError(number, f"{what}: {words}")
