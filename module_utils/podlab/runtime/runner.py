"""The runs of a pod's containers: begin, start in a starter, read the output, see the end. Decides nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ..errors import PodlabError
from ..linux import cgroup, syscalls
from . import container as capsule
from . import paths, termination
from .crilog import FILES, SIZE_LIMIT, Log, timestamp
from .podstate import PodState
from .run import Run
from .starter import Failed, Starter, borrow
from .stdio import Streams

CHUNK = 65536


class Runner:
    """Starts and ends runs; tells its owner of each: `began(run)` and `ended(run, code, reason, message)`."""

    __slots__ = ("_began", "_ended", "_pod")

    def __init__(
        self, pod: PodState, began: Callable[[Run], None], ended: Callable[[Run, int, str, str], None]
    ) -> None:
        self._pod = pod
        self._began = began
        self._ended = ended

    def begin(self, run: Run) -> Streams:
        """Note that a run begins; return its standard streams."""
        pod, config = self._pod, self._pod.config
        if run.last_state or "terminated" in run.state:
            run.last_state = run.state if "terminated" in run.state else run.last_state
            run.restart_count += 1
        limits = (config.get("log_max_size", SIZE_LIMIT), config.get("log_max_files", FILES))
        run.log = Log(self._log_file(run), *limits)
        run.id = capsule.container_id(config["uid"], run.name, run.restart_count)
        run.began, run.started_at = pod.now(), timestamp()
        run.begun, run.condemned = True, False
        return Streams(run.config, config.get("id_base", 0))

    def _log_file(self, run: Run) -> str:
        return f"{paths.node_view_of_logs(self._pod.config)}/{run.name}/{run.restart_count}.log"

    def abandon(self, run: Run, streams: Streams) -> None:
        """Of a run that has begun nothing was started."""
        self.retract(run)
        streams.close()
        self._close_log(run)

    def retract(self, run: Run) -> None:
        """Of a run that has begun nothing was created: it does not count as a restart."""
        run.begun = False
        if run.last_state:
            run.restart_count -= 1

    def attempt(self, run: Run, made: Mapping[str, Any], streams: Streams, starter: Starter) -> dict[str, Any]:
        """In a starter: one container, or why not. One that cannot start does not keep the others from it.

        made: pid and address of the sandbox.
        """
        before = len(starter.born)
        termination.forget_older(self._pod.config, run.name, run.restart_count)
        try:
            target = self._target(run)
            launch = capsule.Launch(
                self._pod.config, run.config, run.restart_count, made["pid"], made["address"], target
            )
            return {"pid": capsule.start(launch, cgroup.detect(), streams.theirs, starter)}
        except (OSError, PodlabError) as error:
            reason = getattr(error, "details", {}).get("reason") or "CreateContainerError"
            failed = starter.born.pop() if len(starter.born) > before else 0
            return {"error": str(error), "reason": reason, "failed": failed}

    def _target(self, run: Run) -> int:
        """Pid of the container whose processes an ephemeral one is to see, 0 without one. Raises PodlabError."""
        name = run.config.get("target")
        pid = next((other.pid for other in self._pod.runs if other.name == name), 0) if name else 0
        if name and not pid:
            raise PodlabError(f'unable to find target container "{name}"')
        return pid

    def start(self, runs: Sequence[Run], made: Mapping[str, Any]) -> None:
        """Start containers in a sandbox that there is: made has its pid and address."""
        streams = {run.name: self.begin(run) for run in runs}

        def work(starter: Starter) -> dict[str, Any]:
            return {run.name: self.attempt(run, made, streams[run.name], starter) for run in runs}

        try:
            results = borrow(work)
        except Failed as error:
            failed = {"error": str(error), "reason": "RunContainerError", "failed": 0}
            results = {run.name: failed for run in runs}
        for run in runs:
            self.adopt(run, results[run.name], streams[run.name])

    def adopt(self, run: Run, result: Mapping[str, Any], streams: Streams) -> None:
        """Take over what a starter has started: watch the process and read its output."""
        if "pid" not in result:
            if result["failed"]:
                os.waitpid(result["failed"], 0)
            streams.close()
            self._settle(run, 128, result["reason"], result["error"])
            return
        run.pid, run.pidfd = result["pid"], syscalls.pidfd_open(result["pid"])
        run.outputs, run.stdin = streams.adopt()
        for fd in run.outputs:
            os.set_blocking(fd, False)
            self.reading(run)(fd)
        self._pod.loop.watch(run.pidfd, lambda: self.exited(run))
        self._began(run)

    def signal(self, run: Run, number: int) -> None:
        """Send the container's first process a signal, when it is there."""
        try:
            if run.pid:
                syscalls.pidfd_send_signal(run.pidfd, number)
        except ProcessLookupError:
            pass

    def reading(self, run: Run) -> Callable[[int], None]:
        """Have a descriptor of the run's output read from now on."""

        def watch(fd: int) -> None:
            def read() -> None:
                self._read(run, fd)

            if fd in run.outputs:
                self._pod.loop.watch(fd, read)

        return watch

    def _read(self, run: Run, fd: int) -> bool:
        """Take what is there; False when there is nothing more."""
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # the end, when it is a terminal's
        if data and run.log:
            run.log.feed(run.outputs[fd], data)
            if run.audience:
                run.audience.hear(fd, run.outputs[fd], data)
            return True
        self._pod.loop.unwatch(fd)
        return False

    def exited(self, run: Run) -> None:
        """The container's first process is gone: take the rest with it, note how it ended, tell the owner."""
        if not run.pid:
            return
        loop = self._pod.loop
        self._pod.touch()
        _, status = os.waitpid(run.pid, 0)
        code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        loop.unwatch(run.pidfd)
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
            loop.unwatch(fd)
        if run.audience:
            run.audience.end()
        for fd in {*run.outputs, *([run.stdin] if run.stdin >= 0 else [])}:
            os.close(fd)
        run.outputs, run.stdin, run.audience = {}, -1, None
        self._close_log(run)
        text = ending["message"] or self._last_words(run, code)
        self._settle(run, code, ending["reason"], text)

    def _last_words(self, run: Run, code: int) -> str:
        """What FallbackToLogsOnError takes as its termination message; read when everything is in the log."""
        if not termination.falls_back(run.config, code):
            return ""
        try:
            return str(borrow(lambda _: {"text": termination.from_log(self._log_file(run))})["text"])
        except Failed as error:
            return f"Error on reading termination message from logs: {error}"

    def _end(self, run: Run) -> dict[str, Any]:
        """In a starter: why the run ended, as its cgroup and its termination log tell, and an end to the rest of it."""
        config = self._pod.config
        path = f"{config['cgroup_parent']}/{run.id}"
        hierarchies = cgroup.detect()
        reason = "OOMKilled" if hierarchies.stat(path).get("oom_kill") else ""
        # With a shared PID namespace only the first process has died so far.
        hierarchies.kill(path)
        hierarchies.remove(path)
        message = termination.termination_message(config, run.config, run.restart_count)
        return {"reason": reason, "message": message}

    def _close_log(self, run: Run) -> None:
        if run.log:
            run.log.close()
            run.log = None

    def _settle(self, run: Run, code: int, reason: str, text: str) -> None:
        self._close_log(run)
        self._ended(run, code, reason, text)
