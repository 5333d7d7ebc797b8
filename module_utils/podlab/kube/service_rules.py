"""The rules for a Service's fields that the schema does not hold: which belong together, and what they may say.

Source: k8s pkg/apis/core/validation/validation.go (ValidateService, ValidateLoadBalancerStatus).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import container_checks, names, node_ports
from .addresses import ip_fault, is_other_family, range_fault
from .container_checks import port_number
from .field_checks import labels, named, one_of, unique
from .schema import Finding, Path, show
from .services import HEADLESS

TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
_POLICIES = ("Cluster", "Local")
_AFFINITIES = ("None", "ClientIP")
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_IP_MODES = ("VIP", "Proxy")
_MAX_AFFINITY_SECONDS = 86400
_KUBELET_PORT = 10250
_SPEC: Path = ("spec",)
_OTHER_FAMILY = "has no effect: a lab has IPv4 addresses only"


def check(thing: Mapping[str, Any]) -> Iterator[Finding]:
    """Every fault of a Service that can be seen without the cluster and without the other Services."""
    spec = thing.get("spec") or {}
    yield from one_of(spec, "type", TYPES, _SPEC)
    yield from _ports(spec, _SPEC)
    yield from labels(spec.get("selector") or {}, (*_SPEC, "selector"))
    yield from one_of(spec, "sessionAffinity", _AFFINITIES, _SPEC)
    yield from _affinity(spec, _SPEC)
    yield from _cluster_ip(spec)
    yield from _external_name(spec)
    yield from _addresses(spec, "externalIPs", ip_fault)
    yield from _addresses(spec, "loadBalancerSourceRanges", range_fault)
    yield from _of_load_balancers(spec)
    yield from _traffic(spec)
    yield from _ingress(thing)


def kind_of(spec: Mapping[str, Any]) -> str:
    """The type of a Service, defaulted."""
    return spec.get("type") or "ClusterIP"


def is_external(spec: Mapping[str, Any]) -> bool:
    """True when a Service is reached from outside of the cluster: it has an external traffic policy."""
    kind = kind_of(spec)
    return kind in node_ports.TYPES or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def ingress(thing: Mapping[str, Any]) -> list[Any]:
    """What a manifest says of the load balancer's addresses; nothing when it is not of that form."""
    status = thing.get("status")
    balancer = status.get("loadBalancer") if isinstance(status, Mapping) else None
    found = balancer.get("ingress") if isinstance(balancer, Mapping) else None
    return list(found) if isinstance(found, list) else []


def _affinity(spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    config = spec.get("sessionAffinityConfig")
    if config and spec.get("sessionAffinity") != "ClientIP":
        yield Finding((*path, "sessionAffinityConfig"), "is only for sessionAffinity ClientIP", "Remove it")
    seconds = ((config or {}).get("clientIP") or {}).get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= _MAX_AFFINITY_SECONDS:
        where = (*path, "sessionAffinityConfig", "clientIP", "timeoutSeconds")
        yield Finding(where, f"must be between 1 and {_MAX_AFFINITY_SECONDS}, not {seconds}")


def _cluster_ip(spec: Mapping[str, Any]) -> Iterator[Finding]:
    address, several, kind = spec.get("clusterIP"), spec.get("clusterIPs"), kind_of(spec)
    if kind == "ExternalName":
        for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if spec.get(key):
                yield Finding((*_SPEC, key), "is not for type ExternalName, which has no address", "Remove it")
        return
    if address and address != HEADLESS and ip_fault(address, special=True):
        yield Finding((*_SPEC, "clusterIP"), f"must be an IP address or None, not {show(address)}")
    if address == HEADLESS and kind in node_ports.TYPES:
        yield Finding((*_SPEC, "clusterIP"), f"must not be None for type {kind}", "Remove it, or the type")
    if several and several != [address]:
        yield Finding((*_SPEC, "clusterIPs"), "must be the list of just clusterIP", "Remove it")


def _external_name(spec: Mapping[str, Any]) -> Iterator[Finding]:
    """The value is a CNAME: it may end in a dot."""
    path, name = (*_SPEC, "externalName"), spec.get("externalName")
    if kind_of(spec) != "ExternalName":
        # The API server keeps it without a word; here it would be silently ignored.
        if name:
            yield Finding(path, "is only for type ExternalName", "Set type: ExternalName, or remove it")
    elif not name:
        yield Finding(path, "is required with type ExternalName")
    else:
        fault = names.subdomain_fault(name[:-1] if name.endswith(".") else name)
        if fault:
            yield Finding(path, f"{fault}; it is {show(name)}")
        elif not names.ip_fault(name):
            message = f"{show(name)} looks like an address, and is taken as a name: no resolver will find it"
            yield Finding(path, message, "Use a Service without selector and an EndpointSlice", "warning")


def _addresses(spec: Mapping[str, Any], key: str, fault_of: Any) -> Iterator[Finding]:
    for index, text in enumerate(spec.get(key) or []):
        fault = fault_of(text)
        if fault:
            yield Finding((*_SPEC, key, index), fault)
        elif is_other_family(text):
            yield Finding((*_SPEC, key, index), _OTHER_FAMILY, "Remove it", "warning")


def _of_load_balancers(spec: Mapping[str, Any]) -> Iterator[Finding]:
    kind = kind_of(spec)
    for key in ("loadBalancerSourceRanges", "loadBalancerClass", "allocateLoadBalancerNodePorts"):
        if kind != "LoadBalancer" and spec.get(key) not in (None, []):
            yield Finding((*_SPEC, key), f"is only for type LoadBalancer, not {kind}", "Remove it")
    yield from named(spec, "loadBalancerClass", names.key_fault, _SPEC)
    health, path = spec.get("healthCheckNodePort"), (*_SPEC, "healthCheckNodePort")
    if health and (kind != "LoadBalancer" or spec.get("externalTrafficPolicy") != "Local"):
        yield Finding(path, "is only for type LoadBalancer with externalTrafficPolicy Local", "Remove it")
    elif health:
        yield from _node_port(health, path)


def _traffic(spec: Mapping[str, Any]) -> Iterator[Finding]:
    for key in ("externalTrafficPolicy", "internalTrafficPolicy"):
        yield from one_of(spec, key, _POLICIES, _SPEC)
    if spec.get("externalTrafficPolicy") and not is_external(spec):
        message = f"is only for Services that are reached from outside, not for type {kind_of(spec)}"
        remedy = "Remove it, or use type NodePort, LoadBalancer or externalIPs"
        yield Finding((*_SPEC, "externalTrafficPolicy"), message, remedy)
    yield from one_of(spec, "trafficDistribution", _DISTRIBUTIONS, _SPEC)


def _ingress(thing: Mapping[str, Any]) -> Iterator[Finding]:
    path: Path = ("status", "loadBalancer", "ingress")
    entries, kind = ingress(thing), kind_of(thing.get("spec") or {})
    if entries and kind != "LoadBalancer":
        yield Finding(path, f"is only for type LoadBalancer, not {kind}", "Remove it")
        return
    for index, entry in enumerate(entries):
        yield from _ingress_entry(entry, (*path, index))


def _ingress_entry(entry: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    address, hostname, mode = entry.get("ip"), entry.get("hostname"), entry.get("ipMode")
    if not address and not hostname:
        yield Finding(path, "must have ip or hostname")
    if address and ip_fault(address, special=True):
        yield Finding((*path, "ip"), ip_fault(address, special=True))
    elif address and is_other_family(address):
        yield Finding((*path, "ip"), _OTHER_FAMILY, "Remove it", "warning")
    if mode and not address:
        yield Finding((*path, "ipMode"), "is only for an entry with ip", "Remove it")
    yield from one_of(entry, "ipMode", _IP_MODES, path)
    if hostname and not ip_fault(hostname, special=True):
        yield Finding((*path, "hostname"), f"must be a DNS name, not the address {show(hostname)}", "Write it as ip")
    else:
        yield from named(entry, "hostname", names.subdomain_fault, path)


def _ports(spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    ports = spec.get("ports") or []
    here = (*path, "ports")
    if not ports and spec.get("clusterIP") != HEADLESS and kind_of(spec) != "ExternalName":
        yield Finding(here, "must have at least one port, unless clusterIP is None")
    yield from distinct(ports, here)
    for index, port in enumerate(ports):
        where = (*here, index)
        yield from port_number(port, "port", where)
        yield from one_of(port, "protocol", container_checks.PROTOCOLS, where)
        target = port.get("targetPort")
        # 0 and the empty text stand for the port's own number.
        if isinstance(target, int):
            yield from port_number(port, "targetPort", where) if target else ()
        else:
            yield from named(port, "targetPort", names.port_name_fault, where)
        yield from named(port, "appProtocol", names.key_fault, where)
        yield from _node_port_of(port, kind_of(spec), where)
        if kind_of(spec) == "LoadBalancer" and port.get("port") == _KUBELET_PORT:
            yield Finding((*where, "port"), f"must not be {_KUBELET_PORT} for type LoadBalancer: it is kubelet's")


def distinct(ports: Sequence[Mapping[str, Any]], path: Path) -> Iterator[Finding]:
    """What tells the ports of a Service from each other: their names, and number and protocol."""
    # An empty name is none.
    yield from unique([{"name": port["name"]} if port.get("name") else {} for port in ports], "name", "port", path)
    for index, port in enumerate(ports):
        if len(ports) > 1 and not port.get("name"):
            yield Finding((*path, index, "name"), "is required when a Service has more than one port")
    yield from _clashes(ports, "port", "port", path)
    yield from _clashes(ports, "nodePort", "node port", path)


def _node_port_of(port: Mapping[str, Any], kind: str, path: Path) -> Iterator[Finding]:
    number = port.get("nodePort")
    if number and kind not in node_ports.TYPES:
        remedy = "Set type: NodePort, or remove it"
        yield Finding((*path, "nodePort"), f"is only for types NodePort and LoadBalancer, not {kind}", remedy)
    elif number:
        yield from _node_port(number, (*path, "nodePort"))


def _node_port(number: int, path: Path) -> Iterator[Finding]:
    first, last = node_ports.FIRST, node_ports.LAST
    if not first <= number <= last:
        remedy = "Choose one, or leave it out to be given one"
        yield Finding(path, f"must be in the range {first}-{last}, not {number}", remedy)


def _clashes(ports: Sequence[Mapping[str, Any]], key: str, noun: str, path: Path) -> Iterator[Finding]:
    """A number and a protocol may stand in a Service once."""
    seen: dict[tuple[Any, str], int] = {}
    for index, port in enumerate(ports):
        mark = (port.get(key), port.get("protocol") or "TCP")
        if mark[0] and mark in seen:
            message = f"{noun} {mark[0]}/{mark[1]} clashes with ports[{seen[mark]}] of this Service"
            yield Finding((*path, index, key), message, "Give each port and protocol once")
        seen.setdefault(mark, index)
