"""mountinfo read as the kernel writes it, and walked as the kernel walks it; mount options sorted as mount(8) does."""

from __future__ import annotations

import pytest

from podlab.linux import syscalls as s
from podlab.linux.mount import (
    Options,
    overlay_options,
    parse_options,
    split_lowerdirs,
    unquote,
)
from podlab.linux.mountinfo import at, parse, split_options, stack, under, unescape, visible

TABLE = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
22 27 0:21 / /proc rw,nosuid shared:12 - proc proc rw
40 27 0:40 / /a rw,relatime - tmpfs a rw,size=4k
41 40 0:41 / /a/b rw - tmpfs b rw
42 27 0:42 / /with\\040space\\011tab\\012line\\134back rw master:3 - tmpfs none\\040two rw
43 42 0:43 /sub /with\\040space\\011tab/x ro,noatime shared:4 master:2 propagate_from:1 - ext4 /dev/b rw
44 27 0:44 / /u rw unbindable - tmpfs u rw
not a line
"""


def test_every_field() -> None:
    entries = {entry.mount_id: entry for entry in parse(TABLE)}
    assert sorted(entries) == [22, 27, 40, 41, 42, 43, 44]
    root = entries[27]
    assert (root.parent_id, root.device, root.root, root.mount_point) == (1, "254:0", "/", "/")
    assert (root.options, root.tags, root.fstype, root.source) == (("rw", "relatime"), (), "ext4", "/dev/vda")
    assert root.super_options == ("rw", "discard")
    assert entries[42].mount_point == "/with space\ttab\nline\\back"
    assert entries[42].source == "none two"
    assert entries[43].root == "/sub"
    assert entries[43].tags == ("shared:4", "master:2", "propagate_from:1")
    assert {number: entry.propagation for number, entry in entries.items()} == {
        27: "private", 22: "shared", 40: "private", 41: "private", 42: "slave", 43: "slave,shared", 44: "unbindable"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "plain"),
    [("a\\040b", "a b"), ("\\134040", "\\040"), ("\\", "\\"), ("a\\9", "a\\9"), ("\\043", "#"), ("plain", "plain")],
)
def test_escapes(text: str, plain: str) -> None:
    assert unescape(text) == plain


@pytest.mark.parametrize(
    ("shown", "options"),
    [
        ("rw,lowerdir=/a:/b", ("rw", "lowerdir=/a:/b")),
        ("rw,lowerdir=/c\\134\\054d,upperdir=/u", ("rw", "lowerdir=/c\\,d", "upperdir=/u")),
        ("rw,lowerdir=/c\\134,d,upperdir=/u", ("rw", "lowerdir=/c\\,d", "upperdir=/u")),
        ("rw,lowerdir=/end\\134\\134,upperdir=/u", ("rw", "lowerdir=/end\\\\", "upperdir=/u")),
        ("", ()),
    ],
    ids=["plain", "comma, newer kernels", "comma, older kernels", "backslash at the end", "empty"],
)
def test_super_options(shown: str, options: tuple[str, ...]) -> None:
    assert split_options(shown) == options


HIDDEN = """\
1 0 8:1 / / rw - ext4 root rw
2 1 0:2 / /a rw - tmpfs two rw
3 2 0:3 / /a/b rw - tmpfs three rw
4 2 0:4 / /a rw - tmpfs over rw
5 1 0:5 / /c rw - tmpfs first rw
9 5 0:9 / /c rw - tmpfs second rw
6 9 0:6 / /c rw - tmpfs third rw
7 6 0:7 / /c/d rw - tmpfs deep rw
8 1 0:8 / /c/d rw - tmpfs under-c rw
"""


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("/", "root"),
        ("/x", "root"),
        ("/a", "over"),
        ("/a/b", "over"),  # three is hidden beneath over
        ("/ab", "root"),
        ("/c", "third"),
        ("/c/d/e", "deep"),  # not under-c, which was mounted before /c was covered
    ],
)
def test_the_way_of_the_path_walk(path: str, source: str) -> None:
    entry = visible(parse(HIDDEN), path)
    assert entry is not None and entry.source == source


def test_only_what_is_seen_is_at_a_path() -> None:
    table = parse(HIDDEN)
    assert at(table, "/a/b") is None
    assert at(table, "/nowhere") is None
    assert [entry.source for entry in stack(table, "/c")] == ["third", "second", "first"]
    assert [entry.source for entry in stack(table, "/a")] == ["over", "two"]
    assert stack(table, "/a/b") == []
    assert [entry.source for entry in under(table, "/c")] == ["deep", "third", "second", "first", "under-c"]
    assert visible(parse("5 9 0:5 / /only rw - tmpfs t rw"), "/other") is None


@pytest.mark.parametrize(
    ("words", "flags", "propagation", "data"),
    [
        ([], 0, (), ""),
        (["defaults"], 0, (), ""),
        (["ro,nosuid", "nodev"], s.MS_RDONLY | s.MS_NOSUID | s.MS_NODEV, (), ""),
        (["ro", "rw"], 0, (), ""),
        (["rw", "ro"], s.MS_RDONLY, (), ""),
        (["noexec", "exec"], 0, (), ""),
        (["noatime", "relatime"], s.MS_RELATIME, (), ""),
        (["relatime", "strictatime"], s.MS_STRICTATIME, (), ""),
        (["rbind"], s.MS_BIND | s.MS_REC, (), ""),
        (["rprivate", "rslave"], 0, ("rprivate", "rslave"), ""),
        (["mode=755", "size=64m", "newinstance"], 0, (), "mode=755,size=64m,newinstance"),
        (["lowerdir=/a\\,b"], 0, (), "lowerdir=/a\\,b"),
        (["nosymfollow,lazytime"], 256 | 1 << 25, (), ""),
    ],
)
def test_option_words(words: list[str], flags: int, propagation: tuple[str, ...], data: str) -> None:
    assert parse_options(words) == Options(flags, propagation, data)


@pytest.mark.parametrize(
    ("lower", "upper", "text"),
    [
        (["/a", "/b"], None, "lowerdir=/a:/b"),
        (["/a"], "/u", "lowerdir=/a,upperdir=/u,workdir=/w"),
        (["/a:b", "/c,d", "/e\\f"], "/u:v,w", "lowerdir=/a\\:b:/c\\,d:/e\\\\f,upperdir=/u:v\\,w,workdir=/w"),
    ],
)
def test_overlay_options_there_and_back(lower: list[str], upper: str | None, text: str) -> None:
    assert overlay_options(lower, upper, "/w" if upper else None) == text
    assert split_lowerdirs(text.split(",upperdir=")[0][len("lowerdir=") :]) == lower
    if upper:
        assert unquote(text.split("upperdir=")[1].split(",workdir=")[0]) == upper
