"""EndpointSlices from pods, as the EndpointSlice controller makes them.

Sources: Kubernetes staging/src/k8s.io/endpointslice/{reconciler.go,utils.go,trafficdist}, pkg/controller/util/endpoint,
KEP-3015.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .proxy_model import SERVICE_NAME_LABEL, Object, family_of

# EndpointSlice controller's --max-endpoints-per-slice.
MAX_ENDPOINTS = 100
MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
HEADLESS_LABEL = "service.kubernetes.io/headless"
ZONE_LABEL = "topology.kubernetes.io/zone"
# Alphabet of generated names: no vowels, no 0 1 3 (apimachinery util/rand).
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_ADDRESS_TYPES = {"ipv4": "IPv4", "ipv6": "IPv6"}


class Port(NamedTuple):
    """A port of a Service at a pod."""

    name: str
    protocol: str
    number: int
    application: str


class Backing(NamedTuple):
    """A pod with its status, both as the API shows them."""

    pod: Object
    status: Object


def endpoint_slices(
    services: Iterable[Object], pods: Iterable[Mapping[str, Any]], zones: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """The EndpointSlices of every Service that has a selector, in the order of the Services.

    pods: {"pod": v1 Pod, "status": PodStatus}. Pods without an address or that have ended have no endpoint.
    zones: node name -> its zone, for those that have one.
    """
    by_namespace: dict[str, list[Backing]] = {}
    for item in pods:
        backing = Backing(item["pod"], item.get("status") or {})
        if _is_candidate(backing):
            by_namespace.setdefault(_namespace(backing.pod), []).append(backing)
    for backings in by_namespace.values():
        backings.sort(key=lambda backing: backing.pod["metadata"]["name"])
    slices: list[dict[str, Any]] = []
    for service in services:
        selector = service["spec"].get("selector")
        if selector and service["spec"].get("type") != "ExternalName":
            own = [backing for backing in by_namespace.get(_namespace(service), ()) if _selected(selector, backing)]
            slices += _slices_of(service, own, zones or {})
    return slices


def _namespace(item: Object) -> str:
    return str(item["metadata"].get("namespace") or "default")


def _is_candidate(backing: Backing) -> bool:
    return backing.status.get("phase") not in ("Succeeded", "Failed") and bool(_addresses(backing.status))


def _addresses(status: Object) -> list[str]:
    plural = [entry["ip"] for entry in status.get("podIPs") or () if entry.get("ip")]
    return plural or ([status["podIP"]] if status.get("podIP") else [])


def _selected(selector: Mapping[str, str], backing: Backing) -> bool:
    labels = backing.pod["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in selector.items())


def families(service: Object) -> list[str]:
    """The address families of a Service: "ipv4", "ipv6" or both."""
    spec = service["spec"]
    if spec.get("ipFamilies"):
        return [family.lower() for family in spec["ipFamilies"]]
    address = spec.get("clusterIP") or ""
    return [family_of(address)]


def zones_of(nodes: Iterable[Object]) -> dict[str, str]:
    """Node name -> zone of those of a cluster's nodes ({"name", "labels"}) that have one."""
    labels = {str(node["name"]): (node.get("labels") or {}).get(ZONE_LABEL) for node in nodes}
    return {name: zone for name, zone in labels.items() if zone}


def _slices_of(service: Object, backings: Sequence[Backing], zones: Mapping[str, str]) -> list[dict[str, Any]]:
    slices = []
    for family in families(service):
        # Pods whose named target ports have different numbers cannot share a slice.
        groups: dict[tuple[Port, ...], list[dict[str, Any]]] = {}
        for backing in backings:
            address = next((ip for ip in _addresses(backing.status) if family_of(ip) == family), "")
            if address:
                made = _endpoint(service, backing, address, zones)
                groups.setdefault(_ports(service, backing.pod), []).append(made)
        # A Service nobody answers for has one empty slice all the same.
        for ports, endpoints in sorted(groups.items()) or [((), [])]:
            for start in range(0, max(len(endpoints), 1), MAX_ENDPOINTS):
                part = endpoints[start : start + MAX_ENDPOINTS]
                slices.append(_slice(service, family, ports, start // MAX_ENDPOINTS, part))
    return slices


def _ports(service: Object, pod: Object) -> tuple[Port, ...]:
    """The Service's ports at this pod; a name that the pod does not have is left out."""
    found = []
    for port in service["spec"].get("ports") or ():
        protocol = port.get("protocol", "TCP")
        number = target_port(port, pod)
        if number:
            found.append(Port(port.get("name") or "", protocol, number, port.get("appProtocol") or ""))
    return tuple(found)


def target_port(port: Object, pod: Object) -> int:
    """The number of a Service port's target at a pod; 0 when the pod has no port of that name and protocol."""
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    spec = pod["spec"]
    sidecars = [
        container for container in spec.get("initContainers") or () if container.get("restartPolicy") == "Always"
    ]
    for container in [*spec["containers"], *sidecars]:
        for own in container.get("ports") or ():
            if own.get("name") == target and own.get("protocol", "TCP") == port.get("protocol", "TCP"):
                return int(own["containerPort"])
    return 0


def _is_ready(status: Object) -> bool:
    return any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in status.get("conditions") or ()
    )


def _endpoint(service: Object, backing: Backing, address: str, zones: Mapping[str, str]) -> dict[str, Any]:
    pod = backing.pod
    metadata, spec = pod["metadata"], pod["spec"]
    serving = _is_ready(backing.status)
    terminating = bool(metadata.get("deletionTimestamp"))
    regardless = bool(service["spec"].get("publishNotReadyAddresses"))
    endpoint: dict[str, Any] = {
        "addresses": [address],
        "conditions": {
            "ready": regardless or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "targetRef": {"kind": "Pod", "namespace": _namespace(pod), "name": metadata["name"]},
    }
    if metadata.get("uid"):
        endpoint["targetRef"]["uid"] = metadata["uid"]
    if spec.get("nodeName"):
        endpoint["nodeName"] = spec["nodeName"]
    if spec.get("nodeName") in zones:
        endpoint["zone"] = zones[spec["nodeName"]]
    hints = _hints(service["spec"].get("trafficDistribution"), endpoint)
    if hints:
        endpoint["hints"] = hints
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        endpoint["hostname"] = spec["hostname"]
    return endpoint


def _hints(distribution: str | None, endpoint: Object) -> dict[str, Any]:
    """Whom an endpoint is for. One that is not ready has no hints, and with it none counts."""
    found: dict[str, Any] = {}
    if not distribution or not endpoint["conditions"]["ready"]:
        return found
    if "zone" in endpoint:
        found["forZones"] = [{"name": endpoint["zone"]}]
    if distribution == "PreferSameNode" and "nodeName" in endpoint:
        found["forNodes"] = [{"name": endpoint["nodeName"]}]
    return found


def _slice(
    service: Object, family: str, ports: Sequence[Port], number: int, endpoints: list[dict[str, Any]]
) -> dict[str, Any]:
    name = service["metadata"]["name"]
    labels = {**(service["metadata"].get("labels") or {}), SERVICE_NAME_LABEL: name, MANAGED_BY_LABEL: MANAGER}
    labels.pop(HEADLESS_LABEL, None)
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS_LABEL] = ""
    metadata = {
        "name": f"{name}-{_suffix(f'{family} {tuple(port[:3] for port in ports)} {number}')}",
        "namespace": _namespace(service),
        "labels": labels,
    }
    if service["metadata"].get("creationTimestamp"):
        # It is made together with its Service.
        metadata["creationTimestamp"] = service["metadata"]["creationTimestamp"]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": _ADDRESS_TYPES[family],
        "endpoints": endpoints,
        "ports": [_slice_port(port) for port in ports],
    }


def _slice_port(port: Port) -> dict[str, Any]:
    made = {"name": port.name, "protocol": port.protocol, "port": port.number}
    return {**made, "appProtocol": port.application} if port.application else made


def _suffix(text: str) -> str:
    """Five characters as of generateName, but the same for the same slice: a check run must name what a run makes."""
    digest = hashlib.sha256(text.encode()).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:5])
