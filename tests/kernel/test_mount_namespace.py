"""Entering another mount namespace and coming back, in a process of the test's own."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest

from podlab.linux import mountns, syscalls

pytestmark = pytest.mark.kernel


@pytest.fixture
def other() -> Iterator[str]:
    """A mount namespace other than the one this process is in: the one it was in before the test."""
    before = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    directory = os.open(".", os.O_PATH | os.O_CLOEXEC)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    yield f"/proc/self/fd/{before}"
    syscalls.setns(before, syscalls.CLONE_NEWNS)
    os.fchdir(directory)
    os.close(before)
    os.close(directory)


def situation() -> tuple[object, ...]:
    links = [os.readlink(f"/proc/self/{name}") for name in ("ns/mnt", "root", "cwd")]
    return (*links, len(os.listdir("/proc/self/fd")))


def test_root_and_directory_are_as_before(other: str, tmp_path: pathlib.Path) -> None:
    os.chdir(tmp_path)
    before = situation()
    with pytest.raises(RuntimeError, match="inside"), mountns.entered(other):
        assert os.readlink("/proc/self/ns/mnt") != before[0]
        raise RuntimeError("inside")
    assert situation() == before


def test_a_namespace_that_is_not_there_changes_nothing(other: str) -> None:
    before = situation()
    with pytest.raises(FileNotFoundError), mountns.entered("/no/such"):
        raise AssertionError("it was entered")
    assert situation() == before


def test_none_is_the_present_one() -> None:
    before = os.readlink("/proc/self/ns/mnt")
    with mountns.entered(""):
        assert os.readlink("/proc/self/ns/mnt") == before
