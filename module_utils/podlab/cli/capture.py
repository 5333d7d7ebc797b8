"""`capture`: tcpdump in the network namespace of a pod or a node."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
from collections.abc import Sequence

from ..errors import PodlabError
from ..linux import netns, syscalls
from . import lab, pick

PROGRAM = "tcpdump"
STDOUT = "-"
# A pod has one interface; of a node's, any may be the one that the packet takes.
INTERFACES = {"pod": "eth0", "node": "any"}


def arguments(kind: str, words: Sequence[str], more: Sequence[str], interface: str, count: int, raw: bool) -> list[str]:
    """tcpdump's command line. kind: "pod" or "node"; words: the filter; more: options of tcpdump itself.

    raw: packets to standard output as they come, for a file or for Wireshark, instead of lines of text.
    """
    argv = [PROGRAM, "-n", "-i", interface or INTERFACES[kind]]
    argv += ["-U", "-w", STDOUT] if raw else ["-l"]
    argv += ["-c", str(count)] if count else []
    return [*argv, *more, *words]


def capture(
    words: Sequence[str],
    more: Sequence[str] = (),
    *,
    name: str = "",
    namespace: str = "",
    interface: str = "",
    write: str = "",
    count: int = 0,
) -> None:
    """Become tcpdump in the namespace of words[0], a pod or a node; the other words are the filter.

    more: options for tcpdump. name: the lab. write: a file for the packets, "-" for standard output.
    count: end after so many packets (0: never). Does not return: signals, messages and exit code are tcpdump's.
    Raises PodlabError when there is no such place, no tcpdump, or the file cannot be made.
    """
    if not words:
        raise PodlabError("capture: you must say where: capture POD|NODE [FILTER...]")
    program = shutil.which(PROGRAM)
    if program is None:
        raise PodlabError("Cannot capture: no tcpdump on this machine. Install the package tcpdump.")
    where = pick.place(lab.read(name), words[0], namespace)
    argv = arguments(where.kind, words[1:], more, interface, count, bool(write))
    sys.stdout.flush()
    if write not in ("", STDOUT):
        _to_file(write)
    target = os.open(netns.path(where.netns), os.O_RDONLY | os.O_CLOEXEC)
    syscalls.setns(target, syscalls.CLONE_NEWNET)
    os.execv(program, argv)


def _to_file(text: str) -> None:
    """Make the file our standard output: tcpdump, which gives up root before it opens files, need not open it."""
    path = pathlib.Path(os.environ.get("PODLAB_CWD") or os.getcwd(), text)
    try:
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666), 1)
    except OSError as error:
        raise PodlabError(f"capture: cannot write {text}: {error.strerror}") from error
