"""The device controller of cgroup v2: the program on a cgroup does what v1's list does."""

from __future__ import annotations

import errno
import os
import pathlib
import stat
from collections.abc import Callable, Iterator

import pytest

from podlab.linux import cgroup, device_filter

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]
TREES = cgroup.detect()
NULL, ZERO, MEMORY, KERNEL_LOG = (1, 3), (1, 5), (1, 1), (1, 11)


@pytest.fixture
def path() -> Iterator[str]:
    """A cgroup of the unified tree."""
    if TREES.v2 is None:
        pytest.skip("this machine has no unified cgroup tree")
    directory = os.path.join(TREES.v2.directory, f"podlab-devices-{os.getpid()}")
    os.mkdir(directory)
    yield directory
    os.rmdir(directory)


def inside(directory: str, body: Callable[[], None]) -> None:
    """Run body in a child in the cgroup; its asserts count."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            pathlib.Path(directory, "cgroup.procs").write_text(str(os.getpid()))
            body()
        except BaseException as error:
            os.write(write, repr(error).encode() or b"?")
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        said = file.read().decode()
    os.waitpid(pid, 0)
    assert said == ""


def answer(place: pathlib.Path, number: tuple[int, int], flags: int, kind: int = stat.S_IFCHR) -> str:
    """What opening a node of that number gives, which is made for it: the error's name, "" for none."""
    node = place / "node"
    try:
        os.mknod(node, 0o600 | kind, os.makedev(*number))
    except OSError as error:
        return f"mknod: {errno.errorcode[error.errno or 0]}"
    try:
        os.close(os.open(node, flags | os.O_NONBLOCK | os.O_NOCTTY))
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    finally:
        node.unlink()
    return ""


def test_the_list_of_a_container(path: str, tmp_path: pathlib.Path) -> None:
    """security.md row 17: every node can be made, none but these can be opened."""
    device_filter.attach(path, device_filter.program(cgroup.DEFAULT_DEVICES))

    def body() -> None:
        for number in (NULL, ZERO, (1, 7), (1, 8), (1, 9)):
            for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
                assert answer(tmp_path, number, flags) == "", number
        # No terminal is there, and /dev/ptmx wants a devpts beside it: the kernel's own answers, not the filter's.
        assert answer(tmp_path, (5, 0), os.O_RDWR) == "ENXIO"
        assert answer(tmp_path, (136, 99999), os.O_RDWR) != "EPERM"
        for number in (MEMORY, KERNEL_LOG, (5, 1), (10, 229), (4, 0), (1, 4)):
            assert answer(tmp_path, number, os.O_RDONLY) == "EPERM", number
        for number in ((7, 0), (8, 0), (1, 3), (1, 5)):
            assert answer(tmp_path, number, os.O_RDONLY, stat.S_IFBLK) == "EPERM", number

    assert answer(tmp_path, KERNEL_LOG, os.O_RDONLY) == ""
    inside(path, body)


def test_each_part_of_a_rule_counts(path: str, tmp_path: pathlib.Path) -> None:
    device_filter.attach(path, device_filter.program(("c 1:3 r", "c 1:5 mw", "b *:7 m")))

    def body() -> None:
        null, zero = pathlib.Path("/dev/null"), pathlib.Path("/dev/zero")
        os.close(os.open(null, os.O_RDONLY))
        for node, flags in ((null, os.O_WRONLY), (null, os.O_RDWR), (zero, os.O_RDONLY), (zero, os.O_RDWR)):
            with pytest.raises(PermissionError):
                os.open(node, flags)
        os.close(os.open(zero, os.O_WRONLY))
        assert answer(tmp_path, NULL, os.O_RDONLY) == "mknod: EPERM"
        assert answer(tmp_path, ZERO, os.O_WRONLY) == ""
        assert answer(tmp_path, (200, 7), os.O_RDONLY, stat.S_IFBLK) == "EPERM"
        assert answer(tmp_path, (200, 8), os.O_RDONLY, stat.S_IFBLK) == "mknod: EPERM"

    inside(path, body)


def test_of_a_parents_rules_none_is_lost(path: str, tmp_path: pathlib.Path) -> None:
    below = os.path.join(path, "below")
    os.mkdir(below)
    try:
        device_filter.attach(path, device_filter.program(("c 1:3 rwm",)))
        device_filter.attach(below, device_filter.program(("c *:* rwm",)))
        inside(below, lambda: _same(answer(tmp_path, ZERO, os.O_RDONLY), "mknod: EPERM"))
    finally:
        os.rmdir(below)


def _same(found: str, expected: str) -> None:
    assert found == expected


def test_where_v1_has_no_devices_controller(path: str, tmp_path: pathlib.Path) -> None:
    """What a container's start calls, on a machine whose unified tree is all there is."""
    assert TREES.v2 is not None
    unified = cgroup.Hierarchies((), TREES.v2)
    name = os.path.relpath(path, TREES.v2.directory)
    assert unified.set_devices(name, cgroup.ALL_DEVICES) is True
    inside(path, lambda: _same(answer(tmp_path, KERNEL_LOG, os.O_RDONLY), ""))
    assert unified.set_devices(name) is True
    inside(path, lambda: _same(answer(tmp_path, KERNEL_LOG, os.O_RDONLY), "EPERM"))
    assert unified.set_devices("podlab-no-such-cgroup") is False
