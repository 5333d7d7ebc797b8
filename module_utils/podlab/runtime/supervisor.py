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

from ..kube import podstatus
from ..kube.backoff import CAP, message, restarts
from ..linux import cgroup, cgroup_end, cgroup_read, process, syscalls
from . import sandbox, volumes
from .crilog import timestamp
from .ending import Ending
from .podstate import PodState
from .prober import Owner, Prober
from .report import Reporter
from .run import Run
from .runner import Runner
from .starter import Failed, Starter, borrow

SANDBOX_RETRY = 10.0
CONFIG_ERROR = "CreateContainerConfigError"
# The kubelet's back-off after a sync that failed.
CONFIG_RETRY = 10.0
SUPERVISOR_OOM_SCORE = -999
# Loaded now: a supervisor outlives the files that it was started from.
PRELOADED = (cgroup_end, cgroup_read)


class Supervisor:
    """The state machine of one pod. Everything happens in run(), in one thread."""

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
            self.pod.children,
        )
        self.prober = Prober(config, self.pod.runs, self.pod.loop, now, owner)
        self.ending = Ending(self.pod, self.runner, self.prober, self._finish)
        self.reporter = Reporter(self.pod, ready)

    # -- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Live until the pod is deleted or has finished."""
        self.pod.loop.on_signals({signal.SIGTERM: self._asked, signal.SIGHUP: self._renewed})
        self._sync()
        while not self.pod.ended:
            self.reporter.write()
            self.reporter.announce()
            self.pod.loop.step()
        self.pod.touch()
        self.reporter.write()
        # A pod that is over before it has begun: its module waits for a word all the same.
        self.reporter.announce()

    def _asked(self) -> None:
        self.pod.touch()
        self.ending.delete()

    def _renewed(self) -> None:
        """sources.json is new: the volumes follow, and what waited for it is tried again."""
        pod = self.pod
        if pod.deletion or pod.ended:
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
                self._start(run)

    # -- sandbox ----------------------------------------------------------------------------------------------------

    def _sync(self) -> None:
        """Bring the pod to what it should be: a sandbox, then every container that is due."""
        pod = self.pod
        if pod.deletion or pod.sandbox:
            return
        due = [run for run in pod.runs if run.restarts]
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
                run.state = {"waiting": {"reason": "ContainerCreating", "message": text}}
            pod.at(SANDBOX_RETRY, self._sync)
            return
        pidfd = syscalls.pidfd_open(made["pid"])
        identity = sandbox.sandbox_id(pod.config["uid"], pod.attempt)
        pod.sandbox = sandbox.Sandbox(identity, pod.attempt, made["pid"], pidfd, made["address"])
        pod.address = made["address"]
        pod.loop.watch(pidfd, self._sandbox_died)
        for run in due:
            self.runner.adopt(run, made["runs"][run.name], pipes[run.name])

    def _sandbox_died(self) -> None:
        """pause is gone: every container is killed; then, unless the policy is Never, the pod comes back whole."""
        pod = self.pod
        if pod.sandbox is None:
            return
        pod.touch()
        for run in pod.runs:
            if run.pid:
                self.runner.signal(run, signal.SIGKILL)
                self.runner.exited(run)
        self._end_sandbox()
        if pod.deletion:
            return
        pod.loop.forget_times()
        if pod.config["restart_policy"] == "Never":
            self._finish()
            return
        pod.attempt += 1
        for run in pod.runs:
            # OnFailure: what has succeeded does not run again, as computePodActions has it.
            run.restarts = restarts(pod.config["restart_policy"], run.exit_code())
        if any(run.restarts for run in pod.runs):
            self._sync()
        else:
            self._finish()

    def _end_sandbox(self) -> None:
        pod = self.pod
        if pod.sandbox:
            identity = pod.sandbox.id
            pod.loop.unwatch(pod.sandbox.pidfd)
            sandbox.stop(pod.sandbox)
            pod.sandbox = None
            borrow(lambda _: sandbox.remove_traces(pod.config, identity))

    # -- containers -------------------------------------------------------------------------------------------------

    def _start(self, run: Run) -> None:
        """Start a container again, in the sandbox that there is."""
        held = self.pod.sandbox
        # pause took a shared PID namespace along: its end, which is seen next, brings everything back.
        if self.pod.deletion or held is None or run.pid or process.exiting(held.pid):
            return
        self.runner.start(run, {"pid": held.pid, "address": held.address})

    def _began(self, run: Run) -> None:
        self.prober.begin(run)

    def _ended(self, run: Run, code: int, reason: str, text: str) -> None:
        """Record the end of a run, then wait for the next one or be done."""
        pod = self.pod
        if reason == CONFIG_ERROR and not pod.deletion:
            self._await_config(run, text)
            return
        run.state = podstatus.terminated(code, reason, run.started_at, timestamp(), run.id, text)
        policy = pod.config["restart_policy"]
        run.restarts = not pod.deletion and (restarts(policy, code) or (run.condemned and policy != "Never"))
        if run.restarts and pod.sandbox:
            self._back_off(run)
        elif not any(other.pid or other.restarts for other in pod.runs):
            self._finish()

    def _await_config(self, run: Run, text: str) -> None:
        """Nothing was created: it is no run that counts, and it is tried again with the next sync."""
        self.runner.retract(run)
        run.state = {"waiting": {"reason": CONFIG_ERROR, "message": text}}
        began = run.began

        def again() -> None:
            if run.began == began:
                self._start(run)

        self.pod.at(CONFIG_RETRY, again)

    def _back_off(self, run: Run) -> None:
        config = self.pod.config
        cap = config.get("max_container_restart_period", CAP)
        delay, run.back_off = run.back_off.after(self.pod.now() - run.began, cap)
        if delay:
            names = (run.name, config["name"], config["namespace"], config["uid"])
            run.last_state = run.state
            run.state = {"waiting": {"reason": "CrashLoopBackOff", "message": message(delay, *names)}}
        self.pod.at(delay, lambda: self._start(run))

    # -- the end ----------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """No container will run again: the sandbox goes; a deleted pod's files too."""
        pod = self.pod
        if pod.ended:
            return
        self.prober.stop()
        self._end_sandbox()
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
