"""Small files, written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from typing import Any

from ..linux import syscalls


def write_text(path: str, text: str, mode: int = 0o644) -> None:
    """Replace the file by one with this text: a reader sees the old or the new one, never a part (rename(2)).

    Raises OSError, such as ENOSPC: then the old one is as it was.
    """
    write_bytes(path, text.encode(), mode)


def write_bytes(path: str, data: bytes, mode: int = 0o600) -> None:
    """The same, for bytes."""
    temporary = f"{os.path.dirname(path)}/.{os.path.basename(path)}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        try:
            os.fchmod(fd, mode)
            left = data
            # On a disk that is almost full write(2) takes what there is room for, and only the next one fails.
            while left:
                left = left[os.write(fd, left) :]
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def write_json(path: str, data: Any, mode: int = 0o600) -> None:
    """The same, for plain data."""
    write_text(path, json.dumps(data, separators=(",", ":")), mode)


def read_text(path: str, default: str = "") -> str:
    """Content of the file, or the default when there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return default


def read_json(path: str, default: Any = None) -> Any:
    """Plain data of the file; the default when there is none or it was cut off (a machine that lost power)."""
    text = read_text(path)
    try:
        return json.loads(text) if text else default
    except ValueError:
        return default


_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str, unmount: bool = False) -> None:
    """Remove the directory and all below it, never through a link or a mount, however deep; nothing there is fine.

    What a container leaves is hostile, such as a chain of directories longer than a path may be, or than there are
    descriptors: one descriptor does. unmount: what is mounted below goes first, else it is an OSError (EXDEV, EBUSY).
    """
    above, name = os.path.split(path.rstrip("/"))
    try:
        here = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    left = [name] if name in os.listdir(here) else []
    way: list[tuple[str, list[str], tuple[int, int]]] = []
    try:
        while True:
            if left:
                name = left.pop()
                inner = _open_below(here, name, unmount)
                way.append((name, left, _identity(here)))
                os.close(here)
                here, left = inner, _remove_files(inner, unmount)
            elif way:
                name, left, identity = way.pop()
                outer = os.open("..", _DIRECTORY, dir_fd=here)
                os.close(here)
                here = outer
                if _identity(here) != identity:
                    raise OSError(errno.EXDEV, f"{path} has been moved while it was removed")
                os.rmdir(name, dir_fd=here)
            else:
                return
    finally:
        os.close(here)


def _open_below(directory: int, name: str, unmount: bool) -> int:
    resolve = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_XDEV
    while True:
        try:
            return syscalls.openat2(directory, name, _DIRECTORY, resolve=resolve)
        except OSError as error:
            if error.errno != errno.EXDEV or not unmount:
                raise
        _unmount(directory, name)


def _remove_files(directory: int, unmount: bool) -> list[str]:
    """Remove what is no directory; return the names of those that are."""
    directories = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
                continue
            try:
                os.unlink(entry.name, dir_fd=directory)
            except OSError as error:
                if error.errno != errno.EBUSY or not unmount:
                    raise
                _unmount(directory, entry.name)
                os.unlink(entry.name, dir_fd=directory)
    return directories


def _unmount(directory: int, name: str) -> None:
    syscalls.umount(f"/proc/self/fd/{directory}/{name}", syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
