"""What the parts of a topology's plan share: calls to the kernel, and the steps that come up everywhere. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple, Protocol

from . import topology_argv as argv
from .step import Step
from .topology_have import Space, forget_neighbours

ABSENT: Mapping[str, Any] = {"state": "absent"}


class Kernel(Protocol):
    """What can be done to the kernel; every call says the namespace first ("" is the machine's own)."""

    def netns_add(self, name: str) -> None: ...
    def netns_delete(self, name: str) -> None: ...
    def link_add(
        self,
        netns: str,
        name: str,
        kind: str,
        data: Mapping[str, Any],
        peer: Mapping[str, Any] | None = None,
        **common: Any,
    ) -> None: ...
    def link_delete(self, netns: str, name: str) -> None: ...
    def link_set(self, netns: str, name: str, **changes: Any) -> None: ...
    def altname_add(self, netns: str, name: str, altname: str) -> None: ...
    def address_set(self, netns: str, dev: str, address: str, **options: Any) -> None: ...
    def address_delete(self, netns: str, dev: str, address: str) -> None: ...
    def route_set(self, netns: str, **route: Any) -> None: ...
    def route_delete(self, netns: str, **route: Any) -> None: ...
    def neighbour_set(self, netns: str, dev: str, dst: str, address: str) -> None: ...
    def neighbour_delete(self, netns: str, dev: str, dst: str) -> None: ...
    def fdb_add(self, netns: str, dev: str, address: str, dst: str) -> None: ...
    def fdb_delete(self, netns: str, dev: str, address: str, dst: str) -> None: ...
    def sysctl_set(self, netns: str, name: str, value: str) -> None: ...


class Change(NamedTuple):
    """The plan for one object: its name, the steps, what is managed of it before and after."""

    name: str
    steps: Sequence[Step]
    before: Mapping[str, Any]
    after: Mapping[str, Any]


def place(netns: str) -> str:
    """Where something is, for a person."""
    return f"in netns {netns}" if netns else "in the machine's namespace"


def target(netns: str, name: str) -> str:
    """A device and where it is."""
    return f"{name} {place(netns)}"


def differing(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """What of wanted is otherwise there."""
    return {key: value for key, value in wanted.items() if there.get(key) != value}


def why_of(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """ "mtu 1500 -> 1450, master none -> br0" """
    return ", ".join(f"{key} {_shown(there.get(key))} -> {_shown(value)}" for key, value in wanted.items())


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value == "":
        return "none"
    return str(value) if value else "unset"


def netns_steps(
    name: str, exists: bool, stale: bool, add: Callable[..., Any], delete: Callable[..., Any]
) -> list[Step]:
    """Make a namespace unless it is there; a plain file in its place goes first."""
    if exists:
        return []
    who, args = f"netns {name}", {"name": name}
    steps = netns_away_steps(name, False, stale, delete)
    steps.append(Step("netns.add", who, argv.ip("", "netns", "add", name), "missing", add, args))
    return steps


def netns_away_steps(name: str, exists: bool, stale: bool, delete: Callable[..., Any]) -> list[Step]:
    """Remove a namespace, or the plain file that lies in its place."""
    who, args = f"netns {name}", {"name": name}
    if exists:
        return [Step("netns.delete", who, argv.ip("", "netns", "delete", name), "not wanted", delete, args)]
    why = "a plain file is in the place of the namespace"
    return [Step("netns.repair", who, ("rm", "-f", f"/run/netns/{name}"), why, delete, args)] if stale else []


def sysctl_step(netns: str, name: str, old: str | None, value: str, kernel: Kernel) -> Step:
    """Set one kernel setting."""
    why = f"{'unknown' if old is None else old} -> {value}"
    args = {"netns": netns, "name": name, "value": value}
    return Step("sysctl.set", target(netns, name), argv.sysctl(netns, name, value), why, kernel.sysctl_set, args)


def up_step(space: Space, netns: str, name: str, up: bool, kernel: Kernel) -> Step:
    """Bring a device up or down. Down takes its routes, neighbours and IPv6 addresses along."""
    word = "up" if up else "down"
    if not up:
        forget_neighbours(space, name)
        space.routes[:] = [route for route in space.routes if route.dev != name]
        for key in [key for key in space.addresses if key[0] == name and ":" in key[1]]:
            del space.addresses[key]
    words = argv.ip(netns, "link", "set", "dev", name, word)
    args = {"netns": netns, "name": name, "up": up}
    why = f"is {'down' if up else 'up'}"
    return Step(f"link.{word}", target(netns, name), words, why, kernel.link_set, args)
