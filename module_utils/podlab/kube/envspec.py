"""The environment of a container in a runtime configuration, from the manifest's env and envFrom. Pure.

See env.py for what the entries mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from . import fieldrefs, qos, quantity

KINDS = {
    "configMapRef": "ConfigMap",
    "configMapKeyRef": "ConfigMap",
    "secretRef": "Secret",
    "secretKeyRef": "Secret",
}


class Capacity(NamedTuple):
    """What a node can give: what a limit that is not set is taken for. cpu: thousandths of a core. memory: bytes."""

    cpu: int
    memory: int


def entries(
    container: Mapping[str, Any], pod: Mapping[str, Any], node: Any, capacity: Capacity
) -> list[dict[str, Any]]:
    """What the kubelet takes from envFrom, then from env, in their order. pod: the complete Pod object."""
    made = [_from(source) for source in container.get("envFrom") or []]
    return made + [_entry(entry, container, pod, node, capacity) for entry in container.get("env") or []]


def _from(source: Mapping[str, Any]) -> dict[str, Any]:
    key = next(key for key in ("configMapRef", "secretRef") if key in source)
    return {
        "source": "from",
        "object": f"{KINDS[key]}/{source[key]['name']}",
        "prefix": source.get("prefix") or "",
        "optional": bool(source[key].get("optional")),
    }


def _entry(
    entry: Mapping[str, Any], container: Mapping[str, Any], pod: Mapping[str, Any], node: Any, capacity: Capacity
) -> dict[str, Any]:
    name, source = entry["name"], entry.get("valueFrom")
    if not source:
        return {"name": name, "value": entry.get("value") or "", "source": "pod"}
    if "fieldRef" in source:
        field = source["fieldRef"]["fieldPath"]
        if field in fieldrefs.LATE:
            return {"name": name, "field": field, "source": "field"}
        made = {"name": name, "value": fieldrefs.value(field, pod, node), "source": "field"}
        # Labels and annotations may change while a pod is there.
        return {**made, "metadata": field} if fieldrefs.may_change(field) else made
    if "resourceFieldRef" in source:
        value = resource_value(source["resourceFieldRef"], pod, container, capacity)
        return {"name": name, "value": value, "source": "field"}
    key = next(key for key in ("configMapKeyRef", "secretKeyRef") if key in source)
    reference = source[key]
    return {
        "name": name,
        "source": "key",
        "object": f"{KINDS[key]}/{reference['name']}",
        "namespace": pod["metadata"]["namespace"],
        "key": reference["key"],
        "optional": bool(reference.get("optional")),
    }


def resource_value(
    reference: Mapping[str, Any], pod: Mapping[str, Any], own: Mapping[str, Any], capacity: Capacity
) -> str:
    """A resourceFieldRef as text: the limit or request in units of the divisor, rounded up.

    own: the container that asks. A limit of cpu or memory that is not set is what the node can give
    (MergeContainerResourceLimits). Source: k8s pkg/api/v1/resource/helpers.go.
    """
    spec = pod["spec"]
    every = [*(spec.get("initContainers") or []), *spec["containers"]]
    name = reference.get("containerName")
    container = next((each for each in every if each["name"] == name), own) if name else own
    which, _, resource = reference["resource"].partition(".")
    have = qos.resources(container)
    if resource == "cpu":
        amount = (have.cpu_limit or capacity.cpu) if which == "limits" else have.cpu_request
        return _divided(amount, reference, 1000)
    if resource == "memory":
        return _divided((have.memory_limit or capacity.memory) if which == "limits" else have.memory_request, reference)
    return _divided(have.hugepages.get(qos.page_size(resource), 0), reference)


def _divided(amount: int, reference: Mapping[str, Any], scale: int = 1) -> str:
    divisor = quantity.parse(reference.get("divisor") or "0") or 1
    parts = divisor * scale
    return str(-(-amount * parts.denominator // parts.numerator))
