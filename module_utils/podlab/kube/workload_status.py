"""Workloads with the status that their controllers would write: how many of their pods there are, and are ready.

After pkg/controller/{deployment,replicaset,daemon,statefulset,job}.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from . import jobs, workloads
from .removal import Existing, ready

if TYPE_CHECKING:
    from .cluster import Cluster

Object = Mapping[str, Any]


class Count(NamedTuple):
    """A workload's pods by state. wanted: how many it wants; there: those that neither ended nor are being deleted."""

    wanted: int
    there: int
    ready: int


def with_status(
    thing: Object, cluster: Cluster, pods: Iterable[Object], past: workloads.Past = workloads.NO_PAST
) -> list[dict[str, Any]]:
    """The workload with its status, and of a Deployment its ReplicaSet, too; none for what is no workload.

    pods: every Pod of the lab with its status. past: what is known of Jobs.
    """
    owner = workloads.owner_of(thing, cluster)
    if owner is None or owner.reference is None:
        return []
    own = [pod for pod in pods if _owner_uid(pod) == owner.uid]
    if thing["kind"] == "Job":
        return [_job(owner, own, past)]
    count = _count(len(owner.fixed) or owner.replicas, own)
    made = {**thing, "status": _STATUS[thing["kind"]](thing, count)}
    if thing["kind"] != "Deployment":
        return [made]
    return [made, _replica_set(thing, owner.reference, count)]


def _owner_uid(pod: Object) -> str:
    references = pod["metadata"].get("ownerReferences") or [{}]
    return str(references[0].get("uid", ""))


def _count(wanted: int, own: Sequence[Object]) -> Count:
    phases = [pod.get("status", {}).get("phase") for pod in own]
    there = [
        pod
        for pod, phase in zip(own, phases)
        if phase not in ("Succeeded", "Failed") and not pod["metadata"].get("deletionTimestamp")
    ]
    return Count(
        wanted,
        len(there),
        sum(ready(pod.get("status", {})) for pod in there),
    )


def _replica_set(thing: Object, reference: Object, count: Count) -> dict[str, Any]:
    """The ReplicaSet of a Deployment's template: nobody applied it, but its pods name it."""
    metadata, spec, name = thing["metadata"], thing["spec"], str(reference["name"])
    template_labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    labels = {**template_labels, "pod-template-hash": name.rpartition("-")[2]}
    about = {key: metadata[key] for key in ("namespace", "creationTimestamp") if key in metadata}
    made = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {**about, "name": name, "uid": reference["uid"], "labels": labels},
        "spec": {"replicas": count.wanted, "selector": {"matchLabels": labels}, "template": spec["template"]},
    }
    return {**made, "status": _replicas(made, count)}


def _replicas(thing: Object, count: Count) -> dict[str, Any]:
    return {"replicas": count.there, "readyReplicas": count.ready, "availableReplicas": count.ready}


def _deployment(thing: Object, count: Count) -> dict[str, Any]:
    """A new template replaces all pods at once: those that are there are up to date."""
    return {**_replicas(thing, count), "updatedReplicas": count.there}


def _daemon_set(thing: Object, count: Count) -> dict[str, Any]:
    return {
        "desiredNumberScheduled": count.wanted,
        "currentNumberScheduled": count.there,
        "updatedNumberScheduled": count.there,
        "numberReady": count.ready,
        "numberAvailable": count.ready,
    }


def _job(owner: workloads.Owner, own: Sequence[Object], past: workloads.Past) -> dict[str, Any]:
    """As the watcher noted it, or would: with what the API server fills in."""
    thing = owner.source
    decision = workloads.turn(owner, [Existing(dict(pod), pod.get("status") or {}) for pod in own], past)
    selector = {"matchLabels": {"batch.kubernetes.io/controller-uid": owner.uid}}
    metadata = {**thing["metadata"], "uid": owner.uid}
    return {
        **thing,
        "metadata": metadata,
        "spec": {**jobs.complete(thing["spec"]), "selector": selector},
        "status": decision.status,
    }


_STATUS: Mapping[str, Callable[[Object, Count], dict[str, Any]]] = {
    "Deployment": _deployment,
    "ReplicaSet": _replicas,
    "StatefulSet": _deployment,
    "DaemonSet": _daemon_set,
}
