"""One writer at a time: who changes a lab just now, by pid and start time, so that a killed writer holds nothing."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from typing import Any

from ..errors import PodlabError
from ..linux import netns, process
from . import paths
from .files import read_json
from .lab import check_name


@contextlib.contextmanager
def _opened(cluster: str) -> Iterator[int]:
    while True:
        os.makedirs(paths.run_root(), 0o700, exist_ok=True)
        try:
            fd = os.open(paths.lock_file(cluster), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            # Another lab was the last one in the directory, and has just taken it away.
            continue
        fcntl.flock(fd, fcntl.LOCK_EX)
        # A lock on a file that was removed meanwhile would be nobody's.
        with contextlib.suppress(FileNotFoundError):
            if os.stat(paths.lock_file(cluster)).st_ino == os.fstat(fd).st_ino:
                break
        os.close(fd)
    try:
        yield fd
    finally:
        os.close(fd)


def _holder(fd: int) -> dict[str, Any]:
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        found: dict[str, Any] = json.loads(os.read(fd, 4096))
    except ValueError:
        return {}
    return found if process.alive(found["pid"], found["start"]) else {}


def hold(cluster: str, pid: int) -> None:
    """Write down that process pid changes the lab. Raises PodlabError naming who does already, or the bad name."""
    check_name(cluster)
    start = process.start_time(pid)
    if not start:
        # Ansible's workers outlive an ansible-playbook that is killed.
        raise PodlabError(f"Lab {cluster} cannot be held for process {pid}, which is gone")
    with _opened(cluster) as fd:
        holder = _holder(fd)
        if holder and holder["pid"] != pid:
            raise PodlabError(
                f"Lab {cluster} is being changed by another run: held by pid {holder['pid']} since {holder['since']}. "
                "Wait for it to end"
            )
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        record = {"pid": pid, "start": start, "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.write(fd, json.dumps(record).encode())


def held(cluster: str) -> bool:
    """Whether a living process changes the lab just now."""
    record = read_json(paths.lock_file(cluster), {})
    return process.alive(record.get("pid", 0), record.get("start", 0))


def release(cluster: str, pid: int) -> None:
    """Take the note away again when it is pid's; the directory too when nothing else is in it."""
    if not os.path.exists(paths.lock_file(cluster)):
        return
    with _opened(cluster) as fd:
        if _holder(fd).get("pid", pid) == pid:
            os.unlink(paths.lock_file(cluster))
    with contextlib.suppress(OSError):
        os.rmdir(paths.run_root())


@contextlib.contextmanager
def alone(cluster: str) -> Iterator[bool]:
    """For what is done between commands: whether nobody changes the lab; who wants to, waits until the block ends."""
    with _opened(cluster) as fd:
        free = not _holder(fd)
        try:
            yield free
        finally:
            if free:
                os.unlink(paths.lock_file(cluster))


@contextlib.contextmanager
def machine() -> Iterator[None]:
    """Be the only one who changes the machine's own rules for its lab, for the length of the block.

    Two labs that come or go at the same time would each take the other for one that stays, or its doing for what was
    there before. The lock is on the network namespace whose rules they are: it leaves no file.
    """
    fd = os.open(netns.HERE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        # Closing would not do while a child that was forked meanwhile has it open.
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)
