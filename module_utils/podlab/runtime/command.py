"""A command in a running container, by the same door as its start (enter.py): for `exec` and for exec probes.

Light to import: every supervisor carries it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple, NoReturn

from ..errors import PodlabError
from ..linux import cgroup, process, syscalls
from . import enter, entry, stdio

# The user namespace first: the others are its own. The network's before the PID namespace, which counts for the child;
# the mount namespace brings the root with it.
JOIN = ("user", "ipc", "uts", "net", "cgroup", "pid", "mnt")
FAILED_TO_RUN = 255


class Target(NamedTuple):
    """A running container: its runtime config, its cgroup and first process as the node names them, its environment."""

    container: Mapping[str, Any]
    cgroup: str
    pid: int
    environment: Sequence[tuple[str, str]]


def run(
    target: Target,
    argv: list[str],
    streams: Callable[[], tuple[int, int, int]],
    complain: Callable[[str], None],
    held: Sequence[int] = (),
    lead: Callable[[], None] = lambda: None,
) -> int:
    """In a process of the node: join the container's namespaces and cgroup, fork into its PID namespace, execute.

    streams: gives the command's standard streams, when the container's root is ours. complain: told, by its process,
    why it cannot be executed. held: the descriptors above 2 that streams and complain use; all others are closed.
    lead: called when the command leads its session. Returns its exit code (FAILED_TO_RUN when it never ran).
    Raises PodlabError when the container is gone or has no such user, OSError when it cannot be joined.
    """
    enter.forbid_tracing()
    fds = _namespaces(target)
    wanted = enter.privileges(target.container)
    enter.set_oom_score(wanted.oom_score_adj)
    enter.set_limits()
    cgroup.detect().attach(target.cgroup, 0)
    # Of nobody's, in a user namespace of the pod's, they could not be given to anybody there.
    root = _root_of(target.pid)
    stdio.own(held, root, root)
    for fd, kind in fds:
        syscalls.setns(fd, syscalls.NAMESPACES[kind])
        if kind == "user":
            wanted = enter.in_user_namespace(wanted, target.container)
    environment, there = _descend(target, wanted, held)
    for number, fd in enumerate(streams()):
        os.dup2(fd, number)
    # A container that may trace sees the child as soon as it is born: by then there is nothing in it to take.
    _close_all_but(held)
    child = os.fork()
    if child == 0:
        _become("" if there else target.container["cwd"], wanted, argv, environment, complain, lead)
    _close_all_but(())
    for number in range(3):
        os.close(number)
    return entry.exit_code(os.waitpid(child, 0)[1])


def _namespaces(target: Target) -> list[tuple[int, str]]:
    """Descriptors of the container's namespaces, in the order in which to join. Raises PodlabError when it is gone."""
    started = process.start_time(target.pid)
    try:
        fds = _foreign(target.pid)
        # Its number may be another's by now: to join that, the node's own shell perhaps, would be a way out.
        if _is_in(target.pid, target.cgroup) and process.alive(target.pid, started):
            return fds
    except (FileNotFoundError, ProcessLookupError):
        pass
    raise PodlabError("the container has just ended")


def _is_in(pid: int, path: str) -> bool:
    """True when the process is in this cgroup or below it; a container's cgroup has a name that no other ever has."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        return any(f"/{path}/" in f"{line.strip()}/" for line in file)


def _foreign(pid: int) -> list[tuple[int, str]]:
    """Descriptors of the process's namespaces that are not our own, by kind: what is the node's cannot be joined again.

    (Nobody can who has joined a user namespace of the pod's.)
    """
    fds = [(os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC), kind) for kind in JOIN]
    own = {kind: os.stat(f"/proc/self/ns/{kind}").st_ino for kind in JOIN}
    return [(fd, kind) for fd, kind in fds if os.fstat(fd).st_ino != own[kind]]


def _root_of(pid: int) -> int:
    """Who root of the process's user namespace is in ours."""
    with open(f"/proc/{pid}/uid_map", encoding="ascii") as file:
        words = file.read().split()
    return int(words[1]) if words[:1] == ["0"] else 0


def _descend(target: Target, wanted: enter.Privileges, held: Sequence[int]) -> tuple[Mapping[str, str], bool]:
    """Become no more than the container's own processes are, while still outside of its PID namespace.

    Returns the environment, and whether we are in the working directory.
    """
    user = enter.resolve_user(target.container["user"])
    stdio.own(held, user.uid)
    enter.reset_process()
    there = enter.reach_directory(target.container["cwd"])
    enter.become(user, wanted)
    return enter.environment(target.environment, user.home), there


def _close_all_but(held: Sequence[int]) -> None:
    first = 3
    for fd in sorted(held):
        if fd > first:
            syscalls.close_range(first, fd - 1)
        first = max(first, fd + 1)
    syscalls.close_range(first)


def _become(
    directory: str,
    wanted: enter.Privileges,
    argv: list[str],
    environment: Mapping[str, str],
    complain: Callable[[str], None],
    lead: Callable[[], None],
) -> NoReturn:
    try:
        os.setsid()
        lead()
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if directory:
            enter.change_directory(directory)
        enter.close_others()
        enter.execute(argv, environment, wanted)
    except FileNotFoundError as error:
        complain(f"{argv[0]}: {error.strerror}")
    except (OSError, PodlabError) as error:
        complain(str(error))
    os._exit(FAILED_TO_RUN)
