"""The pod's supervisor: one small process per pod, parent of pause and of every container.

Starts, watches (pidfd), restarts with back-off, writes logs and status.json. It adopts nothing: it is the parent, and
its children die with it (PR_SET_PDEATHSIG), so that a pod is either supervised or gone. SIGTERM asks it to delete the
pod. What it does with one container is in runner.py, how it ends them in ending.py, what others see in report.py.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ..kube import hooks, lifecycle, podstatus, stopping
from ..kube.backoff import CAP, message
from ..linux import cgroup, cgroup_end, cgroup_read, process, syscalls
from . import sandbox, volumes
from .attaching import Attaching
from .crilog import timestamp
from .ending import MINIMUM_GRACE, Ending
from .ephemeral import Ephemeral
from .hooks import Hooks
from .podstate import PodState
from .prober import Owner, Prober
from .report import Reporter
from .requests import Requests
from .run import Run
from .runner import Runner
from .starter import Failed, Starter, borrow

SANDBOX_RETRY = 10.0
CONFIG_ERROR = "CreateContainerConfigError"
# The kubelet's back-off after a sync that failed.
CONFIG_RETRY = 10.0
SUPERVISOR_OOM_SCORE = -999
DEADLINE = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
# Loaded now: a supervisor outlives the files that it was started from.
PRELOADED = (cgroup_end, cgroup_read)


class Supervisor:
    """The state machine of one pod. Everything happens in run(), in one thread.

    Whatever happens is noted first; then _advance() asks kube.lifecycle what is due.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        pause: Sequence[str],
        ready: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pause = pause
        self.pod = PodState(config, now)
        self.runner = Runner(self.pod, self._began, self._ended)
        owner = Owner(
            self.pod.touch,
            lambda run, kind: self.ending.unhealthy(run, kind),
            lambda: self.pod.address,
            self.pod.target,
            self.pod.children,
            self._advance,
        )
        self.prober = Prober(self.pod.runs, self.pod.loop, now, owner)
        self.hooks = Hooks(self.pod, self.prober.reap_strays)
        self.ending = Ending(self.pod, self.runner, self.prober, self.hooks)
        self.reporter = Reporter(self.pod, ready)
        attaching, ephemeral = Attaching(self.pod, self.runner), Ephemeral(self.pod, self.runner, self.reporter.write)
        self.handlers = {"attach": attaching.serve, "ephemeral": ephemeral.serve}
        # What happens meanwhile is looked at afterwards.
        self.busy = False

    # -- the loop ---------------------------------------------------------------------------------------------------

    def run(self, door: int) -> None:
        """Live until the pod is deleted or has finished. door: where requests come in."""
        pod = self.pod
        pod.loop.on_signals({signal.SIGTERM: self._asked, signal.SIGHUP: self._renewed})
        if pod.config.get("active_deadline"):
            pod.at(pod.config["active_deadline"], self._deadline)
        self.requests = Requests(pod.loop, door, self.handlers)
        self._sync()
        while not pod.ended:
            self.reporter.write()
            self.reporter.announce()
            pod.loop.step()
        pod.touch()
        self.reporter.write()
        # A pod that is over before it has begun: its module waits for a word all the same.
        self.reporter.announce()

    def _asked(self) -> None:
        self.pod.touch()
        self.ending.delete()
        self._advance()

    def _deadline(self) -> None:
        """It counts from the pod's start, not from a container's."""
        self.pod.failure = DEADLINE
        self.ending.all(max(MINIMUM_GRACE, self.pod.config["grace"]))
        self._advance()

    def _renewed(self) -> None:
        """sources.json is new: the volumes follow, and what waited for it is tried again."""
        pod = self.pod
        if pod.over or pod.ended:
            return
        pod.touch()
        if pod.sandbox is None:
            self._sync()
            return
        try:
            borrow(lambda _: volumes.refresh(pod.config))
        except Failed:
            # As the kubelet: what a volume of a running pod cannot become, it does not become.
            pass
        for run in pod.runs:
            if run.state.get("waiting", {}).get("reason") == CONFIG_ERROR:
                run.not_before = 0.0
        self._advance()

    # -- sandbox ----------------------------------------------------------------------------------------------------

    def _sync(self) -> None:
        """Bring the pod to what it should be: a sandbox, then every container that is due."""
        pod = self.pod
        if pod.over or pod.ended or pod.sandbox:
            return
        due = self._due()
        pipes = {run.name: self.runner.begin(run) for run in due}

        def work(starter: Starter) -> dict[str, Any]:
            volumes.prepare(pod.config)
            made = sandbox.create(pod.config, pod.attempt, cgroup.detect(), self.pause, starter)
            return {
                **made,
                "runs": {run.name: self.runner.attempt(run, made, pipes[run.name], starter) for run in due},
            }

        try:
            made = borrow(work)
        except Failed as error:
            for run in due:
                self.runner.abandon(run, pipes[run.name])
                text = str(error) if error.details["reason"] == "FailedMount" else f"FailedCreatePodSandBox: {error}"
                reason = run.state.get("waiting", {}).get("reason", "ContainerCreating")
                run.state = {"waiting": {"reason": reason, "message": text}}
            pod.at(SANDBOX_RETRY, self._sync)
            return
        pidfd = syscalls.pidfd_open(made["pid"])
        identity = sandbox.sandbox_id(pod.config["uid"], pod.attempt)
        pod.sandbox = sandbox.Sandbox(identity, pod.attempt, made["pid"], pidfd, made["address"])
        pod.address = made["address"]
        pod.loop.watch(pidfd, self._sandbox_died)
        self.busy = True
        for run in due:
            self.runner.adopt(run, made["runs"][run.name], pipes[run.name])
        self.busy = False
        self._advance()

    def _sandbox_died(self) -> None:
        """pause is gone: every container is killed; then, unless the policy is Never, the pod comes back whole."""
        pod, held = self.pod, self.pod.sandbox
        if held is None:
            return
        pod.touch()
        self.busy = True
        for run in pod.runs:
            if run.pid:
                self.runner.signal(run, signal.SIGKILL)
                self.runner.exited(run)
        self.busy = False
        pod.sandbox = None
        self._end_sandbox(held)
        # OnFailure: what has succeeded does not run again, as computePodActions has it.
        again = any(run.restarts for run in pod.runs if run.kind == lifecycle.MAIN)
        if not again or pod.over or pod.config["restart_policy"] == lifecycle.NEVER:
            self.ending.all(stopping.AT_ONCE)
            self._advance()
            return
        pod.attempt += 1
        for run in pod.runs:
            self._renew(run)
        self._sync()

    def _renew(self, run: Run) -> None:
        """The container in a sandbox that is new: an init container runs again, whatever came of it before."""
        run.begun = False
        if run.kind in (lifecycle.MAIN, lifecycle.EPHEMERAL):
            return
        run.restarts, run.not_before = True, 0.0
        if "terminated" in run.state:
            run.last_state = run.state
        run.state = {"waiting": {"reason": "PodInitializing"}}

    def _end_sandbox(self, held: sandbox.Sandbox) -> None:
        self.pod.loop.unwatch(held.pidfd)
        sandbox.stop(held)
        borrow(lambda _: sandbox.remove_traces(self.pod.config, held.id))

    # -- containers -------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Start what is due, or end the pod when nothing will run again."""
        if self.busy or self.pod.ended:
            return
        self.busy = True
        while self._begin_next():
            pass
        self.busy = False

    def _begin_next(self) -> bool:
        """Start what is due now; whether something was started, so that more may be due."""
        pod, held = self.pod, self.pod.sandbox
        if held and not pod.over and lifecycle.plan(pod.runs).over:
            # The sidecars outlive the main containers, and are told now.
            self.ending.all(pod.config["grace"])
        if pod.over and not any(run.pid for run in pod.runs):
            self._finish()
        # pause took a shared PID namespace along: its end, which is seen next, brings everything back.
        due = self._due() if held and not pod.over else []
        if held is None or not due or process.exiting(held.pid):
            return False
        self.runner.start(due, {"pid": held.pid, "address": held.address})
        return True

    def _due(self) -> list[Run]:
        """What is to be started now: of several the first ones, up to one whose postStart hook must return first."""
        pod = self.pod
        if any(run.post_start for run in pod.runs):
            return []
        names = lifecycle.plan(pod.runs).start
        due = [run for run in pod.runs if run.name in names and run.not_before <= pod.now()]
        first = next((index for index, run in enumerate(due) if run.hook(hooks.POST_START)), len(due))
        return due[: first + 1]

    def _began(self, run: Run) -> None:
        if not run.hook(hooks.POST_START):
            self._runs(run)
            return
        run.post_start, identity = True, run.id

        def begin() -> None:
            if run.pid and run.id == identity and run.stop is None:
                self.hooks.begin(run, hooks.POST_START, lambda error: self._post_started(run, error))

        # Not now: its process would hold what the module that waits for the pod's start listens to.
        self.pod.at(0, begin)

    def _runs(self, run: Run) -> None:
        run.state = {"running": {"startedAt": run.started_at}}
        self.prober.begin(run)

    def _post_started(self, run: Run, error: str) -> None:
        if run.stop is not None:
            return
        if error:
            run.said[hooks.POST_START] = error
            run.state = {"waiting": {"reason": hooks.POST_START_ERROR, "message": error}}
            self.ending.one(run, self.pod.config["grace"])
            return
        run.post_start = False
        run.said.pop(hooks.POST_START, None)
        self._runs(run)
        self._advance()

    def _ended(self, run: Run, code: int, reason: str, text: str) -> None:
        """Record the end of a run, then see what comes."""
        pod = self.pod
        run.post_start = False
        if reason == CONFIG_ERROR and not pod.over:
            self._await_config(run, text)
            return
        run.state = podstatus.terminated(code, reason, run.started_at, timestamp(), run.id, text)
        rule = run.config["restart"]
        again = lifecycle.restarts(rule, code) or (run.condemned and lifecycle.restartable(rule))
        run.restarts = again and not pod.over
        self.ending.ended(run)
        if run.restarts:
            self._back_off(run)
        self._advance()

    def _await_config(self, run: Run, text: str) -> None:
        """Nothing was created: it is no run that counts, and it is tried again with the next sync."""
        self.runner.retract(run)
        run.state = {"waiting": {"reason": CONFIG_ERROR, "message": text}}
        run.not_before = self.pod.now() + CONFIG_RETRY
        self.pod.at(CONFIG_RETRY, self._advance)

    def _back_off(self, run: Run) -> None:
        pod, config = self.pod, self.pod.config
        cap = config.get("max_container_restart_period", CAP)
        delay, run.back_off = run.back_off.after(pod.now() - run.began, cap)
        run.not_before = pod.now() + delay
        if delay:
            names = (run.name, config["name"], config["namespace"], config["uid"])
            run.last_state = run.state
            run.state = {"waiting": {"reason": "CrashLoopBackOff", "message": message(delay, *names)}}
        pod.at(delay, self._advance)

    # -- the end ----------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """No container will run again: the sandbox goes; a deleted pod's files too."""
        pod = self.pod
        if pod.ended:
            return
        self.prober.stop()
        if pod.sandbox:
            held, pod.sandbox = pod.sandbox, None
            self._end_sandbox(held)
        for run in pod.runs:
            # One that waited to be started again has ended as it ended the last time.
            if "waiting" in run.state and run.last_state:
                run.state = run.last_state
        pod.ended = True
        cgroup.detect().attach("init", 0)
        borrow(lambda _: self._clean_up())
        if not os.path.isdir(pod.directory):
            pod.deletion = pod.deletion or timestamp()

    def _clean_up(self) -> None:
        pod = self.pod
        sandbox.remove_cgroups(pod.config, cgroup.detect())
        # Asked to go while it was ending by itself: nobody else takes its files away.
        if pod.deletion or os.path.exists(f"{pod.directory}/delete.json"):
            sandbox.remove_files(pod.config)
