"""What is to be changed on a node: the rules that are there compared with the rules that should be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from . import proxy_chains as chains
from .iptables_save import Tables, saved_form
from .proxy import RuleSet
from .proxy_model import Object


class Difference(NamedTuple):
    """How the kernel's rules differ from the wanted ones.

    chains: (table, chain) that are missing or differ. services: namespace/name whose chains are among them.
    stale: nat chains of Services or endpoints that are gone. jumps: static jumps that are missing, in their order.
    undeclared: (table, chain) targets of those jumps that neither exist nor are written.
    """

    chains: tuple[tuple[str, str], ...] = ()
    services: frozenset[str] = frozenset()
    stale: tuple[str, ...] = ()
    jumps: tuple[chains.Jump, ...] = ()
    undeclared: tuple[tuple[str, str], ...] = ()

    def why(self) -> str:
        """The reason of a sync in a few words; empty when there is no difference."""
        counts = (
            (len(self.jumps), "jump(s) missing"),
            (len(self.chains), "chain(s) missing or different"),
            (len(self.stale), "chain(s) stale"),
        )
        return ", ".join(f"{count} {what}" for count, what in counts if count)


def jump_lines(family: str) -> dict[chains.Jump, str]:
    """Each static jump -> the line that iptables-save prints for it."""
    return {jump: saved_form(f"-A {jump.rule()}", family) for jump in chains.JUMPS}


def compare(rules: RuleSet, want: Tables, have: Tables) -> Difference:
    """The difference between the wanted rules (want: rules.saved()) and those of the node (parsed iptables-save)."""
    differing = [
        (table, chain)
        for table, own in want.items()
        for chain, lines in own.items()
        if have.get(table, {}).get(chain) != lines
    ]
    nat = want["nat"]
    stale = [chain for chain in have.get("nat", ()) if chain.startswith(chains.SERVICE_PREFIXES) and chain not in nat]
    missing = [
        jump
        for jump, line in jump_lines(rules.family).items()
        if line not in have.get(jump.table, {}).get(jump.chain, ())
    ]
    targets = dict.fromkeys((jump.table, jump.target) for jump in missing)
    return Difference(
        chains=tuple(differing),
        services=frozenset(
            rules.owners[chain] for table, chain in differing if table == "nat" and chain in rules.owners
        ),
        stale=tuple(sorted(stale)),
        jumps=tuple(missing),
        undeclared=tuple(
            (table, chain) for table, chain in targets if chain not in want[table] and chain not in have.get(table, {})
        ),
    )


def sync_text(rules: RuleSet, difference: Difference) -> str:
    """One input for iptables-restore that makes the difference: jumps, the chains that differ, stale ones out.

    Fixed chains are always written; of Services only those with a chain that differs.
    """
    lines: dict[str, list[str]] = {"filter": [], "nat": []}
    for table, chain in difference.undeclared:
        lines[table].append(f":{chain} - [0:0]")
    for jump in difference.jumps:
        lines[jump.table].append(f"-I {jump.rule()}")
    return rules.text(difference.services, difference.stale, lines)


def foreign_users(want: Tables, have: Tables, stale: Iterable[str]) -> list[str]:
    """Rules of chains that are not ours and jump to a stale chain: with them it cannot be removed."""
    gone = set(stale)
    return [
        line
        for chain, lines in have.get("nat", {}).items()
        if chain not in want["nat"] and chain not in gone
        for line in lines
        if gone.intersection(line.split())
    ]


def removal_text(have: Tables, family: str) -> str:
    """One input for iptables-restore that takes every chain and jump of kube-proxy away; empty when there is none.

    KUBE-FIREWALL goes too, unlike with kube-proxy: on a lab's node nobody else owns it.
    """
    texts = []
    lines = jump_lines(family)
    for table in ("filter", "nat"):
        own = have.get(table, {})
        fixed = (*chains.FILTER_CHAINS, chains.FIREWALL) if table == "filter" else chains.NAT_CHAINS
        doomed = [chain for chain in own if chain in fixed or chain.startswith(chains.SERVICE_PREFIXES)]
        jumps = [
            f"-D {line[3:]}"
            for jump, line in lines.items()
            if jump.table == table
            for found in own.get(jump.chain, ())
            if found == line
        ]
        if doomed or jumps:
            declared = [f":{chain} - [0:0]" for chain in doomed]
            removed = [f"-X {chain}" for chain in doomed]
            texts += [f"*{table}", *declared, *jumps, *removed, "COMMIT"]
    return "".join(f"{line}\n" for line in texts)


def before_after(
    want: Tables, have: Tables, difference: Difference, family: str
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The lines that a sync changes, table -> lines as iptables-save prints them: as they are, and as they will be."""
    touched = [*difference.chains, *(("nat", chain) for chain in difference.stale)]
    before = _shown(have, touched)
    after = _shown(want, touched)
    lines = jump_lines(family)
    for jump in difference.jumps:
        after.setdefault(jump.table, []).insert(0, lines[jump])
    return before, after


def _shown(tables: Tables, touched: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    shown: dict[str, list[str]] = {}
    for table, chain in touched:
        if chain in tables.get(table, {}):
            shown.setdefault(table, []).extend([f":{chain} - [0:0]", *tables[table][chain]])
    return shown


def same_on_every_node(services: Iterable[Object], slices: Iterable[Object], options: chains.Options) -> bool:
    """True when nothing in the rules depends on the node: then they are made once for all."""
    if options.nodeport_addresses:
        return False
    specs = [service["spec"] for service in services]
    if any(
        "Local" in (spec.get("externalTrafficPolicy"), spec.get("internalTrafficPolicy"))
        or spec.get("loadBalancerSourceRanges")
        for spec in specs
    ):
        return False
    return not any(endpoint.get("hints") for item in slices for endpoint in item.get("endpoints") or ())
