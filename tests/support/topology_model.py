"""A kernel in a few dictionaries: does what the steps of a topology say, as the real one would."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from podlab.step import Step, apply
from podlab.topology_check import problems
from podlab.topology_have import Device, Have, Route, Space, forget_link, forget_space, fresh, missing
from podlab.topology_plan import Change, plan
from podlab.topology_want import MACHINE, Want, read

BRIDGE = {
    "stp": False,
    "vlan_filtering": False,
    "mcast_snooping": True,
    "ageing_time": 30000,
    "group_fwd_mask": 0,
    "nf_call_iptables": False,
    "nf_call_ip6tables": False,
    "nf_call_arptables": False,
}
VXLAN = {"id": 0, "dstport": 8472, "learning": True, "ttl": 0}
PORT = {"hairpin": False, "learning": True, "flood": True, "neigh_suppress": False, "isolated": False}
DEFAULTS: Mapping[str, Mapping[str, Any]] = {"bridge": BRIDGE, "vxlan": VXLAN}


def machine(links: Mapping[str, Device] | None = None, routes: tuple[Route, ...] = ()) -> Have:
    """A machine with a loopback device, and what else is given, in its own namespace."""
    space = fresh()
    space.links.update(links or {})
    space.routes.extend(routes)
    return {MACHINE: space}


class Model:
    """The calls of topology_step.Kernel on `have`."""

    def __init__(self, have: Have | None = None) -> None:
        self.have: Have = have if have is not None else machine()

    def see(self, want: Want) -> Have:
        """What an observation for want would find."""
        return {name: self.have.setdefault(name, missing()) for name in want.namespaces()}

    def plan(self, **params: Any) -> list[Change]:
        """Read options, check them, plan."""
        want, wrong = read(params)
        assert [*wrong, *problems(want, self.see(want))] == []
        return plan(want, self.see(want), self)

    def reach(self, **params: Any) -> list[Step]:
        """Plan and apply; the steps that were made. A second plan must find nothing to do."""
        steps = steps_of(self.plan(**params))
        apply(steps)
        again = steps_of(self.plan(**params))
        assert [step.typed() for step in again] == []
        return steps

    def netns_add(self, name: str) -> None:
        assert self.have[name].state == "absent", f"{name} exists"
        self.have[name] = fresh()

    def netns_delete(self, name: str) -> None:
        forget_space(self.have, name)

    def link_add(
        self,
        netns: str,
        name: str,
        kind: str,
        data: Mapping[str, Any],
        peer: Mapping[str, Any] | None = None,
        **common: Any,
    ) -> None:
        options = {**DEFAULTS.get(kind, {}), **data}
        self._new(netns, name, Device(kind, data=options), common)
        if peer:
            self._new(peer["netns"], peer["name"], Device(kind, peer=(netns, name)), peer)
            self._change(netns, name, peer=(peer["netns"], peer["name"]))

    def _new(self, netns: str, name: str, device: Device, common: Mapping[str, Any]) -> None:
        links = self.have[netns].links
        assert self.have[netns].exists and name not in links, f"{netns}/{name}"
        links[name] = device._replace(
            mtu=common.get("mtu", 1500),
            address=common.get("address", "fe:00:00:00:00:01"),
            group=common.get("group", 0),
            addrgenmode="eui64",
        )

    def link_delete(self, netns: str, name: str) -> None:
        assert name in self.have[netns].links
        forget_link(self.have, netns, name)

    def link_set(self, netns: str, name: str, **changes: Any) -> None:
        device = self.have[netns].links[name]
        changes.pop("kind", None)
        if "options" in changes:
            changes["data"] = {**device.data, **changes.pop("options")}
        if changes.get("master"):
            assert self.have[netns].links[changes["master"]].kind == "bridge"
            changes["port"] = PORT
        elif "port" in changes:
            assert device.master, "a port without a bridge"
            changes["port"] = {**device.port, **changes["port"]}
        space = self.have[netns]
        if "address" in changes or changes.get("up") is False:
            for key in [key for key in space.neighbours if key[0] == name]:
                del space.neighbours[key]
        if "master" in changes:
            space.fdb.difference_update([entry for entry in space.fdb if entry[0] == name and not entry[2]])
        if changes.get("up") is False:
            space.routes[:] = [route for route in space.routes if route.dev != name]
            for key in [key for key in space.addresses if key[0] == name and ":" in key[1]]:
                del space.addresses[key]
        self._change(netns, name, **changes)

    def _change(self, netns: str, name: str, **changes: Any) -> None:
        links = self.have[netns].links
        links[name] = links[name]._replace(**changes)

    def altname_add(self, netns: str, name: str, altname: str) -> None:
        self._change(netns, name, altnames=(*self.have[netns].links[name].altnames, altname))

    def address_set(self, netns: str, dev: str, address: str, **options: Any) -> None:
        assert dev in self.have[netns].links
        flags = (options.get("scope") or "global", bool(options.get("noprefixroute")))
        self.have[netns].addresses[dev, address] = flags

    def address_delete(self, netns: str, dev: str, address: str) -> None:
        """Deleting the first IPv4 address of a network takes the later ones along."""
        table = self.have[netns].addresses
        if (dev, address) not in table:
            return
        gone = ipaddress.ip_interface(address)
        keys = list(table)
        for key in keys[keys.index((dev, address)) :]:
            other = ipaddress.ip_interface(key[1])
            if key == (dev, address) or (key[0] == dev and gone.version == 4 and other.network == gone.network):
                del table[key]

    def route_set(self, netns: str, **route: Any) -> None:
        space = self.have[netns]
        new = Route(**{"scope": "global" if route.get("via") else "link", **route})
        if ":" in new.dst:
            new = new._replace(scope="global")
        space.routes[:] = [old for old in space.routes if (old.dst, old.metric) != (new.dst, new.metric)]
        space.routes.append(new._replace(dev=new.dev or self._way(space, new.via)))

    def _way(self, space: Space, via: str) -> str:
        return next((dev for dev, address in space.addresses if _inside(via, address)), "")

    def route_delete(self, netns: str, **route: Any) -> None:
        space = self.have[netns]
        kept = [old for old in space.routes if any(getattr(old, key) != value for key, value in route.items())]
        assert len(kept) < len(space.routes), "no such route"
        space.routes[:] = kept

    def neighbour_set(self, netns: str, dev: str, dst: str, address: str) -> None:
        self.have[netns].neighbours[dev, dst] = address

    def neighbour_delete(self, netns: str, dev: str, dst: str) -> None:
        del self.have[netns].neighbours[dev, dst]

    def fdb_add(self, netns: str, dev: str, address: str, dst: str) -> None:
        self.have[netns].fdb.add((dev, address, dst))

    def fdb_delete(self, netns: str, dev: str, address: str, dst: str) -> None:
        self.have[netns].fdb.remove((dev, address, dst))

    def sysctl_set(self, netns: str, name: str, value: str) -> None:
        self.have[netns].sysctls[name] = value


def _inside(ip: str, address: str) -> bool:
    return bool(ip) and ipaddress.ip_address(ip) in ipaddress.ip_interface(address).network


def steps_of(changes: list[Change]) -> list[Step]:
    """The steps of a plan, in order."""
    return [step for change in changes for step in change.steps]


def typed(steps: list[Step]) -> list[str]:
    """The commands of steps, as lines of shell."""
    return [step.typed() for step in steps]
