"""Who holds a lab: a live process, by pid and start time; a dead one holds nothing."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from podlab.errors import PodlabError
from podlab.linux import process
from podlab.runtime import lock, paths
from support import waiting


@pytest.fixture(autouse=True)
def roots(podlab_roots: pathlib.Path) -> None:
    """State in the test's directory."""


@pytest.fixture
def other() -> Iterator[int]:
    """A process that lives as long as the test."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        yield child.pid


def record() -> dict[str, object]:
    found: dict[str, object] = json.loads(pathlib.Path(paths.lock_file("kind")).read_text())
    return found


def test_holding_and_letting_go() -> None:
    lock.hold("kind", os.getpid())
    found = record()
    assert (found["pid"], found["start"]) == (os.getpid(), process.start_time(os.getpid()))
    lock.release("kind", os.getpid())
    assert not os.path.exists(paths.run_root())


def test_another_labs_end_may_take_the_directory_away_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last lab that goes removes the directory, which this one has just seen."""
    ends = iter([lambda: lock.release("other", os.getpid())])
    lock.hold("other", os.getpid())
    real = os.makedirs

    def makedirs(*args: object, **options: object) -> None:
        real(*args, **options)  # type: ignore[arg-type]
        next(ends, lambda: None)()

    monkeypatch.setattr(os, "makedirs", makedirs)
    lock.hold("kind", os.getpid())
    assert record()["pid"] == os.getpid()
    lock.release("kind", os.getpid())


def test_holding_twice_is_holding_once() -> None:
    lock.hold("kind", os.getpid())
    lock.hold("kind", os.getpid())
    assert record()["pid"] == os.getpid()
    lock.release("kind", os.getpid())


def test_another_run_is_named(other: int) -> None:
    lock.hold("kind", other)
    with pytest.raises(PodlabError) as caught:
        lock.hold("kind", os.getpid())
    since = record()["since"]
    assert str(caught.value) == (
        f"Lab kind is being changed by another run: held by pid {other} since {since}. Wait for it to end"
    )
    assert record()["pid"] == other


def test_another_lab_is_free(other: int) -> None:
    lock.hold("kind", other)
    lock.hold("second", os.getpid())
    lock.release("second", os.getpid())
    assert os.path.exists(paths.lock_file("kind"))


def test_a_dead_holder_holds_nothing(other: int) -> None:
    with subprocess.Popen(["true"]) as child:
        pass
    os.makedirs(paths.run_root())
    gone = {"pid": child.pid, "start": 1, "since": "then"}
    reused = {"pid": other, "start": process.start_time(other) - 1, "since": "then"}
    for left in (json.dumps(gone), json.dumps(reused), "", "{cut off"):
        pathlib.Path(paths.lock_file("kind")).write_text(left)
        lock.hold("kind", os.getpid())
        assert record()["pid"] == os.getpid()


def test_a_dead_process_is_given_nothing() -> None:
    """A worker of an ansible-playbook that was killed; pid 1, its parent then, would hold the lab for ever."""
    with subprocess.Popen(["true"]) as child:
        pass
    with pytest.raises(PodlabError, match=f"for process {child.pid}, which is gone"):
        lock.hold("kind", child.pid)
    assert not os.path.exists(paths.run_root())


@pytest.mark.parametrize("name", ["..", "../kind", "a/b", "", "A", "-x", "x\ny"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(PodlabError, match="name: must be lower case letters, digits, dots and dashes, not"):
        lock.hold(name, os.getpid())
    assert not os.path.exists(paths.run_root())


def test_a_shorter_record_replaces_a_longer_one(other: int) -> None:
    os.makedirs(paths.run_root())
    pathlib.Path(paths.lock_file("kind")).write_text("x" * 1000)
    lock.hold("kind", os.getpid())
    assert record()["pid"] == os.getpid()


def test_only_the_holder_lets_go(other: int) -> None:
    lock.hold("kind", other)
    lock.release("kind", os.getpid())
    assert record()["pid"] == other


def test_letting_go_of_nothing() -> None:
    lock.release("kind", os.getpid())
    assert not os.path.exists(paths.run_root())


def test_letting_go_leaves_what_others_have_there() -> None:
    lock.hold("kind", os.getpid())
    os.makedirs(paths.cluster_dir("other"))
    lock.release("kind", os.getpid())
    assert os.listdir(paths.run_root()) == ["other"]


def test_of_many_at_once_one_wins() -> None:
    code = (
        "import sys, os; sys.path.insert(0, sys.argv[1]); from podlab.runtime import lock\n"
        "from podlab.errors import PodlabError\n"
        "sys.stdin.readline()\n"
        "try: lock.hold('kind', os.getpid()); print('held', flush=True)\n"
        "except PodlabError: print('refused', flush=True)\n"
        "sys.stdin.readline()"
    )
    package = str(pathlib.Path(__file__).resolve().parents[2] / "module_utils")
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code, package], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for run in runs:
        assert run.stdin is not None
        run.stdin.write("go\n")
        run.stdin.flush()
    said = [run.stdout.readline().strip() for run in runs if run.stdout is not None]
    for run in runs:
        run.communicate("end\n", timeout=10)
    assert sorted(said) == ["held"] + ["refused"] * 5


def test_what_is_done_between_commands_keeps_them_waiting(podlab_roots: object) -> None:
    """Nobody is told that the lab is held, but who wants to hold it comes after."""
    argv = [sys.executable, "-c", HOLD, str(os.getpid())]
    with lock.alone("kind") as free:
        assert free
        later = subprocess.Popen(argv)
        waiting.until(lambda: f" {later.pid} " in _waiting_for_locks(), "it does not wait")
        assert not lock.held("kind")
    # Only now could it go on.
    assert later.wait() == 0


def test_between_commands_nothing_is_done_while_one_runs(podlab_roots: object) -> None:
    lock.hold("kind", os.getpid())
    with lock.alone("kind") as free:
        assert not free
    assert lock.held("kind")
    lock.release("kind", os.getpid())
    with lock.alone("kind") as free:
        assert free
    assert not os.path.exists(paths.lock_file("kind"))


def _waiting_for_locks() -> str:
    lines = pathlib.Path("/proc/locks").read_text(encoding="ascii").splitlines()
    return "\n".join(line for line in lines if "->" in line)


HOLD = """
import sys
from podlab.runtime import lock
lock.hold("kind", int(sys.argv[1]))
"""
