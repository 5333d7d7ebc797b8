"""The volumes of a pod's runtime configuration, and where its containers mount them. Pure.

A volume is one of
{"kind": "hostPath", "path", "type"},
{"kind": "emptyDir", "medium": "" or "Memory", "size": bytes or None, "fs_group": number or None},
{"kind": "projected", "parts", "memory": on a tmpfs, "size", "fs_group"}: configMap, secret, downwardAPI and projected.
A part is {"object": "ConfigMap/NAME" or "Secret/NAME", "items": [{"key", "path", "mode"}], "mode", "optional"} (without
items: all keys), or {"fields": [{"path", "mode", and "field" or "value"}]}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from . import envspec, quantity


class Around(NamedTuple):
    """What the volumes of a pod have in common.

    pod: the complete Pod object. memory: the pod's memory limit in bytes. capacity: of the node.
    """

    pod: Mapping[str, Any]
    memory: int | None
    capacity: envspec.Capacity


def volume(volume: Mapping[str, Any], around: Around) -> dict[str, Any]:
    """One volume."""
    if "hostPath" in volume:
        host_path = volume["hostPath"]
        return {"kind": "hostPath", "path": host_path["path"], "type": host_path.get("type") or ""}
    group = (around.pod["spec"].get("securityContext") or {}).get("fsGroup")
    if "emptyDir" not in volume:
        # Like the kubelet's: what may be secret is never on a disk. It counts against the same limit as an emptyDir.
        memory = "configMap" not in volume
        size = _memory_size(None, around) if memory else None
        parts = _parts(volume, around)
        return {"kind": "projected", "parts": parts, "memory": memory, "size": size, "fs_group": group}
    empty_dir = volume.get("emptyDir") or {}
    medium = empty_dir.get("medium") or ""
    limit = quantity.whole(empty_dir["sizeLimit"]) if empty_dir.get("sizeLimit") is not None else None
    if medium == "Memory":
        limit = _memory_size(limit, around)
    return {"kind": "emptyDir", "medium": medium, "size": limit, "fs_group": group}


def _memory_size(limit: int | None, around: Around) -> int:
    """Size of a tmpfs: the least of its limit, the pod's and what the node has (calculateEmptyDirMemorySize)."""
    return min(size for size in (limit, around.memory, around.capacity.memory) if size)


def _parts(volume: Mapping[str, Any], around: Around) -> list[dict[str, Any]]:
    if "projected" in volume:
        mode = volume["projected"].get("defaultMode", 0o644)
        return [_part(source, mode, around) for source in volume["projected"].get("sources") or []]
    source = next(volume[key] for key in ("configMap", "secret", "downwardAPI") if key in volume)
    return [_part(volume, source.get("defaultMode", 0o644), around)]


def _part(source: Mapping[str, Any], mode: int, around: Around) -> dict[str, Any]:
    if "downwardAPI" in source:
        return {"fields": [_field(item, mode, around) for item in source["downwardAPI"].get("items") or []]}
    key, kind = ("configMap", "ConfigMap") if "configMap" in source else ("secret", "Secret")
    inner = source[key]
    return {
        "object": f"{kind}/{inner.get('name') or inner.get('secretName')}",
        "items": [
            {"key": item["key"], "path": item["path"], "mode": item.get("mode", mode)}
            for item in inner.get("items") or []
        ],
        "mode": mode,
        "optional": bool(inner.get("optional")),
    }


def _field(item: Mapping[str, Any], mode: int, around: Around) -> dict[str, Any]:
    made = {"path": item["path"], "mode": item.get("mode", mode)}
    if "fieldRef" in item:
        return {**made, "field": item["fieldRef"]["fieldPath"]}
    own = around.pod["spec"]["containers"][0]
    return {**made, "value": envspec.resource_value(item["resourceFieldRef"], around.pod, own, around.capacity)}


def mounts(container: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The volume mounts by number of path components, stable, so that /a precedes /a/b (orderedMounts)."""
    mounts = [
        {
            "volume": mount["name"],
            "path": mount["mountPath"],
            "read_only": bool(mount.get("readOnly")),
            "recursive_read_only": mount.get("recursiveReadOnly") or "Disabled",
            "propagation": mount.get("mountPropagation") or "None",
            "sub_path": mount.get("subPath") or "",
            "sub_path_expr": mount.get("subPathExpr") or "",
        }
        for mount in container.get("volumeMounts") or []
    ]
    return sorted(mounts, key=lambda mount: len([part for part in mount["path"].split("/") if part]))
