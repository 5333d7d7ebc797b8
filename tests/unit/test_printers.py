"""kubectl's tables: STATUS, READY, RESTARTS and AGE by its rules, columns by its widths."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from podlab.kube import podcolumns, printers, times

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden" / "cli"
NOW = times.epoch("2026-11-21T12:00:00Z")


def pod(**status: Any) -> dict[str, Any]:
    """A pod with as many containers as statuses (or one)."""
    containers = [{"name": item["name"]} for item in status.get("containerStatuses", [])] or [{"name": "c"}]
    init = status.pop("initContainers", [])
    metadata = {"name": "p", "namespace": "default", **status.pop("metadata", {})}
    return {"metadata": metadata, "spec": {"containers": containers, "initContainers": init}, "status": status}


def container(name: str = "c", **fields: Any) -> dict[str, Any]:
    state = {key: fields.pop(key) for key in ("waiting", "running", "terminated") if key in fields}
    return {"name": name, "ready": False, "restartCount": 0, "state": state, "lastState": {}, **fields}


RUNNING = {"startedAt": "2026-11-21T11:00:00Z"}
READY = [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}]
INITIALIZED = [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "False"}]

STATUSES = [
    ("pending", pod(phase="Pending"), "Pending"),
    ("no status", {"metadata": {}, "spec": {"containers": [{}]}}, "Unknown"),
    (
        "creating",
        pod(phase="Pending", containerStatuses=[container(waiting={"reason": "ContainerCreating"})]),
        "ContainerCreating",
    ),
    ("running", pod(phase="Running", containerStatuses=[container(ready=True, running=RUNNING)]), "Running"),
    (
        "waits again",
        pod(phase="Running", containerStatuses=[container(waiting={"reason": "CrashLoopBackOff"})]),
        "CrashLoopBackOff",
    ),
    (
        "done",
        pod(phase="Succeeded", containerStatuses=[container(terminated={"exitCode": 0, "reason": "Completed"})]),
        "Completed",
    ),
    (
        "failed",
        pod(phase="Failed", containerStatuses=[container(terminated={"exitCode": 2, "reason": "Error"})]),
        "Error",
    ),
    (
        "out of memory",
        pod(phase="Failed", containerStatuses=[container(terminated={"exitCode": 137, "reason": "OOMKilled"})]),
        "OOMKilled",
    ),
    ("code only", pod(phase="Failed", containerStatuses=[container(terminated={"exitCode": 7})]), "ExitCode:7"),
    (
        "signal only",
        pod(phase="Failed", containerStatuses=[container(terminated={"exitCode": 137, "signal": 9})]),
        "Signal:9",
    ),
    (
        "the first container has the last word",
        pod(
            phase="Running",
            containerStatuses=[
                container("a", waiting={"reason": "ImagePullBackOff"}),
                container("b", terminated={"exitCode": 1, "reason": "Error"}),
            ],
        ),
        "ImagePullBackOff",
    ),
    (
        "one of two is done, the pod is ready",
        pod(
            phase="Running",
            conditions=READY,
            containerStatuses=[
                container("a", terminated={"exitCode": 0, "reason": "Completed"}),
                container("b", ready=True, running=RUNNING),
            ],
        ),
        "Running",
    ),
    (
        "one of two is done, the pod is not ready",
        pod(
            phase="Running",
            conditions=INITIALIZED,
            containerStatuses=[
                container("a", terminated={"exitCode": 0, "reason": "Completed"}),
                container("b", ready=True, running=RUNNING),
            ],
        ),
        "NotReady",
    ),
    (
        "running after a failed one",
        pod(
            phase="Running",
            containerStatuses=[
                container("a", terminated={"exitCode": 1, "reason": "Error"}),
                container("b", ready=True, running=RUNNING),
            ],
        ),
        "Error",
    ),
    ("evicted", pod(phase="Failed", reason="Evicted"), "Evicted"),
    (
        "gated",
        pod(phase="Pending", conditions=[{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]),
        "SchedulingGated",
    ),
    (
        "terminating",
        pod(
            phase="Running",
            metadata={"deletionTimestamp": "2026-11-21T11:59:00Z"},
            containerStatuses=[container(ready=True, running=RUNNING)],
        ),
        "Terminating",
    ),
    (
        "deleted after its end",
        pod(
            phase="Succeeded",
            metadata={"deletionTimestamp": "2026-11-21T11:59:00Z"},
            containerStatuses=[container(terminated={"exitCode": 0, "reason": "Completed"})],
        ),
        "Completed",
    ),
    ("lost", pod(phase="Unknown", reason="NodeLost"), "NodeLost"),
    (
        "lost while it was deleted",
        pod(phase="Unknown", reason="NodeLost", metadata={"deletionTimestamp": "2026-11-21T11:59:00Z"}),
        "Unknown",
    ),
    (
        "first init",
        pod(
            phase="Pending",
            initContainers=[{"name": "i"}, {"name": "j"}],
            initContainerStatuses=[container("i", running=RUNNING), container("j", waiting={})],
            containerStatuses=[container(waiting={"reason": "PodInitializing"})],
        ),
        "Init:0/2",
    ),
    (
        "second init",
        pod(
            phase="Pending",
            initContainers=[{"name": "i"}, {"name": "j"}],
            initContainerStatuses=[
                container("i", terminated={"exitCode": 0, "reason": "Completed"}),
                container("j", waiting={"reason": "PodInitializing"}),
            ],
            containerStatuses=[container(waiting={"reason": "PodInitializing"})],
        ),
        "Init:1/2",
    ),
    (
        "init fails",
        pod(
            phase="Failed",
            initContainers=[{"name": "i"}],
            initContainerStatuses=[container("i", terminated={"exitCode": 1, "reason": "Error"})],
            containerStatuses=[container(waiting={"reason": "PodInitializing"})],
        ),
        "Init:Error",
    ),
    (
        "init code",
        pod(
            phase="Failed",
            initContainers=[{"name": "i"}],
            initContainerStatuses=[container("i", terminated={"exitCode": 3})],
        ),
        "Init:ExitCode:3",
    ),
    (
        "init waits again",
        pod(
            phase="Pending",
            initContainers=[{"name": "i"}],
            initContainerStatuses=[container("i", waiting={"reason": "CrashLoopBackOff"})],
        ),
        "Init:CrashLoopBackOff",
    ),
    (
        "a started sidecar does not hold the pod back",
        pod(
            phase="Running",
            initContainers=[{"name": "s", "restartPolicy": "Always"}],
            conditions=READY,
            initContainerStatuses=[container("s", running=RUNNING, started=True, ready=True)],
            containerStatuses=[container(ready=True, running=RUNNING)],
        ),
        "Running",
    ),
]


@pytest.mark.parametrize(("item", "expected"), [case[1:] for case in STATUSES], ids=[case[0] for case in STATUSES])
def test_status(item: dict[str, Any], expected: str) -> None:
    assert podcolumns.status_word(item) == expected


def test_ready_counts_sidecars_and_only_what_runs() -> None:
    item = pod(
        phase="Running",
        conditions=READY,
        initContainers=[{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
        initContainerStatuses=[
            container("i", terminated={"exitCode": 0}, ready=True),
            container("s", running=RUNNING, started=True, ready=True),
        ],
        containerStatuses=[container("a", ready=True, running=RUNNING), container("b", waiting={})],
    )
    assert podcolumns.ready_count(item) == (2, 3)


def test_restarts_say_when_the_last_one_was() -> None:
    last = {"terminated": {"exitCode": 1, "finishedAt": "2026-11-21T11:59:55Z"}}
    older = {"terminated": {"exitCode": 1, "finishedAt": "2026-11-21T11:00:00Z"}}
    item = pod(
        phase="Running",
        initContainers=[{"name": "i"}],
        initContainerStatuses=[container("i", restartCount=5, terminated={"exitCode": 0}, lastState=older)],
        containerStatuses=[
            container("a", restartCount=2, lastState=last, running=RUNNING, ready=True),
            container("b", restartCount=1, lastState=older, running=RUNNING, ready=True),
        ],
    )
    assert printers.table("pods", [item], NOW)[1][3] == "3 (5s ago)"
    assert podcolumns.restarts(item) == (3, "2026-11-21T11:59:55Z")


def test_restarts_of_init_containers_count_while_they_run() -> None:
    item = pod(
        phase="Pending",
        initContainers=[{"name": "i"}],
        initContainerStatuses=[container("i", restartCount=5, waiting={"reason": "CrashLoopBackOff"})],
    )
    assert printers.table("pods", [item], NOW)[1][3] == "5"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "<invalid>"), (-1, "0s"), (0, "0s"), (1.9, "1s"), (119, "119s"), (120, "2m"), (125, "2m5s"),
        (599, "9m59s"), (600, "10m"), (659, "10m"), (10799, "179m"), (10800, "3h"), (11000, "3h3m"),
        (28799, "7h59m"), (28800, "8h"), (172799, "47h"), (172800, "2d"), (180000, "2d2h"), (691199, "7d23h"),
        (691200, "8d"), (63071999, "729d"), (63072000, "2y"), (63072000 + 86400, "2y1d"), (252288000, "8y"),
    ],
)  # fmt: skip
def test_age(seconds: float, expected: str) -> None:
    assert times.age(seconds) == expected


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01T00:00:10.25Z", 10.25),
        ("1970-01-01T01:00:10+01:00", 10.0),
        ("1969-12-31T22:30:10.123456789-01:30", 10.123456789),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert times.epoch(text) == pytest.approx(seconds)


def test_a_time_written_is_read_back() -> None:
    assert times.epoch(times.rfc3339(NOW)) == NOW
    with pytest.raises(ValueError, match="'yesterday' is not an RFC 3339 time"):
        times.epoch("yesterday")


def node(**fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": "n", "labels": fields.pop("labels", {})}, "spec": fields.pop("spec", {}),
            "status": fields}  # fmt: skip


@pytest.mark.parametrize(
    ("item", "status", "roles"),
    [
        (node(conditions=[{"type": "Ready", "status": "True"}]), "Ready", "<none>"),
        (node(conditions=[{"type": "Ready", "status": "False"}]), "NotReady", "<none>"),
        (node(), "Unknown", "<none>"),
        (node(conditions=[{"type": "Ready", "status": "True"}], spec={"unschedulable": True}),
         "Ready,SchedulingDisabled", "<none>"),
        (node(labels={"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": "", "a": "b"}),
         "Unknown", "control-plane,worker"),
    ],
)  # fmt: skip
def test_nodes(item: dict[str, Any], status: str, roles: str) -> None:
    assert printers.table("nodes", [item], NOW)[1][1:3] == [status, roles]


def test_columns_are_as_wide_as_kubectl_makes_them() -> None:
    rows = [["A", "NAME", "AGE"], ["b", "much-longer", "5s"]]
    assert printers.text(rows) == "A     NAME          AGE\nb     much-longer   5s\n"
    assert printers.text([]) == ""


@pytest.mark.parametrize("name", ["pods", "pods-wide", "pods-all-labels", "nodes", "nodes-wide", "services-wide"])
def test_golden(name: str) -> None:
    kind, _, options = name.partition("-")
    objects = json.loads((GOLDEN / f"{kind}.json").read_text())
    show = {"wide": "wide" in options, "namespaces": "all" in options, "labels": "labels" in options}
    assert printers.text(printers.table(kind, objects, NOW, **show)) == (GOLDEN / f"{name}.txt").read_text()
