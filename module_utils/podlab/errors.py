"""The one error type, and the problems it carries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple


class Problem(NamedTuple):
    """One thing wrong with an input, said so that it can be mended.

    place: path of the offending key ("nodes[1].role"), or a name when there is no path.
    message: what is wrong, with the value ("must be control-plane or worker, not 'master'").
    remedy: what to do about it; empty when the message says it already.
    file, line: where it is written, when known (line counts from 1).
    level: "error" or "warning".
    """

    place: str
    message: str
    remedy: str = ""
    file: str = ""
    line: int = 0
    level: str = "error"

    def __str__(self) -> str:
        where = self.file
        if self.file and self.line:
            where = f"{self.file}:{self.line}"
        parts = [part for part in (where, self.place) if part]
        text = ": ".join([*parts, self.message])
        if self.remedy:
            text = f"{text.rstrip('.')}. {self.remedy}"
        return text


class PodlabError(Exception):
    """What was attempted, on what, why it failed, what to do.

    problems: every problem found, when the input is at fault.
    details: further plain values for `fail_json` (cmd, rc, stderr, ...).
    """

    def __init__(self, message: str, problems: Iterable[Problem] = (), **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.problems = tuple(problems)
        self.details = details


def refuse(problems: Iterable[Problem], what: str = "The input is not valid") -> None:
    """Raise one PodlabError that lists every problem of level error; return when there is none."""
    errors = [problem for problem in problems if problem.level == "error"]
    if not errors:
        return
    if len(errors) == 1:
        raise PodlabError(str(errors[0]), errors)
    lines = "\n".join(f"  {problem}" for problem in errors)
    raise PodlabError(f"{what}, {len(errors)} problems:\n{lines}", errors)
