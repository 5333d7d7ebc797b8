"""YAML text to a tree of nodes that know their line and how they were written.

PyYAML does the grammar (its C parser when it is there: libyaml, which Go's parser was translated from); keys, aliases
and merge keys are decided here. Controller only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..errors import PodlabError, Problem
from . import yamlscalar

# go-yaml, too, gives up on "excessive aliasing": a few lines of anchors can stand for gigabytes.
MAX_NODES_FROM_ALIASES = 100_000
MAX_DEPTH = 200

_CORE = "tag:yaml.org,2002:"
_MERGE = "<<"


class Node:
    """One value with its place.

    kind: "map", "list" or "scalar". line: where it begins, from 1. tag: the explicit tag, "" without one.
    text, quoted: of a scalar, the raw text and whether it was quoted or a block. items: of a list.
    entries: of a map, (key, value) in order, merge keys resolved, no key twice. size: nodes in it, itself included.
    """

    __slots__ = ("entries", "items", "kind", "line", "quoted", "size", "tag", "text")

    def __init__(self, kind: str, line: int, tag: str = "", text: str = "", quoted: bool = False) -> None:
        self.kind = kind
        self.line = line
        self.tag = tag
        self.text = text
        self.quoted = quoted
        self.size = 1
        self.items: list[Node] = []
        self.entries: list[tuple[Node, Node]] = []

    @property
    def is_null(self) -> bool:
        """True for an empty value, ~ and null, unquoted."""
        return self.kind == "scalar" and not self.quoted and not self.tag and self.text in yamlscalar.NULLS


def parse(
    text: str, file: str, first_line: int, problems: list[Problem], *, json_escapes: bool = False
) -> Iterator[Node]:
    """The documents of the text as Nodes, one at a time: a fault in a later one shows when that one is asked for.

    first_line: the number of the text's first line. problems: takes what does not stop the reading (duplicate keys,
    foreign tags). json_escapes: accept the escape \\/ of JSON, which go-yaml refuses.
    Raises PodlabError at the first fault of syntax.
    """
    import yaml

    text = text.lstrip("\ufeff")
    _refuse_directives(text, file, first_line)
    if text.lstrip()[:1] in ("{", "["):
        text = _json_blanks(text)
    try:
        events = _events(text)
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                yield _Tree(text, file, first_line, problems, json_escapes, events).document()
    except yaml.MarkedYAMLError as error:
        raise _syntax_fault(text, file, first_line, error) from error
    except yaml.reader.ReaderError as error:
        line = first_line + text[: error.position].count("\n")
        code = error.character if isinstance(error.character, int) else ord(error.character)
        message = f"not valid YAML: the character U+{code:04X} is not allowed"
        raise PodlabError(f"{file}: not YAML", [Problem("", message, "Remove it", file, line)]) from error


def _events(text: str) -> Iterator[Any]:
    """The parser's events: unlike its composer it does not recurse, so that no depth of nesting ends the process."""
    import yaml

    parser: Any = yaml.CBaseLoader(text) if yaml.__with_libyaml__ else yaml.BaseLoader(text)
    try:
        while parser.check_event():
            yield parser.get_event()
    finally:
        parser.dispose()


class _Tree:
    """Turns the events of one document into Nodes."""

    def __init__(
        self,
        text: str,
        file: str,
        first_line: int,
        problems: list[Problem],
        json_escapes: bool,
        events: Iterator[Any],
    ) -> None:
        self.text = text
        self.file = file
        self.first_line = first_line
        self.problems = problems
        self.json_escapes = json_escapes
        self.events = events
        self.anchors: dict[str, Node] = {}
        self.open: set[int] = set()
        self.from_aliases = 0

    def document(self) -> Node:
        """The root of the document whose start was the last event."""
        return self.node(next(self.events), 0)

    def node(self, event: Any, depth: int) -> Node:
        """The node that begins with this event. Raises PodlabError for what has no meaning as a tree."""
        if depth > MAX_DEPTH:
            raise self.fault(event, f"nested deeper than {MAX_DEPTH} levels")
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self.alias(event)
        if kind == "ScalarEvent":
            return self.anchored(event, self.scalar(event))
        if kind == "SequenceStartEvent":
            made = self.anchored(event, Node("list", self.line(event), self.tag(event, frozenset(("seq",)))))
        else:
            made = self.anchored(event, Node("map", self.line(event), self.tag(event, frozenset(("map",)))))
        self.open.add(id(made))
        if made.kind == "list":
            made.items = list(self.children(depth))
        else:
            made.entries = self.entries(depth)
        self.open.discard(id(made))
        made.size += sum(item.size for item in made.items)
        made.size += sum(key.size + value.size for key, value in made.entries)
        return made

    def children(self, depth: int) -> Iterator[Node]:
        for event in self.events:
            if type(event).__name__ in ("SequenceEndEvent", "MappingEndEvent"):
                return
            yield self.node(event, depth + 1)

    def anchored(self, event: Any, node: Node) -> Node:
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def alias(self, event: Any) -> Node:
        node = self.anchors.get(event.anchor)
        if node is None:
            raise self.fault(event, f"*{event.anchor} stands for nothing", f"Set the anchor &{event.anchor} before it")
        if id(node) in self.open:
            raise self.fault(event, f"*{event.anchor} is used inside what it stands for")
        self.from_aliases += node.size
        if self.from_aliases > MAX_NODES_FROM_ALIASES:
            raise self.fault(event, "excessive aliasing: anchors stand for too much")
        return node

    def line(self, event: Any) -> int:
        return int(self.first_line + event.start_mark.line)

    def fault(self, event: Any, message: str, remedy: str = "") -> PodlabError:
        problem = Problem("", f"not valid YAML: {message}", remedy, self.file, self.line(event))
        return PodlabError(f"{self.file}: not YAML", [problem])

    def tag(self, event: Any, allowed: frozenset[str]) -> str:
        tag = str(event.tag or "")
        if tag in ("", "!"):
            return ""
        short = tag[len(_CORE) :] if tag.startswith(_CORE) else tag
        if short in allowed:
            return short
        message = f"the tag {tag.replace(_CORE, '!!')} is not allowed"
        self.problems.append(Problem("", message, "Remove the tag: plain data only", self.file, self.line(event)))
        return ""

    def scalar(self, event: Any) -> Node:
        # "! text" has the tag that means: text, whatever it looks like.
        quoted = bool(event.style) or event.tag == "!"
        if event.style == '"' and not self.json_escapes:
            source = self.text[event.start_mark.index : event.end_mark.index]
            if re.search(r"(?<!\\)(?:\\\\)*\\/", source):
                raise self.fault(event, "found unknown escape character", "Write / instead of \\/")
        return Node("scalar", self.line(event), self.tag(event, yamlscalar.CORE_TAGS), event.value, quoted)

    def entries(self, depth: int) -> list[tuple[Node, Node]]:
        own: dict[str, tuple[Node, Node]] = {}
        merged: dict[str, tuple[Node, Node]] = {}
        children = self.children(depth)
        for key in children:
            value = next(children)
            if key.kind != "scalar":
                problem = Problem("", "a list or mapping cannot be a key", "", self.file, key.line)
                raise PodlabError(f"{self.file}: not YAML", [problem])
            if key.text == _MERGE and not key.quoted and not key.tag:
                for entry in self.merged(value):
                    merged.setdefault(entry[0].text, entry)
            elif key.text in own:
                self.problems.append(twice(key.text, own[key.text][0].line, self.file, key.line))
            else:
                own[key.text] = (key, value)
        merged.update(own)
        return list(merged.values())

    def merged(self, value: Node) -> list[tuple[Node, Node]]:
        sources = value.items if value.kind == "list" else [value]
        if any(source.kind != "map" for source in sources):
            message = "map merge requires a map or a list of maps as the value of <<"
            raise PodlabError(f"{self.file}: not YAML", [Problem("", message, "", self.file, value.line)])
        return [entry for source in sources for entry in source.entries]


def twice(place: str, first: int, file: str, line: int) -> Problem:
    """The problem of a key that a mapping has already."""
    return Problem(place, f"the key is there twice, first in line {first}", "Remove one of them", file, line)


def _syntax_fault(text: str, file: str, first_line: int, error: Any) -> PodlabError:
    mark = error.problem_mark or error.context_mark
    context = error.context or ""
    if context and error.context_mark and mark and error.context_mark.line != mark.line:
        context += f" that begins in line {first_line + error.context_mark.line}"
    words = ", ".join(word for word in (context, error.problem) if word)
    line = first_line + mark.line if mark else 0
    return PodlabError(f"{file}: not YAML", [Problem("", f"not valid YAML: {words}", _hint(text, mark), file, line)])


def _refuse_directives(text: str, file: str, first_line: int) -> None:
    """go-yaml knows %YAML 1.1 only; libyaml is more generous."""
    for number, line in enumerate(text.split("\n")):
        if line.startswith("%YAML") and not re.fullmatch(r"%YAML\s+1\.1\s*(#.*)?", line):
            problem = Problem(
                "",
                f"not valid YAML: found incompatible YAML document ({line.strip()})",
                "Remove the line",
                file,
                first_line + number,
            )
            raise PodlabError(f"{file}: not YAML", [problem])
        if line.strip() and not line.startswith(("%", "#")):
            return


def _json_blanks(text: str) -> str:
    """JSON may be indented by tabs, which libyaml refuses; inside JSON strings there are none."""
    import json

    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text.replace("\t", " ")


def _hint(text: str, mark: Any) -> str:
    """What to do about the usual slips."""
    if mark is None:
        return ""
    lines = text.split("\n")
    nearby = lines[max(0, mark.line - 1) : mark.line + 1]
    if any(re.match(r" *\t", line) for line in nearby):
        return "Indent with blanks, not with tabs"
    if any(re.search(r":\s*[^\s'\"#|>&*{\[][^#]*: ", line) for line in nearby):
        return "Quote a value that contains a colon and a blank"
    return "Look at the indentation and at the quotes, here and in the line above"
