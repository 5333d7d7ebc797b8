"""kube-proxy's rules per kind of Service, to the letter."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from podlab.kube.proxy import RuleSet, restore_text
from podlab.kube.proxy_chains import Options
from support.services import NODE, OPTIONS, draining, endpoint, endpoint_slice, service

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "proxy"
H = "LOLE4ISW44XBNF3G"  # hash16("default/webtcp")


def build(
    services: list[dict[str, Any]], slices: list[dict[str, Any]] | None = None, options: Options = OPTIONS
) -> RuleSet:
    return restore_text(services, slices or [], NODE, options)


def chain(rules: RuleSet, table: str, name: str) -> list[str]:
    """The chain's rules as fed in, without their -A CHAIN; names of the Service's own chains shortened."""
    prefix = f"-A {name} "
    text = rules.text().split("*nat\n")[table == "nat"]
    return [line[len(prefix) :].replace(f"-{H}", "-x") for line in text.splitlines() if line.startswith(prefix)]


def test_whole_text_of_the_simplest_lab() -> None:
    rules = build(
        [
            service(ports=[{"port": 80, "targetPort": 8080}]),
            service("kube-dns", "10.96.0.10", [{"name": "dns", "port": 53, "protocol": "UDP"}], "kube-system"),
            service("nobody", "10.96.0.30"),
            service("headless", "None"),
            {"metadata": {"name": "alias"}, "spec": {"type": "ExternalName", "externalName": "example.org"}},
        ],
        [
            endpoint_slice(
                [endpoint(f"10.244.1.{n}") for n in (1, 10, 100, 2)],
                [{"name": "", "port": 8080, "protocol": "TCP"}],
            ),
            endpoint_slice(
                [endpoint("10.244.0.5", "node-a")],
                [{"name": "dns", "port": 53, "protocol": "UDP"}],
                "kube-dns",
                "kube-system",
            ),
        ],
    )
    assert rules.text() == (GOLDEN / "cluster_ip.txt").read_text()


def test_no_endpoints_refuses_and_none_local_drops() -> None:
    at = "-m tcp -p tcp -d 10.96.0.20 --dport 80"
    nobody = build([service()])
    assert chain(nobody, "filter", "KUBE-SERVICES") == [
        f'-m comment --comment "default/web has no endpoints" {at} -j REJECT'
    ]
    assert chain(nobody, "nat", "KUBE-SERVICES") == chain(build([]), "nat", "KUBE-SERVICES")
    assert not [name for name in nobody.chains["nat"] if "SVC-" in name]
    none_here = build([service(internalTrafficPolicy="Local")], [endpoint_slice([endpoint("10.244.1.1")])])
    assert chain(none_here, "filter", "KUBE-SERVICES") == [
        f'-m comment --comment "default/web has no local endpoints" {at} -j DROP'
    ]
    draining_elsewhere = build([service(internalTrafficPolicy="Local")], [endpoint_slice([draining("10.244.1.1")])])
    assert chain(draining_elsewhere, "filter", "KUBE-SERVICES")[0].endswith("-j DROP")


def test_internal_policy_local_has_its_masquerade_rule_in_svl() -> None:
    rules = build(
        [service(internalTrafficPolicy="Local")],
        [endpoint_slice([endpoint("10.244.1.1"), endpoint("10.244.0.1", "node-a")])],
    )
    assert chain(rules, "nat", f"KUBE-SVL-{H}")[0] == (
        '-m comment --comment "default/web cluster IP" -m tcp -p tcp -d 10.96.0.20 --dport 80 ! -s 10.244.0.0/16'
        " -j KUBE-MARK-MASQ"
    )
    assert len(chain(rules, "nat", f"KUBE-SVL-{H}")) == 2
    assert f"KUBE-SVC-{H}" not in rules.chains["nat"]
    assert len([name for name in rules.chains["nat"] if "SEP" in name]) == 1


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (Options(masquerade_all=True), ""),
        (Options(masquerade_all=True, local="-s 10.0.0.0/8", not_local="! -s 10.0.0.0/8"), ""),
        (Options(local="-i br0", not_local="! -i br0"), " ! -i br0"),
        (Options(), None),
    ],
)
def test_masquerade_of_cluster_traffic(options: Options, match: str | None) -> None:
    rules = build([service()], [endpoint_slice([endpoint("10.244.1.1")])], options)
    found = [rule for rule in chain(rules, "nat", f"KUBE-SVC-{H}") if "MARK-MASQ" in rule]
    expected = '-m comment --comment "default/web cluster IP" -m tcp -p tcp -d 10.96.0.20 --dport 80'
    assert found == ([] if match is None else [f"{expected}{match} -j KUBE-MARK-MASQ"])


def test_probabilities_of_seven() -> None:
    rules = build([service()], [endpoint_slice([endpoint(f"10.244.1.{n}") for n in range(1, 8)])])
    words = [rule.split() for rule in chain(rules, "nat", f"KUBE-SVC-{H}")[1:]]
    found = [rule[rule.index("--probability") + 1] if "--probability" in rule else None for rule in words]
    assert found == [
        "0.1428571429",
        "0.1666666667",
        "0.2000000000",
        "0.2500000000",
        "0.3333333333",
        "0.5000000000",
        None,
    ]


def test_affinity() -> None:
    rules = build(
        [service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}})],
        [endpoint_slice([endpoint("10.244.1.1"), endpoint("10.244.1.2")])],
    )
    one, two = [name for name in rules.chains["nat"] if "SEP" in name]
    to_one = '-m comment --comment "default/web -> 10.244.1.1:80"'
    to_two = '-m comment --comment "default/web -> 10.244.1.2:80"'
    assert chain(rules, "nat", f"KUBE-SVC-{H}")[1:] == [
        f"{to_one} -m recent --name {one} --rcheck --seconds 60 --reap -j {one}",
        f"{to_two} -m recent --name {two} --rcheck --seconds 60 --reap -j {two}",
        f"{to_one} -m statistic --mode random --probability 0.5000000000 -j {one}",
        f"{to_two} -j {two}",
    ]
    assert chain(rules, "nat", one) == [
        "-m comment --comment default/web -s 10.244.1.1 -j KUBE-MARK-MASQ",
        f"-m comment --comment default/web -m recent --name {one} --set -m tcp -p tcp"
        " -j DNAT --to-destination 10.244.1.1:80",
    ]


def test_affinity_defaults_to_three_hours() -> None:
    rules = build([service(sessionAffinity="ClientIP")], [endpoint_slice([endpoint("10.244.1.1")])])
    assert "--seconds 10800 --reap" in chain(rules, "nat", f"KUBE-SVC-{H}")[1]


def test_large_cluster_loses_comments_of_endpoints_only() -> None:
    many = [endpoint(f"10.244.{n // 250}.{n % 250 + 1}") for n in range(1001)]
    loud = build([service()], [endpoint_slice(many[:1000])])
    quiet = build([service()], [endpoint_slice(many)])
    assert "--comment" in chain(loud, "nat", f"KUBE-SVC-{H}")[1]
    assert chain(quiet, "nat", f"KUBE-SVC-{H}")[1].startswith(
        "-m statistic --mode random --probability 0.0009990010 -j"
    )
    assert "--comment" in chain(quiet, "nat", f"KUBE-SVC-{H}")[0]
    sep = next(name for name in quiet.chains["nat"] if "SEP" in name)
    assert chain(quiet, "nat", sep)[0] == "-s 10.244.0.100 -j KUBE-MARK-MASQ"
    assert chain(quiet, "nat", sep)[1] == "-m tcp -p tcp -j DNAT --to-destination 10.244.0.100:80"


def test_node_port_cluster_policy() -> None:
    rules = build(
        [service(type="NodePort", ports=[{"port": 80, "nodePort": 30080}])], [endpoint_slice([endpoint("10.244.1.1")])]
    )
    assert chain(rules, "nat", "KUBE-NODEPORTS") == [
        "-m comment --comment default/web -m tcp -p tcp --dport 30080 -j KUBE-EXT-x"
    ]
    assert chain(rules, "nat", f"KUBE-EXT-{H}") == [
        '-m comment --comment "masquerade traffic for default/web external destinations" -j KUBE-MARK-MASQ',
        "-j KUBE-SVC-x",
    ]


def test_external_policy_local_without_a_local_endpoint() -> None:
    rules = build(
        [service(type="NodePort", externalTrafficPolicy="Local", ports=[{"port": 80, "nodePort": 30080}])],
        [endpoint_slice([endpoint("10.244.1.1")])],
    )
    name = "default/web external destinations"
    assert chain(rules, "nat", f"KUBE-EXT-{H}") == [
        f'-m comment --comment "pod traffic for {name}" -s 10.244.0.0/16 -j KUBE-SVC-x',
        f'-m comment --comment "masquerade LOCAL traffic for {name}" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ',
        f'-m comment --comment "route LOCAL traffic for {name}" -m addrtype --src-type LOCAL -j KUBE-SVC-x',
    ]
    assert chain(rules, "filter", "KUBE-EXTERNAL-SERVICES") == [
        '-m comment --comment "default/web has no local endpoints" -m addrtype --dst-type LOCAL -m tcp -p tcp'
        " --dport 30080 -j DROP"
    ]
    assert chain(rules, "filter", "KUBE-SERVICES") == []


def balanced(**spec: Any) -> dict[str, Any]:
    return service(
        type="LoadBalancer",
        ports=[{"port": 80, "nodePort": 30080}],
        status={"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2", "ipMode": "Proxy"}]}},
        **spec,
    )


def test_load_balancer_with_source_ranges() -> None:
    rules = build(
        [balanced(loadBalancerSourceRanges=[" 203.0.113.000/025", "172.18.0.0/16", "fd00::/8"])],
        [endpoint_slice([endpoint("10.244.1.1")])],
    )
    at = "-m tcp -p tcp -d 192.0.2.1 --dport 80"
    assert chain(rules, "nat", "KUBE-SERVICES")[1] == (
        f'-m comment --comment "default/web loadbalancer IP" {at} -j KUBE-FW-x'
    )
    assert chain(rules, "filter", "KUBE-PROXY-FIREWALL") == [
        f'-m comment --comment "default/web traffic not accepted by KUBE-FW-x" {at} -j DROP'
    ]
    assert chain(rules, "nat", f"KUBE-FW-{H}") == [
        '-m comment --comment "default/web loadbalancer IP" -s 203.0.113.0/25 -j KUBE-EXT-x',
        '-m comment --comment "default/web loadbalancer IP" -s 172.18.0.0/16 -j KUBE-EXT-x',
        '-m comment --comment "default/web loadbalancer IP" -s 192.0.2.1 -j KUBE-EXT-x',
        '-m comment --comment "other traffic to default/web will be dropped by KUBE-PROXY-FIREWALL"',
    ]


def test_health_check_port_is_always_tcp_and_always_there() -> None:
    rules = build([balanced(externalTrafficPolicy="Local", healthCheckNodePort=32000)])
    assert chain(rules, "filter", "KUBE-NODEPORTS") == [
        '-m comment --comment "default/web health check node port" -m tcp -p tcp --dport 32000 -j ACCEPT'
    ]
    assert [rule.split(" -j ")[1] for rule in chain(rules, "filter", "KUBE-EXTERNAL-SERVICES")] == ["REJECT", "REJECT"]
    assert not chain(build([balanced(healthCheckNodePort=32000)]), "filter", "KUBE-NODEPORTS")


def test_external_ip_with_leading_zeros() -> None:
    rules = build([service(externalIPs=["172.30.0.041", "fd00::1"])], [endpoint_slice([endpoint("10.244.1.01")])])
    assert chain(rules, "nat", "KUBE-SERVICES")[1] == (
        '-m comment --comment "default/web external IP" -m tcp -p tcp -d 172.30.0.41 --dport 80 -j KUBE-EXT-x'
    )
    assert "-s 10.244.1.1 " in rules.text()


def test_endpoints_match_by_port_name_and_protocol_and_sort_by_bytes() -> None:
    ports = [{"name": "a", "port": 80, "protocol": "TCP"}, {"name": None, "port": 80}, {"name": "a", "port": None}]
    rules = build(
        [service(ports=[{"name": "a", "port": 80}, {"name": "a-udp", "port": 80, "protocol": "UDP"}])],
        [endpoint_slice([endpoint(f"10.0.1.{n}") for n in (1, 2, 10, 100, 1)], ports)],
    )
    order = [line.split()[-1] for line in rules.text().splitlines() if "--to-destination" in line]
    assert order == ["10.0.1.100:80", "10.0.1.10:80", "10.0.1.1:80", "10.0.1.2:80"]
    assert '"default/web:a-udp has no endpoints" -m udp -p udp' in rules.text()


def test_terminating_endpoints_serve_when_none_is_ready() -> None:
    rules = build([service()], [endpoint_slice([draining("10.244.1.1"), endpoint("10.244.1.2", ready=False)])])
    assert [line for line in rules.text().splitlines() if "DNAT" in line][-1].endswith("10.244.1.1:80")
    busy = build([service()], [endpoint_slice([draining("10.244.1.1"), endpoint("10.244.1.2")])])
    assert "10.244.1.1" not in busy.text()


def test_the_same_address_twice() -> None:
    """A terminating entry never displaces one already there, any other always does."""
    ready, going, starting = endpoint("10.244.1.1"), draining("10.244.1.1"), endpoint("10.244.1.1", ready=False)
    for entries, serves in (
        ([ready, going], True),
        ([going, ready], True),
        ([ready, starting], False),
        ([starting, ready], True),
        ([starting, going], False),
    ):
        text = build([service()], [endpoint_slice([entry]) for entry in entries]).text()
        assert ("10.244.1.1:80" in text) == serves, entries


def test_terminating_endpoints_that_do_not_serve_get_nothing() -> None:
    gone = endpoint("10.244.1.1", ready=False, serving=False, terminating=True)
    assert "has no endpoints" in build([service()], [endpoint_slice([gone])]).text()


def test_zone_hints() -> None:
    def hinted(address: str, zone: str) -> dict[str, Any]:
        return {**endpoint(address), "hints": {"forZones": [{"name": zone}]}}

    slices = [endpoint_slice([hinted("10.244.1.1", "a"), hinted("10.244.1.2", "b")])]
    here = restore_text([service()], slices, NODE._replace(zone="a"), OPTIONS).text()
    assert "10.244.1.1" in here and "10.244.1.2" not in here
    nowhere = restore_text([service()], slices, NODE._replace(zone="c"), OPTIONS).text()
    assert "10.244.1.1" in nowhere and "10.244.1.2" in nowhere


def test_ipv6_takes_only_its_own_addresses() -> None:
    services = [service(ip="10.96.0.20"), service("six", "fd00:10:96::20")]
    slices = [endpoint_slice([endpoint("fd00:10:244::1")], name="six", family="IPv6")]
    options = Options(family="ipv6", local="-s fd00:10:244::/56", not_local="! -s fd00:10:244::/56")
    text = build(services, slices, options).text()
    assert "10.96.0.20" not in text
    assert "--to-destination [fd00:10:244::1]:80" in text
    assert "KUBE-FIREWALL" not in text
