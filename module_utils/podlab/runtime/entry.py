"""The way into a node: enter it, and it is just a Linux machine. Light to import: every supervisor carries it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, Callable

from ..errors import PodlabError
from ..linux import cgroup, process, syscalls
from . import paths

# Joined in this order: the mount namespace last, since the others are opened through the machine's /proc.
JOINED = ("cgroup", "ipc", "uts", "net", "pid", "mnt")


def enter(record: Mapping[str, Any]) -> None:
    """Join the node's namespaces and cgroup; children forked afterwards are in its PID namespace.

    record: the node's node.json. Raises PodlabError when the node is not running.
    The process must be single-threaded (setns(2) refuses a mount namespace otherwise).
    """
    pid = record["pid"]
    fds = []
    for name in JOINED:
        try:
            fds.append((os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), syscalls.NAMESPACES[name]))
        except OSError:
            break
    # Compared after the descriptors are open: a pid that was reused in between is noticed.
    if len(fds) < len(JOINED) or not process.alive(pid, record["start"]):
        raise PodlabError(f"Node {record['name']} is not running. Bring it back: ./lab up")
    hierarchies = cgroup.detect()
    hierarchies.attach(f"{paths.node_cgroup(record['cluster'], record['name'])}/init", 0)
    for fd, flag in fds:
        syscalls.setns(fd, flag)
        os.close(fd)


def run_inside(record: Mapping[str, Any], body: Callable[[], int]) -> int:
    """Run body in a process of the node (its PID namespace included); return its exit code."""
    sys.stdout.flush()
    sys.stderr.flush()
    outer = os.fork()
    if outer == 0:
        code = 255
        try:
            enter(record)
            inner = os.fork()
            if inner == 0:
                os._exit(_guarded(body))
            code = exit_code(os.waitpid(inner, 0)[1])
        except PodlabError as error:
            print(f"podlab: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    return exit_code(os.waitpid(outer, 0)[1])


def _guarded(body: Callable[[], int]) -> int:
    try:
        return body()
    except (PodlabError, OSError) as error:
        print(f"podlab: {error}", file=sys.stderr, flush=True)
        return 255


def exit_code(status: int) -> int:
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
