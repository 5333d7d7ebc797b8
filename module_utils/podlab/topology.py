"""podlab_topology's work: from its options to what has to be done, and to what is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import refuse
from .step import Item
from .topology_check import problems
from .topology_have import Have
from .topology_kernel import Session
from .topology_plan import plan
from .topology_want import End, read


class Topology:
    """One topology as podlab_topology's options say it, seen through an open Session."""

    def __init__(self, params: Mapping[str, Any], session: Session) -> None:
        self._want, self._wrong = read(params)
        self._session = session

    def items(self) -> list[Item]:
        """What has to be done, in order. Raises PodlabError with every problem of the input, before any change."""
        have = self._session.observe(self._want)
        places = {problem.place for problem in self._wrong}
        whole = [problem for problem in problems(self._want, have) if problem.place not in places]
        refuse([*self._wrong, *whole], "The topology is not valid")
        return [Item(*change) for change in plan(self._want, have, self._session)]

    def state(self) -> dict[str, Any]:
        """What is there now of the namespaces and links that the options name."""
        have = self._session.observe(self._want)
        return {
            "namespaces": [space.name for space in self._want.spaces if have[space.name].exists],
            "links": [shown for end in self._want.ends() for shown in _shown(end, have)],
        }


def _shown(end: End, have: Have) -> list[dict[str, Any]]:
    device = have[end.netns].links.get(end.name)
    if device is None:
        return []
    return [
        {
            "netns": end.netns or None,
            "name": end.name,
            "kind": device.kind,
            "up": device.up,
            "mtu": device.mtu,
            "address": device.address,
            "master": device.master or None,
            "altnames": list(device.altnames),
            "addresses": sorted(address for dev, address in have[end.netns].addresses if dev == end.name),
        }
    ]
