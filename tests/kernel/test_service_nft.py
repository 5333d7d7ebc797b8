"""podlab_service in nftables mode: with real packets, and what it leaves of the other mode."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from podlab.kube.iptables_save import parse_save
from podlab.linux import netns, nft, sysctl
from support.packets import GATEWAY, NODE_ADDRESS, Node, connect
from support.services import pod, service

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine]

VIP = "10.96.0.20"
# One of three pods is not asked in one of 12 billion runs. How even the choice is, test_service_behaviour.py counts.
TRIES = 60
Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def lab() -> Iterator[Node]:
    node = Node()
    yield node
    node.close()


@pytest.fixture
def program(lab: Node, run_module: Run, podlab_roots: pathlib.Path) -> Iterator[Run]:
    """program(services, pods, mode=...): run podlab_service on the node, which must succeed. Gone after the test."""

    def run(
        services: list[Any], pods: list[Any] | None = None, mode: str = "nftables", check: bool = False, **args: Any
    ) -> dict[str, Any]:
        cluster = {
            "name": "kind",
            "pod_subnet": "10.244.0.0/16",
            "service_subnet": "10.96.0.0/16",
            "ip_family": "ipv4",
            "kube_proxy_mode": mode,
            "nodes": [{"name": "node-a", "address": NODE_ADDRESS}],
        }
        nodes = [{"name": "node-a", "netns": lab.node.path}]
        given = {"cluster": cluster, "nodes": nodes, "services": services, "pods": pods or [], **args}
        result = run_module("podlab_service", given, check=check, diff=True)
        assert not result.get("failed"), result
        return result

    yield run
    for mode in ("nftables", "iptables"):
        run([], mode=mode, state="absent")
    lab.node.run("conntrack -F")


def web(**spec: Any) -> dict[str, Any]:
    ports = [{"port": 80, "targetPort": 8080, "nodePort": 30080}]
    return service("web", VIP, ports, type="NodePort", selector={"app": "web"}, **spec)


def pods_of(lab: Node) -> list[dict[str, Any]]:
    return [pod(f"web-{number}", address) for number, address in enumerate(lab.pods)]


def ruleset_of(lab: Node) -> str:
    return lab.node.run("nft -s list ruleset")


def test_every_pod_answers_and_sees_the_client(lab: Node, program: Run) -> None:
    program([web()], pods_of(lab))
    client, *others = lab.pods
    with lab.listening(8080) as servers:
        answers = {connect(lab.pods[client], VIP, 80, servers) for _ in range(TRIES)}
        seen = {connect(lab.node, VIP, 80, servers)[1] for _ in range(5)}
    # To others as itself; to itself, the hairpin, as the node.
    assert answers == {(client, GATEWAY), *((other, client) for other in others)}
    assert seen == {GATEWAY}


def test_affinity_keeps_a_client_with_its_pod(lab: Node, program: Run) -> None:
    program([web(sessionAffinity="ClientIP")], pods_of(lab))
    with lab.listening(8080) as servers:
        for source in lab.pods.values():
            assert len({connect(source, VIP, 80, servers)[0] for _ in range(15)}) == 1


def test_node_port_answers_on_the_nodes_address_and_not_on_localhost(lab: Node, program: Run) -> None:
    program([web()], pods_of(lab))
    with lab.listening(8080) as servers:
        for source in (next(iter(lab.pods.values())), lab.node):
            assert connect(source, NODE_ADDRESS, 30080, servers)[1] == GATEWAY
        with lab.node.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.1", 30080))


@pytest.mark.parametrize("address", [(VIP, 80), (NODE_ADDRESS, 30080), (VIP, 81)])
def test_no_endpoints_and_other_ports_are_refused_at_once(lab: Node, program: Run, address: tuple[str, int]) -> None:
    program([web()])
    for source in (next(iter(lab.pods.values())), lab.node):
        with source.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(address)


def test_an_address_that_no_service_has_is_dropped(lab: Node, program: Run) -> None:
    program([web()])
    source = next(iter(lab.pods.values()))
    with source.socket() as client:
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.connect(("10.96.0.99", 80))
    rule = "ip daddr 10.96.0.0/16 counter drop"
    lab.node.run("nft -f -", "add table ip probe\nadd chain ip probe c { type filter hook forward priority 1 ; }\n")
    try:
        lab.node.run(f"nft add rule ip probe c {rule}")
        with source.socket() as client:
            client.settimeout(0.3)
            with pytest.raises(TimeoutError):
                client.connect(("10.96.0.99", 80))
        # It did not get past kube-proxy's chain.
        assert "packets 0 " in lab.node.run("nft list chain ip probe c")
    finally:
        lab.node.run("nft delete table ip probe")


def test_second_run_does_nothing_and_check_mode_says_what_the_first_does(lab: Node, program: Run) -> None:
    planned = program([web()], pods_of(lab), check=True)
    assert not nft.has_table(lab.node.path, "ip", "kube-proxy")
    first = program([web()], pods_of(lab))
    assert planned["commands"] == first["commands"] and planned["diff"] == first["diff"]
    assert ["ip", "netns", "exec", lab.node.path, "nft", "-f", "-"] in first["commands"]
    assert first["results"][0]["steps"] == ["nft.load node node-a: table missing"]
    after = first["diff"][0]["after"]
    assert "ct state new jump firewall-check" in after["chain filter-output-pre-dnat"]
    second = program([web()], pods_of(lab))
    assert (second["changed"], second["commands"]) == (False, [])
    assert program([web()], pods_of(lab), check=True)["commands"] == []


def test_stale_chains_are_gone_after_one_run(lab: Node, program: Run) -> None:
    program([web(), service("old", "10.96.0.30", selector={"app": "web"})], pods_of(lab))
    result = program([web()], pods_of(lab)[:1])
    assert [step.split()[0] for step in result["results"][0]["steps"]] == ["nft.load", "nft.delete"]
    own = [name for name in ruleset_of(lab).split() if "/" in name and name.startswith("endpoint-")]
    assert len(set(own)) == 1 and "default/old" not in ruleset_of(lab)
    shown = result["diff"][0]
    assert any("default/old" in key for key in shown["before"]) and not any("old" in key for key in shown["after"])
    assert not program([web()], pods_of(lab)[:1])["changed"]


def test_only_what_changes_is_in_the_diff(lab: Node, program: Run) -> None:
    other = service("other", "10.96.0.30", selector={"app": "web"})
    program([web(), other], pods_of(lab))
    shown = program([web(), service("other", "10.96.0.31", selector={"app": "web"})], pods_of(lab))["diff"][0]
    assert {key.split("-")[0] for key in shown["after"]} == {"chain service", "set cluster", "map service"}
    assert not any("default/web" in key for key in shown["after"])


@pytest.mark.parametrize("damage", ["flush table ip kube-proxy", "delete table ip kube-proxy", "flush ruleset"])
def test_recovery(lab: Node, program: Run, damage: str) -> None:
    program([web()], pods_of(lab))
    whole = ruleset_of(lab)
    lab.node.run(f"nft {damage}")
    assert program([web()], pods_of(lab))["changed"]
    assert sorted(ruleset_of(lab).split()) == sorted(whole.split())
    assert not program([web()], pods_of(lab))["changed"]


def test_absent_leaves_nothing_and_others_tables_stay(lab: Node, program: Run) -> None:
    program([], state="absent")
    lab.node.run("nft -f -", "add table ip mine\nadd chain ip mine c { type filter hook input priority 0 ; }\n")
    before = ruleset_of(lab)
    program([web()], pods_of(lab))
    planned = program([], state="absent", check=True)
    gone = program([], state="absent")
    assert gone["commands"] == planned["commands"] and ruleset_of(lab).count("table ip mine") == 1
    assert not nft.has_table(lab.node.path, "ip", "kube-proxy")
    assert "chain services" in gone["diff"][0]["before"] and gone["diff"][0]["after"] == {}
    assert not program([], state="absent")["changed"]
    assert before.split("table ip mine")[1] == ruleset_of(lab).split("table ip mine")[1]
    lab.node.run("nft delete table ip mine")


def kube_chains(lab: Node) -> list[str]:
    saved = parse_save(lab.node.run("iptables-save"))
    return [chain for own in saved.values() for chain in own if chain.startswith("KUBE-")]


def kinds_of(result: dict[str, Any]) -> list[str]:
    """What was done to the node, but for counters, which not every kernel has."""
    kinds = [step.split()[0] for step in result["results"][0]["steps"]]
    return [kind for kind in kinds if not kind.startswith("nfacct.")]


def test_changing_the_mode_removes_the_rules_of_the_other(lab: Node, program: Run) -> None:
    program([web()], pods_of(lab), mode="iptables")
    assert kube_chains(lab) and localnet(lab) == "1"
    changed = program([web()], pods_of(lab))
    assert kinds_of(changed) == ["sysctl.set", "iptables.restore", "nft.load"]
    assert kube_chains(lab) == [] and localnet(lab) == "0"
    assert "KIND-MASQ-AGENT" in lab.node.run("iptables-save")
    with lab.listening(8080) as servers:
        assert connect(lab.node, NODE_ADDRESS, 30080, servers)[1] == GATEWAY
    assert not program([web()], pods_of(lab))["changed"]
    back = program([web()], pods_of(lab), mode="iptables")
    assert kinds_of(back)[-1] == "nft.delete"
    assert not nft.has_table(lab.node.path, "ip", "kube-proxy")
    assert kube_chains(lab) and localnet(lab) == "1"
    assert not program([web()], pods_of(lab), mode="iptables")["changed"]


def localnet(lab: Node) -> str:
    with netns.entered(lab.node.path):
        return sysctl.read("net.ipv4.conf.all.route_localnet")


def test_mode_none_writes_no_rules(lab: Node, program: Run) -> None:
    result = program([web()], pods_of(lab), mode="none")
    assert not kube_chains(lab) and not nft.has_table(lab.node.path, "ip", "kube-proxy")
    assert "node-a" not in [entry["name"] for entry in result["results"]]


def test_no_nft_is_one_clear_error(lab: Node, run_module: Run, monkeypatch: pytest.MonkeyPatch, program: Run) -> None:
    # Modules run from the tree as Ansible knows it.
    monkeypatch.setattr("ansible.module_utils.podlab.linux.nft.find", lambda command: "")
    cluster = {"name": "kind", "pod_subnet": "10.244.0.0/16", "kube_proxy_mode": "nftables"}
    nodes = [{"name": "node-a", "address": NODE_ADDRESS}]
    args = {"cluster": {**cluster, "nodes": nodes}, "nodes": [{"name": "node-a", "netns": lab.node.path}]}
    result = run_module("podlab_service", args)
    assert result["failed"] and "Install the package nftables" in result["msg"]
    assert not kube_chains(lab)
    # In the other mode it is not needed.
    assert program([web()], pods_of(lab), mode="iptables")["changed"]
