"""The health-check node ports of a lab's nodes, answered by the watcher.

Each listens in its node's network namespace: a socket stays in the namespace that it was made in. Nothing here blocks.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from typing import Callable, NamedTuple

from .kube.proxy_health import Health, answer
from .linux import netns

# A request that is longer, or takes longer, gets no answer.
REQUEST_BYTES = 8192
REQUEST_SECONDS = 2.0
CONNECTIONS = 64

Watch = Callable[[int, Callable[[], None]], None]
Unwatch = Callable[[int], None]


class Place(NamedTuple):
    """Where a port is answered: network namespace, address, port."""

    netns: str
    address: str
    port: int


class _Connection(NamedTuple):
    socket: socket.socket
    place: Place
    until: float
    received: bytearray


class Listeners:
    """The listening sockets and their connections. watch, unwatch: the caller's loop, by descriptor."""

    def __init__(self, watch: Watch, unwatch: Unwatch, now: Callable[[], float] = time.monotonic) -> None:
        self._watch, self._unwatch, self._now = watch, unwatch, now
        # With the number of the namespace: a node that is made again has another one by the same name.
        self._listening: dict[Place, tuple[int, socket.socket]] = {}
        self._connections: dict[int, _Connection] = {}
        self._answers: Mapping[Place, Health] = {}
        self.healthy = True

    def follow(self, wanted: Mapping[Place, Health]) -> list[str]:
        """Listen at exactly these places; return what could not be had, in words."""
        self._answers = wanted
        for place, (number, listener) in list(self._listening.items()):
            if place not in wanted or netns.inode(place.netns) != number:
                del self._listening[place]
                self._end(listener)
        faults = []
        for place in wanted:
            if place not in self._listening:
                try:
                    self._listening[place] = netns.inode(place.netns), self._listen(place)
                except OSError as error:
                    faults.append(f"health check node port {place.port} in {place.netns}: {error.strerror}")
        return faults

    def _listen(self, place: Place) -> socket.socket:
        family = socket.AF_INET6 if ":" in place.address else socket.AF_INET
        with netns.entered(place.netns):
            listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((place.address, place.port))
            listener.listen(CONNECTIONS)
        except OSError:
            listener.close()
            raise
        self._watch(listener.fileno(), lambda: self._accept(place, listener))
        return listener

    def _accept(self, place: Place, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:
            return  # it has gone again
        if len(self._connections) >= CONNECTIONS:
            client.close()
            return
        client.setblocking(False)
        fd = client.fileno()
        self._connections[fd] = _Connection(client, place, self._now() + REQUEST_SECONDS, bytearray())
        self._watch(fd, lambda: self._read(fd))

    def _read(self, fd: int) -> None:
        connection = self._connections[fd]
        try:
            data = connection.socket.recv(REQUEST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        connection.received.extend(data)
        whole = b"\r\n\r\n" in connection.received
        health = self._answers.get(connection.place)
        if whole and health:
            try:
                connection.socket.send(answer(health, self.healthy))
            except OSError:
                pass  # the client has gone
        if whole or not data or len(connection.received) > REQUEST_BYTES:
            self._drop(fd)

    def _drop(self, fd: int) -> None:
        self._end(self._connections.pop(fd).socket)

    def _end(self, one: socket.socket) -> None:
        self._unwatch(one.fileno())
        one.close()

    def expire(self) -> float | None:
        """End the connections whose time is up; return the seconds until the next one's, None without any."""
        now = self._now()
        for fd in [fd for fd, connection in self._connections.items() if connection.until <= now]:
            self._drop(fd)
        return min((connection.until - now for connection in self._connections.values()), default=None)
