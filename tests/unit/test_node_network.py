"""The node network as the options of podlab_topology."""

from __future__ import annotations

import hashlib

from podlab import topology_want
from podlab.kube import topology
from podlab.kube.cluster import PortMapping, uplink_name
from podlab.runtime import paths
from support.lab_objects import cluster


def test_the_module_accepts_it():
    assert topology_want.read({**topology.node_network(cluster()), "state": "present"})[1] == []


def test_names_are_those_of_the_runtime():
    made = topology.node_network(cluster(workers=1))
    assert [space["name"] for space in made["namespaces"]] == [
        *(paths.network_netns("kind"), paths.node_netns("cp"), paths.node_netns("w1"))
    ]


def test_mapped_ports_alone_need_a_setting_of_the_uplink():
    assert topology.node_network(cluster())["sysctls"] == []
    one = cluster().nodes[0]._replace(port_mappings=(PortMapping("0.0.0.0", 80, 80, "TCP"),))
    made = topology.node_network(cluster()._replace(nodes=(one,)))
    assert made["sysctls"] == [{"name": f"net.ipv4.conf.{uplink_name('kind')}.route_localnet", "value": "1"}]


def test_one_uplink_and_nothing_else_on_the_machine():
    made = topology.node_network(cluster())
    outside = [link for link in made["links"] if not link.get("netns")]
    assert outside == [
        {
            "name": "podlab" + hashlib.sha256(b"kind").hexdigest()[:8],
            "kind": "veth",
            "altname": "podlab-uplink-kind",
            "addresses": ["172.18.0.1/16"],
            "addrgenmode": "none",
            "up": True,
            "peer": {
                "name": "uplink",
                "netns": "podlab-kind-network",
                "master": "br0",
                "addrgenmode": "none",
                "up": True,
            },
        }
    ]
    assert all(route["netns"] for route in made["routes"])


def test_the_uplinks_name_fits_and_tells_clusters_apart():
    names = {uplink_name(name) for name in ("kind", "other", "x" * 200)}
    assert len(names) == 3
    assert all(len(name) == 14 and name.startswith("podlab") for name in names)


def test_node_link():
    link = topology.node_network(cluster())["links"][3]
    assert link == {
        "name": "eth0",
        "netns": "podlab-w1",
        "kind": "veth",
        "address": "02:42:ac:12:00:03",
        "addresses": ["172.18.0.3/16"],
        "up": True,
        "peer": {"name": "veth1", "netns": "podlab-kind-network", "master": "br0", "addrgenmode": "none", "up": True},
    }


def test_routes_of_a_node():
    routes = [r for r in topology.node_network(cluster())["routes"] if r["netns"] == "podlab-w1"]
    assert [(route["dst"], route["via"]) for route in routes] == [
        *(("default", "172.18.0.1"), ("10.244.0.0/24", "172.18.0.2"), ("10.244.2.0/24", "172.18.0.4"))
    ]
