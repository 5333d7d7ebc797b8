"""What `nft -s -n list table` prints, read back into the words that were typed.

nft prints rules in its own words: numbers for names, intervals merged, `meta mark` for `mark`, and not every version
prints the same. So what is wanted and what is there are brought into one form, and compared in that.
Sources: nft(8); the forms were compared with nft 1.0.6.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from .nft_model import Chain, Container, Element, Ruleset

_PROTOCOLS = {"6": "tcp", "17": "udp", "132": "sctp"}
_MARK = re.compile(
    r"(?:meta )?mark (?P<set>set (?:meta )?mark )?(?P<operator>and|or|xor|[&|^]) (?P<mask>0x[0-9a-f]+|\d+)"
    r"(?: == (?P<result>0x[0-9a-f]+|\d+))?"
)
# Leading bits are printed as a prefix.
_TOP_BIT = ("meta mark 0x00000000/1 ", "mark and 0x80000000 == 0 ")
_OPERATORS = {"&": "and", "|": "or", "^": "xor"}
_SOURCES = re.compile(r"(ip6? [sd]addr (?:!= )?)\{ ([^}]*) \}")
_REJECT_WITH = re.compile(
    r"\breject with (?:icmp (?:type )?(?:port-unreachable|3)|icmpv6 (?:type )?(?:port-unreachable|4))$"
)
_L4PROTO = re.compile(r"\bmeta l4proto (\d+)")
_FIB_TYPE = re.compile(r"(fib [sd]addr type) 2\b")
_PARTS = re.compile(r'(?:"[^"]*"|[^,"])+')
_ELEMENT = re.compile(
    r'(?P<key>.*?)(?: comment "(?P<before>[^"]*)")?'
    r'(?: : (?P<value>.*?))?(?: comment "(?P<after>[^"]*)")?'
)
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_PERIOD = re.compile(r"(\d+)(d|h|m(?!s)|s)")


def canonical(rule: str) -> str:
    """One text for a rule as typed and for the same rule as printed by nft."""
    if "mark" in rule and "-" not in rule:
        rule = _MARK.sub(_mark, rule.replace(*_TOP_BIT))
    if "ct state 0x8 " in rule:
        rule = rule.replace("ct state 0x8 ", "ct state new ", 1)
    if "fib " in rule:
        rule = _FIB_TYPE.sub(r"\1 local", rule)
    if "meta l4proto " in rule:
        rule = _L4PROTO.sub(lambda found: f"meta l4proto {_PROTOCOLS.get(found[1], found[1])}", rule)
    if "reject with" in rule:
        rule = _REJECT_WITH.sub("reject", rule)
    if "addr" in rule and "{" in rule:
        rule = _SOURCES.sub(lambda found: found[1] + _merged(found[2]), rule)
    return rule.replace(" , ", ", ")


def _mark(found: re.Match[str]) -> str:
    operator = _OPERATORS.get(found["operator"], found["operator"])
    result = f" == {int(found['result'], 0)}" if found["result"] else ""
    return f"mark {'set mark ' if found['set'] else ''}{operator} {int(found['mask'], 0):#x}{result}"


def _merged(text: str) -> str:
    """Addresses, prefixes and ranges as intervals in order, overlapping and adjoining ones as one."""
    intervals: list[tuple[int, int]] = []
    version = 6 if ":" in text else 4
    try:
        found = sorted(_interval(part.strip()) for part in text.split(","))
    except ValueError:
        return f"{{ {text} }}"
    for first, last in found:
        if intervals and first <= intervals[-1][1] + 1:
            intervals[-1] = (intervals[-1][0], max(last, intervals[-1][1]))
        else:
            intervals.append((first, last))
    make = ipaddress.IPv6Address if version == 6 else ipaddress.IPv4Address
    shown = [_shown(make, first, last) for first, last in intervals]
    return shown[0] if len(shown) == 1 else f"{{ {', '.join(shown)} }}"


def _interval(text: str) -> tuple[int, int]:
    if "-" in text:
        first, last = text.split("-")
        return int(ipaddress.ip_address(first)), int(ipaddress.ip_address(last))
    network = ipaddress.ip_network(text, strict=False)
    return int(network.network_address), int(network.broadcast_address)


def _shown(make: Callable[[int], Any], first: int, last: int) -> str:
    if first == last:
        return str(make(first))
    networks = list(ipaddress.summarize_address_range(make(first), make(last)))
    return str(networks[0]) if len(networks) == 1 else f"{make(first)}-{make(last)}"


def parse(text: str, family: str) -> Ruleset | None:
    """The table of a listing, rules in canonical form; None for an empty listing.

    A base chain's policy is part of its hook unless it is accept. A set that the kernel fills has no elements here.
    What is no chain, set or map (flags of the table, counters, flowtables) is put to the table's comment.
    """
    if not text.strip():
        return None
    rules = Ruleset(family)
    rules.comment = ""
    kind, name = "", ""
    lines: list[str] = []
    for line in text.splitlines():
        outer, line = line.startswith("\t") and not line.startswith("\t\t"), line.strip()
        if not outer:
            lines.append(line)
        elif line == "}":
            _object(rules, kind, name, lines)
        elif line.endswith("{"):
            kind, _, name = line[:-2].partition(" ")
            lines = []
        else:
            rules.comment += _unquoted(line) if line.startswith("comment ") else line
    return rules


def _unquoted(line: str) -> str:
    return line.partition('"')[2].rpartition('"')[0]


def _object(rules: Ruleset, kind: str, name: str, lines: list[str]) -> None:
    lines = [line for line in lines if line]
    if kind == "chain":
        rules.chains[name] = _chain(lines)
    elif kind in ("set", "map"):
        rules.containers[name] = _container(kind, lines)
    else:
        rules.comment += f"{kind} {name}"


def _chain(lines: list[str]) -> Chain:
    hook = comment = ""
    listed = []
    for line in lines:
        if line.startswith("type ") and " hook " in line:
            hook = "; ".join(part.strip() for part in line.split(";") if part.strip() not in ("", "policy accept"))
        elif line.startswith('comment "'):
            comment = _unquoted(line)
        else:
            listed.append(canonical(line))
    return Chain(hook, comment, listed)


def _container(kind: str, lines: list[str]) -> Container:
    values = {"type": "", "flags": "", "timeout": "", "comment": ""}
    elements: list[str] = []
    for line in lines:
        word, _, rest = line.partition(" ")
        if elements:
            elements.append(line)
        elif word == "elements":
            elements.append(rest.partition("{ ")[2])
        elif word in values:
            values[word] = _unquoted(line) if word == "comment" else rest
        elif word != "size":  # the size that nft gives a set filled by the kernel
            values["type"] += f" {line}"
    flags = ",".join(sorted(flag.strip() for flag in values["flags"].split(",") if flag.strip()))
    dynamic = "dynamic" in flags
    return Container(
        kind,
        values["type"],
        flags,
        sum(int(count) * _SECONDS[unit] for count, unit in _PERIOD.findall(values["timeout"])),
        values["comment"],
        None if dynamic else _elements(" ".join(elements)),
    )


def _elements(text: str) -> dict[str, Element]:
    """Elements of a listing, "10.96.0.1 . 6 . 80 comment "x" : goto y, ... }"."""
    elements = {}
    for part in _PARTS.findall(text.rpartition("}")[0]):
        found = _ELEMENT.fullmatch(part.strip())
        if found and found["key"]:
            words = found["key"].split(" . ")
            if len(words) > 1:
                words[-2] = _PROTOCOLS.get(words[-2], words[-2])
            comment = found["before"] or found["after"] or ""
            elements[" . ".join(words)] = Element(found["value"] or "", comment)
    return elements
