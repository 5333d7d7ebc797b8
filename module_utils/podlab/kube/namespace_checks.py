"""The rules for a pod's namespaces and names. Source: k8s pkg/apis/core/v1/validation/validation.go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from . import hostnames, names, sysctls
from .container_checks import port_number
from .field_checks import named
from .schema import Finding, Path

# What the kubelet maps of a pod's users.
MAPPED_IDS = 65536


def namespaces(spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """Which namespaces go with which, and what a pod on the host network may say of its ports."""
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        message = "ShareProcessNamespace and HostPID cannot both be enabled"
        yield Finding((*path, "shareProcessNamespace"), message, "Remove one of them")
    for key in ("initContainers", "containers"):
        yield from _host_ports(spec, key, path)
    if spec.get("hostUsers") is False:
        yield from _users(spec, path)
    yield from _names(spec, path)
    yield from sysctls.check(spec, path)


def _users(spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """A pod in a user namespace has no other namespace of the node, and no user that it does not map."""
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield Finding((*path, key), "Forbidden: when `hostUsers` is false", "Remove one of them")
    listed = [
        (key, index, each) for key in ("initContainers", "containers") for index, each in enumerate(spec.get(key) or [])
    ]
    for key, index, container in listed:
        here = (*path, key, index)
        if container.get("volumeDevices"):
            yield Finding((*here, "volumeDevices"), "Forbidden: when `hostUsers` is false", "Remove one of them")
        yield from _mapped(container.get("securityContext") or {}, (*here, "securityContext"))
    yield from _mapped(spec.get("securityContext") or {}, (*path, "securityContext"))


def _mapped(context: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    for key in ("runAsUser", "runAsGroup", "fsGroup"):
        if (context.get(key) or 0) >= MAPPED_IDS:
            message = f"must be less than {MAPPED_IDS} when `hostUsers` is false, and it is {context[key]}"
            yield Finding((*path, key), message, "The pod's user namespace maps no more")
    for index, group in enumerate(context.get("supplementalGroups") or []):
        if group >= MAPPED_IDS:
            message = f"must be less than {MAPPED_IDS} when `hostUsers` is false, and it is {group}"
            yield Finding((*path, "supplementalGroups", index), message, "The pod's user namespace maps no more")


def _host_ports(spec: Mapping[str, Any], key: str, path: Path) -> Iterator[Finding]:
    taken: set[tuple[str, str, int]] = set()
    host_network = bool(spec.get("hostNetwork")) and key == "containers"
    for index, container in enumerate(spec.get(key) or []):
        for number, port in enumerate(container.get("ports") or []):
            here = (*path, key, index, "ports", number)
            yield from _host_port(port, host_network, here)
            place = (port.get("protocol") or "TCP", port.get("hostIP") or "", port.get("hostPort") or 0)
            if place[2] and place in taken:
                yield Finding(
                    (*here, "hostPort"), f"Duplicate value: {'/'.join(map(str, place))}", "Remove one of them"
                )
            taken.add(place)


def _host_port(port: Mapping[str, Any], host_network: bool, path: Path) -> Iterator[Finding]:
    wanted = port.get("hostPort")
    if wanted:
        yield from port_number(port, "hostPort", path)
    if wanted and host_network and wanted != port.get("containerPort"):
        message = f"must match `containerPort` when `hostNetwork` is true, and it is {wanted}"
        yield Finding((*path, "hostPort"), message, "Remove it")
    address = port.get("hostIP")
    if address:
        yield from named(port, "hostIP", names.ip_fault, path)
        if not names.ip_fault(address) and ":" in address:
            message = f"podlab's nodes have IPv4 addresses only, not {address}"
            yield Finding((*path, "hostIP"), message, "Use an IPv4 address, or leave it out for each of them")


def _names(spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    override = spec.get("hostnameOverride")
    if override is None:
        return
    here = (*path, "hostnameOverride")
    yield from named(spec, "hostnameOverride", names.subdomain_fault, path)
    if len(override) > hostnames.KERNEL_LIMIT:
        yield Finding(here, f"must have at most {hostnames.KERNEL_LIMIT} characters, not {len(override)}")
    for key in ("hostNetwork", "setHostnameAsFQDN"):
        if spec.get(key):
            yield Finding(here, f"may not be set when {key} is true", "Remove one of them")
