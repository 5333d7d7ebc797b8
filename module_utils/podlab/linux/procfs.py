"""Texts of /proc as data. Parsers take text; `read` and the functions beside it are the only ones that open files.

Source: proc(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

LISTENING = "0A"


def read(path: str) -> str:
    """The text of a file; empty when it is not there or not for us."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def memory_mb(meminfo: str) -> int:
    """All usable memory in MiB (MemTotal of /proc/meminfo); 0 when the text does not say."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(found.group(1)) // 1024 if found else 0


def filesystems(text: str) -> frozenset[str]:
    """Names of the file systems that the kernel has now (/proc/filesystems)."""
    return frozenset(line.split()[-1] for line in text.splitlines() if line.split())


def cgroup_subsystems(text: str) -> Mapping[str, int]:
    """Enabled cgroup v1 controllers and the hierarchy each is mounted in, 0 for none (/proc/cgroups)."""
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return {row[0]: int(row[1]) for row in rows if len(row) == 4 and row[3] == "1"}


def listening_ports(tables: Iterable[str]) -> frozenset[int]:
    """Ports with a listening socket (texts of /proc/net/tcp and /proc/net/tcp6)."""
    rows = [line.split() for text in tables for line in text.splitlines()[1:]]
    return frozenset(int(row[1].rpartition(":")[2], 16) for row in rows if len(row) > 3 and row[3] == LISTENING)


def status_mask(status: str, key: str) -> int:
    """A hexadecimal mask of /proc/PID/status ("CapBnd", "CapEff"); 0 when it is not there."""
    found = re.search(rf"^{key}:\s+([0-9a-f]+)$", status, re.MULTILINE)
    return int(found.group(1), 16) if found else 0


def namespaces() -> frozenset[str]:
    """Kinds of namespaces that the kernel has."""
    try:
        return frozenset(name for name in os.listdir("/proc/self/ns") if "_for_" not in name)
    except OSError:
        return frozenset()


def unit_is_active(name: str) -> bool:
    """Whether systemd runs a service: its cgroup is there as long as it does. Asks nobody, so it costs nothing."""
    roots = ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified")
    return any(os.path.isdir(f"{root}/system.slice/{name}") for root in roots)
