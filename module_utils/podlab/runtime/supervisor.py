"""The pod's supervisor: one small process per pod, parent of pause and of every container.

Starts, watches (pidfd), restarts with back-off, writes logs and status.json. It adopts nothing: it is the parent, and
its children die with it (PR_SET_PDEATHSIG), so that a pod is either supervised or gone. SIGTERM asks it to delete the
pod.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ..errors import PodlabError
from ..kube import podstatus
from ..kube.backoff import CAP, message, restarts
from ..linux import cgroup, cgroup_end, cgroup_read, process, syscalls
from . import container as capsule
from . import paths, sandbox, termination, volumes
from .crilog import Log, timestamp
from .files import read_json, write_json
from .loop import Loop
from .prober import Owner, Prober
from .run import Run
from .starter import Failed, Starter, borrow

CHUNK = 65536
MINIMUM_GRACE = 1.0
# The kubelet's minimumGracePeriodInSeconds: what a container that it stops by itself has at least.
MINIMUM_SHUTDOWN = 2.0
SANDBOX_RETRY = 10.0
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
        self.config = config
        self.pause = pause
        self.ready = ready
        self.now = now
        self.directory = paths.pod_dir(config["cluster"], config["uid"])
        self.loop = Loop(now)
        self.runs = [Run(entry) for entry in config["containers"]]
        self.sandbox: sandbox.Sandbox | None = None
        self.attempt = 0
        self.started = timestamp()
        self.deletion = ""
        self.address = ""
        self.changed = True
        self.ended = False
        self.announced = False
        owner = Owner(self._has_changed, self._unhealthy, lambda: self.address, self._children)
        self.prober = Prober(config, self.runs, self.loop, now, owner)

    # -- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Live until the pod is deleted or has finished."""
        self.loop.on_term(self._asked)
        self._sync()
        while not self.ended:
            self._write_status()
            self._announce()
            self.loop.step()
        self.changed = True
        self._write_status()
        # A pod that is over before it has begun: its module waits for a word all the same.
        self._announce()

    def _at(self, delay: float, action: Callable[[], None]) -> None:
        def act() -> None:
            if not self.ended:
                self.changed = True
                action()

        self.loop.at(delay, act)

    def _asked(self) -> None:
        self.changed = True
        self._delete()

    def _has_changed(self) -> None:
        self.changed = True

    def _children(self) -> set[int]:
        pids = {run.pid for run in self.runs if run.pid}
        return pids | {self.sandbox.pid} if self.sandbox else pids

    # -- sandbox ----------------------------------------------------------------------------------------------------

    def _sync(self) -> None:
        """Bring the pod to what it should be: a sandbox, then every container that is due."""
        if self.deletion:
            return
        due = [run for run in self.runs if run.restarts]
        pipes = {run.name: self._begin(run) for run in due}

        def work(starter: Starter) -> dict[str, Any]:
            volumes.prepare(self.config)
            made = sandbox.create(self.config, self.attempt, cgroup.detect(), self.pause, starter)
            return {**made, "runs": {run.name: self._try(run, made, pipes[run.name], starter) for run in due}}

        try:
            made = borrow(work)
        except Failed as error:
            for run in due:
                self._abandon(run, pipes[run.name])
                run.state = {"waiting": {"reason": "ContainerCreating", "message": f"FailedCreatePodSandBox: {error}"}}
            self._at(SANDBOX_RETRY, self._sync)
            return
        pidfd = syscalls.pidfd_open(made["pid"])
        identity = sandbox.sandbox_id(self.config["uid"], self.attempt)
        self.sandbox = sandbox.Sandbox(identity, self.attempt, made["pid"], pidfd, made["address"])
        self.address = made["address"]
        self.loop.watch(pidfd, self._sandbox_died)
        for run in due:
            self._adopt(run, made["runs"][run.name], pipes[run.name])

    def _try(
        self, run: Run, made: Mapping[str, Any], pipes: tuple[int, int, int, int], starter: Starter
    ) -> dict[str, Any]:
        """In a starter: one container, or why not. One that cannot start does not keep the others from it."""
        before = len(starter.born)
        try:
            outputs = (pipes[1], pipes[3])
            launch = capsule.Launch(self.config, run.config, run.restart_count, made["pid"], made["address"])
            return {"pid": capsule.start(launch, cgroup.detect(), outputs, starter)}
        except (OSError, PodlabError) as error:
            reason = getattr(error, "details", {}).get("reason") or "CreateContainerError"
            failed = starter.born.pop() if len(starter.born) > before else 0
            return {"error": str(error), "reason": reason, "failed": failed}

    def _sandbox_died(self) -> None:
        """pause is gone: every container is killed; then, unless the policy is Never, the pod comes back whole."""
        if self.sandbox is None:
            return
        self.changed = True
        for run in self.runs:
            if run.pid:
                self._kill(run, signal.SIGKILL)
                self._exited(run)
        self._end_sandbox()
        if self.deletion:
            return
        self.loop.forget_times()
        if self.config["restart_policy"] == "Never":
            self._finish()
            return
        self.attempt += 1
        for run in self.runs:
            # OnFailure: what has succeeded does not run again, as computePodActions has it.
            run.restarts = restarts(self.config["restart_policy"], run.exit_code())
        if any(run.restarts for run in self.runs):
            self._sync()
        else:
            self._finish()

    def _end_sandbox(self) -> None:
        if self.sandbox:
            identity = self.sandbox.id
            self.loop.unwatch(self.sandbox.pidfd)
            sandbox.stop(self.sandbox)
            self.sandbox = None
            borrow(lambda _: sandbox.remove_traces(self.config, identity))

    # -- containers -------------------------------------------------------------------------------------------------

    def _begin(self, run: Run) -> tuple[int, int, int, int]:
        """Note that a run begins; return the pipes of its output: read and write end of stdout, then of stderr."""
        if run.last_state or "terminated" in run.state:
            run.last_state = run.state if "terminated" in run.state else run.last_state
            run.restart_count += 1
        path = f"/var/log/pods/{self.config['namespace']}_{self.config['name']}_{self.config['uid']}"
        run.log = Log(f"{path}/{run.name}/{run.restart_count}.log")
        run.id = capsule.container_id(self.config["uid"], run.name, run.restart_count)
        run.began, run.started_at = self.now(), timestamp()
        run.condemned = False
        return (*os.pipe(), *os.pipe())

    def _abandon(self, run: Run, pipes: tuple[int, int, int, int]) -> None:
        for fd in pipes:
            os.close(fd)
        if run.log:
            run.log.close()
            run.log = None

    def _start(self, run: Run) -> None:
        """Start a container again, in the sandbox that there is."""
        # pause took a shared PID namespace along: its end, which is seen next, brings everything back.
        if self.deletion or self.sandbox is None or run.pid or process.exiting(self.sandbox.pid):
            return
        pipes = self._begin(run)
        made = {"pid": self.sandbox.pid, "address": self.sandbox.address}
        try:
            result = borrow(lambda starter: self._try(run, made, pipes, starter))
        except Failed as error:
            result = {"error": str(error), "reason": "RunContainerError", "failed": 0}
        self._adopt(run, result, pipes)

    def _adopt(self, run: Run, result: Mapping[str, Any], pipes: tuple[int, int, int, int]) -> None:
        """Take over what a starter has started: watch the process and read its output."""
        os.close(pipes[1])
        os.close(pipes[3])
        if "pid" not in result:
            if result["failed"]:
                os.waitpid(result["failed"], 0)
            os.close(pipes[0])
            os.close(pipes[2])
            self._settle(run, 128, result["reason"], result["error"])
            return
        run.pid, run.pidfd = result["pid"], syscalls.pidfd_open(result["pid"])
        run.outputs = {pipes[0]: "stdout", pipes[2]: "stderr"}
        run.state = {"running": {"startedAt": run.started_at}}
        for fd in run.outputs:
            os.set_blocking(fd, False)
            self.loop.watch(fd, self._reader(run, fd))
        self.loop.watch(run.pidfd, lambda: self._exited(run))
        self.prober.begin(run)

    def _reader(self, run: Run, fd: int) -> Callable[[], None]:
        def read() -> None:
            self._read(run, fd)

        return read

    def _read(self, run: Run, fd: int) -> bool:
        """Take what is there; False when there is nothing more."""
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return False
        if data and run.log:
            run.log.feed(run.outputs[fd], data)
            return True
        self.loop.unwatch(fd)
        return False

    def _exited(self, run: Run) -> None:
        """The container's first process is gone: take the rest with it, note how it ended, decide what comes."""
        if not run.pid:
            return
        self.changed = True
        _, status = os.waitpid(run.pid, 0)
        code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        self.loop.unwatch(run.pidfd)
        os.close(run.pidfd)
        run.pid, run.pidfd = 0, -1
        run.probes.end()
        try:
            ending = borrow(lambda _: self._end(run))
        except Failed as error:
            ending = {"reason": "", "message": str(error)}
        for fd in list(run.outputs):
            while self._read(run, fd):
                pass
            self.loop.unwatch(fd)
            os.close(fd)
        run.outputs = {}
        self._settle(run, code, ending["reason"], ending["message"])

    def _end(self, run: Run) -> dict[str, Any]:
        """In a starter: why the run ended, as its cgroup and its termination log tell, and an end to the rest of it."""
        path = f"{self.config['cgroup_parent']}/{run.id}"
        hierarchies = cgroup.detect()
        reason = "OOMKilled" if hierarchies.stat(path).get("oom_kill") else ""
        # With a shared PID namespace only the first process has died so far.
        hierarchies.kill(path)
        hierarchies.remove(path)
        message = termination.termination_message(self.config, run.config, run.restart_count)
        return {"reason": reason, "message": message}

    def _settle(self, run: Run, code: int, reason: str, text: str) -> None:
        """Record the end of a run, then wait for the next one or be done."""
        if run.log:
            run.log.close()
            run.log = None
        run.state = podstatus.terminated(code, reason, run.started_at, timestamp(), run.id, text)
        policy = self.config["restart_policy"]
        run.restarts = not self.deletion and (restarts(policy, code) or (run.condemned and policy != "Never"))
        if run.restarts and self.sandbox:
            self._back_off(run)
        elif not any(other.pid or other.restarts for other in self.runs):
            self._finish()

    def _back_off(self, run: Run) -> None:
        cap = self.config.get("max_container_restart_period", CAP)
        delay, run.back_off = run.back_off.after(self.now() - run.began, cap)
        if delay:
            names = (run.name, self.config["name"], self.config["namespace"], self.config["uid"])
            run.last_state = run.state
            run.state = {"waiting": {"reason": "CrashLoopBackOff", "message": message(delay, *names)}}
        self._at(delay, lambda: self._start(run))

    def _unhealthy(self, run: Run, kind: str) -> None:
        """A probe has failed for good: the container is stopped; by policy it comes back."""
        identity, grace = run.id, run.config["probes"][kind]["grace"]
        never = self.config["restart_policy"] == "Never"
        run.said[kind] = f"Container {run.name} failed {kind} probe" + ("" if never else ", will be restarted")
        run.condemned = True
        self._ask_to_end(run)

        def kill() -> None:
            if run.id == identity:
                self._kill(run, signal.SIGKILL)

        self._at(max(MINIMUM_SHUTDOWN, self.config["grace"] if grace is None else grace), kill)

    def _ask_to_end(self, run: Run) -> None:
        self._kill(run, getattr(signal, run.config.get("stop_signal", "SIGTERM"), signal.SIGTERM))

    def _kill(self, run: Run, number: int) -> None:
        try:
            if run.pid:
                syscalls.pidfd_send_signal(run.pidfd, number)
        except ProcessLookupError:
            pass

    # -- the end ----------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """No container will run again: the sandbox goes; a deleted pod's files too."""
        if self.ended:
            return
        self.prober.stop()
        self._end_sandbox()
        self.ended = True
        cgroup.detect().attach("init", 0)
        borrow(lambda _: self._clean_up())
        if not os.path.isdir(self.directory):
            self.deletion = self.deletion or timestamp()

    def _clean_up(self) -> None:
        sandbox.remove_cgroups(self.config, cgroup.detect())
        # Asked to go while it was ending by itself: nobody else takes its files away.
        if self.deletion or os.path.exists(f"{self.directory}/delete.json"):
            sandbox.remove_files(self.config)

    def _delete(self) -> None:
        """TERM to all, KILL after the grace period; asked again, the grace may only shrink."""
        asked = read_json(f"{self.directory}/delete.json", {})
        grace = max(MINIMUM_GRACE, float(asked.get("grace", self.config["grace"]))) if asked.get("grace") != 0 else 0.0
        if not self.deletion:
            self.deletion = asked.get("deletionTimestamp") or timestamp()
            self.loop.forget_times()
            self.prober.delete()
            for run in self.runs:
                run.restarts = False
                self._ask_to_end(run)
        self._at(grace, self._kill_all)
        if not any(run.pid for run in self.runs):
            self._finish()

    def _kill_all(self) -> None:
        for run in self.runs:
            self._kill(run, signal.SIGKILL)

    # -- what others see --------------------------------------------------------------------------------------------

    def _write_status(self) -> None:
        if self.changed and not (self.ended and self.deletion):
            self.changed = False
            borrow(lambda _: self._report())

    def _report(self) -> None:
        """In a starter: status.json as things stand now."""
        file = f"{self.directory}/status.json"
        old = read_json(file, {}).get("conditions", [])
        views = [run.view() for run in self.runs]
        status = podstatus.pod_status(self.config, views, self.address, self.started, timestamp(), old)
        if not self.sandbox:
            status["conditions"][0]["status"] = "False"
        if self.deletion:
            status["deletionTimestamp"] = self.deletion
        status["podlab"] = {
            "probes": {run.name: said for run in self.runs for said in [" ".join(run.said.values())] if said},
            "sandbox": self.sandbox.id if self.sandbox else "",
            "attempt": self.attempt,
            "pause": self.sandbox.pid if self.sandbox else 0,
            "pids": {run.name: run.pid for run in self.runs if run.pid},
        }
        write_json(file, status)

    def _announce(self) -> None:
        """Tell the module, once, that every container was started or failed to be."""
        if not self.announced:
            self.announced = True
            self.ready("; ".join(text for run in self.runs for text in run.complaints()))
