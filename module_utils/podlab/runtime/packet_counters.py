"""The rules of iptables' legacy backend that a packet hit, by their counters: the kernel does not report them.

Counters know no packet: what else passed at the same time has counted, too, and so have answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# Hooks in the order of a packet that comes in, then of one that is sent here; tables in the kernel's order.
_WAY = {
    "prerouting": ("raw", "mangle", "nat"),
    "output": ("raw", "mangle", "nat", "filter"),
    "forward": ("mangle", "filter"),
    "input": ("mangle", "filter", "nat"),
    "postrouting": ("mangle", "nat"),
}
_RULE = re.compile(r"^\[(\d+):\d+\] (-A (\S+) .*)$")
_TARGET = re.compile(r" -[jg] (\S+)")
_VERDICTS = {
    **dict.fromkeys(("ACCEPT", "DNAT", "SNAT", "MASQUERADE"), "accept"),
    **dict.fromkeys(("DROP", "REJECT"), "drop"),
    "RETURN": "return",
}
# What only answers and later packets match.
_LATER = "--ctstate RELATED,ESTABLISHED"

# (table, chain) -> (packets, rule) in order.
Counters = dict[tuple[str, str], list[tuple[int, str]]]


class Counted(NamedTuple):
    """A rule whose counter rose."""

    hook: str
    table: str
    chain: str
    rule: str
    verdict: str
    target: str


def parse(text: str) -> Counters:
    """Counters of `iptables-save -c` output."""
    found: Counters = {}
    table = ""
    for line in text.splitlines():
        match = _RULE.match(line)
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            found.setdefault((table, line[1:].split()[0]), [])
        elif match:
            found.setdefault((table, match[3]), []).append((int(match[1]), match[2]))
    return found


def risen(before: Counters, after: Counters) -> Iterator[Counted]:
    """The rules that counted in between, as a packet comes to them."""
    for hook, tables in _WAY.items():
        for table in tables:
            yield from _chain(before, after, hook, table, hook.upper())


def _chain(before: Counters, after: Counters, hook: str, table: str, chain: str) -> Iterator[Counted]:
    old, new = before.get((table, chain), []), after.get((table, chain), [])
    if [rule for _, rule in old] != [rule for _, rule in new]:
        return
    for (first, rule), (last, _) in zip(old, new):
        if last <= first or _LATER in rule:
            continue
        match = _TARGET.search(rule)
        target = match[1] if match else ""
        jump = (table, target) in after
        yield Counted(
            hook, table, chain, rule, "jump" if jump else _VERDICTS.get(target, "continue"), target if jump else ""
        )
        if jump:
            yield from _chain(before, after, hook, table, target)
        elif _VERDICTS.get(target) in ("accept", "drop"):
            return
