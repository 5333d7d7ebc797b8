"""Processes named by pid and start time, never by pid alone (proc(5))."""

from __future__ import annotations

import os
import signal

from . import syscalls

# linux/sched.h: set before anything else of exit(2) is seen.
_PF_EXITING = 0x4


def start_time(pid: int) -> int:
    """Start time of the process in clock ticks since boot (field 22 of /proc/PID/stat); 0 when there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            text = file.read()
    except OSError:
        return 0
    # The command name may hold blanks and brackets: count fields after the last one.
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def exiting(pid: int) -> bool:
    """True when the process is on its way out or gone: a PID namespace's first one first kills all others."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return True
    return bool(int(fields[6]) & _PF_EXITING)


def alive(pid: int, started: int) -> bool:
    """True when process pid runs (is no zombie) and is the one that started at that tick."""
    return pid > 0 and started > 0 and start_time(pid) == started


def kill(pid: int, started: int, number: int = signal.SIGKILL) -> bool:
    """Send a signal to exactly this process; False when it is gone already.

    The descriptor is taken first and the start time compared after, so a reused pid is never hit.
    """
    try:
        fd = syscalls.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not alive(pid, started):
            return False
        syscalls.pidfd_send_signal(fd, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)


def children(pid: int) -> list[int]:
    """Pids of the direct children, as the reader's PID namespace numbers them."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def namespace_pid(pid: int) -> int:
    """The pid that the process has in its own, innermost PID namespace (NSpid); 0 when it is gone."""
    return ns_pids(pid)[-1]


def ns_pids(pid: int) -> list[int]:
    """The pids of the process from the reader's PID namespace inwards (NSpid); [0] when it is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("NSpid:"):
                    return [int(word) for word in line.split()[1:]]
    except OSError:
        pass
    return [0]


def command(pid: int) -> str:
    """The command line of the process, shortened; its name in brackets when it has none."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(200).replace(b"\0", b" ").decode("utf-8", "replace").strip()
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return words[:60] or f"[{file.read().strip()}]"
    except OSError:
        return ""
