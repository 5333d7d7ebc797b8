"""The settings and counters of a cgroup, read back from the kernel."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Callable

from .cgroup_files import get
from .cgroup_values import UNLIMITED, Values

if TYPE_CHECKING:
    from .cgroup import Hierarchies

_NO_LIMIT = 1 << 62


def number(text: str) -> int:
    """A limit: "max", -1 and v1's huge number are -1."""
    if text == "max":
        return UNLIMITED
    value = int(text)
    return UNLIMITED if value < 0 or value >= _NO_LIMIT else value


def keyed(text: str) -> dict[str, int]:
    """The "name number" lines of cpu.stat, memory.events, memory.oom_control and their like."""
    found = {}
    for line in text.split("\n"):
        words = line.split()
        if len(words) == 2 and words[1].lstrip("-").isdigit():
            found[words[0]] = int(words[1])
    return found


def read(trees: Hierarchies, path: str) -> Values:
    """See Hierarchies.read."""
    if not trees.exists(path):
        raise FileNotFoundError(2, "no such cgroup", path)
    versions = trees.versions()
    files = _Files(trees, path, versions)
    quota, period = _quota(files)
    limit = files.number("memory", "memory.limit_in_bytes", "memory.max")
    return Values(
        cpu_shares=files.number("cpu", "cpu.shares", ""),
        cpu_weight=files.number("cpu", "", "cpu.weight"),
        cpu_quota_us=quota,
        cpu_period_us=period,
        memory_limit=limit,
        memory_swap_max=_swap(files, limit),
        memory_oom_group=_flag(files.text("memory", "", "memory.oom.group")),
        pids_max=files.number("pids", "pids.max", "pids.max"),
        cpuset_cpus=files.text("cpuset", "cpuset.cpus", "cpuset.cpus"),
        cpuset_mems=files.text("cpuset", "cpuset.mems", "cpuset.mems"),
        hugetlb=_hugetlb(trees, path, versions),
    )


class _Files:
    """Texts of a cgroup's files by controller, whichever version has it."""

    def __init__(self, trees: Hierarchies, path: str, versions: Mapping[str, int]) -> None:
        self.trees, self.path, self.versions = trees, path, versions

    def text(self, controller: str, v1: str, v2: str) -> str | None:
        file = {1: v1, 2: v2}.get(self.versions.get(controller, 0), "")
        return get(os.path.join(self.trees.directory(controller, self.path), file)) if file else None

    def number(self, controller: str, v1: str, v2: str) -> int | None:
        text = self.text(controller, v1, v2)
        return None if text is None else number(text)


def _flag(text: str | None) -> bool | None:
    return None if text is None else text == "1"


def _quota(files: _Files) -> tuple[int | None, int]:
    both = files.text("cpu", "", "cpu.max")
    if both is not None:
        quota, period = both.split()
        return number(quota), int(period)
    period_text = files.text("cpu", "cpu.cfs_period_us", "")
    return files.number("cpu", "cpu.cfs_quota_us", ""), int(period_text or 100000)


def _swap(files: _Files, limit: int | None) -> int | None:
    total = files.number("memory", "memory.memsw.limit_in_bytes", "")
    if total is not None and limit is not None:
        return UNLIMITED if total < 0 or limit < 0 else total - limit
    return files.number("memory", "", "memory.swap.max")


def _hugetlb(trees: Hierarchies, path: str, versions: Mapping[str, int]) -> dict[str, int]:
    if "hugetlb" not in versions:
        return {}
    directory = trees.directory("hugetlb", path)
    end = ".limit_in_bytes" if versions["hugetlb"] == 1 else ".max"
    found = {}
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
        size = name[len("hugetlb.") : -len(end)]
        if name.startswith("hugetlb.") and name.endswith(end) and "." not in size:
            found[size] = number(get(os.path.join(directory, name)) or "max")
    return found


def frozen(trees: Hierarchies, path: str) -> bool:
    """See Hierarchies.frozen."""
    files = _Files(trees, path, trees.versions())
    state = files.text("freezer", "freezer.state", "") or ""
    unified = get(os.path.join(trees.v2.directory, path, "cgroup.freeze")) if trees.v2 else ""
    return state in ("FROZEN", "FREEZING") or unified == "1"


def stat(trees: Hierarchies, path: str) -> dict[str, int]:
    """See Hierarchies.stat. A counter that the machine has not got is left out."""
    files = _Files(trees, path, trees.versions())
    found: dict[str, int] = {}
    cpu = keyed(files.text("cpu", "cpu.stat", "cpu.stat") or "")
    usage = files.number("cpuacct", "cpuacct.usage", "")
    found["cpu_usage_us"] = usage // 1000 if usage is not None else cpu.get("usage_usec", 0)
    found["nr_periods"] = cpu.get("nr_periods", 0)
    found["nr_throttled"] = cpu.get("nr_throttled", 0)
    found["throttled_us"] = cpu.get("throttled_usec", cpu.get("throttled_time", 0) // 1000)
    single: tuple[tuple[str, Callable[[], int | None]], ...] = (
        ("memory_bytes", lambda: files.number("memory", "memory.usage_in_bytes", "memory.current")),
        ("pids", lambda: files.number("pids", "pids.current", "pids.current")),
    )
    for name, ask in single:
        value = ask()
        if value is not None:
            found[name] = value
    if "memory_bytes" in found:
        pages = keyed(files.text("memory", "memory.stat", "memory.stat") or "")
        # v1's lines without total_ leave out the cgroups below.
        cold = pages.get("total_inactive_file", pages.get("inactive_file", 0))
        found["memory_working_set"] = max(0, found["memory_bytes"] - cold)
    events = keyed(files.text("memory", "memory.oom_control", "memory.events") or "")
    if "oom_kill" in events:
        found["oom_kill"] = events["oom_kill"]
    return found
