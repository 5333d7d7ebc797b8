"""The rules for security contexts that the schema does not hold. Source: k8s pkg/apis/core/v1/validation."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from . import capabilities, field_checks
from .schema import Finding, Path, show

_SECCOMP_TYPES = ("Localhost", "RuntimeDefault", "Unconfined")
_GROUP_POLICIES = ("Merge", "Strict")
_PROC_MOUNTS = ("Default", "Unmasked")
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")


def pod_spec(spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """Every rule for the security contexts of a pod and of its containers."""
    context, here = spec.get("securityContext") or {}, (*path, "securityContext")
    yield from field_checks.ids(context, here)
    yield from field_checks.one_of(context, "supplementalGroupsPolicy", _GROUP_POLICIES, here)
    yield from _seccomp(context, here)
    for key in _CONTAINERS:
        for index, container in enumerate(spec.get(key) or []):
            yield from _container(container, spec, (*path, key, index))


def _container(container: Mapping[str, Any], spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    context, here = container.get("securityContext") or {}, (*path, "securityContext")
    yield from field_checks.ids(context, here)
    yield from field_checks.one_of(context, "procMount", _PROC_MOUNTS, here)
    yield from _seccomp(context, here)
    yield from _escalation(context, here)
    if context.get("procMount") == "Unmasked" and spec.get("hostUsers") is not False:
        remedy = "Set hostUsers: false in the pod's spec"
        yield Finding((*here, "procMount"), "`hostUsers` must be false to use `Unmasked`", remedy)
    for index, mount in enumerate(container.get("volumeMounts") or []):
        if mount.get("mountPropagation") == "Bidirectional" and not context.get("privileged"):
            message = "Bidirectional mount propagation is available only to privileged containers"
            yield Finding((*path, "volumeMounts", index, "mountPropagation"), message, "Use HostToContainer")


def _escalation(context: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    wanted = context.get("capabilities") or {}
    for key in ("add", "drop"):
        for index, name in enumerate(wanted.get(key) or []):
            if name.upper() not in ("ALL", *capabilities.ALL):
                yield Finding((*path, "capabilities", key, index), *_unknown_capability(name), "warning")
    if context.get("allowPrivilegeEscalation") is not False:
        return
    if context.get("privileged"):
        message = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        yield Finding((*path, "allowPrivilegeEscalation"), message)
    if {"SYS_ADMIN", "CAP_SYS_ADMIN"} & {name.upper() for name in wanted.get("add") or []}:
        yield Finding((*path, "allowPrivilegeEscalation"), "cannot be false while capabilities.add has SYS_ADMIN")


def _unknown_capability(name: str) -> tuple[str, str]:
    bare = name.upper()[4:] if name.upper().startswith("CAP_") else name.upper()
    near = difflib.get_close_matches(bare, capabilities.ALL, 1)
    return f"the kernel has no capability {show(name)}", f"Did you mean {near[0]}?" if near else "Remove it"


def _seccomp(context: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    profile = context.get("seccompProfile")
    if profile is None:
        return
    here = (*path, "seccompProfile")
    yield from field_checks.one_of(profile, "type", _SECCOMP_TYPES, here)
    file = profile.get("localhostProfile")
    if profile.get("type") != "Localhost":
        if file is not None:
            yield Finding((*here, "localhostProfile"), "can only be set when seccomp type is Localhost")
    elif not file:
        yield Finding((*here, "localhostProfile"), "must be set when seccomp type is Localhost")
    elif file.startswith("/"):
        yield Finding((*here, "localhostProfile"), f"must be a relative path, not {show(file)}")
    elif ".." in file.split("/"):
        yield Finding((*here, "localhostProfile"), f"must not contain '..', which {show(file)} does")
    elif any(ord(character) < 32 for character in file):
        yield Finding((*here, "localhostProfile"), f"must not contain control characters, which {show(file)} does")
