"""A Service's own chains, and which endpoints are in them: one case per row of kube-proxy's rules for them."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.kube.proxy import restore_text
from podlab.kube.proxy_chains import Options, detector
from podlab.kube.proxy_model import ProxyNode
from podlab.kube.proxy_normal import normal_form
from support.rules_text import expected, hashed
from support.services import draining, endpoint, endpoint_slice, service

NODE = ProxyNode("node-a", ("192.168.0.2", "203.0.113.9", "fd00::2"), zone="zone-a")
PLAIN = Options(random_fully=False)
WITH_DETECTOR = PLAIN._replace(**dict(zip(("local", "not_local"), detector("ClusterCIDR", "10.0.0.0/8"))))
HERE, THERE = endpoint("10.180.0.1", "node-a"), endpoint("10.180.0.2", "node-b")
H = "<ns1/svc1:p80tcp>"


def chains_of(
    endpoints: list[dict[str, Any]],
    options: Options = PLAIN,
    node: ProxyNode = NODE,
    protocol: str = "TCP",
    **spec: Any,
) -> str:
    """The lines "-A KUBE-SVC-..." and so on of one Service, in their normal form."""
    port = {"name": "p80", "protocol": protocol, "port": 80, "nodePort": spec.pop("node_port", 0)}
    own = service("svc1", "172.30.0.41", [port], "ns1", **spec)
    slices = [
        endpoint_slice([one], [{"name": "p80", "protocol": protocol, "port": 80}], "svc1", "ns1") for one in endpoints
    ]
    return _own(restore_text([own], slices, node, options).text())


def _own(text: str) -> str:
    natted = normal_form(text).split("*nat\n")[1]
    own = ("-A KUBE-SVC-", "-A KUBE-SVL-", "-A KUBE-EXT-", "-A KUBE-FW-", "-A KUBE-SEP-")
    return "".join(f"{line}\n" for line in natted.splitlines() if line.startswith(own))


def sep(target: str, chain: str = "SVC", way: str = "", protocol: str = "tcp", recent: str = "") -> str:
    """The jump to an endpoint's chain, with what stands before -j, and that chain."""
    name = f"KUBE-SEP-<ns1/svc1:p80{protocol}{target}>"
    remembered = f"-m recent --name {name} --set " if recent else ""
    return f"""
    -A KUBE-{chain}-<ns1/svc1:p80{protocol}> -m comment --comment "ns1/svc1:p80 -> {target}" {way} -j {name}
    -A {name} -m comment --comment ns1/svc1:p80 -s {target.rpartition(":")[0]} -j KUBE-MARK-MASQ
    -A {name} -m comment --comment ns1/svc1:p80 {remembered}-m {protocol} -p {protocol}
    \\ -j DNAT --to-destination {target}
    """.replace('"  -j', '" -j')


HALF = "-m statistic --mode random --probability 0.5000000000"
ONE, TWO, BOTH = sep("10.180.0.1:80"), sep("10.180.0.2:80"), sep("10.180.0.1:80", way=HALF) + sep("10.180.0.2:80")
VIP_MASQUERADE = """-A KUBE-{}-<ns1/svc1:p80tcp> -m comment --comment "ns1/svc1:p80 cluster IP"
\\ -m tcp -p tcp -d 172.30.0.41 --dport 80{} -j KUBE-MARK-MASQ
"""
EXT = f"-A KUBE-EXT-{H}"
TO = 'for ns1/svc1:p80 external destinations"'
EXT_CLUSTER = f"""
{EXT} -m comment --comment "masquerade traffic {TO} -j KUBE-MARK-MASQ
{EXT} -j KUBE-SVC-{H}
"""
EXT_NODE = f"""
{EXT} -m comment --comment "masquerade LOCAL traffic {TO} -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
{EXT} -m comment --comment "route LOCAL traffic {TO} -m addrtype --src-type LOCAL -j KUBE-SVC-{H}
"""
EXT_POD = f'\n{EXT} -m comment --comment "pod traffic {TO} -s 10.0.0.0/8 -j KUBE-SVC-{H}\n'
VIPS = {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"ip": "5.6.7.8"}]}}
FW = f"""
-A KUBE-FW-{H} -m comment --comment "ns1/svc1:p80 loadbalancer IP" -s {{}} -j KUBE-EXT-{H}
"""
FW_END = f"""
-A KUBE-FW-{H} -m comment --comment "other traffic to ns1/svc1:p80 will be dropped by KUBE-PROXY-FIREWALL"
"""
LOCAL = {"externalTrafficPolicy": "Local", "type": "NodePort", "node_port": 3001}

CASES: dict[str, tuple[list[dict[str, Any]], Options, dict[str, Any], str]] = {
    "a no detector, no masquerade rule": ([THERE], PLAIN, {}, TWO),
    "a detector": ([THERE], WITH_DETECTOR, {}, VIP_MASQUERADE.format("SVC", " ! -s 10.0.0.0/8") + TWO),
    "a masquerade all": (
        [THERE],
        WITH_DETECTOR._replace(masquerade_all=True),
        {},
        VIP_MASQUERADE.format("SVC", "") + TWO,
    ),
    "a internal Local: the rule is in SVL, SVC of outside traffic has none": (
        [HERE, THERE],
        WITH_DETECTOR,
        {"internalTrafficPolicy": "Local", "type": "NodePort", "node_port": 3001},
        VIP_MASQUERADE.format("SVL", " ! -s 10.0.0.0/8")
        + EXT_CLUSTER
        + BOTH
        + f"""-A KUBE-SVL-{H} -m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80"
        \\ -j KUBE-SEP-<ns1/svc1:p80tcp10.180.0.1:80>""",
    ),
    "b external Cluster": ([THERE], PLAIN, {"type": "NodePort", "node_port": 3001}, EXT_CLUSTER + TWO),
    "b external Local, no detector": (
        [HERE, THERE],
        PLAIN,
        LOCAL,
        f"""{EXT_NODE}{EXT} -j KUBE-SVL-{H} {BOTH}
        -A KUBE-SVL-{H} -m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80"
        \\ -j KUBE-SEP-<ns1/svc1:p80tcp10.180.0.1:80>""",
    ),
    "b external Local, detector": (
        [HERE],
        WITH_DETECTOR,
        LOCAL,
        f"""{EXT_POD}{EXT_NODE}{EXT} -j KUBE-SVL-{H}
        {VIP_MASQUERADE.format("SVC", " ! -s 10.0.0.0/8")} {ONE}
        -A KUBE-SVL-{H} -m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80"
        \\ -j KUBE-SEP-<ns1/svc1:p80tcp10.180.0.1:80>""",
    ),
    "b external Local, detector, masquerade all: pods keep their short cut": (
        [THERE],
        WITH_DETECTOR._replace(masquerade_all=True),
        LOCAL,
        EXT_POD + EXT_NODE + VIP_MASQUERADE.format("SVC", "") + TWO,
    ),
    "b external Local of type ClusterIP, with an external IP": (
        [THERE],
        PLAIN,
        {"externalTrafficPolicy": "Local", "externalIPs": ["192.168.99.11"]},
        EXT_NODE + TWO,
    ),
    "c source ranges": (
        [THERE],
        PLAIN,
        {"type": "LoadBalancer", "status": VIPS, "loadBalancerSourceRanges": ["203.0.113.0/24", "198.51.100.0/24"]},
        FW.format("203.0.113.0/24") + FW.format("198.51.100.0/24") + FW_END + EXT_CLUSTER + TWO,
    ),
    "c source ranges, the node's address in one": (
        [THERE],
        PLAIN,
        {"type": "LoadBalancer", "status": VIPS, "loadBalancerSourceRanges": ["10.0.0.0/8", "192.168.0.0/24"]},
        "".join(map(FW.format, ("10.0.0.0/8", "192.168.0.0/24", "1.2.3.4", "5.6.7.8"))) + FW_END + EXT_CLUSTER + TWO,
    ),
    "c source ranges of the other family only": (
        [THERE],
        PLAIN,
        {"type": "LoadBalancer", "status": VIPS, "loadBalancerSourceRanges": ["fd00::/8"]},
        EXT_CLUSTER + TWO,
    ),
    "d affinity": (
        [HERE, THERE],
        PLAIN,
        {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}},
        f"""-A KUBE-SVC-{H} -m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80"
        \\ -m recent --name KUBE-SEP-<ns1/svc1:p80tcp10.180.0.1:80> --rcheck --seconds 60 --reap
        \\ -j KUBE-SEP-<ns1/svc1:p80tcp10.180.0.1:80>
        -A KUBE-SVC-{H} -m comment --comment "ns1/svc1:p80 -> 10.180.0.2:80"
        \\ -m recent --name KUBE-SEP-<ns1/svc1:p80tcp10.180.0.2:80> --rcheck --seconds 60 --reap
        \\ -j KUBE-SEP-<ns1/svc1:p80tcp10.180.0.2:80>
        {sep("10.180.0.1:80", way=HALF, recent="set")} {sep("10.180.0.2:80", recent="set")}""",
    ),
    "e udp": ([THERE], PLAIN, {"protocol": "UDP"}, sep("10.180.0.2:80", protocol="udp")),
    "e sctp": ([THERE], PLAIN, {"protocol": "SCTP"}, sep("10.180.0.2:80", protocol="sctp")),
    # Which endpoints
    "terminating ones serve when none is ready": ([draining("10.180.0.1"), draining("10.180.0.2")], PLAIN, {}, BOTH),
    "ready ones first": ([draining("10.180.0.1"), THERE], PLAIN, {}, TWO),
    "local terminating ones serve outside traffic while others elsewhere are ready": (
        [draining("10.180.0.1", "node-a"), THERE],
        PLAIN,
        LOCAL,
        f"""{EXT_NODE}{EXT} -j KUBE-SVL-{H} {TWO} {sep("10.180.0.1:80", "SVL")}""",
    ),
    "no serving condition means serving": (
        [{"addresses": ["10.180.0.2"], "conditions": {"ready": False, "terminating": True}}],
        PLAIN,
        {},
        TWO,
    ),
    "no conditions mean ready": ([{"addresses": ["10.180.0.2"]}], PLAIN, {}, TWO),
    "an address is cleaned before it is hashed": ([endpoint("010.180.00.2")], PLAIN, {}, TWO),
    "no addresses": ([{"addresses": []}, THERE], PLAIN, {}, TWO),
}


@pytest.mark.parametrize("name", CASES)
def test_chains(name: str) -> None:
    endpoints, options, spec, lines = CASES[name]
    assert chains_of(endpoints, options, **spec) == _own(expected("*nat\n" + lines))


def hinted(one: dict[str, Any], **hints: str) -> dict[str, Any]:
    return {**one, "hints": {kind: [{"name": name}] for kind, name in hints.items()}}


@pytest.mark.parametrize(
    ("endpoints", "lines"),
    [
        ([hinted(HERE, forZones="zone-a"), hinted(THERE, forZones="zone-b")], ONE),
        # one without a hint, or none for this zone: no topology
        ([hinted(HERE, forZones="zone-a"), THERE], BOTH),
        ([hinted(HERE, forZones="zone-c"), hinted(THERE, forZones="zone-b")], BOTH),
        # hints of those that are not ready do not count
        ([hinted(HERE, forZones="zone-a"), draining("10.180.0.3")], ONE),
        # the node's own before the zone's
        (
            [hinted(HERE, forZones="zone-a", forNodes="node-b"), hinted(THERE, forZones="zone-a", forNodes="node-a")],
            TWO,
        ),
        (
            [hinted(HERE, forZones="zone-a", forNodes="node-b"), hinted(THERE, forZones="zone-b", forNodes="node-b")],
            ONE,
        ),
    ],
)
def test_topology_hints(endpoints: list[dict[str, Any]], lines: str) -> None:
    assert chains_of(endpoints) == _own(expected("*nat\n" + lines))


def test_with_topology_the_local_ones_are_reachable_too() -> None:
    found = chains_of([hinted(HERE, forZones="zone-b"), hinted(THERE, forZones="zone-a")], **LOCAL)
    local = f"{EXT_NODE}{EXT} -j KUBE-SVL-{H} {TWO} {sep('10.180.0.1:80', 'SVL')}"
    assert found == _own(expected("*nat\n" + local))


def test_without_a_node_nothing_is_local() -> None:
    nowhere = {**HERE, "nodeName": ""}
    assert chains_of([nowhere], node=ProxyNode(""), **LOCAL) == _own(expected("*nat\n" + EXT_NODE + ONE))


def test_seven_endpoints_in_the_order_of_their_bytes() -> None:
    addresses = [f"10.0.1.{last}" for last in (1, 2, 10, 100, 20, 3, 200)]
    text = chains_of([endpoint(address) for address in addresses])
    svc = [line.split() for line in text.splitlines() if line.startswith("-A KUBE-SVC-")]
    order = [
        "10.0.1.100:80",
        "10.0.1.10:80",
        "10.0.1.1:80",
        "10.0.1.200:80",
        "10.0.1.20:80",
        "10.0.1.2:80",
        "10.0.1.3:80",
    ]
    assert [words[words.index("->") + 1].strip('"') for words in svc] == order
    assert [words[words.index("--probability") + 1] if "--probability" in words else "" for words in svc] == [
        "0.1428571429", "0.1666666667", "0.2000000000", "0.2500000000", "0.3333333333", "0.5000000000", "",
    ]  # fmt: skip
    assert [words[-1] for words in svc] == [f"KUBE-SEP-{hashed(f'ns1/svc1:p80tcp{target}')}" for target in order]


def test_an_unnamed_port_has_no_colon() -> None:
    own = service("svc1", "172.30.0.41", [{"port": 80}], "ns1")
    text = restore_text([own], [endpoint_slice([THERE], name="svc1", namespace="ns1")], NODE, PLAIN).text()
    assert ":KUBE-SVC-AQI2S6QIMU7PVVRP - [0:0]" in text
    assert '-m comment --comment "ns1/svc1 cluster IP"' in text


def test_ipv6() -> None:
    own = service(
        "svc1", "fd00:172:30::41", [{"name": "p80", "port": 80}], "ns1", externalIPs=["192.0.2.1", "2001:db8::1"]
    )
    slices = [
        endpoint_slice([endpoint("ff06::c1")], [{"name": "p80", "port": 80}], "svc1", "ns1", "IPv6"),
        endpoint_slice([THERE], [{"name": "p80", "port": 80}], "svc1", "ns1", "IPv4"),
    ]
    options = PLAIN._replace(
        family="ipv6", **dict(zip(("local", "not_local"), detector("ClusterCIDR", "fd00:10::/64")))
    )
    lines = f"""*nat
    -A KUBE-SERVICES -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp -p tcp -d fd00:172:30::41 --dport 80
    \\ -j KUBE-SVC-XPGD46QRK7WJZT7O
    -A KUBE-SERVICES -m comment --comment "ns1/svc1:p80 external IP" -m tcp -p tcp -d 2001:db8::1 --dport 80
    \\ -j KUBE-EXT-XPGD46QRK7WJZT7O {EXT_CLUSTER}
    -A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment "ns1/svc1:p80 cluster IP"
    \\ -m tcp -p tcp -d fd00:172:30::41 --dport 80 ! -s fd00:10::/64 -j KUBE-MARK-MASQ
    -A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment "ns1/svc1:p80 -> [ff06::c1]:80" -j KUBE-SEP-LIGRYQQLSZN4UWQ5
    -A KUBE-SEP-LIGRYQQLSZN4UWQ5 -m comment --comment ns1/svc1:p80 -s ff06::c1 -j KUBE-MARK-MASQ
    -A KUBE-SEP-LIGRYQQLSZN4UWQ5 -m comment --comment ns1/svc1:p80 -m tcp -p tcp
    \\ -j DNAT --to-destination [ff06::c1]:80"""
    jump = expected("").split("-A KUBE-SERVICES ")[1].split("\n")[0].replace(" -j", " ! -d ::1/128 -j")
    text = restore_text([own], slices, NODE, options).text()
    assert normal_form(text) == normal_form(expected(lines, jumps=(jump,), localhost=False))


def test_a_service_of_two_families_has_its_own_address_in_each() -> None:
    spec = {"clusterIPs": ["172.30.0.41", "fd00:172:30::41"], "ipFamilies": ["IPv4", "IPv6"]}
    own = service("svc1", "172.30.0.41", namespace="ns1", **spec)
    four = restore_text([own], [], NODE, PLAIN).text()
    six = restore_text([own], [], NODE, PLAIN._replace(family="ipv6")).text()
    assert "-d 172.30.0.41 " in four and "fd00" not in four
    assert "-d fd00:172:30::41 " in six and "172.30" not in six


def labelled(label: str) -> dict[str, Any]:
    """A slice that would count, with a label for which kube-proxy does not even ask."""
    made = endpoint_slice([HERE], [{"name": "p80", "port": 80}], "svc1", "ns1")
    made["metadata"]["labels"][f"service.kubernetes.io/{label}"] = ""
    return made


def test_slices_that_do_not_count() -> None:
    own = service("svc1", "172.30.0.41", [{"name": "p80", "port": 80}], "ns1")
    right = [{"name": "p80", "port": 80, "protocol": None}]
    slices = [
        endpoint_slice(
            [HERE], [{"name": None, "port": 80}, {"port": 80}, {"name": "p80", "port": None}], "svc1", "ns1"
        ),
        endpoint_slice([HERE], [{"name": "p80", "port": 0}, {"name": "other", "port": 80}], "svc1", "ns1"),
        endpoint_slice([HERE], [{"name": "p80", "port": 80, "protocol": "UDP"}], "svc1", "ns1"),
        endpoint_slice([HERE], right, "svc1", "ns2"),
        endpoint_slice([HERE], right, "svc1", "ns1", "IPv6"),
        {**endpoint_slice([HERE], right), "metadata": {"name": "no-labels", "namespace": "ns1"}},
        *(labelled(label) for label in ("service-proxy-name", "headless")),
        endpoint_slice([THERE], right, "svc1", "ns1"),
    ]
    assert _own(restore_text([own], slices, NODE, PLAIN).text()) == _own(expected("*nat\n" + TWO))


@pytest.mark.parametrize("address", ["1_0.0.0.1", " 10.0.0.1", "+1.2.3.4", "10.0.0", "fe80::1%eth0", "10.0.0.256", ""])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ValueError, match="."):
        restore_text([service(externalIPs=[address])], [], NODE, PLAIN)
