"""Host ports of extraPortMappings that the config leaves open (0 and -1): picked once, then kept. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .cluster import Cluster, Node, PortMapping

# (listen address, protocol, ports that it must not be) -> a free port of the machine.
Pick = Callable[[str, str, frozenset[int]], int]


def settle(cluster: Cluster, before: Cluster | None, pick: Pick, taken: Iterable[int] = ()) -> Cluster:
    """The cluster with every host port known.

    before: the lab as it is, whose picked ports stay with the mappings that are otherwise the same. taken: ports that
    other labs have. A port that the config names, or that was picked for another mapping, is not picked.
    """
    used = {one.host_port for node in cluster.nodes for one in node.port_mappings} | set(taken)
    kept = {node.name: list(node.port_mappings) for node in before.nodes} if before else {}
    return cluster._replace(nodes=tuple(_settled(node, kept.get(node.name, []), pick, used) for node in cluster.nodes))


def _settled(node: Node, kept: list[PortMapping], pick: Pick, used: set[int]) -> Node:
    mappings = []
    for one in node.port_mappings:
        if one.host_port < 1:
            port = _kept(one, kept, used) or pick(one.listen_address, one.protocol, frozenset(used))
            used.add(port)
            one = one._replace(host_port=port)
        mappings.append(one)
    return node._replace(port_mappings=tuple(mappings))


def _kept(one: PortMapping, kept: Iterable[PortMapping], used: set[int]) -> int:
    for old in kept:
        if old.host_port not in used and old._replace(host_port=one.host_port) == one:
            return old.host_port
    return 0
