"""`attach` on the supervisor's side: a listener of a container's run, and the end of its input."""

from __future__ import annotations

import os
import socket

from ..errors import PodlabError
from .audience import Audience, Listener
from .podstate import PodState
from .requests import Answer
from .run import Run
from .runner import Runner
from .stdio import STREAMS


class Attaching:
    """Serves the request "attach"."""

    __slots__ = ("_pod", "_runner")

    def __init__(self, pod: PodState, runner: Runner) -> None:
        self._pod = pod
        self._runner = runner

    def serve(self, words: list[str], fds: list[int]) -> Answer:
        """Attach fds to a run of the container words[0]; with "i" in words[1] give its input.

        Raises PodlabError when it does not run or has no input.
        """
        name, flags = (*words, "", "")[:2]
        run = next((run for run in self._pod.every() if run.name == name), None)
        if run is None or not run.pid:
            raise PodlabError(f"container {name} is not running")
        wants = "i" in flags
        if wants and run.stdin < 0:
            raise PodlabError(f"container {name} reads no standard input: it has no stdin, or it was closed")
        if len(fds) != len(STREAMS):
            raise PodlabError(f"attach takes {len(STREAMS)} descriptors")
        if run.audience is None:
            run.audience = Audience(self._pod.loop, self._runner.reading(run))
        listener = Listener(dict(zip(STREAMS, fds)))
        run.audience.listeners.append(listener)
        given = [run.stdin] if wants else []
        return Answer(given, lambda connection: self._keep(connection, run, listener, wants))

    def _keep(self, connection: socket.socket, run: Run, listener: Listener, feeds: bool) -> None:
        """Until the connection closes, or the run ends."""
        identity, loop = run.id, self._pod.loop

        def said() -> None:
            try:
                more = connection.recv(1)
            except OSError:
                more = b""
            if feeds and run.id == identity:
                _no_more_input(run)
            if more:
                return
            loop.unwatch(connection.fileno())
            connection.close()
            if run.audience and listener in run.audience.listeners:
                run.audience.leave(listener)

        loop.watch(connection.fileno(), said)


def _no_more_input(run: Run) -> None:
    """stdinOnce: the first who leaves takes the input along. A terminal has no end that could be closed."""
    if run.config.get("stdin_once") and not run.config.get("tty") and run.stdin >= 0:
        os.close(run.stdin)
        run.stdin = -1
