"""Services: their rules and their addresses.

Sources: k8s pkg/apis/core/v1/validation/validation.go, pkg/registry/core/service/ipallocator.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from . import container_checks, names
from .container_checks import port_number
from .field_checks import labels, named, one_of, unique
from .schema import Finding, Path, show

HEADLESS = "None"
# Addresses that are kept for a Service by its name: index in the service subnet.
RESERVED = {"default/kubernetes": 1, "kube-system/kube-dns": 10}
_AFFINITIES = ("None", "ClientIP")
_MAX_AFFINITY_SECONDS = 86400


def check(spec: Mapping[str, Any]) -> Iterator[Finding]:
    """Every fault of a Service's spec that can be seen without the cluster."""
    path: Path = ("spec",)
    yield from _ports(spec, path)
    yield from labels(spec.get("selector") or {}, (*path, "selector"))
    if not spec.get("selector"):
        message = "a Service without a selector needs EndpointSlices, which podlab does not support yet"
        yield Finding((*path, "selector"), message, "Add the labels of the pods behind it")
    yield from one_of(spec, "sessionAffinity", _AFFINITIES, path)
    yield from _affinity(spec, path)
    yield from _cluster_ip_form(spec, path)


def _affinity(spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    config = spec.get("sessionAffinityConfig")
    if config and spec.get("sessionAffinity") != "ClientIP":
        yield Finding((*path, "sessionAffinityConfig"), "is only for sessionAffinity ClientIP", "Remove it")
    seconds = ((config or {}).get("clientIP") or {}).get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= _MAX_AFFINITY_SECONDS:
        where = (*path, "sessionAffinityConfig", "clientIP", "timeoutSeconds")
        yield Finding(where, f"must be between 1 and {_MAX_AFFINITY_SECONDS}, not {seconds}")


def _cluster_ip_form(spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    address = spec.get("clusterIP")
    if address and address != HEADLESS and names.ip_fault(address):
        yield Finding((*path, "clusterIP"), f"must be an IP address or None, not {show(address)}")
    several = spec.get("clusterIPs")
    if several and several != [address]:
        yield Finding((*path, "clusterIPs"), "must be the list of just clusterIP", "Remove it")


def _ports(spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    ports = spec.get("ports") or []
    here = (*path, "ports")
    if not ports and spec.get("clusterIP") != HEADLESS:
        yield Finding(here, "must have at least one port, unless clusterIP is None")
    yield from unique(ports, "name", "port", here)
    seen: dict[tuple[Any, str], int] = {}
    for index, port in enumerate(ports):
        where = (*here, index)
        if len(ports) > 1 and not port.get("name"):
            yield Finding((*where, "name"), "is required when a Service has more than one port")
        yield from port_number(port, "port", where)
        yield from one_of(port, "protocol", container_checks.PROTOCOLS, where)
        target = port.get("targetPort")
        if isinstance(target, int):
            yield from port_number(port, "targetPort", where)
        else:
            yield from named(port, "targetPort", names.port_name_fault, where)
        key = (port.get("port"), port.get("protocol") or "TCP")
        if key in seen and key[0] is not None:
            message = f"port {key[0]}/{key[1]} clashes with ports[{seen[key]}] of this Service"
            yield Finding((*where, "port"), message, "Give each port and protocol once")
        seen.setdefault(key, index)


# ---- addresses ----


def full_name(thing: Mapping[str, Any]) -> str:
    """namespace/name."""
    return f"{thing['metadata']['namespace']}/{thing['metadata']['name']}"


def allocate(
    services: Iterable[Mapping[str, Any]], remembered: Mapping[str, str], subnet: str
) -> tuple[dict[str, str], dict[str, str]]:
    """The ClusterIP of each Service by namespace/name, "None" for a headless one; and what is wrong, likewise.

    services: with namespaces. remembered: addresses given before. subnet: the cluster's service subnet.
    An address that a manifest names comes first, then what is remembered, then new ones: from the name's hash on, in
    the upper part of the subnet as the API server does it, so that the same names get the same addresses again.
    """
    network = ipaddress.IPv4Network(subnet)
    given: dict[str, str] = {}
    faults: dict[str, str] = {}
    owners: dict[str, str] = {str(network.network_address + index): name for name, index in RESERVED.items()}
    pending = []
    for service in services:
        name, address = full_name(service), service["spec"].get("clusterIP")
        if address == HEADLESS:
            given[name] = HEADLESS
        elif address:
            fault = _static_fault(name, address, network, owners)
            if fault:
                faults[name] = fault
            else:
                given[name] = owners_address = str(ipaddress.IPv4Address(address))
                owners[owners_address] = name
        else:
            pending.append(name)
    for name in pending:
        old = remembered.get(name)
        if name in RESERVED:
            given[name] = str(network.network_address + RESERVED[name])
        elif old and old != HEADLESS and ipaddress.IPv4Address(old) in network and old not in owners:
            given[name] = old
            owners[old] = name
    for name in sorted(name for name in pending if name not in given):
        address = _free(name, network, owners)
        if address is None:
            faults[name] = f"no address of the service subnet {network} is free"
        else:
            given[name] = address
            owners[address] = name
    return given, faults


def _static_fault(name: str, address: str, network: ipaddress.IPv4Network, owners: Mapping[str, str]) -> str:
    try:
        number = ipaddress.IPv4Address(address)
    except ValueError:
        return f"must be an IPv4 address of the service subnet {network}, not {address}"
    if number not in network:
        return f"must be in the service subnet {network}, which {address} is not"
    if number in (network.network_address, network.broadcast_address):
        return f"must not be the first or last address of the service subnet {network}, which {address} is"
    kept = network.network_address + RESERVED[name] if name in RESERVED else number
    if number != kept:
        return f"must be {kept}, which is kept for this Service, not {address}"
    owner = owners.get(str(number), name)
    return "" if owner == name else f"{address} is taken by the Service {owner}"


def _free(name: str, network: ipaddress.IPv4Network, owners: Mapping[str, str]) -> str | None:
    """The first free address from the name's hash on: above the static band, then in it (KEP-3070)."""
    size = network.num_addresses
    static = min(max(16, size // 16), 256)
    start = int.from_bytes(names.digest(name)[:8], "big")
    for first, last in ((min(static, size - 1), size - 1), (1, min(static, size - 1))):
        for step in range(last - first):
            address = str(network.network_address + first + (start + step) % (last - first))
            if address not in owners:
                return address
    return None
