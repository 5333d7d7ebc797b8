"""Kubernetes' own schemas, applied strictly: every fault at once, each with its path.

The schemas are those of the kubernetes-validate package (made from Kubernetes' OpenAPI). They use a small part of JSON
Schema, which is walked here because a general validator stops at the best match and does not suggest the field that
was meant. The package's own validator is the oracle of the tests.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Path = tuple[Any, ...]

# The version whose schemas are used: the latest that the package in the lock file has.
KUBERNETES_VERSION = "1.37.0"

_UNQUOTED = re.compile(r"[+-]?\d+(\.\d+)?|true|false", re.ASCII)
_INTEGERS = {"int32": 2**31, "int64": 2**63}
_ARTICLES = {"object": "a mapping", "array": "a list", "string": "text", "integer": "a whole number"}


class Finding(NamedTuple):
    """Something wrong with an object. path: keys and indexes from the object's root."""

    path: Path
    message: str
    remedy: str = ""
    level: str = "error"


class Checked(NamedTuple):
    """findings, and the object without what they are about and without nulls: later checks can rely on types."""

    findings: tuple[Finding, ...]
    object: dict[str, Any]


def check(thing: Mapping[str, Any], definition: str, definitions: Mapping[str, Any]) -> Checked:
    """Check an object against a definition ("io.k8s.api.core.v1.Pod") of the `$defs` of the strict schemas."""
    findings: list[Finding] = []
    clean = _value(thing, definitions[definition], definitions, (), findings)
    return Checked(tuple(findings), clean if isinstance(clean, dict) else {})


_BAD = object()  # stands for a value that is left out of the clean copy


def _value(data: Any, schema: Mapping[str, Any], definitions: Mapping[str, Any], path: Path, out: list[Finding]) -> Any:
    while "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    kinds = _types(schema)
    if kinds and not any(_is(data, kind) for kind in kinds):
        out.append(_wrong_type(path, data, kinds))
        return _BAD
    if "enum" in schema and data not in schema["enum"]:
        allowed = ", ".join(str(value) for value in schema["enum"])
        out.append(Finding(path, f"must be one of {allowed}, not {show(data)}"))
        return _BAD
    if isinstance(data, bool):
        return data
    if isinstance(data, int) and not _fits(data, schema.get("format", "")):
        out.append(Finding(path, f"must fit into {schema['format']}, which {data} does not"))
        return _BAD
    if isinstance(data, Mapping):
        return _mapping(data, schema, definitions, path, out)
    if isinstance(data, list):
        return _list(data, schema, definitions, path, out)
    return data


def _mapping(
    data: Mapping[str, Any], schema: Mapping[str, Any], definitions: Mapping[str, Any], path: Path, out: list[Finding]
) -> dict[str, Any]:
    properties = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    clean = {}
    for key, value in data.items():
        here = (*path, key)
        if key in properties:
            inner = properties[key]
        elif others is False:
            out.append(Finding(here, "unknown field", _did_you_mean(key, properties)))
            continue
        else:
            inner = others if isinstance(others, Mapping) else {}
        if value is None:
            continue
        made = _value(value, inner, definitions, here, out)
        if made is not _BAD:
            clean[key] = made
    for key in schema.get("required", ()):
        if data.get(key) is None:
            out.append(Finding((*path, key), "is required and missing"))
    return clean


def _list(
    data: list[Any], schema: Mapping[str, Any], definitions: Mapping[str, Any], path: Path, out: list[Finding]
) -> list[Any]:
    """The items; a bad one is kept as an empty value of its kind, so that the others keep their index."""
    clean = []
    for index, value in enumerate(data):
        here = (*path, index)
        if value is None:
            out.append(Finding(here, "must not be empty", "Remove the item, or fill it"))
            made = _BAD
        else:
            made = _value(value, schema.get("items", {}), definitions, here, out)
        clean.append(_empty_of(schema.get("items", {}), definitions) if made is _BAD else made)
    return clean


def _empty_of(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Any:
    while "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    empty = {"object": {}, "array": [], "string": "", "integer": 0}
    return next((empty[kind] for kind in _types(schema) if kind in empty), None)


def _types(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """The kinds of value that a schema allows, without null: an absent value and null are the same."""
    found: list[str] = []
    for part in schema.get("oneOf", (schema,)):
        kinds = part.get("type", ())
        found += [kinds] if isinstance(kinds, str) else kinds
    return tuple(kind for kind in found if kind != "null")


def _is(data: Any, kind: str) -> bool:
    if kind in ("integer", "number"):
        kinds = int if kind == "integer" else (int, float)
        return isinstance(data, kinds) and not isinstance(data, bool)
    return isinstance(data, {"object": dict, "array": list, "string": str, "boolean": bool}[kind])


def _fits(number: int, form: str) -> bool:
    bound = _INTEGERS.get(form)
    return bound is None or -bound <= number < bound


def _wrong_type(path: Path, data: Any, kinds: tuple[str, ...]) -> Finding:
    wanted = " or ".join("true or false" if kind == "boolean" else _ARTICLES.get(kind, f"a {kind}") for kind in kinds)
    remedy = ""
    if "string" in kinds and isinstance(data, (int, float)):
        remedy = f'Quote it: "{show(data)}"'
    elif "array" in kinds and isinstance(data, Mapping):
        remedy = "Begin each entry with a dash"
    elif isinstance(data, str) and _UNQUOTED.fullmatch(data) and set(kinds) & {"integer", "boolean", "number"}:
        remedy = "Write it without quotes"
    return Finding(path, f"must be {wanted}, not {show(data)}", remedy)


def show(data: Any) -> str:
    """A value as messages print it: short, and as YAML writes it."""
    if isinstance(data, bool):
        return "true" if data else "false"
    if isinstance(data, Mapping):
        return "a mapping"
    if isinstance(data, list):
        return "a list"
    if data is None:
        return "nothing"
    text = repr(data) if isinstance(data, str) else str(data)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _did_you_mean(key: str, known: Mapping[str, Any]) -> str:
    folded = {name.lower(): name for name in known}
    near = difflib.get_close_matches(key.lower(), list(folded), 1, 0.6)
    return f"Did you mean {folded[near[0]]}?" if near else "Remove it"


def walk(data: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value of a plain structure with its path, containers first."""
    yield path, data
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from walk(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from walk(value, (*path, index))
