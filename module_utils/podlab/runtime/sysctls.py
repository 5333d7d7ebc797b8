"""A pod's sysctls, written in its own namespaces. Runs in a starter, inside the node."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..errors import PodlabError
from ..linux import syscalls

_RESOLVE = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_XDEV


def apply(pid: int, settings: Mapping[str, Mapping[str, str]]) -> None:
    """Set what kube.sysctls.settings() says, in the namespaces of a process; the caller is back in its own then.

    Each file is opened beneath a descriptor of /proc/sys: no name leads elsewhere, and no link is followed. Raises
    PodlabError naming the sysctl.
    """
    for kind, wanted in settings.items():
        if wanted:
            _in_namespace(pid, kind, wanted)


def _in_namespace(pid: int, kind: str, wanted: Mapping[str, str]) -> None:
    home = os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    theirs = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    root = os.open("/proc/sys", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if os.stat(home).st_ino == os.stat(theirs).st_ino:
            raise PodlabError(f"sysctls of the node's own {kind} namespace are not set: {', '.join(wanted)}")
        syscalls.setns(theirs, syscalls.NAMESPACES[kind])
        try:
            for path, value in wanted.items():
                _write(root, path, value)
        finally:
            syscalls.setns(home, syscalls.NAMESPACES[kind])
    finally:
        for fd in (home, theirs, root):
            os.close(fd)


def _write(root: int, path: str, value: str) -> None:
    try:
        fd = syscalls.openat2(root, path, os.O_WRONLY, resolve=_RESOLVE)
        try:
            # Once, as it is: the kernel takes it or refuses it.
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        name = path.translate(str.maketrans("./", "/."))
        raise PodlabError(f"sysctl {name} cannot be {value!r}: {os.strerror(error.errno or 0)}") from error
