"""The termination log as its container may have left it: only a regular file says anything."""

from __future__ import annotations

import os
import pathlib
from typing import Callable

import pytest

from podlab.runtime import containerroot, termination

CONFIG = {"cluster": "kind", "uid": "u", "namespace": "default", "name": "p"}
CONTAINER = {"name": "c"}

LEFT: list[tuple[str, Callable[[pathlib.Path], object], str]] = [
    ("nothing", lambda path: None, ""),
    ("an empty file", lambda path: path.touch(), ""),
    ("a word", lambda path: path.write_text("why"), "why"),
    ("too much: its end", lambda path: path.write_text("a" * 5000 + "end"), "a" * 4093 + "end"),
    ("no UTF-8", lambda path: path.write_bytes(b"\xff"), "\ufffd"),
    ("a link to a file", lambda path: path.symlink_to("/etc/passwd"), ""),
    ("a pipe that nobody writes to", os.mkfifo, ""),
    ("a directory", lambda path: path.mkdir(), ""),
]


@pytest.mark.parametrize(("make", "message"), [row[1:] for row in LEFT], ids=[row[0] for row in LEFT])
def test_what_the_container_left(podlab_roots: object, make: Callable[[pathlib.Path], object], message: str) -> None:
    path = pathlib.Path(containerroot.run_dir(CONFIG, CONTAINER, 0), "termination-log")
    path.parent.mkdir(parents=True)
    make(path)
    assert termination.termination_message(CONFIG, CONTAINER, 0) == message


def test_runs_before_the_last_one_are_forgotten(
    podlab_roots: object, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podlab.runtime.paths.node_view_of_logs", lambda config: str(tmp_path))
    logs, layers = tmp_path / "c", pathlib.Path(containerroot.run_dir(CONFIG, CONTAINER, 0)).parent
    logs.mkdir()
    for run in range(4):
        (layers / str(run) / "upper").mkdir(parents=True)
        for ending in ("", ".20261126-101112", ".20261125-101112.gz"):
            (logs / f"{run}.log{ending}").touch()
    (layers / "3" / "link").symlink_to(layers / "0")
    (logs / "note").touch()
    termination.forget_older(CONFIG, "c", 1)
    assert len(os.listdir(layers)) == 4
    termination.forget_older(CONFIG, "c", 3)
    assert sorted(os.listdir(layers)) == ["2", "3"]
    assert sorted({name[:2] for name in os.listdir(logs)}) == ["2.", "3.", "no"]
