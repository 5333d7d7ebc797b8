"""The grammar of kubectl's JSONPath templates: text to pieces, pieces made of steps.

After k8s.io/client-go/util/jsonpath/parser.go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Union

from ..errors import PodlabError


class Field(NamedTuple):
    """`.name` or `['name']`."""

    name: str


class Slice(NamedTuple):
    """`[3]` (single), `[1:3]`, `[::2]`, `[*]`."""

    start: int | None
    stop: int | None
    step: int
    single: bool
    text: str


class Wildcard(NamedTuple):
    """`.*`: every value of a map or a list."""


class Recursive(NamedTuple):
    """`..`: the value and every map and list below it."""


class Alternatives(NamedTuple):
    """`[a,b]`: the results of a, then those of b."""

    paths: tuple[tuple[Any, ...], ...]


class Filter(NamedTuple):
    """`[?(left operator right)]`; operator "exists" has no right side."""

    left: tuple[Any, ...]
    operator: str
    right: tuple[Any, ...]


class Literal(NamedTuple):
    """A quoted text, a number or a truth value."""

    value: Any


class Keyword(NamedTuple):
    """`range` or `end`."""

    name: str


class Text(NamedTuple):
    """What stands outside of braces."""

    text: str


class Action(NamedTuple):
    """What stands in one pair of braces."""

    path: tuple[Any, ...]


class Range(NamedTuple):
    """`{range path}body{end}`."""

    path: tuple[Any, ...]
    body: tuple[Any, ...]


Piece = Union[Text, Action, Range]

_QUOTED_KEY = re.compile(r"'([^']*)'$")
_SLICE = re.compile(r"(-?\d*)(:-?\d*)?(:-?\d*)?$")
_COMPARISON = re.compile(r"([^!<>=]+)([!<>=~]+)(.+)$", re.DOTALL)
_NUMBER = re.compile(r"[+-]?[\d.]+")
_FIELD = re.compile(r"(?:\\.|[^\s.,\[\]$@{}\\])*")
_WORD = re.compile(r"[^\s.,\[\]$@{}]+")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}

OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "=~")


def parse(template: str) -> tuple[Piece, ...]:
    """The template as pieces. Raises PodlabError with the place when it is not a JSONPath template."""
    flat = _Parser(template).pieces()
    pieces, rest = _nest(flat, inside=False)
    if rest:
        raise PodlabError(f"jsonpath {template!r}: not in range, nothing to end. Take the last {{end}} away")
    return tuple(pieces)


def _nest(flat: list[Any], inside: bool) -> tuple[list[Piece], list[Any]]:
    """Pieces up to the {end} that closes this block, and what follows from that {end} on."""
    pieces: list[Piece] = []
    while flat:
        piece, flat = flat[0], flat[1:]
        keyword = _keyword_of(piece)
        if keyword == "end":
            return pieces, flat if inside else [piece, *flat]
        if keyword == "range":
            body, flat = _nest(flat, inside=True)
            pieces.append(Range(piece.path[1:], tuple(body)))
        else:
            pieces.append(piece)
    return pieces, []


def _keyword_of(piece: Any) -> str:
    first = piece.path[0] if isinstance(piece, Action) and piece.path else None
    return first.name if isinstance(first, Keyword) else ""


class _Parser:
    """Reads one template from left to right; `at` is the place of the next character."""

    def __init__(self, template: str) -> None:
        self.template = template
        self.at = 0

    def error(self, message: str) -> PodlabError:
        return PodlabError(f"jsonpath {self.template!r}, character {min(self.at, len(self.template)) + 1}: {message}")

    def pieces(self) -> list[Any]:
        found: list[Any] = []
        while self.at < len(self.template):
            brace = self.template.find("{", self.at)
            end = brace if brace >= 0 else len(self.template)
            if end > self.at:
                found.append(Text(self.template[self.at : end]))
            self.at = end
            if brace >= 0:
                self.at += 1
                found.append(Action(self.path("}")))
        return found

    def path(self, end: str) -> tuple[Any, ...]:
        """The operations up to the character `end` ("" = up to the end of the text)."""
        found: list[Any] = []
        while True:
            rest = self.template[self.at :]
            if end and rest.startswith(end):
                self.at += 1
                return tuple(found)
            if not rest or rest[0] in "\r\n":
                if end:
                    raise self.error("unclosed action, expected }")
                return tuple(found)
            found.extend(self.operation(rest, found))

    def operation(self, rest: str, before: Sequence[Any]) -> Sequence[Any]:
        first = rest[0]
        if rest.startswith("[?("):
            return (self.filter(),)
        if rest.startswith(".."):
            return self.recursive(before)
        if first in " \t@$":
            self.at += 1
            return ()
        if first == "[":
            return self.brackets()
        if first in "\"'":
            return (Literal(self.quoted(first)),)
        if first == ".":
            self.at += 1
            return (self.field(),)
        if first.isdigit() or first in "+-":
            return (Literal(self.number()),)
        if first.isalpha() or first == "_":
            return (self.word(),)
        raise self.error(f"unrecognized character in action: {first!r}")

    def take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.template, self.at)
        text = match.group() if match else ""
        self.at += len(text)
        return text

    def field(self) -> Field | Wildcard:
        text = self.take(_FIELD)
        return Wildcard() if text == "*" else Field(text.replace("\\", ""))

    def recursive(self, before: Sequence[Any]) -> Sequence[Any]:
        if before and isinstance(before[-1], Recursive):
            raise self.error("invalid multiple recursive descent")
        self.at += 2
        following = self.template[self.at : self.at + 1]
        return (Recursive(), self.field()) if following.isalnum() or following == "_" else (Recursive(),)

    def number(self) -> int | float:
        text = self.take(_NUMBER)
        for kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                continue
        raise self.error(f"cannot parse number {text}")

    def word(self) -> Literal | Keyword:
        text = self.take(_WORD)
        if text in ("true", "false"):
            return Literal(text == "true")
        if text not in ("range", "end"):
            self.at -= len(text)
            raise self.error(f"unrecognized identifier {text}. A key is written .{text}, a text {json.dumps(text)}")
        return Keyword(text)

    def closing_quote(self, start: int) -> int:
        """Place of the quote that closes the one at start."""
        quote, place = self.template[start], start + 1
        while place < len(self.template) and self.template[place] != quote:
            place += 2 if self.template[place] == "\\" else 1
        if place >= len(self.template):
            raise self.error("unterminated quoted string")
        return place

    def quoted(self, quote: str) -> str:
        end = self.closing_quote(self.at)
        text = self.template[self.at + 1 : end]
        self.at = end + 1
        return _ESCAPE.sub(_unescape, text)

    def brackets(self) -> Sequence[Any]:
        end = self.template.find("]", self.at)
        if end < 0:
            raise self.error("unterminated array, expected ]")
        parts = [part.strip(" ") for part in self.template[self.at + 1 : end].split(",")]
        paths = [self.selector(part) for part in parts]
        self.at = end + 1
        return paths[0] if len(paths) == 1 else (Alternatives(tuple(paths)),)

    def selector(self, text: str) -> tuple[Any, ...]:
        key = _QUOTED_KEY.match(text)
        if key:
            return self.inner("." + key.group(1))
        numbers = _SLICE.match(":" if text == "*" else text)
        if not text or not numbers:
            raise self.error(f"invalid array index {text}. It is a number, a slice, * or a key in single quotes")
        start, stop, step = (group.lstrip(":") if group else "" for group in numbers.groups())
        values = [int(value) if value and value != "-" else None for value in (start, stop, step)]
        if values[2] is not None and values[2] <= 0:
            raise self.error("step must be > 0")
        return (Slice(values[0], values[1], values[2] or 1, ":" not in numbers.group(), text),)

    def filter(self) -> Filter:
        place = self.at + len("[?(")
        while self.template[place : place + 1] not in ("", ")"):
            place = self.closing_quote(place) + 1 if self.template[place] in "\"'" else place + 1
        if not self.template.startswith(")]", place):
            raise self.error("unterminated filter, expected )]")
        text = self.template[self.at + len("[?(") : place]
        comparison = _COMPARISON.match(text)
        if comparison and comparison.group(2) not in OPERATORS:
            raise self.error(f"unrecognized filter operator {comparison.group(2)}. Use one of {' '.join(OPERATORS)}")
        left, sign, right = comparison.groups() if comparison else (text, "exists", "")
        found = Filter(self.inner(left), sign, self.inner(right))
        self.at = place + len(")]")
        return found

    def inner(self, text: str) -> tuple[Any, ...]:
        """The path that stands inside of brackets."""
        parser = _Parser(text)
        try:
            return parser.path("")
        except PodlabError as error:
            raise self.error(error.message.partition(": ")[2]) from None


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1)
    if code[0] in "ux" and len(code) > 1:
        return chr(int(code[1:], 16))
    return _ESCAPED.get(code, code)
