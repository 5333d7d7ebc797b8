"""What iptables and a node's kernel can do, which decides a few words of the rules; the counters that these need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

from .kube.proxy_chains import COUNTERS, Options
from .linux import iptables, netns, nfacct, sysctl
from .service_request import Node, Request
from .step import Item, Step

ADD, DELETE = "nfacct.add", "nfacct.delete"
_LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"
# `MASQUERADE --random-fully`; kernels have it since 3.14, older than any that podlab runs on.
_RANDOM_FULLY = (1, 6, 2)


class Features:
    """What was found out in one module call, per node."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._options = request.options
        self._counters: dict[str, list[str]] = {}
        self._liberal: set[str] = set()

    def observe(self, backend: iptables.Backend, nodes: Sequence[Node]) -> None:
        """Look at the commands and at the nodes that are there."""
        counters = COUNTERS if nfacct.supported() else ()
        random_fully = iptables.version(backend) >= _RANDOM_FULLY
        self._options = self._request.options._replace(counters=counters, random_fully=random_fully)
        self._liberal = set()
        for node in nodes:
            with netns.entered(node.netns):
                if counters:
                    with nfacct.Accounting() as accounting:
                        self._counters[node.proxy.name] = accounting.names()
                if _liberal():
                    self._liberal.add(node.proxy.name)

    def options(self, node: Node) -> Options:
        """The options of a node's rules: with `be_liberal` packets in the state INVALID are not dropped."""
        if node.proxy.name in self._liberal:
            return self._options._replace(tcp_be_liberal=True)
        return self._options

    def added(self, items: Sequence[Item]) -> list[Item]:
        """The plans of the nodes, in their order, with the counters that are missing, or that no rule needs now."""
        return [
            item._replace(steps=[*item.steps, *self._steps(node)]) for node, item in zip(self._request.nodes, items)
        ]

    def _steps(self, node: Node) -> list[Step]:
        there = set(self._counters.get(node.proxy.name, ())).intersection(COUNTERS)
        wanted = self._request.present and self._request.mode == "iptables"
        if wanted:
            missing = [name for name in self._options.counters if name not in there]
            return [_step(ADD, node, name, "rules count with it", _add) for name in missing]
        return [_step(DELETE, node, name, "no rule counts with it", _delete) for name in sorted(there)]


def _liberal() -> bool:
    """The setting of the namespace; it is not there before connection tracking is."""
    try:
        return sysctl.read(_LIBERAL) != "0"
    except FileNotFoundError:
        return False


def _step(kind: str, node: Node, name: str, why: str, call: Callable[..., None]) -> Step:
    argv = ("ip", "netns", "exec", node.netns, "nfacct", kind.partition(".")[2], name)
    args = {"where": node.netns, "name": name}
    return Step(kind, f"{name} on node {node.proxy.name}", argv, why, call, args)


def _add(where: str, name: str) -> None:
    with netns.entered(where), nfacct.Accounting() as accounting:
        accounting.add(name)


def _delete(where: str, name: str) -> None:
    with netns.entered(where), nfacct.Accounting() as accounting:
        accounting.delete(name)
