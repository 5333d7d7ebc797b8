"""The calls behind podlab_mount's steps, and the reading of a mount namespace."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from typing import Any

from .errors import PodlabError
from .linux import mount, mountns
from .mount_model import Look
from .mount_want import Wanted


def look(namespace: str) -> Look:
    """What is there in a mount namespace. Raises OSError when it cannot be entered."""
    return Look(
        mountns.table(namespace),
        lambda path: _inside(namespace, _kind, path),
        lambda path: _inside(namespace, os.path.realpath, path),
        lambda path, gone: _inside(namespace, mountns.made_mountpoints, path, gone),
    )


def _inside(namespace: str, call: Callable[..., Any], *args: Any) -> Any:
    with mountns.entered(namespace):
        return call(*args)


def _kind(path: str) -> str:
    if os.path.isdir(path):
        return "dir"
    return "file" if os.path.lexists(path) else ""


def perform(what: str, namespace: str, args: Mapping[str, Any]) -> None:
    """Do one step inside the namespace. Raises PodlabError with what to do, or OSError."""
    with mountns.entered(namespace):
        _CALLS[what](**args)


def _add(want: Wanted) -> None:
    if want.binds:
        mount.bind(want.source, want.path, recursive=want.type == "rbind")
    elif want.type == "overlay":
        mount.overlay(want.path, want.lowerdirs, want.upperdir or None, want.workdir or None, want.words)
    else:
        try:
            mount.mount(want.device, want.path, want.type, want.words)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            raise PodlabError(f"the kernel has no file system type {want.type!r} (see /proc/filesystems)") from error


def _remount(path: str, words: list[str], whole: bool) -> None:
    mount.remount(path, words, whole=whole)


def _unmount(path: str) -> None:
    try:
        mount.unmount(path)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        users = ", ".join(_users(path)) or "a mount in another namespace, or the kernel itself"
        raise PodlabError(f"{path} is in use by {users}. End or move them first") from error


def _users(path: str) -> list[str]:
    """The processes that have their root, working directory or an open file at path or below it."""
    found = []
    for pid in sorted((name for name in os.listdir("/proc") if name.isdigit()), key=int):
        if any(link == path or link.startswith(path + "/") for link in _links(pid)):
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                found.append(f"process {pid} ({file.read().strip()})")
    return found


def _links(pid: str) -> list[str]:
    found = []
    try:
        places = [f"/proc/{pid}/cwd", f"/proc/{pid}/root"]
        places += [f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]
        for place in places:
            found.append(os.readlink(place))
    except OSError:
        return found  # it has ended, or is no business of ours
    return found


_CALLS: dict[str, Callable[..., None]] = {
    "mount.add": _add,
    "mount.remove": _unmount,
    "mount.remount": _remount,
    "mount.propagation": lambda path, kind: mount.set_propagation(path, kind),
    "mountpoint.add": lambda path, directory: mountns.make_mountpoint(path, directory),
    "mountpoint.remove": mountns.remove_mountpoint,
}
