"""The way in from outside and out again: --nat, mapped ports, NodePorts; and a machine that is afterwards as before.

The machine is one of the test's own, and so is the world: a namespace at the other end of its eth0.
"""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from podlab.kube.cluster import lab_hash
from podlab.kube.topology import route_localnet
from support import snapshot
from support.machine import Machine, kill_with_children, machine
from support.small_lab import SERVER, SmallLab
from support.waiting import until

pytestmark = pytest.mark.own_machine

MACHINE, WORLD = "192.0.2.10", "192.0.2.1"
FORWARDING = "net.ipv4.ip_forward"
NODEPORT = SERVER.replace("spec: {selector", "spec: {type: NodePort, selector").replace(
    "port: 80}]", "port: 80, nodePort: 30080}]"
)
# A lab without pods.
NOTHING = "{apiVersion: v1, kind: Namespace, metadata: {name: nothing}}"
# Answers every connection with the address that it came from.
ECHO = """
import socket, sys
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[1], int(sys.argv[2])))
server.listen()
print("ready", flush=True)
while True:
    client, peer = server.accept()
    client.sendall(peer[0].encode())
    client.close()
"""


def config(*mappings: str) -> str:
    """A lab of one node with these mappings."""
    return f"nodes: [{{role: control-plane, extraPortMappings: [{', '.join(mappings)}]}}]\n"


@pytest.fixture
def host() -> Iterator[Machine]:
    """A machine of the test's own, and at the other end of its eth0 a world; no lab leaves anything on it."""
    with machine() as made:
        made.sh("ip", "netns", "add", "world")
        made.sh("ip", "link", "set", "outside", "netns", "world")
        for words in (f"address add {WORLD}/24 dev outside", "link set outside up", "link set lo up"):
            made.sh("ip", "-n", "world", *words.split())
        before = made.snapshot()
        yield made
        snapshot.assert_same(before, made.snapshot())


class Echo:
    """A server that says from where it is asked, in a namespace of the machine, or on the machine itself."""

    def __init__(self, host: Machine, where: str, address: str, port: int) -> None:
        enter = ("ip", "netns", "exec", where) if where else ()
        argv = (*enter, sys.executable, "-c", ECHO, address, str(port))
        self.process = host.popen(*argv, stdout=subprocess.PIPE)

    def __enter__(self) -> Echo:
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *error: object) -> None:
        kill_with_children(self.process)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.wait()


def ask(host: Machine, address: str, port: int, where: str = "") -> str:
    """What a connection to that port says; empty when there is none within three seconds."""
    enter = ("ip", "netns", "exec", where) if where else ()
    script = f"exec 3<>/dev/tcp/{address}/{port} && cat <&3"
    return host.run(*enter, "timeout", "3", "bash", "-c", script).stdout


def ask_from_pod(lab: SmallLab, address: str, port: int) -> str:
    return lab.try_exec("server", "timeout", "3", "nc", address, str(port)).stdout


def rules(host: Machine) -> str:
    """All rules of the machine, and whether it forwards."""
    saved = host.sh("iptables-save").splitlines(keepends=True)
    return "".join(line for line in saved if not line.startswith("#")) + host.sh("sysctl", FORWARDING)


# -- out: --nat -------------------------------------------------------------------------------------------------------


def test_nat_lets_pods_out_behind_the_machines_address(host: Machine, tmp_path: pathlib.Path) -> None:
    lab = SmallLab(host, tmp_path, "small")
    with Echo(host, "world", WORLD, 7000):
        lab.up()
        assert rules(host) == f"{FORWARDING} = 0\n"
        assert ask_from_pod(lab, WORLD, 7000) == ""
        planned = lab.up("--nat", "--check")
        assert "1 would change" in planned and rules(host) == f"{FORWARDING} = 0\n"
        lab.up("--nat")
        assert ask_from_pod(lab, WORLD, 7000) == MACHINE
        # Remembered: neither `up` nor `apply` ends it.
        assert "nothing to do" in lab.up()
        assert lab.invoke("apply", "-f", str(lab.manifest)).returncode == 0
        assert ask_from_pod(lab, WORLD, 7000) == MACHINE
        lab.up("--no-nat")
        assert rules(host) == f"{FORWARDING} = 0\n"
        assert ask_from_pod(lab, WORLD, 7000) == ""
    lab.assert_works()
    lab.down()


def test_a_hardened_machine_is_hardened_afterwards(host: Machine, tmp_path: pathlib.Path) -> None:
    """The kernel changes accept_redirects whenever ip_forward changes."""
    redirects = "net.ipv4.conf.all.accept_redirects"
    host.sh("sysctl", "-w", f"{redirects}=0")
    lab = SmallLab(host, tmp_path, "small", NOTHING)
    lab.up("--nat")
    lab.down()
    assert host.sh("sysctl", "-n", redirects, FORWARDING) == "0\n0\n"
    host.sh("sysctl", "-w", f"{redirects}=1")


def test_the_outside_cannot_open_connections_into_a_lab_with_nat(host: Machine, tmp_path: pathlib.Path) -> None:
    lab = SmallLab(host, tmp_path, "small", NODEPORT)
    lab.up("--nat")
    node = lab_node(lab)
    host.sh("ip", "-n", "world", "route", "add", f"{node}/32", "via", MACHINE)
    host.sh("iptables", "-P", "FORWARD", "DROP")
    assert ask_http(host, node, 30080) == "server\n"
    assert ask_http(host, node, 30080, "world") == ""
    host.sh("iptables", "-P", "FORWARD", "ACCEPT")
    lab.down()
    host.sh("ip", "-n", "world", "route", "delete", f"{node}/32")


def lab_node(lab: SmallLab) -> str:
    """Address of the lab's node."""
    record = json.loads(lab.machine.path(f"{lab.state}/cluster.json").read_text())
    return str(record["nodes"][0]["address"])


def ask_http(host: Machine, address: str, port: int, where: str = "") -> str:
    """The page that is answered; empty when there is none."""
    enter = ("ip", "netns", "exec", where) if where else ()
    return host.run(*enter, "curl", "--silent", "--max-time", "3", f"http://{address}:{port}/").stdout


def test_a_machine_that_forwards_already_and_has_rules_keeps_both(host: Machine, tmp_path: pathlib.Path) -> None:
    host.sh("sysctl", "-w", f"{FORWARDING}=1")
    host.sh("iptables", "-A", "FORWARD", "-s", "198.51.100.1", "-j", "DROP")
    before = host.snapshot()
    lab = SmallLab(host, tmp_path, "small", config=config("{containerPort: 80, hostPort: 8080}"))
    lab.up("--nat")
    lab.down()
    snapshot.assert_same(before, host.snapshot())
    host.sh("iptables", "-D", "FORWARD", "-s", "198.51.100.1", "-j", "DROP")
    host.sh("nft", "delete", "table", "ip", "filter")
    host.sh("sysctl", "-w", f"{FORWARDING}=0")


# -- in: NodePorts and extraPortMappings ------------------------------------------------------------------------------


def test_a_nodeport_answers_through_a_mapped_port(host: Machine, tmp_path: pathlib.Path) -> None:
    """From the machine, at every address of its own; from the world; from a pod of the lab itself."""
    lab = SmallLab(host, tmp_path, "small", NODEPORT, config("{containerPort: 30080, hostPort: 8080}"))
    text = lab.up()
    assert "0.0.0.0:8080" in text and "small-control-plane:30080/TCP" in text
    assert ask_http(host, lab_node(lab), 30080) == "server\n"
    for address in ("127.0.0.1", MACHINE, lab_node(lab).rpartition(".")[0] + ".1"):
        assert ask_http(host, address, 8080) == "server\n", address
    assert ask_http(host, MACHINE, 8080, "world") == "server\n"
    inside = lab.exec("server", "timeout", "5", "wget", "-qO-", f"http://{MACHINE}:8080")
    assert inside == "server\n"
    # Ports alone are no way out.
    with Echo(host, "world", WORLD, 7000):
        assert ask_from_pod(lab, WORLD, 7000) == ""
    assert "nothing to do" in lab.up()
    lab.down()


def test_listen_addresses_protocols_and_picked_ports(host: Machine, tmp_path: pathlib.Path) -> None:
    mappings = (
        "{containerPort: 7001, hostPort: 8001, listenAddress: 127.0.0.1}",
        f"{{containerPort: 7002, hostPort: 8002, listenAddress: {MACHINE}}}",
        "{containerPort: 7003, hostPort: 0}",
        "{containerPort: 7004, hostPort: 8004, protocol: UDP}",
    )
    lab = SmallLab(host, tmp_path, "small", config=config(*mappings))
    lab.up()
    shown = re.findall(r"(\S+):(\d+) +(\S+):(\d+)/(\w+)", host.sh("invoke", "status", environment=lab.environment))
    picked = next(int(port) for _, port, _, inner, _ in shown if inner == "7003")
    assert picked > 1023
    node = "podlab-small-control-plane"
    with Echo(host, node, "0.0.0.0", 7001), Echo(host, node, "0.0.0.0", 7002), Echo(host, node, "0.0.0.0", 7003):
        gateway = lab_node(lab).rpartition(".")[0] + ".1"
        assert ask(host, "127.0.0.1", 8001) == gateway
        assert ask(host, MACHINE, 8001) == ask(host, MACHINE, 8001, "world") == ""
        assert ask(host, "127.0.0.1", 8002) == ""
        assert (ask(host, MACHINE, 8002), ask(host, MACHINE, 8002, "world")) == (MACHINE, WORLD)
        assert ask(host, MACHINE, picked, "world") == WORLD
    udp = host.sh("iptables", "-t", "nat", "-S")
    assert '-p udp -m udp --dport 8004 -m comment --comment "podlab lab small: 0.0.0.0:8004' in udp
    # Kept by the next `up`, and what is no longer wanted goes.
    assert "nothing to do" in lab.up()
    lab.config.write_text(lab.config.read_text().replace(mappings[1] + ", ", ""))
    lab.up()
    left = host.sh("iptables", "-t", "nat", "-S")
    assert f"--dport {picked} " in left and "--dport 8002 " not in left
    lab.config.write_text(lab.config.read_text().replace(config(mappings[0], *mappings[2:]), ""))
    lab.up()
    assert rules(host) == f"{FORWARDING} = 0\n"
    assert host.sh("sysctl", "-n", route_localnet("small")) == "0\n"
    lab.down()


def test_nodes_do_not_reach_the_machines_loopback(host: Machine, tmp_path: pathlib.Path) -> None:
    """route_localnet lets 127.0.0.1 answer through the uplink, and nothing else."""
    lab = SmallLab(host, tmp_path, "small", config=config("{containerPort: 80, hostPort: 8080}"))
    lab.up()
    node, gateway = "podlab-small-control-plane", lab_node(lab).rpartition(".")[0] + ".1"
    for words in ("sysctl -w net.ipv4.conf.all.route_localnet=1", "iptables -F KUBE-FIREWALL"):
        host.sh("ip", "netns", "exec", node, *words.split())
    for words in (
        "rule add pref 0 from all lookup 77",
        "rule add pref 100 lookup local",
        "rule delete pref 0 lookup local",
    ):
        host.sh("ip", "-n", node, *words.split())
    host.sh("ip", "-n", node, "route", "add", "127.0.0.2/32", "via", gateway, "table", "77")
    with Echo(host, "", "127.0.0.2", 7000):
        assert ask(host, "127.0.0.2", 7000) == "127.0.0.1"
        assert ask(host, "127.0.0.2", 7000, node) == ""
        # The rule that shuts it out is what does it.
        host.sh("iptables", "-F", f"PODLAB-IN-{lab_hash('small')}")
        assert ask(host, "127.0.0.2", 7000, node) != ""
    lab.down()


# -- who is in the way ------------------------------------------------------------------------------------------------


def test_ports_that_are_taken_are_named_with_their_owner_and_nothing_is_made(
    host: Machine, tmp_path: pathlib.Path
) -> None:
    one = SmallLab(host, tmp_path, "one", config=config("{containerPort: 80, hostPort: 9001}"))
    one.up()
    with_one = host.snapshot()
    mappings = (
        "{containerPort: 80, hostPort: 7000}",
        "{containerPort: 81, hostPort: 9001, listenAddress: 127.0.0.1}",
        "{containerPort: 82, hostPort: 9002, listenAddress: 198.51.100.7}",
        "{containerPort: 83, hostPort: 9001, protocol: UDP}",
    )
    two = SmallLab(host, tmp_path, "two", config=config(*mappings))
    with Echo(host, "", "127.0.0.1", 7000):
        done = two.invoke("up", "--config", str(two.config))
    assert done.returncode
    pid = re.search(r"taken by python[^ ]* \(pid (\d+)\), which listens on 127\.0\.0\.1:7000", done.text)
    assert pid and "nodes[0].extraPortMappings[0].hostPort: 0.0.0.0:7000/TCP is taken by" in done.text, done.text
    assert (
        "nodes[0].extraPortMappings[1].hostPort: 127.0.0.1:9001/TCP is taken by lab one "
        "(0.0.0.0:9001 -> one-control-plane:80/TCP). Stop that, or set another hostPort; 0 picks a free one"
    ) in done.text
    assert "extraPortMappings[2].listenAddress: 198.51.100.7 is no address of this machine" in done.text
    assert "extraPortMappings[3]" not in done.text
    snapshot.assert_same(with_one, host.snapshot())
    two.down()
    one.down()


def test_a_chain_of_our_name_that_is_not_ours_is_named_and_stays(host: Machine, tmp_path: pathlib.Path) -> None:
    chain = f"PODLAB-FWD-{lab_hash('small')}"
    host.sh("iptables", "-N", chain)
    host.sh("iptables", "-A", chain, "-j", "RETURN")
    before = host.snapshot()
    lab = SmallLab(host, tmp_path, "small")
    done = lab.invoke("up", "--nat", "--config", str(lab.config))
    assert done.returncode
    assert f"chain {chain} of table filter: is not lab small's: it has the rule -A {chain} -j RETURN" in done.text
    lab.down()
    snapshot.assert_same(before, host.snapshot())
    host.sh("nft", "delete", "table", "ip", "filter")


# -- the end ----------------------------------------------------------------------------------------------------------


def test_two_labs_side_by_side(host: Machine, tmp_path: pathlib.Path) -> None:
    """Each has its way, neither reaches the other except by a mapped port, and the last one puts the machine back."""
    one = SmallLab(host, tmp_path, "one", NODEPORT, config("{containerPort: 30080, hostPort: 9001}"))
    two = SmallLab(host, tmp_path, "one-two", NODEPORT, config("{containerPort: 30080, hostPort: 9002}"))
    one.up()
    with_one = rules(host)
    two.up("--nat")
    assert "nothing to do" in one.up()
    assert (ask_http(host, MACHINE, 9001, "world"), ask_http(host, MACHINE, 9002, "world")) == ("server\n", "server\n")
    nodes = {lab: f"podlab-{lab.name}-control-plane" for lab in (one, two)}
    assert ask_http(host, lab_node(two), 30080, nodes[one]) == ask_http(host, lab_node(one), 30080, nodes[two]) == ""
    assert ask_http(host, MACHINE, 9002, nodes[one]) == ask_http(host, MACHINE, 9001, nodes[two]) == "server\n"
    two.down()
    assert rules(host) == with_one
    two.up("--nat")
    one.down()
    assert ask_http(host, MACHINE, 9002, "world") == "server\n"
    assert host.sh("sysctl", "-n", FORWARDING) == "1\n"
    two.down()


def test_down_needs_neither_config_nor_state(host: Machine, tmp_path: pathlib.Path) -> None:
    lab = SmallLab(host, tmp_path, "small", config=config("{containerPort: 80, hostPort: 8080}"))
    lab.up("--nat")
    host.sh("rm", "-r", "/run/podlab")
    lab.config.unlink()
    assert "is down" in lab.down()
    assert rules(host) == f"{FORWARDING} = 0\n"


def test_rules_that_are_gone_come_back(host: Machine, tmp_path: pathlib.Path) -> None:
    lab = SmallLab(host, tmp_path, "small", config=config("{containerPort: 80, hostPort: 8080}"))
    lab.up("--nat")
    whole = rules(host)
    for damage in (
        ("iptables", "-D", "FORWARD", "1"),
        ("iptables", "-t", "nat", "-F", "POSTROUTING"),
        ("iptables", "-F", f"PODLAB-IN-{lab_hash('small')}"),
        ("sysctl", "-w", f"{FORWARDING}=0"),
    ):
        host.sh(*damage)
        assert rules(host) != whole
        lab.up()
        assert rules(host) == whole, damage
    lab.down()


@pytest.mark.parametrize("moment", ["iptables", "sysctl"])
def test_killed_half_way_down_leaves_nothing(host: Machine, tmp_path: pathlib.Path, moment: str) -> None:
    """At the rules, and as soon as the machine forwards."""
    lab = SmallLab(host, tmp_path, "small", config=config("{containerPort: 80, hostPort: 8080}"))
    process = host.popen(
        *("invoke", "up", "--nat", "--config", str(lab.config)),
        environment=lab.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    forwarding = host.path("/proc/sys/net/ipv4/ip_forward")
    if moment == "iptables":
        until(lambda: "PODLAB" in host.sh("iptables-save"), "no rule appears", 90)
    else:
        until(lambda: host.sh("sysctl", "-n", FORWARDING) == "1\n", f"{forwarding} stays 0", 90)
    kill_with_children(process)
    process.wait()
    lab.invoke("down")
    assert rules(host) == f"{FORWARDING} = 0\n"
