"""Label selectors as kubectl's -l takes them: `app=web,tier in (a,b),!old` (apimachinery/pkg/labels)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import PodlabError

_KEY = r"[A-Za-z0-9][-A-Za-z0-9_./]*"
_VALUE = r"[-A-Za-z0-9_.]*"
_FORMS = (
    (re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})$"), "compare"),
    (re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)$"), "set"),
    (re.compile(rf"(!?)\s*({_KEY})$"), "exists"),
)
# A comma between brackets belongs to the set.
_COMMA = re.compile(r",(?![^(]*\))")


class Requirement(NamedTuple):
    """One part of a selector. sign: "in", "notin", "exists" or "absent"."""

    key: str
    sign: str
    values: frozenset[str] = frozenset()


def parse(text: str) -> tuple[Requirement, ...]:
    """The selector's requirements; none for an empty text. Raises PodlabError for a part that is not one."""
    return tuple(_requirement(part.strip(), text) for part in _COMMA.split(text)) if text.strip() else ()


def _requirement(part: str, text: str) -> Requirement:
    for pattern, form in _FORMS:
        match = pattern.match(part)
        if not match:
            continue
        if form == "exists":
            return Requirement(match.group(2), "absent" if match.group(1) else "exists")
        key, sign, value = match.groups()
        if form == "set":
            return Requirement(key, sign, frozenset(item.strip() for item in value.split(",")))
        return Requirement(key, "notin" if sign == "!=" else "in", frozenset([value]))
    raise PodlabError(
        f"-l {text!r}: {part!r} is not a requirement. Write key=value, key!=value, key in (a,b), key notin (a,b), "
        f"key or !key, with commas between"
    )


def matches(requirements: tuple[Requirement, ...], labels: Mapping[str, str]) -> bool:
    """True when the labels meet every requirement. "notin" and != also hold for a label that is not there."""
    return all(_meets(requirement, labels) for requirement in requirements)


def _meets(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    there = requirement.key in labels
    if requirement.sign in ("exists", "absent"):
        return there == (requirement.sign == "exists")
    inside = there and labels[requirement.key] in requirement.values
    return inside == (requirement.sign == "in")
