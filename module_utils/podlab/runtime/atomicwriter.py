"""Files that change all at once: the kubelet's layout of configMap, secret, downwardAPI and projected volumes.

..2006_01_02_15_04_05.123456789/   the files
..data -> that directory           swapped by rename(2)
NAME -> ..data/NAME                one link for each first component of a path

Source: k8s pkg/volume/util/atomic_writer.go. A container may have changed what it finds in its volume: nothing here
follows a link of it, and what is written is in a directory that is made for it.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Mapping
from typing import Callable

from ..kube.payload import File
from .files import remove_tree

_DATA = "..data"
_NEW = "..data_tmp"
_STAMPED = re.compile(r"\.\.\d{4}_\d\d_\d\d_\d\d_\d\d_\d\d\.[0-9a-f]+", re.ASCII)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def write(volume: int, files: Mapping[str, File], own: Callable[[int], None]) -> bool:
    """Make the files the content of the volume; False when they are already.

    volume: descriptor of its directory. own: gives the directory behind a descriptor, and all below, its owner; called
    before anybody sees the new files.
    """
    current = _current(volume)
    if current and _has(volume, current, files):
        return False
    stamp = time.strftime("..%Y_%m_%d_%H_%M_%S.", time.gmtime()) + os.urandom(5).hex()
    os.mkdir(stamp, 0o755, dir_fd=volume)
    made = os.open(stamp, _DIRECTORY, dir_fd=volume)
    try:
        os.fchmod(made, 0o755)
        for path, file in files.items():
            _write_file(made, path.split("/"), file)
    finally:
        os.close(made)
    names = {path.split("/")[0] for path in files}
    for name in sorted(names):
        _link(volume, f"{_DATA}/{name}", name)
    own(volume)
    _link(volume, stamp, _NEW)
    os.rename(_NEW, _DATA, src_dir_fd=volume, dst_dir_fd=volume)
    _remove_old(volume, names, stamp)
    return True


def _current(volume: int) -> str:
    """Name of the directory that ..data leads to, "" when it leads to none of ours."""
    try:
        target = os.readlink(_DATA, dir_fd=volume)
    except OSError:
        return ""
    return target if _STAMPED.fullmatch(target) else ""


def _has(volume: int, current: str, files: Mapping[str, File]) -> bool:
    """Whether the current directory holds exactly these files."""
    try:
        fd = os.open(current, _DIRECTORY, dir_fd=volume)
    except OSError:
        return False
    try:
        found = set()
        for place, _, names, here in os.fwalk(".", dir_fd=fd, follow_symlinks=False):
            for name in names:
                path = os.path.normpath(f"{place}/{name}")
                if path not in files or not _is(here, name, files[path]):
                    return False
                found.add(path)
        return found == set(files)
    finally:
        os.close(fd)


def _is(directory: int, name: str, file: File) -> bool:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return False
    try:
        status = os.fstat(fd)
        # One byte more, so that a longer file is not taken for the same.
        return stat.S_ISREG(status.st_mode) and os.read(fd, len(file.data) + 1) == file.data
    finally:
        os.close(fd)


def _write_file(directory: int, parts: list[str], file: File) -> None:
    """Below a directory that is ours alone: nobody else knows its name yet."""
    if len(parts) > 1:
        try:
            os.mkdir(parts[0], 0o755, dir_fd=directory)
        except FileExistsError:
            pass
        inner = os.open(parts[0], _DIRECTORY, dir_fd=directory)
        try:
            _write_file(inner, parts[1:], file)
        finally:
            os.close(inner)
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(parts[0], flags, 0o600, dir_fd=directory)
    try:
        left = file.data
        while left:
            left = left[os.write(fd, left) :]
        os.fchmod(fd, file.mode)
    finally:
        os.close(fd)


def _link(volume: int, target: str, name: str) -> None:
    """A link of the volume's directory, in place of what a container may have put there."""
    try:
        os.symlink(target, name, dir_fd=volume)
    except FileExistsError:
        if _target(volume, name) != target:
            _remove(volume, name)
            os.symlink(target, name, dir_fd=volume)


def _remove(volume: int, name: str) -> None:
    if stat.S_ISDIR(os.stat(name, dir_fd=volume, follow_symlinks=False).st_mode):
        remove_tree(f"/proc/self/fd/{volume}/{name}")
    else:
        os.unlink(name, dir_fd=volume)


def _target(volume: int, name: str) -> str:
    try:
        return os.readlink(name, dir_fd=volume)
    except OSError:
        return ""


def _remove_old(volume: int, names: set[str], stamp: str) -> None:
    """Links to what is no longer there, and the directories of before."""
    for name in os.listdir(volume):
        if _STAMPED.fullmatch(name):
            if name != stamp:
                _remove(volume, name)
        elif name not in names and _target(volume, name) == f"{_DATA}/{name}":
            os.unlink(name, dir_fd=volume)
