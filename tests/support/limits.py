"""What a process may use, less for a while: a machine that has run out of something, for this process alone."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator


def largest_file(size: int) -> contextlib.AbstractContextManager[None]:
    """No file grows beyond so many bytes: to whoever writes it is a disk that is full."""
    return _limited(resource.RLIMIT_FSIZE, size)


def no_descriptors() -> contextlib.AbstractContextManager[None]:
    """Nothing can be opened."""
    return _limited(resource.RLIMIT_NOFILE, 0)


@contextlib.contextmanager
def _limited(what: int, value: int) -> Iterator[None]:
    before = resource.getrlimit(what)
    resource.setrlimit(what, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)
