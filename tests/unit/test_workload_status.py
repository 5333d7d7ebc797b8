"""`get deployments` and so on: the status that controllers would write, and kubectl's columns for it."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.cli import objects
from podlab.kube import printers, times, workload_status, workloads
from support.planned import cluster

CREATED = "2026-11-21T11:56:00Z"
NOW = times.epoch("2026-11-21T12:00:00Z")
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
STARTING = {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}
DONE = {
    "phase": "Succeeded",
    "containerStatuses": [{"state": {"terminated": {"finishedAt": "2026-11-21T11:56:07.5Z"}}}],
}
TEMPLATE = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}}


def thing(kind: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "a", "namespace": "default", "creationTimestamp": CREATED}
    return {"kind": kind, "metadata": metadata, "spec": {"template": TEMPLATE, **spec}}


def pods_of(one: dict[str, Any], *statuses: dict[str, Any]) -> list[dict[str, Any]]:
    """The pods that the workload wants, as many as there are statuses, and one of somebody else."""
    owner = workloads.owner_of(one, cluster())
    assert owner is not None
    made = owner.fixed or [owner.make(f"a-{number}") for number in range(len(statuses))]  # type: ignore[misc]
    found = [{**pod, "status": status} for pod, status in zip(made, statuses)]
    return [*found, {"metadata": {"name": "other"}, "spec": {}, "status": READY}]


def shown(kind: str, one: dict[str, Any], *statuses: dict[str, Any], wide: bool = False) -> list[str]:
    """The row of the workload in its table, column by column."""
    past = workloads.Past({}, times.epoch("2026-11-21T11:56:07Z"))
    made = workload_status.with_status(one, cluster(), pods_of(one, *statuses), past)
    [item] = [each for each in made if f"{each['kind'].lower()}s" == kind]
    [_, row] = printers.table(kind, [item], NOW, wide=wide)
    return row


EXPRESSIONS = {
    "matchExpressions": [{"key": "tier", "operator": "In", "values": ["b", "a"]}, {"key": "x", "operator": "Exists"}]
}


def test_a_deployment_and_its_replica_set() -> None:
    web = thing("Deployment", replicas=3, selector={"matchLabels": {"app": "a"}, **EXPRESSIONS})
    assert shown("deployments", web, READY, READY, STARTING) == ["a", "2/3", "3", "2", "4m"]
    assert shown("deployments", web, READY, wide=True)[5:] == ["c", "busybox", "app=a,tier in (a,b),x"]
    name = workloads.owner_of(web, cluster()).reference["name"]  # type: ignore[union-attr, index]
    assert shown("replicasets", web, READY, READY, STARTING) == [name, "3", "3", "2", "4m"]
    labels = f"app=a,pod-template-hash={name.removeprefix('a-')}"
    assert shown("replicasets", web, READY, wide=True)[5:] == ["c", "busybox", labels]
    assert shown("deployments", thing("Deployment", replicas=0)) == ["a", "0/0", "0", "0", "4m"]


def test_pods_that_end_or_go_are_no_replicas() -> None:
    several = thing("ReplicaSet", replicas=3)
    gone = pods_of(several, READY, READY, DONE)
    gone[0]["metadata"]["deletionTimestamp"] = CREATED
    [item] = workload_status.with_status(several, cluster(), gone)
    assert item["status"] == {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1}


def test_other_workloads() -> None:
    daemons = thing("DaemonSet", selector={"matchLabels": {"app": "a"}})
    wanted = str(len(workloads.owner_of(daemons, cluster()).fixed))  # type: ignore[union-attr]
    assert shown("daemonsets", daemons, READY) == ["a", wanted, "1", "1", "1", "1", "<none>", "4m"]
    assert shown("statefulsets", thing("StatefulSet", replicas=2), READY, STARTING) == ["a", "1/2", "4m"]


@pytest.mark.parametrize(
    ("spec", "statuses", "row"),
    [
        ({}, [READY], ["a", "Running", "0/1", "4m", "4m"]),
        ({}, [DONE], ["a", "Complete", "1/1", "7s", "4m"]),
        ({"completions": 2}, [DONE, READY], ["a", "Running", "1/2", "4m", "4m"]),
        ({"parallelism": 2}, [DONE, READY], ["a", "Running", "1/1 of 2", "4m", "4m"]),
    ],
)
def test_jobs(spec: dict[str, Any], statuses: list[dict[str, Any]], row: list[str]) -> None:
    assert shown("jobs", thing("Job", **spec), *statuses) == row


def test_what_is_no_workload_has_none() -> None:
    assert workload_status.with_status({"kind": "Service", "metadata": {}, "spec": {}}, cluster(), []) == []
    pod = {"kind": "Pod", "metadata": {"name": "a", "namespace": "default"}, "spec": {"containers": []}}
    assert workload_status.with_status(pod, cluster(), []) == []


def test_the_labs_own_objects_are_read() -> None:
    web = thing("Deployment", replicas=1)
    shop = {"kind": "Namespace", "metadata": {"name": "shop", "labels": {"a": "b"}}}
    state = {
        "cluster": cluster().to_dict(),
        "nodes": [],
        "pods": [{"pod": pod, "status": pod["status"]} for pod in pods_of(web, READY)[:1]],
        "objects": {"objects": [{"object": one, "created": CREATED} for one in (web, shop)]},
    }
    assert [item["kind"] for kind in objects.ALL[2:] for item in objects.of_kind(kind, state)] == [
        "Deployment",
        "ReplicaSet",
    ]
    every = objects.of_kind("namespaces", state)
    assert [item["metadata"]["name"] for item in every] == [
        *("default", "kube-node-lease", "kube-public", "kube-system", "shop"),
    ]
    assert printers.table("namespaces", every, NOW)[-1] == ["shop", "Active", "4m"]
    assert objects.of_kind("deployments", {**state, "cluster": None}) == []
