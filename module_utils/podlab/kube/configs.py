"""ConfigMaps and Secrets: their rules, their one form in the store, and the data of Secrets kept apart. Pure.

Sources: k8s pkg/apis/core/v1/validation/validation.go (ValidateConfigMap, ValidateSecret and their updates),
pkg/registry/core/secret/strategy.go. A value of a Secret never gets into a message.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .schema import Finding, show

KINDS = ("ConfigMap", "Secret")
# Of the values together, names not counted.
LIMIT = 1024 * 1024
_KEY_LIMIT = 253
_KEY = re.compile(r"[-._a-zA-Z0-9]+", re.ASCII)
_OPAQUE = "Opaque"
_TOKEN = "kubernetes.io/service-account-token"
_ACCOUNT = "kubernetes.io/service-account.name"
# Type of a Secret -> the keys that it must have.
_NEEDED = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_JSON = (".dockercfg", ".dockerconfigjson")
_BASIC = ("kubernetes.io/basic-auth", ("username", "password"))
HIDDEN = "***"


def key_fault(key: str) -> str:
    """What is wrong with a key of a ConfigMap or Secret (IsConfigMapKey); empty when nothing is."""
    if len(key) > _KEY_LIMIT:
        return f"must have at most {_KEY_LIMIT} characters, not {len(key)}"
    if not _KEY.fullmatch(key):
        return "must be letters, digits, '-', '_' and '.'"
    if key == "." or key.startswith(".."):
        return "must not be '.' nor begin with '..'"
    return ""


def check(thing: Mapping[str, Any]) -> Iterator[Finding]:
    """Every fault of a ConfigMap or Secret, its types already checked."""
    texts, binary = ("data", "binaryData") if thing["kind"] == "ConfigMap" else ("stringData", "data")
    size = 0
    for field in (texts, binary):
        for key, value in (thing.get(field) or {}).items():
            fault = key_fault(key)
            if fault:
                yield Finding((field, key), f"the key {fault}; it is {show(key)}")
            raw = _decoded(value) if field == binary else value.encode("utf-8", "surrogatepass")
            if raw is None:
                yield Finding((field, key), "must be base64", f"Write plain text in {texts}")
            size += len(raw or b"")
    if size > LIMIT:
        yield Finding(("data",), f"must have at most {LIMIT} bytes together, not {size}")
    if thing["kind"] == "ConfigMap":
        for key in set(thing.get("data") or {}) & set(thing.get("binaryData") or {}):
            yield Finding(("binaryData", key), f"the key {show(key)} is in data, too", "Remove one of them")
    else:
        yield from _secret(thing)


def _secret(thing: Mapping[str, Any]) -> Iterator[Finding]:
    """What the type of a Secret asks for."""
    kind = thing.get("type") or _OPAQUE
    have = {**(thing.get("data") or {}), **(thing.get("stringData") or {})}
    for key in _NEEDED.get(kind, ()):
        if key not in have:
            yield Finding(("data", key), f"is required in a Secret of type {kind}")
        elif key in _JSON and not _is_json(thing, key):
            yield Finding(("data", key), f"must be JSON in a Secret of type {kind}")
    if kind == _BASIC[0] and not set(_BASIC[1]) & set(have):
        yield Finding(("data",), f"must have {' or '.join(_BASIC[1])} in a Secret of type {kind}")
    if kind == _TOKEN and not ((thing.get("metadata") or {}).get("annotations") or {}).get(_ACCOUNT):
        yield Finding(("metadata", "annotations", _ACCOUNT), f"is required in a Secret of type {kind}")


def _is_json(thing: Mapping[str, Any], key: str) -> bool:
    texts = thing.get("stringData") or {}
    raw = texts[key].encode() if key in texts else _decoded((thing.get("data") or {})[key])
    try:
        return raw is None or isinstance(json.loads(raw), dict)
    except ValueError:
        return False


def _decoded(text: str) -> bytes | None:
    """The bytes, None when it is no base64. Line breaks are let through, as Go does."""
    try:
        return base64.b64decode(text.replace("\n", "").replace("\r", ""), validate=True)
    except (binascii.Error, ValueError):
        return None


def redacted(finding: Finding) -> Finding:
    """A finding of the schema about a Secret, without the value that is at fault."""
    if finding.path[:1] in (("data",), ("stringData",)) and len(finding.path) > 1:
        return finding._replace(message="must be text" + " (its value is not shown)", remedy="Put quotes around it")
    return finding


def normal(thing: Mapping[str, Any]) -> dict[str, Any]:
    """The object as the API server keeps it: stringData moved into data, a type, no needless line breaks."""
    if thing["kind"] != "Secret":
        return dict(thing)
    made = {key: value for key, value in thing.items() if key != "stringData"}
    data = dict(thing.get("data") or {})
    for key, value in (thing.get("stringData") or {}).items():
        data[key] = base64.b64encode(value.encode("utf-8", "surrogatepass")).decode()
    if data:
        made["data"] = {key: "".join(value.split()) for key, value in data.items()}
    made["type"] = thing.get("type") or _OPAQUE
    return made


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Finding]:
    """What a new version of a ConfigMap or Secret changes and may not."""
    said = "field is immutable when `immutable` is set"
    remedy = f"Give the {new['kind']} another name, or delete it first"
    if old["kind"] == "Secret" and old.get("type", _OPAQUE) != new.get("type", _OPAQUE):
        yield Finding(("type",), "field is immutable", remedy)
    if not old.get("immutable"):
        return
    if not new.get("immutable"):
        yield Finding(("immutable",), said, remedy)
    for field in ("data", "binaryData"):
        if (old.get(field) or {}) != (new.get(field) or {}):
            yield Finding((field,), said, remedy)


# ---- the data of Secrets, kept apart from everything that is shown ----


def full_name(thing: Mapping[str, Any]) -> str:
    """namespace/name."""
    return f"{thing['metadata']['namespace']}/{thing['metadata']['name']}"


def part(store: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The store without the data of its Secrets, and that data, sealed: one word that shows nothing at a glance.

    It is what goes into a module's option with no_log: Ansible hides that very word and nothing else.
    """
    entries, data = [], {}
    for entry in store["objects"]:
        thing = entry["object"]
        if thing["kind"] == "Secret":
            data[full_name(thing)] = thing.get("data") or {}
            entry = {**entry, "object": {key: value for key, value in thing.items() if key != "data"}}
        entries.append(entry)
    return {**store, "objects": entries}, seal(data)


def join(store: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """The store with the data of its Secrets. data: namespace/name -> data."""
    return {**store, "objects": [_joined(entry, data) for entry in store["objects"]]}


def _joined(entry: Mapping[str, Any], data: Mapping[str, Any]) -> Mapping[str, Any]:
    thing = entry["object"]
    if thing["kind"] != "Secret" or not data.get(full_name(thing)):
        return entry
    return {**entry, "object": {**thing, "data": dict(data[full_name(thing)])}}


def seal(data: Mapping[str, Any]) -> str:
    """The data of Secrets as one word; "" when there is none."""
    return base64.b64encode(json.dumps(data, sort_keys=True).encode()).decode() if data else ""


def unseal(word: str | None) -> dict[str, Any]:
    """The data behind the word. Raises ValueError when it is none of seal()."""
    found = json.loads(base64.b64decode(word, validate=True)) if word else {}
    if not isinstance(found, dict):
        raise ValueError("not a mapping")
    return found


def of_store(store: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The ConfigMaps and Secrets of a store."""
    return [entry["object"] for entry in store["objects"] if entry["object"]["kind"] in KINDS]


def hidden(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """The data of Secrets before and after, as a diff may show it: names, and stars in place of values (kubectl's)."""
    names = ({name: HIDDEN for name in data} for data in (before, after))
    old, new = names
    for name in set(old) & set(new):
        if before[name] != after[name]:
            old[name], new[name] = f"{HIDDEN} (before)", f"{HIDDEN} (after)"
    return old, new


def by_name(things: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    """The objects by (kind, namespace, name)."""
    return {(thing["kind"], thing["metadata"]["namespace"], thing["metadata"]["name"]): thing for thing in things}
