"""The machine's own rules for a lab: read, made, and taken away by the lab's name alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..kube import gateway as rules
from ..kube import topology
from ..kube.cluster import Cluster, Node, PortMapping
from ..kube.iptables_save import Tables, parse_save
from ..linux import iptables, netns, sysctl
from ..step import Step
from . import state

FORWARDING = "net.ipv4.ip_forward"
REDIRECTS = "net.ipv4.conf.all.accept_redirects"


class Seen(NamedTuple):
    """What is on the machine: backend -> iptables-save's text, and the same parsed; the settings."""

    texts: Mapping[iptables.Backend, str]
    tables: Mapping[iptables.Backend, Tables]
    forwarding: str
    redirects: str

    def chains(self, name: str) -> list[str]:
        """Names of the lab's chains."""
        return [f"{table} {chain}" for have in self.tables.values() for table, chain in rules.present(name, have)]


def look() -> Seen:
    """Read it."""
    texts = iptables.every(netns.HERE)
    tables = {backend: parse_save(text) for backend, text in texts.items()}
    return Seen(texts, tables, sysctl.read(FORWARDING), sysctl.read(REDIRECTS))


def mapped_elsewhere(name: str) -> Iterator[tuple[str, Node, PortMapping]]:
    """The port mappings of all labs but the one of that name: (lab, node, mapping)."""
    for lab in state.labs():
        cluster = state.read_cluster(lab) if lab != name else None
        for node, _, one in rules.mapped(cluster) if cluster else ():
            yield lab, node, one


def making(cluster: Cluster, seen: Seen, backend: iptables.Backend) -> list[Step]:
    """The steps that bring the backend's rules and the setting to what the lab needs: rules first, they shut doors."""
    have = seen.tables[backend]
    memory = rules.remembered(seen.tables.values()) or _memory(seen, backend)
    want = rules.rules(cluster, memory)
    why = rules.difference(want, have, cluster.name)
    steps = [_restore(backend, rules.sync_text(want, have, cluster.name), why)] if why else []
    for other, stale in seen.tables.items():
        text = rules.sync_text(rules.NOTHING, stale, cluster.name) if other != backend else ""
        if text:
            steps.append(_restore(other, text, f"this machine's iptables is {backend.name} now"))
    if seen.forwarding != "1":
        steps.append(_set(FORWARDING, "1", "the machine forwards for the lab"))
    return steps


def closing(cluster: Cluster, present: bool) -> list[Step]:
    """The step that takes from a lab that is up what it needed for mapped ports, when none is to be there."""
    name = topology.route_localnet(cluster.name)
    with contextlib.suppress(FileNotFoundError):  # the uplink is not there
        if not (present and rules.mapped(cluster)) and sysctl.read(name) == "1":
            return [_set(name, "0", "no port is mapped")]
    return []


def wanted(cluster: Cluster, seen: Seen, backend: iptables.Backend) -> dict[str, Any]:
    """What will be there, for a diff."""
    memory = rules.remembered(seen.tables.values()) or _memory(seen, backend)
    return {**rules.shown_wanted(rules.rules(cluster, memory)), FORWARDING: "1"}


def shown(name: str, seen: Seen) -> dict[str, Any]:
    """What is there of the lab, for a diff."""
    found: dict[str, Any] = {}
    for have in seen.tables.values():
        found.update(rules.shown(name, have))
    return {**found, FORWARDING: seen.forwarding}


def _memory(seen: Seen, backend: iptables.Backend) -> rules.Memory:
    if backend.name != "nft" or not iptables.can_drop():
        # Tables of legacy iptables stay until their kernel module goes.
        return rules.Memory(seen.forwarding, seen.redirects, ())
    lacking = rules.without(seen.texts[backend], iptables.base_chains(netns.HERE))
    return rules.Memory(seen.forwarding, seen.redirects, lacking)


def removal(name: str, seen: Seen) -> list[Step]:
    """The steps that take the lab's rules away; with the last lab's, the machine is put back as it was.

    The setting first: while the rules are there they shut what is not to be forwarded.
    """
    memory = rules.remembered(seen.tables.values())
    if not seen.chains(name):
        return []
    steps = []
    last = not rules.others(name, seen.tables.values())
    if last and memory and seen.forwarding != memory.ip_forward:
        steps.append(_set(FORWARDING, memory.ip_forward, "as it was before the lab"))
        # The kernel has just made it the opposite.
        if memory.accept_redirects == memory.ip_forward:
            steps.append(_set(REDIRECTS, memory.accept_redirects, "as it was before the lab"))
    for backend, have in seen.tables.items():
        text = rules.sync_text(rules.NOTHING, have, name)
        if text:
            steps.append(_restore(backend, text, "lab is to go"))
        if memory and backend.name == "nft" and last and iptables.can_drop():
            gone = [chain for _, chain in rules.present(name, have)]
            idle = rules.superfluous(memory, seen.texts[backend], gone)
            steps += [_drop(what) for what in idle]
    return steps


def _restore(backend: iptables.Backend, text: str, why: str) -> Step:
    args = {"backend": backend, "texts": {netns.HERE: text}}
    return Step("iptables.restore", "this machine", tuple(backend.restore_argv()), why, iptables.restore, args)


def _set(name: str, value: str, why: str) -> Step:
    return Step(
        "sysctl.set", name, ("sysctl", "-w", f"{name}={value}"), why, sysctl.write, {"name": name, "value": value}
    )


def _drop(what: Sequence[str]) -> Step:
    args = {"where": netns.HERE, "what": what}
    return Step("nft.delete", " ".join(what), tuple(iptables.drop_argv(what)), "made for labs", iptables.drop, args)
