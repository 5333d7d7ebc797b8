"""The end of a cgroup: its processes killed, its directories removed."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from typing import TYPE_CHECKING

from ..errors import PodlabError
from . import syscalls
from .cgroup_files import check_path, children, get, put, take_back, tree_below

if TYPE_CHECKING:
    from .cgroup import Hierarchies, Hierarchy


def kill(trees: Hierarchies, path: str, timeout: float) -> None:
    """See Hierarchies.kill."""
    deadline = time.monotonic() + timeout
    while True:
        pids = trees.pids(path)
        if not pids:
            return
        if os.getpid() in pids:
            raise PodlabError(
                f"Cannot kill the processes of cgroup {path}: this process ({os.getpid()}) is one of them"
            )
        _kill_all(trees, path, pids, deadline)
        if time.monotonic() >= deadline:
            left = trees.pids(path)
            if left:
                raise PodlabError(f"Processes of cgroup {path} are still there after SIGKILL: {_names(left)}")


def _kill_all(trees: Hierarchies, path: str, pids: list[int], deadline: float) -> None:
    """One round: nobody may fork while the signals go out, then wait for those who were hit."""
    if trees.v2:
        _write_if_there(os.path.join(trees.v2.directory, path, "cgroup.kill"), "1")
    watched = []
    frozen = _freeze(trees, path, "FROZEN")
    try:
        for pid in pids:
            try:
                fd = syscalls.pidfd_open(pid)
            except OSError:
                continue  # it has ended already, or is of another pid namespace (0)
            watched.append(fd)
            try:
                syscalls.pidfd_send_signal(fd, signal.SIGKILL)
            except ProcessLookupError:
                continue
    finally:
        if frozen:
            _freeze(trees, path, "THAWED")
    _wait_ended(watched, deadline)
    if not watched:
        wait_empty(trees, path, min(deadline, time.monotonic() + 0.05))


def _wait_ended(fds: list[int], deadline: float) -> None:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    waiting = set(fds)
    while waiting and time.monotonic() < deadline:
        for fd, _ in poll.poll(max(0, (deadline - time.monotonic()) * 1000)):
            poll.unregister(fd)
            waiting.discard(fd)
    for fd in fds:
        os.close(fd)


def _freeze(trees: Hierarchies, path: str, state: str) -> bool:
    """v1: freeze or thaw the cgroup and all below. A v2 kill needs none of it."""
    for tree in trees.v1:
        if "freezer" in tree.controllers:
            return _write_if_there(os.path.join(tree.directory, path, "freezer.state"), state)
    return False


def _write_if_there(file: str, text: str) -> bool:
    try:
        put(file, text)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise
        return False
    return True


def wait_empty(trees: Hierarchies, path: str, deadline: float) -> bool:
    """Wait until no process is in the cgroup or below; tell whether that came true.

    v2 says so by an event on cgroup.events. v1 has none, so there cgroup.procs is looked at every 2 ms.
    """
    while trees.pids(path):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        if not _wait_populated(trees, path, left):
            select.select([], [], [], min(left, 0.002))
    return True


def _wait_populated(trees: Hierarchies, path: str, seconds: float) -> bool:
    """Wait for the v2 cgroup to become empty; False when it is empty or not there, so that there is no event."""
    if trees.v2 is None:
        return False
    try:
        fd = os.open(os.path.join(trees.v2.directory, path, "cgroup.events"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        poll = select.poll()
        poll.register(fd, select.POLLPRI)
        if b"populated 0" in os.read(fd, 4096):
            return False
        return bool(poll.poll(seconds * 1000))
    except OSError:
        return False
    finally:
        os.close(fd)


def remove(trees: Hierarchies, path: str, timeout: float) -> None:
    """See Hierarchies.remove."""
    check_path(path)
    deadline = time.monotonic() + timeout
    for tree in trees.every:
        _remove_from(trees, tree, path, deadline)
    _forget(trees, path)


def _remove_from(trees: Hierarchies, tree: Hierarchy, path: str, deadline: float) -> None:
    directory = os.path.join(tree.directory, path)
    while not _rmdir(directory):
        for place in reversed(tree_below(directory)[1:]):
            _rmdir(place)
        if _rmdir(directory):
            return
        if time.monotonic() >= deadline:
            raise _occupied(trees, tree, path)
        # Either processes are ending, or the kernel still holds a reference to one that has just ended.
        if wait_empty(trees, path, deadline):
            select.select([], [], [], 0.001)


def _occupied(trees: Hierarchies, tree: Hierarchy, path: str) -> PodlabError:
    pids = trees.pids(path)
    why = f"processes are in it: {_names(pids)}" if pids else f"the kernel says it is busy ({tree.directory})"
    return PodlabError(f"Cannot remove cgroup {path}: {why}. End them first, or ask for them to be killed", pids=pids)


def _names(pids: list[int]) -> str:
    named = []
    for pid in pids[:10]:
        name = (get(f"/proc/{pid}/comm") or "ended") if pid else "of another pid namespace"
        named.append(f"{pid} ({name})")
    return ", ".join(named) + (f" and {len(pids) - 10} more" if len(pids) > 10 else "")


def _rmdir(directory: str) -> bool:
    """True when the directory is gone, False when it is in use."""
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
            return False
        raise
    return True


def remove_if_empty(trees: Hierarchies, path: str) -> bool:
    """See Hierarchies.remove_if_empty."""
    directories = trees.directories(path)
    if any(children(directory) for directory in directories) or trees.pids(path, recursive=False):
        return False
    gone = all([_rmdir(directory) for directory in directories])
    _forget(trees, path)
    return gone


def _forget(trees: Hierarchies, path: str) -> None:
    """Undo what `enable` did at the root of the v2 tree, once a cgroup right below it is gone."""
    if trees.v2 and "/" not in path:
        take_back(trees.v2.directory)
