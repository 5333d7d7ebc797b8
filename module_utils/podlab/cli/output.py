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

FORMATS = "wide, json, yaml, name or jsonpath=TEMPLATE"


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
    if equals or name not in ("", "wide", "json", "yaml", "name"):
        raise PodlabError(f"-o {output}: unable to match a printer. Use {FORMATS}")
    return name, ""


def as_json(value: Any) -> str:
    """As kubectl writes it: four blanks, keys in order."""
    return json.dumps(value, indent=4, sort_keys=True, ensure_ascii=False) + "\n"


def as_yaml(value: Any) -> str:
    """As kubectl writes it: block style, keys in order."""
    return yaml.safe_dump(value, default_flow_style=False, sort_keys=True, allow_unicode=True, width=10**6)


def render(kind: str, objects: Sequence[Mapping[str, Any]], output: str, *, single: bool, **show: bool) -> str:
    """The objects as `-o OUTPUT` asks.

    single: one object was asked for by name, so it is no list. show: namespaces, labels (for tables).
    """
    name, template = split(output)
    if name in ("", "wide"):
        rows = printers.table(kind, objects, time.time(), wide=name == "wide", **show) if objects else []
        return printers.text(rows)
    if name == "name":
        return "".join(f"{SINGULAR[kind]}/{item['metadata']['name']}\n" for item in objects)
    value = objects[0] if single else {"apiVersion": "v1", "kind": "List", "items": list(objects), "metadata": {}}
    if name == "jsonpath":
        return jsonpath.render(template, value)
    return (as_json if name == "json" else as_yaml)(value)
