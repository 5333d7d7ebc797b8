"""kubectl's JSONPath templates: `{range .items[*]}{.metadata.name}{"\\n"}{end}`.

Results after k8s.io/client-go/util/jsonpath; a missing key gives nothing, as kubectl's default is.
Maps are walked in the document's order, where Go's order is random.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Sequence
from typing import Any, Callable

from ..errors import PodlabError
from .jsonpath_parser import (
    Action,
    Alternatives,
    Field,
    Filter,
    Keyword,
    Literal,
    Piece,
    Recursive,
    Slice,
    Text,
    Wildcard,
    parse,
)

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=~": lambda left, right: re.search(right, left) is not None,
}


def render(template: str, data: Any) -> str:
    """The template filled in from data (plain JSON values).

    Raises PodlabError: the template is not one, or asks for an element that a list does not have.
    """
    return "".join(_render(parse(template), data))


def values(template: str, data: Any) -> list[str]:
    """What each path of the template leads to, as text; nothing for what is not there. Raises as render does."""
    actions = [piece for piece in parse(template) if isinstance(piece, Action)]
    return [_text(value) for action in actions for value in walk(action.path, [data])]


def _render(pieces: Sequence[Piece], data: Any) -> list[str]:
    found: list[str] = []
    for piece in pieces:
        if isinstance(piece, Text):
            found.append(piece.text)
        elif isinstance(piece, Action):
            found.append(" ".join(_text(value) for value in walk(piece.path, [data])))
        else:
            for value in walk(piece.path, [data]):
                found.extend(_render(piece.body, value))
    return found


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (dict, list)):
        return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.15g}"
    return "<nil>" if value is None else str(value)


def walk(path: Sequence[Any], values: list[Any]) -> list[Any]:
    """What the path finds when it starts at each of the values."""
    for step in path:
        values = _STEPS[type(step)](step, values)
    return values


def _field(step: Field, values: list[Any]) -> list[Any]:
    return [value[step.name] for value in values if isinstance(value, dict) and step.name in value]


def _slice(step: Slice, values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value is None:
            continue
        if not isinstance(value, list):
            raise PodlabError(f"jsonpath [{step.text}]: {_kind(value)} is not a list. A key is written .key or ['key']")
        found.extend(value[place] for place in _places(step, len(value)))
    return found


def _places(step: Slice, length: int) -> range:
    start = step.start or 0
    start += length if start < 0 else 0
    stop = start + 1 if step.single else length if step.stop is None else step.stop
    stop += length if stop < 0 else 0
    if start == stop:
        return range(0)
    if start > stop:
        raise PodlabError(f"jsonpath [{step.text}]: starting index {start} is greater than ending index {stop}")
    for place in (start, stop - 1):
        if not 0 <= place < length:
            raise PodlabError(f"jsonpath [{step.text}]: array index out of bounds: index {place}, length {length}")
    return range(start, stop, step.step)


def _wildcard(step: Wildcard, values: list[Any]) -> list[Any]:
    return [child for value in values for child in _children(value)]


def _recursive(step: Recursive, values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        children = _children(value)
        if children:
            found.append(value)
            found.extend(_recursive(step, children))
    return found


def _alternatives(step: Alternatives, values: list[Any]) -> list[Any]:
    return [found for path in step.paths for found in walk(path, values)]


def _filter(step: Filter, values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if not isinstance(value, list):
            raise PodlabError(f"jsonpath [?(…)]: {_kind(value)} is not a list and cannot be filtered")
        found.extend(element for element in value if _passes(step, element))
    return found


def _passes(step: Filter, element: Any) -> bool:
    if step.operator == "exists":
        try:
            return bool(walk(step.left, [element]))
        except PodlabError:
            return False
    lefts, rights = walk(step.left, [element]), walk(step.right, [element])
    if not lefts or not rights:
        return False
    if len(lefts) > 1 or len(rights) > 1:
        raise PodlabError("jsonpath [?(…)]: can only compare one element at a time")
    left, right = lefts[0], rights[0]
    if _kind(left) != _kind(right) or (step.operator == "=~" and not isinstance(left, str)):
        raise PodlabError(
            f"jsonpath [?(…)]: cannot compare {_kind(left)} {_text(left)} {step.operator} {_kind(right)} {_text(right)}"
        )
    try:
        return bool(_OPERATORS[step.operator](left, right))
    except (TypeError, re.error) as error:
        raise PodlabError(f"jsonpath [?(…)]: {_text(left)} {step.operator} {_text(right)}: {error}") from None


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list) else []


def _kind(value: Any) -> str:
    for kinds, name in (((dict,), "a map"), ((list,), "a list"), ((str,), "text"), ((bool,), "a truth value")):
        if isinstance(value, kinds):
            return name
    return "nothing" if value is None else "a number"


def _literal(step: Literal, values: list[Any]) -> list[Any]:
    return [step.value]


def _keyword(step: Keyword, values: list[Any]) -> list[Any]:
    raise PodlabError(f"jsonpath: {step.name} must stand first in its braces")


_STEPS: dict[type, Callable[[Any, list[Any]], list[Any]]] = {
    Field: _field,
    Slice: _slice,
    Wildcard: _wildcard,
    Recursive: _recursive,
    Alternatives: _alternatives,
    Filter: _filter,
    Literal: _literal,
    Keyword: _keyword,
}
