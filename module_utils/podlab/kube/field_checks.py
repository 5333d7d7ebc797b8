"""Rules for single fields, shared by the checks of pods, containers, Services and workloads."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import names, quantity
from .schema import Finding, Path, show

MAX_ID = 2**31 - 1


def one_of(thing: Mapping[str, Any], key: str, allowed: Sequence[str], path: Path) -> Iterator[Finding]:
    """The value of a key, when set, is one of a few words."""
    value = thing.get(key)
    if value is not None and value not in allowed:
        words = ", ".join(word or '""' for word in allowed)
        yield Finding((*path, key), f"must be one of {words}, not {show(value)}")


def at_least(thing: Mapping[str, Any], key: str, least: int, path: Path) -> Iterator[Finding]:
    """The number at a key, when set, is not below the least one."""
    if thing.get(key) is not None and thing[key] < least:
        yield Finding((*path, key), f"must be {least} or more, not {thing[key]}")


def named(thing: Mapping[str, Any], key: str, fault_of: Any, path: Path) -> Iterator[Finding]:
    """The text at a key, when set, has the form that fault_of checks."""
    if thing.get(key):
        fault = fault_of(thing[key])
        if fault:
            yield Finding((*path, key), f"{fault}; it is {show(thing[key])}")


def unique(things: Sequence[Mapping[str, Any]], key: str, noun: str, path: Path) -> Iterator[Finding]:
    """Every entry of a list has a DNS label as its name, and no two the same."""
    seen: dict[str, int] = {}
    for index, thing in enumerate(things):
        name = thing.get(key)
        if not name:
            if key in thing:
                yield Finding((*path, index, key), "must not be empty")
            continue
        fault = names.label_fault(name)
        if fault:
            yield Finding((*path, index, key), f"{fault}; it is {show(name)}")
        if name in seen:
            message = f"the {noun} name {show(name)} is there twice, first at {path[-1]}[{seen[name]}]"
            yield Finding((*path, index, key), message, "Give each its own name")
        seen.setdefault(name, index)


def labels(pairs: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """Keys and values of labels, or of a selector by equality."""
    for key, value in pairs.items():
        for noun, fault in (("key", names.key_fault(key)), ("value", names.label_value_fault(value))):
            if fault:
                yield Finding((*path, key), f"the {noun} {fault}; it is {show(key if noun == 'key' else value)}")


def ids(context: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """User and group numbers of a security context."""
    numbers = [
        ((*path, key), context[key]) for key in ("runAsUser", "runAsGroup", "fsGroup") if context.get(key) is not None
    ]
    groups = context.get("supplementalGroups") or []
    numbers += [((*path, "supplementalGroups", index), group) for index, group in enumerate(groups)]
    for where, number in numbers:
        if not 0 <= number <= MAX_ID:
            yield Finding(where, f"must be between 0 and {MAX_ID}, not {number}")


def absolute(text: str, path: Path) -> Iterator[Finding]:
    """A path that begins at the root, does not climb, and is one line."""
    if not text.startswith("/"):
        yield Finding(path, f"must be an absolute path, not {show(text)}", "Begin it with /")
    elif ".." in text.split("/"):
        yield Finding(path, f"must not contain '..', which {show(text)} does", f"Write {posixpath.normpath(text)}")
    elif re.search(r"[\x00-\x1f\x7f]", text):
        yield Finding(path, f"must not contain control characters, which {show(text)} does")


def size(value: Any, path: Path) -> Iterator[Finding]:
    """A quantity that is not negative."""
    try:
        if quantity.parse(value) < 0:
            yield Finding(path, f"must be 0 or more, not {show(value)}")
    except ValueError as error:
        yield Finding(path, str(error))
