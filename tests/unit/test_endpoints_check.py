"""Bad Services, slices and pods: every problem, by path."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.kube.service_check import check
from support.services import endpoint, endpoint_slice, pod, service


def problems(
    services: list[Any] | None = None, slices: list[Any] | None = None, pods: list[Any] | None = None
) -> list[str]:
    return [str(problem) for problem in check(services or [], slices or [], pods or [])]


def test_good_input_has_none() -> None:
    assert (
        problems([service(), service("db", "None")], [endpoint_slice([endpoint("10.244.1.1")])], [pod("a", "")]) == []
    )


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (service(ip=""), "services[0].spec.clusterIP: is missing. Give the Service its cluster address"),
        (service(ip="10.96.0"), "services[0].spec.clusterIP: must be an IP address, not '10.96.0'"),
        (service(ip="fd00::1"), "services[0].spec.clusterIP: must be an IPv4 address in this cluster, not 'fd00::1'"),
        (service(type="Odd"), "services[0].spec.type: must be one of ClusterIP, NodePort, LoadBalancer, ExternalName"),
        (service(ports=[{"port": 0}]), "services[0].spec.ports[0].port: must be a port number from 1 to 65535, not 0"),
        (
            service(ports=[{"port": 80, "protocol": "ICMP"}]),
            "services[0].spec.ports[0].protocol: must be TCP, UDP or SCTP",
        ),
        (
            service(ports=[{"name": "a", "port": 80}, {"name": "b", "port": 80}]),
            "services[0].spec.ports[1]: is the same port as services[0].spec.ports[0]: 80/TCP",
        ),
        (
            service(ports=[{"name": "a", "port": 80}, {"port": 81}]),
            "services[0].spec.ports[1].name: is missing: a Service with several ports names each of them",
        ),
        (
            service(ports=[{"name": "a", "port": 80}, {"name": "a", "port": 81}]),
            "services[0].spec.ports[1].name: 'a' is already the name of services[0].spec.ports[0]",
        ),
        (
            service(loadBalancerSourceRanges=["10.0.0.0/8", "10.0.0.0/99"]),
            "services[0].spec.loadBalancerSourceRanges[1]: must be an address range like 10.0.0.0/8",
        ),
        ({"metadata": {"name": "x"}}, "services[0].spec: is missing"),
    ],
)
def test_a_bad_service(item: dict[str, Any], expected: str) -> None:
    (problem,) = problems([item])
    assert problem.startswith(expected)


@pytest.mark.parametrize(
    ("services", "slices", "pods", "expected"),
    [
        (["web"], [], [], ["services[0]: must be a mapping, not 'web'"]),
        (
            [service(ports="80", externalIPs=[1]), service(sessionAffinityConfig={"clientIP": 5})],
            [],
            [],
            [
                "services[0].spec.ports: must be a list, not '80'",
                "services[0].spec.externalIPs[0]: must be text, not 1",
                "services[1].spec.sessionAffinityConfig.clientIP: must be a mapping, not 5",
            ],
        ),
        (
            [service(ports=[{"port": True, "targetPort": []}], selector={"app": None, "tier": 1})],
            [],
            [],
            [
                "services[0].spec.ports[0].port: must be a whole number, not true",
                "services[0].spec.ports[0].targetPort: must be a whole number or text, not a list",
                "services[0].spec.selector.tier: must be text, not 1",
            ],
        ),
        (
            [service(ipFamilies=["ipv4"], clusterIPs=["10.96.0.20", "x"])],
            [],
            [],
            [
                "services[0].spec.clusterIPs[1]: must be an IP address, not 'x'",
                "services[0].spec.ipFamilies[0]: must be IPv4 or IPv6, not 'ipv4'",
            ],
        ),
        (
            [service('a"', status={"loadBalancer": {"ingress": [{"ip": "x"}]}}, ports=[{"name": "b c", "port": 80}])],
            [],
            [],
            [
                "services[0].metadata.name: must be lower case letters, digits and '-', beginning and ending with a "
                "letter or digit; it is 'a\"'",
                "services[0].status.loadBalancer.ingress[0].ip: must be an IP address, not 'x'",
                "services[0].spec.ports[0].name: must be lower case letters, digits and '-', beginning and ending "
                "with a letter or digit; it is 'b c'",
            ],
        ),
        (
            [],
            [{**endpoint_slice([{"addresses": "10.0.0.1", "hints": {"forZones": [{}]}}]), "metadata": None}],
            [{"pod": {"metadata": {"name": "a"}, "spec": {}}, "status": {"podIPs": [{"ip": 1}]}}],
            [
                "endpoint_slices[0].endpoints[0].addresses: must be a list, not '10.0.0.1'",
                "endpoint_slices[0].endpoints[0].hints.forZones[0].name: is missing",
                "endpoint_slices[0].metadata: is missing",
                "pods[0].pod.spec.containers: is missing",
                "pods[0].status.podIPs[0].ip: must be text, not 1",
            ],
        ),
    ],
)
def test_types_that_nothing_could_be_made_of(
    services: list[Any], slices: list[Any], pods: list[Any], expected: list[str]
) -> None:
    assert problems(services, slices, pods) == expected


def test_several_inputs_at_once() -> None:
    found = problems(
        [service(), service(), service("other")],
        [endpoint_slice([endpoint("10.244.1.x"), {"addresses": []}, endpoint("fd00::1")]), {"metadata": {"name": "x"}}],
        [{"status": {}}, pod("a", "10.244.1.300")],
    )
    assert [line.split(":")[0] for line in found] == [
        "services[1].metadata.name",
        "services[1].spec.clusterIP",
        "services[2].spec.clusterIP",
        "endpoint_slices[0].endpoints[0].addresses[0]",
        "endpoint_slices[0].endpoints[1].addresses",
        "endpoint_slices[0].endpoints[2].addresses[0]",
        "endpoint_slices[1].metadata.labels",
        "pods[0].pod.metadata.name",
        "pods[1].status.podIP",
    ]


def test_a_node_port_is_one_services() -> None:
    ports = [{"port": 80, "nodePort": 30080}]
    things = [service("a", "10.96.0.1", ports), service("b", "10.96.0.2", ports)]
    assert problems(things) == [
        "services[1].spec.ports[0].nodePort: 30080/TCP is taken by default/a. Give each its own"
    ]
    things[1] = service("b", "10.96.0.2", [{"port": 80, "nodePort": 30080, "protocol": "UDP"}])
    assert problems(things) == []
