"""Which node a pod runs on: nodeName, nodeSelector, taints, otherwise spread. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .host_ports import NO_FREE_PORTS, HostPort, conflict, host_ports

if TYPE_CHECKING:
    from .cluster import Node

# A taint with this effect is only a wish; podlab spreads without it.
_BINDING_EFFECTS = ("NoSchedule", "NoExecute")


class Occupancy:
    """How many pods each node has, in all and of each owner, and the node's ports that they have."""

    def __init__(self) -> None:
        self._all: dict[str, int] = {}
        self._owned: dict[tuple[str, str], int] = {}
        self._ports: dict[str, list[HostPort]] = {}

    def add(self, node: str, owner: str, spec: Mapping[str, Any]) -> None:
        """Count a pod of this complete spec. owner: UID of its controller, or its own when it has none."""
        self._all[node] = self._all.get(node, 0) + 1
        self._owned[node, owner] = self._owned.get((node, owner), 0) + 1
        self._ports.setdefault(node, []).extend(host_ports(spec))

    def rank(self, node: Node, owner: str) -> tuple[int, int, int]:
        """What a choice is made by, the least first: pods of the same owner, pods, node order."""
        return self._owned.get((node.name, owner), 0), self._all.get(node.name, 0), node.index

    def fault(self, spec: Mapping[str, Any], node: Node) -> str:
        """Why the node has no room for the pod: another one has a port that it wants."""
        port = conflict(host_ports(spec), self._ports.get(node.name, ()))
        return f"{NO_FREE_PORTS} ({port} is taken)" if port else ""


def place(
    spec: Mapping[str, Any], nodes: Sequence[Node], occupancy: Occupancy, owner: str
) -> tuple[str | None, dict[str, str]]:
    """The name of the node for a pod, or None and why each node is out, by node name.

    A pod that names its node goes there past any taint, as no scheduler is asked then.
    """
    wanted = spec.get("nodeName")
    if wanted:
        node = next((node for node in nodes if node.name == wanted), None)
        if node is None:
            return None, {}
        why = _selector_fault(spec, node) or occupancy.fault(spec, node)
        return (None, {wanted: why}) if why else (wanted, {})
    faults = {node.name: why_not(spec, node) or occupancy.fault(spec, node) for node in nodes}
    fitting = [node for node in nodes if not faults[node.name]]
    if not fitting:
        return None, faults
    return min(fitting, key=lambda node: occupancy.rank(node, owner)).name, {}


def why_not(spec: Mapping[str, Any], node: Node) -> str:
    """Why a pod may not go to a node by its nodeSelector and the node's taints; empty when it may."""
    return _selector_fault(spec, node) or _taint_fault(spec, node)


def _selector_fault(spec: Mapping[str, Any], node: Node) -> str:
    for key, value in (spec.get("nodeSelector") or {}).items():
        if key not in node.labels:
            return f"has no label {key} (nodeSelector {key}={value})"
        if node.labels[key] != value:
            return f"has {key}={node.labels[key]}, not {value} (nodeSelector)"
    return ""


def _taint_fault(spec: Mapping[str, Any], node: Node) -> str:
    for taint in node.taints:
        if taint["effect"] in _BINDING_EFFECTS and not tolerates(spec.get("tolerations") or [], taint):
            value = f"={taint['value']}" if taint.get("value") else ""
            return f"has the taint {taint['key']}{value}:{taint['effect']}, which the pod does not tolerate"
    return ""


def tolerates(tolerations: Sequence[Mapping[str, Any]], taint: Mapping[str, str]) -> bool:
    """True when one of the tolerations matches the taint (k8s component-helpers, ToleratesTaint)."""
    return any(_matches(toleration, taint) for toleration in tolerations)


def _matches(toleration: Mapping[str, Any], taint: Mapping[str, str]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if (toleration.get("operator") or "Equal") == "Exists":
        return True
    return (toleration.get("value") or "") == (taint.get("value") or "")
