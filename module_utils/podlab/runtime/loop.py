"""What a supervisor waits for: descriptors and times, in one thread."""

from __future__ import annotations

# Not signal's own functions: their enums would cost every supervisor a tenth of a MiB.
import _signal  # type: ignore[import-not-found]
import heapq
import os
import select
from typing import Callable


class Loop:
    """Calls a handler when its descriptor is readable, and an action when its time has come."""

    __slots__ = ("_handlers", "_now", "_poll", "_sequence", "_timers")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0

    def watch(self, fd: int, handler: Callable[[], None], events: int = select.POLLIN) -> None:
        """Call handler whenever fd is readable or at its end (or, with POLLOUT, takes more)."""
        self._handlers[fd] = handler
        self._poll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        """Forget fd, before it is closed."""
        if self._handlers.pop(fd, None):
            self._poll.unregister(fd)

    def at(self, delay: float, action: Callable[[], None]) -> None:
        """Call action once, after so many seconds."""
        self._sequence += 1
        heapq.heappush(self._timers, (self._now() + delay, self._sequence, action))

    def on_signals(self, handlers: dict[int, Callable[[], None]]) -> None:
        """Call a handler for every signal that has one, and let a terminal's pass."""
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        _signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for ignored in (_signal.SIGINT, _signal.SIGHUP):
            _signal.signal(ignored, _signal.SIG_IGN)
        for number in handlers:
            _signal.signal(number, lambda *_: None)

        def asked() -> None:
            for number in set(os.read(read, 64)):
                handlers[number]()

        self.watch(read, asked)

    def step(self) -> None:
        """Wait for something, then call what it concerns."""
        timeout = None
        if self._timers:
            timeout = max(0.0, (self._timers[0][0] - self._now()) * 1000)
        for fd, handler in [(fd, self._handlers.get(fd)) for fd, _ in self._poll.poll(timeout)]:
            # One handler may close what the next event is about, and what it opens then has the same number.
            if handler and self._handlers.get(fd) is handler:
                handler()
        while self._timers and self._timers[0][0] <= self._now():
            heapq.heappop(self._timers)[2]()
