"""What kube-proxy's configuration changes in the rules: NodePort addresses, local detectors, marks, large clusters."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.kube.proxy import restore_text
from podlab.kube.proxy_chains import COUNTERS, Options, detector
from podlab.kube.proxy_model import ProxyNode
from podlab.kube.proxy_normal import normal_form
from support.rules_text import EVERY_ADDRESS, INVALID, LAST, expected
from support.services import endpoint, endpoint_slice, service

NODE = ProxyNode("node-a", ("192.168.0.2", "203.0.113.9", "192.168.0.2", "fd00::2"))
PLAIN = Options(random_fully=False)
COUNTED = INVALID.replace(" -j", " -m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j")


def bare(options: Options) -> str:
    return normal_form(restore_text([], [], NODE, options).text())


def to_node_ports(words: str) -> str:
    return f"{LAST} {words} -j KUBE-NODEPORTS"


@pytest.mark.parametrize(
    ("addresses", "family", "localhost", "jumps", "firewall"),
    [
        ((), "ipv4", True, (EVERY_ADDRESS,), True),
        ((), "ipv4", False, (to_node_ports("-m addrtype --dst-type LOCAL ! -d 127.0.0.0/8"),), False),
        ((), "ipv6", True, (to_node_ports("-m addrtype --dst-type LOCAL ! -d ::1/128"),), False),
        (("0.0.0.0/0", "192.168.0.0/24"), "ipv4", True, (EVERY_ADDRESS,), True),
        # only ranges of the other family: as if there were none
        (("fd00::/8",), "ipv4", True, (EVERY_ADDRESS,), True),
        (("192.168.0.0/24",), "ipv6", True, (to_node_ports("-m addrtype --dst-type LOCAL ! -d ::1/128"),), False),
        (("192.168.0.0/24",), "ipv4", True, (to_node_ports("-d 192.168.0.2"),), False),
        (
            ("192.168.0.0/24", "203.0.113.0/24"),
            "ipv4",
            True,
            (to_node_ports("-d 192.168.0.2"), to_node_ports("-d 203.0.113.9")),
            False,
        ),
        (
            ("192.168.0.0/24", "127.0.0.0/8"),
            "ipv4",
            True,
            (to_node_ports("-d 192.168.0.2"), to_node_ports("-d 127.0.0.1")),
            True,
        ),
        (("192.168.0.0/24", "127.0.0.0/8"), "ipv4", False, (to_node_ports("-d 192.168.0.2"),), False),
        (("127.0.0.0/8",), "ipv4", False, (), False),
        (("fd00::/64", "::1/128"), "ipv6", True, (to_node_ports("-d fd00::2"),), False),
        (("10.0.0.0/8",), "ipv4", True, (), False),
    ],
)
def test_node_port_addresses(
    addresses: tuple[str, ...], family: str, localhost: bool, jumps: tuple[str, ...], firewall: bool
) -> None:
    options = PLAIN._replace(family=family, nodeport_addresses=addresses, localhost_nodeports=localhost)
    assert bare(options) == normal_form(expected("", jumps=jumps, localhost=firewall))


@pytest.mark.parametrize(
    ("mode", "value", "local", "not_local"),
    [
        ("ClusterCIDR", "10.244.0.0/16", "-s 10.244.0.0/16", "! -s 10.244.0.0/16"),
        ("NodeCIDR", "10.244.1.0/24", "-s 10.244.1.0/24", "! -s 10.244.1.0/24"),
        ("BridgeInterface", "cbr0", "-i cbr0", "! -i cbr0"),
        ("InterfaceNamePrefix", "veth", "-i veth+", "! -i veth+"),
        ("", "", "", ""),
    ],
)
def test_local_detectors(mode: str, value: str, local: str, not_local: str) -> None:
    options = PLAIN._replace(**dict(zip(("local", "not_local"), detector(mode, value))))
    ports: list[dict[str, Any]] = [{"name": "p80", "port": 80, "nodePort": 3001}]
    own = service("svc1", "172.30.0.41", ports, "ns1", type="NodePort", externalTrafficPolicy="Local")
    slices = [endpoint_slice([endpoint("10.180.0.1")], ports, "svc1", "ns1")]
    text = restore_text([own], slices, NODE, options).text()
    masquerade = [
        line.split("--dport 80 ")[1] for line in text.splitlines() if line.startswith("-A KUBE-SVC-") and "-d" in line
    ]
    short_cut = [line.split('" ')[1] for line in text.splitlines() if '"pod traffic' in line]
    assert masquerade == ([f"{not_local} -j KUBE-MARK-MASQ"] if mode else [])
    assert short_cut == ([f"{local} -j KUBE-SVC-XPGD46QRK7WJZT7O"] if mode else [])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, {}),
        ({"random_fully": True}, {"random_fully": True}),
        ({"masquerade_bit": 0}, {"mark": "0x00000001"}),
        ({"masquerade_bit": 31}, {"mark": "0x80000000"}),
        ({"tcp_be_liberal": True}, {"invalid": ""}),
        ({"counters": COUNTERS}, {"invalid": COUNTED}),
        ({"counters": COUNTERS, "tcp_be_liberal": True}, {"invalid": ""}),
    ],
)  # fmt: skip
def test_fixed_rules(options: dict[str, Any], said: dict[str, Any]) -> None:
    assert bare(PLAIN._replace(**options)) == normal_form(expected("", **said))


def large(count: int) -> str:
    """Two Services with so many endpoints in all, one of them with every kind of chain."""
    many = [endpoint(f"10.{n // 60000}.{n // 250}.{n % 250 + 1}", ready=bool(n)) for n in range(count - 1)]
    services = [
        service("many", "172.30.0.41"),
        service(
            "one",
            "172.30.0.42",
            type="LoadBalancer",
            loadBalancerSourceRanges=["10.0.0.0/8"],
            externalTrafficPolicy="Local",
            status={"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}},
        ),
    ]
    slices = [endpoint_slice(many, name="many"), endpoint_slice([endpoint("10.9.0.1", "node-a")], name="one")]
    options = PLAIN._replace(**dict(zip(("local", "not_local"), detector("ClusterCIDR", "10.0.0.0/8"))))
    return restore_text(services, slices, NODE, options).text()


def test_more_than_a_thousand_endpoints_take_comments_from_the_endpoints_rules_alone() -> None:
    loud, quiet = large(1000).splitlines(), large(1001).splitlines()
    # All have comments but the last rule of KUBE-EXT and those without a Service.
    fixed = ("-A KUBE-FORWARD", "-A KUBE-POSTROUTING", "-A KUBE-MARK-MASQ")
    assert {
        line[:12] for line in loud if line.startswith("-A") and "--comment" not in line and not line.startswith(fixed)
    } == {"-A KUBE-EXT-"}
    own = [line for line in quiet if line.startswith(("-A KUBE-SVC-", "-A KUBE-SVL-", "-A KUBE-SEP-"))]
    assert [line for line in own if "--comment" in line and "cluster IP" not in line] == []
    assert len([line for line in own if "cluster IP" in line]) == 2
    others = [line for line in quiet if line.startswith(("-A KUBE-SERVICES", "-A KUBE-EXT-", "-A KUBE-FW-"))]
    assert len([line for line in others if "--comment" in line]) == len(others) - 1
    # The one that is not ready counts, though it has no chain.
    assert len([line for line in quiet if line.startswith(":KUBE-SEP-")]) == 1000


def test_a_large_clusters_rules() -> None:
    text = large(1001)
    assert "\n-A KUBE-SEP-" in text
    sep = next(line.split()[1] for line in text.splitlines() if line.endswith("--to-destination 10.9.0.1:80"))
    assert [line for line in text.splitlines() if line.startswith(f"-A {sep} ")] == [
        f"-A {sep} -s 10.9.0.1 -j KUBE-MARK-MASQ",
        f"-A {sep} -m tcp -p tcp -j DNAT --to-destination 10.9.0.1:80",
    ]
    assert [line.split(" ", 2)[2] for line in text.splitlines() if line.endswith(f" -j {sep}")] == [f"-j {sep}"] * 2
