"""`-o`: the same objects as a table, JSON, YAML, names or whatever a JSONPath template says."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ..errors import PodlabError
from ..kube import jsonpath, printers
from .objects import SINGULAR

FORMATS = "wide, json, yaml, name, jsonpath=TEMPLATE or custom-columns=TITLE:PATH,..."


def split(output: str) -> tuple[str, str]:
    """("jsonpath", template) or (format, ""). Raises PodlabError with the formats there are."""
    name, equals, template = output.partition("=")
    if name == "jsonpath":
        if "{" not in template:
            raise PodlabError(
                f"-o {output}: template format specified but no expression in braces given. "
                f"Write for example -o jsonpath='{{.items[*].metadata.name}}'"
            )
        return name, template
    if name == "custom-columns":
        _columns(template)
        return name, template
    if equals or name not in ("", "wide", "json", "yaml", "name"):
        raise PodlabError(f"-o {output}: unable to match a printer. Use {FORMATS}")
    return name, ""


def _columns(spec: str) -> list[tuple[str, str]]:
    """(title, JSONPath) of each column of -o custom-columns. Raises PodlabError for one without a path."""
    parts = [part.partition(":") for part in spec.split(",")]
    if not all(title and path for title, _, path in parts):
        raise PodlabError(
            f"-o custom-columns={spec}: each column is TITLE:PATH. "
            f"Write for example -o custom-columns=NAME:.metadata.name,IP:.status.podIP"
        )
    return [(title, path if path.startswith("{") else f"{{.{path.lstrip('.')}}}") for title, _, path in parts]


def as_json(value: Any) -> str:
    """As kubectl writes it: four blanks, keys in order."""
    return json.dumps(value, indent=4, sort_keys=True, ensure_ascii=False) + "\n"


def as_yaml(value: Any) -> str:
    """As kubectl writes it: block style, keys in order."""
    return yaml.safe_dump(value, default_flow_style=False, sort_keys=True, allow_unicode=True, width=10**6)


def render(
    found: Mapping[str, Sequence[Mapping[str, Any]]], output: str, *, single: bool, headers: bool = True, **show: bool
) -> str:
    """The objects of each kind as `-o OUTPUT` asks.

    single: one object was asked for by name, so it is no list. headers, show (namespaces, labels): for tables.
    """
    name, template = split(output)
    every = [item for items in found.values() for item in items]
    if name in ("", "wide"):
        return _tables(found, headers, wide=name == "wide", **show)
    if name == "custom-columns":
        columns = _columns(template)
        rows = [[",".join(jsonpath.values(path, item)) or printers.NONE for _, path in columns] for item in every]
        return printers.text([[title for title, _ in columns], *rows][not headers :])
    if name == "name":
        return "".join(f"{SINGULAR[kind]}/{item['metadata']['name']}\n" for kind in found for item in found[kind])
    value = every[0] if single else {"apiVersion": "v1", "kind": "List", "items": every, "metadata": {}}
    if name == "jsonpath":
        return jsonpath.render(template, value)
    return (as_json if name == "json" else as_yaml)(value)


def _tables(found: Mapping[str, Sequence[Mapping[str, Any]]], headers: bool, **show: bool) -> str:
    """A table for each kind that there is anything of; of several kinds, names say which: service/web."""
    now, tables = time.time(), []
    for kind, items in found.items():
        rows = printers.table(kind, items, now, **show) if items else []
        if rows and len(found) > 1:
            place = rows[0].index("NAME")
            for row in rows[1:]:
                row[place] = f"{SINGULAR[kind]}/{row[place]}"
        tables.append(printers.text(rows[not headers :]))
    return "\n".join(filter(None, tables))
