"""Connection tracking entries as conntrack(8) shows them; each is found and deleted alone."""

from __future__ import annotations

import errno
import re
import shlex
import socket
from collections.abc import Iterator

import pytest

from podlab.linux import conntrack, netns
from podlab.linux.conntrack import Conntrack, Entry, Tuple
from support.packets import Namespace

pytestmark = pytest.mark.kernel

NAT = """*nat
-A OUTPUT -d {vip}/{bits} -p udp -m udp --dport 53 -j DNAT --to-destination {target}
COMMIT
*mangle
-A OUTPUT -p udp -j CONNMARK --set-mark 0x1234
COMMIT
"""
FAMILIES = {
    "ipv4": (socket.AF_INET, "127.0.0.1", "192.0.2.1", 32, "127.0.0.1:5353", "iptables"),
    "ipv6": (socket.AF_INET6, "::1", "2001:db8::1", 128, "[::1]:5353", "ip6tables"),
}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def host() -> Iterator[Namespace]:
    namespace = Namespace()
    namespace.run("ip link set lo up")
    yield namespace
    namespace.close()


def translated(host: Namespace, family: str, *ports: int) -> None:
    """Send from each port to the virtual address, port 53, which loopback's 5353 answers."""
    kind, own, vip, bits, target, command = FAMILIES[family]
    host.run(f"ip addr add {vip}/{bits} dev lo")
    host.run(f"{command}-nft-restore", NAT.format(vip=vip, bits=bits, target=target))
    with netns.entered(host.path):
        server = socket.socket(kind, socket.SOCK_DGRAM)
        clients = [socket.socket(kind, socket.SOCK_DGRAM) for _ in ports]
    with server:
        server.settimeout(5)
        server.bind((own, 5353))
        for client, port in zip(clients, ports):
            with client:
                client.settimeout(5)
                client.bind((own, port))
                client.sendto(b"who", (vip, 53))
                server.sendto(b"me", server.recvfrom(10)[1])
                assert client.recvfrom(10)[1][0] == vip


def entries(host: Namespace, family: str = "") -> list[Entry]:
    with netns.entered(host.path), Conntrack() as tracking:
        return tracking.entries(family)


def test_an_entry_shows_both_directions_and_what_was_done(host: Namespace, family: str) -> None:
    _, own, vip, *_ = FAMILIES[family]
    translated(host, family, 40001)
    (entry,) = entries(host)
    assert entry.orig == Tuple("udp", own, 40001, vip, 53)
    assert entry.reply == Tuple("udp", own, 5353, own, 40001)
    wanted = conntrack.SEEN_REPLY | conntrack.CONFIRMED | conntrack.DST_NAT
    assert entry.status & wanted == wanted and not entry.status & conntrack.SRC_NAT
    assert (entry.mark, entry.zone) == (0x1234, 0) and entry.id
    # conntrack(8) reads the same table.
    shown = host.run(f"conntrack -L -f {family} -o id")
    assert re.search(rf"dport=53 .* mark=4660 .*id={entry.id}\b", shown), shown
    other = "ipv6" if family == "ipv4" else "ipv4"
    assert (entries(host, family), entries(host, other)) == ([entry], [])


def test_one_connection_is_found_by_either_direction(host: Namespace, family: str) -> None:
    translated(host, family, 40001, 40002)
    with netns.entered(host.path), Conntrack() as tracking:
        for entry in tracking.entries():
            assert tracking.get(entry.orig).id == tracking.get(entry.reply, reply=True).id == entry.id
        with pytest.raises(OSError, match="get connection") as caught:
            tracking.get(entry.orig._replace(source_port=40003))
    assert caught.value.errno == errno.ENOENT


def test_the_very_entry_is_deleted(host: Namespace, family: str) -> None:
    translated(host, family, 40001, 40002)
    gone = next(entry for entry in entries(host) if entry.orig.source_port == 40001)
    with netns.entered(host.path), Conntrack() as tracking:
        with pytest.raises(OSError, match="delete connection"):
            tracking.delete(gone._replace(id=gone.id ^ 1))
        tracking.delete(gone)
        with pytest.raises(OSError, match="delete connection") as caught:
            tracking.delete(gone)
    assert caught.value.errno == errno.ENOENT
    assert [entry.orig.source_port for entry in entries(host)] == [40002]


def test_the_typed_command_deletes_it_too(host: Namespace, family: str) -> None:
    translated(host, family, 40001, 40002)
    (doomed,) = (entry for entry in entries(host) if entry.orig.source_port == 40001)
    host.run(shlex.join(doomed.delete_argv()))
    assert [entry.orig.source_port for entry in entries(host)] == [40002]


def test_protocols_without_ports(host: Namespace) -> None:
    host.run("iptables-nft-restore", "*filter\n-A OUTPUT -m conntrack --ctstate NEW\nCOMMIT\n")
    host.run("ping -c 1 127.0.0.1")
    (entry,) = entries(host)
    assert entry.orig == Tuple("icmp", "127.0.0.1", 0, "127.0.0.1", 0)


def test_a_namespace_that_tracks_nothing(host: Namespace) -> None:
    assert entries(host) == []
