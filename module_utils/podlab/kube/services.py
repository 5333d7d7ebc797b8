"""The addresses of Services. Sources: k8s pkg/registry/core/service/{ipallocator,storage/alloc.go}, KEP-3070."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from . import names
from .proxy_model import clean_ip

HEADLESS = "None"
REMEDY = "Choose another, or leave it out to be given one"
# Addresses that are kept for a Service by its name: index in the service subnet.
RESERVED = {"default/kubernetes": 1, "kube-system/kube-dns": 10}


def full_name(thing: Mapping[str, Any]) -> str:
    """namespace/name."""
    return f"{thing['metadata']['namespace']}/{thing['metadata']['name']}"


def allocate(
    services: Iterable[Mapping[str, Any]], remembered: Mapping[str, str], subnet: str
) -> tuple[dict[str, str], dict[str, str]]:
    """The ClusterIP of each Service by namespace/name, "None" for a headless one; and what is wrong, likewise.

    services: with namespaces. remembered: addresses given before. subnet: the cluster's service subnet.
    One of type ExternalName has no address. What a Service was given it keeps, unless its manifest names another: a
    manifest that names it for another Service is at fault. New ones come from the name's hash on, in the upper part of
    the subnet as the API server does it, so that the same names get the same addresses again.
    """
    network = ipaddress.IPv4Network(subnet)
    wanted = [service for service in services if service["spec"].get("type") != "ExternalName"]
    given: dict[str, str] = {}
    faults: dict[str, str] = {}
    owners: dict[str, str] = {str(network.network_address + index): name for name, index in RESERVED.items()}
    pending = [full_name(service) for service in wanted if not service["spec"].get("clusterIP")]
    for name in pending:
        old = remembered.get(name)
        if name in RESERVED:
            given[name] = str(network.network_address + RESERVED[name])
        elif old and old != HEADLESS and ipaddress.IPv4Address(old) in network and old not in owners:
            given[name] = old
            owners[old] = name
    for service in wanted:
        name, address = full_name(service), service["spec"].get("clusterIP")
        if address == HEADLESS:
            given[name] = HEADLESS
        elif address:
            fault = _static_fault(name, address, network, owners)
            if fault:
                faults[name] = fault
            else:
                given[name] = clean_ip(address)
                owners[given[name]] = name
    for name in sorted(name for name in pending if name not in given):
        address = _free(name, network, owners)
        if address is None:
            faults[name] = f"no address of the service subnet {network} is free"
        else:
            given[name] = address
            owners[address] = name
    return given, faults


def clashes(services: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What is wrong with Services that name the address of another, by namespace/name. They may have other faults."""
    owners: dict[str, str] = {}
    faults = {}
    for service in services:
        spec = service.get("spec") or {}
        address = spec.get("clusterIP")
        if address and address != HEADLESS and spec.get("type") != "ExternalName":
            owner = owners.setdefault(_clean(address), full_name(service))
            if owner != full_name(service):
                faults[full_name(service)] = _taken(address, owner)
    return faults


def _clean(address: str) -> str:
    """The address without leading zeros; one that is none as it is."""
    try:
        return clean_ip(address)
    except ValueError:
        return address


def _taken(address: str, owner: str) -> str:
    return f"{address} is taken by the Service {owner}"


def _static_fault(name: str, address: str, network: ipaddress.IPv4Network, owners: Mapping[str, str]) -> str:
    try:
        number = ipaddress.IPv4Address(clean_ip(address))
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
    return "" if owner == name else _taken(address, owner)


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
