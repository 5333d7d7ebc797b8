"""One writer at a time of the rules of a lab's nodes. Light to import: every supervisor carries it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from . import paths


@contextlib.contextmanager
def programming(cluster: str) -> Iterator[None]:
    """Be the only one who programs the nodes' rules for the length of the block: a module call, the watcher, a pod.

    Each reads what is wanted inside the block, so that the last one has seen the newest. Without a lab's directory
    nobody else is there.
    """
    try:
        fd = os.open(paths.services_lock_file(cluster), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        yield
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
