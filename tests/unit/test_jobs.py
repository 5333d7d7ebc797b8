"""Jobs, one turn at a time, with a clock of the test's own. Tests of the specification's rows are named after them."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from podlab.kube import job_checks, job_indexes, jobs, plan, times, workloads
from podlab.kube.jobs import Creation
from podlab.kube.removal import Existing
from support.planned import cluster

CREATED = "2026-11-21T12:00:00Z"
START = times.epoch(CREATED)
NEVER, ON_FAILURE = "Never", "OnFailure"


class Pod(NamedTuple):
    """A pod of the Job: how it stands, and when it ended, in seconds after the Job's start."""

    phase: str = "Running"
    end: float = 0.0
    restarts: int = 0
    index: int | None = None
    going: bool = False
    code: int = 1
    init_restarts: int = 0


def existing(pods: list[Pod]) -> list[Existing]:
    return [_existing(number, pod) for number, pod in enumerate(pods)]


def _existing(number: int, pod: Pod) -> Existing:
    mark = {} if pod.index is None else {job_indexes.INDEX: str(pod.index)}
    metadata: dict[str, Any] = {"name": f"p{number}", "namespace": "default", "uid": f"u{number}", "annotations": mark}
    if pod.going:
        metadata["deletionTimestamp"] = CREATED
    over = pod.phase in ("Succeeded", "Failed")
    code = 0 if pod.phase == "Succeeded" else pod.code
    ending = {"terminated": {"exitCode": code, "finishedAt": times.rfc3339(START + pod.end)}}
    container = {"name": "c", "restartCount": pod.restarts, "state": ending if over else {"running": {}}}
    status = {
        "phase": pod.phase,
        "startTime": CREATED,
        "containerStatuses": [container],
        "initContainerStatuses": [{"name": "i", "restartCount": pod.init_restarts, "state": {}}],
        "conditions": [{"type": "Ready", "status": "False" if over else "True"}],
    }
    return Existing({"metadata": metadata, "spec": {"nodeName": "w1"}}, status)


def job(policy: str = NEVER, **spec: Any) -> dict[str, Any]:
    template = {"spec": {"restartPolicy": policy, "containers": [{"name": "c", "image": "busybox"}]}}
    metadata = {"name": "job", "namespace": "default", "creationTimestamp": CREATED}
    return {"kind": "Job", "metadata": metadata, "spec": {"template": template, **spec}}


def turn(thing: dict[str, Any], pods: list[Pod], at: float = 0.0, before: Any = None) -> jobs.Decision:
    return jobs.decide(thing, before or {}, existing(pods), START + at)


def said(decision: jobs.Decision) -> list[tuple[str, str]]:
    return [(one["type"], one["reason"]) for one in decision.status["conditions"] if one["status"] == "True"]


FAILED, DONE, RUNNING = Pod("Failed"), Pod("Succeeded"), Pod()
OVER = [("FailureTarget", "BackoffLimitExceeded"), ("Failed", "BackoffLimitExceeded")]
COMPLETE = [("SuccessCriteriaMet", "CompletionsReached"), ("Complete", "CompletionsReached")]


# -- defaults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({}, {"completions": 1, "parallelism": 1, "backoffLimit": 6}),
        ({"completions": 3}, {"completions": 3, "parallelism": 1}),
        ({"parallelism": 3}, {"parallelism": 3, "completions": None}),
        ({"backoffLimitPerIndex": 1}, {"backoffLimit": 2**31 - 1}),
        ({}, {"completionMode": "NonIndexed", "podReplacementPolicy": "TerminatingOrFailed", "suspend": False}),
        ({"podFailurePolicy": {"rules": []}}, {"podReplacementPolicy": "Failed"}),
    ],
)
def test_defaults_completions_and_parallelism_1_when_both_unset(given: dict[str, Any], made: dict[str, Any]) -> None:
    complete = jobs.complete(given)
    assert {key: complete.get(key) for key in made} == made


# -- how many ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "pods", "create", "delete"),
    [
        ({}, [], 1, 0),
        ({}, [RUNNING], 0, 0),
        ({"completions": 5, "parallelism": 2}, [], 2, 0),
        ({"completions": 5, "parallelism": 2}, [DONE, RUNNING], 1, 0),
        ({"completions": 3, "parallelism": 3}, [DONE, DONE, RUNNING], 0, 0),
        ({"completions": 3, "parallelism": 3}, [DONE, DONE], 1, 0),
        ({"completions": 5, "parallelism": 0}, [], 0, 0),
        ({"completions": 5, "parallelism": 0}, [RUNNING, RUNNING], 0, 2),
        ({"completions": 5, "parallelism": 1}, [RUNNING, RUNNING, RUNNING], 0, 2),
        ({"completions": 600, "parallelism": 600}, [], 500, 0),
    ],
)
def test_active_wanted_is_the_least_of_parallelism_and_completions_less_succeeded(
    spec: dict[str, Any], pods: list[Pod], create: int, delete: int
) -> None:
    decision = turn(job(**spec), pods)
    assert (len(decision.create), len(decision.delete)) == (create, delete)
    assert decision.status.get("active", 0) == pods.count(RUNNING) + create - delete


def test_completions_nil_is_a_work_queue_that_nothing_is_added_to_after_the_first_success() -> None:
    queue = job(parallelism=3)
    assert len(turn(queue, []).create) == 3
    assert len(turn(queue, [RUNNING]).create) == 2
    after = turn(queue, [DONE, RUNNING])
    assert (after.create, after.delete, said(after)) == ((), (), [])
    assert said(turn(queue, [DONE, Pod("Failed", 5)])) == COMPLETE


def test_completions_reached_is_complete_with_its_time() -> None:
    decision = turn(job(completions=2), [DONE, DONE], at=9)
    assert said(decision) == COMPLETE
    status = decision.status
    assert (status["succeeded"], status["startTime"], status["completionTime"]) == (2, CREATED, "2026-11-21T12:00:09Z")
    assert status["conditions"][1]["message"] == "Reached expected number of succeeded pods"
    assert said(turn(job(completions=0), [])) == COMPLETE
    # What is over stays as it is.
    assert turn(job(completions=2), [], at=99, before=status) == jobs.Decision(status)


# -- failure ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "failed", "over"), [(0, 0, 0), (0, 1, 1), (2, 2, 0), (2, 3, 1), (6, 6, 0), (6, 7, 1)]
)
def test_never_failed_pods_more_than_backoff_limit(limit: int, failed: int, over: int) -> None:
    """With backoffLimit 6 that is the seventh pod."""
    decision = turn(job(backoffLimit=limit), [FAILED] * failed, at=9999)
    assert said(decision) == (OVER if over else [])
    assert len(decision.create) == 1 - over
    assert decision.status.get("failed", 0) == failed


@pytest.mark.parametrize(("limit", "restarts", "over"), [(0, 0, 0), (0, 1, 1), (1, 1, 1), (6, 5, 0), (6, 6, 1)])
def test_on_failure_sum_of_restart_counts_at_least_backoff_limit(limit: int, restarts: int, over: int) -> None:
    """Restarts of init containers count, too, and those of all pods that run or are pending; with 0 any restart."""
    one = turn(job(ON_FAILURE, backoffLimit=limit), [Pod(restarts=restarts)])
    assert bool(one.delete) is bool(over)
    half, rest = restarts // 2, restarts - restarts // 2
    several = [Pod("Pending", restarts=half), Pod(init_restarts=rest)]
    two = turn(job(ON_FAILURE, backoffLimit=limit, completions=2, parallelism=2), several)
    assert (len(two.delete) == 2) is bool(over)
    ended = turn(job(ON_FAILURE, backoffLimit=limit, completions=2), [Pod("Succeeded", restarts=restarts)])
    assert said(ended) == [], "restarts of pods that have ended do not count"


def test_restarts_do_not_count_with_never() -> None:
    assert turn(job(backoffLimit=0), [Pod(restarts=3)]).delete == ()


def test_at_the_end_active_pods_are_deleted_and_have_failed() -> None:
    """Failed only when the last one has gone; until then FailureTarget."""
    thing = job(backoffLimit=0, completions=3, parallelism=3)
    first = turn(thing, [FAILED, RUNNING, RUNNING])
    assert first.delete == ("u1", "u2")
    assert said(first) == OVER[:1]
    assert (first.status["failed"], first.status.get("active", 0), first.status["terminating"]) == (3, 0, 2)
    going = turn(thing, [FAILED, Pod(going=True)], before=first.status)
    assert (going.delete, said(going), going.status["terminating"]) == ((), OVER[:1], 1)
    last = turn(thing, [FAILED], before=going.status)
    assert (said(last), last.status["failed"], last.status["terminating"]) == (OVER, 3, 0)
    assert "completionTime" not in last.status


@pytest.mark.parametrize(
    ("failures", "delay"), [(1, 10), (2, 20), (3, 40), (4, 80), (5, 160), (6, 320), (7, 600), (8, 600), (200, 600)]
)
def test_new_pod_delay_10_s_doubled_cap_600_s_from_the_last_failure(failures: int, delay: int) -> None:
    thing = job(backoffLimit=1000)
    pods = [Pod("Failed", end=number) for number in range(failures)]
    early = turn(thing, pods, at=failures - 1 + delay - 0.5)
    assert early.create == () and early.again == pytest.approx(0.5)
    assert len(turn(thing, pods, at=failures - 1 + delay).create) == 1


def test_delay_counts_failures_since_the_last_success() -> None:
    thing = job(completions=9)
    pods = [Pod("Failed", 1), Pod("Failed", 2), Pod("Succeeded", 3), Pod("Failed", 4)]
    assert turn(thing, pods, at=4).again == pytest.approx(10)
    assert len(turn(thing, pods[:3], at=3).create) == 1


def test_active_deadline_seconds_ends_it_before_backoff_limit_does() -> None:
    thing = job(activeDeadlineSeconds=30)
    assert turn(thing, [RUNNING], at=10).again == pytest.approx(20)
    late = turn(thing, [RUNNING], at=30)
    assert late.delete == ("u0",) and said(late) == [("FailureTarget", "DeadlineExceeded")]
    assert late.status["conditions"][0]["message"] == "Job was active longer than specified deadline"
    # No pod is made any more although backoffLimit would allow it.
    assert turn(thing, [FAILED, FAILED], at=31).create == ()


# -- Indexed ----------------------------------------------------------------------------------------------------------


def test_indexed_has_a_pod_for_every_index() -> None:
    thing = job(completionMode="Indexed", completions=4, parallelism=2)
    assert turn(thing, []).create == (Creation(0), Creation(1))
    pods = [Pod("Succeeded", index=1), Pod(index=0), Pod("Failed", index=2)]
    assert turn(thing, pods, at=99).create == (Creation(2),)
    done = [Pod("Succeeded", index=index) for index in (0, 1, 3, 3)]
    assert turn(thing, done).status["completedIndexes"] == "0,1,3"
    over = turn(thing, [Pod("Succeeded", index=index) for index in range(4)])
    assert (over.status["completedIndexes"], over.status["succeeded"], said(over)) == ("0-3", 4, COMPLETE)


def test_indexed_removes_what_has_no_index_of_its_own() -> None:
    thing = job(completionMode="Indexed", completions=2, parallelism=2)
    pods = [Pod(index=0), Pod("Pending", index=0), Pod(index=7), Pod()]
    assert turn(thing, pods).delete == ("u1", "u2", "u3")


def test_indexed_pods_know_their_index() -> None:
    """JOB_COMPLETION_INDEX, hostname job-i, annotation and label."""
    store = {"objects": [{"object": job(completionMode="Indexed", completions=2, parallelism=2), "created": CREATED}]}
    made = plan.plan(store, cluster(), []).pods
    assert [pod["metadata"]["name"].rpartition("-")[0] for pod in made] == ["job-0", "job-1"]
    metadata, spec = made[1]["metadata"], made[1]["spec"]
    assert spec["hostname"] == "job-1"
    assert metadata["annotations"] == {job_indexes.INDEX: "1"}
    assert metadata["labels"][job_indexes.INDEX] == "1"
    assert metadata["labels"]["batch.kubernetes.io/job-name"] == "job"
    [variable] = spec["containers"][0]["env"]
    assert variable["name"] == "JOB_COMPLETION_INDEX"
    assert variable["valueFrom"]["fieldRef"]["fieldPath"] == f"metadata.labels['{job_indexes.INDEX}']"


@pytest.mark.parametrize(
    ("indexes", "text"),
    [((), ""), ((3,), "3"), ((0, 1), "0,1"), ((0, 1, 2, 5, 7, 8, 9), "0-2,5,7-9"), ((1, 0, 1), "0,1")],
)
def test_indexes_are_written_as_intervals(indexes: tuple[int, ...], text: str) -> None:
    assert job_indexes.text(indexes) == text
    assert job_indexes.parse(text, 100) == set(indexes)


def test_backoff_limit_per_index_gives_up_single_indexes() -> None:
    thing = job(completionMode="Indexed", completions=2, parallelism=2, backoffLimitPerIndex=1)
    once = turn(thing, [Pod("Failed", index=0), Pod(index=1)], at=10)
    assert once.create == (Creation(0, ((jobs.FAILURES, "1"),)),)
    early = turn(thing, [Pod("Failed", 5, index=0), Pod(index=1)], at=10)
    assert early.create == () and early.again == pytest.approx(5)
    twice = [Pod("Failed", index=0), Pod("Failed", index=0)]
    assert turn(thing, [*twice, Pod(index=1)], at=99).status["failedIndexes"] == "0"
    last = turn(thing, [*twice, Pod("Succeeded", index=1)], at=99)
    assert said(last) == [("FailureTarget", "FailedIndexes"), ("Failed", "FailedIndexes")]
    strict = job(completionMode="Indexed", completions=9, parallelism=2, backoffLimitPerIndex=0, maxFailedIndexes=1)
    over = turn(strict, [Pod("Failed", index=0), Pod("Failed", index=1), Pod(index=2)], at=99)
    assert over.delete == ("u2",) and said(over) == [("FailureTarget", "MaxFailedIndexesExceeded")]


# -- policies ---------------------------------------------------------------------------------------------------------


def rules(*given: dict[str, Any]) -> dict[str, Any]:
    return {"podFailurePolicy": {"rules": list(given)}}


def on_code(action: str, *codes: int, operator: str = "In", **more: Any) -> dict[str, Any]:
    return {"action": action, "onExitCodes": {"operator": operator, "values": list(codes), **more}}


def test_pod_failure_policy_fails_the_job_ignores_or_counts() -> None:
    fail = turn(job(**rules(on_code("FailJob", 42))), [Pod("Failed", code=42)])
    assert said(fail) == [("FailureTarget", "PodFailurePolicy"), ("Failed", "PodFailurePolicy")]
    assert fail.status["conditions"][0]["message"] == (
        "Container c for pod default/p0 failed with exit code 42 matching FailJob rule at index 0"
    )
    ignored = turn(job(backoffLimit=0, **rules(on_code("Ignore", 7))), [Pod("Failed", code=7)], at=99)
    assert said(ignored) == [] and len(ignored.create) == 1 and "failed" not in ignored.status
    counted = turn(job(backoffLimit=0, **rules(on_code("Count", 7), on_code("Ignore", 7))), [Pod("Failed", code=7)])
    assert said(counted) == OVER
    other = on_code("FailJob", 0, 1, operator="NotIn", containerName="d")
    assert said(turn(job(**rules(other)), [Pod("Failed", code=7)])) == []
    condition = {"action": "FailJob", "onPodConditions": [{"type": "Ready", "status": "False"}]}
    message = turn(job(**rules(condition)), [FAILED]).status["conditions"][0]["message"]
    assert message == "Pod default/p0 has condition Ready matching FailJob rule at index 0"


def test_success_policy_ends_it_early() -> None:
    policy = {"rules": [{"succeededIndexes": "1-2", "succeededCount": 1}]}
    thing = job(completionMode="Indexed", completions=4, parallelism=4, successPolicy=policy)
    assert said(turn(thing, [Pod("Succeeded", index=0), Pod(index=1)])) == []
    met = turn(thing, [Pod("Succeeded", index=2), Pod(index=1)])
    assert said(met) == [("SuccessCriteriaMet", "SuccessPolicy")] and met.delete == ("u1",)
    assert (met.status["conditions"][0]["message"], met.status.get("failed")) == ("Matched rules at index 0", None)
    last = turn(thing, [Pod("Succeeded", index=2)], before=met.status)
    assert said(last)[1] == ("Complete", "SuccessPolicy") and last.status["completedIndexes"] == "2"


@pytest.mark.parametrize(("policy", "created"), [("TerminatingOrFailed", 1), ("Failed", 0)])
def test_pod_replacement_policy(policy: str, created: int) -> None:
    assert len(turn(job(podReplacementPolicy=policy), [Pod(going=True)]).create) == created


# -- suspend, ttl -----------------------------------------------------------------------------------------------------


def test_suspend_deletes_and_resume_begins_anew() -> None:
    fresh = turn(job(suspend=True), [])
    assert "startTime" not in fresh.status and said(fresh) == [("Suspended", "JobSuspended")]
    running = turn(job(), [RUNNING])
    held = turn(job(suspend=True, activeDeadlineSeconds=5), [RUNNING], at=60, before=running.status)
    assert held.delete == ("u0",) and "failed" not in held.status
    resumed = turn(job(activeDeadlineSeconds=5), [], at=100, before=held.status)
    assert len(resumed.create) == 1 and resumed.status["startTime"] == times.rfc3339(START + 100)
    [condition] = resumed.status["conditions"]
    assert (condition["status"], condition["reason"], condition["message"]) == ("False", "JobResumed", "Job resumed")


def test_ttl_seconds_after_finished() -> None:
    thing = job(ttlSecondsAfterFinished=20)
    over = turn(thing, [DONE], at=5)
    assert over.again == 20 and not over.expired
    assert turn(thing, [DONE], at=15, before=over.status).again == pytest.approx(10)
    assert turn(thing, [DONE], at=25, before=over.status).expired
    assert not turn(job(), [DONE], at=9999, before=over.status).expired


def test_a_job_of_the_same_name_that_is_gone_is_forgotten() -> None:
    record = {"u": {"created": CREATED, "status": {"failed": 3}}}
    past = workloads.Past(record, 0)
    assert past.status("u", CREATED) == {"failed": 3}
    assert past.status("u", "2026-11-21T12:00:01Z") == past.status("u", None) == past.status("v", CREATED) == {}


def test_the_image_of_a_suspended_job_is_had() -> None:
    """The watcher may start its pods at any time."""
    store = {"objects": [{"object": job(suspend=True), "created": CREATED}]}
    made = plan.plan(store, cluster(), [])
    assert (made.pods, made.images, made.image_users) == (
        (),
        ({"reference": "busybox", "policy": "IfNotPresent"},),
        {},
    )


# -- what is refused --------------------------------------------------------------------------------------------------

INDEXED = {"completionMode": "Indexed", "completions": 3}


@pytest.mark.parametrize(
    ("spec", "place", "message"),
    [
        ({"backoffLimit": -1}, "backoffLimit", "must be 0 or more, not -1"),
        ({"completionMode": "Some"}, "completionMode", "must be one of NonIndexed, Indexed"),
        ({"completionMode": "Indexed"}, "completions", "is required when completion mode is Indexed"),
        ({"backoffLimitPerIndex": 1}, "backoffLimitPerIndex", "requires indexed completion mode"),
        ({**INDEXED, "maxFailedIndexes": 1}, "backoffLimitPerIndex", "is required when maxFailedIndexes is specified"),
        (
            {**INDEXED, "backoffLimitPerIndex": 1, "maxFailedIndexes": 4},
            "maxFailedIndexes",
            "must be completions (3) or less",
        ),
        ({**INDEXED, "parallelism": 100001}, "parallelism", "must be 100000 or less"),
        ({"successPolicy": {"rules": [{"succeededCount": 1}]}}, "successPolicy", "requires indexed completion mode"),
        ({**INDEXED, "successPolicy": {"rules": []}}, "rules", "must have 1 to 20 rules"),
        ({**INDEXED, "successPolicy": {"rules": [{}]}}, 0, "must have at least one of"),
        ({**INDEXED, "successPolicy": {"rules": [{"succeededIndexes": "1-"}]}}, "succeededIndexes", "such as 1,3-5"),
        ({**INDEXED, "successPolicy": {"rules": [{"succeededIndexes": "3"}]}}, "succeededIndexes", "must be below"),
        ({"podReplacementPolicy": "TerminatingOrFailed", **rules()}, "podReplacementPolicy", "must be one of Failed"),
        (rules({"action": "FailJob"}), 0, "must have one of onExitCodes and onPodConditions"),
        (rules(on_code("FailIndex", 1)), "action", "FailIndex requires the backoffLimitPerIndex to be set"),
        (rules(on_code("FailJob", 0, 1)), "values", "must not have 0 with the operator In"),
        (rules(on_code("FailJob", 2, 1)), "values", "must be in ascending order"),
        (rules(on_code("FailJob", 1, containerName="x")), "containerName", "must be one of the names"),
    ],
)
def test_bad_jobs_are_refused(spec: dict[str, Any], place: Any, message: str) -> None:
    [finding] = job_checks.job(job(**spec))
    assert finding.path[-1] == place
    assert message in finding.message


def test_a_good_job_is_not_refused() -> None:
    policy = {"rules": [{"succeededIndexes": "0,2", "succeededCount": 1}]}
    assert list(job_checks.job(job(**INDEXED, successPolicy=policy, **rules(on_code("Ignore", 1, 2))))) == []
