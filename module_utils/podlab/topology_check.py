"""What is wrong with a topology as a whole, by itself and against what is there. Pure."""

from __future__ import annotations

import collections
import ipaddress
from collections.abc import Hashable, Iterable, Iterator

from .errors import Problem
from .topology_have import GROUP, Device, Have
from .topology_values import MARK
from .topology_want import MACHINE, ROWS, Row, Want


def problems(want: Want, have: Have) -> list[Problem]:
    """Every problem of the whole, in the order of the options."""
    checks = (_duplicates, _namespaces, _devices, _masters, _foreign_links, _foreign_routes, _overlaps)
    return [problem for check in checks for problem in check(want, have)]


def ours(device: Device, altname: str | None) -> bool:
    """Whether a link in the machine's namespace is ours: it has our altname, or was about to get it."""
    return altname in device.altnames or (device.group == GROUP and not device.altnames)


def _twice(named: Iterable[tuple[Hashable, str, str]]) -> Iterator[Problem]:
    """A problem for each (key, place, what) whose key came before."""
    seen: dict[Hashable, str] = {}
    for key, place, what in named:
        if key in seen:
            yield Problem(place, f"{what} is in {seen[key]} already")
        seen.setdefault(key, place)


def _duplicates(want: Want, _have: Have) -> Iterator[Problem]:
    yield from _twice((space.name, f"{space.place}.name", repr(space.name)) for space in want.spaces)
    ends = list(want.ends())
    yield from _twice(((end.netns, end.name), f"{end.place}.name", f"{end.name!r} {_where(end.netns)}") for end in ends)
    marked = [end for end in ends if end.altname]
    yield from _twice(
        ((end.netns, end.altname), f"{end.place}.altname", f"{end.altname!r} {_where(end.netns)}") for end in marked
    )
    for option, (key, _) in ROWS.items():
        rows: Iterable[Row] = getattr(want, option)
        yield from _twice(
            ((row.netns, *(row.fields.get(name) for name in key)), row.place, "the same " + "+".join(key))
            for row in rows
        )
    for end in ends:
        listed = collections.Counter(end.addresses or ())
        for address in [address for address, times in listed.items() if times > 1]:
            yield Problem(f"{end.place}.addresses", f"{address} is there twice")


def _namespaces(want: Want, have: Have) -> Iterator[Problem]:
    """Every namespace used must be wanted, or be there and stay."""
    wanted = {space.name: space.absent for space in want.spaces}
    present = [(end.place, end.netns) for link in want.links if not link.absent for end in link.ends]
    present += [(row.place, row.netns) for row in want.rows() if not row.absent]
    for place, netns in present:
        if netns == MACHINE or wanted.get(netns) is False:
            continue
        if netns in wanted:
            yield Problem(f"{place}.netns", f"{netns!r} is to be removed", f"Set state of {place} to absent as well.")
        elif netns not in have or not have[netns].exists:
            remedy = "List it under namespaces or create it with podlab_netns."
            yield Problem(f"{place}.netns", f"there is no network namespace {netns!r}", remedy)


def _devices(want: Want, have: Have) -> Iterator[Problem]:
    """Every device named must be wanted or be there; in the machine's namespace only ours may be changed."""
    wanted = {(end.netns, end.name) for link in want.links if not link.absent for end in link.ends}
    named = [(row.place, row.netns, row.fields.get("dev"), row) for row in want.rows() if not row.absent]
    present = [link.ends[0] for link in want.links if not link.absent]
    below = [(f"{end.place}.vxlan", end.netns, end.data.get("dev"), None) for end in present]
    for place, netns, dev, row in [*named, *below]:
        if dev is None or (netns, dev) in wanted:
            continue
        device = have[netns].links.get(dev) if netns in have else None
        if device is None and dev != "lo":
            yield Problem(f"{place}.dev", f"there is no link {dev!r} {_where(netns)}", "List it under links.")
        elif row is not None and netns == MACHINE and not (device and _marked(device)):
            yield Problem(f"{place}.dev", f"{dev!r} is a link of the machine, not one of podlab's: it is left alone")


def _masters(want: Want, have: Have) -> Iterator[Problem]:
    kinds = {(end.netns, end.name): end.kind for link in want.links if not link.absent for end in link.ends}
    for link in want.links:
        for end in link.ends:
            master = end.props.get("master")
            if link.absent or not master:
                continue
            found = have[end.netns].links.get(master) if end.netns in have else None
            kind = kinds.get((end.netns, master), found.kind if found else None)
            if kind is None:
                remedy = "List it under links with kind bridge."
                yield Problem(f"{end.place}.master", f"there is no link {master!r} {_where(end.netns)}", remedy)
            elif kind != "bridge":
                yield Problem(f"{end.place}.master", f"must be a bridge, and {master!r} is a {kind or 'device'}")
    for end in want.ends():
        if end.port and end.props.get("master") == "":
            yield Problem(f"{end.place}.port", "is for a link with a master")


def _foreign_links(want: Want, have: Have) -> Iterator[Problem]:
    """A link of that name in the machine's namespace that does not carry our mark."""
    for end in want.ends():
        device = have[MACHINE].links.get(end.name) if end.netns == MACHINE and MACHINE in have else None
        if device and not ours(device, end.altname):
            names = f" (also called {', '.join(device.altnames)})" if device.altnames else ""
            remedy = "Rename or remove it, or choose another name."
            what = f"the machine has a {device.kind or 'physical'} link {end.name!r}{names} that is not ours"
            yield Problem(f"{end.place}.name", what, remedy)


def _foreign_routes(want: Want, have: Have) -> Iterator[Problem]:
    """A route of the machine to the same destination through a device that is not ours."""
    if MACHINE not in have:
        return
    mine = _machine_links(want, have)
    for row in want.routes:
        if row.netns != MACHINE or row.absent:
            continue
        dev = row.fields.get("dev")
        if dev not in mine:
            yield Problem(f"{row.place}.dev", f"must be one of podlab's links in the machine's namespace, not {dev!r}")
        for route in have[MACHINE].routes:
            if route.dst == row.fields.get("dst") and route.dev not in mine and row.fields.get("metric") is None:
                remedy = "Choose another network."
                yield Problem(f"{row.place}.dst", f"the machine reaches {route.dst} through {route.dev!r}", remedy)


def _overlaps(want: Want, have: Have) -> Iterator[Problem]:
    """A network that the machine reaches otherwise must not be taken over by one of our addresses."""
    if MACHINE not in have:
        return
    mine = _machine_links(want, have)
    taken = [
        (ipaddress.ip_network(route.dst), route)
        for route in have[MACHINE].routes
        if route.dev not in mine and route.type == "unicast" and not route.dst.endswith("/0")
    ]
    listed = [
        (f"{end.place}.addresses", address)
        for link in want.links
        if not link.absent
        for end in link.ends
        if end.netns == MACHINE
        for address in end.addresses or ()
    ]
    listed += [
        (f"{row.place}.address", row.fields["address"])
        for row in want.addresses
        if row.netns == MACHINE and not row.absent and "address" in row.fields
    ]
    for place, address in listed:
        network = ipaddress.ip_interface(address).network
        if network.is_link_local:
            continue
        for other, route in taken:
            if other.version == network.version and other.overlaps(network):
                who = f"route {route.dst} via {route.via}" if route.via else f"route {route.dst}"
                what = f"{network} overlaps with the machine's {who} dev {route.dev}"
                yield Problem(place, what, "Choose another network.")


def _machine_links(want: Want, have: Have) -> set[str]:
    """Names of the links in the machine's namespace that are ours or will be."""
    wanted = {end.name for end in want.ends() if end.netns == MACHINE}
    return wanted | {name for name, device in have[MACHINE].links.items() if _marked(device)}


def _marked(device: Device) -> bool:
    return any(name.startswith(MARK) for name in device.altnames)


def _where(netns: str) -> str:
    return f"in netns {netns!r}" if netns else "in the machine's namespace"
