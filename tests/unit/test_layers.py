"""Layers: what unpacks, what is refused, and that nothing lands outside. Whiteouts need root: see tests/kernel."""

from __future__ import annotations

import io
import os
import pathlib
import stat
import tarfile

import pytest

from podlab.runtime import layers


class Builder:
    """A tar archive, entry by entry, as hostile as one likes."""

    def __init__(self) -> None:
        self.raw = io.BytesIO()
        self.archive = tarfile.TarFile(fileobj=self.raw, mode="w", format=tarfile.PAX_FORMAT)

    def add(self, name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: object) -> Builder:
        entry = tarfile.TarInfo(name)
        entry.type, entry.size = kind, len(data)
        entry.uid, entry.gid, entry.mode = os.getuid(), os.getgid(), 0o755 if kind == tarfile.DIRTYPE else 0o644
        for key, value in fields.items():
            setattr(entry, key, value)
        self.archive.addfile(entry, io.BytesIO(data))
        return self

    def link(self, name: str, target: str, hard: bool = False) -> Builder:
        return self.add(name, tarfile.LNKTYPE if hard else tarfile.SYMTYPE, linkname=target)

    def unpack(self, directory: pathlib.Path) -> list[str]:
        self.archive.close()
        self.raw.seek(0)
        directory.mkdir(exist_ok=True)
        return layers.unpack(self.raw, str(directory))


@pytest.fixture
def victim(tmp_path: pathlib.Path) -> pathlib.Path:
    directory = tmp_path / "victim"
    directory.mkdir()
    (directory / "shadow").write_text("secret")
    return directory


def test_files_directories_and_links(tmp_path: pathlib.Path) -> None:
    tar = Builder().add("./a/", tarfile.DIRTYPE, mode=0o750).add("a/f", data=b"text", mode=0o4755, mtime=1000)
    tar.link("a/s", "f").link("h", "a/f", hard=True).add("deep/er/x").add("p", tarfile.FIFOTYPE)
    assert tar.unpack(tmp_path / "l") == []
    layer = tmp_path / "l"
    assert stat.S_IMODE((layer / "a").stat().st_mode) == 0o750
    assert stat.S_IMODE((layer / "a/f").stat().st_mode) == 0o4755
    assert ((layer / "a/f").read_text(), (layer / "a/f").stat().st_mtime) == ("text", 1000)
    assert os.readlink(layer / "a/s") == "f"
    assert (layer / "h").stat().st_ino == (layer / "a/f").stat().st_ino
    assert stat.S_IMODE((layer / "deep/er").stat().st_mode) == 0o755
    assert stat.S_ISFIFO((layer / "p").stat().st_mode)


def test_an_absolute_name_lands_inside(tmp_path: pathlib.Path, victim: pathlib.Path) -> None:
    Builder().add(f"{victim}/new", data=b"x").unpack(tmp_path / "l")
    assert os.listdir(victim) == ["shadow"]
    assert (tmp_path / f"l{victim}/new").read_bytes() == b"x"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/../x", "a/..", "./../victim/x"])
def test_dot_dot_is_refused(tmp_path: pathlib.Path, victim: pathlib.Path, name: str) -> None:
    with pytest.raises(layers.Refused, match=r"has '\.\.' in its path"):
        Builder().add(name).unpack(tmp_path / "l")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("absolute", [True, False])
def test_a_file_through_a_link_does_not_leave(tmp_path: pathlib.Path, victim: pathlib.Path, absolute: bool) -> None:
    target = str(victim) if absolute else "../victim"
    with pytest.raises(layers.Refused, match="goes through 'out', no directory of this layer"):
        Builder().link("out", target).add("out/new", data=b"x").unpack(tmp_path / "l")
    assert os.listdir(victim) == ["shadow"]


def test_a_link_through_the_root_ends_at_the_layer(tmp_path: pathlib.Path, victim: pathlib.Path) -> None:
    tar = Builder().add("victim", tarfile.DIRTYPE).link("out", "../../../victim").add("out/new", data=b"x")
    tar.unpack(tmp_path / "l")
    assert (tmp_path / "l/victim/new").read_bytes() == b"x"
    assert os.listdir(victim) == ["shadow"]


def test_magic_links_are_not_followed(tmp_path: pathlib.Path) -> None:
    with pytest.raises(layers.Refused):
        Builder().link("r", "/proc/self/root").add(f"r{tmp_path}/x").unpack(tmp_path / "l")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("target", ["{victim}/shadow", "../victim/shadow", "/", "", "gone"])
def test_a_hard_link_outside_is_refused(tmp_path: pathlib.Path, victim: pathlib.Path, target: str) -> None:
    with pytest.raises(layers.Refused):
        Builder().link("h", target.format(victim=victim), hard=True).unpack(tmp_path / "l")
    assert (victim / "shadow").stat().st_nlink == 1


def test_a_hard_link_to_a_link_does_not_follow_it(tmp_path: pathlib.Path, victim: pathlib.Path) -> None:
    Builder().link("s", str(victim / "shadow")).link("h", "s", hard=True).unpack(tmp_path / "l")
    assert (tmp_path / "l/h").is_symlink()
    assert (victim / "shadow").stat().st_nlink == 1


def test_a_file_does_not_write_through_a_link_of_the_same_name(tmp_path: pathlib.Path, victim: pathlib.Path) -> None:
    Builder().link("f", str(victim / "shadow")).add("f", data=b"mine").unpack(tmp_path / "l")
    assert (victim / "shadow").read_text() == "secret"
    assert (tmp_path / "l/f").read_bytes() == b"mine"


def test_a_directory_entry_does_not_change_what_a_link_points_to(tmp_path: pathlib.Path, victim: pathlib.Path) -> None:
    Builder().link("d", str(victim)).add("d", tarfile.DIRTYPE, mode=0o777).unpack(tmp_path / "l")
    assert stat.S_IMODE(victim.stat().st_mode) != 0o777
    assert (tmp_path / "l/d").is_dir() and not (tmp_path / "l/d").is_symlink()


def test_the_last_of_duplicates_wins(tmp_path: pathlib.Path) -> None:
    tar = Builder().add("f", data=b"one").add("f", data=b"two").add("d/x").add("d", data=b"file now")
    tar.add("e/keep").add("e", tarfile.DIRTYPE, mode=0o700)
    tar.unpack(tmp_path / "l")
    assert (tmp_path / "l/f").read_bytes() == b"two"
    assert (tmp_path / "l/d").read_bytes() == b"file now"
    assert (tmp_path / "l/e/keep").exists()
    assert stat.S_IMODE((tmp_path / "l/e").stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_device_nodes_are_left_out_and_said(tmp_path: pathlib.Path, kind: bytes) -> None:
    notes = Builder().add("dev/kmsg", kind, devmajor=1, devminor=11).add("x").unpack(tmp_path / "l")
    assert len(notes) == 1 and notes[0].startswith("dev/kmsg: left out")
    assert not (tmp_path / "l/dev/kmsg").exists() and (tmp_path / "l/x").exists()


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "a/.wh..."])
def test_a_whiteout_of_nothing_or_of_the_directory_itself_is_refused(tmp_path: pathlib.Path, name: str) -> None:
    with pytest.raises(layers.Refused, match="whiteout of nothing"):
        Builder().add(name).unpack(tmp_path / "l")


def test_notes_of_aufs_are_no_files(tmp_path: pathlib.Path) -> None:
    Builder().add(".wh..wh.plnk").add(".wh..wh.aufs").unpack(tmp_path / "l")
    assert os.listdir(tmp_path / "l") == []


def test_an_owner_that_means_leave_alone_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(layers.Refused, match="impossible owner"):
        Builder().add("f", uid=2**32 - 1).unpack(tmp_path / "l")


def test_a_layer_has_an_end(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "MAX_ENTRIES", 3)
    with pytest.raises(layers.Refused, match="more than 3 entries"):
        Builder().add("a").add("b").add("c").add("d").unpack(tmp_path / "l")
    monkeypatch.setattr(layers, "MAX_BYTES", 10)
    with pytest.raises(layers.Refused, match="more than"):
        Builder().add("big", data=b"x" * 11).unpack(tmp_path / "m")


@pytest.mark.parametrize("raw", [b"not a tar" * 100, b"\0" * 100, b""])
def test_what_is_no_archive_is_refused(tmp_path: pathlib.Path, raw: bytes) -> None:
    (tmp_path / "l").mkdir()
    with pytest.raises(layers.Refused, match="not a sound tar archive"):
        layers.unpack(io.BytesIO(raw), str(tmp_path / "l"))


def test_a_path_of_two_thousand_directories_is_refused_or_unpacked(tmp_path: pathlib.Path) -> None:
    deep = "a/" * 1500
    with pytest.raises(layers.Refused):
        Builder().add(f"{deep}f", data=b"x").unpack(tmp_path / "l")
    step = "/".join("a" * 400)
    tar = Builder().add(f"{step}/f").link("short", step).add(f"short/{step}/f")
    tar.link("shorter", f"short/{step}").add(f"shorter/{step}/f").add("a", data=b"a file now")
    tar.unpack(tmp_path / "m")
    assert (tmp_path / "m/a").read_bytes() == b"a file now"


def test_a_cut_archive_is_refused(tmp_path: pathlib.Path) -> None:
    tar = Builder().add("f", data=b"x" * 100_000)
    tar.archive.close()
    (tmp_path / "l").mkdir()
    with pytest.raises(layers.Refused):
        layers.unpack(io.BytesIO(tar.raw.getvalue()[:50_000]), str(tmp_path / "l"))
