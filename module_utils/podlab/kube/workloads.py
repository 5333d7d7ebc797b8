"""What pods each object wants: Pod, Deployment, ReplicaSet, DaemonSet, StatefulSet, Job. Names and UIDs never vary.

Sources: k8s pkg/controller/{deployment,replicaset,daemon,statefulset,job}, controller_utils.go (the order of removal).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import defaults, names, scheduler

if TYPE_CHECKING:
    from .cluster import Cluster

Object = Mapping[str, Any]


class Owner(NamedTuple):
    """The wish of one object.

    source: the object of the store. reference: the ownerReference of its pods, None for a bare Pod.
    fixed: the pods it wants by name. replicas, make: or a number of pods, and how to make the one called so.
    stem: what those names begin with. rerun: a pod that ended counts as one less (ReplicaSet), or does not (Job).
    """

    source: Object
    reference: Object | None
    fixed: tuple[dict[str, Any], ...] = ()
    replicas: int = 0
    stem: str = ""
    make: Callable[[str], dict[str, Any]] | None = None
    rerun: bool = True

    @property
    def uid(self) -> str:
        """The controller's UID, or the bare pod's own."""
        return str((self.reference or self.fixed[0]["metadata"])["uid"])


class Existing(NamedTuple):
    """A pod that is there, with its status."""

    pod: dict[str, Any]
    status: Object

    @property
    def owner(self) -> str:
        """UID of the controller, or of the pod itself."""
        references = self.pod["metadata"].get("ownerReferences") or [self.pod["metadata"]]
        return str(references[0]["uid"])

    @property
    def leaving(self) -> bool:
        """True when it is being deleted."""
        return bool(self.pod["metadata"].get("deletionTimestamp"))

    @property
    def ended(self) -> bool:
        """True when none of its containers will run again."""
        return self.status.get("phase") in ("Succeeded", "Failed")


def owner_of(thing: Object, cluster: Cluster) -> Owner | None:
    """What an object of the store wants; None when it wants no pod."""
    expand = _EXPAND.get(thing["kind"])
    return expand(thing, cluster) if expand else None


def keep(owner: Owner, existing: Sequence[Existing]) -> tuple[list[Existing], list[dict[str, Any]]]:
    """Which of the existing pods stay, and which new ones are made.

    existing: every pod that is there, of whatever owner; those of nodes that are gone left out.
    """
    if owner.make is None:
        return _keep_by_name(owner, existing)
    own = [item for item in existing if item.owner == owner.uid and not item.leaving]
    own = [item for item in own if not (owner.rerun and item.ended)]
    kept = _survivors(own, owner.replicas)
    namespace = owner.source["metadata"]["namespace"]
    used = {i.pod["metadata"]["name"] for i in existing if i.pod["metadata"]["namespace"] == namespace}
    free = (name for name in _stem_names(owner) if name not in used)
    return kept, [owner.make(name) for name in itertools.islice(free, owner.replicas - len(kept))]


def _keep_by_name(owner: Owner, existing: Sequence[Existing]) -> tuple[list[Existing], list[dict[str, Any]]]:
    there = {item.pod["metadata"]["uid"]: item for item in existing}
    kept, new = [], []
    for pod in owner.fixed:
        item = there.get(pod["metadata"]["uid"])
        if item is None:
            new.append(pod)
            continue
        # Labels and annotations may change while a pod runs; its place may not.
        kept.append(item._replace(pod={**item.pod, "metadata": pod["metadata"]}))
    return kept, new


def _stem_names(owner: Owner) -> Iterable[str]:
    for number in itertools.count():
        yield names.generated(owner.stem, names.suffix(owner.uid, number))


# ---- the order of removal ----

_PHASES = {"Pending": 0, "Unknown": 1}
_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


def _survivors(own: list[Existing], count: int) -> list[Existing]:
    """The pods that stay when only `count` may: the ReplicaSet controller's order of removal (ActivePodsWithRanks)."""
    if len(own) <= count:
        return own
    by_name = sorted(own, key=lambda item: str(item.pod["metadata"]["name"]), reverse=True)
    youngest = sorted(by_name, key=lambda item: str(item.status.get("startTime") or "9"), reverse=True)
    crowd: dict[str, int] = {}
    for item in own:
        node = str(item.pod["spec"]["nodeName"])
        crowd[node] = crowd.get(node, 0) + 1

    def removal(item: Existing) -> tuple[int, ...]:
        restarts = sum(c.get("restartCount", 0) for c in item.status.get("containerStatuses") or [])
        return (
            1 if item.ended else 0,
            _PHASES.get(str(item.status.get("phase", "Pending")), 2),
            1 if _ready(item.status) else 0,
            _cost(item.pod),
            -crowd[str(item.pod["spec"]["nodeName"])],
            -restarts,
        )

    last = sorted(youngest, key=removal)[len(own) - count :]
    return [item for item in own if item in last]


def _ready(status: Object) -> bool:
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or [])


def _cost(pod: Object) -> int:
    try:
        return int((pod["metadata"].get("annotations") or {}).get(_DELETION_COST, 0))
    except ValueError:
        return 0


# ---- the kinds ----


def _pod(
    cluster: Cluster, template: Object, name: str, namespace: str, reference: Object | None, **more: Any
) -> dict[str, Any]:
    """A complete Pod object. more: labels to add, spec to overlay."""
    source = template.get("metadata") or {}
    spec = defaults.pod_spec({**template["spec"], **more.get("spec", {})})
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "uid": names.uid(cluster.name, namespace, name, (reference or {}).get("uid"), spec),
        "labels": {**(source.get("labels") or {}), **more.get("labels", {})},
        "annotations": dict(source.get("annotations") or {}),
    }
    if reference is not None:
        metadata["ownerReferences"] = [dict(reference)]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _reference(thing: Object, cluster: Cluster, name: str, kind: str, *more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1" if kind != "Job" else "batch/v1",
        "kind": kind,
        "name": name,
        "uid": names.uid(cluster.name, thing["metadata"]["namespace"], kind, name, *more),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _bare_pod(thing: Object, cluster: Cluster) -> Owner:
    metadata = thing["metadata"]
    return Owner(thing, None, (_pod(cluster, thing, metadata["name"], metadata["namespace"], None),))


def _replicas(thing: Object, cluster: Cluster, name: str, labels: Mapping[str, str]) -> Owner:
    reference = _reference(thing, cluster, name, "ReplicaSet")
    namespace, template = thing["metadata"]["namespace"], thing["spec"]["template"]

    def make(pod_name: str) -> dict[str, Any]:
        return _pod(cluster, template, pod_name, namespace, reference, labels=labels)

    return Owner(thing, reference, replicas=thing["spec"].get("replicas", 1), stem=name, make=make)


def _deployment(thing: Object, cluster: Cluster) -> Owner:
    template_hash = names.template_hash(thing["spec"]["template"])
    name = f"{thing['metadata']['name']}-{template_hash}"
    return _replicas(thing, cluster, name, {"pod-template-hash": template_hash})


def _replica_set(thing: Object, cluster: Cluster) -> Owner:
    return _replicas(thing, cluster, thing["metadata"]["name"], {})


def _job(thing: Object, cluster: Cluster) -> Owner:
    """A Job whose template changes is another Job: it runs again. (The API server would refuse the change.)"""
    name, namespace, spec = thing["metadata"]["name"], thing["metadata"]["namespace"], thing["spec"]
    reference = _reference(thing, cluster, name, "Job", spec["template"])
    labels = {
        "batch.kubernetes.io/controller-uid": reference["uid"],
        "batch.kubernetes.io/job-name": name,
        "controller-uid": reference["uid"],
        "job-name": name,
    }

    def make(pod_name: str) -> dict[str, Any]:
        return _pod(cluster, spec["template"], pod_name, namespace, reference, labels=labels)

    count = spec.get("completions", spec.get("parallelism", 1))
    return Owner(thing, reference, replicas=count, stem=name, make=make, rerun=False)


def _stateful_set(thing: Object, cluster: Cluster) -> Owner:
    metadata, spec = thing["metadata"], thing["spec"]
    revision = f"{metadata['name']}-{names.template_hash(spec['template'])}"
    reference = _reference(thing, cluster, metadata["name"], "StatefulSet")
    pods = []
    for number in range(spec.get("replicas", 1)):
        name = f"{metadata['name']}-{number}"
        labels = {
            "apps.kubernetes.io/pod-index": str(number),
            "controller-revision-hash": revision,
            "statefulset.kubernetes.io/pod-name": name,
        }
        identity = {"hostname": name, "subdomain": spec.get("serviceName") or ""}
        pods.append(
            _pod(cluster, spec["template"], name, metadata["namespace"], reference, labels=labels, spec=identity)
        )
    return Owner(thing, reference, tuple(pods))


# What the DaemonSet controller adds to the tolerations of its pods (daemon/util/daemonset_util.go).
_DAEMON_TOLERATIONS = tuple(
    {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": effect}
    for key, effect in (
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    )
)


def _daemon_set(thing: Object, cluster: Cluster) -> Owner:
    metadata, template = thing["metadata"], thing["spec"]["template"]
    revision = names.template_hash(template)
    reference = _reference(thing, cluster, metadata["name"], "DaemonSet")
    tolerations = [*(template["spec"].get("tolerations") or []), *_DAEMON_TOLERATIONS]
    spec = {**template["spec"], "tolerations": tolerations}
    pods = []
    for node in cluster.nodes:
        if spec.get("nodeName") not in (None, node.name) or scheduler.why_not(spec, node):
            continue
        name = names.generated(metadata["name"], names.suffix(reference["uid"], revision, node.name))
        labels = {"controller-revision-hash": revision, "pod-template-generation": "1"}
        here = {"nodeName": node.name, "tolerations": tolerations}
        pods.append(_pod(cluster, template, name, metadata["namespace"], reference, labels=labels, spec=here))
    return Owner(thing, reference, tuple(pods))


_EXPAND: Mapping[str, Callable[[Object, Any], Owner]] = {
    "Pod": _bare_pod,
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "DaemonSet": _daemon_set,
    "StatefulSet": _stateful_set,
    "Job": _job,
}
