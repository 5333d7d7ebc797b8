"""How a pod's containers are ended: hook, signal, kill. Who comes after whom, and how long each has, is in kube/."""

from __future__ import annotations

import signal

from ..kube import lifecycle, stopping
from .crilog import timestamp
from .files import read_json
from .hooks import Hooks
from .podstate import PodState
from .prober import Prober
from .run import Run
from .runner import Runner

MINIMUM_GRACE = 1.0


class Ending:
    """Ends containers of one pod."""

    __slots__ = ("_hooks", "_pod", "_prober", "_runner")

    def __init__(self, pod: PodState, runner: Runner, prober: Prober, hooks: Hooks) -> None:
        self._pod = pod
        self._runner = runner
        self._prober = prober
        self._hooks = hooks

    def delete(self) -> None:
        """The pod is to go; asked again, the grace period may only shrink."""
        pod = self._pod
        asked = read_json(f"{pod.directory}/delete.json", {})
        grace = max(MINIMUM_GRACE, asked.get("grace", pod.config["grace"]))
        if asked.get("grace") == 0:
            grace = stopping.AT_ONCE
        if not pod.deletion:
            pod.deletion = asked.get("deletionTimestamp") or timestamp()
        self.all(grace)

    def all(self, grace: float) -> None:
        """Nothing is started any more, and what runs is ended: sidecars last, in reverse order.

        grace: seconds; of a pod whose own is 0 there is no time for hooks and turns, but for the signal. Or AT_ONCE.
        """
        pod = self._pod
        if not pod.over:
            pod.over = True
            self._prober.delete()
        for run in pod.runs:
            run.restarts = False
        for run in pod.runs:
            self.one(run, grace)

    def one(self, run: Run, grace: float) -> None:
        """End one container, if it runs; asked again, the grace period may only shrink."""
        pod = self._pod
        if not run.pid:
            return
        if run.stop is None:
            if run.post_start:
                self._hooks.cancel(run)
            run.hooked = run.hook("pre_stop") is not None and grace > 0
            run.stop = stopping.Stop(grace, run.hooked, pod.now())
            if run.hooked:
                self._hooks.begin(run, "pre_stop", lambda error: self._hook_returned(run, error))
        else:
            run.stop.shorten(grace, pod.now())
        self._step(run, run.id)

    def _hook_returned(self, run: Run, error: str) -> None:
        """A hook that fails hinders nothing (FailedPreStopHook)."""
        run.hooked = False
        if error:
            run.said["pre_stop"] = error
        self._step(run, run.id)

    def unhealthy(self, run: Run, kind: str) -> None:
        """A probe has failed for good: the container is stopped; by policy it comes back."""
        grace = run.config["probes"][kind]["grace"]
        again = lifecycle.restartable(run.config["restart"])
        run.said[kind] = f"Container {run.name} failed {kind} probe" + (", will be restarted" if again else "")
        run.condemned = True
        self.one(run, self._pod.config["grace"] if grace is None else grace)

    def ended(self, run: Run) -> None:
        """A run has ended: it may be another one's turn."""
        self._hooks.cancel(run)
        run.stop, run.hooked = None, False
        for other in self._pod.runs:
            self._step(other, other.id)

    def _step(self, run: Run, identity: str) -> None:
        stop, now = run.stop, self._pod.now()
        if stop is None or not run.pid or run.id != identity:
            return
        action = stop.step(now, run.hooked, self._turn(run))
        if action == stopping.SIGNAL:
            self._runner.signal(run, _number(run.config.get("stop_signal", "")))
        elif action == stopping.KILL:
            self._runner.signal(run, signal.SIGKILL)
        at = stop.next_at()
        if at is not None:
            self._pod.at(at - now, lambda: self._step(run, identity))

    def _turn(self, run: Run) -> bool:
        """Only when the whole pod ends does one container wait for another."""
        running = [(other.kind, other.name) for other in self._pod.runs if other.pid]
        return not self._pod.over or lifecycle.may_end(run.kind, run.name, running)


def _number(name: str) -> int:
    """The signal of a name as images and lifecycle.stopSignal write it (SIGTERM, 15, SIGRTMIN+3), else SIGTERM."""
    if name.isdigit():
        return int(name)
    base, sign, more = name.replace("-", "+-").partition("+")
    found = getattr(signal, base if base.startswith("SIG") else f"SIG{base}", None)
    return int(found) + int(more if sign else 0) if isinstance(found, signal.Signals) else int(signal.SIGTERM)
