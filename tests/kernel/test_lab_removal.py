"""A lab's directories are never removed through a mount: what is below it is not the lab's."""

from __future__ import annotations

import pathlib
import subprocess

import pytest

from podlab.errors import PodlabError
from podlab.runtime import lab
from support.own_machine import own_machine

pytestmark = pytest.mark.kernel


def test_a_directory_with_a_mount_below_it_stays(tmp_path: pathlib.Path) -> None:
    ours = tmp_path / "lab"
    theirs = ours / "somebody's"
    theirs.mkdir(parents=True)
    with own_machine():
        subprocess.run(["mount", "-t", "tmpfs", "theirs", theirs], check=True)
        (theirs / "precious").write_text("kept")
        with pytest.raises(PodlabError, match="is not removed: .* is mounted there. Unmount it first: umount "):
            lab.remove_tree(str(ours))
        assert (theirs / "precious").read_text() == "kept"
        subprocess.run(["umount", theirs], check=True)
        lab.remove_tree(str(ours))
    assert not ours.exists()
