"""A pod's probes: run when kube/probes.py says so, never waited for; the supervisor is told what comes of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Callable, NamedTuple

from ..kube import probes
from ..linux import process
from . import command, probe
from .loop import Loop
from .run import Run

# As the kubelet's events begin.
_TITLES = {probes.STARTUP: "Startup", probes.LIVENESS: "Liveness", probes.READINESS: "Readiness"}


class Owner(NamedTuple):
    """What the supervisor lets its prober do and know.

    changed: the status is to be written. unhealthy: a container is to be killed because of this kind of probe.
    address: the pod's. target: a container, for a command in it. children: pids of the supervisor's children that are
    none of the prober's. started: a container has started, as its startup probe says.
    """

    changed: Callable[[], None]
    unhealthy: Callable[[Run, str], None]
    address: Callable[[], str]
    target: Callable[[Run], command.Target]
    children: Callable[[], set[int]]
    started: Callable[[], None]


class Prober:
    """The probes of all containers of one pod."""

    __slots__ = ("_armed", "_attempts", "_loop", "_now", "_owner", "_runs")

    def __init__(self, runs: Sequence[Run], loop: Loop, now: Callable[[], float], owner: Owner) -> None:
        self._runs = [run for run in runs if run.config.get("probes")]
        self._loop = loop
        self._now = now
        self._owner = owner
        self._attempts: dict[int, probe.Attempt] = {}
        self._armed: float | None = None

    def begin(self, run: Run) -> None:
        """The container runs."""
        run.probes.begin(self._now())
        self._arm()

    def delete(self) -> None:
        """The pod is being deleted."""
        for run in self._runs:
            run.probes.delete(self._now())
        self._arm()

    def stop(self) -> None:
        """No container runs any more, nor may a probe."""
        for attempt in list(self._attempts.values()):
            self._loop.unwatch(attempt.pidfd)
            os.kill(attempt.pid, signal.SIGKILL)
            probe.finish(attempt, {"kind": "exec"}, "")
        if self._attempts:
            self._attempts.clear()
            self.reap_strays()

    def _arm(self) -> None:
        times = [at for run in self._runs for at in [run.probes.next_at()] if at is not None]
        at = min(times, default=None)
        if at is None or (self._armed is not None and self._armed <= at):
            return
        self._armed = at
        self._loop.at(at - self._now(), lambda: self._tick(at))

    def _tick(self, at: float) -> None:
        # Another one was set for an earlier time since, and looks after everything.
        if self._armed != at:
            return
        self._armed = None
        for run in self._runs:
            for kind in run.probes.due(self._now()):
                self._launch(run, kind)
        self._arm()

    def _launch(self, run: Run, kind: str) -> None:
        spec = run.config["probes"][kind]
        try:
            attempt = probe.launch(spec, self._owner.address(), lambda: self._owner.target(run))
        except OSError as error:
            # The machine has no room: that says nothing of the container, and the next time there may be.
            self._answer(run, kind, probes.ERROR, str(error))
            return
        self._attempts[attempt.pid] = attempt
        identity = run.id
        self._loop.watch(attempt.pidfd, lambda: self._ended(attempt, run, kind, identity))

    def _ended(self, attempt: probe.Attempt, run: Run, kind: str, identity: str) -> None:
        del self._attempts[attempt.pid]
        self._loop.unwatch(attempt.pidfd)
        (outcome, text), strays = probe.finish(attempt, run.config["probes"][kind], self._owner.address())
        if strays:
            self.reap_strays()
        # It may have asked a container that is no more.
        if run.pid and run.id == identity:
            self._answer(run, kind, outcome, text)
            self._arm()

    def _answer(self, run: Run, kind: str, outcome: str, text: str) -> None:
        verb = {probes.FAILURE: "failed", probes.ERROR: "errored", probes.SUCCESS: "warning"}[outcome]
        before = run.said.pop(kind, "")
        if outcome != probes.SUCCESS or text.startswith("Probe terminated"):
            run.said[kind] = f"{_TITLES[kind]} probe {verb}: {text}"
            if not before:
                self._owner.changed()
        decision = run.probes.answer(kind, outcome, self._now())
        if decision == probes.KILL:
            self._owner.unhealthy(run, kind)
        if decision != probes.NOTHING:
            self._owner.changed()
        if kind == probes.STARTUP and run.probes.started:
            self._owner.started()

    def reap_strays(self) -> None:
        """A probe that somebody killed leaves its command to us, dead or dying: nobody else reaps it."""
        known = self._owner.children() | set(self._attempts)
        while strays := set(process.children(os.getpid())) - known:
            for pid in strays:
                try:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                except (ProcessLookupError, ChildProcessError):
                    pass
