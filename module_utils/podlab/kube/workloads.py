"""What pods each object wants: Pod, Deployment, ReplicaSet, DaemonSet, StatefulSet, Job. Names and UIDs never vary.

Sources: k8s pkg/controller/{deployment,replicaset,daemon,statefulset,job}.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import defaults, job_indexes, jobs, names, scheduler
from .removal import Existing, survivors

if TYPE_CHECKING:
    from .cluster import Cluster

Object = Mapping[str, Any]


class Owner(NamedTuple):
    """The wish of one object.

    source: the object of the store. reference: the ownerReference of its pods, None for a bare Pod.
    fixed: the pods it wants by name. replicas, make: or a number of pods, and how to make the one called so (of a Job:
    which one, see jobs.Creation; how many says jobs.decide). stem: what those names begin with.
    """

    source: Object
    reference: Object | None
    fixed: tuple[dict[str, Any], ...] = ()
    replicas: int = 0
    stem: str = ""
    make: Callable[..., dict[str, Any]] | None = None

    @property
    def uid(self) -> str:
        """The controller's UID, or the bare pod's own."""
        return str((self.reference or self.fixed[0]["metadata"])["uid"])


class Past(NamedTuple):
    """What a Job's next turn depends on beside its pods.

    jobs: by UID what is remembered, {"created": of the Job's object, "status"}. now: seconds since the epoch.
    """

    jobs: Mapping[str, Any] = {}
    now: float = 0.0

    def status(self, uid: str, created: str | None) -> dict[str, Any]:
        """The status so far of a Job; that of another one of the same name, which is gone, is not its own."""
        record = self.jobs.get(uid) or {}
        return dict(record["status"]) if created and record.get("created") == created else {}


NO_PAST = Past()
_PLAIN = jobs.Creation()


def known(entry: Object) -> Object:
    """The object of a store's entry; a Job with the time when it came, which tells it from one before it."""
    thing: Object = entry["object"]
    if thing["kind"] != "Job":
        return thing
    return {**thing, "metadata": {**thing["metadata"], "creationTimestamp": entry.get("created")}}


def owner_of(thing: Object, cluster: Cluster) -> Owner | None:
    """What an object of the store wants; None when it wants no pod."""
    expand = _EXPAND.get(thing["kind"])
    return expand(thing, cluster) if expand else None


def keep(
    owner: Owner, existing: Sequence[Existing], past: Past = NO_PAST
) -> tuple[list[Existing], list[dict[str, Any]]]:
    """Which of the existing pods stay, and which new ones are made.

    existing: every pod that is there, of whatever owner; those of nodes that are gone left out.
    """
    if owner.make is None:
        return _keep_by_name(owner, existing)
    own = [item for item in existing if item.owner == owner.uid]
    namespace = owner.source["metadata"]["namespace"]
    used = {i.pod["metadata"]["name"] for i in existing if i.pod["metadata"]["namespace"] == namespace}
    if owner.source["kind"] == "Job":
        decision = turn(owner, own, past)
        kept = [item for item in own if not item.leaving and item.pod["metadata"]["uid"] not in decision.delete]
        return kept, _make_for_job(owner, decision.create, used)
    kept = survivors([item for item in own if not item.leaving and not item.ended], owner.replicas)
    free = (name for name in _stem_names(owner) if name not in used)
    return kept, [owner.make(name) for name in itertools.islice(free, owner.replicas - len(kept))]


def turn(owner: Owner, own: Sequence[Existing], past: Past) -> jobs.Decision:
    """What the Job controller would do now. own: the Job's pods."""
    created = owner.source["metadata"].get("creationTimestamp")
    return jobs.decide(owner.source, past.status(owner.uid, created), own, past.now)


def _make_for_job(owner: Owner, wanted: Iterable[jobs.Creation], used: set[str]) -> list[dict[str, Any]]:
    assert owner.make is not None
    taken, made = set(used), []
    for creation in wanted:
        name = next(name for name in _stem_names(owner, creation.completion) if name not in taken)
        taken.add(name)
        made.append(owner.make(name, creation))
    return made


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


def _stem_names(owner: Owner, index: int | None = None) -> Iterable[str]:
    """Names without end, always the same ones. index: the completion index, which they show."""
    for number in itertools.count():
        if index is None:
            yield names.generated(owner.stem, names.suffix(owner.uid, number))
        else:
            ending = f"{index}-{names.suffix(owner.uid, index, number)}"
            yield names.generated(owner.stem, ending)


# ---- the kinds ----


def _pod(
    cluster: Cluster, template: Object, name: str, namespace: str, reference: Object | None, **more: Any
) -> dict[str, Any]:
    """A complete Pod object. more: labels and annotations to add, spec to overlay."""
    source = template.get("metadata") or {}
    spec = defaults.pod_spec({**template["spec"], **more.get("spec", {})})
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "uid": names.uid(cluster.name, namespace, name, (reference or {}).get("uid"), spec),
        "labels": {**(source.get("labels") or {}), **more.get("labels", {})},
        "annotations": {**(source.get("annotations") or {}), **more.get("annotations", {})},
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

    def make(pod_name: str, creation: jobs.Creation = _PLAIN) -> dict[str, Any]:
        if creation.completion is None:
            return _pod(cluster, spec["template"], pod_name, namespace, reference, labels=labels)
        mark = {job_indexes.INDEX: str(creation.completion)}
        more = {
            "labels": {**labels, **mark},
            "annotations": {**mark, **dict(creation.annotations)},
            "spec": {**_indexed(spec["template"]["spec"]), "hostname": f"{name}-{creation.completion}"},
        }
        return _pod(cluster, spec["template"], pod_name, namespace, reference, **more)

    return Owner(thing, reference, stem=name, make=make)


def _indexed(spec: Object) -> dict[str, Any]:
    """The containers with JOB_COMPLETION_INDEX, where a manifest does not say it itself."""
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{job_indexes.INDEX}']"}}
    entry = {"name": "JOB_COMPLETION_INDEX", "valueFrom": source}

    def known(container: Object) -> dict[str, Any]:
        env = list(container.get("env") or [])
        there = any(each["name"] == entry["name"] for each in env)
        return {**container, "env": env if there else [*env, entry]}

    return {key: [known(each) for each in spec[key]] for key in ("initContainers", "containers") if spec.get(key)}


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
