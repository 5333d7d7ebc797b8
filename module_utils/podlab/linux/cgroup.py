"""cgroups through one face: v1 (a mount per controller), hybrid (v1 plus an almost empty v2) and pure v2.

A path is relative to the root of the hierarchy ("podlab/kind/kind-worker") and means the same cgroup in all of them.
systemd's own hierarchy (name=systemd) is left alone. Sources: cgroups(7), kernel cgroup-v1/*.rst and cgroup-v2.rst.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import PodlabError
from . import cgroup_values as rules
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
# On the root of a v2 tree: the controllers that were switched on there by us, to be switched off at the end.
_MARK = "trusted.podlab.controllers"


class Hierarchy(NamedTuple):
    """One mounted cgroup tree. directory: its mount point. version: 1 or 2."""

    directory: str
    controllers: tuple[str, ...]
    version: int


class Hierarchies(NamedTuple):
    """All trees of the machine. v2: the unified one, when there is one."""

    v1: tuple[Hierarchy, ...]
    v2: Hierarchy | None

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
        for tree in self.v1:
            _make(tree, path)
        if self.v2:
            _make(self.v2, path)
            if not self.v1:
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
            _hand_down(directory, wanted, root=directory == self.v2.directory)
            directory = os.path.join(directory, part)

    def attach(self, path: str, pid: int = 0) -> None:
        """Move process pid into the cgroup in every tree. 0: the caller, who must have a single thread. Raises OSError."""
        check_path(path)
        for tree in self.every:
            # A single-threaded process that moves itself through v1's tasks file spares the kernel-wide lock behind
            # cgroup.procs, which costs an RCU grace period (5 ms on an idle machine) each time.
            file = "tasks" if tree.version == 1 and pid == 0 else "cgroup.procs"
            put(os.path.join(tree.directory, path, file), str(pid))

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
        base: dict[str, str] = {
            write.file: os.path.join(self.directory(write.controller, path), write.file) for write in wanted
        }
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

    def stat(self, path: str) -> dict[str, int]:
        """Counters: cpu_usage_us, nr_periods, nr_throttled, throttled_us, memory_bytes, pids, oom_kill."""
        from .cgroup_read import stat

        return stat(self, path)

    def set_devices(self, path: str, rules_text: Iterable[str] = DEFAULT_DEVICES) -> bool:
        """v1: deny every device, then allow the rules ("c 1:3 rwm"). False on v2, which has no such file."""
        for tree in self.v1:
            if "devices" in tree.controllers:
                directory = os.path.join(tree.directory, path)
                put(os.path.join(directory, "devices.deny"), "a")
                for rule in rules_text:
                    put(os.path.join(directory, "devices.allow"), rule)
                return True
        return False

    def pids(self, path: str, recursive: bool = True) -> list[int]:
        """The processes in the cgroup (and below), of all trees; 0 stands for one of a foreign pid namespace."""
        found: set[int] = set()
        for directory in self.directories(path):
            for place in _tree(directory) if recursive else [directory]:
                found.update(int(line) for line in (get(os.path.join(place, "cgroup.procs")) or "").split())
        return sorted(found)

    def children(self, path: str) -> list[str]:
        """The names of the cgroups directly below path, of all trees."""
        return sorted({name for directory in self.directories(path) for name in _children(directory)})

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


def check_path(path: str) -> None:
    """Raise PodlabError unless path is relative and stays below the root."""
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") for part in parts):
        raise PodlabError(f"cgroup path must be relative without empty, '.' or '..' parts, not {path!r}")


def put(file: str, text: str) -> None:
    """Write text to a control file in one write(2). Raises OSError naming the file."""
    fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise OSError(error.errno, f"write {text!r}: {os.strerror(error.errno or 0)}", file) from error
    finally:
        os.close(fd)


_HINTS = {
    errno.EINVAL: "the kernel does not take this value here; it may exceed what the parent cgroup allows",
    errno.EBUSY: "the cgroup is in use: the value is below what its processes hold",
    errno.ENOENT: "this kernel has no such file",
    errno.ENODEV: "there is no such device",
    errno.ERANGE: "the value is out of the kernel's range",
}


def set_file(file: str, text: str) -> None:
    """`put` with a sentence for what the kernel refuses. Raises PodlabError."""
    try:
        put(file, text)
    except OSError as error:
        hint = _HINTS.get(error.errno or 0, os.strerror(error.errno or 0))
        raise PodlabError(f"Cannot write {text!r} to {file}: {hint}", errno=error.errno) from error


def get(file: str) -> str | None:
    """The text of a control file without the last newline; None when there is no such file."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        parts: list[bytes] = []
        while True:
            part = os.read(fd, 65536)
            if not part:
                return b"".join(parts).decode().rstrip("\n")
            parts.append(part)
    except OSError as error:
        if error.errno == errno.ENODEV:  # the cgroup was removed between open and read
            return None
        raise
    finally:
        os.close(fd)


def _make(tree: Hierarchy, path: str) -> None:
    directory = os.path.join(tree.directory, path)
    try:
        os.mkdir(directory)
    except FileExistsError:
        return
    except FileNotFoundError:
        parent = os.path.dirname(path)
        if not parent:
            raise
        _make(tree, parent)
        _make(tree, path)
        return
    if tree.version == 1 and "cpuset" in tree.controllers:
        _inherit_cpuset(directory)


def _inherit_cpuset(directory: str) -> None:
    parent = os.path.dirname(directory)
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not get(os.path.join(directory, name)):
            put(os.path.join(directory, name), get(os.path.join(parent, name)) or "")


def _hand_down(directory: str, wanted: Iterable[str], root: bool) -> None:
    file = os.path.join(directory, "cgroup.subtree_control")
    enabled = (get(file) or "").split()
    offered = (get(os.path.join(directory, "cgroup.controllers")) or "").split()
    new = [name for name in wanted if name in offered and name not in enabled]
    if not new:
        return
    try:
        put(file, " ".join(f"+{name}" for name in new))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise PodlabError(
            f"Cannot hand {', '.join(new)} down from cgroup {directory}: it has processes of its own, and a v2 cgroup "
            f"has either processes or children with controllers. Move its processes to a child (kind uses init.scope)"
        ) from error
    if root:
        marked = marks(directory)
        os.setxattr(directory, _MARK, " ".join(sorted({*marked, *new})).encode())


def marks(directory: str) -> list[str]:
    """The controllers that we switched on at the root of a v2 tree."""
    try:
        return os.getxattr(directory, _MARK).decode().split()
    except OSError:
        return []


def take_back(directory: str) -> None:
    """Switch off at the root what we switched on there, unless another cgroup uses it by now."""
    left = []
    for name in marks(directory):
        try:
            put(os.path.join(directory, "cgroup.subtree_control"), f"-{name}")
        except OSError:
            left.append(name)
    try:
        if left:
            os.setxattr(directory, _MARK, " ".join(left).encode())
        else:
            os.removexattr(directory, _MARK)
    except OSError:
        return  # no mark, or a file system without extended attributes: nothing to forget


def _children(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


def _tree(directory: str) -> list[str]:
    """The directory and all below, parents first."""
    found = [directory]
    for place in found:
        found += [os.path.join(place, name) for name in _children(place)]
    return found


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
