"""The rules for env and envFrom, and for the sources of the downward API.

Source: k8s pkg/apis/core/v1/validation/validation.go (validateEnv, validateEnvFrom, validateObjectFieldSelector,
validateContainerResourceFieldSelector).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import configs, names, qos, quantity
from .field_checks import named
from .schema import Finding, Path, show

FIELDS = (
    *("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName"),
    *("status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"),
)
_KEYED_FIELD = re.compile(r"metadata\.(labels|annotations)\['([^'\]]+)'\]")
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef")
_OBJECTS = ("configMapRef", "secretRef")
_RESOURCES = ("limits.cpu", "limits.memory", "requests.cpu", "requests.memory")
_NO_DISK = "podlab gives out no ephemeral-storage"
_CPU_DIVISORS = ("1m", "1")
_MEMORY_DIVISORS = ("1", *("1" + unit for unit in ("k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")))


def env(container: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """Every rule for a container's env and envFrom."""
    for index, entry in enumerate(container.get("env") or []):
        yield from _env(entry, (*path, "env", index))
    for index, source in enumerate(container.get("envFrom") or []):
        yield from _env_from(source, (*path, "envFrom", index))


def _env(entry: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    if "name" in entry:
        fault = names.env_name_fault(entry["name"])
        if fault:
            yield Finding((*path, "name"), f"{fault}; it is {show(entry['name'])}")
    source = entry.get("valueFrom")
    if source is None:
        return
    here = (*path, "valueFrom")
    if entry.get("value"):
        yield Finding(path, "must have value or valueFrom, not both")
    given = [key for key in _SOURCES if key in source]
    if not source:
        yield Finding(here, "must say where the value comes from", f"Add one of {', '.join(_SOURCES)}")
    if len(given) > 1:
        yield Finding(here, f"must be of one kind, not of {' and '.join(given)}")
    if "fieldRef" in source:
        yield from field(source["fieldRef"], FIELDS, True, (*here, "fieldRef"))
    if "resourceFieldRef" in source:
        yield from resource_field(source["resourceFieldRef"], (*here, "resourceFieldRef"))
    for key in ("configMapKeyRef", "secretKeyRef"):
        if key in source:
            yield from _key(source[key], (*here, key))


def _key(reference: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    yield from object_name(reference, "name", path)
    fault = configs.key_fault(reference.get("key") or "")
    if fault and "key" in reference:
        yield Finding((*path, "key"), f"{fault}; it is {show(reference['key'])}")


def object_name(reference: Mapping[str, Any], key: str, path: Path) -> Iterator[Finding]:
    """The name of a ConfigMap or Secret is there and is one."""
    if not reference.get(key):
        yield Finding((*path, key), "is required and missing")
    yield from named(reference, key, names.subdomain_fault, path)


def _env_from(source: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    given = [key for key in _OBJECTS if key in source]
    yield from named(source, "prefix", names.env_name_fault, path)
    if not given:
        yield Finding(path, f"must have one of {', '.join(_OBJECTS)}")
    if len(given) > 1:
        yield Finding(path, f"must be of one kind, not of {' and '.join(given)}")
    for key in given:
        yield from object_name(source[key], "name", (*path, key))


def field(reference: Mapping[str, Any], allowed: Sequence[str], keyed: bool, path: Path) -> Iterator[Finding]:
    """A fieldRef. keyed: a single label or annotation may be asked for."""
    text = reference.get("fieldPath")
    if text is None:
        return
    found = _KEYED_FIELD.fullmatch(text) if keyed else None
    if found is None and text not in allowed:
        more = ("metadata.labels['KEY']", "metadata.annotations['KEY']") if keyed else ()
        yield Finding((*path, "fieldPath"), f"must be one of {', '.join((*allowed, *more))}, not {show(text)}")
    if found is not None and names.key_fault(found.group(2).lower()):
        fault = names.key_fault(found.group(2).lower())
        yield Finding((*path, "fieldPath"), f"the key {fault}; it is {show(found.group(2))}")


def resource_field(reference: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """A resourceFieldRef: the resource is one, and the divisor is one of it."""
    resource = reference.get("resource")
    if resource is None:
        return
    which, _, name = resource.partition(".")
    huge = which in ("limits", "requests") and name.startswith(qos.HUGEPAGES)
    if resource not in _RESOURCES and not huge:
        known = f"must be one of {', '.join(_RESOURCES)}, limits.hugepages-SIZE, requests.hugepages-SIZE"
        why = f": {_NO_DISK}" if name == "ephemeral-storage" else ""
        yield Finding((*path, "resource"), f"{known}, not {show(resource)}{why}")
        return
    allowed = _CPU_DIVISORS if name == "cpu" else _MEMORY_DIVISORS
    divisor = reference.get("divisor")
    try:
        given = quantity.parse(divisor or "0")
    except ValueError as error:
        yield Finding((*path, "divisor"), str(error))
        return
    if given and given not in [quantity.parse(each) for each in allowed]:
        yield Finding((*path, "divisor"), f"must be one of {', '.join(allowed)} for {name}, not {show(divisor)}")


def containers_named(spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """Every resourceFieldRef of a pod names a container of the pod."""
    known = [each.get("name") for group in ("initContainers", "containers") for each in spec.get(group) or []]
    for where, reference in _resource_fields(spec, path):
        name = reference.get("containerName")
        if name and name not in known:
            yield Finding((*where, "containerName"), f"there is no container {show(name)} in the pod")


def _resource_fields(spec: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for group in ("initContainers", "containers"):
        for number, container in enumerate(spec.get(group) or []):
            for index, entry in enumerate(container.get("env") or []):
                source = entry.get("valueFrom") or {}
                if "resourceFieldRef" in source:
                    here = (*path, group, number, "env", index, "valueFrom", "resourceFieldRef")
                    yield here, source["resourceFieldRef"]
    for number, volume in enumerate(spec.get("volumes") or []):
        places = [((*path, "volumes", number), volume)]
        parts = (volume.get("projected") or {}).get("sources") or []
        places += [((*path, "volumes", number, "projected", "sources", n), part) for n, part in enumerate(parts)]
        for here, source in places:
            for index, item in enumerate((source.get("downwardAPI") or {}).get("items") or []):
                if "resourceFieldRef" in item:
                    where = (*here, "downwardAPI", "items", index, "resourceFieldRef")
                    yield where, item["resourceFieldRef"]
