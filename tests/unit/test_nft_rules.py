"""kube-proxy's rules in nftables mode per kind of Service, to the letter."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.kube.nft import base_name, ruleset
from podlab.kube.nft_model import Ruleset
from podlab.kube.proxy import restore_text
from podlab.kube.proxy_chains import Options, detector
from podlab.kube.proxy_model import ProxyNode
from support.services import NODE, OPTIONS, draining, endpoint, endpoint_slice, service

H = "PFISGYVC-default/web/tcp/"
VIP = "10.96.0.20 . tcp . 80"
BALANCER = {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}]}}
OUTSIDE: dict[str, Any] = {"ports": [{"port": 80, "nodePort": 30080}], "externalIPs": ["192.0.2.1"], "status": BALANCER}


def build(
    services: list[dict[str, Any]],
    slices: list[dict[str, Any]] | None = None,
    options: Options = OPTIONS,
    node: ProxyNode = NODE,
) -> Ruleset:
    return ruleset(services, slices or [], node, options)


def chain(rules: Ruleset, name: str) -> list[str]:
    """Rules of a chain; names of the Service's own chains shortened."""
    return [rule.replace(H, "x") for rule in rules.chains[name.replace("-x", f"-{H}")].rules]


def own_chains(rules: Ruleset) -> list[str]:
    return [name.replace(H, "x") for name in rules.chains if "/" in name]


def elements(rules: Ruleset, name: str) -> dict[str, tuple[str, str]]:
    found = rules.containers[name].elements
    assert found is not None
    return {key: (element.value.replace(H, "x"), element.comment) for key, element in found.items()}


def ep(address: str) -> str:
    """Name of an endpoint of default/web, behind its prefix."""
    return base_name(f"default/web/tcp/__{address}/80")


HERE, THERE = endpoint("10.244.0.1", "node-a"), endpoint("10.244.1.1")
NAMES = {"HERE": ep("10.244.0.1"), "THERE": ep("10.244.1.1")}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ns1/svc1/tcp/p80", "ULMVA6XW-ns1/svc1/tcp/p80"),
        ("ns1/svc1/tcp/p80__10.180.0.1/80", "5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80"),
    ],
)
def test_names(text: str, name: str) -> None:
    assert base_name(text) == name


def test_a_name_of_more_than_240_characters_is_cut() -> None:
    assert len(base_name("n" * 231)) == 240 and not base_name("n" * 231).endswith(".")
    cut = base_name("n" * 232)
    assert len(cut) == 240 and cut.endswith("n...")


def test_base_chains() -> None:
    assert {name: made.hook for name, made in build([]).chains.items() if made.hook} == {
        "filter-prerouting-pre-dnat": "type filter hook prerouting priority -110",
        "filter-output-pre-dnat": "type filter hook output priority -110",
        "filter-input": "type filter hook input priority 0",
        "filter-forward": "type filter hook forward priority 0",
        "filter-output": "type filter hook output priority 0",
        "nat-prerouting": "type nat hook prerouting priority -100",
        "nat-output": "type nat hook output priority -100",
        "nat-postrouting": "type nat hook postrouting priority 100",
    }


NEW = "ct state new jump "


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("filter-prerouting-pre-dnat", [f"{NEW}firewall-check"]),
        ("filter-output-pre-dnat", [f"{NEW}firewall-check"]),
        ("filter-input", [f"{NEW}nodeport-endpoints-check", f"{NEW}service-endpoints-check"]),
        ("filter-forward", [f"{NEW}service-endpoints-check", f"{NEW}cluster-ips-check"]),
        ("filter-output", [f"{NEW}service-endpoints-check", f"{NEW}cluster-ips-check"]),
        ("nat-prerouting", ["jump services"]),
        ("nat-output", ["jump services"]),
        ("nat-postrouting", ["jump masquerading"]),
        (
            "services",
            [
                "ip daddr . meta l4proto . th dport vmap @service-ips",
                "ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports",
            ],
        ),
        ("service-endpoints-check", ["ip daddr . meta l4proto . th dport vmap @no-endpoint-services"]),
        (
            "nodeport-endpoints-check",
            ["ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports"],
        ),
        ("firewall-check", ["ip daddr . meta l4proto . th dport vmap @firewall-ips"]),
        (
            "cluster-ips-check",
            ['ip daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"'],
        ),
        ("reject-chain", ["reject"]),
        ("mark-for-masquerade", ["mark set mark or 0x00004000"]),
        (
            "masquerading",
            [
                "mark and 0x00004000 == 0 return",
                "mark set mark xor 0x00004000",
                "masquerade fully-random",
            ],
        ),
    ],
)
def test_fixed_chains(name: str, rules: list[str]) -> None:
    assert chain(build([]), name) == rules


def test_every_fixed_chain_is_tested_above() -> None:
    assert len(build([]).chains) == 8 + 8


def test_service_cidrs_drop_what_is_sent_to_free_addresses() -> None:
    options = OPTIONS._replace(service_cidrs=("10.96.0.0/16", "10.97.0.0/16", "fd00::/112"))
    assert chain(build([], options=options), "cluster-ips-check")[1] == (
        'ip daddr { 10.96.0.0/16, 10.97.0.0/16 } drop comment "Drop traffic to unallocated ClusterIPs"'
    )


ADDRESS_MAP = ("map", "ipv4_addr . inet_proto . inet_service : verdict")
PORT_MAP = ("map", "inet_proto . inet_service : verdict")


def test_sets_and_maps() -> None:
    assert {name: (made.kind, made.of) for name, made in build([]).containers.items()} == {
        "cluster-ips": ("set", "ipv4_addr"),
        "nodeport-ips": ("set", "ipv4_addr"),
        "service-ips": ADDRESS_MAP,
        "service-nodeports": PORT_MAP,
        "no-endpoint-services": ADDRESS_MAP,
        "no-endpoint-nodeports": PORT_MAP,
        "firewall-ips": ADDRESS_MAP,
    }


def test_node_ports_answer_everywhere_while_no_address_of_the_node_is_known() -> None:
    rules = build([], node=ProxyNode("node-a", ("fd00::2",)))
    assert "nodeport-ips" not in rules.containers
    assert chain(rules, "services")[1].startswith("fib daddr type local ip daddr != 127.0.0.0/8 ")


MANY = ProxyNode("node-a", ("172.18.0.2", "10.9.0.1", "127.0.0.1", "fd00::2"))


@pytest.mark.parametrize(
    ("cidrs", "addresses"),
    [
        ((), ["172.18.0.2"]),
        (("10.9.0.0/16", "172.18.0.0/16"), ["172.18.0.2", "10.9.0.1"]),
        (("127.0.0.0/8",), []),
        (("192.0.2.0/24",), []),
    ],
)
def test_limited_nodeport_addresses(cidrs: tuple[str, ...], addresses: list[str]) -> None:
    rules = build([], options=OPTIONS._replace(nodeport_addresses=cidrs), node=MANY)
    assert list(elements(rules, "nodeport-ips")) == addresses
    assert "@nodeport-ips" in chain(rules, "services")[1]


@pytest.mark.parametrize("cidrs", [("0.0.0.0/0",), ("10.9.0.0/16", "0.0.0.0/0"), ("fd00::/64",)])
def test_all_nodeport_addresses(cidrs: tuple[str, ...]) -> None:
    rules = build([], options=OPTIONS._replace(nodeport_addresses=cidrs), node=MANY)
    assert "nodeport-ips" not in rules.containers
    ports = "ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap"
    assert chain(rules, "services")[1] == f"fib daddr type local {ports} @service-nodeports"
    assert chain(rules, "nodeport-endpoints-check") == [f"{ports} @no-endpoint-nodeports"]


def test_cluster_ip() -> None:
    rules = build([service()], [endpoint_slice([HERE, THERE])])
    assert own_chains(rules) == ["service-x", *(f"endpoint-{name}" for name in NAMES.values())]
    assert elements(rules, "cluster-ips") == {"10.96.0.20": ("", "")}
    assert elements(rules, "service-ips") == {VIP: ("goto service-x", "")}
    assert chain(rules, "service-x") == [
        "ip daddr 10.96.0.20 ip saddr != 10.244.0.0/16 jump mark-for-masquerade",
        "numgen random mod 2 vmap {{ 0 : goto endpoint-{HERE} , 1 : goto endpoint-{THERE} }}".format_map(NAMES),
    ]
    assert chain(rules, f"endpoint-{NAMES['HERE']}") == [
        "ip saddr 10.244.0.1 jump mark-for-masquerade",
        "meta l4proto tcp dnat to 10.244.0.1:80",
    ]
    assert not any(elements(rules, name) for name in ("no-endpoint-services", "service-nodeports", "firewall-ips"))


def test_one_endpoint_has_a_map_too() -> None:
    rules = build([service()], [endpoint_slice([THERE])], Options())
    assert chain(rules, "service-x") == [f"numgen random mod 1 vmap {{ 0 : goto endpoint-{NAMES['THERE']} }}"]


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (Options(masquerade_all=True), "jump"),
        (Options(masquerade_all=True, local="-s 10.0.0.0/8", not_local="! -s 10.0.0.0/8"), "jump"),
        (Options("ipv4", *detector("BridgeInterface", "br0")), 'iifname != "br0" jump'),
        (Options("ipv4", *detector("InterfaceNamePrefix", "veth")), 'iifname != "veth*" jump'),
    ],
)
def test_masquerade_of_cluster_traffic(options: Options, rule: str) -> None:
    rules = build([service()], [endpoint_slice([THERE])], options)
    assert chain(rules, "service-x")[0] == f"ip daddr 10.96.0.20 {rule} mark-for-masquerade"


def test_no_endpoints_is_rejected_and_none_local_dropped() -> None:
    nobody = build([service(type="LoadBalancer", **OUTSIDE)])
    assert own_chains(nobody) == []
    refused = ("goto reject-chain", "default/web")
    keys = [VIP, "192.0.2.1 . tcp . 80", "198.51.100.7 . tcp . 80"]
    assert elements(nobody, "no-endpoint-services") == dict.fromkeys(keys, refused)
    assert elements(nobody, "no-endpoint-nodeports") == {"tcp . 30080": refused}
    assert elements(nobody, "service-ips") == {} == elements(nobody, "service-nodeports")
    none_here = build([service(internalTrafficPolicy="Local")], [endpoint_slice([THERE])])
    assert elements(none_here, "no-endpoint-services") == {VIP: ("drop", "default/web")}
    draining_elsewhere = build([service(internalTrafficPolicy="Local")], [endpoint_slice([draining("10.244.1.1")])])
    assert elements(draining_elsewhere, "no-endpoint-services") == {VIP: ("drop", "default/web")}
    for rules in (nobody, none_here, draining_elsewhere):
        assert list(elements(rules, "cluster-ips")) == ["10.96.0.20"]


def test_internal_policy_local_has_its_masquerade_rule_in_local() -> None:
    rules = build([service(internalTrafficPolicy="Local", **OUTSIDE)], [endpoint_slice([HERE, THERE])])
    assert own_chains(rules)[:3] == ["service-x", "local-x", "external-x"]
    assert elements(rules, "service-ips")[VIP] == ("goto local-x", "")
    assert chain(rules, "local-x") == [
        "ip daddr 10.96.0.20 ip saddr != 10.244.0.0/16 jump mark-for-masquerade",
        f"numgen random mod 1 vmap {{ 0 : goto endpoint-{NAMES['HERE']} }}",
    ]
    assert [rule.split()[0] for rule in chain(rules, "service-x")] == ["numgen"]
    assert chain(rules, "external-x") == ["jump mark-for-masquerade", "goto service-x"]


def test_outside_addresses() -> None:
    rules = build([service(type="LoadBalancer", **OUTSIDE)], [endpoint_slice([THERE])])
    external = ("goto external-x", "")
    assert elements(rules, "service-ips") == {
        VIP: ("goto service-x", ""),
        "192.0.2.1 . tcp . 80": external,
        "198.51.100.7 . tcp . 80": external,
    }
    assert elements(rules, "service-nodeports") == {"tcp . 30080": external}
    assert elements(rules, "no-endpoint-services") == {} == elements(rules, "no-endpoint-nodeports")
    assert chain(rules, "external-x") == ["jump mark-for-masquerade", "goto service-x"]


SHORT_CIRCUITS = [
    'ip saddr 10.244.0.0/16 goto service-x comment "short-circuit pod traffic"',
    'fib saddr type local jump mark-for-masquerade comment "masquerade local traffic"',
    'fib saddr type local goto service-x comment "short-circuit local traffic"',
]


@pytest.mark.parametrize("here", [True, False])
def test_external_policy_local(here: bool) -> None:
    web = service(type="LoadBalancer", externalTrafficPolicy="Local", **OUTSIDE)
    rules = build([web], [endpoint_slice([HERE, THERE] if here else [THERE])])
    assert chain(rules, "external-x") == [*SHORT_CIRCUITS, *(["goto local-x"] if here else [])]
    assert elements(rules, "service-ips")[VIP] == ("goto service-x", "")
    dropped = {} if here else {key: ("drop", "default/web") for key in list(elements(rules, "service-ips"))[1:]}
    assert elements(rules, "no-endpoint-services") == dropped
    assert elements(rules, "service-nodeports") == {"tcp . 30080": ("goto external-x", "")}
    assert len(elements(rules, "no-endpoint-nodeports")) == (0 if here else 1)
    assert ("local-x" in own_chains(rules)) == here


def test_external_policy_local_without_a_detector() -> None:
    web = service(type="NodePort", externalTrafficPolicy="Local", **OUTSIDE)
    assert chain(build([web], [endpoint_slice([HERE])], Options()), "external-x") == [
        *SHORT_CIRCUITS[1:],
        "goto local-x",
    ]


@pytest.mark.parametrize(
    ("ranges", "sources"),
    [
        (["203.0.113.0/25"], "203.0.113.0/25"),
        (["203.0.113.0/25", "172.18.0.0/16"], "203.0.113.0/25, 172.18.0.0/16, 198.51.100.7"),
    ],
)
@pytest.mark.parametrize("endpoints", [[THERE], []])
def test_source_ranges_work_without_endpoints_too(ranges: list[str], sources: str, endpoints: list[Any]) -> None:
    web = service(type="LoadBalancer", loadBalancerSourceRanges=ranges, **OUTSIDE)
    rules = build([web], [endpoint_slice(endpoints)])
    assert elements(rules, "firewall-ips") == {"198.51.100.7 . tcp . 80": ("goto firewall-x", "")}
    assert chain(rules, "firewall-x") == [f"ip saddr != {{ {sources} }} drop"]


@pytest.mark.parametrize(
    ("node", "inside"),
    [
        # only the node's address counts, the first; one that is not known is 127.0.0.1 to kube-proxy
        (ProxyNode("node-a", ("172.18.0.2", "203.0.113.9")), False),
        (ProxyNode("node-a", ("fd00::2", "203.0.113.9")), True),
        (ProxyNode("node-a"), False),
        (ProxyNode("node-a"), True),
    ],
)
def test_which_address_of_the_node_may_be_in_a_source_range(node: ProxyNode, inside: bool) -> None:
    ranges = ["203.0.113.0/25"] if node.addresses or not inside else ["127.0.0.0/8"]
    web = service(type="LoadBalancer", loadBalancerSourceRanges=ranges, **OUTSIDE)
    slices = [endpoint_slice([THERE])]
    sources = f"{{ {ranges[0]}{', 198.51.100.7' if inside else ''} }}"
    assert chain(build([web], slices, node=node), "firewall-x") == [f"ip saddr != {sources} drop"]
    allowed = [line for line in restore_text([web], slices, node, OPTIONS).text().splitlines() if " -s 198.51." in line]
    assert len(allowed) == inside


def test_affinity() -> None:
    web = service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}})
    rules = build([web], [endpoint_slice([HERE, THERE])])
    here, there = NAMES["HERE"], NAMES["THERE"]
    assert chain(rules, "service-x")[1:-1] == [
        f"ip saddr @affinity-{here} goto endpoint-{here}",
        f"ip saddr @affinity-{there} goto endpoint-{there}",
    ]
    assert chain(rules, f"endpoint-{here}")[1] == f"update @affinity-{here} {{ ip saddr }}"
    made = rules.containers[f"affinity-{there}"]
    assert made.form == ("set", "ipv4_addr", "dynamic,timeout", 60, "") and made.elements is None
    line = f"add set ip kube-proxy affinity-{there} {{ type ipv4_addr ; flags dynamic,timeout ; timeout 60s ; }}"
    assert line in rules.text().splitlines()


def test_no_health_check_and_no_localhost() -> None:
    web = service(type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=30333, **OUTSIDE)
    text = build([web], [endpoint_slice([HERE])]).text()
    assert "30333" not in text and "127.0.0" not in text and "nfacct" not in text


def test_ipv6() -> None:
    options = Options("ipv6", *detector("ClusterCIDR", "fd00:10::/56"), service_cidrs=("fd00:20::/112",))
    web = service(ip="fd00:20::20", sessionAffinity="ClientIP", ports=[{"port": 80, "protocol": "UDP"}])
    slices = [endpoint_slice([endpoint("fd00:10::1")], [{"name": "", "port": 80, "protocol": "UDP"}], family="IPv6")]
    rules = build([web], slices, options, ProxyNode("node-a", ("172.18.0.2", "fd00::2")))
    name = base_name("default/web/udp/__fd00.10..1/80")
    assert name.endswith("-default/web/udp/__fd00.10..1/80")
    assert rules.chains[f"endpoint-{name}"].rules == [
        "ip6 saddr fd00:10::1 jump mark-for-masquerade",
        f"update @affinity-{name} {{ ip6 saddr }}",
        "meta l4proto udp dnat to [fd00:10::1]:80",
    ]
    text = rules.text()
    assert "ip6 daddr { fd00:20::/112 } drop" in text and "add element ip6 kube-proxy nodeport-ips { fd00::2 }" in text
    assert "add rule ip6 kube-proxy services ip6 daddr . meta l4proto . th dport vmap @service-ips" in text
    assert " ip kube-proxy" not in text and "ipv4" not in text
    everywhere = build([], options=options._replace(nodeport_addresses=("::/0",)))
    assert "ip6 daddr != ::1 meta l4proto" in chain(everywhere, "services")[1]


def test_the_first_of_two_services_with_one_address_has_it() -> None:
    other = service("other", "10.96.0.21", [{"port": 81, "nodePort": 30080}])
    rules = build([service(**OUTSIDE), other], [endpoint_slice([THERE])])
    assert elements(rules, "service-nodeports") == {"tcp . 30080": ("goto external-x", "")}


def test_text_names_nothing_before_it_is_made() -> None:
    web = service(
        type="LoadBalancer", sessionAffinity="ClientIP", loadBalancerSourceRanges=["203.0.113.0/25"], **OUTSIDE
    )
    rules = build([web, service("none", "10.96.0.30")], [endpoint_slice([HERE, THERE])])
    lines = rules.text().splitlines()
    assert lines[0] == 'add table ip kube-proxy { comment "rules for kube-proxy" ; }'
    kinds = [line.split()[1].replace("map", "set") for line in lines]
    assert kinds == sorted(kinds, key=["table", "chain", "set", "element", "rule"].index)
    assert (
        'add element ip kube-proxy no-endpoint-services { 10.96.0.30 . tcp . 80 comment "default/none" : '
        "goto reject-chain }"
    ) in lines
    for name in rules.chains:
        assert any(line.startswith(f"add chain ip kube-proxy {name}") for line in lines)
