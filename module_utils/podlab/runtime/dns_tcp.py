"""DNS over TCP: connections that ask many questions, none of which may keep the others waiting. Source: RFC 7766."""

from __future__ import annotations

import selectors
import socket
import struct
import time
from typing import Callable

_MOST = 256
_IDLE = 10.0
# No question is longer; and no more is read from somebody who does not read what is answered.
_LARGEST_QUESTION = 4096
_LARGEST_BACKLOG = 1 << 20

Asked = Callable[["Connection", bytes], None]


class Listener:
    """Accepts connections; the one that has been idle longest gives way when there are too many."""

    def __init__(self, selector: selectors.BaseSelector, listening: socket.socket, asked: Asked) -> None:
        self.selector, self.listening, self.asked = selector, listening, asked
        self.connections: set[Connection] = set()
        listening.listen(128)
        selector.register(listening, selectors.EVENT_READ, self._accept)

    def _accept(self, _: int) -> None:
        try:
            made, _sender = self.listening.accept()
        except OSError:
            return
        if len(self.connections) >= _MOST:
            min(self.connections, key=lambda one: one.deadline).close()
        self.connections.add(Connection(self, made))

    def deadline(self) -> float | None:
        """When expire() has something to do."""
        return min((one.deadline for one in self.connections), default=None)

    def expire(self) -> None:
        """Close what has been idle for too long: a question half sent is idle, an answer not read as well."""
        now = time.monotonic()
        for one in [one for one in self.connections if one.deadline <= now]:
            one.close()


class Connection:
    """One client: questions in, answers out, in whatever order they are known."""

    def __init__(self, owner: Listener, made: socket.socket) -> None:
        self.owner, self.socket = owner, made
        self.received = bytearray()
        self.unsent = bytearray()
        self.open = True
        self.events = selectors.EVENT_READ
        self.deadline = time.monotonic() + _IDLE
        made.setblocking(False)
        owner.selector.register(made, self.events, self._ready)

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush()
        if events & selectors.EVENT_READ and self.open:
            self._read()

    def _read(self) -> None:
        try:
            data = self.socket.recv(16384)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self.received += data
        while self.open and len(self.received) >= 2:
            (length,) = struct.unpack_from("!H", self.received)
            if length > _LARGEST_QUESTION:
                self.close()
            elif len(self.received) < 2 + length:
                return
            else:
                question = bytes(self.received[2 : 2 + length])
                del self.received[: 2 + length]
                self.deadline = time.monotonic() + _IDLE
                self.owner.asked(self, question)

    def send(self, data: bytes) -> None:
        """Send an answer, now or as fast as it is read. It may come when the client has gone."""
        if self.open:
            self.unsent += struct.pack("!H", len(data)) + data
            self._flush()

    def _flush(self) -> None:
        try:
            sent = self.socket.send(self.unsent) if self.unsent else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        del self.unsent[:sent]
        if sent:
            self.deadline = time.monotonic() + _IDLE
        events = selectors.EVENT_READ if len(self.unsent) < _LARGEST_BACKLOG else 0
        events |= selectors.EVENT_WRITE if self.unsent else 0
        if events != self.events:
            self.events = events
            self.owner.selector.modify(self.socket, events, self._ready)

    def close(self) -> None:
        """End it."""
        if self.open:
            self.open = False
            self.owner.selector.unregister(self.socket)
            self.socket.close()
            self.owner.connections.discard(self)
