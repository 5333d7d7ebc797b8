"""Processes that end with the test, and waiting for what the kernel shows but sends no event for."""

from __future__ import annotations

import contextlib
import select
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any, Callable

# How long between two looks. Far less than anything lasts that a test must not miss.
LOOK_AGAIN_SECONDS = 0.001


@contextlib.contextmanager
def running(argv: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """The process with its stderr on a pipe, killed at the end whatever happened."""
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], bool], otherwise: str, seconds: float = 30) -> None:
    """Return as soon as the condition holds; AssertionError saying `otherwise` after that many seconds.

    Between two looks it leaves the processor to what it waits for.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, otherwise
        select.select([], [], [], LOOK_AGAIN_SECONDS)
