"""The Job controller, one turn at a time: from a Job, its status so far, its pods and the time to what is to be done.

A pod that has ended stays until its Job goes, so the counts are made anew from the pods each time; what only the past
tells (startTime, conditions, what was killed at the end) is in the status. Nobody but the controller deletes a Job's
pods, so one that is being deleted is no failure. Pure.

Sources: k8s pkg/controller/job/job_controller.go, backoff_utils.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from . import job_indexes, job_policies
from .removal import Existing, by_removal, ready, survivors
from .times import epoch, rfc3339

Object = Mapping[str, Any]

BACK_OFF = 10.0
MAX_BACK_OFF = 600.0
# MaxPodCreateDeletePerSync.
MOST_AT_ONCE = 500
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURES = "batch.kubernetes.io/job-index-ignored-failure-count"
_NO_LIMIT = 2**31 - 1
_REACHED = ("SuccessCriteriaMet", "CompletionsReached", "Reached expected number of succeeded pods")
_LIMIT = ("FailureTarget", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
_DEADLINE = ("FailureTarget", "DeadlineExceeded", "Job was active longer than specified deadline")
_TOO_MANY = (
    "FailureTarget",
    "MaxFailedIndexesExceeded",
    "Job has exceeded the specified maximal number of failed indexes",
)
_INDEXES = ("FailureTarget", "FailedIndexes", "Job has failed indexes")
_FINAL = {"SuccessCriteriaMet": "Complete", "FailureTarget": "Failed"}

# Type, reason and message of a condition.
Ending = tuple[str, str, str]


class Creation(NamedTuple):
    """A pod to make. completion: its completion index. annotations: beside that."""

    completion: int | None = None
    annotations: tuple[tuple[str, str], ...] = ()


class Decision(NamedTuple):
    """What to do. delete: UIDs. again: seconds after which time alone changes something. expired: the Job is to go."""

    status: dict[str, Any]
    create: tuple[Creation, ...] = ()
    delete: tuple[str, ...] = ()
    again: float | None = None
    expired: bool = False

    @property
    def acts(self) -> bool:
        """Whether there is anything to do but to note the status."""
        return bool(self.create or self.delete or self.expired)


def complete(spec: Object) -> dict[str, Any]:
    """The spec with what the API server fills in (SetDefaults_Job)."""
    made = {key: value for key, value in spec.items() if value is not None}
    if "completions" not in made and "parallelism" not in made:
        made["completions"] = 1
    made.setdefault("parallelism", 1)
    made.setdefault("backoffLimit", _NO_LIMIT if "backoffLimitPerIndex" in made else 6)
    made.setdefault("completionMode", "NonIndexed")
    made.setdefault("suspend", False)
    made.setdefault("podReplacementPolicy", "Failed" if "podFailurePolicy" in made else "TerminatingOrFailed")
    return made


def decide(job: Object, before: Object, pods: Sequence[Existing], now: float) -> Decision:
    """One turn. before: the Job's status so far. pods: its own. now: seconds since the epoch."""
    spec = complete(job["spec"])
    end = ended(before)
    if end:
        return _after(spec, before, end, now)
    return _Turn(job, spec, before, pods, now).decide()


def ended(status: Object) -> dict[str, Any] | None:
    """The condition that says that the Job is over: Complete or Failed."""
    return _condition(status, "Complete") or _condition(status, "Failed")


def _condition(status: Object, kind: str) -> dict[str, Any] | None:
    every = status.get("conditions") or []
    return next((one for one in every if one["type"] == kind and one["status"] == "True"), None)


def _after(spec: Object, status: Object, end: Object, now: float) -> Decision:
    """A Job that is over stays as it is, for ttlSecondsAfterFinished."""
    if spec.get("ttlSecondsAfterFinished") is None:
        return Decision(dict(status))
    left = epoch(end["lastTransitionTime"]) + spec["ttlSecondsAfterFinished"] - now
    return Decision(dict(status), again=left if left > 0 else None, expired=left <= 0)


def finished_at(item: Existing) -> float:
    """When a pod ended: its last container or sidecar, or when it stopped being ready, or when it began."""
    status = item.status
    sidecars = {
        each["name"] for each in item.pod["spec"].get("initContainers") or [] if each.get("restartPolicy") == "Always"
    }
    late = [each for each in status.get("initContainerStatuses") or [] if each["name"] in sidecars]
    states = [container.get("state") or {} for container in [*(status.get("containerStatuses") or []), *late]]
    ends = [state.get("terminated", {}).get("finishedAt") for state in states]
    if ends and all(ends):
        return max(map(epoch, ends))
    for condition in status.get("conditions") or []:
        if condition["type"] == "Ready" and condition["status"] == "False" and condition.get("lastTransitionTime"):
            return epoch(condition["lastTransitionTime"])
    return epoch(status["startTime"]) if status.get("startTime") else 0.0


def back_off(failures: int, last: float, now: float) -> float:
    """Seconds to wait before the next pod: 10 s, doubled with every failure in a row, at most 600 s, from the last."""
    delay = min(BACK_OFF * 2 ** min(failures - 1, 16), MAX_BACK_OFF) if failures else 0.0
    return max(0.0, delay - (now - last)) if failures else 0.0


class _Turn:
    """What one turn finds out about a Job that is not over."""

    def __init__(self, job: Object, spec: Object, before: Object, pods: Sequence[Existing], now: float) -> None:
        self.job = job
        self.spec = spec
        self.before = before
        self.now = now
        self.indexed = spec["completionMode"] == "Indexed"
        self.per_index = spec.get("backoffLimitPerIndex")
        self.active = [item for item in pods if not item.ended and not item.leaving]
        self.leaving = [item for item in pods if not item.ended and item.leaving]
        valid = [item for item in pods if not self.indexed or self._in_range(item)]
        self.succeeded = [item for item in valid if item.status.get("phase") == "Succeeded"]
        self.failed = sorted((item for item in valid if item.status.get("phase") == "Failed"), key=finished_at)
        self.matches = {id(item): job_policies.judge(spec, item.pod, item.status) for item in self.failed}
        self.counted = [item for item in self.failed if self.matches[id(item)].counts]
        self.restarting = [item for item in pods if item.status.get("phase", "Pending") in ("Running", "Pending")]
        self.done = {index for item in self.succeeded for index in [job_indexes.of_pod(item.pod)] if index is not None}
        self.lost = self._failed_indexes()
        self.again: list[float] = []
        self.conditions = [dict(one) for one in before.get("conditions") or []]
        self.start = None if spec["suspend"] else before.get("startTime") or self._begin()

    def _begin(self) -> str:
        """A Job begins when it is made, also when nobody looked at it then; one that was suspended begins now."""
        suspended = any(one["type"] == "Suspended" for one in self.conditions)
        created = self.job["metadata"].get("creationTimestamp")
        return str(created) if created and not suspended else rfc3339(self.now)

    def _in_range(self, item: Existing) -> bool:
        index = job_indexes.of_pod(item.pod)
        return index is not None and index < self.spec["completions"]

    @property
    def successes(self) -> int:
        return len(self.done) if self.indexed else len(self.succeeded)

    # -- the turn ---------------------------------------------------------------------------------------------------

    def decide(self) -> Decision:
        known = next((kind for kind in _FINAL if _condition(self.before, kind)), "")
        if known:
            return self._end(known)
        ending = self._ending()
        if ending:
            return self._begin_end(ending)
        return self._manage()

    def _ending(self) -> Ending | None:
        """Why the Job is over; it is not asked whether all its completions are there."""
        for item in self.failed:
            if self.matches[id(item)].message:
                return ("FailureTarget", "PodFailurePolicy", self.matches[id(item)].message)
        if len(self.counted) > self.spec["backoffLimit"] or self._restarted_too_often():
            return _LIMIT
        if self._past_deadline():
            return _DEADLINE
        if self.per_index is not None and self.lost:
            if len(self.lost) > self.spec.get("maxFailedIndexes", _NO_LIMIT):
                return _TOO_MANY
            if len(self.lost | self.done) >= self.spec["completions"]:
                return _INDEXES
        message = job_policies.success(self.spec, self.done) if self.indexed else ""
        return ("SuccessCriteriaMet", "SuccessPolicy", message) if message else None

    def _restarted_too_often(self) -> bool:
        """OnFailure: the pods that are there have been restarted as often as backoffLimit says; with 0 any restart."""
        if self.spec["template"]["spec"].get("restartPolicy") != "OnFailure":
            return False
        restarts = sum(
            container.get("restartCount", 0)
            for item in self.restarting
            for key in ("initContainerStatuses", "containerStatuses")
            for container in item.status.get(key) or []
        )
        return bool(restarts >= max(self.spec["backoffLimit"], 1))

    def _past_deadline(self) -> bool:
        seconds = self.spec.get("activeDeadlineSeconds")
        if seconds is None or self.spec["suspend"] or self.start is None:
            return False
        left = epoch(self.start) + seconds - self.now
        self.again.append(left)
        return bool(left <= 0)

    # -- the end ----------------------------------------------------------------------------------------------------

    def _begin_end(self, ending: Ending) -> Decision:
        """Note why, and delete what runs; of a Job that has failed, all that had not ended has failed."""
        self.conditions.append(self._made(*ending))
        killed = len(self.active) + len(self.leaving) if ending[0] == "FailureTarget" else 0
        return self._end(ending[0], self.successes, len(self.counted) + killed)

    def _end(self, kind: str, succeeded: int | None = None, failed: int | None = None) -> Decision:
        """Over for good when the last pod has gone; the counts stay as they were when the end began."""
        before = self.before
        counts = (
            before.get("succeeded", 0) if succeeded is None else succeeded,
            before.get("failed", 0) if failed is None else failed,
        )
        going = [*self.active, *self.leaving]
        status = self._status(0, len(going), *counts)
        if not going:
            why = next(one for one in self.conditions if one["type"] == kind)
            final = self._made(_FINAL[kind], why["reason"], why["message"])
            self.conditions.append(final)
            if kind == "SuccessCriteriaMet":
                status["completionTime"] = final["lastTransitionTime"]
            left = self.spec.get("ttlSecondsAfterFinished")
            return Decision(status, again=left)
        return Decision(status, delete=_uids(self.active))

    # -- on its way -------------------------------------------------------------------------------------------------

    def _manage(self) -> Decision:
        """manageJob: as many pods as there should be."""
        if self.spec["suspend"]:
            return self._suspended()
        self._say_suspended("False", "JobResumed", "Job resumed")
        completions = self.spec.get("completions")
        if completions is None:
            # A work queue: after the first success what runs may end, and nothing is added.
            wanted = len(self.active) if self.succeeded else self.spec["parallelism"]
        else:
            wanted = min(self.spec["parallelism"], max(completions - self.successes, 0))
        surplus = self._surplus(wanted)
        if surplus:
            return self._going_on(len(self.active) - len(surplus), delete=surplus)
        terminating = len(self.leaving) if self.spec["podReplacementPolicy"] == "Failed" else 0
        created = self._creations(wanted - terminating - len(self.active))
        active = len(self.active) + len(created)
        if not active and self._enough():
            return self._begin_end(_REACHED)
        return self._going_on(active, create=created)

    def _suspended(self) -> Decision:
        if not self.active and self._enough():
            return self._begin_end(_REACHED)
        self._say_suspended("True", "JobSuspended", "Job suspended")
        return self._going_on(0, delete=self.active)

    def _enough(self) -> bool:
        """Whether nothing is left to be done; a work queue says so by its first success."""
        completions = self.spec.get("completions")
        return bool(self.succeeded) if completions is None else self.successes >= completions

    def _say_suspended(self, status: str, reason: str, message: str) -> None:
        """Note a change; that a Job is not suspended says nothing before it was."""
        known = next((one for one in self.conditions if one["type"] == "Suspended"), None)
        if known is None and status == "True":
            self.conditions.append(self._made("Suspended", reason, message))
        elif known is not None and known["status"] != status:
            known.update(self._made("Suspended", reason, message), status=status)

    def _going_on(self, active: int, create: Sequence[Creation] = (), delete: Sequence[Existing] = ()) -> Decision:
        status = self._status(active, len(self.leaving) + len(delete), self.successes, len(self.counted))
        again = min((each for each in self.again if each > 0), default=None)
        return Decision(status, tuple(create), _uids(delete), again)

    def _surplus(self, wanted: int) -> list[Existing]:
        """Active pods that are too many: of an Indexed Job first those without an index of their own."""
        left = self.active
        if self.indexed:
            best = {job_indexes.of_pod(item.pod): item for item in by_removal(self.active) if self._in_range(item)}
            left = [item for item in self.active if item in best.values()]
        kept = survivors(left, wanted)
        return [item for item in self.active if item not in kept][:MOST_AT_ONCE]

    def _creations(self, count: int) -> list[Creation]:
        """The pods to make now; when it is too early for them, note when it is not."""
        if count <= 0:
            return []
        count = min(count, MOST_AT_ONCE)
        if self.per_index is not None:
            return self._creations_per_index(count)
        last_success = max((finished_at(item) for item in self.succeeded), default=float("-inf"))
        failures = [at for at in map(finished_at, self.failed) if at > last_success]
        delay = back_off(len(failures), max(failures, default=0.0), self.now)
        if delay > 0:
            self.again.append(delay)
            return []
        return [Creation(index) for index in self._pending(count)] if self.indexed else [Creation()] * count

    def _creations_per_index(self, count: int) -> list[Creation]:
        """Each index has a back-off of its own."""
        made, waiting = [], []
        for index in self._pending(count):
            own = [item for item in self.failed if job_indexes.of_pod(item.pod) == index]
            delay = back_off(len(own), finished_at(own[-1]), self.now) if own else 0.0
            if delay > 0:
                waiting.append(delay)
                continue
            counted = [item for item in own if self.matches[id(item)].counts]
            notes = [(FAILURES, str(len(counted)))]
            if len(own) > len(counted):
                notes.append((IGNORED_FAILURES, str(len(own) - len(counted))))
            made.append(Creation(index, tuple(notes)))
        if not made:
            self.again += waiting
        return made

    def _pending(self, count: int) -> list[int]:
        """The first indexes that nobody works at."""
        held = [*self.active, *(self.leaving if self.spec["podReplacementPolicy"] == "Failed" else [])]
        taken = self.done | self.lost | {job_indexes.of_pod(item.pod) for item in held}
        return [index for index in range(self.spec["completions"]) if index not in taken][:count]

    def _failed_indexes(self) -> set[int]:
        """Those that failed more often than backoffLimitPerIndex says, or that the policy gives up."""
        if self.per_index is None:
            return set()
        counts: dict[int, int] = {}
        given_up = set()
        for item in self.failed:
            index, match = job_indexes.of_pod(item.pod), self.matches[id(item)]
            if index is not None:
                counts[index] = counts.get(index, 0) + match.counts
                given_up |= {index} if match.action == "FailIndex" else set()
        return (given_up | {index for index, count in counts.items() if count > self.per_index}) - self.done

    # -- the status -------------------------------------------------------------------------------------------------

    def _made(self, kind: str, reason: str, message: str) -> dict[str, Any]:
        when = rfc3339(self.now)
        times = {"lastProbeTime": when, "lastTransitionTime": when}
        return {"type": kind, "status": "True", **times, "reason": reason, "message": message}

    def _status(self, active: int, terminating: int, succeeded: int, failed: int) -> dict[str, Any]:
        counts = {"active": active, "succeeded": succeeded, "failed": failed}
        status: dict[str, Any] = {key: value for key, value in counts.items() if value}
        status["ready"] = sum(ready(item.status) for item in self.active) if active else 0
        status["terminating"] = terminating
        status["conditions"] = self.conditions
        if self.start is not None:
            status["startTime"] = self.start
        if self.indexed:
            status["completedIndexes"] = job_indexes.text(self.done)
            if self.per_index is not None:
                status["failedIndexes"] = job_indexes.text(self.lost)
        return status


def _uids(pods: Sequence[Existing]) -> tuple[str, ...]:
    return tuple(str(item.pod["metadata"]["uid"]) for item in pods)
