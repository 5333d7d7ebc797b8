"""The CRI log: whole lines, parts, both streams, rotation."""

from __future__ import annotations

import os
import pathlib
import re
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


def test_rotation_keeps_five(log: crilog.Log, path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crilog, "SIZE_LIMIT", 100)
    for number in range(8):
        log.feed("stdout", b"%d" % number * 40 + b"\n")
    names = sorted(os.listdir(path.parent))
    assert names == ["0.log", "0.log.1", "0.log.2", "0.log.3", "0.log.4"]
    kept = [read(path.parent / name)[0][2][:1] for name in names]
    assert kept == [b"7", b"6", b"5", b"4", b"3"]
    log.close()


def test_a_log_that_grew_before_goes_on_growing(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crilog, "SIZE_LIMIT", 100)
    for text in (b"a" * 30, b"b" * 30):
        log = crilog.Log(str(path))
        log.feed("stdout", text + b"\n")
        log.close()
    assert [text for _, _, text in read(path)] == [b"b" * 30]
    assert [text for _, _, text in read(path.parent / "0.log.1")] == [b"a" * 30]


def test_a_timestamp() -> None:
    assert crilog.timestamp(0) == "1970-01-01T00:00:00.000000000Z"
    assert crilog.timestamp(1.5) == "1970-01-01T00:00:01.500000000Z"
    assert LINE.match(f"{crilog.timestamp()} stdout F x".encode())
