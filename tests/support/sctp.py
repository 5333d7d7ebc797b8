"""SCTP packets by hand, for kernels that forward SCTP but have no sockets of it. Source: RFC 9260."""

from __future__ import annotations

import struct
from typing import NamedTuple

INIT, INIT_ACK = 1, 2
PROTOCOL = 132
_TAG = 0x706F646C
_CRC32C = 0x82F63B78


class Packet(NamedTuple):
    """What of a packet matters here; chunk: type of its first chunk."""

    source_port: int
    destination_port: int
    chunk: int


def build(packet: Packet) -> bytes:
    """The packet, with an initiation as its one chunk and the checksum that connection tracking looks at."""
    tag = 0 if packet.chunk == INIT else _TAG
    body = struct.pack(">IIHHI", _TAG, 65536, 1, 1, 1)
    if packet.chunk == INIT_ACK:
        body += struct.pack(">HHI", 7, 8, 0)  # a state cookie
    chunk = struct.pack(">BBH", packet.chunk, 0, 4 + len(body)) + body
    head = struct.pack(">HHI", packet.source_port, packet.destination_port, tag)
    return head + struct.pack("<I", _crc32c(head + b"\0" * 4 + chunk)) + chunk


def parse(data: bytes, family: str) -> Packet:
    """A packet as a raw socket delivers it: behind its header in IPv4, without one in IPv6 (raw(7), ipv6(7))."""
    if family == "ipv4":
        data = data[(data[0] & 15) * 4 :]
    source, destination = struct.unpack_from(">HH", data)
    return Packet(source, destination, data[12])


def _crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (_CRC32C if value & 1 else 0)
    return value ^ 0xFFFFFFFF
