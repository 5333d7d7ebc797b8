"""What `nft -a list ruleset` prints, read: which chain hangs where, and each rule's text by its handle. Pure.

Source: nft(8), "ADDITIONAL COMMANDS"; the forms are those of nft 1.0.6.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TABLE = re.compile(r"^table (\w+) (\S+) \{")
_CHAIN = re.compile(r"^\tchain (\S+) \{")
_HOOK = re.compile(r"^\t\ttype \w+ hook (\w+) ")
_RULE = re.compile(r"^\t\t(.*) # handle (\d+)$")


class Chain(NamedTuple):
    """A chain. hook: "prerouting", ...; "" for one that is only jumped to. rules: handle -> text, in order."""

    hook: str
    rules: dict[int, str]


# (table, chain) -> the chain.
Chains = dict[tuple[str, str], Chain]


def chains(text: str, family: str = "ip") -> Chains:
    """The chains of one family's tables."""
    found: Chains = {}
    table = chain = ""
    for line in text.splitlines():
        match = _TABLE.match(line)
        if match:
            table, chain = (match[2] if match[1] == family else ""), ""
            continue
        match = _CHAIN.match(line)
        if match and table:
            chain = match[1]
            found[table, chain] = Chain("", {})
            continue
        if line == "\t}":
            chain = ""
        if not chain:
            continue
        match = _HOOK.match(line)
        if match:
            found[table, chain] = Chain(match[1], {})
            continue
        match = _RULE.match(line)
        if match:
            found[table, chain].rules[int(match[2])] = " ".join(match[1].split())
    return found


def name_rules(chains_there: Chains, saved: dict[str, dict[str, list[str]]]) -> dict[tuple[str, str, int], str]:
    """(table, chain, handle) -> the rule: as iptables-save prints it where the table is iptables', else as nft does.

    saved: iptables-save's tables, chains and rules. The k-th rule of a chain is the k-th in both lists.
    """
    named = {}
    for (table, chain), (_, rules) in chains_there.items():
        lines = saved.get(table, {}).get(chain, [])
        same = len(lines) == len(rules)
        for number, (handle, text) in enumerate(rules.items()):
            named[table, chain, handle] = lines[number] if same else text
    return named
