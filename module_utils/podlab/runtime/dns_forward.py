"""Questions about names of others, put to the servers of resolv.conf without waiting for anyone.

Each question has a socket of its own, so a port of its own: an answer must come from the server that was asked, to that
port, with the number and the question that were sent (RFC 5452).
"""

from __future__ import annotations

import ipaddress
import os
import selectors
import socket
import struct
import time
from collections.abc import Sequence
from typing import Callable, Optional

from .dns_message import LARGEST_TCP

TIMEOUT = 2.0
ATTEMPTS = 2
# Questions under way at a time; and how long servers that did not answer are left alone.
_MOST = 512
_REST = 5.0

Done = Callable[[Optional[bytes]], None]


def servers_of(resolv_conf: str) -> list[str]:
    """The nameservers, at most three as glibc has it. Loopback is none: that is this server itself, or nobody."""
    words = [line.split() for line in resolv_conf.splitlines()]
    named = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver" and _is_address(line[1])]
    return [name for name in named[:3] if not name.startswith(("127.", "0.")) and name not in ("::1", "::")]


def _is_address(text: str) -> bool:
    """A name would have to be looked up, which is what we are there for. IPv6 may have a zone behind it."""
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


class Forwarder:
    """Asks; tells whoever wanted to know. ready: whether it is worth asking."""

    def __init__(self, selector: selectors.BaseSelector, servers: Sequence[str], port: int = 53) -> None:
        self.selector = selector
        self.servers = list(servers)
        self.port = port
        self.resting_until = 0.0
        self.answered_at = 0.0
        self.pending: set[Exchange] = set()

    def ready(self) -> bool:
        """There are servers, they have not been silent of late, and not too many questions are under way."""
        return bool(self.servers) and len(self.pending) < _MOST and time.monotonic() >= self.resting_until

    def ask(self, question: bytes, tcp: bool, done: Done) -> bool:
        """Send the question on; done gets the answer, with the question's number, or None. False: no way there."""
        exchange = Exchange(self, question, tcp, done)
        self.pending.add(exchange)
        if exchange.next():
            return True
        self.pending.discard(exchange)
        return False

    def deadline(self) -> float | None:
        """When expire() has something to do."""
        return min((exchange.deadline for exchange in self.pending), default=None)

    def expire(self) -> None:
        """Give up on what has waited long enough: the next server, or no answer."""
        now = time.monotonic()
        for exchange in [exchange for exchange in self.pending if exchange.deadline <= now]:
            exchange.failed(late=True)


class Exchange:
    """One question on its way: over UDP as it came over UDP, over TCP as it came over TCP."""

    def __init__(self, owner: Forwarder, question: bytes, tcp: bool, done: Done) -> None:
        self.owner, self.question, self.tcp, self.done = owner, question, tcp, done
        self.left = list(owner.servers) * ATTEMPTS
        self.ident = b""
        self.socket: socket.socket | None = None
        self.received = b""
        self.began = time.monotonic()
        self.deadline = 0.0
        self.late = False

    def next(self) -> bool:
        """Ask the next server that can be reached at all; False when there is none left."""
        while self.left:
            server = self.left.pop(0)
            family = socket.AF_INET6 if ":" in server else socket.AF_INET
            try:
                self._send(socket.socket(family, socket.SOCK_STREAM if self.tcp else socket.SOCK_DGRAM), server)
                return True
            except OSError:
                self._close()
        return False

    def _send(self, made: socket.socket, server: str) -> None:
        self.socket = made
        made.setblocking(False)
        self.ident = os.urandom(2)
        self.received = b""
        self.deadline = time.monotonic() + TIMEOUT
        try:
            made.connect((server, self.owner.port))
        except BlockingIOError:
            pass
        if self.tcp:
            self.owner.selector.register(made, selectors.EVENT_WRITE, self._connected)
        else:
            made.send(self.ident + self.question[2:])
            self.owner.selector.register(made, selectors.EVENT_READ, self._readable)

    def _connected(self, _: int) -> None:
        assert self.socket is not None
        message = self.ident + self.question[2:]
        try:
            # Some hundred octets on a new connection: they fit, or the connection is no good.
            if self.socket.send(struct.pack("!H", len(message)) + message) != len(message) + 2:
                raise OSError
            self.owner.selector.modify(self.socket, selectors.EVENT_READ, self._readable)
        except OSError:
            self.failed()

    def _readable(self, _: int) -> None:
        assert self.socket is not None
        try:
            data = self.socket.recv(LARGEST_TCP + 2)
        except BlockingIOError:
            return
        except OSError:
            self.failed()
            return
        if not self.tcp:
            self._check(data)
        elif not data:
            self.failed()
        else:
            self.received += data
            if len(self.received) >= 2 and len(self.received) - 2 >= struct.unpack_from("!H", self.received)[0]:
                self._check(self.received[2 : 2 + struct.unpack_from("!H", self.received)[0]])

    def _check(self, data: bytes) -> None:
        """Anything but the answer is as if it had not come; over TCP nothing else can come."""
        asked = self.question[12 : _question_end(self.question)]
        same = data[12 : 12 + len(asked)].lower() == asked.lower()
        # An error may come without the question, from a server that cannot read it: EDNS is what old ones do not know.
        same = same or (len(data) == 12 and bool(data[3] & 15))
        if data[:2] == self.ident and len(data) >= 12 and data[2] & 0x80 and same:
            self._finish(self.question[:2] + data[2:])
        elif self.tcp:
            self.failed()

    def failed(self, late: bool = False) -> None:
        """This server does not answer."""
        self._close()
        self.late = self.late or late
        if not self.next():
            # When others got their answers meanwhile, it is this name that nobody answers for.
            if self.late and self.owner.answered_at < self.began:
                self.owner.resting_until = time.monotonic() + _REST
            self._finish(None)

    def _finish(self, data: bytes | None) -> None:
        self._close()
        self.owner.pending.discard(self)
        if data is not None:
            self.owner.resting_until, self.owner.answered_at = 0.0, time.monotonic()
        self.done(data)

    def _close(self) -> None:
        if self.socket is not None:
            try:
                self.owner.selector.unregister(self.socket)
            except (KeyError, ValueError):
                pass
            self.socket.close()
            self.socket = None


def _question_end(data: bytes) -> int:
    """Where the question of a message ends that dns_message has read: its name has no pointers."""
    at = 12
    while at < len(data) and data[at]:
        at += data[at] + 1
    return at + 5
