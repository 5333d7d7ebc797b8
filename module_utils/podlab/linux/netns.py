"""Network namespaces with a name: a bind mount of the namespace on a file in /run/netns, as ip-netns(8) has them.

Source: network_namespaces(7), namespaces(7), ip-netns(8). Unlike ip-netns(8) the directory is not made a shared mount.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from . import syscalls

DIRECTORY = "/run/netns"
# Says that we made DIRECTORY, so that the last namespace removed takes it along.
MARKER = "/run/podlab/.netns-dir"
_SELF = "/proc/thread-self/ns/net"
# Where this thread is: for what takes a name or path and is meant for the machine itself.
HERE = _SELF


def path(name: str) -> str:
    """Where a name is pinned; a text with a slash is taken for a path already."""
    return name if "/" in name else f"{DIRECTORY}/{name}"


def title(where: str) -> str:
    """How messages call it."""
    return "this machine's network namespace" if where == HERE else f"network namespace {where}"


def names() -> list[str]:
    """Every entry of /run/netns, sorted, stale files included."""
    try:
        return sorted(os.listdir(DIRECTORY))
    except FileNotFoundError:
        return []


def inode(name: str) -> int:
    """The number of the namespace behind name or path; 0 when nothing is there or it is no namespace (nsfs)."""
    try:
        found = os.stat(path(name))
    except OSError:
        return 0
    return found.st_ino if found.st_dev == os.stat(_SELF).st_dev else 0


def exists(name: str) -> bool:
    """Whether name is a live namespace; a plain file left in its place is not."""
    return inode(name) != 0


def current() -> int:
    """The number of the network namespace that this thread is in."""
    return os.stat(_SELF).st_ino


@contextlib.contextmanager
def entered(where: str) -> Iterator[None]:
    """Be in the namespace of that name or path for the length of the block, in this thread only.

    Raises OSError: ENOENT when there is none, EINVAL when it is a plain file.
    """
    home = os.open(_SELF, os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(path(where), os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.setns(target, syscalls.CLONE_NEWNET)
        finally:
            os.close(target)
        try:
            yield
        finally:
            syscalls.setns(home, syscalls.CLONE_NEWNET)
    finally:
        os.close(home)


def create(name: str) -> None:
    """Make a new namespace and pin it; a stale plain file of that name is taken over.

    Raises OSError EEXIST when the name is a live namespace.
    """
    if exists(name):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path(name))
    _make_directory()
    os.close(os.open(path(name), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0))
    home = os.open(_SELF, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        try:
            syscalls.mount(_SELF, path(name), None, syscalls.MS_BIND)
        finally:
            syscalls.setns(home, syscalls.CLONE_NEWNET)
    finally:
        os.close(home)


def delete(name: str) -> None:
    """Unpin a namespace (or remove the stale file); it ends with its last process. Absent is fine.

    Removes /run/netns when we made it and it is empty.
    """
    target = path(name)
    with contextlib.suppress(OSError):
        while True:  # several mounts may lie on one another
            syscalls.umount(target, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
    try:
        os.unlink(target)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        _unlink_covered(target)
    _remove_directory()


def _unlink_covered(target: str) -> None:
    """Remove a file whose mount lies hidden below another mount of /run/netns.

    `ip netns add` mounts /run/netns on itself, over what was pinned before. Unlinking a file takes its mounts in every
    *other* mount namespace along, so a child with a mount table of its own uncovers the file there and unlinks it.
    """
    child = os.fork()
    if child == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
            for covered in (target, os.path.dirname(target), target):
                with contextlib.suppress(OSError):
                    while True:
                        syscalls.umount(covered, syscalls.MNT_DETACH)
            os.unlink(target)
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 1)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else errno.EINTR
    if code:
        raise OSError(code, os.strerror(code), target)


def _make_directory() -> None:
    if os.path.isdir(DIRECTORY):
        return
    os.makedirs(os.path.dirname(MARKER), 0o700, exist_ok=True)
    os.close(os.open(MARKER, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    os.makedirs(DIRECTORY, 0o755, exist_ok=True)


def _remove_directory() -> None:
    if not os.path.exists(MARKER):
        return
    if names():
        return
    with contextlib.suppress(OSError):  # what `ip netns add` laid over our directory; refused while in use
        syscalls.umount(DIRECTORY)
    with contextlib.suppress(OSError):
        os.rmdir(DIRECTORY)
    if not os.path.isdir(DIRECTORY):
        os.unlink(MARKER)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(MARKER))
