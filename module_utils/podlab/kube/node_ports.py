"""Node ports: given by a manifest, remembered, or allocated from the name.

Sources: k8s pkg/registry/core/service/{portallocator/allocator.go,storage/alloc.go}, KEP-3668.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from . import names
from .schema import Finding, Path
from .services import REMEDY, full_name

# kube-apiserver's --service-node-port-range.
FIRST, LAST = 30000, 32767
_SIZE = LAST - FIRST + 1
# The lower part is for ports that manifests name: new ones come from there only when the rest is full.
STATIC = min(max(16, _SIZE // 32), 128)

TYPES = ("NodePort", "LoadBalancer")

Object = Mapping[str, Any]


class NodePorts(NamedTuple):
    """A Service's node ports. ports: by the name of its port ("" without one). health_check: 0 when it has none."""

    ports: Mapping[str, int] = {}
    health_check: int = 0


class Fault(NamedTuple):
    """What is wrong with a Service, by namespace/name."""

    service: str
    finding: Finding


def wants_ports(spec: Object) -> bool:
    """True when every port of the Service gets a node port."""
    kind = spec.get("type")
    return kind == "NodePort" or (kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False)


def wants_health_check(spec: Object) -> bool:
    """True when the Service gets a port that tells a load balancer which nodes have endpoints."""
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def allocate(
    services: Iterable[Object], remembered: Mapping[str, NodePorts]
) -> tuple[dict[str, NodePorts], list[Fault]]:
    """The node ports of each Service that has some, by namespace/name; and what is wrong.

    services: with namespaces; numbers that they name are in range. remembered: ports given before.
    A number belongs to one Service, whatever the protocol. What a Service was given it keeps as long as its manifest
    does not name another: a manifest that names it for another Service is at fault. New ones follow from the names, so
    that check mode names what a run makes.
    """
    wanted = list(services)
    kept = {full_name(service): _kept(service, remembered.get(full_name(service), NodePorts())) for service in wanted}
    taken: dict[int, str] = {}
    for name, old in kept.items():
        taken.update({number: name for number in (*old.ports.values(), old.health_check) if number})
    faults = _claim(wanted, taken)
    given = {}
    for service in sorted(wanted, key=full_name):
        name = full_name(service)
        made = _complete(service, kept[name], taken, faults)
        if made.ports or made.health_check:
            given[name] = made
    return given, faults


def clashes(services: Iterable[Object]) -> list[Fault]:
    """What is wrong with the numbers that Services name, whatever was given before. They may have other faults."""
    return _claim(list(services), {})


def _claim(services: Iterable[Object], taken: dict[int, str]) -> list[Fault]:
    """Take the numbers that Services name. Changes taken."""
    faults = []
    for service in services:
        name = full_name(service)
        for path, number in _named(service):
            owner = taken.setdefault(number, name)
            if owner != name:
                message = f"node port {number} is taken by the Service {owner}"
                faults.append(Fault(name, Finding(path, message, REMEDY)))
        faults += _health_check_faults(service)
    return faults


def _named(service: Object) -> Iterator[tuple[Path, int]]:
    """The numbers that a Service's manifest names, each with its place; nothing for a type that has no node ports."""
    spec = service.get("spec") or {}
    if spec.get("type") not in TYPES:
        return
    for index, port in enumerate(spec.get("ports") or []):
        if port.get("nodePort"):
            yield ("spec", "ports", index, "nodePort"), port["nodePort"]
    if spec.get("healthCheckNodePort"):
        yield ("spec", "healthCheckNodePort"), spec["healthCheckNodePort"]


def _health_check_faults(service: Object) -> Iterator[Fault]:
    spec = service.get("spec") or {}
    health = spec.get("healthCheckNodePort")
    clash = next((index for index, port in enumerate(spec.get("ports") or []) if port.get("nodePort") == health), None)
    if health and clash is not None:
        message = f"node port {health} clashes with ports[{clash}] of this Service"
        yield Fault(full_name(service), Finding(("spec", "healthCheckNodePort"), message, "Choose another"))


def _kept(service: Object, old: NodePorts) -> NodePorts:
    """What stays of the ports given before: those of ports that want one, by name, and do not name one themselves.

    A number that the manifest now names for another port of this Service goes there (patchAllocatedValues).
    """
    spec = service["spec"]
    used = {number for _, number in _named(service)}
    unnamed = [port.get("name") or "" for port in spec.get("ports") or [] if not port.get("nodePort")]
    ports = {name: old.ports[name] for name in unnamed if name in old.ports and old.ports[name] not in used}
    health = 0 if spec.get("healthCheckNodePort") or old.health_check in used else old.health_check
    return NodePorts(ports if wants_ports(spec) else {}, health if wants_health_check(spec) else 0)


def _complete(service: Object, kept: NodePorts, taken: dict[int, str], faults: list[Fault]) -> NodePorts:
    """Every node port of one Service: new ones for what is neither named nor kept. Changes taken and faults."""
    name, spec = full_name(service), service["spec"]
    ports: dict[str, int] = {}
    used: set[tuple[int, str]] = set()
    # Port 53 of UDP and of TCP are at the same node port, unless the manifest says otherwise.
    twins: dict[int, int] = {}
    listed = spec.get("ports") or []
    known = [port.get("nodePort") or kept.ports.get(port.get("name") or "") or 0 for port in listed]
    for port, number in zip(listed, known):
        if number:
            twins.setdefault(port["port"], number)
            used.add((number, port.get("protocol") or "TCP"))
    for index, (port, number) in enumerate(zip(listed, known)):
        own, protocol = port.get("name") or "", port.get("protocol") or "TCP"
        if not number and wants_ports(spec):
            twin = twins.get(port["port"], 0)
            number = twin if twin and (twin, protocol) not in used else 0
            number = number or _new(name, own, ("spec", "ports", index), taken, faults)
            twins.setdefault(port["port"], number)
            used.add((number, protocol))
        if number:
            ports[own] = number
    health = spec.get("healthCheckNodePort") or kept.health_check
    if not health and wants_health_check(spec):
        health = _new(name, "healthCheckNodePort", ("spec",), taken, faults)
    return NodePorts(ports, health)


def _new(service: str, purpose: str, path: Path, taken: dict[int, str], faults: list[Fault]) -> int:
    """A free number, from the name's hash on: above the static band, then in it. 0 and a fault when none is free."""
    start = int.from_bytes(names.digest(service, purpose)[:8], "big")
    for first, size in ((FIRST + STATIC, _SIZE - STATIC), (FIRST, STATIC)):
        for step in range(size):
            number = first + (start + step) % size
            if number not in taken:
                taken[number] = service
                return number
    faults.append(Fault(service, Finding(path, f"no node port of {FIRST}-{LAST} is free", "Remove a Service")))
    return 0
