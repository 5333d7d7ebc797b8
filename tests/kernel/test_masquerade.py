"""Out of the pods' network: a pod's packets carry its node's address, on both backends and in every proxy mode."""

from __future__ import annotations

import pathlib
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from podlab.kube.iptables_save import parse_save
from support.packets import NODE_ADDRESS, SECONDS, Namespace, Node

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine]

MACHINE = "172.18.0.1"
Run = Callable[..., dict[str, Any]]


class Lab(Node):
    """The node beside a machine: a neighbour on the node network that has no route to pods."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = Namespace()
        self.node.run(f"ip link add uplink type veth peer name eth0 netns {self.machine.path}")
        self.node.run("ip link set uplink master eth0 up")
        self.machine.run("ip link set eth0 up")
        self.machine.run(f"ip addr add {MACHINE}/16 dev eth0")

    def close(self) -> None:
        self.machine.close()
        super().close()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.close()


@pytest.fixture(params=["nft", "legacy"])
def backend(request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "xtables.lock"))
    return str(request.param)


@pytest.fixture(params=["iptables", "none"])
def program(
    request: pytest.FixtureRequest, lab: Lab, backend: str, run_module: Run, podlab_roots: pathlib.Path
) -> Iterator[Run]:
    """program(**args): run podlab_service without Services on the node, in a proxy mode. Gone after the test."""
    cluster = {
        "name": "kind",
        "pod_subnet": "10.244.0.0/16",
        "kube_proxy_mode": request.param,
        "nodes": [{"name": "node-a", "address": NODE_ADDRESS}],
    }

    def run(*, check: bool = False, **args: Any) -> dict[str, Any]:
        nodes = [{"name": "node-a", "netns": lab.node.path}]
        whole = {"cluster": cluster, "nodes": nodes, "proxy": {"backend": backend}, **args}
        result = run_module("podlab_service", whole, check=check, diff=True)
        assert not result.get("failed"), result
        return result

    yield run
    run(state="absent")
    assert "MASQ" not in lab.node.run(f"iptables-{backend}-save")


def seen_as(source: Namespace, target: Namespace, address: str) -> str:
    """The address behind which a datagram of the source arrives."""
    with target.socket(socket.SOCK_DGRAM) as server, source.socket(socket.SOCK_DGRAM) as client:
        server.bind((address, 0))
        client.sendto(b"", server.getsockname())
        assert select.select([server], [], [], SECONDS)[0], f"nothing arrives at {address}"
        peer = server.recvfrom(10)[1]
        server.sendto(b"yes", peer)
        assert client.recv(10) == b"yes"
    return str(peer[0])


def test_a_pod_is_answered_by_who_has_no_route_to_it(lab: Lab, program: Run) -> None:
    pod = next(iter(lab.pods.values()))
    program()
    with lab.machine.socket() as server, pod.socket() as client:
        server.bind((MACHINE, 0))
        server.listen()
        client.connect(server.getsockname())
        accepted, (peer, _) = server.accept()
        accepted.close()
    assert peer == NODE_ADDRESS


def test_pods_keep_their_addresses_among_themselves(lab: Lab, program: Run) -> None:
    program()
    first, second, _ = lab.pods
    assert seen_as(lab.pods[first], lab.pods[second], second) == first
    assert seen_as(lab.pods[first], lab.node, NODE_ADDRESS) == first


def test_it_is_checked_shown_and_kept(lab: Lab, backend: str, program: Run) -> None:
    planned = program(check=True)
    assert "KIND-MASQ-AGENT" not in lab.node.run(f"iptables-{backend}-save")
    made = program()
    assert (made["commands"], made["diff"]) == (planned["commands"], planned["diff"])
    shown = next(entry for entry in made["diff"] if entry["before_header"] == "node-a masquerade")
    assert shown["after"]["nat"][-1].endswith("-j MASQUERADE")
    assert not program()["changed"]


@pytest.mark.parametrize(
    "damage",
    ["-F KIND-MASQ-AGENT", "-F POSTROUTING", "-D KIND-MASQ-AGENT 1", "-I KIND-MASQ-AGENT -j RETURN", "-F"],
)
def test_damage_is_mended(lab: Lab, backend: str, program: Run, damage: str) -> None:
    program()
    whole = parse_save(lab.node.run(f"iptables-{backend}-save -t nat"))
    lab.node.run(f"iptables-{backend} -t nat {damage}")
    assert program()["changed"]
    assert parse_save(lab.node.run(f"iptables-{backend}-save -t nat")) == whole
    assert not program()["changed"]


def test_the_jump_comes_after_kube_proxys(lab: Lab, backend: str, program: Run) -> None:
    program()
    jumps = parse_save(lab.node.run(f"iptables-{backend}-save"))["nat"]["POSTROUTING"]
    assert jumps[-1].endswith("-j KIND-MASQ-AGENT")
