"""The watcher's eye on Jobs: it notes how they stand, and has job_runner do what is due.

It decides nothing of its own: kube.jobs says what a Job's pods mean, for it as for `up`.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable

from .kube.cluster import Cluster
from .kube.removal import Existing
from .kube.workloads import Owner, Past, known, owner_of, turn
from .linux import syscalls
from .runtime import interpreter, lock, paths
from .runtime.files import read_json, write_json
from .runtime.state import read_pods

if TYPE_CHECKING:
    # Nothing of it is needed here; but what a module names is shipped with it.
    from . import job_runner  # noqa: F401

NEVER = float("inf")
# What could not be done is tried again; a pod that starts slowly is not to be waited for more often.
RETRY_SECONDS = 10.0
RUNNER = "job_runner"
_SAID = 2000


class JobWatch:
    """The Jobs of one lab. error: what is wrong with them, or empty."""

    def __init__(
        self,
        cluster: str,
        watch: Callable[[int, Callable[[], None]], None],
        unwatch: Callable[[int], None],
        soon: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """watch, unwatch: of the loop's descriptors. soon: asks for another look. clock: seconds since the epoch."""
        self.cluster = cluster
        self.error = ""
        self._watch, self._unwatch, self._soon, self._clock = watch, unwatch, soon, clock
        self._seen: Any = None
        self._owners: Sequence[Owner] = ()
        self._runner: subprocess.Popen[bytes] | None = None
        self._retry_at = 0.0

    def look(self) -> float:
        """Note how the Jobs stand and begin what is due; return in how many seconds to look again."""
        owners = self._jobs()
        noted = read_json(paths.jobs_file(self.cluster), {})
        if not owners and not noted:
            return NEVER
        now, acts, again = self._clock(), False, NEVER
        past, fresh = Past(noted, now), {}
        existing = [Existing(entry["pod"], entry["status"]) for entry in read_pods(self.cluster)]
        for owner in owners:
            decision = turn(owner, [item for item in existing if item.owner == owner.uid], past)
            fresh[owner.uid] = {
                "created": owner.source["metadata"]["creationTimestamp"],
                "status": decision.status,
            }
            acts = acts or decision.acts
            again = min(again, NEVER if decision.again is None else decision.again)
        if fresh != noted:
            write_json(paths.jobs_file(self.cluster), fresh)
        if acts:
            again = min(again, self._begin(now))
        return again

    def _jobs(self) -> Sequence[Owner]:
        """The lab's Jobs, read again when the objects have been written."""
        try:
            status = os.stat(paths.objects_file(self.cluster))
        except FileNotFoundError:
            return ()
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        if seen != self._seen:
            cluster = Cluster.from_dict(read_json(paths.cluster_file(self.cluster)))
            entries = read_json(paths.objects_file(self.cluster))["objects"]
            found = [known(entry) for entry in entries if entry["object"]["kind"] == "Job"]
            self._owners = [owner for owner in (owner_of(thing, cluster) for thing in found) if owner]
            self._seen = seen
        return self._owners

    def _begin(self, now: float) -> float:
        """Start the runner, unless it runs or somebody else changes the lab: the end of either is another look."""
        if self._runner is not None or lock.held(self.cluster):
            return NEVER
        if now < self._retry_at:
            return self._retry_at - now
        self._runner = child = subprocess.Popen(
            interpreter.command(f"{__package__}.{RUNNER}", self.cluster),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        fd = syscalls.pidfd_open(child.pid)

        def ended() -> None:
            self._unwatch(fd)
            os.close(fd)
            self._ended(child)

        self._watch(fd, ended)
        return NEVER

    def _ended(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        with child.stdout as answer:
            said = answer.read().decode("utf-8", "replace").strip()[-_SAID:]
        code = child.wait()
        self._runner = None
        self.error = f"Jobs: {said or f'their runner ended with {code}'}" if code else ""
        self._retry_at = self._clock() + RETRY_SECONDS if code else 0.0
        self._soon()
