"""What belongs to one lab on this machine, found by mark and name, and how it is taken away.

Nothing here needs the lab's config or state: a half-built lab, or one whose files are gone, is found all the same.
"""

from __future__ import annotations

import errno
import os
import re
import select
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import PodlabError
from ..kube.cluster import uplink_name
from ..linux import cgroup, netns, process, syscalls
from ..linux.netlink import Netlink
from ..step import Step
from . import files, gateway, paths
from .state import read_nodes

END_TIMEOUT_MS = 10000


class Found(NamedTuple):
    """The lab's things on this machine.

    processes: (pid, start time, command); namespaces: names in /run/netns; cgroup: its path or ""; uplink: the device
    or ""; directories: what is on disk; gateway: the steps that undo what the machine does for the lab, rules: the
    chains that are its.
    """

    processes: tuple[tuple[int, int, str], ...]
    namespaces: tuple[str, ...]
    cgroup: str
    uplink: str
    directories: tuple[str, ...]
    gateway: tuple[Step, ...] = ()
    rules: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """The things by name, for results and diffs."""
        return [
            *(f"process {pid} {command}" for pid, _, command in self.processes),
            *(f"netns {name}" for name in self.namespaces),
            *(f"cgroup {path}" for path in [self.cgroup] if path),
            *(f"chain {name}" for name in self.rules),
            *(f"link {name}" for name in [self.uplink] if name),
            *self.directories,
        ]


def check_name(cluster: str) -> None:
    """Raise PodlabError unless this can be a lab's name: paths and cgroups to remove are made of it."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", cluster):
        raise PodlabError(f"name: must be lower case letters, digits, dots and dashes, not {cluster!r}")


def find(cluster: str, purge: bool = False) -> Found:
    """Everything of the lab that is there. purge: the image store counts too. Raises PodlabError for a bad name."""
    check_name(cluster)
    hierarchies = cgroup.detect()
    root = paths.cgroup_root(cluster)
    pids = set(hierarchies.pids(root)) if hierarchies.exists(root) else set()
    pids.update(record["pid"] for record in read_nodes(cluster) if record["alive"])
    seen = gateway.look()
    directories = [paths.cluster_dir(cluster), paths.data_dir(cluster), *([paths.images_dir()] if purge else [])]
    return Found(
        tuple((pid, process.start_time(pid), process.command(pid)) for pid in sorted(pids)),
        tuple(name for name in netns.names() if is_ours(cluster, name)),
        _cgroup(hierarchies, root),
        _uplink(cluster),
        tuple(directory for directory in directories if os.path.isdir(directory)),
        tuple(gateway.removal(cluster, seen)),
        tuple(seen.chains(cluster)),
    )


def _cgroup(hierarchies: cgroup.Hierarchies, root: str) -> str:
    """The lab's, or the one above all labs' when a run that was killed has left nothing but that; else empty."""
    above = os.path.dirname(root)
    if hierarchies.exists(root):
        return root
    return above if hierarchies.exists(above) and not hierarchies.children(above) else ""


def is_ours(cluster: str, namespace: str) -> bool:
    """True when a name in /run/netns is the lab's network or one of its nodes, and not a node of another lab."""
    pattern = rf"podlab-{re.escape(cluster)}-(network|(control-plane|worker)[0-9]*)"
    return re.fullmatch(pattern, namespace) is not None


def _uplink(cluster: str) -> str:
    with Netlink() as netlink:
        link = netlink.links().get(uplink_name(cluster))
    return link.name if link and f"podlab-uplink-{cluster}" in link.altnames else ""


def removal(cluster: str, found: Found) -> list[Step]:
    """The steps that take it all away; processes first, so that nothing is in use any more."""
    steps: list[Step] = []
    argv: tuple[str, ...]
    if found.processes:
        argv = ("kill", "-KILL", *(str(pid) for pid, _, _ in found.processes))
        target = f"the {len(found.processes)} processes of lab {cluster}"
        args = {"processes": found.processes, "cluster": cluster}
        steps.append(Step("process.kill", target, argv, "lab is to go", end, args))
    steps += found.gateway
    if found.uplink:
        argv = ("ip", "link", "delete", found.uplink)
        steps.append(Step("link.delete", found.uplink, argv, "lab is to go", _delete_link, {"name": found.uplink}))
    for name in found.namespaces:
        argv = ("ip", "netns", "delete", name)
        steps.append(Step("netns.delete", name, argv, "lab is to go", netns.delete, {"name": name}))
    if found.cgroup:
        argv = ("find", f"/sys/fs/cgroup/*/{found.cgroup}", "-depth", "-type", "d", "-exec", "rmdir", "{}", "+")
        steps.append(Step("cgroup.remove", found.cgroup, argv, "lab is to go", _remove_cgroup, {"path": found.cgroup}))
    for directory in found.directories:
        argv = ("rm", "-r", directory)
        steps.append(Step("directory.remove", directory, argv, "lab is to go", remove_tree, {"path": directory}))
    return steps


def end(processes: Iterable[tuple[int, int, str]], cluster: str) -> None:
    """Kill and wait until they are gone. The nodes' PID 1 take their namespaces' processes along."""
    waiting = []
    for pid, start, _ in processes:
        try:
            fd = syscalls.pidfd_open(pid)
        except ProcessLookupError:
            continue
        if process.kill(pid, start):
            waiting.append(fd)
        else:
            # It has ended; whoever has its number now is not ours to wait for.
            os.close(fd)
    poll = select.poll()
    for fd in waiting:
        poll.register(fd, select.POLLIN)
    while waiting:
        ready = poll.poll(END_TIMEOUT_MS)
        if not ready:
            raise TimeoutError(errno.ETIMEDOUT, f"{len(waiting)} processes of lab {cluster} do not end")
        for fd, _ in ready:
            poll.unregister(fd)
            waiting.remove(fd)
            os.close(fd)


def _delete_link(name: str) -> None:
    with Netlink() as netlink:
        netlink.clear_link(name)


def _remove_cgroup(path: str) -> None:
    hierarchies, above = cgroup.detect(), os.path.dirname(path)
    if above:
        hierarchies.kill(path)
        hierarchies.remove(path)
    # What is above all labs goes only when no other lab is there by now.
    hierarchies.remove_if_empty(above or path)


def remove_tree(path: str) -> None:
    refuse_mounts(path)
    files.remove_tree(path)
    parent = os.path.dirname(path)
    while parent in (paths.run_root(), paths.lib_root(), f"{paths.lib_root()}/clusters"):
        try:
            os.rmdir(parent)
        except OSError:
            return
        parent = os.path.dirname(parent)


def refuse_mounts(path: str) -> None:
    """Never delete through a mount: what is below it is not ours (CVE-2024-23652 and its kin)."""
    from ..linux.mountinfo import mounts, under

    below = [mount.mount_point for mount in under(mounts(), path)]
    if below:
        raise PodlabError(
            f"{path} is not removed: {', '.join(below)} is mounted there. Unmount it first: umount {below[0]}"
        )
