"""The rules for a pod's namespaces and names. Source: k8s pkg/apis/core/v1/validation/validation.go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from . import hostnames, names, sysctls
from .field_checks import named
from .schema import Finding, Path

# What the kubelet maps of a pod's users.
MAPPED_IDS = 65536


def namespaces(spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """Which namespaces go with which, and what a pod on the host network may say of its ports."""
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        message = "ShareProcessNamespace and HostPID cannot both be enabled"
        yield Finding((*path, "shareProcessNamespace"), message, "Remove one of them")
    if spec.get("hostNetwork"):
        yield from _host_ports(spec, path)
    if spec.get("hostUsers") is False:
        yield from _users(spec, path)
    yield from _names(spec, path)
    yield from sysctls.check(spec, path)


def _users(spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """A pod in a user namespace has no other namespace of the node, and no user that it does not map."""
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield Finding((*path, key), "Forbidden: when `hostUsers` is false", "Remove one of them")
    for index, container in enumerate(spec.get("containers") or []):
        here = (*path, "containers", index)
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


def _host_ports(spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    for index, container in enumerate(spec.get("containers") or []):
        for number, port in enumerate(container.get("ports") or []):
            if port.get("hostPort") and port["hostPort"] != port.get("containerPort"):
                here = (*path, "containers", index, "ports", number, "hostPort")
                message = f"must match `containerPort` when `hostNetwork` is true, and it is {port['hostPort']}"
                yield Finding(here, message, "Remove it")


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
