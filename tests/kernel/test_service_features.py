"""A few words of the rules follow what the node's kernel and iptables have; counters are made and removed with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from podlab.kube.proxy_chains import COUNTERS
from podlab.linux import iptables, netns, nfacct
from podlab.service_features import Features
from podlab.service_request import request as service_request
from support import service_objects, service_rows
from support.own_machine import sh
from support.service_net import ServiceNet
from support.service_topology import NODES

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine]

KIND = next(kind for kind in service_rows.KINDS if kind.name == "NodePort")
LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceNet]:
    made = ServiceNet(str(tmp_path_factory.mktemp("services")))
    yield made
    made.close()


@pytest.fixture(params=["nft", "legacy"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def program(net: ServiceNet, backend: str) -> Iterator[Any]:
    def run(mode: str = "iptables", *, check: bool = False, **more: Any) -> dict[str, Any]:
        args = service_objects.module_args([KIND], "ipv4", mode, backend, **more)
        return net.run("podlab_service", args, check=check)

    yield run
    run(state="absent")
    net.forget()


def in_node(*argv: str, node: str = "node-a") -> str:
    return sh("ip", "netns", "exec", node, *argv)


def counters(node: str = "node-a") -> tuple[str, ...]:
    with netns.entered(node), nfacct.Accounting() as accounting:
        return tuple(accounting.names())


def accounted(result: dict[str, Any]) -> list[list[str]]:
    return [command[3:] for command in result["commands"] if "nfacct" in command]


@pytest.fixture
def nfacct_known() -> None:
    if not nfacct.supported():
        pytest.skip("this kernel has no nfacct (NETFILTER_NETLINK_ACCT, NETFILTER_XT_MATCH_NFACCT)")


@pytest.mark.usefixtures("nfacct_known")
def test_counters_come_and_go_with_the_rules(program: Any, backend: str) -> None:
    planned = program(check=True)
    assert counters() == ()
    first = program()
    wanted = [[node, "nfacct", "add", name] for node in NODES for name in COUNTERS]
    assert accounted(planned) == accounted(first) == wanted
    assert [counters(node) for node in NODES] == [COUNTERS, COUNTERS]
    text = in_node(f"iptables-{backend}-save")
    for name in COUNTERS:
        assert f"--nfacct-name  {name}" in text
    assert not program()["changed"]
    gone = program(state="absent")
    assert accounted(gone) == [[node, "nfacct", "delete", name] for node in NODES for name in COUNTERS]
    assert counters() == ()
    assert not program(state="absent")["changed"]


@pytest.mark.usefixtures("nfacct_known")
def test_they_count(net: ServiceNet, program: Any, backend: str) -> None:
    program()
    address, port, _ = service_objects.address(KIND, service_rows.LOCALHOST, "ipv4")
    for _ in range(3):
        assert net.ask("node-a", address, port).who in KIND.endpoints
    (rule,) = (
        line
        for line in in_node(f"iptables-{backend}-save", "-c", "-t", "nat").splitlines()
        if f"{COUNTERS[1]} " in line and f"--dport {port}" in line
    )
    assert rule.startswith("[3:")


@pytest.mark.usefixtures("nfacct_known")
def test_another_mode_needs_no_counters(program: Any) -> None:
    program()
    program("nftables")
    assert counters() == ()
    program()
    assert counters() == COUNTERS


@pytest.mark.parametrize(("value", "dropped"), [("0", [True, True]), ("1", [False, True])])
def test_liberal_tracking_on_a_node_drops_nothing_invalid_there(
    program: Any, backend: str, value: str, dropped: list[bool]
) -> None:
    in_node("sysctl", "-q", "-w", f"{LIBERAL}={value}")
    try:
        program()
        texts = [in_node(f"iptables-{backend}-save", node=node) for node in NODES]
        assert ["--ctstate INVALID" in text for text in texts] == dropped
        assert not program()["changed"]
    finally:
        in_node("sysctl", "-q", "-w", f"{LIBERAL}=0")


def test_random_ports_are_asked_for_when_iptables_can(program: Any, backend: str) -> None:
    program()
    assert "-j MASQUERADE --random-fully" in in_node(f"iptables-{backend}-save", "-t", "nat")


def test_an_older_iptables_is_not_asked_for_random_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"pods": [], "dns_dir": None, "state_file": None, "state": "present"}
    asked = service_request({**given, **service_objects.module_args([KIND], "ipv4")})
    for version, able in (((1, 6, 1), False), ((1, 6, 2), True), ((1, 8, 9), True), ((), False)):
        monkeypatch.setattr(iptables, "version", lambda _backend, version=version: version)
        features = Features(asked)
        features.observe(iptables.detect(), [])
        assert features.options(asked.nodes[0]).random_fully is able
