"""A lab's state as Kubernetes objects, and the choice among them by name, namespace and label."""

from __future__ import annotations

import difflib
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, NamedTuple

from ..errors import PodlabError
from ..kube import endpoints_v1, workload_status
from ..kube.cluster import Cluster
from ..kube.manifests import NAMESPACES
from ..kube.printers import CLUSTER_WIDE
from ..kube.times import rfc3339
from ..kube.workloads import Past
from .selector import Requirement, matches, parse

DEFAULT_NAMESPACE = "default"

# Every name that kubectl takes for a kind that `get` shows.
KINDS = {
    "pods": ("pods", "pod", "po"),
    "nodes": ("nodes", "node", "no"),
    "services": ("services", "service", "svc"),
    "endpoints": ("endpoints", "endpoint", "ep"),
    "endpointslices": ("endpointslices", "endpointslice", "endpointslices.discovery.k8s.io"),
    "deployments": ("deployments", "deployment", "deploy", "deployments.apps"),
    "replicasets": ("replicasets", "replicaset", "rs", "replicasets.apps"),
    "daemonsets": ("daemonsets", "daemonset", "ds", "daemonsets.apps"),
    "statefulsets": ("statefulsets", "statefulset", "sts", "statefulsets.apps"),
    "jobs": ("jobs", "job", "jobs.batch"),
    "configmaps": ("configmaps", "configmap", "cm"),
    "secrets": ("secrets", "secret"),
    "namespaces": ("namespaces", "namespace", "ns"),
}
SINGULAR = {
    "pods": "pod",
    "nodes": "node",
    "services": "service",
    "endpoints": "endpoints",
    "endpointslices": "endpointslice.discovery.k8s.io",
    "deployments": "deployment.apps",
    "replicasets": "replicaset.apps",
    "daemonsets": "daemonset.apps",
    "statefulsets": "statefulset.apps",
    "jobs": "job.batch",
    "configmaps": "configmap",
    "secrets": "secret",
    "namespaces": "namespace",
}


# What kubectl calls all, as far as a lab has it.
ALL = ("pods", "services", "daemonsets", "deployments", "replicasets", "statefulsets", "jobs")


class Choice(NamedTuple):
    """Which objects: all of these must hold."""

    names: tuple[str, ...] = ()
    namespace: str = DEFAULT_NAMESPACE
    all_namespaces: bool = False
    selector: tuple[Requirement, ...] = ()


def kind_of(word: str) -> str:
    """The kind that the word names. Raises PodlabError with the words there are."""
    for kind, words in KINDS.items():
        if word.lower() in words:
            return kind
    raise PodlabError(f"get: {word!r} is not a kind that podlab shows. Use one of: {', '.join(KINDS)}")


def kinds_of(word: str) -> tuple[str, ...]:
    """The kinds that the word names: one, or those of "all". Raises PodlabError with the words there are."""
    return ALL if word.lower() == "all" else (kind_of(word),)


def near(name: str, names: Iterable[str]) -> str:
    """ " Did you mean a?", when the name is the beginning of some of the names, or much like one; else empty."""
    every = sorted(set(names))
    found = [one for one in every if name and one.startswith(name)] or difflib.get_close_matches(name, every, 3)
    return f" Did you mean {' or '.join(found[:3])}?" if found else ""


def choice(words: Sequence[str], namespace: str, all_namespaces: bool, selector: str) -> Choice:
    """What `get KIND [NAME...] -n -A -l` asks for. Raises PodlabError when its parts exclude each other."""
    if words and all_namespaces:
        raise PodlabError("a resource cannot be retrieved by name across all namespaces: take -A or the name away")
    if words and selector:
        raise PodlabError("name cannot be provided when a selector is specified: take -l or the name away")
    return Choice(tuple(words), namespace or DEFAULT_NAMESPACE, all_namespaces, parse(selector))


def choose(kind: str, objects: Iterable[Mapping[str, Any]], wanted: Choice) -> list[Mapping[str, Any]]:
    """The objects that are wanted, in their order (by name: in the order of the names).

    Raises PodlabError for a name that is not there.
    """
    every = list(objects)
    everywhere = wanted.all_namespaces or kind in CLUSTER_WIDE
    found = [
        item
        for item in every
        if (everywhere or item["metadata"].get("namespace", DEFAULT_NAMESPACE) == wanted.namespace)
        and matches(wanted.selector, item["metadata"].get("labels") or {})
    ]
    if not wanted.names:
        return found
    by_name = {item["metadata"]["name"]: item for item in found}
    missing = [name for name in wanted.names if name not in by_name]
    if missing:
        where = "" if kind in CLUSTER_WIDE else f" in namespace {wanted.namespace}"
        lines = [f'{kind} "{name}" not found{where}{_hint(name, by_name, every)}' for name in missing]
        stop = "" if lines[-1].endswith("?") else "."
        raise PodlabError("\n".join(lines) + f"{stop} See what is there with ./lab get {kind}{_all(kind)}")
    return [by_name[name] for name in wanted.names]


def _hint(name: str, here: Iterable[str], every: Iterable[Mapping[str, Any]]) -> str:
    """What was probably meant by a name that is not here: it in another namespace, or another name."""
    homes = sorted(item["metadata"].get("namespace", "") for item in every if item["metadata"]["name"] == name)
    meant = near(name, here)
    return f", but in {', '.join(homes)}: -n {homes[0]}" if homes else f".{meant}" if meant else ""


def _all(kind: str) -> str:
    return "" if kind in CLUSTER_WIDE else " -A"


def of_kind(kind: str, state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every object of a kind of KINDS in a lab's state, in the API server's order: by namespace and name."""
    found = READERS[kind](state)
    if kind == "nodes":
        return found
    return sorted(found, key=lambda item: (item["metadata"].get("namespace", ""), item["metadata"]["name"]))


def pods(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """v1 Pods with their status."""
    return [{**item["pod"], "status": item["status"]} for item in state["pods"]]


def nodes(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """v1 Nodes: those of the cluster, Ready while their pause process runs; also one that is not made yet."""
    made = {record["name"]: record for record in state["nodes"]}
    planned = [node for node in (state.get("cluster") or {}).get("nodes", []) if node["name"] not in made]
    return [_node(record) for record in [*made.values(), *planned]]


def _node(record: Mapping[str, Any]) -> dict[str, Any]:
    alive = bool(record.get("alive"))
    metadata: dict[str, Any] = {"name": record["name"], "labels": dict(record.get("labels") or {})}
    if record.get("start"):
        metadata["creationTimestamp"] = rfc3339(boot_time() + record["start"] / os.sysconf("SC_CLK_TCK"))
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": metadata,
        "spec": {
            "podCIDR": record["pod_cidr"],
            "podCIDRs": [record["pod_cidr"]],
            "taints": [dict(taint) for taint in record.get("taints") or []],
        },
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": record["address"]},
                {"type": "Hostname", "address": record["name"]},
            ],
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True" if alive else "False",
                    "reason": "NodeRunning" if alive else "NodeGone",
                    "message": "its pause process runs" if alive else "its pause process is gone: ./lab up",
                }
            ],
            "nodeInfo": {
                "architecture": platform.machine(),
                "containerRuntimeVersion": "podlab",
                "kernelVersion": platform.release(),
                "operatingSystem": "linux",
                "osImage": os_image(),
            },
        },
    }


def services(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """v1 Services as they are on the nodes."""
    return list(state["services"].get("services") or [])


def endpoints(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """v1 Endpoints, put together from the EndpointSlices of each Service."""
    return endpoints_v1.endpoints(state["services"].get("endpointslices") or [])


def endpoint_slices(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """discovery.k8s.io/v1 EndpointSlices: as they are on the nodes, and the lab's objects that name no Service."""
    on_nodes = list(state["services"].get("endpointslices") or [])
    known = {(piece["metadata"].get("namespace"), piece["metadata"]["name"]) for piece in on_nodes}
    others = [
        {**thing, "metadata": {**thing["metadata"], "creationTimestamp": entry.get("created")}}
        for entry in state["objects"]["objects"]
        for thing in [entry["object"]]
        if thing["kind"] == "EndpointSlice" and (thing["metadata"]["namespace"], thing["metadata"]["name"]) not in known
    ]
    return on_nodes + others


def _workloads(kind: str) -> Callable[[Mapping[str, Any]], list[dict[str, Any]]]:
    """Reader of the lab's objects of a kind that makes pods, with the status that its controller would write."""

    def read(state: Mapping[str, Any]) -> list[dict[str, Any]]:
        applied = [_applied(entry) for entry in state["objects"]["objects"] if entry["object"]["kind"] in WORKLOADS]
        if not applied or not state["cluster"]:
            return []
        cluster, running = Cluster.from_dict(state["cluster"]), pods(state)
        past = Past(state.get("jobs") or {}, time.time())
        made = [one for thing in applied for one in workload_status.with_status(thing, cluster, running, past)]
        return [one for one in made if one["kind"] == kind]

    return read


def _applied(entry: Mapping[str, Any]) -> dict[str, Any]:
    thing = entry["object"]
    return {**thing, "metadata": {**thing["metadata"], "creationTimestamp": entry.get("created")}}


def _stored(kind: str) -> Callable[[Mapping[str, Any]], list[dict[str, Any]]]:
    """Reader of the lab's objects of a kind that nobody does anything to."""

    def read(state: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [_applied(entry) for entry in state["objects"]["objects"] if entry["object"]["kind"] == kind]

    return read


def namespaces(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """v1 Namespaces: those that every cluster has, as old as its first node, and the lab's own."""
    born = min((node["metadata"].get("creationTimestamp") or "~" for node in nodes(state)), default="~")
    found = {name: {"name": name, "creationTimestamp": None if born == "~" else born} for name in NAMESPACES}
    for entry in state["objects"]["objects"]:
        if entry["object"]["kind"] == "Namespace":
            metadata = _applied(entry)["metadata"]
            found[metadata["name"]] = {**found.get(metadata["name"], {}), **metadata}
    spec, status = {"finalizers": ["kubernetes"]}, {"phase": "Active"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": one, "spec": spec, "status": status}
        for one in found.values()
    ]


WORKLOADS = ("Deployment", "ReplicaSet", "DaemonSet", "StatefulSet", "Job")
READERS = {
    "pods": pods,
    "nodes": nodes,
    "services": services,
    "endpoints": endpoints,
    "endpointslices": endpoint_slices,
    **{f"{kind.lower()}s": _workloads(kind) for kind in WORKLOADS},
    "configmaps": _stored("ConfigMap"),
    "secrets": _stored("Secret"),
    "namespaces": namespaces,
}


def boot_time() -> float:
    """When the machine started, in seconds since the epoch (/proc/stat, btime)."""
    with open("/proc/stat", encoding="ascii") as file:
        return next(float(line.split()[1]) for line in file if line.startswith("btime "))


def os_image() -> str:
    """The system's name as os-release(5) has it; "" when it has none."""
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""
