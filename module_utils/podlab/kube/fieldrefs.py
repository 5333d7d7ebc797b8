"""The downward API: fields of a pod as environment variables take them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cluster import Node

# The fields whose value is known only when the pod runs; env.container_env() takes them from its facts.
LATE = ("status.podIP", "status.podIPs")


def may_change(path: str) -> bool:
    """Whether the field is a label or an annotation: those change while a pod is there."""
    return path.startswith(("metadata.labels[", "metadata.annotations["))


def value(path: str, pod: Mapping[str, Any], node: Node) -> str:
    """The value of a downward API field that is known before the pod runs."""
    metadata, spec = pod["metadata"], pod["spec"]
    plain = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": node.name,
        "spec.serviceAccountName": spec.get("serviceAccountName") or "default",
        "status.hostIP": node.address,
        "status.hostIPs": node.address,
    }
    if path in plain:
        return str(plain[path])
    kind, _, key = path[:-2].partition("['")
    table = metadata.get(kind.partition(".")[2]) or {}
    return str(table.get(key, ""))
