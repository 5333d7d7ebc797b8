"""One process as the kernel sees it: the files of /proc/PID as data. Parsers take text; `read` opens the files.

Source: proc(5), credentials(7), capabilities(7), user_namespaces(7).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from . import capabilities, namespaces, procfs

CAPABILITY_SETS = {
    "bounding": "CapBnd",
    "permitted": "CapPrm",
    "effective": "CapEff",
    "inheritable": "CapInh",
    "ambient": "CapAmb",
}
SECCOMP_MODES = ("disabled", "strict", "filter")
# What belongs to no hierarchy of controllers.
UNIFIED = "unified"


class IdMap(NamedTuple):
    """One line of uid_map: `size` ids from `inside` on are those from `outside` on in the reader's namespace."""

    inside: int
    outside: int
    size: int


class Limit(NamedTuple):
    """One line of limits; -1 is unlimited."""

    name: str
    soft: int
    hard: int
    unit: str


class Process(NamedTuple):
    """A process. pids: from the reader's PID namespace inwards. uid, gid: real, effective, saved, file system's."""

    pids: tuple[int, ...]
    parent: int
    command: str
    uid: tuple[int, ...]
    gid: tuple[int, ...]
    groups: tuple[int, ...]
    uid_map: tuple[IdMap, ...]
    gid_map: tuple[IdMap, ...]
    capabilities: Mapping[str, tuple[str, ...]]
    no_new_privs: bool
    seccomp: str
    seccomp_filters: int
    oom_score_adj: int
    umask: str
    limits: tuple[Limit, ...]
    root: str
    cwd: str
    descriptors: Mapping[int, str]
    namespaces: Mapping[str, int]
    cgroups: Mapping[str, str]


def read(pid: int) -> Process:
    """The process. Raises ProcessLookupError when it has ended; what we may not see of it is empty."""
    place = f"/proc/{pid}"
    said = status(pid)
    if not said:
        raise ProcessLookupError(3, "no such process", place)
    seccomp = int(said.get("Seccomp", "0"))
    return Process(
        pids=numbers(said.get("NSpid", said["Pid"])),
        parent=int(said["PPid"]),
        command=namespaces.command(pid),
        uid=numbers(said["Uid"]),
        gid=numbers(said["Gid"]),
        groups=numbers(said.get("Groups", "")),
        uid_map=id_map(procfs.read(f"{place}/uid_map")),
        gid_map=id_map(procfs.read(f"{place}/gid_map")),
        capabilities={name: named(int(said.get(key, "0"), 16)) for name, key in CAPABILITY_SETS.items()},
        no_new_privs=said.get("NoNewPrivs") == "1",
        seccomp=SECCOMP_MODES[seccomp] if seccomp < len(SECCOMP_MODES) else str(seccomp),
        seccomp_filters=int(said.get("Seccomp_filters", "0")),
        oom_score_adj=int(procfs.read(f"{place}/oom_score_adj") or "0"),
        umask=said.get("Umask", ""),
        limits=limits(procfs.read(f"{place}/limits")),
        root=_link(f"{place}/root"),
        cwd=_link(f"{place}/cwd"),
        descriptors=_descriptors(place),
        namespaces=_namespaces(pid),
        cgroups=cgroups(procfs.read(f"{place}/cgroup")),
    )


def status(pid: int) -> dict[str, str]:
    """/proc/PID/status; empty when the process has ended."""
    found = fields(procfs.read(f"/proc/{pid}/status"))
    return found if "Pid" in found else {}


def fields(status: str) -> dict[str, str]:
    """The "Key: value" lines of /proc/PID/status."""
    pairs = (line.partition(":") for line in status.splitlines())
    return {key: value.strip() for key, colon, value in pairs if colon}


def numbers(text: str) -> tuple[int, ...]:
    """Numbers with blanks between them."""
    return tuple(int(word) for word in text.split())


def named(mask: int) -> tuple[str, ...]:
    """Names of the capabilities of a mask, by number, without CAP_; one that we have no name for is its number."""
    known = capabilities.NAMES
    return tuple(known[bit] if bit < len(known) else str(bit) for bit in range(mask.bit_length()) if mask >> bit & 1)


def id_map(text: str) -> tuple[IdMap, ...]:
    """uid_map or gid_map."""
    return tuple(IdMap(*numbers(line)) for line in text.splitlines() if len(line.split()) == 3)


def limits(text: str) -> tuple[Limit, ...]:
    """/proc/PID/limits: columns with two or more blanks between them."""
    found = []
    for line in text.splitlines()[1:]:
        words = re.split(r" {2,}", line.rstrip())
        if len(words) >= 3:
            soft, hard = (-1 if word == "unlimited" else int(word) for word in words[1:3])
            found.append(Limit(words[0], soft, hard, words[3] if len(words) > 3 else ""))
    return tuple(found)


def cgroups(text: str) -> dict[str, str]:
    """Controllers of each hierarchy -> path in it (/proc/PID/cgroup); v2's hierarchy is "unified"."""
    parts = [line.split(":", 2) for line in text.splitlines()]
    return {part[1] or UNIFIED: part[2] for part in parts if len(part) == 3}


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _descriptors(place: str) -> dict[int, str]:
    try:
        found = sorted(int(name) for name in os.listdir(f"{place}/fd"))
    except OSError:
        return {}
    return {fd: target for fd in found for target in [_link(f"{place}/fd/{fd}")] if target}


def _namespaces(pid: int) -> dict[str, int]:
    try:
        return namespaces.of_process(pid)
    except OSError:
        return {}


def as_data(process: Process) -> dict[str, Any]:
    """The process as plain values with Kubernetes' kind of keys, for JSON."""
    return {
        "pid": process.pids[0],
        "pids": list(process.pids),
        "command": process.command,
        "user": {
            "uid": list(process.uid),
            "gid": list(process.gid),
            "groups": list(process.groups),
            "uidMap": [row._asdict() for row in process.uid_map],
            "gidMap": [row._asdict() for row in process.gid_map],
        },
        "capabilities": {name: list(held) for name, held in process.capabilities.items()},
        "noNewPrivs": process.no_new_privs,
        "seccomp": {"mode": process.seccomp, "filters": process.seccomp_filters},
        "oomScoreAdj": process.oom_score_adj,
        "umask": process.umask,
        "limits": [row._asdict() for row in process.limits],
        "root": process.root,
        "cwd": process.cwd,
        "descriptors": [{"fd": fd, "target": target} for fd, target in process.descriptors.items()],
    }
