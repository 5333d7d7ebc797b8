"""Route netlink as data: numbers, attributes to and from bytes, and the records that dumps are read into.

Pure: no socket, no file. Sources: netlink(7), rtnetlink(7), linux/{rtnetlink,if_link,if_addr,neighbour}.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Callable, NamedTuple

# linux/rtnetlink.h
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_GETNSID = 90
RTM_NEWLINKPROP = 108

# linux/netlink.h
NLMSG_ERROR, NLMSG_DONE = 2, 3
REQUEST, ACK = 0x1, 0x4
REPLACE, EXCL, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
DUMP = 0x300
DUMP_INTR = 0x10
CAPPED, ACK_TLVS = 0x100, 0x200

# linux/if_link.h
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 3, 4, 5, 10
IFLA_LINKINFO, IFLA_AF_SPEC, IFLA_GROUP, IFLA_NET_NS_FD, IFLA_EXT_MASK = 18, 26, 27, 28, 29
IFLA_LINK_NETNSID, IFLA_PROP_LIST, IFLA_ALT_IFNAME = 37, 52, 53
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_INET6_ADDR_GEN_MODE = 8
VETH_INFO_PEER = 1
NETNSA_NSID, NETNSA_FD = 1, 3
SKIP_STATS = 8
IFF_UP, IFF_LOOPBACK, IFF_RUNNING = 0x1, 0x8, 0x40
NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF

# linux/if_addr.h
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_NODAD, IFA_F_NOPREFIXROUTE = 0x02, 0x200

# linux/rtnetlink.h, routes
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_TABLE = 1, 4, 5, 6, 7, 15
RTNH_F_ONLINK, RT_TABLE_MAIN = 4, 254
RTM_F_CLONED = 0x200

# linux/neighbour.h
NDA_DST, NDA_LLADDR, NDA_MASTER = 1, 2, 9
NTF_SELF, NTF_MASTER = 2, 4

AF_UNSPEC, AF_INET, AF_BRIDGE, AF_INET6 = 0, 2, 7, 10

SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
ROUTE_TYPES = {
    "unicast": 1,
    "local": 2,
    "broadcast": 3,
    "multicast": 5,
    "blackhole": 6,
    "unreachable": 7,
    "prohibit": 8,
}
PROTOCOLS = {"kernel": 2, "boot": 3, "static": 4, "ra": 9}
NEIGHBOUR_STATES = {
    "none": 0, "incomplete": 1, "reachable": 2, "stale": 4, "delay": 8, "probe": 16, "failed": 32,
    "noarp": 64, "permanent": 128,
}  # fmt: skip
ADDRGENMODES = {"eui64": 0, "none": 1, "stable_secret": 2, "random": 3}


def name_of(table: Mapping[str, int], number: int) -> str:
    """The word for number in table, or the number as text when it has none."""
    for word, value in table.items():
        if value == number:
            return word
    return str(number)


# --- attributes ---------------------------------------------------------------------------------------------------


def attr(kind: int, data: bytes) -> bytes:
    """One attribute: length, type, data, padded to four bytes."""
    size = 4 + len(data)
    return struct.pack("=HH", size, kind) + data + b"\0" * (-size % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute made of attributes."""
    return attr(kind | NLA_F_NESTED, b"".join(parts))


def u32(kind: int, value: int) -> bytes:
    """An attribute that holds a 32-bit number."""
    return struct.pack("=HHI", 8, kind, value)


def text(kind: int, value: str) -> bytes:
    """An attribute that holds a string."""
    return attr(kind, value.encode("utf-8", "surrogateescape") + b"\0")


def parse_attrs(data: bytes) -> dict[int, bytes]:
    """Attributes by type (flags masked off); of a type that comes twice the last."""
    return dict(iter_attrs(data))


def iter_attrs(data: bytes) -> Iterable[tuple[int, bytes]]:
    """(type, data) of each attribute in order; stops at the first that does not fit."""
    at, end = 0, len(data)
    while at + 4 <= end:
        size, kind = struct.unpack_from("=HH", data, at)
        if size < 4 or at + size > end:
            return
        yield kind & NLA_TYPE_MASK, data[at + 4 : at + size]
        at += (size + 3) & ~3


# --- addresses ----------------------------------------------------------------------------------------------------


def family_of(ip: str) -> int:
    """AF_INET6 when the text has a colon, else AF_INET."""
    return AF_INET6 if ":" in ip else AF_INET


def ip_bytes(ip: str) -> bytes:
    """An IP address in network order. Raises OSError when it is not one."""
    return socket.inet_pton(family_of(ip), ip)


def ip_text(data: bytes) -> str:
    """The shortest text of an IPv4 or IPv6 address."""
    return socket.inet_ntop(AF_INET if len(data) == 4 else AF_INET6, data)


def split_prefix(cidr: str) -> tuple[int, bytes, int]:
    """Family, address bytes and prefix length of "10.0.0.1/24"; without a length the whole address."""
    ip, _, length = cidr.partition("/")
    data = ip_bytes(ip)
    return family_of(ip), data, int(length) if length else len(data) * 8


def mac_bytes(mac: str) -> bytes:
    """A link-layer address from its text ("02:00:00:00:00:01")."""
    return bytes.fromhex(mac.replace(":", ""))


def mac_text(data: bytes) -> str:
    """A link-layer address as text."""
    return data.hex(":")


# --- what each kind of link can be told ----------------------------------------------------------------------------


class Codec(NamedTuple):
    """How one option travels: attribute type, to bytes, from bytes."""

    kind: int
    pack: Callable[[Any], bytes]
    unpack: Callable[[bytes], Any]


def _number(form: str) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    return (lambda value: struct.pack(form, int(value))), (lambda data: struct.unpack(form, data)[0])


def _flag(form: str) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    return (lambda value: struct.pack(form, int(value))), (lambda data: bool(struct.unpack(form, data)[0]))


_IP = (ip_bytes, ip_text)

# Option -> codec, per link kind; names are iproute2's without its suffixes.
KIND_OPTIONS: Mapping[str, Mapping[str, Codec]] = {
    "bridge": {
        "ageing_time": Codec(4, *_number("=I")),
        "stp": Codec(5, *_flag("=I")),
        "vlan_filtering": Codec(7, *_flag("=B")),
        "group_fwd_mask": Codec(9, *_number("=H")),
        "mcast_snooping": Codec(23, *_flag("=B")),
        "nf_call_iptables": Codec(36, *_flag("=B")),
        "nf_call_ip6tables": Codec(37, *_flag("=B")),
        "nf_call_arptables": Codec(38, *_flag("=B")),
    },
    "vxlan": {
        "id": Codec(1, *_number("=I")),
        "link": Codec(3, *_number("=I")),
        "local": Codec(4, *_IP),
        "ttl": Codec(5, *_number("=B")),
        "learning": Codec(7, *_flag("=B")),
        "dstport": Codec(15, *_number(">H")),
        "local6": Codec(17, *_IP),
    },
}
# What a port of a bridge can be told (IFLA_BRPORT_*).
PORT_OPTIONS: Mapping[str, Codec] = {
    "hairpin": Codec(4, *_flag("=B")),
    "learning": Codec(8, *_flag("=B")),
    "flood": Codec(9, *_flag("=B")),
    "neigh_suppress": Codec(32, *_flag("=B")),
    "isolated": Codec(33, *_flag("=B")),
}


def pack_options(table: Mapping[str, Codec], options: Mapping[str, Any]) -> bytes:
    """Options as attributes; those that are None are left out. Raises KeyError for an unknown one."""
    return b"".join(
        attr(table[name].kind, table[name].pack(value)) for name, value in options.items() if value is not None
    )


def unpack_options(table: Mapping[str, Codec], data: bytes) -> dict[str, Any]:
    """Attributes as options; those that the table does not know are left out."""
    attrs = parse_attrs(data)
    return {name: codec.unpack(attrs[codec.kind]) for name, codec in table.items() if codec.kind in attrs}


# --- records ------------------------------------------------------------------------------------------------------


class Link(NamedTuple):
    """One network device. Numbers refer to its own namespace, except peer_index when peer_nsid is not None."""

    ifindex: int
    name: str
    kind: str  # "veth", "bridge", ...; "loopback"; "" for a physical device
    up: bool
    running: bool
    mtu: int
    address: str
    master: int  # index of the bridge; 0 when none
    peer_index: int  # of a veth its other end, of a vlan or vxlan the device below; 0 when none
    peer_nsid: int | None  # id of the namespace that peer_index is in, when it is another
    altnames: tuple[str, ...]
    group: int
    addrgenmode: str | None
    data: Mapping[str, Any]  # options of its kind, see KIND_OPTIONS
    port: Mapping[str, Any]  # options as a bridge port, see PORT_OPTIONS


class Address(NamedTuple):
    """One address of a device."""

    ifindex: int
    address: str  # "10.0.0.1/24"
    scope: str
    noprefixroute: bool


class Route(NamedTuple):
    """One route. Of a route with several next hops via and ifindex are empty."""

    dst: str  # "10.0.0.0/24"; the default route is "0.0.0.0/0" or "::/0"
    via: str
    ifindex: int
    scope: str
    src: str
    onlink: bool
    metric: int
    table: int
    type: str
    protocol: str


class Neighbour(NamedTuple):
    """An ARP/ND entry, or an entry of a forwarding database (family AF_BRIDGE)."""

    ifindex: int
    dst: str
    address: str
    state: str
    flags: int
    master: int


def parse_link(data: bytes) -> Link:
    """The record of an RTM_NEWLINK message's payload."""
    _, device, index, flags, _ = struct.unpack_from("=BxHiII", data)
    attrs = parse_attrs(data[16:])
    info = parse_attrs(attrs.get(IFLA_LINKINFO, b""))
    kind = info.get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode() or ("loopback" if device == 772 else "")
    nsid = attrs.get(IFLA_LINK_NETNSID)
    inet6 = parse_attrs(parse_attrs(attrs.get(IFLA_AF_SPEC, b"")).get(AF_INET6, b""))
    mode = inet6.get(IFLA_INET6_ADDR_GEN_MODE)
    is_port = info.get(IFLA_INFO_SLAVE_KIND, b"").rstrip(b"\0") == b"bridge"
    return Link(
        ifindex=index,
        name=_text(attrs[IFLA_IFNAME]),
        kind=kind,
        up=bool(flags & IFF_UP),
        running=bool(flags & IFF_RUNNING),
        mtu=_u32(attrs.get(IFLA_MTU)),
        address=mac_text(attrs.get(IFLA_ADDRESS, b"")),
        master=_u32(attrs.get(IFLA_MASTER)),
        peer_index=_u32(attrs.get(IFLA_LINK)),
        peer_nsid=struct.unpack("=i", nsid)[0] if nsid else None,
        altnames=tuple(
            _text(value) for kind_, value in iter_attrs(attrs.get(IFLA_PROP_LIST, b"")) if kind_ == IFLA_ALT_IFNAME
        ),
        group=_u32(attrs.get(IFLA_GROUP)),
        addrgenmode=name_of(ADDRGENMODES, mode[0]) if mode else None,
        data=unpack_options(KIND_OPTIONS.get(kind, {}), info.get(IFLA_INFO_DATA, b"")),
        port=unpack_options(PORT_OPTIONS, info.get(IFLA_INFO_SLAVE_DATA, b"")) if is_port else {},
    )


def parse_address(data: bytes) -> Address:
    """The record of an RTM_NEWADDR message's payload."""
    _, length, flags, scope, index = struct.unpack_from("=BBBBI", data)
    attrs = parse_attrs(data[8:])
    ip = attrs.get(IFA_LOCAL) or attrs[IFA_ADDRESS]
    flags = _u32(attrs.get(IFA_FLAGS)) or flags
    return Address(index, f"{ip_text(ip)}/{length}", name_of(SCOPES, scope), bool(flags & IFA_F_NOPREFIXROUTE))


def parse_route(data: bytes) -> Route:
    """The record of an RTM_NEWROUTE message's payload."""
    family, length, _, _, table, protocol, scope, kind, flags = struct.unpack_from("=BBBBBBBBI", data)
    attrs = parse_attrs(data[12:])
    dst = attrs.get(RTA_DST, b"\0" * (4 if family == AF_INET else 16))
    gateway, source = attrs.get(RTA_GATEWAY), attrs.get(RTA_PREFSRC)
    return Route(
        dst=f"{ip_text(dst)}/{length}",
        via=ip_text(gateway) if gateway else "",
        ifindex=_u32(attrs.get(RTA_OIF)),
        scope=name_of(SCOPES, scope),
        src=ip_text(source) if source else "",
        onlink=bool(flags & RTNH_F_ONLINK),
        metric=_u32(attrs.get(RTA_PRIORITY)),
        table=_u32(attrs.get(RTA_TABLE)) or table,
        type=name_of(ROUTE_TYPES, kind),
        protocol=name_of(PROTOCOLS, protocol),
    )


def parse_neighbour(data: bytes) -> Neighbour:
    """The record of an RTM_NEWNEIGH message's payload."""
    _, index, state, flags, _ = struct.unpack_from("=BxxxiHBB", data)
    attrs = parse_attrs(data[12:])
    dst = attrs.get(NDA_DST)
    return Neighbour(
        ifindex=index,
        dst=ip_text(dst) if dst else "",
        address=mac_text(attrs.get(NDA_LLADDR, b"")),
        state=name_of(NEIGHBOUR_STATES, state),
        flags=flags,
        master=_u32(attrs.get(NDA_MASTER)),
    )


def _u32(data: bytes | None) -> int:
    return int.from_bytes(data[:4], "little" if struct.pack("=H", 1) == b"\1\0" else "big") if data else 0


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "surrogateescape")
