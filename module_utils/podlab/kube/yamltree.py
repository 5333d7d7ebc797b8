"""YAML documents as plain data, the way kubectl reads them, with the line of everything. Controller only."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ..errors import PodlabError, Problem, refuse
from . import yamlscalar
from .yamlparse import Node, parse, twice

Path = Sequence[Any]


class Document(NamedTuple):
    """One YAML document as plain data, the way kubectl reads it."""

    data: Any
    node: Node
    file: str
    lines: dict[tuple[Any, ...], int]

    def line(self, path: Path = ()) -> int:
        """Line (from 1) of the key or item at path; of the nearest thing above it when there is no such path."""
        key = tuple(path)
        while key not in self.lines:
            key = key[:-1]
        return self.lines[key]


def path_text(path: Path) -> str:
    """A path as messages print it: ("spec", "containers", 0, "name") is spec.containers[0].name."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch(r"[\w-]+", str(step)):
            text += f".{step}" if text else str(step)
        else:
            text += f"[{str(step)!r}]"
    return text


def load_documents(text: str, file: str) -> list[Document]:
    """Every document of the text as plain data; empty ones are left out, as kubectl does.

    Numbers, booleans and nulls as Kubernetes reads them (see yamlscalar); dates stay text; keys are text.
    Raises PodlabError with one Problem per fault: syntax (one per document), duplicate keys, foreign tags.
    """
    problems: list[Problem] = []
    documents = []
    for first_line, part in _split(text):
        try:
            for node in parse(part, file, first_line, problems, json_escapes=True):
                if not node.is_null:
                    documents.append(_document(node, file, problems))
        except PodlabError as error:
            problems.extend(error.problems)
    refuse(problems, f"{file} is not valid YAML")
    return documents


def _document(node: Node, file: str, problems: list[Problem]) -> Document:
    lines: dict[tuple[Any, ...], int] = {}
    return Document(_plain(node, (), file, lines, problems), node, file, lines)


def _plain(
    node: Node, path: tuple[Any, ...], file: str, lines: dict[tuple[Any, ...], int], problems: list[Problem]
) -> Any:
    lines.setdefault(path, node.line)
    if node.kind == "list":
        return [_plain(item, (*path, index), file, lines, problems) for index, item in enumerate(node.items)]
    if node.kind == "scalar":
        return _scalar(node, path, file, problems)
    made: dict[str, Any] = {}
    for key_node, value_node in node.entries:
        key = _key(key_node, path, file, problems)
        here = (*path, key)
        if key in made:
            problems.append(twice(path_text(here), lines[here], file, key_node.line))
            continue
        lines[here] = key_node.line
        made[key] = _plain(value_node, here, file, lines, problems)
    return made


def _scalar(node: Node, path: tuple[Any, ...], file: str, problems: list[Problem]) -> yamlscalar.Value:
    try:
        if node.tag:
            value = yamlscalar.tagged_value(node.text, node.tag)
        else:
            value = node.text if node.quoted else yamlscalar.plain_value(node.text)
        return yamlscalar.json_number(value) if isinstance(value, float) else value
    except ValueError as error:
        problems.append(Problem(path_text(path), str(error), "", file, node.line))
        return None


def _key(node: Node, path: tuple[Any, ...], file: str, problems: list[Problem]) -> str:
    """Keys become text, as in JSON: 1 is "1", yes is "true"."""
    value = _scalar(node, path, file, problems)
    if value is None:
        problems.append(Problem(path_text(path), "null cannot be a key", 'Quote it: "null"', file, node.line))
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _split(text: str) -> Iterator[tuple[int, str]]:
    """(first line, text) of the parts between lines that are just ---: a fault in one then hides none in another."""
    part: list[str] = []
    first = 1
    for number, line in enumerate(text.split("\n"), 1):
        if re.fullmatch(r"---\s*(#.*)?", line) and not any(head.startswith("%") for head in part):
            yield first, "\n".join(part)
            part, first = [], number
        part.append(line)
    yield first, "\n".join(part)
