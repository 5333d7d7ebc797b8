"""From an address to the Service's chains or to a verdict: one case per row of kube-proxy's dispatch rules."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.kube.proxy import restore_text
from podlab.kube.proxy_chains import COUNTERS, Options
from podlab.kube.proxy_normal import normal_form
from support.rules_text import expected
from support.services import NODE, draining, endpoint, endpoint_slice, service

PORTS = [{"name": "p80", "protocol": "TCP", "port": 80}]
NODE_PORTS = [{"name": "p80", "protocol": "TCP", "port": 80, "nodePort": 3001}]
REMOTE = endpoint("10.180.0.1")
VIP = {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}


def made(endpoints: list[dict[str, Any]], options: Options, **spec: Any) -> str:
    given = {"ports": PORTS, **spec}
    own = service("svc1", "172.30.0.41", namespace="ns1", **given)
    slices = [endpoint_slice(endpoints, [{"name": "p80", "protocol": "TCP", "port": 80}], "svc1", "ns1")]
    return normal_form(restore_text([own], slices, NODE, options._replace(random_fully=False)).text())


# Chains that several cases have.
TO_SVC = """
-A KUBE-SERVICES -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp -p tcp -d 172.30.0.41 --dport 80
\\ -j KUBE-SVC-<ns1/svc1:p80tcp>
"""
SVC = """
-A KUBE-SVC-<ns1/svc1:p80tcp> -m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80"
\\ -j KUBE-SEP-<ns1/svc1:p80tcp10.180.0.1:80>
-A KUBE-SEP-<ns1/svc1:p80tcp10.180.0.1:80> -m comment --comment ns1/svc1:p80 -s 10.180.0.1 -j KUBE-MARK-MASQ
-A KUBE-SEP-<ns1/svc1:p80tcp10.180.0.1:80> -m comment --comment ns1/svc1:p80 -m tcp -p tcp
\\ -j DNAT --to-destination 10.180.0.1:80
"""
EXT = """
-A KUBE-EXT-<ns1/svc1:p80tcp> -m comment --comment "masquerade traffic for ns1/svc1:p80 external destinations"
\\ -j KUBE-MARK-MASQ
-A KUBE-EXT-<ns1/svc1:p80tcp> -j KUBE-SVC-<ns1/svc1:p80tcp>
"""
# externalTrafficPolicy Local on a node without an endpoint: no way on from EXT for others than the node itself.
EXT_LOCAL = """
-A KUBE-EXT-<ns1/svc1:p80tcp> -m comment --comment "masquerade LOCAL traffic for ns1/svc1:p80 external destinations"
\\ -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
-A KUBE-EXT-<ns1/svc1:p80tcp> -m comment --comment "route LOCAL traffic for ns1/svc1:p80 external destinations"
\\ -m addrtype --src-type LOCAL -j KUBE-SVC-<ns1/svc1:p80tcp>
"""
NOBODY = '-m comment --comment "ns1/svc1:p80 has no endpoints"'
NOBODY_HERE = '-m comment --comment "ns1/svc1:p80 has no local endpoints"'
AT = "-m tcp -p tcp -d {} --dport 80"
CLUSTER_REJECT = f"-A KUBE-SERVICES {NOBODY} {AT.format('172.30.0.41')} -j REJECT\n"

CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str]] = {
    "1 cluster IP": ([REMOTE], {}, "*nat" + TO_SVC + SVC),
    "1 cluster IP, nobody": ([], {}, CLUSTER_REJECT),
    "1 cluster IP, not ready": ([endpoint("10.180.0.1", ready=False)], {}, CLUSTER_REJECT),
    "1 cluster IP, internal Local, nobody here": (
        [REMOTE],
        {"internalTrafficPolicy": "Local"},
        f"-A KUBE-SERVICES {NOBODY_HERE} {AT.format('172.30.0.41')} -j DROP",
    ),
    "1 cluster IP, internal Local, only one elsewhere that terminates": (
        [draining("10.180.0.1")],
        {"internalTrafficPolicy": "Local"},
        f"-A KUBE-SERVICES {NOBODY_HERE} {AT.format('172.30.0.41')} -j DROP",
    ),
    "1 cluster IP, internal Local, one here": (
        [endpoint("10.180.0.1", "node-a"), endpoint("10.180.0.2")],
        {"internalTrafficPolicy": "Local"},
        "*nat" + (TO_SVC + SVC).replace("KUBE-SVC-", "KUBE-SVL-"),
    ),
    "2 external IP": (
        [REMOTE],
        {"externalIPs": ["192.168.99.11"]},
        f"""*nat {TO_SVC}
        -A KUBE-SERVICES -m comment --comment "ns1/svc1:p80 external IP" {AT.format("192.168.99.11")}
        \\ -j KUBE-EXT-<ns1/svc1:p80tcp> {EXT} {SVC}""",
    ),
    "2 external IP, nobody": (
        [],
        {"externalIPs": ["192.168.99.11"]},
        f"{CLUSTER_REJECT}-A KUBE-EXTERNAL-SERVICES {NOBODY} {AT.format('192.168.99.11')} -j REJECT",
    ),
    "2 external IP, external Local, nobody here: both a jump and a verdict": (
        [REMOTE],
        {"externalIPs": ["192.168.99.11"], "externalTrafficPolicy": "Local"},
        f"""-A KUBE-EXTERNAL-SERVICES {NOBODY_HERE} {AT.format("192.168.99.11")} -j DROP
        *nat {TO_SVC}
        -A KUBE-SERVICES -m comment --comment "ns1/svc1:p80 external IP" {AT.format("192.168.99.11")}
        \\ -j KUBE-EXT-<ns1/svc1:p80tcp> {EXT_LOCAL} {SVC}""",
    ),
    "3 load balancer": (
        [REMOTE],
        {"type": "LoadBalancer", "status": VIP},
        f"""*nat {TO_SVC}
        -A KUBE-SERVICES -m comment --comment "ns1/svc1:p80 loadbalancer IP" {AT.format("1.2.3.4")}
        \\ -j KUBE-EXT-<ns1/svc1:p80tcp> {EXT} {SVC}""",
    ),
    "3 load balancer that is a proxy": (
        [REMOTE],
        {"type": "LoadBalancer", "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4", "ipMode": "Proxy"}]}}},
        "*nat" + TO_SVC + SVC,
    ),
    "3 load balancer with source ranges": (
        [REMOTE],
        {"type": "LoadBalancer", "status": VIP, "loadBalancerSourceRanges": [" 203.0.113.0/25"]},
        f"""-A KUBE-PROXY-FIREWALL
        \\ -m comment --comment "ns1/svc1:p80 traffic not accepted by KUBE-FW-<ns1/svc1:p80tcp>"
        \\ {AT.format("1.2.3.4")} -j DROP
        *nat {TO_SVC}
        -A KUBE-SERVICES -m comment --comment "ns1/svc1:p80 loadbalancer IP" {AT.format("1.2.3.4")}
        \\ -j KUBE-FW-<ns1/svc1:p80tcp>
        -A KUBE-FW-<ns1/svc1:p80tcp> -m comment --comment "ns1/svc1:p80 loadbalancer IP" -s 203.0.113.0/25
        \\ -j KUBE-EXT-<ns1/svc1:p80tcp>
        -A KUBE-FW-<ns1/svc1:p80tcp>
        \\ -m comment --comment "other traffic to ns1/svc1:p80 will be dropped by KUBE-PROXY-FIREWALL"
        {EXT} {SVC}""",
    ),
    "4 load balancer, nobody": (
        [],
        {"type": "LoadBalancer", "status": VIP, "loadBalancerSourceRanges": ["203.0.113.0/25"]},
        f"{CLUSTER_REJECT}-A KUBE-EXTERNAL-SERVICES {NOBODY} {AT.format('1.2.3.4')} -j REJECT",
    ),
    "4 load balancer, external Local, nobody here": (
        [REMOTE],
        {"type": "LoadBalancer", "status": VIP, "externalTrafficPolicy": "Local"},
        f"""-A KUBE-EXTERNAL-SERVICES {NOBODY_HERE} {AT.format("1.2.3.4")} -j DROP
        *nat {TO_SVC}
        -A KUBE-SERVICES -m comment --comment "ns1/svc1:p80 loadbalancer IP" {AT.format("1.2.3.4")}
        \\ -j KUBE-EXT-<ns1/svc1:p80tcp> {EXT_LOCAL} {SVC}""",
    ),
    "5 node port": (
        [REMOTE],
        {"type": "NodePort", "ports": NODE_PORTS},
        f"""*nat {TO_SVC}
        -A KUBE-NODEPORTS -m comment --comment ns1/svc1:p80 -m tcp -p tcp --dport 3001 -j KUBE-EXT-<ns1/svc1:p80tcp>
        {EXT} {SVC}""",
    ),
    "5 node port, nobody: addrtype before the protocol": (
        [],
        {"type": "NodePort", "ports": NODE_PORTS},
        f"""{CLUSTER_REJECT}
        -A KUBE-EXTERNAL-SERVICES {NOBODY} -m addrtype --dst-type LOCAL -m tcp -p tcp --dport 3001 -j REJECT""",
    ),
    "5 node port, external Local, nobody here": (
        [REMOTE],
        {"type": "NodePort", "ports": NODE_PORTS, "externalTrafficPolicy": "Local"},
        f"""-A KUBE-EXTERNAL-SERVICES {NOBODY_HERE} -m addrtype --dst-type LOCAL -m tcp -p tcp --dport 3001 -j DROP
        *nat {TO_SVC}
        -A KUBE-NODEPORTS -m comment --comment ns1/svc1:p80 -m tcp -p tcp --dport 3001 -j KUBE-EXT-<ns1/svc1:p80tcp>
        {EXT_LOCAL} {SVC}""",
    ),
    "5 a load balancer without node ports": (
        [REMOTE],
        {"type": "LoadBalancer", "ports": [{**PORTS[0], "nodePort": 0}], "externalTrafficPolicy": "Local"},
        "*nat" + TO_SVC + SVC,
    ),
    "6 health check, also without endpoints": (
        [],
        {"type": "LoadBalancer", "status": VIP, "externalTrafficPolicy": "Local", "healthCheckNodePort": 30000},
        f"""{CLUSTER_REJECT}-A KUBE-EXTERNAL-SERVICES {NOBODY} {AT.format("1.2.3.4")} -j REJECT
        -A KUBE-NODEPORTS -m comment --comment "ns1/svc1:p80 health check node port" -m tcp -p tcp --dport 30000
        \\ -j ACCEPT""",
    ),
    "6 no health check with external Cluster": (
        [],
        {"type": "LoadBalancer", "healthCheckNodePort": 30000},
        CLUSTER_REJECT,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_dispatch(name: str) -> None:
    endpoints, spec, lines = CASES[name]
    assert made(endpoints, Options(), **spec) == normal_form(expected(lines))


def test_node_port_on_localhost_is_counted_first() -> None:
    counted = (
        "-A KUBE-FORWARD -m conntrack --ctstate INVALID -m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j DROP"
    )
    lines = f"""*nat {TO_SVC}
    -A KUBE-NODEPORTS -m comment --comment ns1/svc1:p80 -m tcp -p tcp -d 127.0.0.0/8 --dport 3001
    \\ -m nfacct --nfacct-name localhost_nps_accepted_pkts -j KUBE-EXT-<ns1/svc1:p80tcp>
    -A KUBE-NODEPORTS -m comment --comment ns1/svc1:p80 -m tcp -p tcp --dport 3001 -j KUBE-EXT-<ns1/svc1:p80tcp>
    {EXT} {SVC}"""
    text = made([REMOTE], Options(counters=COUNTERS), type="NodePort", ports=NODE_PORTS)
    assert text == normal_form(expected(lines, invalid=counted))


def test_the_health_check_port_is_there_once_per_port_and_always_tcp() -> None:
    ports = [*PORTS, {"name": "u", "protocol": "UDP", "port": 53}]
    text = made([], Options(), type="LoadBalancer", ports=ports, externalTrafficPolicy="Local", healthCheckNodePort=9)
    found = [line for line in text.splitlines() if "health check" in line and "-A KUBE-NODEPORTS" in line]
    assert [line.split('"')[1] for line in found] == [
        "ns1/svc1:p80 health check node port",
        "ns1/svc1:u health check node port",
    ]
    assert all(line.endswith("-m tcp -p tcp --dport 9 -j ACCEPT") for line in found)


@pytest.mark.parametrize("kind", ["ExternalName", "headless", "no address", "of another proxy", "said to be headless"])
def test_services_that_have_no_rules(kind: str) -> None:
    spec: dict[str, Any] = {"type": "ExternalName"} if kind == "ExternalName" else {}
    own = service("svc1", {"headless": "None", "no address": ""}.get(kind, "172.30.0.41"), PORTS, "ns1", **spec)
    if kind == "of another proxy":
        own["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "another"}
    if kind == "said to be headless":
        own["metadata"]["labels"] = {"service.kubernetes.io/headless": ""}
    slices = [endpoint_slice([REMOTE], PORTS, "svc1", "ns1")]
    assert normal_form(restore_text([own], slices, NODE, Options(random_fully=False)).text()) == normal_form(
        expected("")
    )
