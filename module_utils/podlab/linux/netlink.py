"""A route netlink socket: links, addresses, routes, neighbours, forwarding entries of one network namespace.

The socket belongs to the namespace that the thread is in when it is made, and stays there. Every method is one
request and one answer. Errors are OSError with errno; the text is the kernel's own (extended ACK) where it gives one.
Sources: netlink(7), rtnetlink(7), Documentation/userspace-api/netlink/intro.rst.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Mapping
from typing import Any, Union

from . import netlink_attrs as nl
from .netlink_attrs import Address, Link, Neighbour, Route
from .netlink_wire import Wire

Device = Union[str, int]  # a name, or an index when it is known (saves one request)


class Netlink(Wire):
    """One NETLINK_ROUTE socket in the current network namespace; a context manager."""

    def __init__(self) -> None:
        super().__init__(socket.NETLINK_ROUTE)

    # --- reading ---

    def links(self) -> dict[str, Link]:
        """Every link of the namespace by name."""
        body = _ifinfo() + nl.u32(nl.IFLA_EXT_MASK, nl.SKIP_STATS)
        return {link.name: link for link in self.dump(nl.RTM_GETLINK, body, nl.RTM_NEWLINK, nl.parse_link)}

    def link(self, name: str) -> Link:
        """The link of that name (or altname). Raises OSError ENODEV."""
        attribute = nl.IFLA_IFNAME if len(name.encode()) < 16 else nl.IFLA_ALT_IFNAME
        body = _ifinfo() + nl.text(attribute, name) + nl.u32(nl.IFLA_EXT_MASK, nl.SKIP_STATS)
        return nl.parse_link(self.request(nl.RTM_GETLINK, 0, body, f"get link {name}"))

    def index(self, dev: Device) -> int:
        """The index of a device. Raises OSError ENODEV."""
        return dev if isinstance(dev, int) else self.link(dev).ifindex

    def addresses(self) -> list[Address]:
        """Every address of the namespace, IPv4 and IPv6."""
        return self.dump(nl.RTM_GETADDR, struct.pack("=BBBBI", 0, 0, 0, 0, 0), nl.RTM_NEWADDR, nl.parse_address)

    def routes(self) -> list[Route]:
        """Every route of every table, IPv4 and IPv6, without cached ones."""
        return self.dump(nl.RTM_GETROUTE, struct.pack("=BBBBBBBBI", *[0] * 9), nl.RTM_NEWROUTE, nl.parse_route)

    def neighbours(self) -> list[Neighbour]:
        """The ARP and neighbour discovery entries."""
        return self.dump(nl.RTM_GETNEIGH, _ndmsg(nl.AF_UNSPEC), nl.RTM_NEWNEIGH, nl.parse_neighbour)

    def fdb(self) -> list[Neighbour]:
        """The forwarding database entries of bridges and VXLANs."""
        return self.dump(nl.RTM_GETNEIGH, _ndmsg(nl.AF_BRIDGE), nl.RTM_NEWNEIGH, nl.parse_neighbour)

    def nsid(self, netns_fd: int) -> int:
        """The id that this namespace knows the one behind netns_fd by; -1 when it has none."""
        body = struct.pack("=Bxxx", 0) + nl.u32(nl.NETNSA_FD, netns_fd)
        answer = self.request(nl.RTM_GETNSID, 0, body, "get nsid")
        return int(struct.unpack("=i", nl.parse_attrs(answer[4:])[nl.NETNSA_NSID])[0])

    # --- links ---

    def add_veth(
        self,
        name: str,
        peer: str,
        *,
        peer_netns_fd: int | None = None,
        mtu: int | None = None,
        address: str | None = None,
        peer_address: str | None = None,
        up: bool = False,
        group: int | None = None,
        peer_mtu: int | None = None,
        peer_group: int | None = None,
    ) -> None:
        """A veth pair: name here, peer here or in the namespace behind peer_netns_fd (veth(4)).

        mtu in bytes holds for both ends unless peer_mtu is given. up concerns the end called name only: the kernel
        refuses (ENOTCONN) to bring up a peer while it is being made.
        """
        other = _link_attrs(peer, peer_mtu or mtu, peer_address, peer_group, peer_netns_fd)
        data = nl.nested(nl.VETH_INFO_PEER, _ifinfo() + other)
        self._new_link(name, "veth", data, _link_attrs(name, mtu, address, group), up)

    def add_bridge(self, name: str, *, options: Mapping[str, Any] = {}, up: bool = False, **common: Any) -> None:
        """A bridge; options as netlink_attrs.KIND_OPTIONS["bridge"], common: mtu, address, group."""
        self._new_kind(name, "bridge", options, up, common)

    def add_vxlan(self, name: str, *, options: Mapping[str, Any], up: bool = False, **common: Any) -> None:
        """A VXLAN device; options: id, dstport, learning, local (IPv4 or IPv6), ttl, dev (name or index below)."""
        wanted = {key: value for key, value in options.items() if value is not None}
        if "dev" in wanted:
            wanted["link"] = self.index(wanted.pop("dev"))
        if ":" in wanted.get("local", ""):
            wanted["local6"] = wanted.pop("local")
        self._new_kind(name, "vxlan", wanted, up, common)

    def add_dummy(self, name: str, *, up: bool = False, **common: Any) -> None:
        """A dummy device. Raises OSError EOPNOTSUPP where the kernel has none."""
        self._new_kind(name, "dummy", {}, up, common)

    def set_link(
        self,
        dev: Device,
        *,
        up: bool | None = None,
        mtu: int | None = None,
        master: Device | None = None,
        address: str | None = None,
        netns_fd: int | None = None,
        rename: str | None = None,
        addrgenmode: str | None = None,
        group: int | None = None,
        options: Mapping[str, Any] | None = None,
        kind: str = "",
        port: Mapping[str, Any] | None = None,
    ) -> None:
        """Change what is not None. master "" or 0 frees the link; options are those of kind; port of a bridge port.

        The kernel takes addrgenmode after up: to start without a link-local address set it in a call before.
        """
        attrs = _link_attrs(rename, mtu, address, group, netns_fd)
        if master is not None:
            attrs += nl.u32(nl.IFLA_MASTER, self.index(master) if master else 0)
        if addrgenmode is not None:
            mode = nl.attr(nl.IFLA_INET6_ADDR_GEN_MODE, bytes([nl.ADDRGENMODES[addrgenmode]]))
            attrs += nl.nested(nl.IFLA_AF_SPEC, nl.nested(nl.AF_INET6, mode))
        if options:
            packed = nl.pack_options(nl.KIND_OPTIONS[kind], options)
            attrs += nl.nested(nl.IFLA_LINKINFO, nl.text(nl.IFLA_INFO_KIND, kind), nl.nested(nl.IFLA_INFO_DATA, packed))
        index = self.index(dev)
        if attrs or up is not None:
            self.request(nl.RTM_NEWLINK, nl.ACK, _ifinfo(index, up) + attrs, f"set link {dev}")
        if port:  # a request of its own: the kernel looks at it before master
            packed = nl.nested(nl.IFLA_INFO_SLAVE_DATA, nl.pack_options(nl.PORT_OPTIONS, port))
            info = nl.nested(nl.IFLA_LINKINFO, nl.text(nl.IFLA_INFO_SLAVE_KIND, "bridge"), packed)
            self.request(nl.RTM_NEWLINK, nl.ACK, _ifinfo(index) + info, f"set bridge port {dev}")

    def add_altname(self, dev: Device, altname: str) -> None:
        """Give the link a further name, up to 127 bytes. Raises OSError EEXIST."""
        body = _ifinfo(self.index(dev)) + nl.nested(nl.IFLA_PROP_LIST, nl.text(nl.IFLA_ALT_IFNAME, altname))
        flags = nl.ACK | nl.CREATE | nl.EXCL | nl.APPEND
        self.request(nl.RTM_NEWLINKPROP, flags, body, f"add altname {altname} to {dev}")

    def del_link(self, dev: Device) -> None:
        """Delete a link; with one end of a veth pair the other goes too. Raises OSError ENODEV."""
        self.request(nl.RTM_DELLINK, nl.ACK, _ifinfo(self.index(dev)), f"delete link {dev}")

    # --- addresses, routes, neighbours ---

    def clear_link(self, name: str) -> None:
        """Delete a link that may go by itself meanwhile: a veth whose peer's namespace is being taken apart does."""
        try:
            self.del_link(name)
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.EINVAL):
                raise

    def add_address(
        self,
        dev: Device,
        address: str,
        *,
        scope: str | None = None,
        noprefixroute: bool = False,
        nodad: bool = False,
        replace: bool = False,
    ) -> None:
        """Give dev an address ("10.0.0.1/24"). nodad: IPv6, use it at once. Raises OSError EEXIST unless replace."""
        flags = (nl.IFA_F_NOPREFIXROUTE if noprefixroute else 0) | (nl.IFA_F_NODAD if nodad else 0)
        body = _ifaddr(self.index(dev), address, nl.SCOPES[scope or "global"])
        if flags:
            body += nl.u32(nl.IFA_FLAGS, flags)
        how = nl.ACK | nl.CREATE | (nl.REPLACE if replace else nl.EXCL)
        self.request(nl.RTM_NEWADDR, how, body, f"add address {address} to {dev}")

    def del_address(self, dev: Device, address: str) -> None:
        """Take an address from dev. Raises OSError EADDRNOTAVAIL."""
        body = _ifaddr(self.index(dev), address, 0)
        self.request(nl.RTM_DELADDR, nl.ACK, body, f"delete address {address} from {dev}")

    def add_route(self, dst: str, *, replace: bool = False, **route: Any) -> None:
        """A route to dst ("10.0.0.0/24", "0.0.0.0/0"); the words of route are those of _route_body.

        Raises OSError: EEXIST unless replace, ENETUNREACH, EINVAL.
        """
        flags = nl.ACK | nl.CREATE | (nl.REPLACE if replace else nl.EXCL)
        self.request(nl.RTM_NEWROUTE, flags, self._route_body(dst, **route), f"add route {dst}")

    def del_route(self, dst: str, **route: Any) -> None:
        """Delete the first route to dst that agrees with what is given. Raises OSError ESRCH."""
        if "scope" not in route and route.get("type", "unicast") == "unicast":
            route["scope"] = "nowhere"  # matches any scope
        self.request(nl.RTM_DELROUTE, nl.ACK, self._route_body(dst, **route), f"delete route {dst}")

    def add_neighbour(self, dev: Device, dst: str, address: str, *, state: str = "permanent") -> None:
        """An ARP or ND entry: dst is at link-layer address on dev; replaces what was there."""
        body = _ndmsg(nl.family_of(dst), self.index(dev), nl.NEIGHBOUR_STATES[state])
        body += nl.attr(nl.NDA_DST, nl.ip_bytes(dst)) + nl.attr(nl.NDA_LLADDR, nl.mac_bytes(address))
        self.request(nl.RTM_NEWNEIGH, nl.ACK | nl.CREATE | nl.REPLACE, body, f"add neighbour {dst} on {dev}")

    def del_neighbour(self, dev: Device, dst: str) -> None:
        """Delete an ARP or ND entry. Raises OSError ENOENT."""
        body = _ndmsg(nl.family_of(dst), self.index(dev)) + nl.attr(nl.NDA_DST, nl.ip_bytes(dst))
        self.request(nl.RTM_DELNEIGH, nl.ACK, body, f"delete neighbour {dst} on {dev}")

    def add_fdb(self, dev: Device, address: str, dst: str | None = None) -> None:
        """A permanent forwarding entry: with dst of a VXLAN (the remote end), without of the bridge dev is a port of.

        The all-zero address may have many dst (where to flood): one is appended. Raises OSError EEXIST.
        """
        more = nl.APPEND if dst and not any(nl.mac_bytes(address)) else nl.EXCL
        body = _fdb(self.index(dev), address, dst)
        self.request(nl.RTM_NEWNEIGH, nl.ACK | nl.CREATE | more, body, f"add fdb {address} on {dev}")

    def del_fdb(self, dev: Device, address: str, dst: str | None = None) -> None:
        """Delete a forwarding entry. Raises OSError ENOENT."""
        self.request(nl.RTM_DELNEIGH, nl.ACK, _fdb(self.index(dev), address, dst), f"delete fdb {address} on {dev}")

    def _route_body(
        self,
        dst: str,
        *,
        via: str | None = None,
        dev: Device | None = None,
        scope: str | None = None,
        src: str | None = None,
        onlink: bool = False,
        metric: int | None = None,
        type: str = "unicast",  # noqa: A002 - the word of ip-route(8)
        table: int = nl.RT_TABLE_MAIN,
    ) -> bytes:
        """An rtmsg with attributes; scope defaults as in ip-route(8): link without via, else global."""
        family, data, length = nl.split_prefix(dst)
        if scope is None:
            scope = "link" if type == "unicast" and not via and family == nl.AF_INET else "global"
        flags = nl.RTNH_F_ONLINK if onlink else 0
        number = nl.ROUTE_TYPES[type]
        low_table = table if table < 256 else 0
        body = struct.pack(
            "=BBBBBBBBI", family, length, 0, 0, low_table, nl.PROTOCOLS["boot"], nl.SCOPES[scope], number, flags
        )
        if length:
            body += nl.attr(nl.RTA_DST, data)
        if via:
            body += nl.attr(nl.RTA_GATEWAY, nl.ip_bytes(via))
        if dev:
            body += nl.u32(nl.RTA_OIF, self.index(dev))
        if src:
            body += nl.attr(nl.RTA_PREFSRC, nl.ip_bytes(src))
        if metric:
            body += nl.u32(nl.RTA_PRIORITY, metric)
        return body + nl.u32(nl.RTA_TABLE, table)

    def _new_kind(self, name: str, kind: str, options: Mapping[str, Any], up: bool, common: Mapping[str, Any]) -> None:
        packed = nl.pack_options(nl.KIND_OPTIONS.get(kind, {}), options)
        attrs = _link_attrs(name, common.get("mtu"), common.get("address"), common.get("group"))
        self._new_link(name, kind, packed, attrs, up)

    def _new_link(self, name: str, kind: str, data: bytes, attrs: bytes, up: bool) -> None:
        info = nl.text(nl.IFLA_INFO_KIND, kind) + (nl.nested(nl.IFLA_INFO_DATA, data) if data else b"")
        body = _ifinfo(0, up or None) + attrs + nl.nested(nl.IFLA_LINKINFO, info)
        self.request(nl.RTM_NEWLINK, nl.ACK | nl.CREATE | nl.EXCL, body, f"add {kind} {name}")


def _ifinfo(index: int = 0, up: bool | None = None) -> bytes:
    change = 0 if up is None else nl.IFF_UP
    return struct.pack("=BxHiII", nl.AF_UNSPEC, 0, index, nl.IFF_UP if up else 0, change)


def _link_attrs(
    name: str | None,
    mtu: int | None,
    address: str | None,
    group: int | None,
    netns_fd: int | None = None,
) -> bytes:
    parts = [
        nl.text(nl.IFLA_IFNAME, name) if name is not None else b"",
        nl.u32(nl.IFLA_MTU, mtu) if mtu is not None else b"",
        nl.attr(nl.IFLA_ADDRESS, nl.mac_bytes(address)) if address is not None else b"",
        nl.u32(nl.IFLA_GROUP, group) if group is not None else b"",
        nl.u32(nl.IFLA_NET_NS_FD, netns_fd) if netns_fd is not None else b"",
    ]
    return b"".join(parts)


def _ifaddr(index: int, address: str, scope: int) -> bytes:
    family, data, length = nl.split_prefix(address)
    head = struct.pack("=BBBBI", family, length, 0, scope, index)
    return head + nl.attr(nl.IFA_LOCAL, data) + nl.attr(nl.IFA_ADDRESS, data)


def _ndmsg(family: int, index: int = 0, state: int = 0, flags: int = 0) -> bytes:
    return struct.pack("=BxxxiHBB", family, index, state, flags, 0)


def _fdb(index: int, address: str, dst: str | None) -> bytes:
    if dst:
        body = _ndmsg(nl.AF_BRIDGE, index, nl.NEIGHBOUR_STATES["permanent"], nl.NTF_SELF)
        return body + nl.attr(nl.NDA_LLADDR, nl.mac_bytes(address)) + nl.attr(nl.NDA_DST, nl.ip_bytes(dst))
    body = _ndmsg(nl.AF_BRIDGE, index, nl.NEIGHBOUR_STATES["noarp"], nl.NTF_MASTER)
    return body + nl.attr(nl.NDA_LLADDR, nl.mac_bytes(address))
