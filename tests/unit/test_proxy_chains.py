"""Chain names, static jumps and fixed rules of kube-proxy."""

from __future__ import annotations

import pytest

from podlab.kube import proxy_chains
from podlab.kube.proxy_chains import JUMPS, Options, detector, forward_rules, hash16, nat_fixed, nodeport_jumps
from podlab.kube.proxy_model import ProxyNode


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ns1/svc1:p80tcp", "XPGD46QRK7WJZT7O"),
        ("ns1/svc1:p80tcp10.180.0.1:80", "SXIVWICOYRO3J4NJ"),
        ("ns1/svc1:p80tcp[ff06::c1]:80", "LIGRYQQLSZN4UWQ5"),
        ("ns1/svc1tcp", "AQI2S6QIMU7PVVRP"),
        ("kube-system/kube-dns:dnsudp", "TCOU7JCQXEZGVUNU"),
        ("kube-system/kube-dns:dns-tcptcp", "ERIFXISQEP7F7OF4"),
        ("default/kubernetes:httpstcp", "NPX46M4PTMTKRN6Y"),
    ],
)
def test_hash(text: str, expected: str) -> None:
    assert hash16(text) == expected


def test_jumps_on_an_empty_machine_come_out_reversed() -> None:
    built: dict[tuple[str, str], list[str]] = {}
    for jump in JUMPS:
        built.setdefault((jump.table, jump.chain), []).insert(0, jump.target)
    assert built == {
        ("filter", "INPUT"): [
            "KUBE-FIREWALL",
            "KUBE-PROXY-FIREWALL",
            "KUBE-NODEPORTS",
            "KUBE-EXTERNAL-SERVICES",
        ],
        ("filter", "FORWARD"): ["KUBE-PROXY-FIREWALL", "KUBE-FORWARD", "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES"],
        ("filter", "OUTPUT"): ["KUBE-FIREWALL", "KUBE-PROXY-FIREWALL", "KUBE-SERVICES"],
        ("nat", "OUTPUT"): ["KUBE-SERVICES"],
        ("nat", "PREROUTING"): ["KUBE-SERVICES"],
        ("nat", "POSTROUTING"): ["KUBE-POSTROUTING"],
    }


def test_mark_has_eight_digits() -> None:
    assert Options().mark == "0x00004000"
    assert Options(masquerade_bit=31).mark == "0x80000000"
    assert nat_fixed(Options())[0] == ("KUBE-POSTROUTING", "-m mark ! --mark 0x00004000/0x00004000 -j RETURN")


def test_random_fully_only_when_asked() -> None:
    assert nat_fixed(Options(random_fully=True))[2][1].endswith("-j MASQUERADE --random-fully")
    assert nat_fixed(Options(random_fully=False))[2][1].endswith("-j MASQUERADE")


def test_invalid_packets_pass_when_conntrack_is_liberal() -> None:
    assert not any("INVALID" in rule for _, rule in forward_rules(Options(tcp_be_liberal=True)))
    counted = forward_rules(Options(counters=("ct_state_invalid_dropped_pkts",)))[0][1]
    assert counted == "-m conntrack --ctstate INVALID -m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j DROP"


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("ClusterCIDR", "10.244.0.0/16", ("-s 10.244.0.0/16", "! -s 10.244.0.0/16")),
        ("NodeCIDR", "10.244.1.0/24", ("-s 10.244.1.0/24", "! -s 10.244.1.0/24")),
        ("BridgeInterface", "cbr0", ("-i cbr0", "! -i cbr0")),
        ("InterfaceNamePrefix", "veth", ("-i veth+", "! -i veth+")),
        ("", "", ("", "")),
    ],
)
def test_detectors(mode: str, value: str, expected: tuple[str, str]) -> None:
    assert detector(mode, value) == expected


_NODE = ProxyNode("node", ("172.18.0.2", "fd00::2"))
_EVERYTHING = "-m addrtype --dst-type LOCAL"


@pytest.mark.parametrize(
    ("options", "ends"),
    [
        (Options(), [f"{_EVERYTHING} -j KUBE-NODEPORTS"]),
        (Options(localhost_nodeports=False), [f"{_EVERYTHING} ! -d 127.0.0.0/8 -j KUBE-NODEPORTS"]),
        (Options(family="ipv6"), [f"{_EVERYTHING} ! -d ::1/128 -j KUBE-NODEPORTS"]),
        (Options(nodeport_addresses=("172.18.0.0/16", "0.0.0.0/0")), [f"{_EVERYTHING} -j KUBE-NODEPORTS"]),
        (Options(nodeport_addresses=("fd00::/64",)), [f"{_EVERYTHING} -j KUBE-NODEPORTS"]),
        (Options(nodeport_addresses=("172.18.0.0/16",)), ["-d 172.18.0.2 -j KUBE-NODEPORTS"]),
        (
            Options(nodeport_addresses=("172.18.0.0/16", "127.0.0.0/8")),
            ["-d 172.18.0.2 -j KUBE-NODEPORTS", "-d 127.0.0.1 -j KUBE-NODEPORTS"],
        ),
        (Options(nodeport_addresses=("10.0.0.0/8",)), []),
    ],
)
def test_nodeport_jumps(options: Options, ends: list[str]) -> None:
    comment = '-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" '
    assert nodeport_jumps(options, _NODE) == [comment + end for end in ends]


def test_localhost_nodeports_need_loopback_among_the_addresses() -> None:
    assert proxy_chains.localhost_nodeports(Options())
    assert not proxy_chains.localhost_nodeports(Options(family="ipv6"))
    assert not proxy_chains.localhost_nodeports(Options(nodeport_addresses=("172.18.0.0/16",)))
    assert proxy_chains.firewall_rules(Options(localhost_nodeports=False)) == []
