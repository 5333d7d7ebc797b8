"""kube-proxy's nftables mode on the nodes of this machine: observe, plan. The one table of its name, no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Callable

from .kube import nft_sync
from .kube.nft import for_node, ruleset
from .kube.nft_list import parse
from .kube.nft_model import FAMILIES, TABLE, Ruleset
from .kube.proxy_sync import same_on_every_node
from .linux import nft
from .service_request import Node, Request
from .step import Item, Step

LOAD = "nft.load"
DELETE = "nft.delete"
_ENTRANCE = ("ip", "netns", "exec")


class NftRules:
    """Observes and plans for one module call. What is wanted does not change in it, so it is worked out once."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._wanted: dict[str, Ruleset] = {}

    def observe(self, nodes: Sequence[Node]) -> dict[str, Ruleset]:
        """Node name -> its table; nodes without one are left out.

        Raises PodlabError when nft is needed (in this mode, or to remove a table of it) and not installed.
        """
        request = self.request
        family = FAMILIES[request.options.family]
        there = [node for node in nodes if nft.has_table(node.netns, family, TABLE)]
        if there or (request.present and request.mode == "nftables"):
            nft.require()
        texts = nft.listings(family, TABLE, [node.netns for node in there])
        tables = {node.proxy.name: parse(texts[node.netns], request.options.family) for node in there}
        return {name: table for name, table in tables.items() if table is not None}

    def item(self, node: Node, have: Mapping[str, Ruleset]) -> Item:
        """What makes the node's table as wanted: one transaction, and one more for chains that nothing needs."""
        name = node.proxy.name
        want, present = self._rules(node), have.get(name)
        difference = nft_sync.compare(want, present)
        text, deletion = nft_sync.sync_text(want, present, difference), nft_sync.deletion_text(want, difference)
        steps = [_step(LOAD, nft.load, node, text, difference.why())] if difference.why() and text else []
        if deletion:
            steps.append(_step(DELETE, nft.delete, node, deletion, f"{len(difference.stale)} chain(s) stale"))
        return Item(name, steps, *nft_sync.before_after(want, present, difference))

    def removal(self, node: Node, have: Mapping[str, Ruleset], why: str) -> Item:
        """What takes the node's table away."""
        name = node.proxy.name
        present = have.get(name)
        if present is None:
            return Item(name, [], {}, {})
        steps = [_step(DELETE, nft.delete, node, f"delete table {present.table}\n", why)]
        return Item(name, steps, nft_sync.shown(present), {})

    def _rules(self, node: Node) -> Ruleset:
        request, options = self.request, self.request.options
        # NodePorts answer on addresses of the node, so these elements always differ.
        same = same_on_every_node(request.services, request.slices, options._replace(nodeport_addresses=()))
        key = "" if same else node.proxy.name
        if key not in self._wanted:
            self._wanted[key] = ruleset(request.services, request.slices, node.proxy, options)
        return for_node(self._wanted[key], node.proxy, options)


def _step(kind: str, call: Callable[..., None], node: Node, text: str, why: str) -> Step:
    return Step(
        kind=kind,
        target=f"node {node.proxy.name}",
        argv=(*_ENTRANCE, node.netns, *nft.LOAD),
        why=why,
        call=call,
        args={"texts": {node.netns: text}},
    )
