"""The log files of one container: found, read, joined to lines, followed.

A run has `<restartCount>.log`; what was rotated away is `<restartCount>.log.<time>`, older files with .gz. Lines are
`<RFC3339Nano> stdout|stderr F|P <text>`, P for a part that goes on in the next entry of its stream.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Callable, NamedTuple, cast

from ..linux import inotify

# How long the end of a pod can go unnoticed: it shows in its status, not in its log's directory.
LOOK_AGAIN_SECONDS = 1.0

_FILE = re.compile(r"(\d+)\.log(\.\d{8}-\d{6})?(\.gz)?$")
# After every time: the file that is being written.
_NOW = "~"


class Line(NamedTuple):
    """One line of output. time: as it is written in the file. text: with its newline, when it has one."""

    time: bytes
    stream: bytes
    text: bytes


def runs(directory: str) -> dict[int, list[str]]:
    """Files of each run of the container, oldest first; empty when there is no log."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return {}
    there = set(names)
    found: dict[int, list[tuple[str, str]]] = {}
    for name in names:
        match = _FILE.match(name)
        # One that has just been packed is there twice for a moment.
        if match and f"{name}.gz" not in there:
            found.setdefault(int(match.group(1)), []).append((match.group(2) or _NOW, name))
    return {run: [f"{directory}/{name}" for _, name in sorted(files)] for run, files in sorted(found.items())}


def opened(path: str) -> BinaryIO:
    """The file to read, unpacked when it is packed."""
    if not path.endswith(".gz"):
        return open(path, "rb")
    # Slow to load, and seldom needed.
    import gzip

    return cast("BinaryIO", gzip.open(path, "rb"))


class Joiner:
    """Log entries to lines: the parts of a line are put together, stream by stream."""

    def __init__(self) -> None:
        self._parts: dict[bytes, list[Line]] = {}

    def feed(self, entry: bytes) -> Line | None:
        """The line that the entry completes; None when more of it is to come, or when the entry is damaged."""
        fields = entry.rstrip(b"\n").split(b" ", 3)
        if len(fields) < 3 or fields[1] not in (b"stdout", b"stderr"):
            return None
        time, stream, tag = fields[:3]
        parts = self._parts.setdefault(stream, [])
        parts.append(Line(time, stream, fields[3] if len(fields) > 3 else b""))
        if tag.split(b":")[0] == b"P":
            return None
        return self._take(stream, b"\n")

    def rest(self) -> Iterator[Line]:
        """What ended without a newline."""
        for stream in list(self._parts):
            if self._parts[stream]:
                yield self._take(stream, b"")

    def _take(self, stream: bytes, end: bytes) -> Line:
        parts = self._parts.pop(stream)
        return Line(parts[0].time, stream, b"".join(part.text for part in parts) + end)


def read(files: Iterable[str]) -> Iterator[Line]:
    """The lines of one run's files."""
    joiner = Joiner()
    for path in files:
        with opened(path) as file:
            for entry in file:
                line = joiner.feed(entry)
                if line:
                    yield line
    yield from joiner.rest()


def tail(lines: Iterable[Line], count: int | None) -> Iterable[Line]:
    """The last `count` lines; all of them for None."""
    return lines if count is None else deque(lines, maxlen=count)


def follow(directory: str, ended: Callable[[], bool], count: int | None = None) -> Iterator[Line]:
    """The last `count` lines that are there, then every further one, over rotations and restarts.

    directory: the container's. ended: True when the pod will write no more.
    """
    with Watch(directory) as watch, contextlib.closing(_Reader(directory)) as reader:
        yield from tail(reader.new_lines(), count)
        while True:
            # Asked before reading: what is written before the end is read after it.
            over = ended()
            yield from reader.new_lines()
            if over:
                yield from reader.joiner.rest()
                return
            watch.wait(LOOK_AGAIN_SECONDS)


class _Reader:
    """Reads on where it stopped: in the same file, renamed or not, then in the files that are newer.

    It starts with the run that is the newest at that time.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.joiner = Joiner()
        self._file: BinaryIO | None = None
        self._run = 0
        self._part = b""

    def new_lines(self) -> Iterator[Line]:
        """The lines that have come since the last time."""
        while True:
            yield from self._entries()
            run = self._run
            if not self._next_file():
                return
            if self._run != run:
                # The new run does not end the old one's last line.
                yield from self.joiner.rest()

    def _entries(self) -> Iterator[Line]:
        for data in iter(lambda: self._file.readline() if self._file else b"", b""):
            self._part += data
            # An entry that is being written just now has no newline yet.
            if not self._part.endswith(b"\n"):
                return
            line = self.joiner.feed(self._part)
            self._part = b""
            if line:
                yield line

    def _next_file(self) -> bool:
        """Open the file that follows the one at hand; False when there is none."""
        while True:
            following = self._following()
            if following is None:
                return False
            run, path, identity = following
            try:
                file = opened(path)
            except FileNotFoundError:
                continue
            if _identity(os.fstat(file.fileno())) != identity:
                # Rotated since it was listed.
                file.close()
                continue
            self.close()
            self._file, self._run = file, run
            return True

    def _following(self) -> tuple[int, str, tuple[int, int]] | None:
        files = _listing(self.directory)
        if self._file is None:
            newest = max((run for run, _, _ in files), default=0)
            return next((entry for entry in files if entry[0] == newest), None)
        # It is open, so nothing else can have its inode.
        status = os.fstat(self._file.fileno())
        places = [place for place, (_, _, identity) in enumerate(files) if identity == _identity(status)]
        # Packed or removed meanwhile: then those that were written later follow. A packed one keeps its file's time.
        rest = files[places[0] + 1 :] if places else [one for one in files if self._is_later(one, status.st_mtime_ns)]
        return rest[0] if rest else None

    def _is_later(self, entry: tuple[int, str, tuple[int, int]], written: int) -> bool:
        run, path, _ = entry
        return run > self._run or (run == self._run and (path.endswith(".log") or _written(path) > written))

    def close(self) -> None:
        """Close the file at hand."""
        if self._file:
            self._file.close()


def _written(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _listing(directory: str) -> list[tuple[int, str, tuple[int, int]]]:
    """(run, path, identity) of every file, oldest first: as it was at one moment, between two rotations."""
    before = None
    while True:
        try:
            there = [(run, path, _identity(os.stat(path))) for run, files in runs(directory).items() for path in files]
        except FileNotFoundError:
            continue
        if there == before:
            return there
        before = there


class Watch:
    """Wakes when something in a directory changes; the directory may come later."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._inotify = inotify.Inotify()
        self._watching = False

    def __enter__(self) -> Watch:
        self._add()
        return self

    def __exit__(self, *error: object) -> None:
        self._inotify.__exit__(*error)

    def _add(self) -> None:
        self._watching = self._inotify.add(self._directory, inotify.MODIFY | inotify.CREATE | inotify.MOVED_FROM)

    def wait(self, seconds: float) -> None:
        """Return when something has changed, or after so many seconds."""
        if not self._watching:
            self._add()
        self._inotify.wait(seconds)
