"""The rules for volumes and for where they are mounted.

Source: k8s pkg/apis/core/v1/validation/validation.go (validateVolumeSource, validateProjectionSources,
ValidateVolumeMounts, validateMountRecursiveReadOnly).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import configs, env_checks
from .field_checks import absolute, one_of, size
from .schema import Finding, Path, show

_HOST_PATH_TYPES = ("", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice")
_HUGE = "HugePages"
_PROPAGATIONS = ("None", "HostToContainer", "Bidirectional")
_RECURSIVE = ("Disabled", "IfPossible", "Enabled")
# A volume there would let the pod forge what the runtime reads and writes below /proc.
_OWN_MOUNTS = ("/proc", "/sys")
_FIELDS = ("metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations")
_PARTS = ("configMap", "secret", "downwardAPI")
_POLICIES = ("Always", "OnRootMismatch")
_ALL_MODES = 0o777


def volume(thing: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """Every rule for one volume of a pod."""
    sources = [key for key in thing if key != "name"]
    if len(sources) > 1:
        yield Finding(path, f"must be of one type, not of {' and '.join(sources)}")
    for key in sources:
        if key in _RULES:
            yield from _RULES[key](thing[key], (*path, key))


def volumes(spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """Every rule for a pod's volumes."""
    yield from one_of(spec.get("securityContext") or {}, "fsGroupChangePolicy", _POLICIES, (*path, "securityContext"))
    for index, thing in enumerate(spec.get("volumes") or []):
        yield from volume(thing, (*path, "volumes", index))


def _empty_dir(thing: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    medium = thing.get("medium") or ""
    if medium.startswith(_HUGE):
        yield Finding((*path, "medium"), f"podlab does not support {medium}: huge pages are not mounted", "Use Memory")
    elif medium:
        yield from one_of(thing, "medium", ("", "Memory"), path)
    if thing.get("sizeLimit") is not None:
        yield from size(thing["sizeLimit"], (*path, "sizeLimit"))


def _host_path(thing: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    yield from one_of(thing, "type", _HOST_PATH_TYPES, path)
    if "path" in thing:
        yield from absolute(thing["path"], (*path, "path"))


def _config_map(thing: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    yield from env_checks.object_name(thing, "name", path)
    yield from _mode(thing, "defaultMode", path)
    yield from _items(thing.get("items") or [], (*path, "items"))


def _secret(thing: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    yield from env_checks.object_name(thing, "secretName", path)
    yield from _mode(thing, "defaultMode", path)
    yield from _items(thing.get("items") or [], (*path, "items"))


def _items(items: Sequence[Mapping[str, Any]], path: Path) -> Iterator[Finding]:
    for index, item in enumerate(items):
        here = (*path, index)
        if "key" in item and configs.key_fault(item["key"]):
            yield Finding((*here, "key"), f"{configs.key_fault(item['key'])}; it is {show(item['key'])}")
        yield from _file(item, here)


def _file(item: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """Where a file of a volume is: below it, and not at a name that the volume itself uses."""
    yield from _mode(item, "mode", path)
    text = item.get("path")
    if text is None:
        return
    yield from local(text, (*path, "path"))
    if not text:
        yield Finding((*path, "path"), "must not be empty")
    elif text.startswith("..") and ".." not in text.split("/"):
        yield Finding((*path, "path"), f"must not begin with '..', which {show(text)} does")


def local(text: str, path: Path) -> Iterator[Finding]:
    """A path that is relative and does not climb."""
    if text.startswith("/"):
        yield Finding(path, f"must be a relative path, not {show(text)}")
    elif ".." in text.split("/"):
        yield Finding(path, f"must not contain '..', which {show(text)} does")
    elif any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in text):
        yield Finding(path, f"must not contain control characters, which {show(text)} does")


def _mode(thing: Mapping[str, Any], key: str, path: Path) -> Iterator[Finding]:
    mode = thing.get(key)
    if mode is not None and not 0 <= mode <= _ALL_MODES:
        remedy = "YAML 1.1 takes 0644 for octal, JSON and 644 are decimal: it is 420"
        yield Finding((*path, key), f"must be between 0 and 0777 (octal), not {mode}", remedy)


def _downward(thing: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    yield from _mode(thing, "defaultMode", path)
    for index, item in enumerate(thing.get("items") or []):
        here = (*path, "items", index)
        yield from _file(item, here)
        given = [key for key in ("fieldRef", "resourceFieldRef") if key in item]
        if len(given) != 1:
            yield Finding(here, "must have one of fieldRef, resourceFieldRef")
        if "fieldRef" in item:
            yield from env_checks.field(item["fieldRef"], _FIELDS, True, (*here, "fieldRef"))
        if "resourceFieldRef" in item:
            reference = item["resourceFieldRef"]
            yield from env_checks.resource_field(reference, (*here, "resourceFieldRef"))
            if not reference.get("containerName"):
                yield Finding((*here, "resourceFieldRef", "containerName"), "is required in a volume")


def _projected(thing: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    yield from _mode(thing, "defaultMode", path)
    seen: set[str] = set()
    for index, source in enumerate(thing.get("sources") or []):
        here = (*path, "sources", index)
        if len(source) > 1:
            yield Finding(here, f"must be of one type, not of {' and '.join(source)}")
        for key in _PARTS:
            if key not in source:
                continue
            inner = source[key]
            if key != "downwardAPI":
                yield from env_checks.object_name(inner, "name", (*here, key))
                yield from _items(inner.get("items") or [], (*here, key, "items"))
            else:
                yield from _downward(inner, (*here, key))
            for number, item in enumerate(inner.get("items") or []):
                name = item.get("path")
                if name and name in seen:
                    yield Finding((*here, key, "items", number, "path"), f"conflicting duplicate paths: {show(name)}")
                seen.add(name)


_RULES = {
    "emptyDir": _empty_dir,
    "hostPath": _host_path,
    "configMap": _config_map,
    "secret": _secret,
    "downwardAPI": _downward,
    "projected": _projected,
}


def mounts(container: Mapping[str, Any], volumes: Sequence[Any], path: Path) -> Iterator[Finding]:
    """Every rule for a container's volumeMounts. volumes: names of the pod's volumes."""
    seen: dict[str, int] = {}
    for index, mount in enumerate(container.get("volumeMounts") or []):
        here = (*path, "volumeMounts", index)
        name, target = mount.get("name"), mount.get("mountPath")
        if name is not None and name not in volumes:
            near = difflib.get_close_matches(name, [known for known in volumes if known], 1)
            remedy = f"Did you mean {near[0]}?" if near else "Add it to the pod's volumes"
            yield Finding((*here, "name"), f"there is no volume {show(name)}", remedy)
        yield from one_of(mount, "mountPropagation", _PROPAGATIONS, here)
        yield from _sub_path(mount, here)
        yield from _recursive(mount, here)
        if target is not None:
            yield from _mount_path(target, (*here, "mountPath"))
            clean = "/" + "/".join(part for part in target.split("/") if part)
            if clean in seen:
                message = f"{show(target)} is there twice, first at volumeMounts[{seen[clean]}]"
                yield Finding((*here, "mountPath"), message, "Mount one volume at a place")
            seen.setdefault(clean, index)


def _sub_path(mount: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    for key in ("subPath", "subPathExpr"):
        if mount.get(key):
            yield from local(mount[key], (*path, key))
    if mount.get("subPath") and mount.get("subPathExpr"):
        yield Finding((*path, "subPathExpr"), "subPathExpr and subPath are mutually exclusive", "Remove one of them")


def _recursive(mount: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    yield from one_of(mount, "recursiveReadOnly", _RECURSIVE, path)
    if mount.get("recursiveReadOnly") not in ("IfPossible", "Enabled"):
        return
    here = (*path, "recursiveReadOnly")
    if not mount.get("readOnly"):
        yield Finding(here, "may only be specified when readOnly is true")
    if mount.get("mountPropagation") not in (None, "None"):
        yield Finding(here, "may only be specified when mountPropagation is None or not specified")


def _mount_path(target: str, path: Path) -> Iterator[Finding]:
    yield from absolute(target, path)
    if ":" in target:
        yield Finding(path, f"must not contain ':', which {show(target)} does")
    clean = "/" + "/".join(part for part in target.split("/") if part)
    if clean == "/":
        yield Finding(path, "must not be the root of the container")
    if any(clean == own or clean.startswith(f"{own}/") for own in _OWN_MOUNTS):
        yield Finding(path, f"must not be at or below {' or '.join(_OWN_MOUNTS)}, which the kernel fills")
