"""The types of the fields that Services, EndpointSlices and pods are read for: a module may be given anything.

Quick rather than complete: it is done for thousands of objects before their rules are made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import Problem
from .schema import show

# A form is a type or several, [form of each item], or a mapping of fields. EACH: of every key that is not named.
# A field with "!" must be there.
EACH = "*"
_LABELS = {EACH: str}
_HINTS = [{"name!": str}]
_METADATA = {"name": str, "namespace": str, "labels": _LABELS}
_PORT = {"name": str, "protocol": str, "port": int, "nodePort": int, "targetPort": (int, str), "appProtocol": str}

SERVICE: Mapping[str, Any] = {
    "metadata": _METADATA,
    "spec": {
        "type": str,
        "selector": _LABELS,
        "clusterIP": str,
        "clusterIPs": [str],
        "ipFamilies": [str],
        "ports": [_PORT],
        "externalIPs": [str],
        "externalName": str,
        "loadBalancerSourceRanges": [str],
        "externalTrafficPolicy": str,
        "internalTrafficPolicy": str,
        "trafficDistribution": str,
        "healthCheckNodePort": int,
        "sessionAffinity": str,
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": int}},
        "publishNotReadyAddresses": bool,
    },
    "status": {"loadBalancer": {"ingress": [{"ip": str, "ipMode": str}]}},
}
SLICE: Mapping[str, Any] = {
    "metadata!": {"name!": str, "namespace": str, "labels": _LABELS},
    "addressType": str,
    "endpoints": [
        {
            "addresses": [str],
            "conditions": {"ready": bool, "serving": bool, "terminating": bool},
            "hostname": str,
            "nodeName": str,
            "hints": {"forZones": _HINTS, "forNodes": _HINTS},
        }
    ],
    "ports": [{"name": str, "protocol": str, "port": int}],
}
_CONTAINERS = [{"restartPolicy": str, "ports": [{"name": str, "protocol": str, "containerPort!": int}]}]
POD: Mapping[str, Any] = {
    "pod": {
        "metadata": {**_METADATA, "deletionTimestamp": str},
        "spec!": {
            "nodeName": str,
            "hostname": str,
            "subdomain": str,
            "containers!": _CONTAINERS,
            "initContainers": _CONTAINERS,
        },
    },
    "status": {
        "phase": str,
        "podIP": str,
        "podIPs": [{"ip": str}],
        "conditions": [{"type": str, "status": str}],
    },
}
_WORDS = {str: "text", int: "a whole number", bool: "true or false", (int, str): "a whole number or text"}


def faults(value: Any, form: Any, place: str) -> Iterator[Problem]:
    """What of a value is not of its form; an absent value and null are the same."""
    if isinstance(form, Mapping):
        if not isinstance(value, Mapping):
            yield Problem(place, f"must be a mapping, not {show(value)}")
            return
        each = form.get(EACH)
        for key, inner in value.items():
            own = form.get(key, each) or form.get(f"{key}!")
            if own and inner is not None:
                yield from faults(inner, own, f"{place}.{key}")
        for key in form:
            if key[-1] == "!" and value.get(key[:-1]) is None:
                yield Problem(f"{place}.{key[:-1]}", "is missing")
    elif isinstance(form, list):
        if not isinstance(value, list):
            yield Problem(place, f"must be a list, not {show(value)}")
            return
        for index, item in enumerate(value):
            yield from faults(item, form[0], f"{place}[{index}]")
    elif not isinstance(value, form) or (isinstance(value, bool) and form is not bool):
        yield Problem(place, f"must be {_WORDS[form]}, not {show(value)}")
