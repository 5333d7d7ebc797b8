"""The rules for EndpointSlices that the schema does not hold, and how they fit the Services and nodes that there are.

Source: k8s pkg/apis/discovery/validation/validation.go; what kube-proxy ignores: pkg/proxy/endpointslicecache.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from . import container_checks, names
from .addresses import ip_fault, is_other_family
from .endpoints import MANAGED_BY_LABEL, MANAGER
from .field_checks import named, one_of, unique
from .proxy_model import SERVICE_NAME_LABEL
from .schema import Finding, Path, show

ADDRESS_TYPES = ("IPv4", "IPv6", "FQDN")
_MOST_ENDPOINTS = 1000
_MOST_ADDRESSES = 100
_MOST_PORTS = 20000
_MOST_HINTS = 8
_LABELS: Path = ("metadata", "labels")


def check(thing: Mapping[str, Any]) -> Iterator[Finding]:
    """Every fault of an EndpointSlice that can be seen without the lab."""
    yield from _labels((thing.get("metadata") or {}).get("labels") or {})
    yield from one_of(thing, "addressType", ADDRESS_TYPES, ())
    kind = thing.get("addressType")
    if kind == "IPv6":
        message = "must be IPv4: a lab's Services, nodes and pods have IPv4 addresses only"
        yield Finding(("addressType",), message, "Write an EndpointSlice of IPv4 addresses")
    elif kind == "FQDN":
        message = "must be IPv4: kube-proxy ignores endpoints that are names"
        yield Finding(("addressType",), message, "Use a Service of type ExternalName")
    endpoints, ports = thing.get("endpoints") or [], thing.get("ports") or []
    yield from _at_most(endpoints, _MOST_ENDPOINTS, "endpoints", ("endpoints",))
    yield from _at_most(ports, _MOST_PORTS, "ports", ("ports",))
    for index, endpoint in enumerate(endpoints):
        yield from _endpoint(endpoint, kind, ("endpoints", index))
    yield from _ports(ports)


def _labels(labels: Mapping[str, Any]) -> Iterator[Finding]:
    if not labels.get(SERVICE_NAME_LABEL):
        message = f"has no label {SERVICE_NAME_LABEL}, so no Service uses these endpoints"
        yield Finding(_LABELS, message, "Add it with the name of the Service", "warning")
    if labels.get(MANAGED_BY_LABEL) == MANAGER:
        message = f"{MANAGER} makes such slices from pods, and would remove this one"
        yield Finding((*_LABELS, MANAGED_BY_LABEL), message, "Remove the label, or choose a name of your own")


def _at_most(things: Sequence[Any], most: int, noun: str, path: Path) -> Iterator[Finding]:
    if len(things) > most:
        yield Finding(path, f"must have at most {most} {noun}, not {len(things)}", "Write several EndpointSlices")


def _endpoint(endpoint: Mapping[str, Any], kind: Any, path: Path) -> Iterator[Finding]:
    addresses = endpoint.get("addresses") or []
    here = (*path, "addresses")
    if not addresses:
        yield Finding(here, "must have at least one address")
    yield from _at_most(addresses, _MOST_ADDRESSES, "addresses", here)
    for index, address in enumerate(addresses):
        fault = _address_fault(address, kind)
        if fault:
            yield Finding((*here, index), fault)
    if len(addresses) > 1:
        yield Finding((*here, 1), "kube-proxy uses an endpoint's first address only", "Make it an endpoint", "warning")
    yield from named(endpoint, "nodeName", names.subdomain_fault, path)
    yield from named(endpoint, "hostname", names.label_fault, path)
    hints = endpoint.get("hints") or {}
    for key, fault_of in (("forZones", names.label_value_fault), ("forNodes", names.subdomain_fault)):
        yield from _hints(hints.get(key) or [], fault_of, (*path, "hints", key))


def _address_fault(address: str, kind: Any) -> str:
    """Of an address in a slice of IPv4: another kind of slice is refused as a whole."""
    if kind != "IPv4":
        return ""
    fault = ip_fault(address)
    if not fault and is_other_family(address):
        return f"must be an IPv4 address, as addressType says, not {show(address)}"
    return fault


def _hints(hints: Sequence[Mapping[str, Any]], fault_of: Any, path: Path) -> Iterator[Finding]:
    yield from _at_most(hints, _MOST_HINTS, "hints", path)
    seen: set[Any] = set()
    for index, hint in enumerate(hints):
        yield from named(hint, "name", fault_of, (*path, index))
        name = hint.get("name")
        if name and name in seen:
            yield Finding((*path, index, "name"), f"{show(name)} is there twice", "Remove one of them")
        seen.add(name)


def _ports(ports: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    path: Path = ("ports",)
    yield from unique([{"name": port["name"]} if port.get("name") else {} for port in ports], "name", "port", path)
    unnamed = [index for index, port in enumerate(ports) if not port.get("name")]
    for index in unnamed[1:]:
        message = f"is required: ports[{unnamed[0]}] has no name either"
        yield Finding((*path, index, "name"), message, "Give each its own name")
    for index, port in enumerate(ports):
        where = (*path, index)
        yield from one_of(port, "protocol", container_checks.PROTOCOLS, where)
        yield from named(port, "appProtocol", names.key_fault, where)
        if port.get("port"):
            yield from container_checks.port_number(port, "port", where)
        else:
            yield Finding((*where, "port"), "kube-proxy ignores a port without a number", "Say which", "warning")


# ---- with the rest of the lab ----


def fit(thing: Mapping[str, Any], service: Mapping[str, Any] | None, nodes: Iterable[str]) -> Iterator[Finding]:
    """What of a sound EndpointSlice has no effect, or another one than meant; all of it warnings.

    service: the Service that it names, None when there is none. nodes: the names of the lab's nodes.
    """
    name = (thing["metadata"].get("labels") or {}).get(SERVICE_NAME_LABEL)
    if not name:
        return
    known = set(nodes)
    for index, endpoint in enumerate(thing.get("endpoints") or []):
        node = endpoint.get("nodeName")
        if node and node not in known:
            path: Path = ("endpoints", index, "nodeName")
            yield _warning(path, f"there is no node {node}", f"The nodes are {', '.join(sorted(known))}")
    label = (*_LABELS, SERVICE_NAME_LABEL)
    if service is None:
        message = f"there is no Service {name} in the namespace {thing['metadata']['namespace']}"
        yield _warning(label, f"{message}: nothing uses these endpoints", "Add it, or change the label")
    elif service["spec"].get("type") == "ExternalName":
        yield _warning(label, f"the Service {name} is of type ExternalName and has no endpoints", "Change its type")
    else:
        if service["spec"].get("selector"):
            message = f"the Service {name} has a selector: these endpoints are added to those of its pods"
            yield _warning(label, message, "Remove the selector if that is not meant")
        yield from _fitting_ports(thing, service)


def _fitting_ports(thing: Mapping[str, Any], service: Mapping[str, Any]) -> Iterator[Finding]:
    """A Service's port finds its endpoints by name and protocol."""
    wanted = [(port.get("name") or "", port.get("protocol") or "TCP") for port in service["spec"].get("ports") or []]
    if not wanted:
        return
    for index, port in enumerate(thing.get("ports") or []):
        own = (port.get("name") or "", port.get("protocol") or "TCP")
        if own not in wanted:
            has = ", ".join(f"{name or '(no name)'}/{protocol}" for name, protocol in wanted)
            message = f"the Service {service['metadata']['name']} has no port {own[0] or '(no name)'}/{own[1]}"
            yield _warning(("ports", index), message, f"Its ports are {has}")


def _warning(path: Path, message: str, remedy: str) -> Finding:
    return Finding(path, message, remedy, "warning")
