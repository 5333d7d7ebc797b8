"""One packet followed through real rules: what is told is what happened, and nothing stays behind."""

from __future__ import annotations

import pathlib
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from podlab.errors import PodlabError
from podlab.linux import netns, nftrace
from podlab.runtime import packet
from support.packets import GATEWAY, NODE_ADDRESS, Node
from support.services import pod, service

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine]

VIP = "10.96.0.20"
SECONDS = 5
CLUSTER = {
    "name": "kind",
    "pod_subnet": "10.244.0.0/16",
    "ip_family": "ipv4",
    "kube_proxy_mode": "iptables",
    "nodes": [{"name": "node-a", "address": NODE_ADDRESS}],
}
Run = Callable[..., dict[str, Any]]
Follow = Callable[..., tuple[list[packet.Passage], packet.Answer]]


@pytest.fixture(scope="module")
def lab() -> Iterator[Node]:
    node = Node()
    yield node
    node.close()


@pytest.fixture
def program(lab: Node, run_module: Run, podlab_roots: pathlib.Path) -> Iterator[Callable[..., None]]:
    """program(service, how many ready pods): kube-proxy's rules on the node, gone after the test."""

    def load(
        specs: list[dict[str, Any]], ready: int = 3, backend: str = "nft", mode: str = "iptables", **args: Any
    ) -> None:
        pods = [pod(f"web-{number}", address) for number, address in enumerate(list(lab.pods)[:ready])]
        nodes = [{"name": "node-a", "netns": lab.node.path}]
        result = run_module(
            "podlab_service",
            {
                "cluster": {**CLUSTER, "kube_proxy_mode": mode},
                "nodes": nodes,
                "services": specs,
                "pods": pods,
                "proxy": {"backend": backend},
                **args,
            },
        )
        assert not result.get("failed"), result

    yield load
    load([], state="absent")
    lab.node.run("conntrack -F")


@pytest.fixture
def follow(lab: Node) -> Follow:
    """follow("10.244.1.2", port): one packet from that pod."""
    node = packet.Node("node-a", lab.node.path, (NODE_ADDRESS, GATEWAY), tuple(lab.pods))

    def send(source: str, port: int = 80, address: str = VIP, protocol: str = "tcp") -> Any:
        origin = packet.Origin("pod", source, "node-a", lab.pods[source].path)
        ends = [(each, 8080) for each in lab.pods]
        return packet.follow(origin, [node], protocol, address, port, ends)

    return send


def web(**spec: Any) -> dict[str, Any]:
    return service("web", VIP, [{"port": 80, "targetPort": 8080}], selector={"app": "web"}, **spec)


def peer_of(servers: dict[str, socket.socket]) -> tuple[str, str, int]:
    """Which pod has the connection, and from which address and port it came."""
    (server,) = select.select(list(servers.values()), [], [], SECONDS)[0]
    accepted, (address, port) = server.accept()
    accepted.close()
    return next(name for name, known in servers.items() if known is server), address, port


def test_the_story_is_what_the_server_saw(lab: Node, program: Callable[..., None], follow: Follow) -> None:
    """Of every choice: where it went, and who the server was told to be its client, hairpin among them."""
    program([web()])
    chosen = set()
    with lab.listening(8080) as servers:
        for _ in range(40):
            [passage], answer = follow("10.244.1.2")
            assert answer.result == "connected"
            assert passage.leaves is not None
            left = passage.leaves
            assert (left.destination, left.source, left.source_port) == peer_of(servers)
            assert left.destination_port == 8080
            assert left.source == (GATEWAY if left.destination == "10.244.1.2" else "10.244.1.2")
            chosen.add(left.destination)
    assert chosen == set(lab.pods)


def test_the_rules_told_are_those_whose_counters_rose(lab: Node, program: Callable[..., None], follow: Follow) -> None:
    """Two witnesses that know nothing of each other; of the nat table, which only a connection's first packet sees."""
    program([web()])
    with lab.listening(8080):
        [passage], _ = follow("10.244.1.3")
    counted = {
        match[2]
        for match in re.finditer(r"^\[(\d+):\d+\] (-A .*)$", lab.node.run("iptables-nft-save -c -t nat"), re.MULTILINE)
        if match[1] != "0"
    }
    told = {hit.rule for hit in passage.hits if hit.table == "nat" and hit.rule}
    assert told == counted
    assert len(told) >= 6


def test_the_way_from_hook_to_hook(lab: Node, program: Callable[..., None], follow: Follow) -> None:
    program([web()], ready=1)
    with lab.listening(8080):
        [passage], _ = follow("10.244.1.3")
    assert list(dict.fromkeys(hit.hook for hit in passage.hits)) == ["prerouting", "forward", "postrouting"]
    way = [(hit.chain, hit.verdict, hit.target) for hit in passage.hits if hit.hook == "prerouting"]
    first, second, third, last = way
    assert first == ("PREROUTING", "jump", "KUBE-SERVICES")
    assert second[:2] == ("KUBE-SERVICES", "jump") and second[2].startswith("KUBE-SVC-")
    assert third[:2] == (second[2], "jump") and third[2].startswith("KUBE-SEP-")
    assert last == (third[2], "accept", "")
    assert passage.hits[3].rule.endswith("-j DNAT --to-destination 10.244.1.2:8080")
    assert passage.interface == "veth1"
    assert passage.route == "10.244.1.2 from 10.244.1.3 dev veth0"


def test_refused_by_a_rule_by_the_pod_and_not_answered(lab: Node, program: Callable[..., None], follow: Follow) -> None:
    program([web()], ready=0)
    # A client that was sent no ICMP redirects: they count against the ICMP errors that it may get.
    [passage], answer = follow("10.244.1.4")
    assert (answer.result, passage.leaves) == ("refused", None)
    assert passage.hits[-1].verdict == "drop"
    assert "default/web has no endpoints" in passage.hits[-1].rule and "-j REJECT" in passage.hits[-1].rule
    program([web()], ready=1)
    [passage], answer = follow("10.244.1.2")
    # Nobody listens: the connection was forgotten at once, its translation is told all the same.
    assert answer.result == "refused" and passage.leaves is not None
    assert (passage.leaves.source, passage.leaves.destination) == (GATEWAY, "10.244.1.2")
    lab.node.run("iptables-nft -A FORWARD -s 10.244.1.3 -j DROP")
    try:
        [passage], answer = follow("10.244.1.3")
        assert answer.result == "no answer" and passage.leaves is None
        assert passage.hits[-1].rule == "-A FORWARD -s 10.244.1.3/32 -j DROP"
    finally:
        lab.node.run("iptables-nft -D FORWARD -s 10.244.1.3 -j DROP")


def test_one_datagram(lab: Node, program: Callable[..., None], follow: Follow) -> None:
    ports = [{"name": "dns", "port": 80, "targetPort": 8080, "protocol": "UDP"}]
    program([service("web", VIP, ports, selector={"app": "web"})])
    with lab.listening(8080, socket.SOCK_DGRAM) as servers:
        [passage], answer = follow("10.244.1.2", protocol="udp")
        assert answer.result == "no answer"
        assert passage.leaves is not None
        server = servers[passage.leaves.destination]
        assert server.recvfrom(100) == (b"podlab", (passage.leaves.source, passage.leaves.source_port))
        assert select.select(list(servers.values()), [], [], 0)[0] == []


def test_other_packets_are_not_told(lab: Node, program: Callable[..., None]) -> None:
    program([web()])
    wanted = nftrace.Wanted("tcp", VIP, 80, "10.244.1.2", 5555)
    with netns.entered(lab.node.path):
        tracer = nftrace.Tracer([wanted])
    with lab.listening(8080), tracer:
        for source, port in (("10.244.1.2", 0), ("10.244.1.3", 5555), ("10.244.1.2", 5555)):
            with lab.pods[source].socket() as client:
                client.bind((source, port))
                client.connect((VIP, 80))
        steps, connections = tracer.read()
    assert {step.header[1:3] for step in steps if step.header} == {("10.244.1.2", 5555)}
    assert len({step.packet for step in steps}) == 1
    assert len(connections) == 3
    assert tables(lab) == {"filter", "nat"}


def tables(lab: Node) -> set[str]:
    return set(re.findall(r"^table ip (\S+)$", lab.node.run("nft list tables"), re.MULTILINE))


def test_the_table_goes_with_whoever_made_it(lab: Node) -> None:
    """Killed in the middle: the kernel takes it away."""
    code = (
        "import sys; from podlab.linux import netns, nftrace\n"
        "with netns.entered(sys.argv[1]): t = nftrace.Tracer([nftrace.Wanted('tcp', '10.96.0.20', 80)])\n"
        "print('there', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, lab.node.path]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        assert nftrace.TABLE in tables(lab)
        process.send_signal(signal.SIGKILL)
        assert process.wait(SECONDS) == -signal.SIGKILL
    assert nftrace.TABLE not in tables(lab)


def test_two_at_once_do_not_mix(lab: Node, follow: Follow) -> None:
    with netns.entered(lab.node.path):
        tracer = nftrace.Tracer([nftrace.Wanted("tcp", VIP, 80)])
    with tracer, pytest.raises(PodlabError, match="Another trace is at work on node node-a: wait for its end"):
        follow("10.244.1.2")
    assert nftrace.TABLE not in tables(lab)


def test_more_packets_than_can_be_told(lab: Node, follow: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another client of the same endpoint sends as fast as it can: a story with holes would be a wrong one."""
    monkeypatch.setattr(nftrace, "_RECEIVE_BYTES", 1)
    send = packet._send

    def beside(*arguments: Any) -> packet.Answer:
        with lab.pods["10.244.1.3"].socket(socket.SOCK_DGRAM) as other:
            for _ in range(100):
                other.sendto(b"x", ("10.244.1.2", 8080))
        return send(*arguments)

    monkeypatch.setattr(packet, "_send", beside)
    with pytest.raises(PodlabError, match="Cannot trace on node node-a: more packets to the same endpoints came"):
        follow("10.244.1.2", protocol="udp")
    assert nftrace.TABLE not in tables(lab)


def test_nftables_mode(lab: Node, program: Callable[..., None], follow: Follow) -> None:
    """Its rules as nft prints them, chain by chain; the same end."""
    program([web()], mode="nftables")
    try:
        with lab.listening(8080) as servers:
            [passage], answer = follow("10.244.1.3")
            assert passage.leaves is not None and answer.result == "connected"
            left = passage.leaves
            assert (left.destination, left.source, left.source_port) == peer_of(servers)
        listed = [" ".join(line.split()) for line in lab.node.run("nft list table ip kube-proxy").splitlines()]
        told = [hit.rule for hit in passage.hits if hit.table == "kube-proxy" and hit.rule]
        assert [rule for rule in told if rule not in listed] == []
        assert f"meta l4proto tcp dnat to {left.destination}:8080" in told
    finally:
        program([], mode="nftables", state="absent")


def test_legacy_rules_by_their_counters(
    lab: Node, program: Callable[..., None], follow: Follow, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The lock file of iptables-legacy would stay on the machine.
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "xtables.lock"))
    program([], state="absent")
    program([web()], backend="legacy")
    try:
        with lab.listening(8080) as servers:
            [passage], answer = follow("10.244.1.3")
            assert passage.leaves is not None and answer.result == "connected"
            assert passage.leaves.destination == peer_of(servers)[0]
        assert passage.counted
        ends = [
            hit.rule for hit in passage.hits if hit.rule.endswith(f"--to-destination {passage.leaves.destination}:8080")
        ]
        assert len(ends) == 1
        saved = lab.node.run("iptables-legacy-save").splitlines()
        assert [hit.rule for hit in passage.hits if hit.rule not in saved] == []
    finally:
        program([], backend="legacy", state="absent")
