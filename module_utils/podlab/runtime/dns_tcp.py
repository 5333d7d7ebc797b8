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
        # Questions under way; whether the client has sent its last one, and only listens.
        self.unanswered = 0
        self.last = False
        self.events = selectors.EVENT_READ
        self.deadline = time.monotonic() + _IDLE
        made.setblocking(False)
        # Else an answer waits for the client's word that it has the one before.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        owner.selector.register(made, self.events, self._ready)

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush()
        if events & selectors.EVENT_READ and self.open:
            self._read()

    def _read(self) -> None:
        """At most one question: what else has come stays in the kernel until the others have had their turn."""
        try:
            data = self.socket.recv(self._missing())
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not data:
            self.last = True
            self._flush()
            return
        self.received += data
        missing = self._missing()
        if missing > _LARGEST_QUESTION:
            self.close()
        elif not missing:
            question = bytes(self.received[2:])
            self.received.clear()
            self.deadline = time.monotonic() + _IDLE
            self.unanswered += 1
            self.owner.asked(self, question)

    def _missing(self) -> int:
        """How many octets there are to come of the length, or then of the question."""
        if len(self.received) < 2:
            return 2 - len(self.received)
        return 2 + int(struct.unpack_from("!H", self.received)[0]) - len(self.received)

    def send(self, data: bytes) -> None:
        """Send an answer, now or as fast as it is read. It may come when the client has gone."""
        if self.open:
            self.unanswered -= 1
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
        if self.last and not self.unsent and not self.unanswered:
            self.close()
            return
        self._listen(not self.last and len(self.unsent) < _LARGEST_BACKLOG, bool(self.unsent))

    def _listen(self, reading: bool, writing: bool) -> None:
        events = selectors.EVENT_READ * reading | selectors.EVENT_WRITE * writing
        if events == self.events:
            return
        if not events:
            self.owner.selector.unregister(self.socket)
        elif not self.events:
            self.owner.selector.register(self.socket, events, self._ready)
        else:
            self.owner.selector.modify(self.socket, events, self._ready)
        self.events = events

    def close(self) -> None:
        """End it."""
        if self.open:
            self.open = False
            if self.events:
                self.owner.selector.unregister(self.socket)
            self.socket.close()
            self.owner.connections.discard(self)
