"""A UDP client that keeps its port is not left with a dead endpoint; whatever works is left alone."""

from __future__ import annotations

import select
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from podlab.kube import proxy
from podlab.linux import iptables, netns
from podlab.linux.conntrack import Conntrack, Entry
from podlab.service_plan import ServicePlan
from podlab.service_request import Request
from podlab.service_request import request as service_request
from support import service_objects, service_rows
from support.own_machine import sh
from support.service_net import DROPPED, REFUSED, ServiceNet
from support.service_rows import Kind
from support.service_topology import ADDRESSES, FAMILIES

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine]

UDP = next(kind for kind in service_rows.KINDS if kind.name == "UDP")
TCP = next(kind for kind in service_rows.KINDS if kind.name == "ClusterIP")
BACKEND = "nft"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceNet]:
    made = ServiceNet(str(tmp_path_factory.mktemp("services")))
    yield made
    made.close()


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def program(net: ServiceNet, family: str) -> Iterator[Any]:
    """program(*kinds): run podlab_service for both nodes; its result. Everything is gone after the test."""

    def run(*kinds: Kind, check: bool = False, **more: Any) -> dict[str, Any]:
        return net.run("podlab_service", args(family, *kinds, **more), check=check)

    yield run
    run(state="absent")
    net.forget()


def args(family: str, *kinds: Kind, mode: str = "iptables", **more: Any) -> dict[str, Any]:
    return service_objects.module_args(kinds, family, mode, BACKEND, **more)


def request_of(family: str, *kinds: Kind) -> Request:
    given = {"pods": [], "dns_dir": None, "state_file": None, "state": "present"}
    return service_request({**given, **args(family, *kinds)})


def load(family: str, *kinds: Kind) -> None:
    """Load the rules alone, with nothing forgotten."""
    asked = request_of(family, *kinds)
    backend = iptables.detect(family, BACKEND)
    for node in asked.nodes:
        rules = proxy.restore_text(asked.services, asked.slices, node.proxy, asked.options)
        iptables.restore(backend, {node.netns: rules.text()})


def udp(*endpoints: str) -> Kind:
    return UDP._replace(endpoints=endpoints)


def entries(node: str) -> list[Entry]:
    with netns.entered(node), Conntrack() as tracking:
        return tracking.entries()


def deletions(result: dict[str, Any]) -> list[list[str]]:
    return [command for command in result["commands"] if "conntrack" in command]


@pytest.mark.parametrize(("asker", "where"), [("a4", service_rows.CLUSTER_IP), ("client", service_rows.NODE_PORT_A)])
def test_a_client_gets_another_endpoint_when_its_own_is_gone(
    net: ServiceNet, program: Any, family: str, asker: str, where: str
) -> None:
    address, port, _ = service_objects.address(UDP, where, family)
    program(udp("a1"))
    with net.client(asker, family) as client:
        source = client.getsockname()[1]
        assert net.ask_again(client, asker, address, port).who == "a1"
        load(family, udp("b1"))
        assert net.ask_again(client, asker, address, port).who == "a1", "the rules alone change nothing for it"
        planned = program(udp("b1"), check=True)
        done = program(udp("b1"))
        assert net.ask_again(client, asker, address, port).who == "b1"
    (command,) = deletions(done)
    assert command[:9] == [*shlex.split("ip netns exec node-a conntrack -D -f"), family, "-p"]
    assert command[command.index("--sport") + 1] == str(source)
    assert deletions(planned) == [command]
    why = f"{udp_target(family, 'a1')} no longer serves "
    assert any(why in step for entry in done["results"] for step in entry["steps"])
    assert not program(udp("b1"))["changed"]


def test_in_nftables_mode_too(net: ServiceNet, program: Any, family: str) -> None:
    address, port, _ = service_objects.address(UDP, service_rows.NODE_PORT_A, family)
    program(udp("a1"), mode="nftables")
    with net.client("client", family) as client:
        assert net.ask_again(client, "client", address, port).who == "a1"
        (command,) = deletions(program(udp("b1"), mode="nftables"))
        assert command[command.index("--sport") + 1] == str(client.getsockname()[1])
        assert net.ask_again(client, "client", address, port).who == "b1"
        program(udp(), mode="nftables")
        assert net.ask_again(client, "client", address, port) == REFUSED


def udp_target(family: str, pod: str) -> str:
    ip = ADDRESSES[family][pod]
    return f"[{ip}]:5353" if ":" in ip else f"{ip}:5353"


@pytest.mark.parametrize(
    ("asker", "where", "before"),
    [("a4", service_rows.CLUSTER_IP, DROPPED), ("client", service_rows.NODE_PORT_A, REFUSED)],
)
def test_a_client_that_was_there_before_the_first_endpoint(
    net: ServiceNet, program: Any, family: str, asker: str, where: str, before: Any
) -> None:
    """What is sent before there are rules is tracked as it is, and would never be translated."""
    address, port, _ = service_objects.address(UDP, where, family)
    with net.client(asker, family) as client:
        assert net.ask_again(client, asker, address, port) == before
        load(family, udp("a1"))
        assert net.ask_again(client, asker, address, port) == before, "the rules alone change nothing for it"
        program(udp("a1"))
        assert net.ask_again(client, asker, address, port).who == "a1"


def test_the_last_endpoint_gone_is_told_at_once(net: ServiceNet, program: Any, family: str) -> None:
    address, port, _ = service_objects.address(UDP, service_rows.CLUSTER_IP, family)
    program(udp("a1"))
    with net.client("a4", family) as client:
        assert net.ask_again(client, "a4", address, port).who == "a1"
        program(udp())
        assert net.ask_again(client, "a4", address, port) == REFUSED


def test_rules_that_were_flushed_by_hand(net: ServiceNet, program: Any, family: str) -> None:
    address, port, _ = service_objects.address(UDP, service_rows.CLUSTER_IP, family)
    program(udp("a1"))
    command = "iptables-nft" if family == "ipv4" else "ip6tables-nft"
    sh("ip", "netns", "exec", "node-a", command, "-t", "nat", "-F")
    with net.client("a4", family) as client:
        assert net.ask_again(client, "a4", address, port) == DROPPED
        program(udp("a1"))
        assert net.ask_again(client, "a4", address, port).who == "a1"


def test_what_works_is_left_alone(net: ServiceNet, program: Any, family: str) -> None:
    """An endpoint that serves while it terminates, a connection of no Service, and TCP, whatever becomes of it."""
    address, port, _ = service_objects.address(UDP, service_rows.CLUSTER_IP, family)
    web, web_port, _ = service_objects.address(TCP, service_rows.CLUSTER_IP, family)
    program(udp("a1"), TCP._replace(endpoints=("a1",)))
    with (
        net.client("a4", family) as client,
        net.client("a3", family) as other,
        net.socket("a4", family, "TCP") as stream,
    ):
        assert net.ask_again(client, "a4", address, port).who == "a1"
        assert net.ask_again(other, "a3", ADDRESSES[family]["b2"], 5353).who == "b2"
        stream.connect((web, web_port))
        (server,) = select.select(list(net.servers[family, "TCP"]), [], [], 5)[0]
        accepted, _ = server.accept()
        known = {entry.id for entry in entries("node-a")}
        result = program(udp("a1 terminating", "b1"), TCP._replace(endpoints=("b1",)))
        assert deletions(result) == []
        assert known <= {entry.id for entry in entries("node-a")}
        with accepted:
            accepted.send(b"still here")
            assert stream.recv(16) == b"still here"
        assert net.ask_again(client, "a4", address, port).who == "a1"
        program(udp("b1"), TCP._replace(endpoints=("b1",)))
        assert net.ask_again(client, "a4", address, port).who == "b1"


def test_what_begins_while_the_rules_change_is_swept(net: ServiceNet, program: Any, family: str) -> None:
    """A request between the plan and the new rules still goes to the old endpoint."""
    address, port, _ = service_objects.address(UDP, service_rows.CLUSTER_IP, family)
    program(udp("a1"))
    with net.client("a4", family) as client:
        plan = ServicePlan(request_of(family, udp("b1")), False)
        items = plan.items()
        assert not any(step.kind == "conntrack.delete" for item in items for step in item.steps)
        assert net.ask_again(client, "a4", address, port).who == "a1"
        plan.apply_all(items)
        assert net.ask_again(client, "a4", address, port).who == "b1"


def test_nobody_looks_at_connections_when_nothing_of_udp_changed(program: Any, family: str) -> None:
    program(udp("a1"), TCP._replace(endpoints=("a1",)))
    for kinds, nodes in (
        ((udp("a1"), TCP._replace(endpoints=("b1",))), []),
        ((udp("b1"), TCP._replace(endpoints=("a1",))), ["node-a", "node-b"]),
    ):
        plan = ServicePlan(request_of(family, *kinds), False)
        assert any(item.steps for item in plan.items())
        assert [node.proxy.name for node in plan.clearing.looked_at] == nodes
