"""What the health-check node port of a Service answers: has this node an endpoint of its own?

Source: Kubernetes pkg/proxy/healthcheck/service_health.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .proxy_model import SERVICE_NAME_LABEL, Object, ProxyNode, service_ports

_BODY = """{{
\t"service": {{
\t\t"namespace": "{0.namespace}",
\t\t"name": "{0.service}"
\t}},
\t"localEndpoints": {0.local},
\t"serviceProxyHealthy": {1}
}}"""
_REASONS = {200: "OK", 503: "Service Unavailable"}


class Health(NamedTuple):
    """One Service with a health-check node port, as one node sees it. local: number of its ready endpoints there."""

    port: int
    namespace: str
    service: str
    local: int


def health(services: Iterable[Object], slices: Iterable[Object], node: ProxyNode, family: str) -> dict[int, Health]:
    """Port -> what is asked there."""
    ready: dict[tuple[str, str], set[str]] = {}
    for item in slices:
        key = (item["metadata"].get("namespace", "default"), item["metadata"].get("labels", {}).get(SERVICE_NAME_LABEL))
        for endpoint in item.get("endpoints") or ():
            if endpoint.get("nodeName") == node.name and (endpoint.get("conditions") or {}).get("ready") is not False:
                ready.setdefault(key, set()).add(endpoint["addresses"][0])
    return {
        port.health_check_port: Health(
            port.health_check_port, port.namespace, port.service, len(ready.get((port.namespace, port.service), ()))
        )
        for port in service_ports(services, family)
        if port.health_check_port
    }


def answer(health: Health, healthy: bool) -> bytes:
    """The HTTP response. healthy: whether the node's rules were programmed."""
    body = _BODY.format(health, "true" if healthy else "false")
    code = 200 if health.local and healthy else 503
    head = [
        f"HTTP/1.1 {code} {_REASONS[code]}",
        "Content-Type: application/json",
        "X-Content-Type-Options: nosniff",
        f"X-Load-Balancing-Endpoint-Weight: {health.local}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()
