"""Tracked UDP connections to endpoints that are gone, forgotten after the rules have changed."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

from .kube.proxy_conntrack import Flow, Serving, astray, combined, target, udp_serving
from .linux import netns
from .linux.conntrack import Conntrack, Entry
from .linux.netlink import Netlink
from .service_request import Node, Request
from .step import Item, Step

DELETE = "conntrack.delete"


class Clearing:
    """The entries to forget in one module call.

    looked_at: the nodes whose entries were read; only when something about UDP has changed.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self.looked_at: list[Node] = []
        self._serving: Serving = {}

    def added(self, items: Sequence[Item], have: Any, want: Any) -> list[Item]:
        """The plans of the nodes, in their order, with a step per entry that leads astray.

        have, want: Services and EndpointSlices as programmed before (None when nothing was) and as they will be.
        """
        self.looked_at = []
        if not items or not self._request.present:
            return list(items)
        before, after = self._udp(have), self._udp(want)
        self._serving = combined(before, after)
        known = have == want
        found = []
        for node, item in zip(self._request.nodes, items):
            # Rules that are made anew though nothing is new were lost: packets have gone past them.
            due = before != after or (known and bool(item.steps) and bool(after))
            if due and netns.exists(node.netns):
                self.looked_at.append(node)
                item = item._replace(steps=[*item.steps, *_steps(node, self._serving)])
            found.append(item)
        return found

    def sweep(self) -> None:
        """Forget what began to lead astray while the rules were being changed."""
        nodes, self.looked_at = self.looked_at, []
        for node in nodes:
            for step in _steps(node, self._serving):
                _delete(**step.args)

    def _udp(self, state: Any) -> Serving:
        if not state:
            return {}
        return udp_serving(state["services"], state["endpointslices"], self._request.options.family)


def _steps(node: Node, serving: Serving) -> list[Step]:
    """A step per entry of a node that leads astray."""
    with netns.entered(node.netns):
        with Netlink() as link:
            own = {address.address.partition("/")[0] for address in link.addresses()}
        with Conntrack() as tracking:
            entries = tracking.entries()
    found = []
    for entry in entries:
        if entry.orig.protocol == "udp":
            answering = target(entry.reply.source, entry.reply.source_port)
            why = astray(Flow(entry.orig.destination, entry.orig.destination_port, answering), serving, own)
            if why:
                argv = ("ip", "netns", "exec", node.netns, *entry.delete_argv())
                args = {"where": node.netns, "entry": entry}
                found.append(Step(DELETE, f"node {node.proxy.name}", argv, why, _delete, args))
    return found


def _delete(where: str, entry: Entry) -> None:
    """Forget an entry; it may have ended meanwhile."""
    with netns.entered(where), Conntrack() as tracking:
        try:
            tracking.delete(entry)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
