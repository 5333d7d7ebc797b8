"""Log files of a container: found, joined, cut to a tail, followed over rotations and restarts."""

from __future__ import annotations

import gzip
import itertools
import os
import pathlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from podlab.cli import crilogs, lab, logs
from podlab.errors import PodlabError
from podlab.runtime import crilog, paths
from podlab.runtime.crilog import Log

ROTATED = "0.log.20261126-101112"


def entry(text: str, tag: str = "F", stream: str = "stdout", second: int = 0) -> bytes:
    return f"2026-11-21T12:00:{second:02d}.000000000Z {stream} {tag} {text}\n".encode()


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path


def texts(lines: Iterator[crilogs.Line]) -> list[bytes]:
    return [line.text for line in lines]


def test_runs_and_their_files_in_the_order_of_writing(directory: pathlib.Path) -> None:
    old, packed = "2.log.20261126-101112", "2.log.20261125-235959.gz"
    for name in ("0.log", old, "2.log", packed, packed[:-3], f"{packed[:-3]}.tmp", "10.log", "x.log", "1.txt"):
        (directory / name).touch()
    found = {run: [os.path.basename(path) for path in files] for run, files in crilogs.runs(str(directory)).items()}
    assert found == {0: ["0.log"], 2: [packed, old, "2.log"], 10: ["10.log"]}
    assert list(found) == [0, 2, 10]
    assert crilogs.runs(str(directory / "nothing")) == {}


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([entry("one"), entry("two")], [b"one\n", b"two\n"]),
        ([entry("o", "P"), entry("ne", "P"), entry("!"), entry("two")], [b"one!\n", b"two\n"]),
        ([entry("o", "P"), entry("err", stream="stderr"), entry("ne")], [b"err\n", b"one\n"]),
        ([entry("o", "P"), entry("e", "P", "stderr"), entry("r", stream="stderr"), entry("k")], [b"er\n", b"ok\n"]),
        ([entry("no newline", "P")], [b"no newline"]),
        ([entry("")], [b"\n"]),
        ([entry("a  b "), entry("tag", "F:more")], [b"a  b \n", b"tag\n"]),
        ([b"damaged\n", b"2026 stdnone F x\n", entry("good")], [b"good\n"]),
        ([entry("cut")[:-3]], [b"\n"][:0] + [b"c\n"]),
        ([b"2026-11-21T12:00:00Z stdout F \xff\xfe\n"], [b"\xff\xfe\n"]),
    ],
)
def test_entries_become_lines(directory: pathlib.Path, entries: list[bytes], expected: list[bytes]) -> None:
    (directory / "0.log").write_bytes(b"".join(entries))
    assert texts(crilogs.read([str(directory / "0.log")])) == expected


def test_a_line_goes_on_in_the_next_file(directory: pathlib.Path) -> None:
    (directory / ROTATED).write_bytes(entry("be", "P", second=1))
    (directory / "0.log").write_bytes(entry("gun", second=2))
    [line] = crilogs.read(crilogs.runs(str(directory))[0])
    assert line == (b"2026-11-21T12:00:01.000000000Z", b"stdout", b"begun\n")


def test_what_the_runtime_writes_is_read_back(directory: pathlib.Path) -> None:
    log = Log(str(directory / "0.log"))
    log.feed("stdout", b"a" * 40000 + b"\nshort\nno newline")
    log.feed("stderr", b"error\n")
    log.close()
    found = {line.stream: [] for line in crilogs.read([str(directory / "0.log")])}
    for line in crilogs.read([str(directory / "0.log")]):
        found[line.stream].append(line.text)
    assert found == {b"stdout": [b"a" * 40000 + b"\n", b"short\n", b"no newline"], b"stderr": [b"error\n"]}


@pytest.mark.parametrize(("count", "expected"), [(None, 3), (2, 2), (0, 0), (9, 3)])
def test_tail(count: int | None, expected: int) -> None:
    lines = [crilogs.Line(b"", b"stdout", b"%d\n" % number) for number in range(3)]
    assert list(crilogs.tail(lines, count)) == lines[3 - expected :]


class Follower:
    """Follows in a thread; `wait(n)` returns the first n lines as soon as they are there."""

    def __init__(self, directory: pathlib.Path, count: int | None = None) -> None:
        self.over = threading.Event()
        self.changed = threading.Condition()
        self.lines: list[bytes] = []
        self.thread = threading.Thread(target=self._follow, args=(str(directory), count))
        self.thread.start()

    def _follow(self, directory: str, count: int | None) -> None:
        for line in crilogs.follow(directory, self.over.is_set, count):
            with self.changed:
                self.lines.append(line.text)
                self.changed.notify()

    def wait(self, number: int) -> list[bytes]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.lines) >= number, timeout=10), self.lines
            return list(self.lines)

    def end(self) -> list[bytes]:
        self.over.set()
        self.thread.join(10)
        assert not self.thread.is_alive()
        return self.lines


def test_follow_sees_new_lines_rotations_and_restarts(directory: pathlib.Path) -> None:
    place = directory / "c"
    place.mkdir()
    (place / "0.log").write_bytes(entry("old") + entry("last"))
    follower = Follower(place, 1)
    assert follower.wait(1) == [b"last\n"]
    with open(place / "0.log", "ab", buffering=0) as file:
        file.write(entry("new"))
        assert follower.wait(2)[1:] == [b"new\n"]
        # An entry that comes in two writes is one line.
        file.write(entry("half")[:40])
        file.write(entry("half")[40:])
        assert follower.wait(3)[2:] == [b"half\n"]
        os.rename(place / "0.log", place / ROTATED)
        file.write(entry("after the renaming"))
        assert follower.wait(4)[3:] == [b"after the renaming\n"]
    (place / "0.log").write_bytes(entry("rotated"))
    assert follower.wait(5)[4:] == [b"rotated\n"]
    (place / "1.log").write_bytes(entry("restarted") + entry("no end", "P"))
    assert follower.wait(6)[5:] == [b"restarted\n"]
    (place / "2.log").write_bytes(entry("again") + entry("nor here", "P"))
    assert follower.wait(8)[6:] == [b"no end", b"again\n"]
    assert follower.end()[8:] == [b"nor here"]


def test_follow_waits_for_a_container_that_has_not_started(directory: pathlib.Path) -> None:
    place = directory / "late"
    follower = Follower(place)
    place.mkdir()
    (place / "0.log").write_bytes(entry("first"))
    assert follower.wait(1) == [b"first\n"]
    follower.end()


def test_follow_of_a_pod_that_has_ended_reads_its_last_run_and_returns(directory: pathlib.Path) -> None:
    (directory / "0.log").write_bytes(entry("zero"))
    (directory / "1.log.20261126-101112").write_bytes(entry("one"))
    (directory / "1.log").write_bytes(entry("two"))
    assert texts(crilogs.follow(str(directory), lambda: True)) == [b"one\n", b"two\n"]


def test_follow_goes_on_when_the_file_at_hand_is_rotated_away(directory: pathlib.Path) -> None:
    path = directory / "0.log"
    path.write_bytes(entry("first"))
    follower = Follower(directory)
    assert follower.wait(1) == [b"first\n"]
    path.unlink()
    (directory / ROTATED).write_bytes(entry("second"))
    path.write_bytes(entry("third"))
    assert follower.wait(3)[1:] == [b"second\n", b"third\n"]
    assert len(follower.end()) == 3


def test_a_packed_file_is_read(directory: pathlib.Path) -> None:
    (directory / f"{ROTATED}.gz").write_bytes(gzip.compress(entry("be", "P", second=1)))
    (directory / "0.log").write_bytes(entry("gun", second=2))
    assert texts(crilogs.read(crilogs.runs(str(directory))[0])) == [b"begun\n"]


def test_follow_knows_a_file_that_was_packed_meanwhile(directory: pathlib.Path) -> None:
    """What it has read of it does not come again, also when the log has been rotated again since."""
    path, plain = directory / "0.log", directory / ROTATED
    path.write_bytes(entry("first"))
    follower = Follower(directory)
    assert follower.wait(1) == [b"first\n"]
    status = path.stat()
    packed, later = directory / f"{ROTATED}.gz", directory / "0.log.20261126-101115"
    made, newer = directory / "made.tmp", directory / "newer.tmp"
    made.write_bytes(gzip.compress(entry("first")))
    os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns))
    newer.write_bytes(entry("second"))
    os.utime(newer, ns=(0, status.st_mtime_ns + 1))
    os.rename(path, plain)
    os.rename(made, packed)
    os.rename(newer, later)
    plain.unlink()
    path.write_bytes(entry("third"))
    assert follower.wait(3)[1:] == [b"second\n", b"third\n"]
    assert len(follower.end()) == 3


def test_follow_the_runtimes_own_rotation(directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second a rotation; nothing is lost and nothing comes twice."""
    seconds, real = itertools.count(1_700_000_000), time.gmtime
    log = Log(str(directory / "0.log"), max_size=300)
    log.feed("stdout", b"0\n")
    follower = Follower(directory)
    for number in range(1, 200):
        # The writer waits for the reader: a file that is rotated away unread is lost to anyone.
        assert follower.wait(number)[-1] == b"%d\n" % (number - 1)
        with monkeypatch.context() as clock:
            clock.setattr(crilog.time, "gmtime", lambda *_: real(next(seconds)))
            log.feed("stdout", b"%d\n" % number)
    log.close()
    assert follower.end() == [b"%d\n" % number for number in range(200)]
    files = crilogs.runs(str(directory))[0]
    assert len(files) == 5 and [name.endswith(".gz") for name in files] == [True, True, True, False, False]


# The command


@pytest.fixture
def pod(podlab_roots: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A pod with two runs of its container behind it and a third one running."""
    item = {
        "pod": {
            "metadata": {"name": "web-1", "namespace": "default", "uid": "u"},
            "spec": {"nodeName": "n", "containers": [{"name": "c"}]},
        },
        "status": {"phase": "Running", "containerStatuses": [
            {"name": "c", "restartCount": 2, "ready": True, "state": {"running": {}}, "lastState": {}}]},
        "alive": True,
    }  # fmt: skip
    monkeypatch.setattr(lab, "read", lambda name="": {"name": "kind", "pods": [item], "cluster": None})
    place = pathlib.Path(paths.pod_log_dir("kind", "n", "default", "web-1", "u")) / "c"
    place.mkdir(parents=True)
    for run in (0, 1, 2):
        (place / f"{run}.log").write_bytes(entry(f"run {run}", second=run) + entry("more", second=run))
    return item


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "run 2\nmore\n"),
        ({"previous": True}, "run 1\nmore\n"),
        ({"tail": 1}, "more\n"),
        ({"tail": 0}, ""),
        ({"tail": 1, "timestamps": True}, "2026-11-21T12:00:02.000000000Z more\n"),
    ],
)
def test_logs(pod: Any, capfdbinary: Any, options: dict[str, Any], expected: str) -> None:
    logs.logs("web-1", **options)
    assert capfdbinary.readouterr().out == expected.encode()


def test_logs_while_the_container_waits_for_its_restart(pod: Any, capfdbinary: Any) -> None:
    pod["status"]["containerStatuses"][0].update(restartCount=3, state={"waiting": {"reason": "CrashLoopBackOff"}})
    logs.logs("web-1")
    assert capfdbinary.readouterr().out == b"run 2\nmore\n"
    logs.logs("web-1", previous=True)
    assert capfdbinary.readouterr().out == b"run 2\nmore\n"


def test_logs_that_are_not_there(pod: Any) -> None:
    pod["status"]["containerStatuses"][0]["restartCount"] = 0
    with pytest.raises(PodlabError, match='previous terminated container "c" in pod "web-1" not found'):
        logs.logs("web-1", previous=True)
    pod["status"] = {"phase": "Pending", "containerStatuses": []}
    pod["pod"]["metadata"]["uid"] = "another"
    with pytest.raises(PodlabError, match='container "c" in pod "web-1" is waiting to start: ContainerCreating'):
        logs.logs("web-1")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], True),
        ([("other", "Running", True)], True),
        ([("u", "Running", True)], False),
        ([("u", "Running", False)], True),
        ([("u", "Succeeded", True)], True),
        ([("u", "Failed", False)], True),
    ],
)
def test_following_ends_with_the_pod(found: list[Any], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [
        {"pod": {"metadata": {"uid": uid}}, "status": {"phase": phase}, "alive": alive} for uid, phase, alive in found
    ]
    monkeypatch.setattr("podlab.runtime.state.read_pods", lambda cluster: items)
    assert logs.ended("kind", "u") is expected
