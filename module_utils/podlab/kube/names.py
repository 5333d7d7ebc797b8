"""Names: the forms Kubernetes allows, and the ones podlab makes, always the same for the same input.

Sources: k8s apimachinery pkg/util/validation/validation.go, pkg/util/rand/rand.go; distribution/reference.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import uuid
from typing import Any

SUBDOMAIN_LIMIT = 253
LABEL_LIMIT = 63
SUFFIX_LENGTH = 5
GENERATED_LIMIT = 63

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_WORD = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_PORT_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_ENV_NAME = re.compile(r"[ -<>-~]+")

_RULE_LABEL = "lower case letters, digits and '-', beginning and ending with a letter or digit"
_RULE_1035 = "lower case letters, digits and '-', beginning with a letter and ending with a letter or digit"
_RULE_SUBDOMAIN = "lower case letters, digits, '-' and '.', each part beginning and ending with a letter or digit"
_RULE_WORD = "letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"


def label_fault(name: str) -> str:
    """What is wrong with a DNS-1123 label (container, volume, namespace); empty when nothing is."""
    return _fault(name, _LABEL, LABEL_LIMIT, _RULE_LABEL)


def label_1035_fault(name: str) -> str:
    """What is wrong with a DNS-1035 label (Service)."""
    return _fault(name, _LABEL_1035, LABEL_LIMIT, _RULE_1035)


def subdomain_fault(name: str) -> str:
    """What is wrong with a DNS-1123 subdomain (most objects)."""
    return _fault(name, _SUBDOMAIN, SUBDOMAIN_LIMIT, _RULE_SUBDOMAIN)


def label_value_fault(value: str) -> str:
    """What is wrong with the value of a label; the empty one is fine."""
    return _fault(value, _WORD, LABEL_LIMIT, _RULE_WORD) if value else ""


def key_fault(key: str) -> str:
    """What is wrong with the key of a label, annotation or taint: [prefix/]name."""
    prefix, slash, name = key.rpartition("/")
    if slash:
        fault = subdomain_fault(prefix)
        if fault:
            return f"has a prefix {prefix!r} that {fault}"
    return _fault(name, _WORD, LABEL_LIMIT, _RULE_WORD)


def env_name_fault(name: str) -> str:
    """What is wrong with the name of an environment variable."""
    return "" if _ENV_NAME.fullmatch(name) else "must be printable ASCII characters without '='"


def port_name_fault(name: str) -> str:
    """What is wrong with the name of a container's port (IANA_SVC_NAME)."""
    if len(name) > 15:
        return f"must have at most 15 characters, not {len(name)}"
    if not _PORT_NAME.fullmatch(name) or not re.search("[a-z]", name):
        return "must be lower case letters, digits and single '-' between them, with at least one letter"
    return ""


def ip_fault(text: str) -> str:
    """What is wrong with an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return "must be an IP address"
    return ""


def _fault(name: str, form: re.Pattern[str], limit: int, rule: str) -> str:
    if not name:
        return "must not be empty"
    if len(name) > limit:
        return f"must have at most {limit} characters, not {len(name)}"
    return "" if form.fullmatch(name) else f"must be {rule}"


_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_DOMAIN = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*"
_HOST = rf"(?:{_DOMAIN}|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"((?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*)(?::([\w][\w.-]{{0,127}}))?(?:@(sha256:[0-9a-f]{{64}}))?",
    re.ASCII,
)


def image_fault(reference: str) -> str:
    """What is wrong with an image reference [registry/]name[:tag][@digest]."""
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        if reference != reference.strip() or re.search(r"\s", reference):
            return "must not contain blanks"
        if reference.lower() != reference and _REFERENCE.fullmatch(reference.lower()):
            return "must be in lower case"
        return "must be an image reference such as busybox:1.35 or registry.example/team/app:1"
    if len(found.group(1)) > 255:
        return "must have at most 255 characters before the tag"
    return ""


def has_latest_tag(reference: str) -> bool:
    """True when a reference means the tag latest, by name or by saying nothing."""
    found = _REFERENCE.fullmatch(reference)
    return found is not None and not found.group(3) and found.group(2) in (None, "latest")


# ---- names that podlab makes ----

# rand.go: no vowels, so that no words come out.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_UIDS = uuid.UUID("5b1b7b6e-9a3e-5d0c-8a76-0f6d1c5c6b11")


def digest(*parts: Any) -> bytes:
    """SHA-256 of plain values, the same whatever the order of keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).digest()


def uid(*parts: Any) -> str:
    """A UID made from plain values: check mode and the real run agree on it."""
    return str(uuid.uuid5(_UIDS, digest(*parts).hex()))


def template_hash(template: Any) -> str:
    """A pod-template-hash: 32 bits in decimal, spelt with the safe alphabet (rand.SafeEncodeString)."""
    number = int.from_bytes(digest(template)[:4], "big")
    return "".join(_ALPHABET[ord(character) % len(_ALPHABET)] for character in str(number))


def suffix(*parts: Any) -> str:
    """The five characters at the end of a generated name."""
    number = int.from_bytes(digest(*parts)[:8], "big")
    made = ""
    for _ in range(SUFFIX_LENGTH):
        number, rest = divmod(number, len(_ALPHABET))
        made += _ALPHABET[rest]
    return made


def generated(base: str, ending: str) -> str:
    """base-ending, the base cut so that the whole stays within 63 characters (names.SimpleNameGenerator)."""
    return f"{base[: GENERATED_LIMIT - len(ending) - 1].rstrip('-.')}-{ending}"
