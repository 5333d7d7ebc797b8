"""Those who are attached to a run of a container: each gets what it writes, from now on.

As with containerd the slowest sets the pace: what a listener has not room for stops the reading of that stream, so that
the container waits, not the supervisor.
"""

from __future__ import annotations

import os
import select
from typing import Callable

from .loop import Loop

# Whoever does not read any more is waited for so long when the container has ended.
LAST_MILLISECONDS = 1000


class Listener:
    """One who is attached: where his copy of each stream goes."""

    __slots__ = ("outputs", "rest")

    def __init__(self, outputs: dict[str, int]) -> None:
        self.outputs = outputs
        self.rest: dict[str, bytes] = {}
        for fd in outputs.values():
            os.set_blocking(fd, False)

    def write(self, stream: str, data: bytes = b"") -> bool:
        """Give him what there is; False when something is left. One who has gone takes everything."""
        fd = self.outputs.get(stream, -1)
        left = self.rest.pop(stream, b"") + data
        while left and fd >= 0:
            try:
                left = left[os.write(fd, left) :]
            except BlockingIOError:
                self.rest[stream] = left
                return False
            except OSError:
                return True
        return True

    def close(self) -> None:
        """Give him what is left, if he takes it soon, and the end."""
        for stream, fd in self.outputs.items():
            if self.rest.get(stream):
                poll = select.poll()
                poll.register(fd, select.POLLOUT)
                while poll.poll(LAST_MILLISECONDS) and not self.write(stream):
                    pass
            os.close(fd)
        self.outputs = {}


class Audience:
    """The listeners of one run. resume: called with a stream's descriptor that is to be read again."""

    __slots__ = ("_held", "_loop", "_resume", "listeners")

    def __init__(self, loop: Loop, resume: Callable[[int], None]) -> None:
        self.listeners: list[Listener] = []
        self._loop = loop
        self._resume = resume
        # Stream -> the container's descriptor that is not read meanwhile.
        self._held: dict[str, int] = {}

    def hear(self, fd: int, stream: str, data: bytes) -> None:
        """The container has written this to the stream, read from fd."""
        for listener in self.listeners:
            if not listener.write(stream, data):
                self._hold(fd, stream, listener)

    def leave(self, listener: Listener) -> None:
        """He has gone, or is to go."""
        self.listeners.remove(listener)
        for fd in listener.outputs.values():
            self._loop.unwatch(fd)
        listener.rest.clear()
        listener.close()
        for stream in list(self._held):
            self._release(stream)

    def end(self) -> None:
        """The container has ended: everybody gets what is left."""
        for listener in self.listeners:
            for fd in listener.outputs.values():
                self._loop.unwatch(fd)
            listener.close()
        self.listeners = []

    def _hold(self, fd: int, stream: str, listener: Listener) -> None:
        if stream not in self._held:
            self._held[stream] = fd
            self._loop.unwatch(fd)
        output = listener.outputs[stream]

        def room() -> None:
            if listener.write(stream):
                self._loop.unwatch(output)
                self._release(stream)

        self._loop.watch(output, room, select.POLLOUT)

    def _release(self, stream: str) -> None:
        if not any(listener.rest.get(stream) for listener in self.listeners):
            self._resume(self._held.pop(stream))
