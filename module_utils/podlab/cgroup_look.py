"""What podlab_cgroup sees of the machine."""

from __future__ import annotations

import os

from .cgroup_plan import Look
from .linux.cgroup import Hierarchies, detect
from .linux.cgroup_files import get, marks, tree_below

_UNITS = ((1 << 20, "GB"), (1 << 10, "MB"), (1, "KB"))


def look(trees: Hierarchies | None = None) -> Look:
    """The machine as it is. Raises PodlabError when no cgroup tree is mounted."""
    found = trees or detect()
    handed_down = marks(found.v2.directory) if found.v2 else []
    return Look(found, get, os.path.isdir, found.pids, _below, _alive, _name, page_sizes(), handed_down)


def _below(directory: str) -> list[str]:
    return tree_below(directory)[::-1] if os.path.isdir(directory) else []


def _alive(pid: int) -> bool:
    return pid > 0 and os.path.isdir(f"/proc/{pid}")


def _name(pid: int) -> str:
    return f"{pid} ({get(f'/proc/{pid}/comm') or 'ended'})" if pid else "one of another pid namespace"


def page_sizes(directory: str = "/sys/kernel/mm/hugepages") -> list[str]:
    """The huge page sizes of this machine as the hugetlb controller names them ("2MB", "1GB")."""
    if not os.path.isdir(directory):
        return []
    sizes = sorted(int(name[len("hugepages-") : -len("kB")]) for name in os.listdir(directory))
    return [next(f"{size // unit}{name}" for unit, name in _UNITS if size >= unit) for size in sizes]
