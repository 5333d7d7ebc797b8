"""podlab_mount and linux/mount on the kernel, each test in a mount namespace of its own."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from podlab.linux import mount, syscalls
from podlab.linux.mountinfo import at, mounts

pytestmark = pytest.mark.kernel

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A tmpfs in a new mount namespace in which this process is until the test ends."""
    back = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    directory = os.open(".", os.O_PATH | os.O_CLOEXEC)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    try:
        mount.set_propagation("/", "rprivate")
        mount.mount("tmpfs", str(tmp_path), "tmpfs")
        for name in ("lo1", "lo2", "lo3", "up", "wk", "m", "src"):
            (tmp_path / name).mkdir()
        (tmp_path / "src" / "inner").mkdir()
        (tmp_path / "src" / "file").write_text("hello")
        yield tmp_path
    finally:
        syscalls.setns(back, syscalls.CLONE_NEWNS)
        os.fchdir(directory)
        os.close(back)
        os.close(directory)


def every(run_module: Run, *items: dict[str, Any]) -> dict[str, Any]:
    """Check mode, the real run and a second run; the first two must say the same, the last nothing."""
    args = {"mounts": list(items)}
    checked = run_module("podlab_mount", args, check=True, diff=True)
    assert not checked.get("failed"), checked
    real = run_module("podlab_mount", args, diff=True)
    assert not real.get("failed"), real
    assert {key: checked[key] for key in ("changed", "commands", "diff", "results")} == {
        key: real[key] for key in ("changed", "commands", "diff", "results")
    }
    again = run_module("podlab_mount", args, diff=True)
    assert (again["changed"], again["commands"], again["diff"]) == (False, [], [])
    return real


def overlay(place: pathlib.Path, *lower: str, **more: Any) -> dict[str, Any]:
    layers = {"lowerdirs": [str(place / name) for name in lower], "upperdir": f"{place}/up", "workdir": f"{place}/wk"}
    return {"path": f"{place}/m", "type": "overlay", **layers, **more}


def top(path: pathlib.Path | str) -> mount.MountInfo:
    entry = at(mounts(), str(path))
    assert entry is not None, f"nothing is mounted on {path}"
    return entry


def test_overlay_present_again_changed_absent(place: pathlib.Path, run_module: Run) -> None:
    (place / "lo1" / "one").write_text("1")
    (place / "lo2" / "two").write_text("2")
    first = every(run_module, overlay(place, "lo1", "lo2"))
    assert sorted(os.listdir(place / "m")) == ["one", "two"]
    assert first["commands"] == [
        ["mount", "-t", "overlay", "-o",
         f"lowerdir={place}/lo1:{place}/lo2,upperdir={place}/up,workdir={place}/wk", "overlay", f"{place}/m"]
    ]  # fmt: skip
    # The kernel takes a remount with other layers and ignores it: so it must be a new mount.
    changed = every(run_module, overlay(place, "lo1", "lo3"))
    assert [argv[0] for argv in changed["commands"]] == ["umount", "mount"]
    assert os.listdir(place / "m") == ["one"]
    assert changed["diff"][0]["before"]["lowerdirs"] == [f"{place}/lo1", f"{place}/lo2"]
    assert changed["diff"][0]["after"]["lowerdirs"] == [f"{place}/lo1", f"{place}/lo3"]
    gone = every(run_module, {"path": f"{place}/m", "state": "absent"})
    assert gone["commands"] == [["umount", f"{place}/m"]]
    assert gone["mounts"] == [{"path": f"{place}/m", "state": "absent"}]


@pytest.mark.parametrize("name", ["a:b", "c,d", "e\\f", "g h", "i\\:j,k", "end\\"])
def test_overlay_layers_with_letters_that_mean_something(place: pathlib.Path, run_module: Run, name: str) -> None:
    (place / name).mkdir()
    (place / name / "it").write_text("")
    every(run_module, overlay(place, name, "lo2"))
    assert os.listdir(place / "m") == ["it"]


def test_overlay_with_more_layers_than_fit_in_a_page(place: pathlib.Path, run_module: Run) -> None:
    names = [f"{'layer' * 8}{number}" for number in range(60)]
    for name in names:
        (place / name).mkdir()
        (place / name / name).write_text("")
    here = os.getcwd()
    every(run_module, overlay(place, *names))
    assert sorted(os.listdir(place / "m")) == sorted(names)
    assert os.getcwd() == here
    too_long = [f"{'layer' * 45}{number}" for number in range(60)]
    for name in too_long:
        (place / name).mkdir()
    failed = run_module("podlab_mount", {"mounts": [overlay(place, *too_long)]})
    assert failed["failed"] and "the kernel takes 4095" in failed["msg"]


def test_bind_read_only_and_back(place: pathlib.Path, run_module: Run) -> None:
    item = {"path": f"{place}/m", "type": "bind", "source": f"{place}/src", "read_only": True}
    first = every(run_module, item)
    assert first["commands"][0] == ["mount", "--bind", f"{place}/src", f"{place}/m"]
    assert first["commands"][1][:2] == ["mount", "-o"] and first["commands"][1][2].startswith("remount,bind,ro")
    with pytest.raises(OSError, match="Read-only"):
        (place / "m" / "new").write_text("")
    (place / "src" / "new").write_text("")
    back = every(run_module, {**item, "read_only": False})
    assert len(back["commands"]) == 1 and "remount,bind,rw" in back["commands"][0][2]
    (place / "m" / "newer").write_text("")


def test_bind_keeps_the_flags_of_its_source_unless_told(place: pathlib.Path, run_module: Run) -> None:
    mount.mount("tmpfs", str(place / "src"), "tmpfs", ["nosuid", "nodev"])
    item = {"path": f"{place}/m", "type": "bind", "source": f"{place}/src"}
    every(run_module, {**item, "read_only": True})
    assert {"ro", "nosuid", "nodev"} <= set(top(place / "m").options)
    every(run_module, {**item, "options": ["noexec"]})
    assert {"rw", "noexec"} <= set(top(place / "m").options)
    assert not {"nosuid", "nodev"} & set(top(place / "m").options)


def test_bind_of_another_source_is_made_anew(place: pathlib.Path, run_module: Run) -> None:
    item = {"path": f"{place}/m", "type": "bind"}
    every(run_module, {**item, "source": f"{place}/src"})
    changed = every(run_module, {**item, "source": f"{place}/lo1"})
    assert [argv[0] for argv in changed["commands"]] == ["umount", "mount"]
    assert os.listdir(place / "m") == []


def test_bind_of_a_file_makes_and_removes_its_mountpoint(place: pathlib.Path, run_module: Run) -> None:
    item = {"path": f"{place}/etc/hosts", "type": "bind", "source": f"{place}/src/file"}
    every(run_module, item)
    assert (place / "etc" / "hosts").read_text() == "hello"
    gone = every(run_module, {"path": f"{place}/etc/hosts", "state": "absent"})
    assert gone["commands"] == [
        ["umount", f"{place}/etc/hosts"], ["rm", f"{place}/etc/hosts"], ["rmdir", f"{place}/etc"]
    ]  # fmt: skip
    assert not (place / "etc").exists()


def test_rbind_shows_the_mounts_below(place: pathlib.Path, run_module: Run) -> None:
    mount.mount("tmpfs", str(place / "src" / "inner"), "tmpfs")
    (place / "src" / "inner" / "deep").write_text("")
    every(run_module, {"path": f"{place}/m", "type": "rbind", "source": f"{place}/src", "propagation": "rslave"})
    assert (place / "m" / "inner" / "deep").exists()
    refused = run_module("podlab_mount", {"mounts": [{"path": f"{place}/m", "state": "absent"}]})
    assert f"mounted on it are {place}/m/inner" in refused["msg"] and refused["failed"]
    every(run_module, {"path": f"{place}/m", "state": "absent", "force": True})
    assert at(mounts(), f"{place}/m") is None


def test_tmpfs_options_are_compared_by_value_and_changed_in_place(place: pathlib.Path, run_module: Run) -> None:
    item = {"path": f"{place}/m", "type": "tmpfs"}
    every(run_module, {**item, "options": ["nosuid", "nodev", "noexec", "mode=1777", "size=64m"]})
    (place / "m" / "kept").write_text("")
    same = run_module("podlab_mount", {"mounts": [{**item, "options": ["noexec,nodev", "nosuid", "size=65536k"]}]})
    assert same["changed"] is False
    bigger = every(run_module, {**item, "options": ["nosuid", "nodev", "noexec", "mode=01777", "size=128m"]})
    assert bigger["results"][0]["steps"] == [f"mount.remount {place}/m: size 65536k -> 128m"]
    assert {"nosuid", "nodev", "noexec"} <= set(top(place / "m").options)
    assert (place / "m" / "kept").exists(), "a tmpfs must not lose its files to a changed size"


def test_what_a_remount_cannot_change_needs_force(place: pathlib.Path, run_module: Run) -> None:
    item = {"path": f"{place}/m", "type": "tmpfs"}
    every(run_module, {**item, "options": ["mode=755"]})
    refused = run_module("podlab_mount", {"mounts": [{**item, "options": ["mode=700"]}]})
    assert refused["failed"] and "mode 755 -> 700 cannot be changed while it is mounted" in refused["msg"]
    every(run_module, {**item, "options": ["mode=700"], "force": True})
    assert (place / "m").stat().st_mode & 0o777 == 0o700


def test_tmpfs_mounted_read_only_becomes_writable(place: pathlib.Path, run_module: Run) -> None:
    item = {"path": f"{place}/m", "type": "tmpfs"}
    every(run_module, {**item, "options": ["ro"]})
    every(run_module, {**item, "options": ["rw"]})
    (place / "m" / "file").write_text("")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("proc", ["nosuid", "noexec", "nodev"]),
        ("sysfs", ["ro", "nosuid", "noexec", "nodev"]),
        ("devpts", ["newinstance", "ptmxmode=0666", "mode=0620", "gid=5", "nosuid", "noexec"]),
        ("mqueue", ["nosuid", "noexec", "nodev"]),
        ("cgroup2", ["ro", "nosuid", "noexec", "nodev", "relatime"]),
        ("tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("tmpfs", ["size=1%", "nr_inodes=1k"]),
    ],
)
def test_the_mounts_of_a_container_settle(place: pathlib.Path, run_module: Run, kind: str, options: list[str]) -> None:
    every(run_module, {"path": f"{place}/m", "type": kind, "options": options})
    assert top(place / "m").fstype == kind


def test_propagation_alone_is_a_step(place: pathlib.Path, run_module: Run) -> None:
    item = {"path": f"{place}/m", "type": "tmpfs"}
    every(run_module, item)
    shared = every(run_module, {**item, "propagation": "shared"})
    assert shared["commands"] == [["mount", "--make-shared", f"{place}/m"]]
    assert shared["diff"][0]["before"]["propagation"] == "private"
    (place / "m" / "sub").mkdir()
    mount.mount("tmpfs", f"{place}/m/sub", "tmpfs")
    assert top(place / "m" / "sub").propagation == "shared"
    every(run_module, {**item, "propagation": "rprivate"})
    assert top(place / "m" / "sub").propagation == "private"


def test_a_mount_below_a_shared_one_is_made_private_when_asked(place: pathlib.Path, run_module: Run) -> None:
    mount.set_propagation(str(place), "shared")
    every(run_module, {"path": f"{place}/m", "type": "tmpfs", "propagation": "private"})
    assert top(place / "m").propagation == "private"
    every(run_module, {"path": f"{place}/src/inner", "type": "tmpfs", "propagation": "slave"})


def test_a_foreign_mount_is_an_error_unless_forced(place: pathlib.Path, run_module: Run) -> None:
    mount.mount("somebody", str(place / "m"), "tmpfs")
    item = overlay(place, "lo1", "lo2")
    refused = run_module("podlab_mount", {"mounts": [item]})
    assert refused["failed"]
    assert "has a tmpfs (somebody) mounted on it, not overlay" in refused["msg"] and "force: true" in refused["msg"]
    forced = every(run_module, {**item, "force": True})
    assert [argv[0] for argv in forced["commands"]] == ["umount", "mount"]
    wrong = run_module("podlab_mount", {"mounts": [{"path": f"{place}/m", "type": "tmpfs", "state": "absent"}]})
    assert wrong["failed"] and "has a overlay" in wrong["msg"]


def test_of_stacked_mounts_the_topmost_counts_and_absent_takes_all(place: pathlib.Path, run_module: Run) -> None:
    mount.mount("tmpfs", str(place / "m"), "tmpfs", ["size=4m"])
    mount.mount("tmpfs", str(place / "m"), "tmpfs", ["size=8m"])
    same = run_module("podlab_mount", {"mounts": [{"path": f"{place}/m", "type": "tmpfs", "options": ["size=8m"]}]})
    assert same["changed"] is False
    gone = every(run_module, {"path": f"{place}/m", "state": "absent"})
    assert gone["commands"] == [["umount", f"{place}/m"]] * 2


def test_a_list_that_rests_on_itself_is_predicted_exactly(place: pathlib.Path, run_module: Run) -> None:
    (place / "lo1" / "proc").mkdir()
    items = [
        overlay(place, "lo1", "lo2"),
        {"path": f"{place}/m/proc", "type": "proc"},
        {"path": f"{place}/m/dev", "type": "tmpfs", "options": ["mode=755"]},
        {"path": f"{place}/m/dev/pts", "type": "devpts", "options": ["newinstance"]},
        {"path": f"{place}/m/data", "type": "bind", "source": f"{place}/src", "read_only": True},
        {"path": f"{place}/m/data/inner", "type": "bind", "source": f"{place}/m/dev"},
    ]
    made = every(run_module, *items)
    assert [argv for argv in made["commands"] if argv[0] == "mkdir"] == [
        ["mkdir", "-p", f"{place}/m/dev"], ["mkdir", "-p", f"{place}/m/dev/pts"], ["mkdir", "-p", f"{place}/m/data"]
    ]  # fmt: skip
    gone = every(run_module, *({"path": item["path"], "state": "absent"} for item in items))
    assert sum(argv[0] == "umount" for argv in gone["commands"]) == len(items)
    assert os.listdir(place / "up") == [], "what was made for the mounts is gone from the upper directory"


def test_a_mountpoint_we_did_not_make_or_that_holds_something_stays(place: pathlib.Path, run_module: Run) -> None:
    every(run_module, {"path": f"{place}/new/a", "type": "tmpfs"})
    (place / "new" / "other").write_text("")
    every(run_module, {"path": f"{place}/new/a", "state": "absent"})
    assert os.listdir(place / "new") == ["other"]
    every(run_module, {"path": f"{place}/m", "type": "tmpfs"})
    every(run_module, {"path": f"{place}/m", "state": "absent"})
    assert (place / "m").is_dir()


def test_mountpoints_made_side_by_side_go_with_their_directory(place: pathlib.Path, run_module: Run) -> None:
    paths = [f"{place}/new/a", f"{place}/new/b", f"{place}/new/a/c"]
    every(run_module, *({"path": path, "type": "tmpfs"} for path in paths))
    every(run_module, *({"path": path, "state": "absent"} for path in paths))
    assert not (place / "new").exists()


def test_a_busy_mount_names_who_uses_it(place: pathlib.Path, run_module: Run) -> None:
    every(run_module, {"path": f"{place}/m", "type": "tmpfs"})
    with subprocess.Popen(["cat"], cwd=place / "m", stdin=subprocess.PIPE) as user:
        failed = run_module("podlab_mount", {"mounts": [{"path": f"{place}/m", "state": "absent"}]})
        user.communicate(b"")
    assert failed["failed"] and f"in use by process {user.pid} (cat)" in failed["msg"]
    assert failed["remaining"] == []


def test_in_another_mount_namespace_by_pid_and_by_path(place: pathlib.Path, run_module: Run) -> None:
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo in; exec cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        assert other.stdout is not None and other.stdout.readline() == "in\n"
        by_pid = {"path": f"{place}/m", "type": "tmpfs", "namespace": str(other.pid)}
        made = every(run_module, by_pid)
        assert made["commands"] == [
            ["nsenter", f"--mount=/proc/{other.pid}/ns/mnt", "--", "mount", "-t", "tmpfs", "tmpfs", f"{place}/m"]
        ]
        assert at(mounts(other.pid), f"{place}/m") is not None
        assert at(mounts(), f"{place}/m") is None
        every(run_module, {**by_pid, "namespace": f"/proc/{other.pid}/ns/mnt", "state": "absent"})
        assert at(mounts(other.pid), f"{place}/m") is None
        other.communicate("")


def test_every_problem_at_once_and_nothing_touched(place: pathlib.Path, run_module: Run) -> None:
    before = mounts()
    failed = run_module(
        "podlab_mount",
        {
            "mounts": [
                {"path": "relative", "type": "tmpfs"},
                {"path": "/", "type": "tmpfs"},
                {"path": f"{place}/m"},
                {"path": f"{place}/m", "type": "bind"},
                {"path": f"{place}/a", "type": "overlay", "lowerdirs": ["/x"]},
                {"path": f"{place}/b", "type": "tmpfs", "upperdir": "/x"},
                {"path": f"{place}/c", "type": "tmpfs", "namespace": "/no/such"},
                {"path": f"{place}/d", "type": "tmpfs"},
            ]
        },
    )
    assert failed["failed"]
    assert [problem["place"] for problem in failed["problems"]] == [
        "mounts[0].path", "mounts[1].path", "mounts[2].type", "mounts[3].source", "mounts[4].lowerdirs",
        "mounts[5].upperdir", "mounts[3].path", "mounts[6].namespace",
    ]  # fmt: skip
    assert mounts() == before


def test_missing_things_are_named_before_anything_is_touched(place: pathlib.Path, run_module: Run) -> None:
    failed = run_module(
        "podlab_mount",
        {
            "mounts": [
                {"path": f"{place}/x", "type": "tmpfs", "create": False},
                {"path": f"{place}/m", "type": "overlay", "lowerdirs": [f"{place}/no", f"{place}/src/file"]},
                {"path": f"{place}/src/file", "type": "bind", "source": f"{place}/lo1"},
                {"path": f"{place}/lo3", "type": "bind", "source": f"{place}/none"},
                overlay(place, "lo1", workdir="/proc", path=f"{place}/lo2"),
            ]
        },
    )
    assert [(problem["place"], problem["message"].replace(str(place), "")) for problem in failed["problems"]] == [
        ("mounts[0].path", "/x is not there, and a mount needs something to sit on"),
        ("mounts[1].lowerdirs[0]", "/no is not there"),
        ("mounts[1].lowerdirs[1]", "/src/file is not a directory"),
        ("mounts[2].path", "/src/file is a file, the mount needs a dir"),
        ("mounts[3].source", "/none is not there"),
        ("mounts[4].workdir", "/proc is not on the file system of upperdir /up"),
    ]


def test_an_unknown_file_system_type_is_explained(place: pathlib.Path, run_module: Run) -> None:
    failed = run_module("podlab_mount", {"mounts": [{"path": f"{place}/m", "type": "nofs"}]})
    assert failed["failed"] and "no file system type 'nofs'" in failed["msg"]
    assert failed["failed"] and failed["completed"] == []


def test_commands_typed_in_a_shell_leave_the_same(place: pathlib.Path, run_module: Run) -> None:
    mount.set_propagation(str(place), "shared")
    steps = [
        [
            overlay(place, "lo1", "lo2", propagation="private"),
            {"path": f"{place}/m/data", "type": "bind", "source": f"{place}/src", "read_only": True},
            {"path": f"{place}/m/hosts", "type": "bind", "source": f"{place}/src/file", "options": ["nosuid"]},
            {"path": f"{place}/m/shm", "type": "tmpfs", "options": ["nosuid", "mode=1777", "size=1m"]},
        ],
        [
            {"path": f"{place}/m/data", "type": "bind", "source": f"{place}/lo3", "options": ["noexec"]},
            {"path": f"{place}/m/shm", "type": "tmpfs", "options": ["ro", "nodev", "mode=1777", "size=2m"]},
        ],
        [{"path": f"{place}/m", "state": "absent", "force": True}],
    ]
    for items in steps:
        planned = run_module("podlab_mount", {"mounts": items}, check=True)
        assert planned["commands"], planned
        for argv in planned["commands"]:
            subprocess.run(argv, check=True)
        again = run_module("podlab_mount", {"mounts": items}, check=True)
        assert (again["changed"], again["commands"]) == (False, [])
