"""From a kind config to names, addresses, labels and taints."""

from __future__ import annotations

import json

import pytest

from podlab.kube.cluster import Cluster, Mount, build, node_names, pod_cidrs, uplink_name
from podlab.kube.kind_types import Config, ExtraMount, Networking, NodeConfig

WORKER = NodeConfig(role="worker")
MASTER = NodeConfig()


def lab(*nodes: NodeConfig, **networking: object) -> Cluster:
    """The cluster of these nodes."""
    return build(Config(nodes=nodes, networking=Networking(**networking)), "kind", "172.18.0.0/16")  # type: ignore[arg-type]


def test_names_addresses_and_pod_cidrs_in_config_order() -> None:
    found = lab(WORKER, MASTER, WORKER, MASTER, WORKER)
    assert [(node.name, node.index, node.address, node.pod_cidr) for node in found.nodes] == [
        ("kind-worker", 0, "172.18.0.2", "10.244.0.0/24"),
        ("kind-control-plane", 1, "172.18.0.3", "10.244.1.0/24"),
        ("kind-worker2", 2, "172.18.0.4", "10.244.2.0/24"),
        ("kind-control-plane2", 3, "172.18.0.5", "10.244.3.0/24"),
        ("kind-worker3", 4, "172.18.0.6", "10.244.4.0/24"),
    ]
    assert (found.gateway, found.dns_service_ip, found.dns_domain) == ("172.18.0.1", "10.96.0.10", "cluster.local")


def test_host_bits_and_mapped_addresses_are_normalised() -> None:
    found = lab(MASTER, pod_subnet="10.9.8.7/16", service_subnet="::ffff:10.100.0.0/112")
    assert (found.pod_subnet, found.service_subnet) == ("10.9.0.0/16", "10.100.0.0/16")
    assert (found.nodes[0].pod_cidr, found.dns_service_ip) == ("10.9.0.0/24", "10.100.0.10")


def test_three_hundred_nodes_cross_the_octet() -> None:
    found = lab(MASTER, *[WORKER] * 299, pod_subnet="10.0.0.0/12")
    assert (found.nodes[254].address, found.nodes[256].pod_cidr) == ("172.18.1.0", "10.1.0.0/24")
    assert len({node.address for node in found.nodes}) == 300


def test_labels_and_taints() -> None:
    control, worker = lab(MASTER, NodeConfig(role="worker", labels={"disk": "ssd", "kubernetes.io/os": "own"})).nodes
    assert control.labels == {
        "beta.kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": "kind-control-plane",
        "kubernetes.io/os": "linux",
        "node-role.kubernetes.io/control-plane": "",
        "node.kubernetes.io/exclude-from-external-load-balancers": "",
    }
    assert control.taints == ({"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},)
    assert worker.labels["disk"] == "ssd"
    assert worker.labels["kubernetes.io/os"] == "own"  # kubelet: --node-labels overwrite the default ones
    assert worker.taints == ()


def test_a_single_node_has_no_taint() -> None:
    node = lab(MASTER).nodes[0]
    assert node.taints == ()
    assert node.labels["node-role.kubernetes.io/control-plane"] == ""
    assert "node.kubernetes.io/exclude-from-external-load-balancers" not in node.labels


def test_mounts() -> None:
    mounts = (ExtraMount("/c", "/h", True), ExtraMount("/d", "/i", propagation="Bidirectional"))
    assert lab(NodeConfig(extra_mounts=mounts)).nodes[0].mounts == (
        Mount("/c", "/h", True, "None"),
        Mount("/d", "/i", False, "Bidirectional"),
    )


@pytest.mark.parametrize("search", [None, (), ("a.example",)])
def test_json_and_back(search: tuple[str, ...] | None) -> None:
    found = lab(NodeConfig(labels={"a": "b"}, extra_mounts=(ExtraMount("/c", "/h"),)), WORKER, dns_search=search)
    plain = json.loads(json.dumps(found.to_dict()))
    assert Cluster.from_dict(plain) == found
    plain["nodes"][0]["added later"] = plain["added later"] = 1
    assert Cluster.from_dict(plain) == found
    del plain["dns_search"], plain["dns_domain"]
    assert Cluster.from_dict(plain).dns_domain == "cluster.local"


def test_too_few_addresses() -> None:
    with pytest.raises(ValueError, match="no room for a gateway and 6 nodes"):
        build(Config(nodes=(MASTER,) * 6), "kind", "10.0.0.0/29")
    build(Config(nodes=(MASTER,) * 5), "kind", "10.0.0.0/29")
    with pytest.raises(ValueError, match="no room for 3 nodes"):
        pod_cidrs("10.0.0.0/23", 3)


def test_node_names() -> None:
    assert node_names("x", ["worker", "worker", "control-plane"]) == ["x-worker", "x-worker2", "x-control-plane"]


def test_the_uplinks_name_fits_the_kernel() -> None:
    assert uplink_name("kind") == "podlab0b27c158"
    assert len(uplink_name("k" * 49)) <= 15
    assert uplink_name("a") != uplink_name("b")
