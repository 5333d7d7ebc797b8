"""Container output as CRI log lines, and their rotation.

`<RFC3339Nano> stdout|stderr F|P <text>`: P is a part of a line (no newline yet). Source: kubelet's CRI logging format;
containerd splits at 16 KiB; the kubelet rotates at 10 MiB (containerLogMaxSize) and keeps 5 files
(containerLogMaxFiles): `0.log`, the one before as `0.log.20261126-101112`, older ones with .gz.
"""

from __future__ import annotations

import os
import stat
import time

from .starter import Failed, borrow

LINE_LIMIT = 16 * 1024
SIZE_LIMIT = 10 * 1024 * 1024
FILES = 5
# The kubelet's containerLogMonitorInterval: a rotation that failed is not tried with every line.
RETRY_SECONDS = 10.0
# Of rotated files; that of UTC.
STAMP = "%Y%m%d-%H%M%S"
PACKED = ".gz"
_TEMPORARY = ".tmp"
_CHUNK = 1024 * 1024
# More than the time, the stream and the tag of an entry.
_HEAD = 64


def timestamp(seconds: float | None = None) -> str:
    """RFC 3339 with nanoseconds, UTC."""
    nanoseconds = time.time_ns() if seconds is None else int(seconds * 1e9)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(nanoseconds // 10**9))
    return f"{whole}.{nanoseconds % 10**9:09d}Z"


class Log:
    """The log file of one run of a container; made at once, so that `logs` finds it.

    max_size: bytes at which it is rotated; negative: never. max_files: it and what it was before, together.
    """

    __slots__ = ("_fd", "_max_files", "_max_size", "_path", "_rest", "_retry_at", "_size")

    def __init__(self, path: str, max_size: int = SIZE_LIMIT, max_files: int = FILES) -> None:
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        self._path = path
        self._max_size = max_size
        self._max_files = max_files
        self._fd = self._open()
        self._size = os.fstat(self._fd).st_size
        self._rest = {"stdout": b"", "stderr": b""}
        self._retry_at = 0.0

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def feed(self, stream: str, data: bytes) -> None:
        """Take what the container wrote to the stream; complete lines go to the file, \\r\\n counting as \\n."""
        when = timestamp()
        lines = (self._rest[stream] + data).split(b"\n")
        rest = lines.pop()
        out = [self._record(when, stream, b"F", line[:-1] if line.endswith(b"\r") else line) for line in lines]
        # Without a newline in sight nothing is kept that would make us grow.
        while len(rest) > LINE_LIMIT:
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
        if 0 <= self._max_size <= self._size:
            self._rotate()
        try:
            os.write(self._fd, data)
        except OSError:
            # A full disk loses log lines, never the container.
            return
        self._size += len(data)

    def _rotate(self) -> None:
        """As the kubelet does it: what is too old goes, what is old is packed, what is at hand gets the time's name.

        Names tell seconds: of two rotations in one the second one comes with the next, and the file grows till then.
        """
        rotated = f"{self._path}.{time.strftime(STAMP, time.gmtime())}"
        if os.path.exists(rotated) or time.monotonic() < self._retry_at:
            return
        try:
            borrow(lambda _: pack(self._path, self._max_files))
            os.rename(self._path, rotated)
        except (OSError, Failed):
            self._retry_at = time.monotonic() + RETRY_SECONDS
            return
        try:
            fresh = self._open()
        except OSError:
            os.rename(rotated, self._path)
            self._retry_at = time.monotonic() + RETRY_SECONDS
            return
        os.close(self._fd)
        self._fd, self._size = fresh, 0

    def close(self) -> None:
        """Write what was left without a newline, and close."""
        for stream, rest in self._rest.items():
            if rest:
                self._write(self._record(timestamp(), stream, b"P", rest))
        os.close(self._fd)


def pack(path: str, max_files: int) -> None:
    """Before the log at path is rotated: its older files packed, the oldest removed. In a starter: zlib is large.

    Source: kubelet's container_log_manager.go. A packed file has the time of what is in it, by which a reader that
    had read the plain one knows it again.
    """
    directory, base = os.path.split(path)
    names = {name for name in os.listdir(directory) if name.startswith(f"{base}.")}
    unused = {name for name in names if name.endswith(_TEMPORARY) or f"{name}{PACKED}" in names}
    kept = sorted(names - unused)
    excess = kept[: max(len(kept) - max(max_files - 2, 0), 0)]
    for name in [*unused, *excess]:
        os.unlink(f"{directory}/{name}")
    for name in kept[len(excess) :]:
        if not name.endswith(PACKED):
            _pack(f"{directory}/{name}")


def _pack(path: str) -> None:
    import zlib

    temporary = f"{path}{_TEMPORARY}"
    # Quick rather than small: the container's output waits for it. 31: with gzip's head and sum.
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    with open(path, "rb") as plain, open(temporary, "wb") as packed:
        status = os.fstat(plain.fileno())
        os.fchmod(packed.fileno(), stat.S_IMODE(status.st_mode))
        while data := plain.read(_CHUNK):
            packed.write(packer.compress(data))
        packed.write(packer.flush())
    os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.rename(temporary, f"{path}{PACKED}")
    os.unlink(path)


def last_text(path: str, entries: int, size: int) -> str:
    """What the last entries of a log say, at most its last bytes. Empty when there is no log."""
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - entries * (LINE_LIMIT + _HEAD)))
            lines = file.read().splitlines(keepends=True)[-entries:]
    except FileNotFoundError:
        return ""
    text = b""
    for line in lines:
        fields = line.split(b" ", 3)
        if len(fields) == 4:
            text += fields[3] if fields[2] == b"F" else fields[3].rstrip(b"\n")
    return text[-size:].decode("utf-8", "replace")
