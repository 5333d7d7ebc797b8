"""Which tracked UDP connections lead astray after Services or endpoints have changed.

A connection keeps the translation that its first packet got. TCP notices a dead endpoint and connects anew; a UDP
client that keeps its source port would send there for ever. So what leads to an address of a Service, and not to an
endpoint that serves it, has to be forgotten. Traffic policies and hints do not count: what works is left to work, as
with TCP.
Source: Kubernetes pkg/proxy/conntrack/cleanup.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .proxy_model import SERVICE_NAME_LABEL, Object, ProxyNode, endpoints_by_port, service_ports

# An address of a Service, "" for the node's own (a NodePort), with the port -> endpoints that serve it, as "ip:port".
Serving = Mapping[tuple[str, int], frozenset[str]]


class Flow(NamedTuple):
    """A UDP connection: where its first packet was sent, and who answers, as "ip:port"."""

    destination: str
    port: int
    answering: str


def target(ip: str, port: int) -> str:
    """An endpoint as the rules write it: "ip:port" or "[ip6]:port"."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def udp_serving(services: Iterable[Object], slices: Iterable[Object], family: str) -> Serving:
    """Every address of the UDP ports of Services, with the endpoints that are ready, or serve while they terminate."""
    own = {_key(service["metadata"]): service for service in services if _has_udp(service)}
    wanted = [item for item in slices if _key(item["metadata"], item["metadata"]["labels"]) in own]
    endpoints = endpoints_by_port(wanted, ProxyNode(""), family)
    found: dict[tuple[str, int], frozenset[str]] = {}
    for port in service_ports(own.values(), family):
        if port.protocol == "udp":
            known = endpoints.get((port.key, port.port_name, port.protocol), ())
            serving = frozenset(endpoint.target for endpoint in known if endpoint.ready or endpoint.draining)
            addresses = (port.cluster_ip, *port.external_ips, *port.load_balancer_ips)
            found.update(((address, port.port), serving) for address in addresses)
            if port.node_port:
                found["", port.node_port] = serving
    return found


def _key(metadata: Object, labels: Mapping[str, str] | None = None) -> tuple[str, str]:
    return metadata.get("namespace", "default"), labels[SERVICE_NAME_LABEL] if labels else metadata["name"]


def _has_udp(service: Object) -> bool:
    return any(port.get("protocol") == "UDP" for port in service["spec"].get("ports") or ())


def combined(before: Serving, after: Serving) -> Serving:
    """What to judge by: nobody serves an address that is gone."""
    return {**{address: frozenset[str]() for address in before}, **after}


def astray(flow: Flow, serving: Serving, node_addresses: Iterable[str]) -> str:
    """Why a connection has to be forgotten; empty when it leads where it should, or is no Service's business.

    node_addresses: every address of the node, where its NodePorts are.
    """
    address = (flow.destination, flow.port)
    known = serving.get(address)
    if known is None and flow.destination in node_addresses:
        known = serving.get(("", flow.port))
    if known is None or flow.answering in known:
        return ""
    to = target(*address)
    return f"went past the rules of {to}" if flow.answering == to else f"{flow.answering} no longer serves {to}"
