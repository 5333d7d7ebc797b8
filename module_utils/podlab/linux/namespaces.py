"""Which namespaces there are and which processes are in them, as lsns(8) tells. Reads only.

Source: namespaces(7): /proc/PID/ns/TYPE is a link "net:[4026531840]".
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from . import netns

TYPES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")


class Namespace(NamedTuple):
    """One namespace. pids ascend; a namespace that is only pinned has none and no command."""

    inode: int
    type: str
    pids: tuple[int, ...]
    command: str  # of the lowest pid
    names: tuple[str, ...]  # of a network namespace: where /run/netns pins it


def pids() -> list[int]:
    """Every process that /proc shows, ascending."""
    return sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def of_process(pid: int | str, types: Iterable[str] = TYPES) -> dict[str, int]:
    """Type -> inode of the namespaces of a process. Types that the kernel does not have are left out.

    Raises OSError: ENOENT or ESRCH when there is no such process, EACCES when it may not be looked at.
    """
    found = {}
    os.readlink(f"/proc/{pid}/ns/mnt")  # says whether the process is there
    for kind in types:
        try:
            found[kind] = parse(os.readlink(f"/proc/{pid}/ns/{kind}"))
        except FileNotFoundError:
            continue
    return found


def parse(link: str) -> int:
    """The inode in "net:[4026531840]". Raises ValueError."""
    return int(link[link.index("[") + 1 : link.index("]")])


def command(pid: int) -> str:
    """The command line of a process, its name in brackets when it has none; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().rstrip(b"\0").replace(b"\0", b" ")
        if not words:
            with open(f"/proc/{pid}/comm", "rb") as file:
                words = b"[" + file.read().rstrip(b"\n") + b"]"
    except OSError:
        return ""
    return words.decode("utf-8", "backslashreplace")


def survey(types: Iterable[str] = TYPES) -> dict[int, dict[str, int]]:
    """pid -> type -> inode, of every process that can be looked at; those that end meanwhile are left out."""
    found = {}
    types = tuple(types)
    for pid in pids():
        try:
            found[pid] = of_process(pid, types)
        except OSError:
            continue
    return found


def group(processes: Mapping[int, Mapping[str, int]], pinned: Mapping[int, Sequence[str]]) -> list[Namespace]:
    """The namespaces of a survey, ordered by type and inode. pinned: inode -> names in /run/netns."""
    members: dict[tuple[str, int], list[int]] = {("net", inode): [] for inode in pinned}
    for pid in sorted(processes):
        for kind, inode in processes[pid].items():
            members.setdefault((kind, inode), []).append(pid)
    return [
        Namespace(inode, kind, tuple(inside), command(inside[0]) if inside else "", tuple(pinned.get(inode, ())))
        for (kind, inode), inside in sorted(members.items())
    ]


def pinned() -> dict[int, list[str]]:
    """Inode -> names of the network namespaces in /run/netns."""
    found: dict[int, list[str]] = {}
    for name in netns.names():
        inode = netns.inode(name)
        if inode:
            found.setdefault(inode, []).append(name)
    return found
