"""From mounts wanted and a mount table to steps, on tables of text; the kernel's part is in tests/kernel."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import pytest

from podlab.linux.mountinfo import parse
from podlab.mount_compare import change_words, flag_words, normal, settled
from podlab.mount_model import Look, Model
from podlab.mount_plan import plan
from podlab.mount_want import Wanted, wanted

ROOT = "1 0 8:1 / / rw,relatime - ext4 /dev/root rw\n"
DIRECTORIES = {"/", "/m", "/src", "/lo1", "/lo2", "/up", "/wk"}


def look(table: str, kinds: dict[str, str] | None = None, made: list[str] | None = None) -> Look:
    known = {**dict.fromkeys(DIRECTORIES, "dir"), **(kinds or {})}

    def ours(path: str, gone: Set[str]) -> list[str]:
        return [place for place in made or [] if path.startswith(place)]

    return Look(parse(ROOT + table), lambda path: known.get(path, ""), lambda path: path, ours)


def typed(table: str, *given: dict[str, Any], **more: Any) -> list[str]:
    """The commands planned; problems fail the test."""
    wants, problems = wanted(given)
    assert problems == []
    items, problems = plan(wants, {"": Model(look(table, **more))})
    assert problems == []
    return [" ".join(step.argv) for item in items for step in item.steps]


TMPFS = "9 1 0:9 / /m rw,nosuid,relatime - tmpfs tmpfs rw,size=65536k,mode=755\n"
BIND = "9 1 8:1 /src /m rw,relatime - ext4 /dev/root rw\n"
OVERLAY = "9 1 0:9 / /m rw,relatime - overlay overlay rw,lowerdir=/lo1:/lo2,upperdir=/up,workdir=/wk,uuid=on\n"
LAYERS = {"lowerdirs": ["/lo1", "/lo2"], "upperdir": "/up", "workdir": "/wk"}
OVER = {"path": "/m", "type": "overlay", **LAYERS}

CASES: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "missing tmpfs": ("", {"path": "/m", "type": "tmpfs"}, ["mount -t tmpfs tmpfs /m"]),
    "missing mountpoint": (
        "", {"path": "/new/x", "type": "tmpfs"}, ["mkdir -p /new/x", "mount -t tmpfs tmpfs /new/x"]),
    "tmpfs as wanted": (TMPFS, {"path": "/m", "type": "tmpfs", "options": ["nosuid", "mode=0755", "size=64m"]}, []),
    "options not asked for are left alone": (TMPFS, {"path": "/m", "type": "tmpfs"}, []),
    "defaults are known": (TMPFS, {"path": "/m", "type": "tmpfs", "options": ["rw,nosuid,relatime"]}, []),
    "another size": (TMPFS, {"path": "/m", "type": "tmpfs", "options": ["nosuid", "size=1m"]},
                     ["mount -o remount,rw,nosuid,relatime,size=1m /m"]),
    "flag gone": (TMPFS, {"path": "/m", "type": "tmpfs", "options": ["noexec"]},
                  ["mount -o remount,bind,rw,suid,noexec,relatime /m"]),
    "read-only alone": (TMPFS, {"path": "/m", "type": "tmpfs", "read_only": True},
                        ["mount -o remount,bind,ro,nosuid,relatime /m"]),
    "size and read-only: the file system stays writable": (
        TMPFS, {"path": "/m", "type": "tmpfs", "options": ["ro", "nosuid", "size=1m"]},
        ["mount -o remount,rw,nosuid,relatime,ro,nosuid,size=1m /m".replace("ro,nosuid,size", "size"),
         "mount -o remount,bind,ro,nosuid,relatime /m"]),
    "bind": ("", {"path": "/m", "type": "bind", "source": "/src"}, ["mount --bind /src /m"]),
    "bind read-only": ("", {"path": "/m", "type": "bind", "source": "/src", "read_only": True},
                       ["mount --bind /src /m", "mount -o remount,bind,ro,relatime /m"]),
    "bind of a file": ("", {"path": "/etc/hosts", "type": "bind", "source": "/file"},
                       ["install -D /dev/null /etc/hosts", "mount --bind /file /etc/hosts"]),
    "bind as wanted": (BIND, {"path": "/m", "type": "bind", "source": "/src", "read_only": False}, []),
    "bind of another": (BIND, {"path": "/m", "type": "bind", "source": "/lo1"}, ["umount /m", "mount --bind /lo1 /m"]),
    "rbind made slave": (TMPFS.replace("/m ", "/src "), {"path": "/m", "type": "rbind", "source": "/src",
                                                         "propagation": "rslave"}, ["mount --rbind /src /m"]),
    "overlay as wanted": (OVERLAY, OVER, []),
    "overlay with other layers": (
        OVERLAY, {**OVER, "lowerdirs": ["/lo2", "/lo1"]},
        ["umount /m", "mount -t overlay -o lowerdir=/lo2:/lo1,upperdir=/up,workdir=/wk overlay /m"]),
    "overlay with an option": (
        OVERLAY, {**OVER, "options": ["volatile"]},
        ["umount /m", "mount -t overlay -o lowerdir=/lo1:/lo2,upperdir=/up,workdir=/wk,volatile overlay /m"]),
    "overlay read-only changes in place": (OVERLAY, {**OVER, "read_only": True},
                                           ["mount -o remount,bind,ro,relatime /m"]),
    "propagation alone": (TMPFS, {"path": "/m", "type": "tmpfs", "propagation": "shared"}, ["mount --make-shared /m"]),
    "propagation as it is": (TMPFS.replace("relatime -", "relatime shared:7 -"),
                             {"path": "/m", "type": "tmpfs", "propagation": "rshared"}, []),
    "propagation of what is below": (
        TMPFS.replace("relatime -", "relatime shared:7 -") + "10 9 0:10 / /m/x rw - tmpfs x rw\n",
        {"path": "/m", "type": "tmpfs", "propagation": "rshared"}, ["mount --make-rshared /m"]),
    "foreign, forced": (TMPFS, {**OVER, "force": True},
                        ["umount /m", "mount -t overlay -o lowerdir=/lo1:/lo2,upperdir=/up,workdir=/wk overlay /m"]),
    "hidden by a foreign one, forced": (OVERLAY + "10 9 0:10 / /m rw - tmpfs over rw\n", {**OVER, "force": True},
                                        ["umount /m"]),
    "absent": (TMPFS, {"path": "/m", "state": "absent"}, ["umount /m"]),
    "absent, stacked": (TMPFS + "10 9 0:10 / /m rw - tmpfs x rw\n", {"path": "/m", "state": "absent"},
                        ["umount /m", "umount /m"]),
    "absent with mounts on it, forced": (
        TMPFS + "10 9 0:10 / /m/x rw - tmpfs x rw\n11 10 0:11 / /m/x/y rw - tmpfs y rw\n",
        {"path": "/m", "state": "absent", "force": True}, ["umount /m/x/y", "umount /m/x", "umount /m"]),
    "absent already": ("", {"path": "/m", "state": "absent"}, []),
    "proc": ("", {"path": "/m", "type": "proc", "options": ["nosuid,noexec", "nodev"]},
             ["mount -t proc -o nosuid,noexec,nodev proc /m"]),
    "hidepid by name or number": ("9 1 0:9 / /m rw,relatime - proc proc rw,hidepid=invisible\n",
                                  {"path": "/m", "type": "proc", "options": ["hidepid=2"]}, []),
    "devpts": ("9 1 0:9 / /m rw,nosuid,noexec,relatime - devpts devpts rw,gid=5,mode=620,ptmxmode=666\n",
               {"path": "/m", "type": "devpts",
                "options": ["newinstance", "ptmxmode=0666", "mode=0620", "gid=5", "nosuid", "noexec"]}, []),
    "strictatime": ("9 1 0:9 / /m rw,nosuid - tmpfs tmpfs rw\n",
                    {"path": "/m", "type": "tmpfs", "options": ["nosuid", "strictatime"]}, []),
}  # fmt: skip


@pytest.mark.parametrize(("table", "given", "commands"), CASES.values(), ids=CASES)
def test_plan(table: str, given: dict[str, Any], commands: list[str]) -> None:
    assert typed(table, given, kinds={"/file": "file"}) == commands


SETTLED = {name: case for name, case in CASES.items() if not case[2]}


@pytest.mark.parametrize(("table", "given", "commands"), SETTLED.values(), ids=SETTLED)
def test_nothing_to_do_says_nothing_in_the_diff(table: str, given: dict[str, Any], commands: list[str]) -> None:
    items, _ = plan(wanted([given])[0], {"": Model(look(table))})
    assert items[0].before == items[0].after


def test_the_diff_shows_managed_properties_only() -> None:
    (item,), _ = plan(wanted([{**OVER, "lowerdirs": ["/lo2"], "read_only": True}])[0], {"": Model(look(OVERLAY))})
    common = {"state": "present", "type": "overlay", "upperdir": "/up", "workdir": "/wk"}
    assert item.before == {**common, "lowerdirs": ["/lo1", "/lo2"], "options": ["rw"]}
    assert item.after == {**common, "lowerdirs": ["/lo2"], "options": ["ro"]}
    assert item.steps[0].why == "lowerdir /lo1:/lo2 -> /lo2"


def test_made_mountpoints_go_up_to_the_first_that_is_mounted() -> None:
    table = "9 1 0:9 / /p rw - tmpfs p rw\n10 9 0:10 / /p/q/r rw - tmpfs r rw\n"
    kinds = dict.fromkeys(("/p", "/p/q", "/p/q/r"), "dir")
    gone = typed(table, {"path": "/p/q/r", "state": "absent"}, kinds=kinds, made=["/p/q/r", "/p/q", "/p"])
    assert gone == ["umount /p/q/r", "rmdir /p/q/r", "rmdir /p/q"]


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "foreign": (TMPFS, OVER, "/m has a tmpfs (tmpfs) mounted on it, not overlay"),
    "another source of one type": (TMPFS, {"path": "/m", "type": "tmpfs", "source": "mine"}, "not tmpfs mine"),
    "absent of another type": (TMPFS, {"path": "/m", "type": "proc", "state": "absent"}, "not proc"),
    "mounted on it": (TMPFS + "10 9 0:10 / /m/x rw - tmpfs x rw\n", {"path": "/m", "state": "absent"},
                      "/m cannot be unmounted: mounted on it are /m/x"),
    "changed while something is mounted on it": (
        OVERLAY + "10 9 0:10 / /m/x rw - tmpfs x rw\n", {**OVER, "lowerdirs": ["/lo1"]}, "cannot be unmounted"),
    "no layer": ("", {**OVER, "lowerdirs": ["/none"]}, "/none is not there"),
    "other file system": ("9 1 0:9 / /wk rw - tmpfs x rw\n", OVER, "/wk is not on the file system of upperdir /up"),
    "no mountpoint": ("", {"path": "/x", "type": "tmpfs", "create": False}, "/x is not there"),
    "fixed option": (TMPFS, {"path": "/m", "type": "tmpfs", "options": ["nosuid", "mode=700"]},
                     "mode 755 -> 700 cannot be changed while it is mounted"),
    "a whole file system under a bind": (TMPFS, {"path": "/m", "type": "bind", "source": "/src"}, "not bind /src"),
}  # fmt: skip


@pytest.mark.parametrize(("table", "given", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_with_place_and_remedy(table: str, given: dict[str, Any], message: str) -> None:
    wants, problems = wanted([given])
    assert problems == []
    _, problems = plan(wants, {"": Model(look(table))})
    assert len(problems) == 1 and message in problems[0].message
    assert problems[0].place.startswith("mounts[0].") and problems[0].remedy


@pytest.mark.parametrize(
    ("given", "place", "message"),
    [
        ({"path": "x", "type": "tmpfs"}, "path", "must be an absolute path, not 'x'"),
        ({"path": "", "type": "tmpfs"}, "path", "must not be empty"),
        ({"path": "//", "type": "tmpfs"}, "path", "does not replace the root"),
        ({"path": "/m"}, "type", "is missing"),
        ({"path": "/m", "type": "bind"}, "source", "is missing"),
        ({"path": "/m", "type": "bind", "source": "x"}, "source", "must be an absolute path"),
        (
            {"path": "/m", "type": "bind", "source": "/x", "options": ["size=1m"]},
            "options",
            "takes no file system option",
        ),
        ({"path": "/m", "type": "overlay"}, "lowerdirs", "is missing"),
        ({"path": "/m", "type": "overlay", "lowerdirs": ["/a"]}, "lowerdirs", "two directories or more"),
        ({**OVER, "workdir": None}, "workdir", "go together"),
        ({**OVER, "upperdir": None}, "upperdir", "go together"),
        ({**OVER, "workdir": "/up/work"}, "workdir", "must not contain one another"),
        ({**OVER, "options": ["lowerdir=/a"]}, "options", "must not carry lowerdir"),
        ({"path": "/m", "type": "tmpfs", "lowerdirs": ["/a"]}, "lowerdirs", "belongs to type overlay"),
        ({"path": "/m", "type": "tmpfs", "options": ["remount"]}, "options", "must not carry remount"),
        ({"path": "/m", "type": "tmpfs", "options": ["rw"], "read_only": True}, "read_only", "says what options say"),
    ],
)
def test_bad_input(given: dict[str, Any], place: str, message: str) -> None:
    _, problems = wanted([given])
    assert [problem.place for problem in problems] == [f"mounts[0].{place}"]
    assert message in problems[0].message


def test_one_path_twice_is_a_problem_unless_in_another_namespace() -> None:
    one = {"path": "/m", "type": "tmpfs"}
    assert [problem.place for problem in wanted([one, {**one, "path": "/m/"}])[1]] == ["mounts[1].path"]
    assert wanted([one, {**one, "namespace": "12"}])[1] == []


def test_a_namespace_shows_in_the_command() -> None:
    want = Wanted("mounts[0]", "/m", "tmpfs", namespace="12")
    (item,), _ = plan([want], {"12": Model(look(""))})
    assert item.name == "/m in 12"
    assert item.steps[0].argv == ("nsenter", "--mount=/proc/12/ns/mnt", "--", "mount", "-t", "tmpfs", "tmpfs", "/m")


@pytest.mark.parametrize(
    ("kind", "key", "one", "other", "equal"),
    [
        ("tmpfs", "size", "64m", "65536k", True),
        ("tmpfs", "size", "1", "4096", True),
        ("tmpfs", "size", "64m", "65537k", False),
        ("tmpfs", "mode", "0755", "755", True),
        ("tmpfs", "nr_inodes", "1k", "1024", True),
        ("tmpfs", "size", "odd", "odd", True),
        ("proc", "hidepid", "invisible", "2", True),
        ("proc", "hidepid", "noaccess", "2", False),
        ("overlay", "index", "on", "off", False),
    ],
)
def test_option_values_are_compared_by_meaning(kind: str, key: str, one: str, other: str, equal: bool) -> None:
    assert (normal(kind, key, one) == normal(kind, key, other)) is equal


@pytest.mark.parametrize(
    ("kind", "current", "enough"),
    [
        ("private", "private", True), ("private", "shared", False), ("private", "slave,shared", False),
        ("shared", "shared", True), ("shared", "slave,shared", True), ("shared", "slave", False),
        ("slave", "slave", True), ("slave", "private", True), ("slave", "shared", False),
        ("slave", "slave,shared", False), ("rslave", "slave", True), ("runbindable", "unbindable", True),
    ],
)  # fmt: skip
def test_propagation_that_is_enough(kind: str, current: str, enough: bool) -> None:
    assert settled(kind, current) is enough


def test_flag_words() -> None:
    assert flag_words(0) == ["rw"]
    assert flag_words(1 | 2 | 8) == ["ro", "nosuid", "noexec"]
    assert change_words(2, 1 | (1 << 21)) == ["ro", "suid", "relatime"]
    assert change_words(1, 0) == ["rw", "strictatime"]
