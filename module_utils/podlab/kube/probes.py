"""A container's probes as the kubelet's prober runs them: when the next one is due, and what an answer means. Pure.

Source: k8s pkg/kubelet/prober/{worker,prober_manager}.go. A specification is a dict: `initial_delay`, `period`, the
thresholds `success` and `failure`, and what runtime/probe.py needs. The pod supervisor imports this file, hence no
import that costs memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STARTUP, LIVENESS, READINESS = "startup", "liveness", "readiness"
KINDS = (STARTUP, LIVENESS, READINESS)
# What a probe answers. An error says nothing of the container (the command is not there, it has just ended): it is
# thrown away.
SUCCESS, FAILURE, ERROR = "success", "failure", "error"
# What is to be done about an answer.
NOTHING, CHANGED, KILL = "nothing", "changed", "kill"
# The kubelet looks for containers that have started once a second; half of that is how soon it probes, on average.
NOTICED = 0.5
_INITIAL = {STARTUP: "", LIVENESS: SUCCESS, READINESS: FAILURE}


class _Worker:
    """One probe. Its ticks come at `due` and every period after that, whether or not they are used."""

    __slots__ = ("answers", "asking", "due", "held", "last", "result", "spec")

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.spec = spec
        self.result = ""
        self.last, self.answers = "", 0
        self.asking = self.held = False
        self.due = 0.0

    def begin(self, result: str, now: float) -> None:
        self.result = result
        self.last, self.answers = "", 0
        self.asking = self.held = False
        self.due = now + max(self.spec["initial_delay"], NOTICED)

    def tick(self, now: float) -> None:
        """The next tick after one was used; one that came meanwhile is not lost, several count as one."""
        self.due += self.spec["period"] * max(1, (now - self.due) // self.spec["period"])

    def skip(self, now: float) -> None:
        """The first tick from now on."""
        if self.due < now:
            self.due += self.spec["period"] * -((self.due - now) // self.spec["period"])

    def enough(self, answer: str) -> bool:
        """True when the answer has come as often in a row as it takes."""
        self.answers = self.answers + 1 if answer == self.last else 1
        self.last = answer
        return bool(self.answers >= self.spec["success" if answer == SUCCESS else "failure"])


class Probes:
    """The probes of one container through its runs; one without any is ready while it runs."""

    __slots__ = ("deleting", "running", "workers")

    def __init__(self, specs: Mapping[str, Mapping[str, Any]]) -> None:
        self.workers = {kind: _Worker(specs[kind]) for kind in KINDS if kind in specs}
        self.running = self.deleting = False

    @property
    def started(self) -> bool:
        """ContainerStatus.started."""
        return self.running and self._good(STARTUP)

    @property
    def ready(self) -> bool:
        """ContainerStatus.ready."""
        return self.started and self._good(READINESS)

    def _good(self, kind: str) -> bool:
        return kind not in self.workers or self.workers[kind].result == SUCCESS

    def begin(self, now: float) -> None:
        """The container runs, anew."""
        self.running = True
        for kind, worker in self.workers.items():
            worker.begin(_INITIAL[kind], now)

    def end(self) -> None:
        """The container does not run any more."""
        self.running = False

    def delete(self, now: float) -> None:
        """The pod is being deleted: only readiness goes on."""
        waiting = self.running and not self.started
        self.deleting = True
        for kind in (STARTUP, LIVENESS):
            if kind in self.workers:
                self.workers[kind].result, self.workers[kind].held = SUCCESS, True
        if waiting:
            self._opened(now)

    def due(self, now: float) -> list[str]:
        """The probes to run now; they are not due again before answer()."""
        kinds = [kind for kind in self._active() if self.workers[kind].due <= now]
        for kind in kinds:
            self.workers[kind].asking = True
        return kinds

    def next_at(self) -> float | None:
        """When due() has to be asked again; None: not before something else happens."""
        return min((self.workers[kind].due for kind in self._active()), default=None)

    def _active(self) -> list[str]:
        if not self.running:
            return []
        # Until the startup probe has succeeded no other runs; after that it does not.
        kinds = [kind for kind in self.workers if (kind == STARTUP) is not self.started]
        return [kind for kind in kinds if not self.workers[kind].asking and not self.workers[kind].held]

    def answer(self, kind: str, outcome: str, now: float) -> str:
        """Take a probe's answer (SUCCESS, FAILURE, ERROR): what is to be done about it (NOTHING, CHANGED, KILL)."""
        worker = self.workers[kind]
        worker.asking = False
        worker.tick(now)
        if outcome == ERROR or worker.held or not worker.enough(outcome):
            return NOTHING
        before = (self.started, self.ready)
        worker.result = outcome
        # One that has decided waits for the next run of the container.
        worker.held = kind == STARTUP or (kind == LIVENESS and outcome == FAILURE)
        if outcome == FAILURE and kind != READINESS:
            return KILL
        if kind == STARTUP:
            self._opened(now)
        return CHANGED if (self.started, self.ready) != before else NOTHING

    def _opened(self, now: float) -> None:
        """The container has started: readiness is asked at once, liveness at its next tick."""
        if READINESS in self.workers:
            self.workers[READINESS].due = max(self.workers[READINESS].due, now)
        if LIVENESS in self.workers:
            self.workers[LIVENESS].skip(now)
