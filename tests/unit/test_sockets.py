"""Listeners as /proc prints them, and which of them is in the way of an address and port."""

from __future__ import annotations

import os
import socket

import pytest

from podlab.linux import sockets
from podlab.linux.sockets import Listener

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
REST = "00000000:00000000 00:00000000 00000000     0        0"
TCP = (
    f"{HEADER}   0: 0100007F:1F90 00000000:0000 0A {REST} 4711 1 0\n"
    f"   1: 00000000:0050 00000000:0000 0A {REST} 4712 1 0\n"
    f"   2: 0100007F:1F91 0100007F:0016 01 {REST} 4713 1 0\n"
)
TCP6 = (
    f"{HEADER}   0: 00000000000000000000000000000000:0051 00000000000000000000000000000000:0000 0A {REST} 1 1 0\n"
    f"   1: 0000000000000000FFFF00000100007F:0052 00000000000000000000000000000000:0000 0A {REST} 2 1 0\n"
)
UDP = (
    f"{HEADER} 10: 00000000:0035 00000000:0000 07 {REST} 3 2 0 0\n 11: 0100007F:0036 0100007F:0035 01 {REST} 4 2 0 0\n"
)
SCTP = (
    " ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS\nffff8b0c 2d0a3f00 2   10  29   7000     0 42 0.0.0.0 \n"
)

little_endian = pytest.mark.skipif(socket.htons(1) == 1, reason="/proc prints addresses in this machine's byte order")


@little_endian
def test_what_listens() -> None:
    assert sockets.parse_sockets(TCP, "TCP") == [
        Listener("TCP", "127.0.0.1", 8080, "4711"),
        Listener("TCP", "0.0.0.0", 80, "4712"),
    ]
    assert sockets.parse_sockets(TCP6, "TCP") == [Listener("TCP", "::", 81, "1"), Listener("TCP", "127.0.0.1", 82, "2")]
    assert sockets.parse_sockets(UDP, "UDP") == [Listener("UDP", "0.0.0.0", 53, "3")]
    assert sockets.parse_sctp(SCTP) == [Listener("SCTP", "0.0.0.0", 7000, "42")]
    assert sockets.parse_sctp("") == sockets.parse_sockets("", "TCP") == []


@pytest.mark.parametrize(
    ("address", "there", "clash"),
    [
        ("0.0.0.0", "0.0.0.0", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("0.0.0.0", "::1", False),
        ("127.0.0.1", "fe80::1", False),
    ],
)
def test_who_is_in_the_way(address: str, there: str, clash: bool) -> None:
    one = Listener("TCP", there, 7, "1")
    assert (sockets.in_use(address, 7, "TCP", [one]) is one) == clash
    assert sockets.in_use(address, 8, "TCP", [one]) is sockets.in_use(address, 7, "UDP", [one]) is None


def test_a_listener_of_this_process_is_found_with_its_owner() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        found = sockets.in_use("0.0.0.0", port, "TCP", sockets.listeners())
        assert found and found.title() == f"127.0.0.1:{port}"
        assert sockets.owner(found.inode).endswith(f"(pid {os.getpid()})")
        assert not sockets.can_bind("127.0.0.1", port, "TCP")
        assert sockets.can_bind("127.0.0.1", port, "UDP")
    assert sockets.in_use("0.0.0.0", port, "TCP", sockets.listeners()) is None
    assert sockets.owner("1") == ""


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
@pytest.mark.parametrize("only", [0, 1])
def test_ipv6_alone_is_not_in_the_way(only: int) -> None:
    with socket.socket(socket.AF_INET6) as server:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        try:
            server.bind(("::", 0))
        except OSError:
            pytest.skip("IPv6 is off")
        server.listen()
        found = sockets.in_use("0.0.0.0", server.getsockname()[1], "TCP", sockets.listeners())
        assert (found is None) == bool(only)


@pytest.mark.parametrize("protocol", ["TCP", "UDP", "SCTP"])
def test_a_free_port_is_free_and_none_that_is_not_wanted(protocol: str) -> None:
    port = sockets.free_port("127.0.0.1", protocol)
    assert 0 < port < 65536
    assert sockets.free_port("127.0.0.1", protocol, frozenset({port})) != port
    with pytest.raises(OSError, match="no free"):
        sockets.free_port("127.0.0.1", protocol, frozenset(range(65536)))


def test_addresses_of_the_machine() -> None:
    assert sockets.is_local("127.0.0.1") and sockets.is_local("0.0.0.0")
    assert not sockets.is_local("192.0.2.77")
