"""The health-check node port's answer, to the byte; the canary's texts."""

from __future__ import annotations

import pytest

from podlab.kube import proxy_canary
from podlab.kube.iptables_save import parse_save
from podlab.kube.proxy_health import Health, answer, health
from podlab.kube.proxy_model import ProxyNode
from support.services import endpoint, endpoint_slice, service

NODE = ProxyNode("node-a", ("172.18.0.2",))
BALANCER = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30999}


def test_ready_local_endpoints_are_counted_by_address() -> None:
    slices = [
        endpoint_slice([endpoint("10.0.0.1", "node-a"), endpoint("10.0.0.2", "node-a", ready=False, serving=True)]),
        endpoint_slice(
            [endpoint("10.0.0.1", "node-a"), endpoint("10.0.0.3", "node-a"), endpoint("10.0.0.4", "node-b")]
        ),
    ]
    assert health([service(**BALANCER)], slices, NODE, "ipv4") == {30999: Health(30999, "default", "web", 2)}


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {**BALANCER, "externalTrafficPolicy": "Cluster"},
        {**BALANCER, "type": "NodePort"},
        {**BALANCER, "healthCheckNodePort": 0},
    ],
)
def test_others_have_none(spec: dict[str, object]) -> None:
    assert health([service(**spec)], [], NODE, "ipv4") == {}


BODY = (
    '{\n\t"service": {\n\t\t"namespace": "default",\n\t\t"name": "web"\n\t},\n'
    '\t"localEndpoints": %d,\n\t"serviceProxyHealthy": %s\n}'
)


@pytest.mark.parametrize(
    ("local", "healthy", "line"),
    [
        (2, True, "HTTP/1.1 200 OK"),
        (0, True, "HTTP/1.1 503 Service Unavailable"),
        (2, False, "HTTP/1.1 503 Service Unavailable"),
    ],
)
def test_answer(local: int, healthy: bool, line: str) -> None:
    head, body = answer(Health(30999, "default", "web", local), healthy).decode().split("\r\n\r\n")
    assert body == BODY % (local, "true" if healthy else "false")
    assert head.split("\r\n") == [
        line,
        "Content-Type: application/json",
        "X-Content-Type-Options: nosniff",
        f"X-Load-Balancing-Endpoint-Weight: {local}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]


def test_canary_is_made_where_it_is_missing_and_removed_where_it_is() -> None:
    have = parse_save("*nat\n:KUBE-PROXY-CANARY - [0:0]\nCOMMIT\n*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n")
    assert proxy_canary.missing(have) == ["mangle", "filter"]
    assert proxy_canary.text(["mangle"]) == "*mangle\n:KUBE-PROXY-CANARY - [0:0]\nCOMMIT\n"
    assert proxy_canary.removal_text(have) == "*nat\n:KUBE-PROXY-CANARY - [0:0]\n-X KUBE-PROXY-CANARY\nCOMMIT\n"
    assert proxy_canary.text(proxy_canary.missing(parse_save(proxy_canary.text(list(proxy_canary.TABLES))))) == ""
