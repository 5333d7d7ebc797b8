"""A container in its pod's user namespace: what has to be done with the node's privileges, and the way in.

The order is runc's: the layers, the overlay and everything that is bound is prepared outside, as idmapped mounts, which
nobody inside could make; then the namespaces are joined, the user namespace first; and only there the process is
cloned, so that its mount and PID namespaces belong to the pod's users.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple, NoReturn

from ..linux import syscalls, usernamespace
from . import containerroot
from .rootmounts import RootMount
from .starter import CLONE_PARENT, Starter

# cgroups are the kernel's, and never written to.
UNMAPPED = "/sys/fs/cgroup/"


def prepare(
    container: Mapping[str, Any], merged: str, mounts: Sequence[RootMount], base: int, userns: int, filtered: bool
) -> list[RootMount]:
    """In the helper's own mount namespace: the overlay at merged, which is then the working directory.

    base: the machine's ID of the container's root. userns: descriptor of the pod's user namespace. Returns the mounts,
    each bind with a detached tree to attach. Raises PodlabError for what cannot be mapped.
    """
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    for layer in dict.fromkeys(container["layers"]):
        fd = usernamespace.mapped_tree(layer, userns)
        usernamespace.attach(fd, layer)
        os.close(fd)
    os.chown(f"{os.path.dirname(merged)}/upper", base, base)
    containerroot.mount_overlay(container, merged, filtered)
    os.chdir(merged)
    return [_held(mount, userns) for mount in mounts]


def _held(mount: RootMount, userns: int) -> RootMount:
    if mount.fstype or mount.source.startswith(UNMAPPED):
        return mount
    if mount.tree >= 0:
        usernamespace.map_tree(mount.tree, mount.source, userns)
        return mount
    # Shared memory has been made for the pod's root.
    if mount.target == "/dev/shm" and mount.source.endswith("/shm"):
        return mount._replace(tree=usernamespace.tree(mount.source))
    return mount._replace(tree=usernamespace.mapped_tree(mount.source, userns))


class Pod(NamedTuple):
    """pause: pid of the sandbox, whose user namespace is the pod's. processes: whose PID namespace is joined, or 0."""

    pause: int
    processes: int


def clone(
    starter: Starter,
    report: int,
    pod: Pod,
    outside: Callable[[int], tuple[Any, list[RootMount]]],
    join: Callable[[], None],
    inside: Callable[[Any, list[RootMount]], NoReturn],
) -> int:
    """Clone the container's process by way of a helper, which joins what its parent could not leave again.

    report: told what went wrong. outside: in the helper, with the node's privileges, given the user namespace; join:
    then, in that namespace; inside: in the clone, with what outside has given.
    Returns the pid, 0 when there is none.
    """
    read, write = os.pipe()
    if starter.help(syscalls.CLONE_NEWNS) == 0:
        try:
            userns = _open(pod.pause, "user")
            pid_namespace = _open(pod.processes or pod.pause, "pid")
            prepared = outside(userns)
            usernamespace.enter(userns)
            join()
            flags = syscalls.CLONE_NEWNS | CLONE_PARENT
            if pod.processes:
                syscalls.setns(pid_namespace, syscalls.CLONE_NEWPID)
            else:
                flags |= syscalls.CLONE_NEWPID
            pid = syscalls.clone(flags)
            if pid == 0:
                inside(*prepared)
            os.write(write, str(pid).encode())
        except BaseException as error:
            os.write(report, str(error).encode("utf-8", "replace")[:4096])
        os._exit(0)
    os.close(write)
    pid = int(os.read(read, 32) or 0)
    os.close(read)
    if pid:
        starter.born.append(pid)
    return pid


def _open(pid: int, kind: str) -> int:
    return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
