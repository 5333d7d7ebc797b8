"""User namespaces: their maps, entering them, and mounts whose files belong to other users (idmapped mounts).

Sources: user_namespaces(7), mount_setattr(2), open_tree(2), move_mount(2).
"""

from __future__ import annotations

import errno
import os

from ..errors import PodlabError
from . import syscalls

# Of a pod: as many as the kubelet gives it.
SIZE = 65536


def write_maps(pid: int, first: int) -> None:
    """Map 0 and what follows in the process's user namespace to the machine's IDs from `first` on.

    Written from outside, with privilege: setgroups(2) stays allowed. Raises OSError.
    """
    for name in ("uid_map", "gid_map"):
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, f"0 {first} {SIZE}\n".encode())
        finally:
            os.close(fd)


def enter(fd: int) -> None:
    """Join the user namespace behind a descriptor and become its root, with every capability in it."""
    syscalls.setns(fd, syscalls.CLONE_NEWUSER)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def mapped_tree(source: str, userns: int) -> int:
    """A detached copy of what is mounted at source, in which the namespace's IDs stand for those on the disk.

    Raises PodlabError when the kernel or the file system cannot do that (Linux 5.12; overlay 5.19; tmpfs 6.3).
    """
    fd = tree(source)
    map_tree(fd, source, userns)
    return fd


def map_tree(fd: int, source: str, userns: int) -> None:
    """The same for a detached copy that there is; it is closed on an error. source: what messages call it."""
    try:
        syscalls.mount_setattr(fd, attr_set=syscalls.MOUNT_ATTR_IDMAP, userns_fd=userns)
    except OSError as error:
        os.close(fd)
        why = os.strerror(error.errno or 0)
        if error.errno in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
            why = f"its file system or this kernel has no idmapped mounts ({why})"
        raise PodlabError(f"hostUsers: false needs an idmapped mount of {source}: {why}") from error


def tree(source: str) -> int:
    """A detached copy of what is mounted at source and below it. Raises OSError."""
    flags = syscalls.OPEN_TREE_CLONE | syscalls.AT_RECURSIVE
    return syscalls.open_tree(syscalls.AT_FDCWD, source, flags)


def attach(fd: int, place: int | str) -> None:
    """Mount a detached tree at an open directory or file, or at a path. Raises OSError."""
    if isinstance(place, str):
        syscalls.move_mount(fd, syscalls.AT_FDCWD, place)
    else:
        syscalls.move_mount(fd, place, "")
