"""Where things are in a kind config, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import Problem

Path = Sequence[Any]


class Report:
    """Collects the problems of one file.

    lines: path of keys and indexes -> line. failed: paths whose value could not be read; checks leave them alone.
    foreign: paths whose value did not come from the file. readable: False when it is no kind config at all.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.lines: dict[tuple[Any, ...], int] = {}
        self.failed: set[tuple[Any, ...]] = set()
        self.foreign: set[tuple[Any, ...]] = set()
        self.readable = True

    def error(self, path: Path, message: str, remedy: str = "") -> None:
        """Something that makes the config unusable, at path."""
        self._add(path, message, remedy, "error")

    def warning(self, path: Path, message: str, remedy: str = "") -> None:
        """Something that has no effect, or will surprise."""
        self._add(path, message, remedy, "warning")

    def given(self, path: Path) -> bool:
        """True when the file says something at path and it could be read."""
        return tuple(path) in self.lines and tuple(path) not in self.failed

    def usable(self, path: Path) -> bool:
        """False when the value at path could not be read."""
        return tuple(path) not in self.failed

    def line(self, path: Path) -> int:
        """Line of the key or item at path, or of the nearest thing above it that is in the file; 0 without one."""
        here = tuple(path)
        while here and here not in self.lines:
            here = here[:-1]
        return self.lines.get(here, 0)

    def _add(self, path: Path, message: str, remedy: str, level: str) -> None:
        if tuple(path) in self.foreign:
            self.problems.append(Problem(place(path), message, remedy, level=level))
        else:
            self.problems.append(Problem(place(path), message, remedy, self.file, self.line(path), level))


def place(path: Path) -> str:
    """A path as messages print it: nodes[1].labels[example.com/a]."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif str(step).isidentifier():
            text += f".{step}" if text else str(step)
        else:
            text += f"[{step}]"
    return text
