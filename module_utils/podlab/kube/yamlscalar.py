"""What a YAML scalar means: the rules of go-yaml v2, which kubectl and every Kubernetes client read with.

They differ from PyYAML's: dates and 1:30 are text, 0o17 and 017 are both fifteen, y and n are booleans.
Source: gopkg.in/yaml.v2 resolve.go, sigs.k8s.io/yaml (conversion to JSON).
"""

from __future__ import annotations

import re
from typing import Union

Value = Union[None, bool, int, float, str]

NULLS = frozenset(("", "~", "null", "Null", "NULL"))
TRUE_WORDS = frozenset(("true", "True", "TRUE"))
FALSE_WORDS = frozenset(("false", "False", "FALSE"))
# YAML 1.1's other words, in the three spellings that go-yaml knows.
YES_WORDS = frozenset(("y", "Y", "yes", "Yes", "YES", "on", "On", "ON"))
NO_WORDS = frozenset(("n", "N", "no", "No", "NO", "off", "Off", "OFF"))

_INFINITIES = {
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_INTEGER = re.compile(
    r"(?P<sign>[-+]?)(?:0[xX](?P<hex>[0-9a-fA-F]+)|0[bB](?P<binary>[01]+)|0[oO]?(?P<octal>[0-7]+)|(?P<decimal>0|[1-9][0-9]*))"
)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_BASES = {"hex": 16, "binary": 2, "octal": 8, "decimal": 10}

_LOWEST = -(1 << 63)
_HIGHEST = (1 << 64) - 1


def integer(text: str) -> int | None:
    """The integer that an unquoted scalar stands for, or None: decimal, 0x, 0o, leading 0, 0b, with _ anywhere."""
    match = _INTEGER.fullmatch(text.replace("_", ""))
    if not match or text.startswith("_"):
        return None
    for name, base in _BASES.items():
        if match[name]:
            number = int(match[name], base)
            number = -number if match["sign"] == "-" else number
            return number if _LOWEST <= number <= _HIGHEST else None
    return None


def decimal(text: str) -> float | None:
    """The floating point number that an unquoted scalar stands for, or None."""
    if text in _INFINITIES:
        return _INFINITIES[text]
    plain = text.replace("_", "")
    return float(plain) if not text.startswith("_") and _FLOAT.fullmatch(plain) else None


def plain_value(text: str) -> Value:
    """The value of an unquoted scalar without a tag."""
    if text in NULLS:
        return None
    if text in TRUE_WORDS or text in YES_WORDS:
        return True
    if text in FALSE_WORDS or text in NO_WORDS:
        return False
    if text[0] not in "+-.0123456789":
        return text
    number = integer(text)
    if number is not None:
        return number
    real = decimal(text)
    return text if real is None else real


def tagged_value(text: str, tag: str) -> Value:
    """The value of a scalar with one of CORE_TAGS. Raises ValueError when it does not fit."""
    if tag in ("str", "timestamp"):
        return text
    value = plain_value(text)
    fits = {
        "null": value is None,
        "bool": isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, (int, float)) and not isinstance(value, bool),
    }
    if not fits[tag]:
        raise ValueError(f"{text!r} is not of the type !!{tag}")
    return float(value) if tag == "float" and isinstance(value, int) else value


CORE_TAGS = frozenset(("null", "bool", "int", "float", "str", "timestamp"))


def json_number(value: float) -> Value:
    """A float as JSON has it: Go prints 1.0 as 1, which fits an integer field. Raises ValueError for inf and nan."""
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError("infinity and not-a-number have no JSON form")
    return int(value) if value == int(value) and abs(value) < 1e21 else value
