"""podlab_netns's work: which namespaces have to be made or removed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import Problem, refuse
from .linux import netns
from .step import Item
from .topology_step import netns_away_steps, netns_steps
from .topology_values import netns_name


class Namespaces:
    """The entries of podlab_netns's option namespaces: name and state."""

    def __init__(self, entries: Sequence[Mapping[str, Any]]) -> None:
        self._entries = entries

    def items(self) -> list[Item]:
        """What has to be done. Raises PodlabError with every problem of the input."""
        refuse(problems([entry["name"] for entry in self._entries]), "The list of namespaces is not valid")
        return [item(entry["name"], entry["state"], there(entry["name"])) for entry in self._entries]

    def state(self) -> list[dict[str, Any]]:
        """The namespaces as they are."""
        return [
            {"name": entry["name"], "state": there(entry["name"]), "inode": netns.inode(entry["name"])}
            for entry in self._entries
        ]


def there(name: str) -> str:
    """present, absent, or stale: a plain file lies in the namespace's place."""
    if netns.exists(name):
        return "present"
    return "stale" if os.path.lexists(netns.path(name)) else "absent"


def problems(names: Sequence[str]) -> list[Problem]:
    """Names that are none, and those that come twice."""
    found = []
    for number, name in enumerate(names):
        place = f"namespaces[{number}].name"
        try:
            netns_name(name)
        except ValueError as error:
            found.append(Problem(place, str(error)))
        if name in names[:number]:
            found.append(Problem(place, f"{name!r} is in namespaces[{names.index(name)}] already"))
    return found


def item(name: str, wanted: str, have: str) -> Item:
    """The plan for one namespace that is `have` (present, stale, absent) and wanted present or absent."""
    exists, stale = have == "present", have == "stale"
    if wanted == "present":
        steps = netns_steps(name, exists, stale, netns.create, netns.delete)
    else:
        steps = netns_away_steps(name, exists, stale, netns.delete)
    return Item(f"netns {name}", steps, {"state": have}, {"state": wanted})
