"""A machine for a kernel test: mount and network namespaces of its own, an empty /run, then back as it was."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

from podlab.linux import syscalls
from podlab.linux.mountinfo import mounts

_KINDS = (("mnt", syscalls.CLONE_NEWNS), ("net", syscalls.CLONE_NEWNET))


@contextlib.contextmanager
def own_machine() -> Iterator[None]:
    """This process is on the machine for the length of the block."""
    home = os.getcwd()
    kept = [(os.open(f"/proc/thread-self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), flag) for name, flag in _KINDS]
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET)
    try:
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        for hidden in reversed(mounts()):
            if hidden.mount_point.startswith("/run/"):
                syscalls.umount(hidden.mount_point, syscalls.MNT_DETACH)
        syscalls.mount("run", "/run", "tmpfs", 0, "mode=755")
        yield
    finally:
        for fd, flag in kept:
            syscalls.setns(fd, flag)
            os.close(fd)
        os.chdir(home)


def sh(*argv: str, check: bool = True) -> str:
    """The output of a command; both outputs when it may fail."""
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(argv)}: {done.stderr}")
    return done.stdout if check else done.stdout + done.stderr


def trace() -> dict[str, str]:
    """What a topology could leave behind: links, addresses, routes, pinned namespaces, files, mounts below /run."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = [line.split()[4] for line in file if line.split()[4].startswith("/run")]
    return {
        "links": sh("ip", "-details", "link"),
        "addresses": sh("ip", "-o", "address"),
        "routes": sh("ip", "route", "show", "table", "all"),
        "files": " ".join(sorted(os.path.join(place, name) for place, _, names in os.walk("/run") for name in names)),
        "directories": " ".join(sorted(place for place, _, _ in os.walk("/run"))),
        "mounts": " ".join(sorted(mounts)),
    }
