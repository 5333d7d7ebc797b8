"""cgroups through one face: v1 (a mount per controller), hybrid (v1 plus an almost empty v2) and pure v2.

A path is relative to the root of the hierarchy ("podlab/kind/kind-worker") and means the same cgroup in all of them.
systemd's own hierarchy (name=systemd) is left alone. Sources: cgroups(7), kernel cgroup-v1/*.rst and cgroup-v2.rst.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import PodlabError
from . import cgroup_values as rules
from . import device_filter
from .cgroup_files import check_path, children, get, hand_down, make, put, set_file, tree_below
from .cgroup_values import Values, Write
from .mountinfo import MountInfo, mounts

__all__ = ["Hierarchies", "Hierarchy", "Values", "detect"]

# Controllers in whose v1 hierarchies a cgroup is made. rdma, misc, net_* and perf_event carry no setting of a pod.
CONTROLLERS = ("cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "blkio", "pids", "hugetlb")
# Controllers handed down in a pure v2 tree, as the kubelet wants them.
V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")
# What a v1 container may open (runc's AllowedDevices); mknod of anything is allowed, opening is not.
DEFAULT_DEVICES = (
    "b *:* m",
    "c *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 10:200 rwm",
    "c 136:* rwm",
)
# Of a privileged container.
ALL_DEVICES = ("a *:* rwm",)


class Hierarchy(NamedTuple):
    """One mounted cgroup tree. directory: its mount point. version: 1 or 2."""

    directory: str
    controllers: tuple[str, ...]
    version: int


class Hierarchies(NamedTuple):
    """All trees of the machine. v2: the unified one, when there is one."""

    v1: tuple[Hierarchy, ...]
    v2: Hierarchy | None

    def single(self) -> Hierarchies:
        """One tree is enough to find a process by its cgroup; the others would only cost time."""
        if self.v2:
            return Hierarchies((), self.v2)
        return Hierarchies(tuple(tree for tree in self.v1 if "pids" in tree.controllers), None)

    @property
    def mode(self) -> str:
        """ "v1", "hybrid" or "v2"."""
        if not self.v1:
            return "v2"
        return "hybrid" if self.v2 else "v1"

    @property
    def every(self) -> tuple[Hierarchy, ...]:
        """The unified tree last: a process that shows there is already limited by all the others."""
        return (*self.v1, self.v2) if self.v2 else self.v1

    def versions(self) -> dict[str, int]:
        """Controller -> 1 or 2, for every controller there is."""
        found = {name: 2 for name in (self.v2.controllers if self.v2 else ())}
        found.update({name: 1 for tree in self.v1 for name in tree.controllers})
        return found

    def directory(self, controller: str, path: str) -> str:
        """The directory of the cgroup in the tree that has the controller. Raises PodlabError when none has."""
        for tree in self.every:
            if controller in tree.controllers:
                return os.path.join(tree.directory, path)
        raise PodlabError(lacking(controller, path, self.mode))

    def directories(self, path: str) -> list[str]:
        """The cgroup's directory in every tree."""
        check_path(path)
        return [os.path.join(tree.directory, path) for tree in self.every]

    def exists(self, path: str) -> bool:
        """Whether the cgroup is there in at least one tree."""
        return any(os.path.isdir(directory) for directory in self.directories(path))

    def complete(self, path: str) -> bool:
        """Whether the cgroup is there in every tree."""
        return all(os.path.isdir(directory) for directory in self.directories(path))

    def create(self, path: str) -> None:
        """Make the cgroup and its parents in every tree; what is there already stays as it is.

        v1 cpuset: CPUs and memory nodes are copied from the parent (without them nothing can be attached).
        v2: every controller is handed down to the parent's children. Raises PodlabError when a parent has processes.
        """
        check_path(path)
        for tree in self.every:
            make(tree.directory, path, cpuset=tree.version == 1 and "cpuset" in tree.controllers)
        if self.v2 and not self.v1:
            self.enable(path, V2_CONTROLLERS)

    def enable(self, path: str, controllers: Iterable[str]) -> None:
        """v2: hand the controllers down from the root to path (cgroup.subtree_control of every parent).

        Controllers the kernel lacks are passed over. Raises PodlabError naming the parent that has processes.
        """
        if self.v2 is None:
            return
        wanted = [name for name in controllers if name in self.v2.controllers]
        directory = self.v2.directory
        for part in path.split("/"):
            hand_down(directory, wanted, root=directory == self.v2.directory)
            directory = os.path.join(directory, part)

    def attach(self, path: str, pid: int = 0) -> None:
        """Move process pid into the cgroup in every tree; 0 is the caller, who must have a single thread.

        Raises OSError.
        """
        check_path(path)
        for tree in self.every:
            # A single-threaded process that moves itself through v1's tasks file spares the kernel-wide lock behind
            # cgroup.procs, which costs an RCU grace period (5 ms on an idle machine) each time.
            file = "tasks" if tree.version == 1 and pid == 0 else "cgroup.procs"
            put(os.path.join(tree.directory, path, file), str(pid))

    def file(self, write: Write, path: str) -> str:
        """The absolute name of the file that the write goes to."""
        return os.path.join(self.directory(write.controller, path), write.file)

    def plan(self, path: str, values: Values, level: str = "pod") -> list[tuple[str, Write]]:
        """(file, write) for every setting, in the order in which the kernel takes them now.

        level: "kubepods", "qos", "pod" (the kubelet's formula for CPU weight) or "container" (the runtime's).
        Raises PodlabError naming the controller, the cgroup and the remedy when the machine lacks a controller.
        """
        versions = self.versions()
        lacks = rules.missing(values, versions)
        if lacks:
            raise PodlabError("; ".join(lacking(controller, path, self.mode, field) for field, controller in lacks))
        wanted = rules.writes(values, versions, level)
        base = {write.file: self.file(write, path) for write in wanted}
        judged: tuple[str, ...] = ("memory.memsw.limit_in_bytes", "cpu.cfs_period_us")
        current = {file: get(base[file]) or "" for file in judged if file in base}
        found = []
        for write in rules.ordered(wanted, current):
            if not (write.optional and not os.path.exists(base[write.file])):
                found.append((base[write.file], write))
        return found

    def write(self, path: str, values: Values, level: str = "pod") -> None:
        """Write the settings of an existing cgroup. Raises PodlabError (missing controller or file, refused value)."""
        needed = [name for name in V2_CONTROLLERS if self.versions().get(name) == 2]
        used = {rules.controller_of(field, 2) for field in rules.asked(values)}
        self.enable(path, [name for name in needed if name in used])
        for file, write in self.plan(path, values, level):
            set_file(file, write.text)

    def read(self, path: str) -> Values:
        """The settings as the kernel holds them. Raises FileNotFoundError when the cgroup is not there."""
        from .cgroup_read import read

        return read(self, path)

    def frozen(self, path: str) -> bool:
        """Whether the cgroup's processes are stopped, or being stopped, by its freezer."""
        from .cgroup_read import frozen

        return frozen(self, path)

    def stat(self, path: str) -> dict[str, int]:
        """Counters: cpu_usage_us, nr_periods, nr_throttled, throttled_us, memory_bytes, pids, oom_kill.

        memory_working_set: memory_bytes without the file pages that nobody has used lately, as cAdvisor counts it.
        """
        from .cgroup_read import stat

        return stat(self, path)

    def set_devices(self, path: str, rules_text: Iterable[str] = DEFAULT_DEVICES) -> bool:
        """Allow the rules ("c 1:3 rwm") and no other device: by v1's files, on v2 by a program of eBPF.

        False when the kernel has neither: then only mounts can keep a container from devices that it makes.
        """
        wanted = tuple(rules_text)
        for tree in self.v1:
            if "devices" in tree.controllers:
                directory = os.path.join(tree.directory, path)
                put(os.path.join(directory, "devices.deny"), "a")
                for rule in wanted:
                    put(os.path.join(directory, "devices.allow"), rule)
                return True
        if wanted == ALL_DEVICES:
            return True
        try:
            if self.v2:
                device_filter.attach(os.path.join(self.v2.directory, path), device_filter.program(wanted))
                return True
        except OSError:
            pass
        return False

    def pids(self, path: str, recursive: bool = True) -> list[int]:
        """The processes in the cgroup (and below), of all trees; 0 stands for one of a foreign pid namespace."""
        found: set[int] = set()
        for directory in self.directories(path):
            for place in tree_below(directory) if recursive else [directory]:
                found.update(int(line) for line in (get(os.path.join(place, "cgroup.procs")) or "").split())
        return sorted(found)

    def children(self, path: str) -> list[str]:
        """The names of the cgroups directly below path, of all trees."""
        return sorted({name for directory in self.directories(path) for name in children(directory)})

    def kill(self, path: str, timeout: float = 5.0) -> None:
        """SIGKILL every process in the cgroup and below, and wait until it has ended (not: been reaped).

        Raises PodlabError when processes are left after `timeout` seconds, or the caller itself is inside.
        """
        from .cgroup_end import kill

        kill(self, path, timeout)

    def remove(self, path: str, timeout: float = 2.0) -> None:
        """Remove the cgroup and all below it, deepest first; nothing to do is fine.

        Processes that are ending get `timeout` seconds. Raises PodlabError naming the processes still inside.
        """
        from .cgroup_end import remove

        remove(self, path, timeout)

    def remove_if_empty(self, path: str) -> bool:
        """Remove the cgroup when it has neither children nor processes in any tree; tell whether it is gone."""
        from .cgroup_end import remove_if_empty

        return remove_if_empty(self, path)


def lacking(controller: str, path: str, mode: str, field: str = "") -> str:
    """The sentence for a controller that the machine has not got."""
    wish = f"{field} of cgroup {path}" if field else f"cgroup {path}"
    remedy = _REMEDIES.get(controller, "Mount it, or use a kernel that has it (see /proc/cgroups, cgroup.controllers)")
    return f"{wish} needs the {controller} controller, which this machine does not have (cgroup {mode}). {remedy}"


_REMEDIES = {
    "memory": "Start the kernel with cgroup_enable=memory",
    "hugetlb": "Mount it (mount -t cgroup -o hugetlb hugetlb /sys/fs/cgroup/hugetlb) or use a kernel that has it",
}


def detect(table: Iterable[MountInfo] | None = None) -> Hierarchies:
    """Which trees this process sees, from its mount table (or the given one).

    Of several mounts of one tree the one under /sys/fs/cgroup is taken. Raises PodlabError when there is none.
    """
    trees: dict[tuple[int, tuple[str, ...]], Hierarchy] = {}
    for entry in mounts() if table is None else table:
        tree = _hierarchy(entry)
        if tree is None:
            continue
        key = (tree.version, tree.controllers if tree.version == 1 else ())
        known = trees.get(key)
        if known is None or not known.directory.startswith("/sys/fs/cgroup"):
            trees[key] = tree
    v1 = tuple(tree for tree in trees.values() if tree.version == 1)
    v2 = next((tree for tree in trees.values() if tree.version == 2), None)
    if not v1 and v2 is None:
        raise PodlabError("No cgroup tree is mounted. Mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup")
    return Hierarchies(v1, v2)


def _hierarchy(entry: MountInfo) -> Hierarchy | None:
    if entry.fstype == "cgroup2":
        offered = get(os.path.join(entry.mount_point, "cgroup.controllers")) or ""
        return Hierarchy(entry.mount_point, tuple(offered.split()), 2)
    if entry.fstype == "cgroup":
        names = tuple(name for name in entry.super_options if name in CONTROLLERS)
        return Hierarchy(entry.mount_point, names, 1) if names else None
    return None
