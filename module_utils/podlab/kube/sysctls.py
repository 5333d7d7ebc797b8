"""A pod's sysctls: their names, which are safe, and in which of its namespaces each is set. Pure.

Sources: k8s pkg/kubelet/sysctl/{safe_sysctls.go,allowlist.go}, pkg/apis/core/v1/validation, component-helpers' sysctl.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .schema import Finding, Path, show

NET, IPC = "net", "ipc"
# What the kubelet lets every pod set; each kernel that podlab runs on is newer than what any of them needs.
SAFE = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
)
# What containerd sets in every pod that has a network of its own; a pod's own value wins.
_PORT_START = ("net.ipv4.ip_unprivileged_port_start", "0")
_PING_GROUPS = ("net.ipv4.ping_group_range", "0 2147483647")

_LONGEST = 253
_SEGMENT = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_NAME = re.compile(rf"({_SEGMENT}[\./])*{_SEGMENT}")
_SWAPPED = str.maketrans("./", "/.")
# The kernel's own limit of one write is a page.
_LONGEST_VALUE = 4095


def normal(name: str) -> str:
    """The name with dots: as in sysctl(8) the first separator decides what the others mean."""
    first = next((letter for letter in name if letter in "./"), "")
    return name.translate(_SWAPPED) if first == "/" else name


def namespace(name: str) -> str:
    """The kind of namespace that a sysctl belongs to, "" when it is the whole machine's."""
    name = normal(name)
    if name == "kernel.sem" or name.startswith(("kernel.shm", "kernel.msg", "fs.mqueue.")):
        return IPC
    return NET if name.startswith("net.") else ""


def check(spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """Every rule for spec.securityContext.sysctls that does not depend on the kubelet."""
    seen: set[str] = set()
    for index, entry in enumerate((spec.get("securityContext") or {}).get("sysctls") or []):
        here = (*path, "securityContext", "sysctls", index)
        name = entry.get("name")
        if name is not None:
            yield from _name(name, seen, spec, (*here, "name"))
            seen.add(name)
        value = entry.get("value") or ""
        # A tab is what the kernel itself writes between numbers.
        if len(value) > _LONGEST_VALUE or not value.replace("\t", " ").isprintable():
            message = f"must be one line of at most {_LONGEST_VALUE} printable characters, not {show(value)}"
            yield Finding((*here, "value"), message)


def _name(name: str, seen: set[str], spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    if len(name) > _LONGEST or not _NAME.fullmatch(name):
        message = f"must have at most {_LONGEST} characters and match regex {_NAME.pattern}, unlike {show(name)}"
        yield Finding(path, message)
    elif name in seen:
        yield Finding(path, f"{show(name)} is there twice", "Remove one of them")
    for key, kind in (("hostNetwork", NET), ("hostIPC", IPC)):
        if spec.get(key) and namespace(name) == kind:
            yield Finding(path, f"{show(name)} may not be specified if '{key}' is true", "Remove one of them")


def forbidden(spec: Mapping[str, Any], allowed: Sequence[str]) -> Iterator[Finding]:
    """What the kubelet would not admit (reason SysctlForbidden). allowed: its allowedUnsafeSysctls.

    A Pod that it refuses is Failed; here nothing is touched. path: below the pod's spec.
    """
    for index, entry in enumerate((spec.get("securityContext") or {}).get("sysctls") or []):
        name = normal(entry["name"])
        known = namespace(name) and any(_matches(name, pattern) for pattern in (*SAFE, *allowed))
        if not known:
            remedy = "It belongs to no namespace of a pod: it can never be allowed"
            if namespace(name):
                remedy = "Allow it in the cluster config: a KubeletConfiguration with allowedUnsafeSysctls"
            message = f'SysctlForbidden: forbidden sysctl: "{name}" not allowlisted'
            yield Finding(("securityContext", "sysctls", index, "name"), message, remedy)


def _matches(name: str, pattern: str) -> bool:
    pattern = normal(pattern)
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def settings(spec: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """What is set in the pod's own namespaces, by their kind: file below /proc/sys -> value."""
    made: dict[str, dict[str, str]] = {NET: {}, IPC: {}}
    given = [(entry["name"], entry["value"]) for entry in (spec.get("securityContext") or {}).get("sysctls") or []]
    defaults = [] if spec.get("hostNetwork") else [_PORT_START]
    if defaults and spec.get("hostUsers") is not False:
        # In a user namespace those groups are not all mapped.
        defaults.append(_PING_GROUPS)
    for name, value in (*defaults, *given):
        made[namespace(name)][normal(name).translate(_SWAPPED)] = value
    return made
