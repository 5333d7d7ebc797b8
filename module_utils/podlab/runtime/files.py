"""Small files, written whole or not at all."""

from __future__ import annotations

import json
import os
from typing import Any


def write_text(path: str, text: str, mode: int = 0o644) -> None:
    """Replace the file by one with this text: a reader sees the old or the new one, never a part (rename(2)).

    Raises OSError, such as ENOSPC: then the old one is as it was.
    """
    write_bytes(path, text.encode(), mode)


def write_bytes(path: str, data: bytes, mode: int = 0o600) -> None:
    """The same, for bytes."""
    temporary = f"{os.path.dirname(path)}/.{os.path.basename(path)}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        try:
            os.fchmod(fd, mode)
            left = data
            # On a disk that is almost full write(2) takes what there is room for, and only the next one fails.
            while left:
                left = left[os.write(fd, left) :]
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def write_json(path: str, data: Any, mode: int = 0o600) -> None:
    """The same, for plain data."""
    write_text(path, json.dumps(data, separators=(",", ":")), mode)


def read_text(path: str, default: str = "") -> str:
    """Content of the file, or the default when there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return default


def read_json(path: str, default: Any = None) -> Any:
    """Plain data of the file; the default when there is none or it was cut off (a machine that lost power)."""
    text = read_text(path)
    try:
        return json.loads(text) if text else default
    except ValueError:
        return default


def remove_tree(path: str) -> None:
    """Remove the directory and all below it, never through a link; nothing there is fine.

    shutil.rmtree does the same, and brings every archive format there is into a supervisor's memory.
    """
    try:
        walk = os.fwalk(path, topdown=False, follow_symlinks=False)
        for _, directories, names, fd in walk:
            for name in names:
                os.unlink(name, dir_fd=fd)
            for name in directories:
                _remove_entry(name, fd)
        os.rmdir(path)
    except FileNotFoundError:
        return


def _remove_entry(name: str, fd: int) -> None:
    try:
        os.rmdir(name, dir_fd=fd)
    except NotADirectoryError:
        # A link to a directory.
        os.unlink(name, dir_fd=fd)
