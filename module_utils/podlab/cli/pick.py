"""One pod, container or node out of a lab, by the words a person uses."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import PodlabError
from ..kube.podcolumns import TERMINAL
from ..runtime import paths
from .objects import DEFAULT_NAMESPACE, KINDS, near

# What owns pods, by the names kubectl takes.
OWNERS = {
    "Deployment": ("deployment", "deployments", "deploy"),
    "ReplicaSet": ("replicaset", "replicasets", "rs"),
    "StatefulSet": ("statefulset", "statefulsets", "sts"),
    "DaemonSet": ("daemonset", "daemonsets", "ds"),
    "Job": ("job", "jobs"),
}
POD_WORDS = ("pod", "pods", "po")
NODE_WORDS = ("node", "nodes", "no")
# Where a pod's spec has its containers, and its status their statuses.
SPECS = ("containers", "initContainers", "ephemeralContainers")
STATUSES = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


class Picked(NamedTuple):
    """A pod of a lab: object and status, and whether its supervisor runs."""

    pod: Mapping[str, Any]
    status: Mapping[str, Any]
    alive: bool

    @property
    def name(self) -> str:
        return str(self.pod["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.pod["metadata"]["uid"])


def pod(state: Mapping[str, Any], word: str, namespace: str = "") -> Picked:
    """The pod that the word means: its name, a beginning that only one has, pod/NAME, or OWNER/NAME, or service/NAME.

    An owner's or a Service's pods: one that runs, the first by name. Raises PodlabError when none or several fit.
    """
    namespace = namespace or DEFAULT_NAMESPACE
    there = [
        Picked(item["pod"], item["status"], item["alive"])
        for item in state["pods"]
        if item["pod"]["metadata"].get("namespace", DEFAULT_NAMESPACE) == namespace
    ]
    kind, slash, name = word.rpartition("/")
    if slash and kind.lower() in KINDS["services"]:
        return _selected(there, state["services"].get("services") or [], kind, name, namespace)
    if slash and kind not in POD_WORDS:
        return _owned(there, kind, name, namespace)
    exact = [item for item in there if item.name == name]
    found = exact or [item for item in there if name and item.name.startswith(name)]
    if len(found) == 1:
        return found[0]
    if not found:
        others = sorted({item["pod"]["metadata"].get("namespace", "") for item in state["pods"]} - {namespace})
        also = f" (there are pods in {', '.join(others)} too: -n)" if others else ""
        meant = near(name, [item.name for item in there])
        raise PodlabError(
            f'pods "{name}" not found in namespace {namespace}{also}.{meant} See them with ./lab get pods -A'
        )
    raise PodlabError(f"{name!r} is the beginning of {len(found)} pods: {', '.join(item.name for item in found)}")


def _owned(there: Sequence[Picked], kind: str, name: str, namespace: str) -> Picked:
    wanted = next((owner for owner, words in OWNERS.items() if kind.lower() in words), None)
    if wanted is None:
        words = ", ".join(["pod", *(words[0] for words in OWNERS.values()), "service"])
        raise PodlabError(f"{kind}/{name}: {kind!r} has no pods to choose from. Use one of: {words}")
    found = [item for item in there if (wanted, name) in owners(item.pod)]
    if not found:
        meant = near(name, {own for item in there for owner, own in owners(item.pod) if owner == wanted})
        raise PodlabError(f"{kind}/{name} has no pods in namespace {namespace}.{meant} See them with ./lab get pods -A")
    return _first(found)


def _selected(
    there: Sequence[Picked], services: Sequence[Mapping[str, Any]], kind: str, name: str, namespace: str
) -> Picked:
    """A pod that a Service selects. Raises PodlabError when there is no such Service or pod."""
    every = {one["metadata"]["name"]: one for one in services if one["metadata"]["namespace"] == namespace}
    if name not in every:
        meant = near(name, every)
        raise PodlabError(
            f'services "{name}" not found in namespace {namespace}.{meant} See them with ./lab get svc -A'
        )
    selector = every[name]["spec"].get("selector") or {}
    found = [
        item for item in there if selector and selector.items() <= (item.pod["metadata"].get("labels") or {}).items()
    ]
    if not found:
        why = "selects no pod that there is" if selector else "has no selector, so no pods of its own"
        raise PodlabError(
            f"{kind}/{name} in namespace {namespace} {why}. See them with ./lab get pods -A --show-labels"
        )
    return _first(found)


def _first(found: Sequence[Picked]) -> Picked:
    return min(found, key=lambda item: (item.status.get("phase") != "Running", item.name))


def owners(item: Mapping[str, Any]) -> set[tuple[str, str]]:
    """(kind, name) of what the pod belongs to; a Deployment is known by its ReplicaSet's name and hash."""
    metadata = item["metadata"]
    found = {(owner["kind"], owner["name"]) for owner in metadata.get("ownerReferences") or []}
    suffix = "-" + (metadata.get("labels") or {}).get("pod-template-hash", "")
    return found | {("Deployment", name[: -len(suffix)]) for kind, name in found if kind == "ReplicaSet"
                    and suffix != "-" and name.endswith(suffix)}  # fmt: skip


def container(picked: Picked, name: str = "") -> str:
    """The container that is meant: -c, else the default-container annotation, else the first (said on stderr).

    Raises PodlabError for a name that the pod has not.
    """
    spec = picked.pod["spec"]
    regular = [item["name"] for item in spec["containers"]]
    every = [item["name"] for key in SPECS for item in spec.get(key) or []]
    if name:
        if name not in every:
            raise PodlabError(f"container {name} is not valid for pod {picked.name}. It has: {', '.join(every)}")
        return name
    annotated = (picked.pod["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER)
    if annotated in every:
        return str(annotated)
    if len(every) > 1:
        print(f'Defaulted container "{regular[0]}" out of: {", ".join(every)}', file=sys.stderr)
    return str(regular[0])


def container_status(picked: Picked, name: str) -> Mapping[str, Any]:
    """The container's v1.ContainerStatus; empty when it has none yet."""
    for key in STATUSES:
        for item in picked.status.get(key) or []:
            if item["name"] == name:
                return dict(item)
    return {}


def container_spec(picked: Picked, name: str) -> Mapping[str, Any]:
    """The container's part of the pod's spec."""
    spec = picked.pod["spec"]
    every = [item for key in SPECS for item in spec.get(key) or []]
    return next(item for item in every if item["name"] == name)


def running(picked: Picked, name: str, verb: str = "exec into") -> None:
    """Raise PodlabError unless one can do what the verb says with the container now."""
    phase = picked.status.get("phase", "Unknown")
    if phase in TERMINAL:
        raise PodlabError(f"cannot {verb} a container in a completed pod; current phase is {phase}")
    if not picked.alive:
        raise PodlabError(f"pod {picked.name}: its supervisor is gone. Bring it back with ./lab up")
    state = container_status(picked, name).get("state", {})
    if "running" not in state:
        what = state.get("waiting") or state.get("terminated") or {}
        reason = f" ({what['reason']})" if what.get("reason") else ""
        raise PodlabError(f'container "{name}" of pod {picked.name} is not running{reason}. See ./lab get pods')


class Place(NamedTuple):
    """A network namespace of the lab: a node's or a pod's.

    kind: "node" or "pod"; node: the node that it is (on); netns: a path that enters it (linux.netns).
    """

    kind: str
    name: str
    node: str
    netns: str


def place(state: Mapping[str, Any], word: str, namespace: str = "") -> Place:
    """Where the word is: a node by its name (node/NAME works too), else a pod as pod() takes it.

    Raises PodlabError when there is neither, or it does not run.
    """
    kind, _, name = word.rpartition("/")
    record = next((item for item in state["nodes"] if item["name"] == name), None)
    if kind in NODE_WORDS or (record and not kind):
        if record is None:
            there = ", ".join(item["name"] for item in state["nodes"])
            raise PodlabError(f'nodes "{name}" not found. The lab has: {there}')
        if not record["alive"]:
            raise PodlabError(f"node {name} is not running. Bring it back with ./lab up")
        return Place("node", name, name, paths.node_netns(name))
    return pod_place(state, pod(state, word, namespace))


def pod_place(state: Mapping[str, Any], picked: Picked) -> Place:
    """A pod's network namespace, through its pause. Raises PodlabError when the pod does not run."""
    pause = (picked.status.get("podlab") or {}).get("pause", 0)
    home = picked.pod["spec"].get("nodeName", "")
    record = next((item for item in state["nodes"] if item["name"] == home and item["alive"]), None)
    if not pause or not picked.alive or record is None:
        phase = picked.status.get("phase", "Unknown")
        raise PodlabError(f"pod {picked.name} has no network now; current phase is {phase}. See ./lab get pods -A")
    # Pause's pid counts in its node: the node's own /proc knows it.
    return Place("pod", picked.name, home, f"/proc/{record['pid']}/root/proc/{pause}/ns/net")
