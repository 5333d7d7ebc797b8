"""The plan of podlab_gateway: what the machine does for a lab's way in and out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .errors import Problem, refuse
from .kube import gateway as rules
from .kube.cluster import Cluster, PortMapping
from .kube.kind_validate import addresses_clash
from .linux import iptables, sockets
from .runtime import gateway
from .step import Item


class Gateway:
    """Observes and plans for one module call."""

    def __init__(self, cluster: Cluster, present: bool) -> None:
        self.cluster = cluster
        self.present = present and rules.needed(cluster)

    def items(self) -> list[Item]:
        """The one item. Raises PodlabError with everything that is in the way."""
        name = self.cluster.name
        seen = gateway.look()
        label = f"gateway of lab {name}"
        if not self.present:
            # First, while the rules that belong to it are still there.
            steps = [*gateway.closing(self.cluster, False), *gateway.removal(name, seen)]
            return [Item(label, steps, gateway.shown(name, seen) if steps else {}, {})]
        refuse(port_problems(self.cluster))
        backend = iptables.detect()
        refuse(
            Problem(f"chain {chain} of table {table}", f"is not lab {name}'s: it has the rule {rule}", "Remove it")
            for (table, chain), rule in rules.in_the_way(name, seen.tables[backend]).items()
        )
        steps = [*gateway.closing(self.cluster, True), *gateway.making(self.cluster, seen, backend)]
        return [Item(label, steps, gateway.shown(name, seen), gateway.wanted(self.cluster, seen, backend))]

    def state(self) -> dict[str, Any]:
        """What the machine does for the lab."""
        seen = gateway.look()
        return {
            "nat": self.present and self.cluster.nat,
            "ports": [rules.title(node, one) for node, _, one in rules.mapped(self.cluster)] if self.present else [],
            "chains": seen.chains(self.cluster.name),
        }


def port_problems(cluster: Cluster) -> Iterator[Problem]:
    """Host ports that cannot be had, each with who has it."""
    mapped = rules.mapped(cluster)
    if not mapped:
        return
    others = [(f"lab {lab} ({rules.title(at, one)})", one) for lab, at, one in gateway.mapped_elsewhere(cluster.name)]
    known = sockets.listeners()
    for node, place, one in mapped:
        where = f"nodes[{node.index}].extraPortMappings[{place}]"
        if one.listen_address != cluster.gateway and not sockets.is_local(one.listen_address):
            remedy = "Use one that `ip address` shows, or 0.0.0.0 for all"
            yield Problem(f"{where}.listenAddress", f"{one.listen_address} is no address of this machine", remedy)
            continue
        owner = _owner(one, others) or _listener(one, known)
        if owner:
            message = f"{one.listen_address}:{one.host_port}/{one.protocol} is taken by {owner}"
            yield Problem(f"{where}.hostPort", message, "Stop that, or set another hostPort; 0 picks a free one")


def _owner(one: PortMapping, others: list[tuple[str, PortMapping]]) -> str:
    for owner, other in others:
        if (one.host_port, one.protocol) == (other.host_port, other.protocol) and addresses_clash(
            one.listen_address, [other.listen_address]
        ):
            return owner
    return ""


def _listener(one: PortMapping, known: list[sockets.Listener]) -> str:
    found = sockets.in_use(one.listen_address, one.host_port, one.protocol, known)
    if not found:
        return ""
    process = sockets.owner(found.inode) or "a process that is not to be seen from here"
    return f"{process}, which listens on {found.title()}"
