"""Names inside a tree that is not to be trusted, resolved by the kernel so that they cannot leave it.

Source: openat2(2), RESOLVE_IN_ROOT: absolute links and `..` end at the tree's root, as if chrooted.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from typing import Callable

from .syscalls import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

_FLAGS = os.O_RDONLY | os.O_DIRECTORY


def make_directory(parent: int, name: str) -> bool:
    """A directory with mode 0755 below an open one; false when something else has the name."""
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
        return True
    except FileExistsError:
        return False


def open_directory(root: int, parts: Sequence[str], make: Callable[[int, str], bool] = make_directory) -> int:
    """Open a directory inside root, links followed; missing ones are made by make(parent, name).

    root: descriptor of the tree. parts: components, without `..`. Raises NotADirectoryError when something else is in
    the way (a dangling link, too), OSError else.
    """
    path = "/".join(parts) or "."
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
    try:
        return openat2(root, path, _FLAGS, resolve=resolve)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR) or not parts:
            raise
    above = open_directory(root, parts[:-1], make)
    try:
        if not make(above, parts[-1]):
            raise NotADirectoryError(errno.ENOTDIR, "Not a directory", path)
    finally:
        os.close(above)
    return openat2(root, path, _FLAGS, resolve=resolve)


@contextlib.contextmanager
def place(tree: str, path: str) -> Iterator[str]:
    """A name by which to reach path inside tree, whose parents are made: only its last component is not resolved."""
    parts = [part for part in os.path.normpath(f"/{path}").split("/") if part]
    root = os.open(tree, _FLAGS | os.O_CLOEXEC)
    try:
        parent = open_directory(root, parts[:-1])
        try:
            yield f"/proc/self/fd/{parent}/{parts[-1] if parts else '.'}"
        finally:
            os.close(parent)
    finally:
        os.close(root)
