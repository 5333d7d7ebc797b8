"""The normal form of rules: two texts that differ only in what kube-proxy leaves open have the same one.

kube-proxy goes through Services in the order of a Go map, so the order of Services in the shared chains, and of chains
in a text, means nothing. Source: Kubernetes pkg/proxy/iptables/proxier_test.go, where its own tests do the same.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_COMMENT = re.compile(r'--comment (?:"([^"]*)"|(\S+))')
# iptables-save -c puts counters before a rule, [12:345].
_COUNTERS = re.compile(r"^\[\d+:\d+\] ")
_LAST = "must be the last rule"
_NODEPORTS, _SERVICES = "KUBE-NODEPORTS", "KUBE-SERVICES"
# Chains that every Service adds rules to; between Services their order is free.
_SHARED = (_NODEPORTS, _SERVICES)


class _Chain(NamedTuple):
    """A chain of a table: its policy ("-" for one's own chains), its rules, and whether the text deletes it."""

    policy: str
    rules: list[str]
    deleted: list[str]


def normal_form(text: str) -> str:
    """Restore text or iptables-save text in its normal form.

    Tables sorted; chains: KUBE-NODEPORTS, KUBE-SERVICES, the other KUBE- ones, the rest, each group by name; all chain
    lines first, then the rules by chain, then -X lines, then COMMIT. The order within a chain stays, except that the
    rules of KUBE-NODEPORTS and KUBE-SERVICES are sorted by Service (those of one Service keep their order) and the one
    that says that it must be the last is. Counters are zeroed; comment lines and empty lines go.
    Raises ValueError for a line that is none of these.
    """
    tables = _parse(text)
    lines = []
    for table in sorted(tables):
        chains = [(name, tables[table][name]) for name in sorted(tables[table], key=_place)]
        lines.append(f"*{table}")
        lines += [f":{name} {chain.policy} [0:0]" for name, chain in chains]
        for name, chain in chains:
            lines += sorted(chain.rules, key=_by_service) if name in _SHARED else chain.rules
        lines += [line for _, chain in chains for line in chain.deleted]
        lines.append("COMMIT")
    return "".join(f"{line}\n" for line in lines)


def _place(name: str) -> tuple[int, str]:
    if name in _SHARED:
        return _SHARED.index(name), name
    return (2 if name.startswith("KUBE-") else 3), name


def _by_service(rule: str) -> tuple[bool, str]:
    """The rule that must be the last one last, the others by namespace/name: the comment up to a blank or colon."""
    found = _COMMENT.search(rule)
    comment = (found[1] or found[2] or "") if found else ""
    return _LAST in comment, re.split("[ :]", comment, maxsplit=1)[0]


def _parse(text: str) -> dict[str, dict[str, _Chain]]:
    tables: dict[str, dict[str, _Chain]] = {}
    chains: dict[str, _Chain] | None = None
    for number, written in enumerate(text.splitlines(), 1):
        line = _COUNTERS.sub("", written.strip())
        words = line.split(None, 2)
        if not line or line.startswith("#") or line == "COMMIT":
            continue
        if line.startswith("*"):
            chains = tables.setdefault(line[1:].strip(), {})
        elif chains is None or not (line.startswith(":") or (words[0] in ("-A", "-X") and len(words) > 1)):
            raise ValueError(f"line {number} is no table, chain, rule or -X of iptables-restore: {written!r}")
        elif line.startswith(":"):
            policy = words[1] if len(words) > 1 else "-"
            chains[words[0][1:]] = chains.get(words[0][1:], _Chain(policy, [], []))._replace(policy=policy)
        else:
            chain = chains.setdefault(words[1], _Chain("-", [], []))
            (chain.rules if words[0] == "-A" else chain.deleted).append(line)
    return tables
