"""Host ports that the config leaves open: picked once, kept as long as the mapping is the same."""

from __future__ import annotations

from podlab.kube import ports
from podlab.kube.cluster import Cluster, PortMapping
from support.lab_objects import cluster


def lab(*hosts: int, address: str = "0.0.0.0", inner: int = 80) -> Cluster:
    made = cluster(workers=0)
    mappings = tuple(PortMapping(address, host, inner, "TCP") for host in hosts)
    return made._replace(nodes=(made.nodes[0]._replace(port_mappings=mappings),))


def pick(address: str, protocol: str, but: frozenset[int]) -> int:
    return next(port for port in range(40000, 50000) if port not in but)


def host_ports(made: Cluster) -> list[int]:
    return [one.host_port for one in made.nodes[0].port_mappings]


def test_open_ports_are_picked_each_another_one() -> None:
    assert host_ports(ports.settle(lab(0, -1, 40001), None, pick)) == [40000, 40002, 40001]


def test_given_ports_stay() -> None:
    assert host_ports(ports.settle(lab(80), lab(81), pick)) == [80]


def test_picked_ports_are_kept() -> None:
    before = lab(5000, 5001)
    assert host_ports(ports.settle(lab(0, 0), before, pick)) == [5000, 5001]
    assert host_ports(ports.settle(lab(-1), before, pick)) == [5000]
    assert host_ports(ports.settle(lab(0, 0, 0), before, pick)) == [5000, 5001, 40000]


def test_a_kept_port_that_the_config_names_now_is_picked_anew() -> None:
    assert host_ports(ports.settle(lab(0, 5000), lab(5000), pick)) == [40000, 5000]


def test_another_mapping_keeps_nothing() -> None:
    assert host_ports(ports.settle(lab(0, address="127.0.0.1"), lab(5000), pick)) == [40000]
    assert host_ports(ports.settle(lab(0, inner=81), lab(5000), pick)) == [40000]


def test_what_others_have_is_not_picked() -> None:
    assert host_ports(ports.settle(lab(0), None, pick, taken=[40000])) == [40001]


def test_the_record_knows_them() -> None:
    made = lab(80)._replace(nat=True)
    assert Cluster.from_dict(made.to_dict()) == made
    old = made.to_dict()
    del old["nat"], old["nodes"][0]["port_mappings"]
    assert Cluster.from_dict(old) == lab()
