"""hostPort with real packets: from another node, the node itself and pods; beside other rules; and gone again."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from podlab.kube import portmap
from podlab.linux import netns
from podlab.runtime import hostport, narrate, paths, sandbox
from support import runtime
from support.own_machine import sh

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]
NODE, OTHER, OUTSIDE = "172.18.0.2", "172.18.0.3", "podlab-other"
SECONDS = 20.0
# kube-proxy's, as far as it could be hurt, and a rule of somebody else's.
NEIGHBOURS = """\
*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:SOMEBODY - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m tcp --dport 443 -j DNAT --to-destination 10.244.0.9:6443
-A SOMEBODY -j RETURN
COMMIT
"""


def server(*ports: dict[str, object], text: str = "tcp") -> dict[str, object]:
    """A container that answers on TCP 80 with a page."""
    script = f"mkdir /www; echo {text} > /www/index.html; exec httpd -f -p 80 -h /www"
    return {"command": ["sh", "-c", script], "ports": list(ports)}


TCP = {"containerPort": 80, "hostPort": 8080}
LOCAL = {"containerPort": 80, "hostPort": 8081, "hostIP": "127.0.0.1"}
# Nobody of the pod listens there: the test does.
OWN = {"containerPort": 83, "hostPort": 8083}
UDP = {"containerPort": 53, "hostPort": 8080, "protocol": "UDP"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.one_node(tmp_path_factory.mktemp("lab")) as made:
        where = paths.node_netns(made.record["name"])
        netns.create(OUTSIDE)
        try:
            sh("ip", "link", "add", "eth0", "netns", where, "type", "veth", "peer", "name", "eth0", "netns", OUTSIDE)
            for space, address in ((where, NODE), (OUTSIDE, OTHER)):
                for words in (
                    f"address add {address}/16 dev eth0",
                    "link set eth0 up",
                    "link set lo up",
                ):
                    sh("ip", "-n", space, *words.split())
            made.in_node("sysctl", "-qw", "net.ipv4.ip_forward=1")
            subprocess.run(
                ["ip", "netns", "exec", where, "iptables-restore"], input=NEIGHBOURS, text=True, check=True, timeout=60
            )
            yield made
        finally:
            sh("ip", "-n", OUTSIDE, "link", "del", "eth0", check=False)
            netns.delete(OUTSIDE)


@pytest.fixture(scope="module")
def pod(lab: runtime.Lab) -> runtime.Pod:
    made = lab.start(lab.pod(server(TCP, LOCAL, OWN, UDP), name="served"))[0]
    assert made.said == ""
    runtime.until(lambda: page(OUTSIDE, NODE, 8080) == "tcp", "nobody listens")
    return made


@pytest.fixture(scope="module")
def neighbour(lab: runtime.Lab, pod: runtime.Pod) -> runtime.Pod:
    """A pod with a host port of its own; it starts after the first."""
    made = lab.start(lab.pod(server({"containerPort": 80, "hostPort": 9090}, text="neighbour"), name="neighbour"))[0]
    assert made.said == ""
    runtime.until(lambda: page(OUTSIDE, NODE, 9090) == "neighbour", "nobody listens")
    return made


def page(where: str, address: str, port: int) -> str:
    """The page of a server, or what keeps one from it."""
    with netns.entered(where), socket.socket() as client:
        client.settimeout(SECONDS)
        try:
            client.connect((address, port))
        except OSError as error:
            return type(error).__name__
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        said = b""
        while data := client.recv(65536):
            said += data
        return said.decode().split("\r\n\r\n")[1].strip()


def rules(lab: runtime.Lab) -> list[str]:
    said = sh("ip", "netns", "exec", paths.node_netns(lab.record["name"]), "iptables-save")
    return [line.partition(" [")[0] for line in said.splitlines() if line[:1] in ":-"]


@pytest.fixture
def node(lab: runtime.Lab) -> str:
    return paths.node_netns(lab.record["name"])


class TestPackets:
    """critest's and e2e's port mapping rows, N portmap TCP and UDP."""

    def test_n_tcp_from_another_node(self, pod: runtime.Pod) -> None:
        assert page(OUTSIDE, NODE, 8080) == "tcp"

    def test_n_tcp_from_the_node_itself(self, pod: runtime.Pod, node: str) -> None:
        assert page(node, NODE, 8080) == "tcp"
        assert page(node, "127.0.0.1", 8080) == "tcp"
        assert page(node, "10.244.0.1", 8080) == "tcp"

    def test_n_from_the_pod_itself_and_from_its_neighbour(self, pod: runtime.Pod, neighbour: runtime.Pod) -> None:
        for asker in (pod, neighbour):
            assert asker.sh(f"wget -qO- http://{NODE}:8080/") == "tcp\n"
        assert pod.sh(f"wget -qO- http://{NODE}:9090/") == "neighbour\n"

    def test_k_host_ip(self, pod: runtime.Pod, node: str) -> None:
        assert page(node, "127.0.0.1", 8081) == "tcp"
        assert page(node, NODE, 8081) == "ConnectionRefusedError"
        assert page(OUTSIDE, NODE, 8081) == "ConnectionRefusedError"

    def test_other_ports_and_addresses_are_left_alone(self, pod: runtime.Pod, node: str) -> None:
        assert page(OUTSIDE, NODE, 8082) == "ConnectionRefusedError"
        assert page(node, "127.0.0.1", 80) == "ConnectionRefusedError"

    def test_n_a_client_keeps_its_address_where_it_can(self, pod: runtime.Pod, node: str) -> None:
        """Only hairpins and the node's own loopback are given another source."""
        own = f"/proc/{pod.pause()}/ns/net"
        with netns.entered(own):
            listener = socket.create_server(("0.0.0.0", 83))
        listener.settimeout(SECONDS)
        seen = {}
        with contextlib.closing(listener):
            for where, address in ((OUTSIDE, NODE), (node, NODE), (node, "127.0.0.1"), (own, NODE)):
                with netns.entered(where), socket.create_connection((address, 8083), SECONDS):
                    accepted, (source, _) = listener.accept()
                    accepted.close()
                    seen[where, address] = source
        assert seen == {
            (OUTSIDE, NODE): OTHER,
            (node, NODE): NODE,
            (node, "127.0.0.1"): "10.244.0.1",
            (own, NODE): "10.244.0.1",
        }

    def test_n_udp_and_after_recreation(self, lab: runtime.Lab, pod: runtime.Pod) -> None:
        """A client that keeps its source port is not left with the pod that is gone."""
        port = {"containerPort": 53, "hostPort": 7070, "protocol": "UDP"}
        with netns.entered(OUTSIDE):
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.bind((OTHER, 5353))
        seen = []
        with contextlib.closing(client):
            for _ in range(2):
                made = lab.start(lab.pod(server(port)))[0]
                with netns.entered(f"/proc/{made.pause()}/ns/net"):
                    answering = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                with contextlib.closing(answering):
                    for each in (client, answering):
                        each.settimeout(SECONDS)
                    answering.bind(("0.0.0.0", 53))
                    client.sendto(b"question", (NODE, 7070))
                    data, peer = answering.recvfrom(100)
                    answering.sendto(b"answer", peer)
                    assert (data, peer) == (b"question", (OTHER, 5353))
                    assert client.recvfrom(100) == (b"answer", (NODE, 7070))
                    seen.append(made.status()["podIP"])
                # While its connection is still tracked.
                made.delete(0)
        assert len(set(seen)) == 2


class TestRow33Loopback:
    """CVE-2020-8558: what route_localnet lets in is answers, nothing else."""

    @pytest.fixture
    def loopback(self, node: str) -> Iterator[socket.socket]:
        with netns.entered(node):
            listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.settimeout(SECONDS)
        listener.bind(("0.0.0.0", 6060))
        with contextlib.closing(listener):
            yield listener

    def test_from_the_pod(self, lab: runtime.Lab, pod: runtime.Pod, node: str, loopback: socket.socket) -> None:
        """Its own loopback taken away, and 127.0.0.1 sent to the node: what a pod with NET_ADMIN can do."""
        inside = ["nsenter", "--target", str(pod.pause()), "--net"]
        for words in (
            "sysctl -qw net.ipv4.conf.all.route_localnet=1",
            "ip route del local 127.0.0.1 dev lo table local",
            "ip route del local 127.0.0.0/8 dev lo table local",
            f"ip route add 127.0.0.0/8 via 10.244.0.1 dev eth0 src {pod.status()['podIP']}",
        ):
            sh(*inside, *words.split())
        send = "import socket,sys; socket.socket(2, 2).sendto(sys.argv[1].encode(), (sys.argv[2], 6060))"
        for text, address in (("bad", "127.0.0.1"), ("good", "10.244.0.1")):
            sh(*inside, "python3", "-c", send, text, address)
        # They came on one link, so in this order.
        assert loopback.recv(100) == b"good"
        # Without the rule it is another matter: so the rule it is.
        guard = portmap.guard(sandbox.veth_name(sandbox.sandbox_id(pod.uid, 0))).replace("-I INPUT", "-D INPUT", 1)
        text = f"*filter\n{guard}\nCOMMIT\n"
        restore = ["ip", "netns", "exec", node, "iptables-restore", "--noflush"]
        subprocess.run(restore, input=text, text=True, check=True, timeout=60)
        sh(*inside, "python3", "-c", send, "bad", "127.0.0.1")
        assert loopback.recv(100) == b"bad"

    def test_from_another_node(self, pod: runtime.Pod, loopback: socket.socket) -> None:
        inside = ["ip", "netns", "exec", OUTSIDE]
        for words in (
            "sysctl -qw net.ipv4.conf.all.route_localnet=1",
            "ip route del local 127.0.0.1 dev lo table local",
            "ip route del local 127.0.0.0/8 dev lo table local",
            f"ip route add 127.0.0.0/8 via {NODE} dev eth0 src {OTHER}",
        ):
            sh(*inside, *words.split())
        send = "import socket,sys; socket.socket(2, 2).sendto(sys.argv[1].encode(), (sys.argv[2], 6060))"
        for text, address in (("bad", "127.0.0.1"), ("good", NODE)):
            sh(*inside, "python3", "-c", send, text, address)
        assert loopback.recv(100) == b"good"


class TestRules:
    """portmap's own chains, beside everybody else's."""

    def test_the_chains_are_portmaps(self, lab: runtime.Lab, neighbour: runtime.Pod) -> None:
        identity = sandbox.sandbox_id(neighbour.uid, 0)
        chain = hostport.chain(identity)
        assert chain.startswith("CNI-DN-") and len(chain) == 28
        own = sorted(line for line in rules(lab) if chain in line)
        mark = "-j CNI-HOSTPORT-SETMARK"
        assert own == sorted(
            [
                f":{chain} -",
                f'-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \\"kindnet\\" id: \\"{identity}\\"" '
                f"-m multiport --dports 9090 -j {chain}",
                f"-A {chain} -s 10.244.0.0/24 -p tcp -m tcp --dport 9090 {mark}",
                f"-A {chain} -s 127.0.0.1/32 -p tcp -m tcp --dport 9090 {mark}",
                f"-A {chain} -p tcp -m tcp --dport 9090 -j DNAT --to-destination {neighbour.status()['podIP']}:80",
            ]
        )

    def test_everybody_elses_are_there_and_come_first(self, lab: runtime.Lab, neighbour: runtime.Pod) -> None:
        there = rules(lab)
        assert {line for line in NEIGHBOURS.splitlines() if line.startswith("-A")} <= set(there)
        for hook in ("PREROUTING", "OUTPUT"):
            jumps = [line for line in there if line.startswith(f"-A {hook} ")]
            assert jumps == [f"-A {hook} -j KUBE-SERVICES", f"-A {hook} -m addrtype --dst-type LOCAL -j {portmap.DNAT}"]
        masquerading = [line.split()[-1] for line in there if line.startswith("-A POSTROUTING ")]
        assert masquerading == [portmap.MASQ, "KUBE-POSTROUTING"]

    def test_they_go_with_the_pod(self, lab: runtime.Lab, neighbour: runtime.Pod, node: str) -> None:
        before = rules(lab)
        made = lab.start(lab.pod(server({"containerPort": 80, "hostPort": 7071}, UDP | {"hostPort": 7072})))[0]
        runtime.until(lambda: page(OUTSIDE, NODE, 7071) == "tcp", "nobody listens")
        made.delete(0)
        assert rules(lab) == before
        assert page(OUTSIDE, NODE, 7071) == "ConnectionRefusedError"
        assert page(OUTSIDE, NODE, 9090) == "neighbour"

    def test_they_go_after_a_crash_and_come_back_with_the_pod(self, lab: runtime.Lab, neighbour: runtime.Pod) -> None:
        before = rules(lab)
        made = lab.start(lab.pod(server({"containerPort": 80, "hostPort": 7073}, text="first")))[0]
        supervisor = made.supervisor()
        os.kill(supervisor, 9)
        runtime.wait_for_end([supervisor])
        runtime.pods.clear(lab.name, made.uid)
        assert rules(lab) == before
        assert lab.start_config(made.pod, made.config).said == ""
        runtime.until(lambda: page(OUTSIDE, NODE, 7073) == "first", "nobody listens")
        # pause killed: the sandbox is another one, with another address and another chain.
        os.kill(made.pause(), 9)
        made.until(lambda pod: pod.status()["podlab"]["attempt"] == 1 and "running" in pod.container()["state"])
        runtime.until(lambda: page(OUTSIDE, NODE, 7073) == "first", "the new sandbox is not reached")
        assert len([line for line in rules(lab) if "--dports 7073" in line]) == 1
        made.delete(0)
        assert rules(lab) == before

    def test_the_commands_that_are_told_do_the_same(self, lab: runtime.Lab, pod: runtime.Pod) -> None:
        identity, veth = sandbox.sandbox_id(pod.uid, 0), sandbox.veth_name(sandbox.sandbox_id(pod.uid, 0))
        told = [step.argv for step in narrate.pod_steps(pod.config, "missing") if step.kind == "hostport.open"]
        own = hostport.rules(pod.config, identity, "192.0.2.1")
        text = portmap.open_text("", hostport.chain(identity), own, veth)
        saved = []
        for place in ("podlab-told", "podlab-done"):
            netns.create(place)
            try:
                inside = ("ip", "netns", "exec", place)
                if place == "podlab-told":
                    for argv in told:
                        sh(*inside, *(word.replace("$POD_IP", "192.0.2.1") for word in argv))
                else:
                    restore = [*inside, "iptables-restore", "--noflush"]
                    subprocess.run(restore, input=text, text=True, check=True, timeout=60)
                lines = sh(*inside, "iptables-save").splitlines()
                saved.append(sorted(line.partition(" [")[0] for line in lines if line[:1] in ":-"))
            finally:
                netns.delete(place)
        assert saved[0] == saved[1] and len(saved[0]) > 15

    def test_what_iptables_refuses_is_said(self, lab: runtime.Lab, neighbour: runtime.Pod) -> None:
        planned = lab.pod(server(TCP))
        config = lab.config(planned)
        config["host_ports"] = [{"address": "0.0.0.0", "protocol": "TCP", "port": 99999, "container_port": 80}]
        before = rules(lab)
        pod = lab.start_config(planned, config)
        message = pod.container()["state"]["waiting"]["message"]
        assert message.startswith("FailedCreatePodSandBox: iptables-restore failed with status ")
        pod.delete(0)
        assert rules(lab) == before
