"""The topology's way to the kernel: reads what is there and does what the steps say.

One netlink socket per namespace, opened by entering it once; no process is started.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any

from .errors import PodlabError
from .linux import netlink_attrs as nl
from .linux import netns as namespaces
from .linux import sysctl
from .linux.netlink import Netlink
from .linux.netlink_attrs import Link
from .linux.netns import entered
from .topology_have import Device, Have, Route, Space, missing
from .topology_values import netns_name
from .topology_want import MACHINE, Want

_HERE = "/proc/thread-self/ns/net"


class Session:
    """Open namespaces; a context manager. Its calls are those of topology_step.Kernel."""

    def __init__(self) -> None:
        self._sockets: dict[str, Netlink] = {}
        self._fds: dict[str, int] = {}
        self._closed_round_trips = 0

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_exc: object) -> None:
        for netns in list(self._fds):
            self._close(netns)

    @property
    def round_trips(self) -> int:
        """How many netlink requests were made."""
        return self._closed_round_trips + sum(socket.round_trips for socket in self._sockets.values())

    # --- reading ---

    def observe(self, want: Want) -> Have:
        """The state of every namespace that want names. What is not asked for is not read."""
        have: Have = {}
        links: dict[str, dict[str, Link]] = {}
        for netns in sorted(filter(_may_exist, want.namespaces())):
            if netns != MACHINE and not namespaces.exists(netns):
                have[netns] = missing(stale=os.path.lexists(namespaces.path(netns)))
                continue
            links[netns] = self._netlink(netns).links()
            have[netns] = self._space(netns, links[netns], want)
        for netns, name, peer in self._peers(want, links):
            have[netns].links[name] = have[netns].links[name]._replace(peer=peer)
        return have

    def _space(self, netns: str, links: Mapping[str, Link], want: Want) -> Space:
        socket = self._netlink(netns)
        names = {link.ifindex: link.name for link in links.values()}
        neighbours = socket.neighbours() if any(row.netns == netns for row in want.neighbours) else []
        fdb = socket.fdb() if any(row.netns == netns for row in want.fdb) else []
        return Space(
            exists=True,
            stale=False,
            links={name: _device(link, names) for name, link in links.items()},
            addresses={
                (names.get(each.ifindex, ""), each.address): (each.scope, each.noprefixroute)
                for each in socket.addresses()
            },
            routes=[_route(route, names) for route in socket.routes() if route.table == nl.RT_TABLE_MAIN],
            neighbours={
                (names.get(each.ifindex, ""), each.dst): each.address
                for each in neighbours
                if each.state == "permanent"
            },
            fdb={
                (names.get(each.ifindex, ""), each.address, each.dst)
                for each in fdb
                if each.dst or (each.master and each.state == "noarp")
            },
            sysctls=self._sysctls(netns, want),
        )

    def _sysctls(self, netns: str, want: Want) -> dict[str, str]:
        wanted = {row.fields["name"] for row in want.sysctls if row.netns == netns and "name" in row.fields}
        wanted.update(*(space.sysctls for space in want.spaces if space.name == netns))
        found = {}
        if wanted:
            with entered(self._path(netns)):
                for name in sorted(wanted):
                    try:
                        found[name] = sysctl.read(name)
                    except FileNotFoundError:  # of a device that is not there yet
                        continue
        return found

    def _peers(
        self, want: Want, links: Mapping[str, Mapping[str, Link]]
    ) -> list[tuple[str, str, tuple[str, str] | None]]:
        """(netns, name, other end) of every veth; an end in a namespace that no wanted pair leads to is not known."""
        found = []
        numbers = self._namespace_numbers(want, links)
        for netns, here in links.items():
            for name, link in here.items():
                if link.kind != "veth":
                    continue
                other = netns if link.peer_nsid is None else numbers.get((netns, link.peer_nsid))
                there = links.get(other, {}) if other is not None else {}
                peer = next((each.name for each in there.values() if each.ifindex == link.peer_index), None)
                found.append((netns, name, (other, peer) if other is not None and peer else None))
        return found

    def _namespace_numbers(self, want: Want, links: Mapping[str, Mapping[str, Link]]) -> dict[tuple[str, int], str]:
        """(namespace, number that it knows another by) -> that other, for the pairs of namespaces that veths join."""
        pairs = {(link.ends[0].netns, link.ends[1].netns) for link in want.links if len(link.ends) == 2}
        numbers = {}
        for here, there in pairs | {(there, here) for here, there in pairs}:
            if here != there and here in links and there in links:
                numbers[here, self._netlink(here).nsid(self._fds[there])] = there
        return numbers

    # --- changing ---

    def netns_add(self, name: str) -> None:
        namespaces.create(name)

    def netns_delete(self, name: str) -> None:
        self._close(name)
        namespaces.delete(name)

    def link_add(
        self,
        netns: str,
        name: str,
        kind: str,
        data: Mapping[str, Any],
        peer: Mapping[str, Any] | None = None,
        **common: Any,
    ) -> None:
        socket = self._netlink(netns)
        try:
            if kind == "veth" and peer:
                self._add_veth(socket, netns, name, peer, common)
            elif kind == "vxlan":
                socket.add_vxlan(name, options=data, **common)
            elif kind == "bridge":
                socket.add_bridge(name, options=data, **common)
            else:
                socket.add_dummy(name, **common)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP and "Unknown device type" in str(error):
                raise PodlabError(
                    f"{error}. This kernel has no {kind} links (CONFIG_{kind.upper()}): load the module "
                    f"(modprobe {kind}) or use another kind"
                ) from error
            raise

    def _add_veth(
        self, socket: Netlink, netns: str, name: str, peer: Mapping[str, Any], common: Mapping[str, Any]
    ) -> None:
        self._netlink(peer["netns"])
        options = {f"peer_{key}": peer[key] for key in ("mtu", "address", "group") if key in peer}
        elsewhere = self._fds[peer["netns"]] if peer["netns"] != netns else None
        socket.add_veth(name, peer["name"], peer_netns_fd=elsewhere, **common, **options)

    def link_delete(self, netns: str, name: str) -> None:
        self._netlink(netns).clear_link(name)

    def link_set(self, netns: str, name: str, **changes: Any) -> None:
        self._netlink(netns).set_link(name, **changes)

    def altname_add(self, netns: str, name: str, altname: str) -> None:
        self._netlink(netns).add_altname(name, altname)

    def address_set(self, netns: str, dev: str, address: str, **options: Any) -> None:
        self._netlink(netns).add_address(dev, address, replace=True, **options)

    def address_delete(self, netns: str, dev: str, address: str) -> None:
        try:
            self._netlink(netns).del_address(dev, address)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:  # gone with the first address of its network
                raise

    def route_set(self, netns: str, **route: Any) -> None:
        self._netlink(netns).add_route(replace=True, **route)

    def route_delete(self, netns: str, **route: Any) -> None:
        self._netlink(netns).del_route(**route)

    def neighbour_set(self, netns: str, dev: str, dst: str, address: str) -> None:
        self._netlink(netns).add_neighbour(dev, dst, address)

    def neighbour_delete(self, netns: str, dev: str, dst: str) -> None:
        self._netlink(netns).del_neighbour(dev, dst)

    def fdb_add(self, netns: str, dev: str, address: str, dst: str) -> None:
        self._netlink(netns).add_fdb(dev, address, dst or None)

    def fdb_delete(self, netns: str, dev: str, address: str, dst: str) -> None:
        self._netlink(netns).del_fdb(dev, address, dst or None)

    def sysctl_set(self, netns: str, name: str, value: str) -> None:
        with entered(self._path(netns)):
            sysctl.write(name, value)

    # --- namespaces ---

    def _path(self, netns: str) -> str:
        return namespaces.path(netns) if netns else _HERE

    def _netlink(self, netns: str) -> Netlink:
        """The socket in a namespace; self._fds has the namespace itself."""
        if netns not in self._sockets:
            fd = os.open(self._path(netns), os.O_RDONLY | os.O_CLOEXEC)
            self._fds[netns] = fd
            with entered(f"/proc/self/fd/{fd}"):
                self._sockets[netns] = Netlink()
        return self._sockets[netns]

    def _close(self, netns: str) -> None:
        socket = self._sockets.pop(netns, None)
        if socket:
            self._closed_round_trips += socket.round_trips
            socket.close()
        fd = self._fds.pop(netns, None)
        if fd is not None:
            os.close(fd)


def _may_exist(netns: str) -> bool:
    """Whether the name is one that may be looked for: it must not lead out of /run/netns."""
    try:
        return netns == MACHINE or bool(netns_name(netns))
    except ValueError:
        return False


def _device(link: Link, names: Mapping[int, str]) -> Device:
    """A link with names instead of numbers; the peer is found later."""
    data = dict(link.data)
    if data.get("local6"):
        data["local"] = data.pop("local6")
    if "link" in data:
        data["dev"] = names.get(data.pop("link"), "")
    return Device(
        kind=link.kind,
        up=link.up,
        mtu=link.mtu,
        address=link.address,
        master=names.get(link.master, ""),
        altnames=link.altnames,
        group=link.group,
        addrgenmode=link.addrgenmode or "none",  # without IPv6 there is nothing to generate
        data=data,
        port=link.port,
    )


def _route(route: nl.Route, names: Mapping[int, str]) -> Route:
    return Route(
        dst=route.dst,
        via=route.via,
        dev=names.get(route.ifindex, ""),
        scope=route.scope,
        src=route.src,
        onlink=route.onlink,
        metric=route.metric,
        type=route.type,
    )
