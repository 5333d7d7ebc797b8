"""The volumes of a pod's runtime configuration, and where its containers mount them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import quantity


def volume(volume: Mapping[str, Any], pod_memory: int | None, node_memory: int) -> dict[str, Any]:
    """One volume. pod_memory: the pod's memory limit in bytes. node_memory: the machine's."""
    if "hostPath" in volume:
        host_path = volume["hostPath"]
        return {"kind": "hostPath", "path": host_path["path"], "type": host_path.get("type") or ""}
    empty_dir = volume.get("emptyDir") or {}
    medium = empty_dir.get("medium") or ""
    limit = quantity.whole(empty_dir["sizeLimit"]) if empty_dir.get("sizeLimit") is not None else None
    if medium == "Memory":
        limit = min(size for size in (limit, pod_memory, node_memory) if size)
    return {"kind": "emptyDir", "medium": medium, "size": limit}


def mounts(container: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The volume mounts by number of path components, stable, so that /a precedes /a/b (orderedMounts)."""
    mounts = [
        {
            "volume": mount["name"],
            "path": mount["mountPath"],
            "read_only": bool(mount.get("readOnly")),
            "propagation": mount.get("mountPropagation") or "None",
        }
        for mount in container.get("volumeMounts") or []
    ]
    return sorted(mounts, key=lambda mount: len([part for part in mount["path"].split("/") if part]))
