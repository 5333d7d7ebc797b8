"""The rules for a pod's namespaces and names. Source: k8s pkg/apis/core/v1/validation/validation.go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from . import hostnames, names, sysctls
from .field_checks import named
from .schema import Finding, Path


def namespaces(spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """Which namespaces go with which, and what a pod on the host network may say of its ports."""
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        message = "ShareProcessNamespace and HostPID cannot both be enabled"
        yield Finding((*path, "shareProcessNamespace"), message, "Remove one of them")
    if spec.get("hostNetwork"):
        yield from _host_ports(spec, path)
    yield from _names(spec, path)
    yield from sysctls.check(spec, path)


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
