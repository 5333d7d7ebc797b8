"""Services with real packets between namespaces: every row of support.service_rows, in every mode and family."""

from __future__ import annotations

import collections
import select
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from support import service_objects, service_rows
from support.own_machine import sh
from support.service_net import DROPPED, REFUSED, ServiceNet
from support.service_rows import Kind, Row
from support.service_topology import ADDRESSES, FAMILIES, OUTSIDE, PODS

pytestmark = pytest.mark.kernel

# Name -> (kubeProxyMode, iptables backend).
MODES = {
    "iptables-nft": ("iptables", "nft"),
    "iptables-legacy": ("iptables", "legacy"),
    "nftables": ("nftables", ""),
}
# A request with two possible answers is asked so often that one stays unseen in 1 of 8 million runs.
TRIES = 24


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceNet]:
    made = ServiceNet(str(tmp_path_factory.mktemp("services")))
    yield made
    made.close()


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def program(net: ServiceNet, mode: str, family: str) -> Iterator[Any]:
    """program(*kinds): the rules of these kinds on both nodes. Gone after the test."""

    def run(*kinds: Kind, **more: Any) -> dict[str, Any]:
        return net.run("podlab_service", service_objects.module_args(kinds, family, *MODES[mode], **more))

    yield run
    run(state="absent")
    net.forget()


def observe(net: ServiceNet, kind: Kind, row: Row, family: str) -> str:
    address, port, protocol = service_objects.address(kind, row.target, family)
    tries = TRIES if len(kind.endpoints) > 1 else 2
    answers = [net.ask(row.asker, address, port, protocol) for _ in range(tries)]
    named = [(who, seen and service_objects.name_of(seen, row.asker, family)) for who, seen in answers]
    return service_objects.summed_up(named, "sessionAffinity" in kind.spec)


@pytest.mark.parametrize(
    ("proxy", "kinds"),
    service_objects.variations(),
    ids=lambda value: "-".join(value) or "default" if isinstance(value, Mapping) else "",
)
def test_every_row(
    net: ServiceNet, program: Any, mode: str, family: str, proxy: Mapping[str, Any], kinds: list[Kind]
) -> None:
    program(*kinds)
    rows = [(kind, row) for kind in kinds for row in kind.rows]
    lines = {
        f"{kind.name}: {row.asker} asks for {row.target}": (
            observe(net, kind, row, family),
            row.expected(family, MODES[mode][0]),
        )
        for kind, row in rows
    }
    wrong = [f"{what}: {seen}, not {wanted}" for what, (seen, wanted) in lines.items() if seen != wanted]
    assert not wrong, "\n".join(wrong)


def test_both_modes_side_by_side(net: ServiceNet, family: str) -> None:
    """One lab, first in iptables mode and then in nftables mode: they differ where it is written down."""
    kinds = service_rows.KINDS_WITH_DEFAULTS
    rows = [(kind, row) for kind in kinds for row in kind.rows]
    columns = []
    try:
        for mode in ("iptables", "nftables"):
            net.run("podlab_service", service_objects.module_args(kinds, family, mode))
            columns.append([observe(net, kind, row, family) for kind, row in rows])
            net.forget()
    finally:
        net.run("podlab_service", service_objects.module_args((), family, "nftables", state="absent"))
        net.forget()
    table = [
        f"{kind.name:50} {row.asker:9} {row.target:22} {iptables:32} {nftables}"
        for (kind, row), iptables, nftables in zip(rows, *columns)
    ]
    differ = [line for line, iptables, nftables in zip(table, *columns) if iptables != nftables]
    expected = [[row.expected(family, mode) for mode in ("iptables", "nftables")] for _, row in rows]
    documented = [line for line, (iptables, nftables) in zip(table, expected) if iptables != nftables]
    assert documented and differ == documented, "\n".join(table)


# n -> what the sum of squares of n shares of a fair choice exceeds once in a million (chi-square, n - 1 degrees).
UNFAIR = {2: 23.93, 3: 27.63, 7: 38.26}
MANY = 3000


def web(*endpoints: str, **spec: Any) -> Kind:
    """A kind of the test's own; its addresses are those of the first of KINDS."""
    return service_rows.KINDS[0]._replace(endpoints=endpoints, spec=spec)


@pytest.mark.parametrize("count", UNFAIR)
def test_connections_are_spread_evenly(net: ServiceNet, program: Any, family: str, count: int) -> None:
    kind = web(*PODS[:count])
    program(kind)
    address, port, _ = service_objects.address(kind, service_rows.CLUSTER_IP, family)
    answers = collections.Counter(net.ask("client", address, port).who for _ in range(MANY))
    assert set(answers) == set(PODS[:count])
    share = MANY / count
    assert sum((found - share) ** 2 / share for found in answers.values()) < UNFAIR[count], answers


def test_a_masqueraded_request_has_the_address_of_the_way_that_it_goes(
    net: ServiceNet, program: Any, family: str
) -> None:
    kind = web("a1", "b1")
    program(kind)
    address, port, _ = service_objects.address(kind, service_rows.CLUSTER_IP, family)
    places = ADDRESSES[family]
    assert {tuple(net.ask("client", address, port)) for _ in range(TRIES)} == {
        ("a1", places["gateway of node-a"]),
        ("b1", places["node-a"]),
    }


def test_affinity_ends_with_its_time(net: ServiceNet, program: Any, family: str) -> None:
    """Nine clients keep their pods. After a second without a word they choose again, and cannot all choose the same."""
    affinity = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}}
    kind = web(*PODS, **affinity)
    program(kind)
    address, port, _ = service_objects.address(kind, service_rows.CLUSTER_IP, family)

    def choices() -> list[str]:
        return [net.ask(client, address, port).who for client in (*PODS, *OUTSIDE)]

    first = choices()
    assert choices() == first and len(set(first)) > 1
    select.select([], [], [], 1.1)  # no event: the time itself is what is promised
    assert choices() != first


def _foreign(mode: str, family: str, rule: str) -> None:
    """Change node-a's rules by hand, as another program on it would."""
    command = f"{'iptables' if family == 'ipv4' else 'ip6tables'}-{MODES[mode][1] or 'nft'}"
    sh("ip", "netns", "exec", "node-a", command, "-w", *rule.split())


def test_the_health_check_port_is_let_in(net: ServiceNet, program: Any, mode: str, family: str) -> None:
    """kube-proxy accepts it ahead of a firewall's own rules; nftables mode does not."""
    kind = web("a1", type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=32123)
    program(kind)
    firewall = "INPUT -p tcp --dport 32000:32767 -j DROP"
    _foreign(mode, family, f"-A {firewall}")
    try:
        address = ADDRESSES[family]["node-a"]
        # Nobody listens there: who gets in is refused.
        accepted = REFUSED if MODES[mode][0] == "iptables" else DROPPED
        assert [net.ask("client", address, port) for port in (32123, 32124)] == [accepted, DROPPED]
    finally:
        _foreign(mode, family, f"-D {firewall}")


def _datagram(source: str, destination: str, port: int) -> bytes:
    """An IPv4 packet with a UDP datagram; the IPv4 header's checksum is right, UDP's is left out."""
    head = struct.pack(">BBHHHBBH", 0x45, 0, 32, 0, 0, 64, 17, 0) + socket.inet_aton(source)
    head += socket.inet_aton(destination)
    total = sum(struct.unpack(">10H", head))
    checksum = 0xFFFF ^ ((total & 0xFFFF) + (total >> 16))
    return head[:10] + struct.pack(">H", checksum) + head[12:] + struct.pack(">HHHH", 4444, port, 12, 0) + b"boo!"


@pytest.mark.parametrize("mode", [mode for mode, (kind, _) in MODES.items() if kind == "iptables"], indirect=True)
@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_localhost_stays_closed_though_node_ports_answer_there(
    net: ServiceNet, program: Any, mode: str, family: str
) -> None:
    """route_localnet=1 lets packets from elsewhere in to 127.0.0.1, and KUBE-FIREWALL keeps them out."""
    program(web("a1"))
    packet = _datagram(ADDRESSES[family]["client"], "127.0.0.1", 4444)
    with net.socket("node-a", family, "UDP") as server:
        server.bind(("127.0.0.1", 4444))

        def arrives() -> bool:
            net.inject("client", "node-a", packet)
            net.fence("client", family)
            return bool(select.select([server], [], [], 0)[0])

        assert not arrives()
        _foreign(mode, family, "-F KUBE-FIREWALL")
        assert arrives()
