"""Paths of an image are resolved within it: nothing that an image holds leads a mount or a file of ours out of it."""

from __future__ import annotations

import os
import pathlib
import signal
import stat
from collections.abc import Iterator

import pytest

from podlab.errors import PodlabError
from podlab.linux import syscalls
from podlab.runtime import rootmounts


@pytest.fixture
def image(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "victim").mkdir()
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def root(image: pathlib.Path) -> Iterator[int]:
    fd = os.open(image, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def where(fd: int) -> str:
    path = os.readlink(f"/proc/self/fd/{fd}")
    os.close(fd)
    return path


def test_the_table_is_containerds() -> None:
    safe = syscalls.MS_NOSUID | syscalls.MS_NOEXEC | syscalls.MS_NODEV
    assert [(each.target, each.fstype, each.flags, each.data) for each in rootmounts.BASE] == [
        ("/proc", "proc", safe, ""),
        ("/dev", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_STRICTATIME, "mode=755,size=65536k"),
        (
            "/dev/pts",
            "devpts",
            syscalls.MS_NOSUID | syscalls.MS_NOEXEC,
            "newinstance,ptmxmode=0666,mode=0620,gid=5",
        ),
        ("/dev/mqueue", "mqueue", safe, ""),
        ("/sys", "sysfs", safe | syscalls.MS_RDONLY, ""),
    ]


def test_what_is_masked_is_the_kubelets() -> None:
    assert list(rootmounts.MASKED) == [
        "/proc/asound",
        "/proc/acpi",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ]
    assert list(rootmounts.READONLY) == ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


@pytest.mark.parametrize("target", ["/new", "/a/b/c", "a/b", "//a//b/"])
@pytest.mark.parametrize("directory", [True, False])
def test_what_is_missing_is_made(root: int, image: pathlib.Path, target: str, directory: bool) -> None:
    umask = os.umask(0o022)
    try:
        assert where(rootmounts.open_inside(root, target, directory=directory)) == os.path.normpath(f"{image}/{target}")
    finally:
        os.umask(umask)
    made = image / target.strip("/")
    assert made.is_dir() == directory
    assert stat.S_IMODE(made.stat().st_mode) == (0o755 if directory else 0o644)


def test_what_must_be_there_is_not_made(root: int, image: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        rootmounts.open_inside(root, "/missing")
    assert list(image.iterdir()) == []


LINKS = [
    ("absolute", "etc", "VICTIM", "/etc/hosts"),
    ("relative", "etc", "../victim", "/etc/hosts"),
    ("of the file", "hosts", "../victim/hosts", "/hosts"),
    ("absolute, of the file", "hosts", "VICTIM/hosts", "/hosts"),
    ("in the middle", "a", "../victim", "/a/b/c"),
    ("dots", "no-link", "x", "/../victim/hosts"),
]


@pytest.mark.parametrize("directory", [True, False])
@pytest.mark.parametrize(("_case", "link", "target", "path"), LINKS, ids=[row[0] for row in LINKS])
def test_links_stay_within(
    root: int, image: pathlib.Path, _case: str, link: str, target: str, path: str, directory: bool
) -> None:
    victim = image.parent / "victim"
    (image / link).symlink_to(target.replace("VICTIM", str(victim)))
    try:
        opened = where(rootmounts.open_inside(root, path, directory=directory))
    except OSError:
        opened = str(image)
    assert opened.startswith(str(image))
    assert list(victim.iterdir()) == []


@pytest.mark.parametrize("target", ["VICTIM/file", "../victim/file"])
def test_what_a_link_names_outside_is_not_opened(root: int, image: pathlib.Path, target: str) -> None:
    victim = image.parent / "victim"
    (victim / "file").write_text("")
    (image / "link").symlink_to(target.replace("VICTIM", str(victim)))
    with pytest.raises(FileNotFoundError):
        rootmounts.open_inside(root, "/link")


def test_a_dangling_link_is_followed_within(root: int, image: pathlib.Path) -> None:
    victim = image.parent / "victim" / "made"
    (image / "hosts").symlink_to(str(victim))
    opened = where(rootmounts.open_inside(root, "/hosts", directory=False))
    assert opened == f"{image}{victim}"
    assert not victim.exists()


def test_a_file_in_the_way_of_a_directory(root: int, image: pathlib.Path) -> None:
    (image / "etc").write_text("")
    with pytest.raises(NotADirectoryError):
        rootmounts.open_inside(root, "/etc/hosts", directory=False)


def test_no_descriptor_is_left_open(root: int, image: pathlib.Path) -> None:
    (image / "file").write_text("")
    before = sorted(os.listdir("/proc/self/fd"))
    os.close(rootmounts.open_inside(root, "/a/b/c/d", directory=True))
    os.close(rootmounts.open_inside(root, "/a/b/x/y", directory=False))
    with pytest.raises(OSError):
        rootmounts.open_inside(root, "/file/below", directory=True)
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_an_image_whose_mount_points_are_links_is_refused(root: int, image: pathlib.Path, name: str) -> None:
    rootmounts.refuse_links(root)
    (image / name).symlink_to("/etc")
    with pytest.raises(PodlabError) as caught:
        rootmounts.refuse_links(root)
    assert str(caught.value) == f"/{name} of the image is a symbolic link; it must be a directory"


@pytest.mark.parametrize("path", ["/dev/zero", "/etc/passwd"])
def test_masks_come_from_the_null_device_only(root: int, path: str) -> None:
    null = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(PodlabError, match="^/dev/null of the node is not the null device$"):
            rootmounts.mask(root, null)
    finally:
        os.close(null)


def test_every_cpus_thermal_throttle_is_masked(root: int, image: pathlib.Path) -> None:
    assert rootmounts._thermal_throttles(root) == []
    for name in ("cpu0", "cpu10", "cpufreq", "cpuidle", "power"):
        (image / "sys/devices/system/cpu" / name).mkdir(parents=True)
    assert sorted(rootmounts._thermal_throttles(root)) == [
        "/sys/devices/system/cpu/cpu0/thermal_throttle",
        "/sys/devices/system/cpu/cpu10/thermal_throttle",
    ]


def test_names_are_resolved_while_others_rename(tmp_path: pathlib.Path) -> None:
    """The kernel says EAGAIN to `..` then, of a rename anywhere on the machine; a busy machine always has some."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "one").write_text("")
    root = os.open(tmp_path, os.O_PATH)
    read, write = os.pipe()
    renamer = os.fork()
    if renamer == 0:
        os.write(write, b".")
        while True:
            os.rename(tmp_path / "one", tmp_path / "other")
            os.rename(tmp_path / "other", tmp_path / "one")
    try:
        os.read(read, 1)
        for _ in range(10000):
            os.close(rootmounts.open_inside(root, "a/b/../../a/b/../../file"))
    finally:
        os.kill(renamer, signal.SIGKILL)
        os.waitpid(renamer, 0)
        for fd in (root, read, write):
            os.close(fd)
