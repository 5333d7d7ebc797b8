"""Where no cgroup filters devices (v2), nothing a container can write to holds a device that can be opened."""

from __future__ import annotations

import os
import pathlib
import stat
import sys
import traceback
from collections.abc import Callable

import pytest

from podlab.linux import syscalls
from podlab.runtime import rootmounts
from podlab.runtime.rootmounts import RootMount

pytestmark = pytest.mark.kernel


def in_mount_namespace(body: Callable[[], None]) -> int:
    """Run body in a child with mounts of its own; its exit code."""
    child = os.fork()
    if child == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
            body()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def opens(path: pathlib.Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY))
    except PermissionError:
        return False
    return True


@pytest.mark.parametrize("filtered", [False, True])
def test_made_nodes_cannot_be_opened(tmp_path: pathlib.Path, filtered: bool) -> None:
    source = tmp_path / "volume"
    source.mkdir()
    plain = [rootmounts.BASE[1], rootmounts.BASE[2], RootMount("/data", "", str(source))]
    mounts = plain if filtered else rootmounts.without_devices(plain)

    def body() -> None:
        syscalls.mount("tmpfs", str(tmp_path), "tmpfs", 0 if filtered else syscalls.MS_NODEV)
        source.mkdir()
        (tmp_path / "root").mkdir()
        root = os.open(tmp_path / "root", os.O_RDONLY | os.O_DIRECTORY)
        rootmounts.perform(root, mounts[:1])
        rootmounts.make_devices(root, bind=not filtered)
        rootmounts.perform(root, mounts[1:])
        for where in ("", "dev", "data"):
            node = tmp_path / "root" / where / "made"
            # A kernel log: opening it harms nothing.
            os.mknod(node, 0o600 | stat.S_IFCHR, os.makedev(1, 11))
            assert opens(node) is filtered, where
        for name, major, minor in rootmounts.DEVICES:
            status = os.stat(tmp_path / "root" / "dev" / name)
            assert (status.st_rdev, stat.S_IMODE(status.st_mode)) == (os.makedev(major, minor), 0o666)
        assert opens(tmp_path / "root/dev/null") and opens(tmp_path / "root/dev/zero")
        master = os.open(tmp_path / "root/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
        os.close(master)

    assert in_mount_namespace(body) == 0
