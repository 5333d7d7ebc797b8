"""Services with real packets: who answers, with which source address, what is refused; on both backends."""

from __future__ import annotations

import os
import pathlib
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from podlab.kube.iptables_save import parse_save
from podlab.linux import iptables
from support.packets import GATEWAY, NODE_ADDRESS, Namespace, Node, connect
from support.services import pod, service

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine]

VIP = "10.96.0.20"
BACKENDS = ("nft", "legacy")
# One of three pods is not asked in one of 12 billion runs. How even the choice is, test_service_behaviour.py counts.
TRIES = 60
CLUSTER = {
    "name": "kind",
    "pod_subnet": "10.244.0.0/16",
    "ip_family": "ipv4",
    "kube_proxy_mode": "iptables",
    "nodes": [{"name": "node-a", "address": NODE_ADDRESS}],
}

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def lab() -> Iterator[Node]:
    node = Node()
    yield node
    node.close()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> str:
    # The lock file of iptables-legacy would stay on the machine.
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "xtables.lock"))
    return str(request.param)


@pytest.fixture
def program(
    lab: Node, backend: str, run_module: Run, podlab_roots: pathlib.Path, tmp_path: pathlib.Path
) -> Iterator[Run]:
    """program(services, pods, ...): run podlab_service on the node, which must succeed. Gone after the test."""

    def run(services: list[Any], pods: list[Any] | None = None, *, check: bool = False, **args: Any) -> dict[str, Any]:
        result = run_module("podlab_service", _args(lab.node, backend, services, pods, **args), check=check, diff=True)
        assert not result.get("failed"), result
        return result

    yield run
    run([], state="absent")
    lab.node.run("conntrack -F")


def _args(
    where: Namespace, backend: str, services: list[Any], pods: list[Any] | None = None, **more: Any
) -> dict[str, Any]:
    proxy = {"backend": backend, **more.pop("proxy", {})}
    nodes = [{"name": "node-a", "netns": where.path}]
    return {"cluster": CLUSTER, "nodes": nodes, "services": services, "pods": pods or [], "proxy": proxy, **more}


def web(**spec: Any) -> dict[str, Any]:
    return service("web", VIP, [{"port": 80, "targetPort": 8080}], selector={"app": "web"}, **spec)


def pods_of(lab: Node) -> list[dict[str, Any]]:
    return [pod(f"web-{number}", address) for number, address in enumerate(lab.pods)]


def save(lab: Node, backend: str) -> dict[str, dict[str, list[str]]]:
    return parse_save(lab.node.run(f"iptables-{backend}-save"))


def test_every_pod_answers_and_sees_the_client(lab: Node, program: Run) -> None:
    program([web()], pods_of(lab))
    client, *others = lab.pods
    with lab.listening(8080) as servers:
        answers = {connect(lab.pods[client], VIP, 80, servers) for _ in range(TRIES)}
    # To others as itself; to itself, the hairpin, as the node: else the answer would not come back this way.
    assert answers == {(client, GATEWAY), *((other, client) for other in others)}


def test_the_node_itself_is_masqueraded(lab: Node, program: Run) -> None:
    program([web()], pods_of(lab))
    with lab.listening(8080) as servers:
        assert {connect(lab.node, VIP, 80, servers)[1] for _ in range(10)} == {GATEWAY}


def test_no_endpoints_is_refused_at_once(lab: Node, program: Run) -> None:
    program([web()])
    for source in (next(iter(lab.pods.values())), lab.node):
        with source.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect((VIP, 80))


def test_a_pod_that_is_not_ready_gets_nothing(lab: Node, program: Run) -> None:
    first, second, third = lab.pods
    program([web()], [pod("a", first), pod("b", second, ready=False)])
    with lab.listening(8080) as servers:
        assert {connect(lab.pods[third], VIP, 80, servers)[0] for _ in range(20)} == {first}


def test_udp(lab: Node, program: Run) -> None:
    dns = service(
        "dns", VIP, [{"name": "dns", "port": 53, "targetPort": 5353, "protocol": "UDP"}], selector={"app": "web"}
    )
    program([dns], pods_of(lab))
    with lab.listening(5353, socket.SOCK_DGRAM) as servers:
        for source in (next(iter(lab.pods.values())), lab.node):
            with source.socket(socket.SOCK_DGRAM) as client:
                client.sendto(b"who", (VIP, 53))
                (server,) = select.select(list(servers.values()), [], [], 5)[0]
                question, peer = server.recvfrom(100)
                server.sendto(b"me", peer)
                assert (question, client.recvfrom(100)) == (b"who", (b"me", (VIP, 53)))


def test_affinity_keeps_a_client_with_its_pod(lab: Node, program: Run) -> None:
    program([web(sessionAffinity="ClientIP")], pods_of(lab))
    with lab.listening(8080) as servers:
        for source in lab.pods.values():
            assert len({connect(source, VIP, 80, servers)[0] for _ in range(15)}) == 1


def test_node_port_answers_on_the_nodes_address_and_on_localhost(lab: Node, program: Run) -> None:
    program(
        [
            service(
                "web",
                VIP,
                [{"port": 80, "targetPort": 8080, "nodePort": 30080}],
                type="NodePort",
                selector={"app": "web"},
            )
        ],
        pods_of(lab),
    )
    with lab.listening(8080) as servers:
        assert connect(next(iter(lab.pods.values())), NODE_ADDRESS, 30080, servers)[1] == GATEWAY
        assert connect(lab.node, NODE_ADDRESS, 30080, servers)[1] == GATEWAY
        assert connect(lab.node, "127.0.0.1", 30080, servers)[1] == GATEWAY


def test_second_run_does_nothing_and_names_what_it_did_before(lab: Node, backend: str, program: Run) -> None:
    planned = program([web()], pods_of(lab), check=True)
    assert not any(chain.startswith("KUBE-SVC") for chain in save(lab, backend).get("nat", {}))
    first = program([web()], pods_of(lab))
    assert first["changed"] and planned["commands"] == first["commands"] and planned["diff"] == first["diff"]
    command = f"iptables-{'' if iptables.detect().name == backend else backend + '-'}restore"
    entrance = ["ip", "netns", "exec", lab.node.path]
    assert [*entrance, command, "-w", "5", "--noflush", "--counters"] in first["commands"]
    assert any("-j KUBE-SEP-" in line for line in first["diff"][0]["after"]["nat"])
    assert first["services"] == [
        {
            "namespace": "default",
            "name": "web",
            "clusterIP": VIP,
            "ports": ["80/TCP"],
            "endpoints": [f"{address}:8080" for address in lab.pods],
        }
    ]
    second = program([web()], pods_of(lab))
    assert (second["changed"], second["commands"]) == (False, [])
    assert program([web()], pods_of(lab), check=True)["commands"] == []


def test_order_of_the_static_jumps(lab: Node, backend: str, program: Run) -> None:
    program([])
    own = save(lab, backend)
    targets = {
        (table, chain): [line.rsplit(" ", 1)[1] for line in own[table][chain]]
        for table, chain in (
            ("filter", "INPUT"),
            ("filter", "FORWARD"),
            ("filter", "OUTPUT"),
            ("nat", "PREROUTING"),
            ("nat", "OUTPUT"),
            ("nat", "POSTROUTING"),
        )
    }
    assert targets == {
        ("filter", "INPUT"): ["KUBE-FIREWALL", "KUBE-PROXY-FIREWALL", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES"],
        ("filter", "FORWARD"): ["KUBE-PROXY-FIREWALL", "KUBE-FORWARD", "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES"],
        ("filter", "OUTPUT"): ["KUBE-FIREWALL", "KUBE-PROXY-FIREWALL", "KUBE-SERVICES"],
        ("nat", "PREROUTING"): ["KUBE-SERVICES"],
        ("nat", "OUTPUT"): ["KUBE-SERVICES"],
        ("nat", "POSTROUTING"): ["KUBE-POSTROUTING", "KIND-MASQ-AGENT"],
    }


FOREIGN = """*nat
:FLANNEL-POSTRTG - [0:0]
:KUBE-MINE - [0:0]
-A POSTROUTING -m addrtype ! --dst-type LOCAL -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -d 10.244.0.0/16 -j RETURN
COMMIT
*filter
:MINE - [0:0]
-A INPUT -s 192.0.2.1/32 -j DROP
-A MINE -p tcp -m tcp --dport 9 -j DROP
COMMIT
*mangle
:MINE - [0:0]
-A MINE -j RETURN
COMMIT
"""
FOREIGN_GONE = """*nat
-F POSTROUTING
-F FLANNEL-POSTRTG
-X FLANNEL-POSTRTG
-X KUBE-MINE
COMMIT
*filter
-F INPUT
-F MINE
-X MINE
COMMIT
*mangle
-F MINE
-X MINE
COMMIT
"""


def test_stale_chains_go_and_foreign_rules_stay(lab: Node, backend: str, program: Run) -> None:
    lab.node.run(f"iptables-{backend}-restore --noflush", FOREIGN)
    before = save(lab, backend)
    program([web(), service("old", "10.96.0.30", selector={"app": "web"})], pods_of(lab))
    assert len([chain for chain in save(lab, backend)["nat"] if chain.startswith("KUBE-SVC-")]) == 2
    result = program([web()], pods_of(lab)[:1])
    own = save(lab, backend)
    kinds = [chain[:9] for chain in own["nat"] if chain[:9] in ("KUBE-SVC-", "KUBE-SEP-")]
    assert sorted(kinds) == ["KUBE-SEP-", "KUBE-SVC-"]
    assert "stale" in result["results"][0]["steps"][0]
    for table, chain, line in (
        ("nat", "POSTROUTING", "-A POSTROUTING -m addrtype ! --dst-type LOCAL -j FLANNEL-POSTRTG"),
        ("nat", "FLANNEL-POSTRTG", "-A FLANNEL-POSTRTG -d 10.244.0.0/16 -j RETURN"),
        ("filter", "INPUT", "-A INPUT -s 192.0.2.1/32 -j DROP"),
        ("filter", "MINE", "-A MINE -p tcp -m tcp --dport 9 -j DROP"),
        ("mangle", "MINE", "-A MINE -j RETURN"),
    ):
        assert line in own[table][chain]
    assert "KUBE-MINE" in own["nat"]
    program([], state="absent")
    assert save(lab, backend) == before
    lab.node.run(f"iptables-{backend}-restore --noflush", FOREIGN_GONE)


def test_a_foreign_jump_to_a_stale_chain_is_named(lab: Node, backend: str, program: Run, run_module: Run) -> None:
    program([web()], pods_of(lab))
    svc = next(chain for chain in save(lab, backend)["nat"] if chain.startswith("KUBE-SVC-"))
    lab.node.run(f"iptables-{backend} -t nat -A OUTPUT -j {svc}")
    result = run_module("podlab_service", _args(lab.node, backend, []))
    assert result["failed"]
    assert f"-A OUTPUT -j {svc}" in result["msg"] and "node-a" in result["msg"]
    lab.node.run(f"iptables-{backend} -t nat -D OUTPUT -j {svc}")


@pytest.mark.parametrize("damage", ["-t nat -F", "-t filter -F", "-t nat -D PREROUTING 1", "-t nat -F KUBE-SERVICES"])
def test_recovery(lab: Node, backend: str, program: Run, damage: str) -> None:
    program([web()], pods_of(lab))
    whole = save(lab, backend)
    lab.node.run(f"iptables-{backend} {damage}")
    assert program([web()], pods_of(lab))["changed"]
    assert save(lab, backend) == whole
    assert not program([web()], pods_of(lab))["changed"]


def test_only_the_changed_service_is_in_the_diff(lab: Node, program: Run) -> None:
    other = service("other", "10.96.0.30", selector={"app": "web"})
    program([web(), other], pods_of(lab))
    result = program([web(sessionAffinity="ClientIP"), other], pods_of(lab))
    shown = result["diff"][0]["after"]["nat"]
    assert any("recent" in line for line in shown)
    assert not any("default/other" in line for line in shown)


def test_check_mode_on_a_machine_without_the_nodes(run_module: Run, podlab_roots: pathlib.Path) -> None:
    args = {"cluster": CLUSTER, "services": [web()], "pods": [pod("a", "10.244.1.2")]}
    planned = run_module("podlab_service", args, check=True, diff=True)
    assert planned["changed"], planned
    changed = [entry["name"] for entry in planned["results"] if entry["changed"]]
    assert changed == ["node-a", "node-a masquerade", "dns", "state"]
    assert planned["commands"][0][:4] == ["ip", "netns", "exec", "podlab-node-a"]
    assert not os.listdir(podlab_roots) or not (podlab_roots / "run").exists()
    refused = run_module("podlab_service", args)
    assert refused["failed"]
    assert refused["msg"] == "nodes.node-a: has no network namespace podlab-node-a. Build the topology first"
    absent = run_module("podlab_service", {**args, "state": "absent"})
    assert not absent.get("failed") and not absent["changed"], absent


def test_backends_are_never_mixed(lab: Node, backend: str, program: Run, run_module: Run) -> None:
    program([web()], pods_of(lab))
    whole = save(lab, backend)
    (other,) = set(BACKENDS) - {backend}
    result = run_module("podlab_service", _args(lab.node, other, [web()], pods_of(lab)))
    assert result["failed"]
    assert f"has kube-proxy's chains in iptables-{backend}" in result["msg"]
    assert save(lab, backend) == whole
    assert not any(chain.startswith("KUBE-") for own in save(lab, other).values() for chain in own)


def test_a_failed_load_is_told_with_iptables_own_words(lab: Node, backend: str) -> None:
    commands = iptables.detect(backend=backend)
    with pytest.raises(iptables.PodlabError, match=r"restore.* in network namespace .* failed with status \d+: .+"):
        iptables.restore(commands, {lab.node.path: "*nat\n-A NOWHERE -j ALSO-NOWHERE\nCOMMIT\n"})


def test_errors_come_all_at_once_and_touch_nothing(lab: Node, backend: str, run_module: Run) -> None:
    before = save(lab, backend)
    cluster = {**CLUSTER, "kube_proxy_mode": "ipvs"}
    bad = [service(ip="10.96.0"), service("two", "")]
    args = {**_args(lab.node, backend, bad, proxy={"masquerade_bit": 40}), "cluster": cluster}
    result = run_module("podlab_service", {**args, "nodes": [{"name": "node-z"}]})
    assert result["failed"]
    assert [problem["place"] for problem in result["problems"]] == [
        "cluster.kube_proxy_mode",
        "nodes[0].name",
        "proxy.masquerade_bit",
        "services[0].spec.clusterIP",
        "services[1].spec.clusterIP",
    ]
    assert save(lab, backend) == before
