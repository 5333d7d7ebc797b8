"""Acting in another mount namespace, and seeing what a mount covers. Sources: setns(2), open_tree(2), xattr(7)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Set
from contextlib import contextmanager

from . import syscalls
from .mountinfo import MountInfo, parse

# On a directory or file that we made to mount on: it is ours to remove again.
_MARK = "trusted.podlab.mountpoint"
_AT_FDCWD = -100
_OPEN_TREE_CLONE = 1


@contextmanager
def entered(namespace: str) -> Iterator[None]:
    """`with` this (single-threaded) process in a mount namespace, and back. Root and working directory change with it.

    namespace: a pid, the path of a namespace file, or empty for the present one. Raises OSError.
    """
    if not namespace:
        yield
        return
    there = os.open(namespace_file(namespace), os.O_RDONLY | os.O_CLOEXEC)
    here = os.open("/", os.O_PATH | os.O_CLOEXEC)
    directory = os.open(".", os.O_PATH | os.O_CLOEXEC)
    back = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(there, syscalls.CLONE_NEWNS)
        try:
            yield
        finally:
            syscalls.setns(back, syscalls.CLONE_NEWNS)
            os.fchdir(here)
            os.chroot(".")
            os.fchdir(directory)
    finally:
        for fd in (here, directory, back, there):
            os.close(fd)


def namespace_file(namespace: str) -> str:
    """The file of a mount namespace given as a pid or as a path."""
    return f"/proc/{namespace}/ns/mnt" if namespace.isdigit() else namespace


def table(namespace: str = "") -> list[MountInfo]:
    """The mount table of a namespace, read through this process's own /proc (there may be none inside)."""
    proc = os.open("/proc", os.O_PATH | os.O_CLOEXEC)
    try:
        with entered(namespace):
            fd = os.open("self/mountinfo", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    finally:
        os.close(proc)
    with open(fd, encoding="utf-8", errors="surrogateescape") as file:
        return parse(file.read())


def make_mountpoint(path: str, directory: bool) -> None:
    """Make a directory (with its parents) or an empty file to mount on, and mark each as made by us. Raises OSError."""
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        make_mountpoint(parent, directory=True)
    if directory:
        os.mkdir(path)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    try:
        os.setxattr(path, _MARK, b"1")
    except OSError:
        return  # a file system without such attributes: the mountpoint is then not removed again


def remove_mountpoint(path: str) -> None:
    """Remove what make_mountpoint made at path, not its parents. Raises OSError when it is not empty."""
    if os.path.isdir(path):
        os.rmdir(path)
    else:
        os.unlink(path)


def made_mountpoints(path: str, gone: Set[str] = frozenset()) -> list[str]:
    """path and its parents as far as they carry our mark and hold nothing else, deepest first.

    Looks beneath what is mounted on them, so that the answer can be given before anything is unmounted.
    gone: paths that count as removed already.
    """
    found: list[str] = []
    while path != "/" and _made(path, {os.path.basename(place) for place in {*gone, *found} if _parent(place) == path}):
        found.append(path)
        path = _parent(path)
    return found


def _parent(path: str) -> str:
    return os.path.dirname(path)


def _made(path: str, without: Set[str]) -> bool:
    """Whether the covered path is marked and holds nothing but the names in `without`."""
    try:
        parent = _uncovered(_parent(path))
    except OSError:
        return False
    try:
        fd = os.open(os.path.basename(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        return False
    finally:
        os.close(parent)
    try:
        if _MARK not in os.listxattr(fd):
            return False
        return not stat.S_ISDIR(os.fstat(fd).st_mode) or set(os.listdir(fd)) <= without
    except OSError:
        return False
    finally:
        os.close(fd)


def _uncovered(directory: str) -> int:
    """A descriptor of the directory in a detached copy of its mount alone, without what is mounted below it."""
    return syscalls.open_tree(_AT_FDCWD, directory, _OPEN_TREE_CLONE)
