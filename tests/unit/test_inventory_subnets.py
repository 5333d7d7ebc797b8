"""Which range is whose, and which is free: from the texts of /proc and the state of labs."""

from __future__ import annotations

import json
import pathlib

import pytest

from podlab.errors import PodlabError
from podlab.linux.subnets import (
    CANDIDATES,
    InUse,
    Owner,
    lab_subnets,
    node_subnet,
    parse_addresses,
    parse_routes,
    sort_out,
)

# A little-endian machine's; the last route is `ip route add unreachable 10.66.0.0/16`.
ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
br-kind\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
*\t0000420A\t00000000\t0200\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
     +-- 192.0.2.0/24 2 0 2
        |-- 192.0.2.0
           /24 link UNICAST
        |-- 192.0.2.2
           /32 host LOCAL
     |-- 172.20.5.5
        /32 host LOCAL
Local:
     |-- 172.20.5.5
        /32 host LOCAL
     |-- 192.0.2.255
        /32 link BROADCAST
"""
RANGES = {"podSubnet": "10.244.0.0/16", "serviceSubnet": "10.96.0.0/16"}
NOTHING = InUse("", [])


def test_routes_but_no_ways_out() -> None:
    assert parse_routes(ROUTES) == [
        Owner("192.0.2.0/24", "route 192.0.2.0/24 dev eth0", "eth0"),
        Owner("172.17.0.0/16", "route 172.17.0.0/16 dev docker0", "docker0"),
        Owner("172.18.0.0/16", "route 172.18.0.0/16 dev br-kind", "br-kind"),
        Owner("10.66.0.0/16", "unreachable route 10.66.0.0/16", "*"),
    ]
    assert parse_routes("") == []


def test_own_addresses_without_loopback_once() -> None:
    assert [owner.subnet for owner in parse_addresses(TRIE)] == ["192.0.2.2/32", "172.20.5.5/32"]
    assert parse_addresses(TRIE)[1].owner == "address 172.20.5.5 of this machine"


def test_the_first_free_one_is_taken() -> None:
    used = sort_out("kind", "podlab1", parse_routes(ROUTES), parse_addresses(TRIE), {"other": "172.19.0.0/16"})
    # .18 has a bridge, .19 another lab, .20 an address, .21 the config's pods.
    assert node_subnet("", 3, {"podSubnet": "172.21.0.0/20"}, used) == "172.22.0.0/16"
    assert node_subnet("", 3, RANGES, NOTHING) == "172.18.0.0/16"


def test_all_of_172_taken() -> None:
    used = InUse("", [Owner("172.16.0.0/12", "route 172.16.0.0/12 dev vpn"), Owner("192.168.1.0/24", "route wlan")])
    assert node_subnet("", 3, RANGES, used) == "192.168.16.0/20"
    used.others.append(Owner("192.168.0.0/16", "route all"))
    with pytest.raises(PodlabError, match="No range is free for the node network. Set podlab_node_subnet"):
        node_subnet("", 3, RANGES, used)


def test_candidates_are_dockers() -> None:
    assert CANDIDATES[0] == "172.18.0.0/16"
    assert CANDIDATES[13:15] == ("172.31.0.0/16", "192.168.0.0/20")
    assert len(CANDIDATES) == 30


@pytest.mark.parametrize("labs", [{"kind": "172.18.0.0/16"}, {}])
def test_a_lab_that_is_up_keeps_its_range(labs: dict[str, str]) -> None:
    """Also for a user who may not read its state: its route is seen."""
    uplink = [Owner("172.18.0.0/16", "route", "podlab1")]
    address = [Owner("172.18.0.1/32", "address 172.18.0.1 of this machine")]
    used = sort_out("kind", "podlab1", uplink, address, labs)
    assert used == InUse("172.18.0.0/16", [])
    assert node_subnet("", 3, RANGES, used) == "172.18.0.0/16"
    assert node_subnet("172.18.0.0/16", 3, RANGES, used) == "172.18.0.0/16"
    with pytest.raises(PodlabError, match="overlaps podSubnet 172.18.4.0/22. Take the lab down first"):
        node_subnet("", 3, {"podSubnet": "172.18.4.0/22"}, used)


def test_the_same_route_of_another_lab_is_not_ours() -> None:
    used = sort_out("kind", "podlab1", [Owner("172.18.0.0/16", "route 172.18.0.0/16 dev podlab2", "podlab2")], [], {})
    assert node_subnet("", 3, RANGES, used) == "172.19.0.0/16"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("172.17.3.0/24", "172.17.3.0/24 overlaps route 172.17.0.0/16 dev docker0. Free is 172.19.0.0/16"),
        ("172.25.0.0/16", "172.25.0.0/16 overlaps lab 'other'"),
        ("172.20.0.0/16", "172.20.0.0/16 overlaps address 172.20.5.5 of this machine"),
        ("10.244.0.0/20", "overlaps podSubnet 10.244.0.0/16"),
        ("10.96.0.0/12", "overlaps serviceSubnet 10.96.0.0/16"),
        ("10.1.0.0/30", "has no room for a gateway and 3 nodes. Use a /29 or larger"),
        ("10.1.0.1/24", "must be a network's address and bits, not '10.1.0.1/24'. Write 10.1.0.0/24"),
        ("10.1.0.0", "Write 10.1.0.0/32"),
        ("10.1.0.0/255.255.0.0", "Write 10.1.0.0/16"),
        ("fd00::/64", "must be an IPv4 CIDR, not 'fd00::/64'. Write it like 172.18.0.0/16"),
        ("x", "must be an IPv4 CIDR"),
        ("127.0.0.0/16", "cannot be a network of machines"),
        ("224.0.0.0/16", "cannot be a network of machines"),
        ("0.0.0.0/0", "cannot be a network of machines"),
    ],
)
def test_one_set_by_hand_that_will_not_do(wanted: str, words: str) -> None:
    used = sort_out("kind", "podlab1", parse_routes(ROUTES), parse_addresses(TRIE), {"other": "172.25.0.0/16"})
    with pytest.raises(PodlabError) as caught:
        node_subnet(wanted, 3, RANGES, used)
    assert words in str(caught.value)


def test_one_set_by_hand_that_clashes_twice_says_so_at_once() -> None:
    used = InUse(
        "", [Owner("10.1.0.0/24", "route a"), Owner("10.1.1.0/24", "lab 'b'"), Owner("10.2.0.0/24", "route c")]
    )
    with pytest.raises(PodlabError) as caught:
        node_subnet("10.1.0.0/16", 3, RANGES, used)
    assert [problem.message for problem in caught.value.problems] == [
        "10.1.0.0/16 overlaps route a",
        "10.1.0.0/16 overlaps lab 'b'",
    ]


def test_labs_whose_state_cannot_be_read_are_passed_over(tmp_path: pathlib.Path) -> None:
    for name, text in {
        "one": json.dumps({"node_subnet": "172.18.0.0/16"}),
        "cut": '{"node_',
        "odd": "[]",
        "none": "{}",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "cluster.json").write_text(text, encoding="utf-8")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert lab_subnets(str(tmp_path)) == {"one": "172.18.0.0/16"}
    assert lab_subnets(str(tmp_path / "missing")) == {}
