"""The CRI log: whole lines, parts, both streams, rotation."""

from __future__ import annotations

import gzip
import os
import pathlib
import re
import stat
import time
from collections.abc import Iterator

import pytest

from podlab.runtime import crilog

LINE = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (stdout|stderr) ([FP]) (.*)")


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "pods" / "c" / "0.log"


@pytest.fixture
def log(path: pathlib.Path) -> Iterator[crilog.Log]:
    yield crilog.Log(str(path))


def read(path: pathlib.Path) -> list[tuple[str, str, bytes]]:
    found = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        match = LINE.fullmatch(line)
        assert match, line
        found.append((match[2].decode(), match[3].decode(), match[4]))
    return found


def test_the_file_is_there_at_once(log: crilog.Log, path: pathlib.Path) -> None:
    assert path.read_bytes() == b""
    assert path.stat().st_mode & 0o777 == 0o640
    log.close()


def test_lines(log: crilog.Log, path: pathlib.Path) -> None:
    log.feed("stdout", b"one\n\ntwo\n")
    log.feed("stderr", b"three\n")
    assert read(path) == [
        ("stdout", "F", b"one"),
        ("stdout", "F", b""),
        ("stdout", "F", b"two"),
        ("stderr", "F", b"three"),
    ]
    log.close()


def test_a_line_read_in_pieces_is_one_line(log: crilog.Log, path: pathlib.Path) -> None:
    log.feed("stdout", b"he")
    log.feed("stderr", b"other\n")
    assert read(path) == [("stderr", "F", b"other")]
    log.feed("stdout", b"llo\nwor")
    log.feed("stdout", b"ld\n")
    assert read(path)[1:] == [("stdout", "F", b"hello"), ("stdout", "F", b"world")]
    log.close()


def test_what_ends_without_a_newline_is_a_part(log: crilog.Log, path: pathlib.Path) -> None:
    log.feed("stdout", b"no newline")
    log.close()
    assert read(path) == [("stdout", "P", b"no newline")]


LIMIT = crilog.LINE_LIMIT


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (LIMIT - 1, [("F", LIMIT - 1)]),
        (LIMIT, [("F", LIMIT)]),
        (LIMIT + 1, [("P", LIMIT), ("F", 1)]),
        (2 * LIMIT, [("P", LIMIT), ("F", LIMIT)]),
        (2 * LIMIT + 5, [("P", LIMIT), ("P", LIMIT), ("F", 5)]),
    ],
)
def test_a_long_line_read_at_once_is_split(
    log: crilog.Log, path: pathlib.Path, size: int, expected: list[tuple[str, int]]
) -> None:
    log.feed("stdout", b"x" * size + b"\n")
    assert [(tag, len(text)) for _, tag, text in read(path)] == expected
    log.close()


@pytest.mark.parametrize("piece", [1000, LIMIT, 60000])
@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT, LIMIT + 1, 3 * LIMIT, 3 * LIMIT + 7])
def test_a_long_line_in_pieces_loses_nothing(log: crilog.Log, path: pathlib.Path, size: int, piece: int) -> None:
    text = bytes(ord("a") + number % 26 for number in range(size))
    data = text + b"\n"
    for at in range(0, len(data), piece):
        log.feed("stdout", data[at : at + piece])
    found = read(path)
    assert b"".join(part for _, _, part in found) == text
    assert [tag for _, tag, _ in found] == ["P"] * (len(found) - 1) + ["F"]
    assert all(len(part) <= LIMIT for _, _, part in found)
    log.close()


def test_memory_does_not_grow_with_a_line_that_never_ends(log: crilog.Log, path: pathlib.Path) -> None:
    for _ in range(64):
        log.feed("stdout", b"x" * 65536)
    log.close()
    assert sum(len(text) for _, _, text in read(path)) == 64 * 65536
    assert {tag for _, tag, _ in read(path)} == {"P"}


def test_bytes_that_are_no_text(log: crilog.Log, path: pathlib.Path) -> None:
    log.feed("stdout", b"\xff\x00\r\xc3\n")
    assert read(path) == [("stdout", "F", b"\xff\x00\r\xc3")]
    log.close()


def test_a_carriage_return_before_the_newline_is_part_of_it(log: crilog.Log, path: pathlib.Path) -> None:
    """As containerd has it: what a terminal makes of a newline is a newline again."""
    log.feed("stdout", b"one\r\n\r\ntw\ro\r")
    log.feed("stdout", b"\n")
    assert [text for _, _, text in read(path)] == [b"one", b"", b"tw\ro"]
    log.close()


class Clock:
    """A second passes when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 1_700_000_000
        monkeypatch.setattr(crilog.time, "gmtime", lambda *_: real(self.seconds))

    def stamp(self, back: int = 0) -> str:
        return f"0.log.{time.strftime(crilog.STAMP, real(self.seconds - back))}"


real = time.gmtime


def unpacked(file: pathlib.Path) -> bytes:
    return gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()


def test_rotation_names_packs_and_keeps_five(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kubelet: the log, the one before it as it was, and three packed ones."""
    clock = Clock(monkeypatch)
    log = crilog.Log(str(path), max_size=80, max_files=5)
    for number in range(8):
        log.feed("stdout", b"%d" % number * 40 + b"\n")
        clock.seconds += 1
    log.close()
    names = sorted(os.listdir(path.parent))
    assert names == ["0.log", *(f"{clock.stamp(back)}.gz" for back in (4, 3, 2)), clock.stamp(1)]
    assert [unpacked(path.parent / name).split()[3][:1] for name in names] == [b"7", b"3", b"4", b"5", b"6"]
    modes = {stat.S_IMODE((path.parent / name).stat().st_mode) for name in names}
    assert modes == {0o640}


def test_two_rotations_in_one_second_would_have_one_name(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the second one waits, and nothing is lost."""
    clock = Clock(monkeypatch)
    log = crilog.Log(str(path), max_size=10)
    for number in range(4):
        log.feed("stdout", b"%d\n" % number)
    assert [text for _, _, text in read(path)] == [b"1", b"2", b"3"]
    clock.seconds += 1
    log.feed("stdout", b"4\n")
    assert [text for _, _, text in read(path)] == [b"4"]
    log.close()


def test_a_negative_size_never_rotates(path: pathlib.Path) -> None:
    log = crilog.Log(str(path), max_size=-1)
    for _ in range(3):
        log.feed("stdout", b"x\n")
    assert len(read(path)) == 3 and os.listdir(path.parent) == ["0.log"]
    log.close()


def test_what_a_rotation_left_half_done_is_cleared_away(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    log = crilog.Log(str(path), max_size=10)
    for name in ("0.log.20200101-000000", "0.log.20200101-000000.gz", "0.log.20200102-000000.tmp", "10.log"):
        (path.parent / name).write_bytes(b"old")
    log.feed("stdout", b"one\n")
    log.feed("stdout", b"two\n")
    names = sorted(os.listdir(path.parent))
    assert names[:2] == ["0.log", "0.log.20200101-000000.gz"] and names[3:] == ["10.log"]
    log.close()


def test_a_log_that_cannot_be_rotated_grows(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried again after a while, not with every line."""
    tries: list[str] = []

    def fail(work: object) -> None:
        tries.append("")
        raise crilog.Failed("No space left on device")

    monkeypatch.setattr(crilog, "borrow", fail)
    log = crilog.Log(str(path), max_size=10)
    for _ in range(5):
        log.feed("stdout", b"x\n")
    assert len(read(path)) == 5 and len(tries) == 1
    log.close()


def test_a_log_that_grew_before_goes_on_growing(path: pathlib.Path) -> None:
    for text in (b"a" * 30, b"b" * 30):
        log = crilog.Log(str(path), max_size=60)
        log.feed("stdout", text + b"\n")
        log.close()
    assert [text for _, _, text in read(path)] == [b"b" * 30]
    assert len(os.listdir(path.parent)) == 2


@pytest.mark.parametrize(
    ("fed", "expected"),
    [
        (b"", ""),
        (b"one\ntwo\n", "one\ntwo\n"),
        (b"no newline", "no newline"),
        (b"".join(b"%d\n" % number for number in range(100)), "".join(f"{number}\n" for number in range(20, 100))),
        (b"x" * 5000 + b"\n", "x" * 2047 + "\n"),
        (b"x" * 40000 + b"end\n", "x" * 2044 + "end\n"),
        (b"\xff\n", "\ufffd\n"),
    ],
)
def test_the_last_80_lines_or_2048_bytes(log: crilog.Log, path: pathlib.Path, fed: bytes, expected: str) -> None:
    log.feed("stdout", fed)
    log.close()
    assert crilog.last_text(str(path), 80, 2048) == expected


def test_of_no_log_there_is_no_last_text(tmp_path: pathlib.Path) -> None:
    assert crilog.last_text(str(tmp_path / "none"), 80, 2048) == ""


def test_a_timestamp() -> None:
    assert crilog.timestamp(0) == "1970-01-01T00:00:00.000000000Z"
    assert crilog.timestamp(1.5) == "1970-01-01T00:00:01.500000000Z"
    assert LINE.match(f"{crilog.timestamp()} stdout F x".encode())
