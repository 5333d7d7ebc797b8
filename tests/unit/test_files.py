"""Small files are whole or not there, and removing a tree stays in it."""

from __future__ import annotations

import os
import pathlib
import stat

import pytest

from podlab.runtime import files
from support.limits import largest_file


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640])
def test_mode_whatever_the_umask(tmp_path: pathlib.Path, mode: int) -> None:
    umask = os.umask(0o077)
    try:
        files.write_text(str(tmp_path / "a"), "text", mode)
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_replacing_leaves_the_old_file_to_its_readers(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a"
    files.write_text(str(path), "old")
    with path.open() as reader:
        files.write_text(str(path), "new")
        assert reader.read() == "old"
    assert files.read_text(str(path)) == "new"
    assert os.listdir(tmp_path) == ["a"]


def test_a_long_text_is_written_whole(tmp_path: pathlib.Path) -> None:
    files.write_json(str(tmp_path / "a"), "x" * (4 << 20))
    assert len(files.read_json(str(tmp_path / "a"))) == 4 << 20


def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path: pathlib.Path) -> None:
    """write(2) takes the part that there is room for, and says so by a number only."""
    path = tmp_path / "a"
    files.write_text(str(path), "old")
    with largest_file(4), pytest.raises(OSError):
        files.write_text(str(path), "newer")
    assert files.read_text(str(path)) == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_json_is_for_root_only(tmp_path: pathlib.Path) -> None:
    files.write_json(str(tmp_path / "a"), {"b": [1, None]})
    assert (tmp_path / "a").read_text() == '{"b":[1,null]}'
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [None, "", '{"a": ', "\0\0\0"])
def test_json_that_is_missing_or_cut_off(tmp_path: pathlib.Path, content: str | None) -> None:
    path = tmp_path / "a"
    if content is not None:
        path.write_text(content)
    assert files.read_json(str(path), {"default": 1}) == {"default": 1}


def test_below_a_file_there_is_nothing(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").write_text("")
    assert files.read_text(str(tmp_path / "a" / "b"), "none") == "none"


def test_removing_a_tree_stays_in_it(tmp_path: pathlib.Path) -> None:
    outside = tmp_path / "outside"
    (outside / "kept").mkdir(parents=True)
    (outside / "file").write_text("kept")
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "to-directory").symlink_to(outside)
    (tree / "a" / "to-file").symlink_to(outside / "file")
    (tree / "dangling").symlink_to("nowhere")
    os.mkfifo(tree / "fifo")
    os.link(outside / "file", tree / "hard")
    files.remove_tree(str(tree))
    assert not tree.exists()
    assert sorted(os.listdir(outside)) == ["file", "kept"]


def test_removing_a_chain_that_is_longer_than_a_path(tmp_path: pathlib.Path) -> None:
    """A container can make it step by step; a recursion, or a descriptor per step, ends half way."""
    here = os.getcwd()
    tree = tmp_path / "tree"
    tree.mkdir()
    try:
        os.chdir(tree)
        for _ in range(3000):
            os.mkdir("a")
            os.chdir("a")
    finally:
        os.chdir(here)
    files.remove_tree(str(tree))
    assert not tree.exists()


def test_removing_what_is_not_there(tmp_path: pathlib.Path) -> None:
    files.remove_tree(str(tmp_path / "missing"))


def test_a_link_to_a_tree_is_no_tree(tmp_path: pathlib.Path) -> None:
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(OSError):
        files.remove_tree(str(tmp_path / "link"))
    assert (tmp_path / "real" / "below").is_dir()
