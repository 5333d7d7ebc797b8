"""Work that a supervisor does in a short-lived child, so that the pages which the work touches do not stay its own.

What the child clones becomes the supervisor's child at once (CLONE_PARENT): the starter ends, the container stays
watched.
"""

from __future__ import annotations

import marshal
import os
from typing import Any, Callable

from ..errors import PodlabError
from ..linux import syscalls

CLONE_PARENT = 0x00008000


class Failed(PodlabError):
    """The work failed; details["reason"] is a Kubernetes reason when there is one."""


class Starter:
    """The child's side: remembers what it cloned."""

    def __init__(self) -> None:
        self.born: list[int] = []
        self.helpers: list[int] = []

    def clone(self, flags: int) -> int:
        """clone(2) a child of the supervisor; 0 in it."""
        pid = syscalls.clone(flags | CLONE_PARENT)
        if pid:
            self.born.append(pid)
        return pid

    def help(self, flags: int) -> int:
        """clone(2) a child of the supervisor that ends by itself, before our result is asked for; 0 in it."""
        pid = syscalls.clone(flags | CLONE_PARENT)
        if pid:
            self.helpers.append(pid)
        return pid


def borrow(work: Callable[[Starter], dict[str, Any] | None]) -> dict[str, Any]:
    """Run work in a child; return its result, plain data (by marshal: json's machinery would stay in our memory).

    Raises Failed with the work's error; every process that it had cloned has been reaped then.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _work(work, write)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        said = file.read()
    os.waitpid(child, 0)
    result: dict[str, Any] = {"error": "its starter ended without a word", "born": []}
    if said:
        result, helpers = marshal.loads(said)
        for pid in helpers:
            _reap(pid)
    # Work may return an error of its own, of one container among several: only what was raised has "born".
    if "born" not in result:
        return result
    for pid in result["born"]:
        _reap(pid)
    raise Failed(result["error"], reason=result.get("reason", ""))


def _work(work: Callable[[Starter], dict[str, Any] | None], write: int) -> None:
    starter = Starter()
    try:
        result = work(starter) or {}
    except BaseException as error:
        reason = getattr(error, "details", {}).get("reason", "")
        result = {"error": str(error) or repr(error), "reason": reason, "born": starter.born}
    data = marshal.dumps((result, starter.helpers))
    while data:
        data = data[os.write(write, data) :]
    os._exit(0)


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass
