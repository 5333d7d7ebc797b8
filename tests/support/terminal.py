"""A process on a terminal of its own, as a person has it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from typing import Any

SECONDS = 20.0


class Terminal:
    """The person's side of the terminal."""

    def __init__(self, fd: int, process: subprocess.Popen[bytes]) -> None:
        self._fd = fd
        self._process = process
        self._text = ""

    def expect(self, text: str) -> None:
        """Read until this has come. AssertionError with what came instead after 20 seconds."""
        end = time.monotonic() + SECONDS
        while text not in self._text:
            assert self._more(end - time.monotonic()), f"{text!r} has not come, only: {self._text!r}"

    def type(self, text: str) -> None:
        """Type this."""
        os.write(self._fd, text.encode())

    def rest(self) -> str:
        """Read to the end; all that has ever come."""
        end = time.monotonic() + SECONDS
        while self._more(end - time.monotonic()):
            pass
        return self._text

    def wait(self) -> int:
        """The process's exit code."""
        return self._process.wait(SECONDS)

    def _more(self, seconds: float) -> bool:
        """False at the end: nobody has the other side open any more."""
        if not select.select([self._fd], [], [], max(0.0, seconds))[0]:
            return False
        try:
            data = os.read(self._fd, 4096)
        except OSError:
            return False
        self._text += data.decode("utf-8", "replace")
        return bool(data)


@contextlib.contextmanager
def process(argv: Sequence[str], rows: int, columns: int, **options: Any) -> Iterator[Terminal]:
    """Run argv with a terminal of this size as its standard streams; killed at the end whatever happened."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, **options) as child:
        os.close(theirs)
        try:
            yield Terminal(ours, child)
        finally:
            child.kill()
            os.close(ours)
