"""Connection tracking entries of one network namespace: read them, look one up, delete one.

An entry is one connection: the tuple of its first packet as it was sent (orig), and the tuple that an answer carries
when it comes in (reply). Where address translation was at work the two do not mirror each other.
Sources: linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_conntrack_netlink.c, conntrack(8).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from . import netlink_attrs as nl
from .netlink_wire import NETLINK_NETFILTER, Wire

# linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h
_SUBSYSTEM = 1 << 8
_NEW, _GET, _DELETE = _SUBSYSTEM | 0, _SUBSYSTEM | 1, _SUBSYSTEM | 2
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_STATUS, _CTA_MARK, _CTA_ID, _CTA_ZONE = 1, 2, 3, 8, 12, 18
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_CTA_IP_V4, _CTA_IP_V6 = (1, 2), (3, 4)
_CTA_PROTO_NUM, _CTA_PROTO_SRC_PORT, _CTA_PROTO_DST_PORT = 1, 2, 3

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132}

# linux/netfilter/nf_conntrack_common.h
SEEN_REPLY, ASSURED, CONFIRMED, SRC_NAT, DST_NAT = 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5


class Tuple(NamedTuple):
    """One direction of a connection: from source, source_port to destination, destination_port.

    protocol: a word of PROTOCOLS, or the number as text. Protocols without ports have 0 for them.
    """

    protocol: str
    source: str
    source_port: int
    destination: str
    destination_port: int


class Entry(NamedTuple):
    """One connection. status: bits SEEN_REPLY, ASSURED, CONFIRMED, SRC_NAT, DST_NAT. id: not used again soon."""

    orig: Tuple
    reply: Tuple
    status: int
    mark: int
    zone: int
    id: int

    def delete_argv(self) -> tuple[str, ...]:
        """The command that a person types to delete this entry (conntrack(8))."""
        orig = self.orig
        return (
            *("conntrack", "-D", "-f", "ipv6" if ":" in orig.source else "ipv4", "-p", orig.protocol),
            *("--orig-src", orig.source, "--orig-dst", orig.destination),
            *("--sport", str(orig.source_port), "--dport", str(orig.destination_port)),
        )


class Conntrack(Wire):
    """One socket to the connection tracking of the current network namespace; a context manager."""

    def __init__(self) -> None:
        super().__init__(NETLINK_NETFILTER)

    def entries(self, family: str = "") -> list[Entry]:
        """Every entry; family "ipv4" or "ipv6" leaves out the other's."""
        return self.dump(_GET, _head({"": 0, "ipv4": nl.AF_INET, "ipv6": nl.AF_INET6}[family]), _NEW, parse_entry)

    def get(self, direction: Tuple, *, reply: bool = False, zone: int = 0) -> Entry:
        """The entry whose orig (or reply) tuple is this one. Raises OSError ENOENT."""
        kind = _CTA_TUPLE_REPLY if reply else _CTA_TUPLE_ORIG
        return parse_entry(self.request(_GET, 0, _named(direction, kind, zone), f"get connection {direction}"))

    def delete(self, entry: Entry) -> None:
        """Delete this entry, not another one that took its place. Raises OSError ENOENT."""
        body = _named(entry.orig, _CTA_TUPLE_ORIG, entry.zone) + _u32(_CTA_ID, entry.id)
        self.request(_DELETE, nl.ACK, body, f"delete connection {entry.orig}")


def parse_entry(data: bytes) -> Entry:
    """An entry from the payload of a message."""
    attrs = nl.parse_attrs(data[4:])
    return Entry(
        orig=_parse_tuple(attrs[_CTA_TUPLE_ORIG]),
        reply=_parse_tuple(attrs[_CTA_TUPLE_REPLY]),
        status=_number(attrs.get(_CTA_STATUS)),
        mark=_number(attrs.get(_CTA_MARK)),
        zone=_number(attrs.get(_CTA_ZONE)),
        id=_number(attrs.get(_CTA_ID)),
    )


def _parse_tuple(data: bytes) -> Tuple:
    parts = nl.parse_attrs(data)
    ip, proto = nl.parse_attrs(parts[_CTA_TUPLE_IP]), nl.parse_attrs(parts[_CTA_TUPLE_PROTO])
    source, destination = _CTA_IP_V4 if _CTA_IP_V4[0] in ip else _CTA_IP_V6
    return Tuple(
        protocol=nl.name_of(PROTOCOLS, proto[_CTA_PROTO_NUM][0]),
        source=nl.ip_text(ip[source]),
        source_port=_number(proto.get(_CTA_PROTO_SRC_PORT)),
        destination=nl.ip_text(ip[destination]),
        destination_port=_number(proto.get(_CTA_PROTO_DST_PORT)),
    )


def _number(data: bytes | None) -> int:
    """A number in network order, of whatever size; 0 when it is missing."""
    return int.from_bytes(data or b"", "big")


def _u32(kind: int, value: int) -> bytes:
    return nl.attr(kind, struct.pack(">I", value))


def _head(family: int) -> bytes:
    return struct.pack("=BBH", family, 0, 0)


def _named(direction: Tuple, kind: int, zone: int) -> bytes:
    """A message's payload that names an entry by one of its tuples."""
    family = nl.family_of(direction.source)
    source, destination = _CTA_IP_V4 if family == nl.AF_INET else _CTA_IP_V6
    protocol = PROTOCOLS.get(direction.protocol) or int(direction.protocol)
    packed = nl.nested(
        kind,
        nl.nested(
            _CTA_TUPLE_IP,
            nl.attr(source, nl.ip_bytes(direction.source)),
            nl.attr(destination, nl.ip_bytes(direction.destination)),
        ),
        nl.nested(
            _CTA_TUPLE_PROTO,
            nl.attr(_CTA_PROTO_NUM, bytes([protocol])),
            nl.attr(_CTA_PROTO_SRC_PORT, struct.pack(">H", direction.source_port)),
            nl.attr(_CTA_PROTO_DST_PORT, struct.pack(">H", direction.destination_port)),
        ),
    )
    return _head(family) + packed + (nl.attr(_CTA_ZONE, struct.pack(">H", zone)) if zone else b"")
