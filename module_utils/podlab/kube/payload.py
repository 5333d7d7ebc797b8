"""The files of a volume that is made of ConfigMaps, Secrets and the pod's own metadata. Pure.

Sources: k8s pkg/volume/{configmap,secret,downwardapi,projected}, pkg/fieldpath. The pod supervisor imports this file.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import PodlabError

_NO_KEY = {
    "ConfigMap": "configmap references non-existent config key: {}",
    "Secret": "references non-existent secret key: {}",
}


class File(NamedTuple):
    """Content and permission bits of a file."""

    data: bytes
    mode: int


def files(volume: Mapping[str, Any], sources: Mapping[str, Any]) -> dict[str, File]:
    """Path -> file of a volume of kind "projected"; what comes later takes the place of what came before.

    volume: of the runtime configuration (volumespec). sources: see sources.py.
    Raises PodlabError in the kubelet's words when something is missing that is not optional.
    """
    made: dict[str, File] = {}
    faults = []
    for part in volume["parts"]:
        try:
            made.update(_fields(part, sources) if "fields" in part else _object(part, sources))
        except PodlabError as error:
            faults.append(error.message)
    if faults:
        # As Go's aggregate of errors: one alone, or all of them in brackets.
        unique = list(dict.fromkeys(faults))
        raise PodlabError(unique[0] if len(unique) == 1 else f"[{', '.join(unique)}]")
    return made


def _object(part: Mapping[str, Any], sources: Mapping[str, Any]) -> dict[str, File]:
    kind, _, name = part["object"].partition("/")
    thing = sources.get(part["object"])
    if thing is None and not part["optional"]:
        raise PodlabError(f'{kind.lower()} "{name}" not found')
    have = _content(kind, thing or {})
    if not part["items"]:
        return {key: File(data, part["mode"]) for key, data in have.items()}
    missing = [item["key"] for item in part["items"] if item["key"] not in have]
    if missing and not part["optional"]:
        raise PodlabError(_NO_KEY[kind].format(missing[0]))
    return {item["path"]: File(have[item["key"]], item["mode"]) for item in part["items"] if item["key"] in have}


def _content(kind: str, thing: Mapping[str, Any]) -> dict[str, bytes]:
    data = thing.get("data") or {}
    if kind == "Secret":
        return {key: binascii.a2b_base64(value) for key, value in data.items()}
    binary = {key: binascii.a2b_base64(value) for key, value in (thing.get("binaryData") or {}).items()}
    return {**binary, **{key: value.encode("utf-8", "surrogatepass") for key, value in data.items()}}


def _fields(part: Mapping[str, Any], sources: Mapping[str, Any]) -> dict[str, File]:
    metadata = sources.get("metadata") or {}
    made = {}
    for item in part["fields"]:
        text = item["value"] if "value" in item else field(item["field"], metadata)
        made[item["path"]] = File(text.encode("utf-8", "surrogatepass"), item["mode"])
    return made


def field(path: str, metadata: Mapping[str, Any]) -> str:
    """A field of the pod's metadata as a file has it: all labels or annotations sorted, one on a line, quoted."""
    kind, _, key = path.partition(".")[2].partition("['")
    value = metadata.get(kind)
    if key:
        return str((value or {}).get(key[:-2], ""))
    if kind in ("labels", "annotations"):
        return "\n".join(f"{name}={quoted(text)}" for name, text in sorted((value or {}).items()))
    return str(value or "")


_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
_ESCAPES.update({'"': '\\"', "\\": "\\\\"})


def quoted(text: str) -> str:
    """The text as Go's %q writes it."""
    return '"' + "".join(_ESCAPES.get(letter) or _printable(letter) for letter in text) + '"'


def _printable(letter: str) -> str:
    number = ord(letter)
    if letter.isprintable() and number != 0xFFFD:
        return letter
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
