"""The way from the topology that is to the one that is wanted, as steps. Pure.

Order: what goes (entries, links, namespaces), then namespaces with their settings, links (bridges first) with their
addresses, settings of devices, further addresses, routes, neighbours, forwarding entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from . import topology_argv as argv
from .step import Step
from .topology_have import GROUP, Device, Have, forget_link, forget_neighbours, forget_port, forget_space, fresh
from .topology_rows import OPTIONS, address_steps, plan_row, rows_away
from .topology_step import (
    ABSENT,
    Change,
    Kernel,
    differing,
    netns_away_steps,
    netns_steps,
    place,
    sysctl_step,
    target,
    up_step,
    why_of,
)
from .topology_want import MACHINE, End, Link, Row, Space, Want

KIND_ORDER = ("bridge", "dummy", "veth", "vxlan")


def plan(want: Want, have: Have, kernel: Kernel) -> list[Change]:
    """The changes in order; those of objects that are as wanted have no steps. have is left as it is."""
    return list(Planner(want, have, kernel).changes())


class Planner:
    """One plan in the making: `now` is what will be there when the steps so far are done."""

    def __init__(self, want: Want, have: Have, kernel: Kernel) -> None:
        self.want = want
        self.kernel = kernel
        self.now: Have = {name: space.copy() for name, space in have.items()}
        self.doomed = {space.name for space in want.spaces if space.absent}

    def changes(self) -> Iterator[Change]:
        """Every object's change, in the order in which they must be made."""
        for option in reversed(OPTIONS):
            for row in rows_away(option, getattr(self.want, option), self.now):
                yield self._row(option, row)
        links = sorted(self.want.links, key=lambda link: KIND_ORDER.index(link.ends[0].kind))
        for link in reversed(links):
            if link.absent:
                yield self._link_away(link)
        for space in self.want.spaces:
            if space.absent:
                yield self._space_away(space)
        for space in self.want.spaces:
            if not space.absent:
                yield self._space(space)
        for link in links:
            if not link.absent:
                yield self._link(link)
        for option in OPTIONS:
            for row in getattr(self.want, option):
                if not row.absent:
                    yield self._row(option, row)

    # --- rows ---

    def _row(self, option: str, row: Row) -> Change:
        space = self.now.get(row.netns)
        if space is None or row.netns in self.doomed:
            return Change(f"{option} {place(row.netns)}", [], ABSENT, ABSENT)
        return plan_row(option, row, space, self.kernel)

    # --- namespaces ---

    def _space_away(self, space: Space) -> Change:
        name, there = space.name, self.now[space.name]
        steps = netns_away_steps(name, there.exists, there.stale, self.kernel.netns_delete)
        forget_space(self.now, name)
        return Change(f"netns {name}", steps, {"state": there.state}, ABSENT)

    def _space(self, space: Space) -> Change:
        name, there = space.name, self.now[space.name]
        before: dict[str, Any] = {"state": there.state}
        after: dict[str, Any] = {"state": "present"}
        steps = netns_steps(name, there.exists, there.stale, self.kernel.netns_add, self.kernel.netns_delete)
        if steps:
            self.now[name] = fresh()
        known = self.now[name].sysctls
        for setting, value in space.sysctls.items():
            before[setting], after[setting] = known.get(setting), value
            if known.get(setting) != value:
                steps.append(sysctl_step(name, setting, known.get(setting), value, self.kernel))
        if space.loopback is not None:
            up = self.now[name].links["lo"].up
            before["loopback"], after["loopback"] = up, space.loopback
            if up != space.loopback:
                steps.append(up_step(self.now[name], name, "lo", space.loopback, self.kernel))
        return Change(f"netns {name}", steps, before, after)

    # --- links ---

    def _link_away(self, link: Link) -> Change:
        name = link_name(link)
        for end in link.ends:
            if end.netns in self.doomed or not self._device(end):
                continue
            steps = [self._delete(end, "not wanted")]
            return Change(name, steps, {"state": "present"}, ABSENT)
        return Change(name, [], ABSENT, ABSENT)

    def _link(self, link: Link) -> Change:
        steps: list[Step] = []
        before: dict[str, Any] = {}
        wrong = self._wrong(link)
        if wrong or not all(self._device(end) for end in link.ends):
            for end in link.ends:
                device = self._device(end)
                if device:
                    before[end.name] = {"kind": device.kind, "data": dict(device.data)}
                    steps.append(self._delete(end, wrong or "its peer is missing"))
            steps.append(self._add(link, wrong or "missing"))
        after: dict[str, Any] = {}
        for end in link.ends:
            end_before, end_after = self._managed(end)
            after[end.name] = {"kind": end.kind, **end_after}
            if not steps:
                before[end.name] = {"kind": end.kind, **end_before}
        for end in link.ends:
            steps += self._end_steps(end)
        return Change(link_name(link), steps, before or ABSENT, after)

    def _wrong(self, link: Link) -> str:
        """Why the link that is there cannot become the one that is wanted; empty when it can or is missing."""
        for end in link.ends:
            device = self._device(end)
            if device and device.kind != end.kind:
                return f"kind {device.kind or 'physical'} -> {end.kind}"
            if device and end.kind == "vxlan":
                for option, value in end.data.items():
                    if device.data.get(option) != value:
                        return f"vxlan {option} {device.data.get(option)} -> {value}"
        if len(link.ends) == 2:
            here, there = link.ends
            device, other = self._device(here), self._device(there)
            if device and other and device.peer != (there.netns, there.name):
                return f"peer -> {there.name} {place(there.netns)}"
        return ""

    def _add(self, link: Link, why: str) -> Step:
        end = link.ends[0]
        options: dict[str, Any] = {"data": dict(end.data)}
        words = [*("link", "add", end.name), *self._birth(end, options)]
        words += argv.kind_words(end.kind, end.data)
        if len(link.ends) == 2:
            peer = link.ends[1]
            others: dict[str, Any] = {"netns": peer.netns, "name": peer.name}
            words += ["peer", "name", peer.name, *self._birth(peer, others)]
            if peer.netns != end.netns:
                words += ["netns", peer.netns]
            options["peer"] = others
        for one, other in zip(link.ends, reversed(link.ends)):
            peer_key = (other.netns, other.name) if other is not one else None
            self.now[one.netns].links[one.name] = Device(
                kind=one.kind,
                mtu=0 if one.kind == "bridge" else one.props.get("mtu", 0),
                address=one.props.get("address", ""),
                group=GROUP if one.netns == MACHINE else 0,
                data=one.data,
                peer=peer_key,
            )
        args = {"netns": end.netns, "name": end.name, "kind": end.kind, **options}
        return Step(
            "link.add", target(end.netns, end.name), argv.ip(end.netns, *words), why, self.kernel.link_add, args
        )

    def _birth(self, end: End, options: dict[str, Any]) -> Sequence[str]:
        """Words and options that a link can be made with. A bridge keeps only an mtu that is set afterwards."""
        born = {key: end.props[key] for key in ("mtu", "address") if key in end.props}
        if end.kind == "bridge":
            born.pop("mtu", None)
        if end.netns == MACHINE:
            born["group"] = GROUP
        options.update(born)
        return argv.link_words(born)

    def _delete(self, end: End, why: str) -> Step:
        forget_link(self.now, end.netns, end.name)
        words = argv.ip(end.netns, "link", "delete", end.name)
        args = {"netns": end.netns, "name": end.name}
        return Step("link.delete", target(end.netns, end.name), words, why, self.kernel.link_delete, args)

    def _end_steps(self, end: End) -> Iterator[Step]:
        """Altname, properties, options, port options, up, addresses of one device."""
        device = self.now[end.netns].links[end.name]
        args = {"netns": end.netns, "name": end.name}
        who = target(end.netns, end.name)
        if end.altname and end.altname not in device.altnames:
            words = argv.ip(end.netns, "link", "property", "add", "dev", end.name, "altname", end.altname)
            call = self.kernel.altname_add
            yield Step("link.altname", who, words, "missing", call, {**args, "altname": end.altname})
        props = differing(end.props, _props(device))
        if "address" in props:
            forget_neighbours(self.now[end.netns], end.name)
        if "master" in props:
            forget_port(self.now[end.netns], end.name)
        if props:
            words = argv.ip(end.netns, "link", "set", "dev", end.name, *argv.link_words(props))
            yield Step("link.set", who, words, why_of(props, _props(device)), self.kernel.link_set, {**args, **props})
        data = differing(end.data, device.data)
        if data:
            words = argv.ip(end.netns, "link", "set", "dev", end.name, *argv.kind_words(end.kind, data))
            changes = {**args, "kind": end.kind, "options": data}
            yield Step("link.set", who, words, why_of(data, device.data), self.kernel.link_set, changes)
        port = differing(end.port, {} if "master" in props else device.port)
        if port:
            words = argv.bridge(end.netns, "link", "set", "dev", end.name, *argv.port_words(port))
            yield Step("port.set", who, words, why_of(port, device.port), self.kernel.link_set, {**args, "port": port})
        if end.up is not None and end.up != device.up:
            yield up_step(self.now[end.netns], end.netns, end.name, end.up, self.kernel)
        if end.addresses is not None:
            yield from self._address_steps(end)

    def _address_steps(self, end: End) -> Iterator[Step]:
        """The link's addresses become those listed: with it, in the topology's addresses, or by the kernel itself."""
        rows = [row for row in self.want.addresses if row.netns == end.netns and row.fields.get("dev") == end.name]
        keep = {row.fields["address"] for row in rows if not row.absent}
        yield from address_steps(self.now[end.netns], end.netns, end.name, end.addresses or (), keep, self.kernel)

    def _managed(self, end: End) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the user set of a device: as it is, as it is wanted."""
        device = self.now[end.netns].links[end.name]
        have = {**_props(device), **device.data}
        after: dict[str, Any] = {**end.props, **end.data}
        before = {key: have.get(key) for key in after}
        if end.port:
            before["port"], after["port"] = {key: device.port.get(key) for key in end.port}, dict(end.port)
        if end.up is not None:
            before["up"], after["up"] = device.up, end.up
        if end.altname:
            before["altname"] = end.altname if end.altname in device.altnames else None
            after["altname"] = end.altname
        if end.addresses is not None:
            there = self.now[end.netns].addresses
            before["addresses"] = sorted(address for dev, address in there if dev == end.name)
            after["addresses"] = sorted(end.addresses)
        return before, after

    def _device(self, end: End) -> Device | None:
        space = self.now.get(end.netns)
        return space.links.get(end.name) if space else None


def link_name(link: Link) -> str:
    """How a link is called in results: its devices with their namespaces."""
    return "link " + " - ".join(f"{end.netns or 'machine'}/{end.name}" for end in link.ends)


def _props(device: Device) -> dict[str, Any]:
    """A device's properties under the names of End.props."""
    return {
        "mtu": device.mtu,
        "address": device.address,
        "master": device.master,
        "addrgenmode": device.addrgenmode,
    }
