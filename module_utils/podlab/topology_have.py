"""What a topology is: the kernel's state by names instead of numbers, and how deleting changes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

# The group (ip link show group N) that a link in the machine's namespace is made with: "podl" in ASCII. A link is
# marked by it from its first moment, the altname comes a moment later.
GROUP = 0x706F646C


class Device(NamedTuple):
    """One network device."""

    kind: str
    up: bool = False
    mtu: int = 0
    address: str = ""
    master: str = ""
    altnames: tuple[str, ...] = ()
    group: int = 0
    addrgenmode: str | None = None
    data: Mapping[str, Any] = {}
    port: Mapping[str, Any] = {}
    peer: tuple[str, str] | None = None  # (netns, name) of a veth's other end, when it is in a known namespace


class Route(NamedTuple):
    """One route of the main table."""

    dst: str
    via: str = ""
    dev: str = ""
    scope: str = "global"
    src: str = ""
    onlink: bool = False
    metric: int = 0
    type: str = "unicast"


class Space(NamedTuple):
    """One network namespace; its dictionaries belong to whoever made it."""

    exists: bool
    stale: bool  # a plain file lies where the namespace should be pinned
    links: dict[str, Device]
    addresses: dict[tuple[str, str], tuple[str, bool]]  # (dev, "10.0.0.1/24") -> scope, noprefixroute
    routes: list[Route]
    neighbours: dict[tuple[str, str], str]  # (dev, ip) -> link-layer address
    fdb: set[tuple[str, str, str]]  # dev, link-layer address, remote ip or ""
    sysctls: dict[str, str]

    @property
    def state(self) -> str:
        """present, stale or absent."""
        return "present" if self.exists else "stale" if self.stale else "absent"

    def copy(self) -> Space:
        """One whose dictionaries may be changed."""
        return Space(
            self.exists,
            self.stale,
            dict(self.links),
            dict(self.addresses),
            list(self.routes),
            dict(self.neighbours),
            set(self.fdb),
            dict(self.sysctls),
        )


Have = dict[str, Space]  # by name, "" is the machine's own


def missing(stale: bool = False) -> Space:
    """A namespace that is not there."""
    return Space(False, stale, {}, {}, [], {}, set(), {})


def fresh() -> Space:
    """A namespace as the kernel makes it: a loopback device that is down. Its settings are unknown."""
    return missing()._replace(exists=True, links={"lo": Device("loopback")})


def forget_link(have: Have, netns: str, name: str) -> None:
    """Take a device out with all that hangs on it, and the other end of a veth pair with it."""
    space = have.get(netns)
    device = space.links.pop(name, None) if space else None
    if space is None or device is None:
        return
    forget_neighbours(space, name)
    for key in [key for key in space.addresses if key[0] == name]:
        del space.addresses[key]
    for setting in [setting for setting in space.sysctls if _is_about(setting, name)]:
        del space.sysctls[setting]
    space.routes[:] = [route for route in space.routes if route.dev != name]
    space.fdb.difference_update([entry for entry in space.fdb if entry[0] == name])
    for other, its in list(space.links.items()):
        if its.master == name:
            space.links[other] = its._replace(master="", port={})
        elif its.data.get("dev") == name:  # a VXLAN goes with the device below it
            forget_link(have, netns, other)
    if device.peer:
        forget_link(have, *device.peer)


def forget_neighbours(space: Space, name: str) -> None:
    """Take out a device's neighbours: they go with its link-layer address, and when it goes down."""
    for key in [key for key in space.neighbours if key[0] == name]:
        del space.neighbours[key]


def forget_port(space: Space, name: str) -> None:
    """Take out what a bridge knows about a port that leaves it."""
    space.fdb.difference_update([entry for entry in space.fdb if entry[0] == name and not entry[2]])


def _is_about(setting: str, name: str) -> bool:
    """Whether a setting is one of the device, as net.ipv4.conf.eth0.proxy_arp is of eth0."""
    return name in [part.replace("/", ".") for part in setting.split(".")[3:]]


def forget_space(have: Have, netns: str) -> None:
    """Take a namespace out, and of each veth pair that leads into it the other end."""
    for name, device in list(have[netns].links.items()):
        if device.peer and device.peer[0] != netns:
            forget_link(have, *device.peer)
        have[netns].links.pop(name, None)
    have[netns] = missing()
