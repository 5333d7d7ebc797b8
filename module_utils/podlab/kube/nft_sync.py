"""What is to be changed in a node's table of nftables: what is there compared with what should be.

The table kube-proxy is kube-proxy's alone: what is in it and not wanted goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from . import nft_model as model
from .nft_list import canonical
from .nft_model import Element, Ruleset


class Difference(NamedTuple):
    """How the kernel's table differs from the wanted one.

    anew: why the whole table has to be made; empty when it can be changed in place.
    chains: wanted ones that are missing or have other rules. stale: chains that are not wanted.
    containers: sets and maps to make. gone: those to delete, an affinity set that is made anew among them.
    removed, added: container -> elements that go, and that come; one that changes does both.
    """

    anew: str = ""
    chains: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    removed: Mapping[str, Sequence[str]] = {}
    added: Mapping[str, Mapping[str, Element]] = {}

    def why(self) -> str:
        """The reason of a sync in a few words; empty when there is no difference."""
        if self.anew:
            return self.anew
        elements = {(name, key) for name, keys in (*self.removed.items(), *self.added.items()) for key in keys}
        counts = (
            (len(self.chains), "chain(s) missing or different"),
            (len({*self.containers, *self.gone}), "set(s) missing, different or stale"),
            (len(elements), "element(s) missing, different or stale"),
            (len(self.stale), "chain(s) stale"),
        )
        return ", ".join(f"{count} {what}" for count, what in counts if count)


def compare(want: Ruleset, have: Ruleset | None) -> Difference:
    """The difference between the wanted table and that of the node (nft_list.parse of its listing)."""
    anew = _why_anew(want, have)
    if anew or have is None:
        return Difference(anew)
    made = [name for name, one in want.containers.items() if name not in have.containers or _remade(want, have, name)]
    gone = [name for name in have.containers if name not in want.containers or _remade(want, have, name)]
    uses = tuple(f"@{name}" for name in gone)
    differing = [
        name
        for name, chain in want.chains.items()
        if name not in have.chains
        or have.chains[name].rules != [canonical(rule) for rule in chain.rules]
        or (uses and any(use in rule.split() for rule in have.chains[name].rules for use in uses))
    ]
    removed: dict[str, list[str]] = {}
    added: dict[str, dict[str, Element]] = {}
    for name, container in want.containers.items():
        wanted = container.elements or {}
        present = (have.containers[name].elements or {}) if name in have.containers else {}
        if container.elements is not None and wanted != present:
            removed[name] = [key for key, element in present.items() if wanted.get(key) != element]
            added[name] = {key: element for key, element in wanted.items() if present.get(key) != element}
    return Difference(
        chains=tuple(differing),
        stale=tuple(name for name in have.chains if name not in want.chains),
        containers=tuple(made),
        gone=tuple(gone),
        removed=removed,
        added=added,
    )


def _why_anew(want: Ruleset, have: Ruleset | None) -> str:
    """Why the table cannot be changed in place: hooks, types and comments are for life."""
    if have is None:
        return "table missing"
    if have.comment != want.comment:
        return "table different"
    for name, chain in want.chains.items():
        if name in have.chains and have.chains[name][:2] != chain[:2]:
            return f"chain {name} has another hook or comment"
    for name, container in want.containers.items():
        if container.elements is not None and name in have.containers and have.containers[name].form != container.form:
            return f"{container.kind} {name} has another type"
    return ""


def _remade(want: Ruleset, have: Ruleset, name: str) -> bool:
    return have.containers[name].form != want.containers[name].form


def sync_text(want: Ruleset, have: Ruleset | None, difference: Difference) -> str:
    """One input for `nft -f` that makes the difference, one transaction; stale chains are emptied.

    Empty when only empty stale chains are left to delete.
    """
    table = want.table
    if difference.anew or have is None:
        return model.join([model.add_table(table), f"delete table {table}"] if have else []) + want.text()
    missing = [name for name in difference.chains if name not in have.chains]
    full = [name for name in (*difference.chains, *difference.stale) if name in have.chains and have.chains[name].rules]
    commands = [model.add_chain(table, name, want.chains[name]) for name in missing]
    commands += [f"flush chain {table} {name}" for name in full]
    commands += [f"delete {have.containers[name].kind} {table} {name}" for name in difference.gone]
    commands += [model.add_container(table, name, want.containers[name]) for name in difference.containers]
    for name, keys in difference.removed.items():
        commands += model.delete_elements(table, name, keys)
    for name, elements in difference.added.items():
        commands += model.add_elements(table, name, elements)
    for name in difference.chains:
        commands += model.add_rules(table, name, want.chains[name].rules)
    return model.join(commands)


def deletion_text(want: Ruleset, difference: Difference) -> str:
    """One input for `nft -f` that deletes the stale chains, in a transaction after the one that emptied them."""
    return model.join(f"delete chain {want.table} {name}" for name in difference.stale)


def before_after(
    want: Ruleset, have: Ruleset | None, difference: Difference
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """What a sync changes, "chain NAME" or "map NAME" -> rules or elements: as it is, and as it will be."""
    if difference.anew or have is None:
        return (shown(have) if have else {}), shown(want)
    chains = *difference.chains, *difference.stale
    containers = *difference.containers, *difference.gone, *difference.removed, *difference.added
    return shown(have, chains, containers), shown(want, chains, containers)


def shown(
    rules: Ruleset, chains: Sequence[str] | None = None, containers: Sequence[str] | None = None
) -> dict[str, list[str]]:
    """Chains and containers of these names, all by default: "chain NAME" -> its lines, "map NAME" -> its elements."""
    lines: dict[str, list[str]] = {}
    for name in rules.chains if chains is None else chains:
        if name in rules.chains:
            chain = rules.chains[name]
            head = [f"{chain.hook};"] if chain.hook else []
            lines[f"chain {name}"] = [*head, *(canonical(rule) for rule in chain.rules)]
    for name in rules.containers if containers is None else containers:
        if name in rules.containers:
            one = rules.containers[name]
            elements = [model.element_text(key, element) for key, element in (one.elements or {}).items()]
            lines[f"{one.kind} {name}"] = [f"type {one.of};", *sorted(elements)]
    return lines
