"""What a pod takes from ConfigMaps, Secrets and its own metadata, as its supervisor finds it: sources.json. Pure.

{"ConfigMap/NAME": {"data", "binaryData"}, "Secret/NAME": {"data"}, "metadata": {...}}: what there is of each object
that the pod names, base64 where the object has it so; an object that is not there has no key. "metadata" is there for
downwardAPI volumes and for variables of labels and annotations. A container takes its environment from it at each
start, a volume whenever the file changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from . import fieldrefs

Objects = Mapping[tuple[str, str, str], Mapping[str, Any]]
_FIELDS = {"ConfigMap": ("data", "binaryData"), "Secret": ("data",)}
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
METADATA = ("name", "namespace", "uid", "labels", "annotations")


def of_pod(pod: Mapping[str, Any], objects: Objects) -> dict[str, Any]:
    """sources.json of a pod. objects: the ConfigMaps and Secrets that there are, by (kind, namespace, name)."""
    spec, metadata = pod["spec"], pod["metadata"]
    made: dict[str, Any] = {}
    for kind, name in sorted(set(_named(spec))):
        thing = objects.get((kind, metadata["namespace"], name))
        if thing is not None:
            made[f"{kind}/{name}"] = {field: dict(thing[field]) for field in _FIELDS[kind] if thing.get(field)}
    if any(_shows_metadata(volume) for volume in spec.get("volumes") or []) or _env_of_metadata(spec):
        made["metadata"] = {key: metadata[key] for key in METADATA if metadata.get(key)}
    return made


def _named(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Kind and name of every ConfigMap and Secret that a pod's spec names."""
    for group in _CONTAINERS:
        for container in spec.get(group) or []:
            for entry in container.get("envFrom") or []:
                yield from _both(entry, "configMapRef", "secretRef")
            for entry in container.get("env") or []:
                yield from _both(entry.get("valueFrom") or {}, "configMapKeyRef", "secretKeyRef")
    for volume in spec.get("volumes") or []:
        for source in (volume, *((volume.get("projected") or {}).get("sources") or [])):
            yield from _both(source, "configMap", "secret")


def _both(thing: Mapping[str, Any], config_map: str, secret: str) -> Iterator[tuple[str, str]]:
    for key, kind in ((config_map, "ConfigMap"), (secret, "Secret")):
        reference = thing.get(key) or {}
        # A Secret volume says secretName, everything else name.
        name = reference.get("name") or reference.get("secretName")
        if name:
            yield kind, name


def _env_of_metadata(spec: Mapping[str, Any]) -> bool:
    """Whether a variable is a label or an annotation of the pod."""
    entries = [e for group in _CONTAINERS for each in spec.get(group) or [] for e in each.get("env") or []]
    paths = (((entry.get("valueFrom") or {}).get("fieldRef") or {}).get("fieldPath") or "" for entry in entries)
    return any(fieldrefs.may_change(path) for path in paths)


def _shows_metadata(volume: Mapping[str, Any]) -> bool:
    parts = (volume.get("projected") or {}).get("sources") or []
    return "downwardAPI" in volume or any("downwardAPI" in part for part in parts)
