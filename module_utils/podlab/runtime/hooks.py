"""postStart and preStop hooks: in children of the supervisor, as probes are, never waited for.

Source: k8s pkg/kubelet/lifecycle/handlers.go. What is HTTP or a command goes through probe.py; a sleep is only a time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any, Callable

from ..kube import hooks, probes
from . import probe
from .podstate import PodState
from .run import Run

# Called with what went wrong, "" when nothing did.
Done = Callable[[str], None]


class Hooks:
    """The hooks of one pod that are under way. reap: takes in what a hook that was killed leaves behind."""

    __slots__ = ("_attempts", "_pod", "_reap")

    def __init__(self, pod: PodState, reap: Callable[[], None]) -> None:
        self._pod = pod
        self._reap = reap
        self._attempts: dict[int, tuple[Run, probe.Attempt]] = {}

    def begin(self, run: Run, kind: str, done: Done) -> None:
        """Run the container's hook; done is called later, unless the run ends or cancel() is called before."""
        pod, identity = self._pod, run.id
        spec = run.hook(kind)
        assert spec is not None

        def finished(error: str) -> None:
            if run.id == identity and run.pid:
                pod.touch()
                done(hooks.complaint(spec, error, run.name, pod.config) if error else "")

        if spec["kind"] == "sleep":
            pod.at(spec["seconds"], lambda: finished(""))
        elif spec["kind"] == "tcp":
            pod.at(0, lambda: finished("invalid handler"))
        else:
            self._launch(run, spec, finished)

    def _launch(self, run: Run, spec: Mapping[str, Any], finished: Done) -> None:
        pod = self._pod
        try:
            attempt = probe.launch(spec, pod.address, lambda: pod.target(run))
        except OSError as error:
            text = str(error)
            pod.at(0, lambda: finished(text))
            return
        self._attempts[attempt.pid] = (run, attempt)
        pod.helpers.add(attempt.pid)

        def ended() -> None:
            outcome, text = self._take(attempt, spec)
            finished("" if outcome == probes.SUCCESS else text or "it failed")

        pod.loop.watch(attempt.pidfd, ended)

    def _take(self, attempt: probe.Attempt, spec: Mapping[str, Any]) -> probe.Answer:
        """The answer of one that has ended."""
        del self._attempts[attempt.pid]
        self._pod.helpers.discard(attempt.pid)
        self._pod.loop.unwatch(attempt.pidfd)
        answer, strays = probe.finish(attempt, spec, self._pod.address)
        if strays:
            self._reap()
        return answer

    def cancel(self, run: Run) -> None:
        """Nobody waits for the container's hooks any more."""
        for owner, attempt in list(self._attempts.values()):
            if owner is run:
                os.kill(attempt.pid, signal.SIGKILL)
                self._take(attempt, {"kind": "exec"})
