"""The nodes as machines, seen from inside by testinfra."""

from __future__ import annotations

import json

import pytest
import testinfra
from testinfra.host import Host

from support.lab import Lab

pytestmark = pytest.mark.lab


@pytest.fixture(params=[0, 1, 2], ids=["control-plane", "worker", "worker2"])
def number(request: pytest.FixtureRequest) -> int:
    """Each node in turn."""
    return int(request.param)


@pytest.fixture
def node(lab: Lab, number: int) -> Host:
    return testinfra.get_host(f"podlab://{lab.name}@{lab.node_names()[number]}")


def test_node_has_its_name_and_address(lab: Lab, node: Host, number: int) -> None:
    record = lab.nodes()[number]
    assert node.check_output("hostname") == record["name"]
    # As docker gives them: .2, .3, .4 of the node network.
    assert record["address"] == f"{lab.gateway().rpartition('.')[0]}.{number + 2}"
    (shown,) = node.check_output("ip -o -4 address show eth0").splitlines()
    assert f" {record['address']}/16 " in shown
    assert node.file("/etc/hosts").contains(f"^{record['address']}[[:space:]][[:space:]]*{record['name']}$")


def test_routes_are_one_per_node_and_one_per_pod(lab: Lab, node: Host, number: int) -> None:
    routes = node.check_output("ip -4 route show").splitlines()
    table = {line.split()[0]: line.split() for line in routes}
    assert table["default"][1:5] == ["via", lab.gateway(), "dev", "eth0"]
    others = {other["pod_cidr"]: other["address"] for place, other in enumerate(lab.nodes()) if place != number}
    for cidr, address in others.items():
        assert table[cidr][1:5] == ["via", address, "dev", "eth0"]
    own = lab.nodes()[number]["pod_cidr"]
    assert own not in table
    # The rest: the node network, and a route to every pod of its own by its veth.
    prefix = own.rpartition(".")[0] + "."
    pods = [destination for destination in table if destination.startswith(prefix)]
    assert all(table[pod][1] == "dev" and table[pod][2].startswith("veth") for pod in pods)
    assert len(routes) == 1 + len(others) + 1 + len(pods)
    links = json.loads(node.check_output("ip -j link show type veth"))
    assert len(pods) == sum(link["ifname"].startswith("veth") for link in links)


def test_sysctls(node: Host) -> None:
    wanted = {
        "net.ipv4.ip_forward": 1,
        # The ptp plugin needs both: every pod asks the same gateway address on a link of its own.
        "net.ipv4.conf.all.arp_ignore": 0,
    }
    assert {name: node.sysctl(name) for name in wanted} == wanted


def test_pod_links_have_the_gateway(lab: Lab, node: Host, number: int) -> None:
    gateway = lab.nodes()[number]["pod_cidr"].rpartition(".")[0] + ".1"
    links = [
        line.split()[1].split("@")[0].rstrip(":")
        for line in node.check_output("ip -o link show type veth").splitlines()
    ]
    pods = [link for link in links if link != "eth0"]
    assert pods
    for link in pods:
        assert gateway in node.interface(link).addresses


def test_node_sees_its_own_processes_only(lab: Lab, node: Host, number: int) -> None:
    """PID 1 is the node's pause; nothing of the machine or of another node is to be seen."""
    first = node.file("/proc/1/comm").content_string.strip()
    commands = node.check_output("ps -eo args=").splitlines()
    assert first == "pause"
    assert not [line for line in commands if "pytest" in line]
    here = [pod for namespace in ("default", "kube-system", "extras") for pod in lab.pods(namespace=namespace)]
    living = [pod for pod in here if pod["spec"]["nodeName"] == lab.node_names()[number] and pod["alive"]]
    assert commands.count("/pause") >= len(living)


def test_node_network_is_a_bridge_in_a_namespace_of_its_own(lab: Lab) -> None:
    """The machine has one link and one route of the lab, no bridge."""
    ports = lab.run("ip", "-n", f"podlab-{lab.name}-network", "-o", "link", "show", "master", "br0").stdout.splitlines()
    assert len(ports) == len(lab.nodes()) + 1
    routes = [line for line in lab.run("ip", "route").stdout.splitlines() if lab.gateway() in line.split()]
    assert len(routes) == 1
    assert routes[0].split()[1] == "dev"
    device = routes[0].split()[2]
    assert f"altname podlab-uplink-{lab.name}" in lab.run("ip", "link", "show", device).stdout
