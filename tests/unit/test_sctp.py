"""The packets of SCTP that tests send by hand."""

from __future__ import annotations

import pytest

from support import sctp


@pytest.mark.parametrize(("family", "header"), [("ipv4", b"\x45" + b"\0" * 19), ("ipv6", b"")])
def test_a_packet_is_read_as_it_was_built(family: str, header: bytes) -> None:
    """Whatever its ports and checksum: neither says where an IPv4 header is."""
    for port in range(0x4000, 0x5000):
        packet = sctp.Packet(port, 38, sctp.INIT)
        assert sctp.parse(header + sctp.build(packet), family) == packet
