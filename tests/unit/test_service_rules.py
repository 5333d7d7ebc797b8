"""Which fields of a Service belong together, and what they may say: one row per rule of the API server."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.kube import service_rules
from podlab.kube.yamltree import path_text

PORTS = [{"port": 80}]


def found(spec: dict[str, Any], status: dict[str, Any] | None = None) -> list[tuple[str, str, str]]:
    thing = {"kind": "Service", "metadata": {"name": "web"}, "spec": spec, **({"status": status} if status else {})}
    return [(path_text(f.path), f.message, f.level) for f in service_rules.check(thing)]


ACCEPTED = [
    {"ports": PORTS},
    {"ports": [{"port": 80, "name": "", "targetPort": 0}]},
    {"ports": PORTS, "clusterIP": "10.096.0.007"},
    {"ports": PORTS, "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"]},
    {"clusterIP": "None"},
    {"clusterIP": "None", "type": "ClusterIP", "ports": PORTS},
    {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30000, "appProtocol": "kubernetes.io/h2c"}]},
    {"type": "NodePort", "ports": [{"port": 80, "nodePort": 0}]},
    {"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 32767}]},
    {
        "type": "NodePort",
        "ports": [
            {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
            {"name": "dns-tcp", "port": 53, "protocol": "TCP", "nodePort": 30053},
        ],
    },
    {"type": "NodePort", "ports": PORTS, "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"},
    {"ports": PORTS, "externalIPs": ["192.0.2.1", "198.51.100.041"], "externalTrafficPolicy": "Local"},
    {
        "type": "LoadBalancer",
        "ports": PORTS,
        "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 30100,
        "loadBalancerSourceRanges": [" 203.0.113.0/25", "10.0.0.0/8 ", "198.51.100.000/025"],
        "loadBalancerClass": "example.com/internal",
        "allocateLoadBalancerNodePorts": False,
    },
    {"type": "ExternalName", "externalName": "db.example.org."},
    {"type": "ExternalName", "externalName": "db.example.org", "selector": {"app": "x"}, "ports": PORTS},
    {"ports": PORTS, "trafficDistribution": "PreferSameZone"},
    {"ports": PORTS, "publishNotReadyAddresses": True, "sessionAffinity": "ClientIP"},
]


@pytest.mark.parametrize("spec", ACCEPTED)
def test_accepted(spec: dict[str, Any]) -> None:
    assert found(spec) == []


def ports(**port: Any) -> list[dict[str, Any]]:
    return [{"port": 80, **port}]


REFUSED = [
    # type and clusterIP
    ({"type": "Nodeport", "ports": PORTS}, "spec.type",
     "must be one of ClusterIP, NodePort, LoadBalancer, ExternalName, not 'Nodeport'"),
    ({"type": "NodePort", "clusterIP": "None", "ports": PORTS}, "spec.clusterIP", "must not be None for type NodePort"),
    ({"type": "LoadBalancer", "clusterIP": "None", "ports": PORTS}, "spec.clusterIP",
     "must not be None for type LoadBalancer"),
    ({"ports": PORTS, "clusterIP": "here"}, "spec.clusterIP", "must be an IP address or None, not 'here'"),
    ({"type": "NodePort"}, "spec.ports", "must have at least one port, unless clusterIP is None"),
    # ExternalName
    ({"type": "ExternalName"}, "spec.externalName", "is required with type ExternalName"),
    ({"type": "ExternalName", "externalName": "a_b"}, "spec.externalName",
     "must be lower case letters, digits, '-' and '.', each part beginning and ending with a letter or digit; "
     "it is 'a_b'"),
    ({"type": "ExternalName", "externalName": "."}, "spec.externalName", "must not be empty; it is '.'"),
    ({"type": "ExternalName", "externalName": "a.example", "clusterIP": "10.96.0.9"}, "spec.clusterIP",
     "is not for type ExternalName, which has no address"),
    ({"type": "ExternalName", "externalName": "a.example", "clusterIP": "None"}, "spec.clusterIP",
     "is not for type ExternalName, which has no address"),
    ({"type": "ExternalName", "externalName": "a.example", "ipFamilies": ["IPv4"]}, "spec.ipFamilies",
     "is not for type ExternalName, which has no address"),
    ({"type": "ExternalName", "externalName": "a.example", "ipFamilyPolicy": "SingleStack"}, "spec.ipFamilyPolicy",
     "is not for type ExternalName, which has no address"),
    ({"type": "ExternalName", "externalName": "a.example", "externalTrafficPolicy": "Local"},
     "spec.externalTrafficPolicy",
     "is only for Services that are reached from outside, not for type ExternalName"),
    ({"externalName": "a.example", "ports": PORTS}, "spec.externalName", "is only for type ExternalName"),
    # node ports
    ({"ports": ports(nodePort=30080)}, "spec.ports[0].nodePort",
     "is only for types NodePort and LoadBalancer, not ClusterIP"),
    ({"type": "ExternalName", "externalName": "a.example", "ports": ports(nodePort=30080)}, "spec.ports[0].nodePort",
     "is only for types NodePort and LoadBalancer, not ExternalName"),
    ({"type": "NodePort", "ports": ports(nodePort=29999)}, "spec.ports[0].nodePort",
     "must be in the range 30000-32767, not 29999"),
    ({"type": "LoadBalancer", "ports": ports(nodePort=32768)}, "spec.ports[0].nodePort",
     "must be in the range 30000-32767, not 32768"),
    ({"type": "NodePort", "ports": ports(nodePort=-1)}, "spec.ports[0].nodePort",
     "must be in the range 30000-32767, not -1"),
    ({"type": "NodePort", "ports": [{"name": "a", "port": 80, "nodePort": 30080},
                                    {"name": "b", "port": 81, "nodePort": 30080}]}, "spec.ports[1].nodePort",
     "node port 30080/TCP clashes with ports[0] of this Service"),
    ({"type": "LoadBalancer", "ports": ports(port=10250)}, "spec.ports[0].port",
     "must not be 10250 for type LoadBalancer: it is kubelet's"),
    ({"ports": ports(appProtocol="a b")}, "spec.ports[0].appProtocol",
     "must be letters, digits, '-', '_' and '.', beginning and ending with a letter or digit; it is 'a b'"),
    # external addresses
    ({"ports": PORTS, "externalIPs": ["example.org"]}, "spec.externalIPs[0]",
     "must be an IP address, not 'example.org'"),
    ({"ports": PORTS, "externalIPs": ["192.0.2.1", "1_0.0.0.1"]}, "spec.externalIPs[1]",
     "must be an IP address, not '1_0.0.0.1'"),
    ({"ports": PORTS, "externalIPs": ["0.0.0.0"]}, "spec.externalIPs[0]",
     "must not be the unspecified address (0.0.0.0 or ::), which 0.0.0.0 is"),
    ({"ports": PORTS, "externalIPs": ["127.000.0.53"]}, "spec.externalIPs[0]",
     "must not be in the loopback range (127.0.0.0/8, ::1/128), which 127.0.0.53 is"),
    ({"ports": PORTS, "externalIPs": ["169.254.1.1"]}, "spec.externalIPs[0]",
     "must not be in the link-local range (169.254.0.0/16, fe80::/10), which 169.254.1.1 is"),
    ({"ports": PORTS, "externalIPs": ["224.0.0.5"]}, "spec.externalIPs[0]",
     "must not be in the link-local multicast range (224.0.0.0/24, ff02::/10), which 224.0.0.5 is"),
    # load balancers
    ({"type": "LoadBalancer", "ports": PORTS, "loadBalancerSourceRanges": ["10.0.0.0"]},
     "spec.loadBalancerSourceRanges[0]", "must be an address range such as 10.240.0.0/24, not '10.0.0.0'"),
    ({"type": "LoadBalancer", "ports": PORTS, "loadBalancerSourceRanges": ["10.0.0.0/33"]},
     "spec.loadBalancerSourceRanges[0]", "must be an address range such as 10.240.0.0/24, not '10.0.0.0/33'"),
    ({"type": "NodePort", "ports": PORTS, "loadBalancerSourceRanges": ["10.0.0.0/8"]},
     "spec.loadBalancerSourceRanges", "is only for type LoadBalancer, not NodePort"),
    ({"ports": PORTS, "loadBalancerClass": "a/b"}, "spec.loadBalancerClass",
     "is only for type LoadBalancer, not ClusterIP"),
    ({"type": "NodePort", "ports": PORTS, "allocateLoadBalancerNodePorts": False},
     "spec.allocateLoadBalancerNodePorts", "is only for type LoadBalancer, not NodePort"),
    ({"type": "LoadBalancer", "ports": PORTS, "loadBalancerClass": "a b"}, "spec.loadBalancerClass",
     "must be letters, digits, '-', '_' and '.', beginning and ending with a letter or digit; it is 'a b'"),
    ({"type": "LoadBalancer", "ports": PORTS, "healthCheckNodePort": 30100}, "spec.healthCheckNodePort",
     "is only for type LoadBalancer with externalTrafficPolicy Local"),
    ({"type": "NodePort", "ports": PORTS, "externalTrafficPolicy": "Local", "healthCheckNodePort": 30100},
     "spec.healthCheckNodePort", "is only for type LoadBalancer with externalTrafficPolicy Local"),
    ({"type": "LoadBalancer", "ports": PORTS, "externalTrafficPolicy": "Local", "healthCheckNodePort": 80},
     "spec.healthCheckNodePort", "must be in the range 30000-32767, not 80"),
    # traffic
    ({"ports": PORTS, "externalTrafficPolicy": "Local"}, "spec.externalTrafficPolicy",
     "is only for Services that are reached from outside, not for type ClusterIP"),
    ({"type": "NodePort", "ports": PORTS, "externalTrafficPolicy": "local"}, "spec.externalTrafficPolicy",
     "must be one of Cluster, Local, not 'local'"),
    ({"ports": PORTS, "internalTrafficPolicy": "Node"}, "spec.internalTrafficPolicy",
     "must be one of Cluster, Local, not 'Node'"),
    ({"ports": PORTS, "trafficDistribution": "Near"}, "spec.trafficDistribution",
     "must be one of PreferClose, PreferSameZone, PreferSameNode, not 'Near'"),
    ({"ports": PORTS, "sessionAffinity": "ClientIP",
      "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}},
     "spec.sessionAffinityConfig.clientIP.timeoutSeconds", "must be between 1 and 86400, not 86401"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "path", "message"), REFUSED)
def test_refused(spec: dict[str, Any], path: str, message: str) -> None:
    assert found(spec) == [(path, message, "error")]


@pytest.mark.parametrize(
    ("spec", "path", "message"),
    [
        ({"ports": PORTS, "externalIPs": ["2001:db8::1"]}, "spec.externalIPs[0]",
         "has no effect: a lab has IPv4 addresses only"),
        ({"type": "LoadBalancer", "ports": PORTS, "loadBalancerSourceRanges": ["2001:db8::/32"]},
         "spec.loadBalancerSourceRanges[0]", "has no effect: a lab has IPv4 addresses only"),
        ({"type": "ExternalName", "externalName": "192.0.2.1"}, "spec.externalName",
         "'192.0.2.1' looks like an address, and is taken as a name: no resolver will find it"),
    ],
)  # fmt: skip
def test_warned_of(spec: dict[str, Any], path: str, message: str) -> None:
    assert found(spec) == [(path, message, "warning")]


BALANCER = {"type": "LoadBalancer", "ports": PORTS}


@pytest.mark.parametrize(
    ("spec", "entry", "said"),
    [
        (BALANCER, {"ip": "192.0.2.1"}, []),
        (BALANCER, {"ip": "192.0.2.1", "ipMode": "Proxy"}, []),
        (BALANCER, {"hostname": "lb.example.org"}, []),
        (BALANCER, {}, [("status.loadBalancer.ingress[0]", "must have ip or hostname", "error")]),
        (BALANCER, {"ip": "lb"}, [("status.loadBalancer.ingress[0].ip", "must be an IP address, not 'lb'", "error")]),
        (BALANCER, {"ip": "192.0.2.1", "ipMode": "vip"},
         [("status.loadBalancer.ingress[0].ipMode", "must be one of VIP, Proxy, not 'vip'", "error")]),
        (BALANCER, {"hostname": "lb", "ipMode": "VIP"},
         [("status.loadBalancer.ingress[0].ipMode", "is only for an entry with ip", "error")]),
        (BALANCER, {"hostname": "192.0.2.1"},
         [("status.loadBalancer.ingress[0].hostname", "must be a DNS name, not the address '192.0.2.1'", "error")]),
        (BALANCER, {"ip": "2001:db8::1"},
         [("status.loadBalancer.ingress[0].ip", "has no effect: a lab has IPv4 addresses only", "warning")]),
        ({"type": "NodePort", "ports": PORTS}, {"ip": "192.0.2.1"},
         [("status.loadBalancer.ingress", "is only for type LoadBalancer, not NodePort", "error")]),
    ],
)  # fmt: skip
def test_ingress(spec: dict[str, Any], entry: dict[str, Any], said: list[Any]) -> None:
    assert found(spec, {"loadBalancer": {"ingress": [entry]}}) == said


@pytest.mark.parametrize("status", [None, [], "x", {"loadBalancer": None}, {"loadBalancer": {"ingress": {}}}])
def test_no_ingress(status: Any) -> None:
    assert service_rules.ingress({"status": status}) == []
