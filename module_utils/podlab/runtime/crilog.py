"""Container output as CRI log lines, and their rotation.

`<RFC3339Nano> stdout|stderr F|P <text>`: P is a part of a line (no newline yet). Source: kubelet's CRI logging format;
containerd splits at 16 KiB; kubelet rotates at 10 MiB and keeps 5 files.
"""

from __future__ import annotations

import os
import time

LINE_LIMIT = 16 * 1024
SIZE_LIMIT = 10 * 1024 * 1024
FILES = 5


def timestamp(seconds: float | None = None) -> str:
    """RFC 3339 with nanoseconds, UTC."""
    nanoseconds = time.time_ns() if seconds is None else int(seconds * 1e9)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(nanoseconds // 10**9))
    return f"{whole}.{nanoseconds % 10**9:09d}Z"


class Log:
    """The log file of one run of a container; made at once, so that `logs` finds it."""

    def __init__(self, path: str) -> None:
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        self._path = path
        self._open()
        self._rest = {"stdout": b"", "stderr": b""}

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size

    def feed(self, stream: str, data: bytes) -> None:
        """Take what the container wrote to the stream; complete lines go to the file."""
        when = timestamp()
        lines = (self._rest[stream] + data).split(b"\n")
        rest = lines.pop()
        out = [self._record(when, stream, b"F", line) for line in lines]
        while len(rest) >= LINE_LIMIT:
            out.append(b"%s %s P %s\n" % (when.encode(), stream.encode(), rest[:LINE_LIMIT]))
            rest = rest[LINE_LIMIT:]
        self._rest[stream] = rest
        self._write(b"".join(out))

    def _record(self, when: str, stream: str, tag: bytes, line: bytes) -> bytes:
        head = b"%s %s " % (when.encode(), stream.encode())
        parts = [line[at : at + LINE_LIMIT] for at in range(0, len(line), LINE_LIMIT)] or [b""]
        return b"".join(head + b"P " + part + b"\n" for part in parts[:-1]) + head + tag + b" " + parts[-1] + b"\n"

    def _write(self, data: bytes) -> None:
        if not data:
            return
        if self._size and self._size + len(data) > SIZE_LIMIT:
            self._rotate()
        try:
            os.write(self._fd, data)
        except OSError:
            # A full disk loses log lines, never the container.
            return
        self._size += len(data)

    def _rotate(self) -> None:
        os.close(self._fd)
        for number in range(FILES - 2, 0, -1):
            if os.path.exists(f"{self._path}.{number}"):
                os.rename(f"{self._path}.{number}", f"{self._path}.{number + 1}")
        os.rename(self._path, f"{self._path}.1")
        self._open()

    def close(self) -> None:
        """Write what was left without a newline, and close."""
        for stream, rest in self._rest.items():
            if rest:
                self._write(self._record(timestamp(), stream, b"P", rest))
        os.close(self._fd)
