"""How a pod's containers are ended: asked, given their time, killed. Who comes after whom, and how long each has."""

from __future__ import annotations

import signal
from typing import Callable

from .crilog import timestamp
from .files import read_json
from .podstate import PodState
from .prober import Prober
from .run import Run
from .runner import Runner

MINIMUM_GRACE = 1.0
# The kubelet's minimumGracePeriodInSeconds: what a container that it stops by itself has at least.
MINIMUM_SHUTDOWN = 2.0


class Ending:
    """Ends containers of one pod. finish: called when a deleted pod has none that runs."""

    __slots__ = ("_finish", "_pod", "_prober", "_runner")

    def __init__(self, pod: PodState, runner: Runner, prober: Prober, finish: Callable[[], None]) -> None:
        self._pod = pod
        self._runner = runner
        self._prober = prober
        self._finish = finish

    def unhealthy(self, run: Run, kind: str) -> None:
        """A probe has failed for good: the container is stopped; by policy it comes back."""
        identity, grace = run.id, run.config["probes"][kind]["grace"]
        never = self._pod.config["restart_policy"] == "Never"
        run.said[kind] = f"Container {run.name} failed {kind} probe" + ("" if never else ", will be restarted")
        run.condemned = True
        self._ask(run)

        def kill() -> None:
            if run.id == identity:
                self._runner.signal(run, signal.SIGKILL)

        self._pod.at(max(MINIMUM_SHUTDOWN, self._pod.config["grace"] if grace is None else grace), kill)

    def delete(self) -> None:
        """TERM to all, KILL after the grace period; asked again, the grace may only shrink."""
        pod = self._pod
        asked = read_json(f"{pod.directory}/delete.json", {})
        grace = max(MINIMUM_GRACE, float(asked.get("grace", pod.config["grace"]))) if asked.get("grace") != 0 else 0.0
        if not pod.deletion:
            pod.deletion = asked.get("deletionTimestamp") or timestamp()
            pod.loop.forget_times()
            self._prober.delete()
            for run in pod.runs:
                run.restarts = False
                self._ask(run)
        pod.at(grace, self._kill_all)
        if not any(run.pid for run in pod.runs):
            self._finish()

    def _ask(self, run: Run) -> None:
        self._runner.signal(run, getattr(signal, run.config.get("stop_signal", "SIGTERM"), signal.SIGTERM))

    def _kill_all(self) -> None:
        for run in self._pod.runs:
            self._runner.signal(run, signal.SIGKILL)
