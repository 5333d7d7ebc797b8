"""What kube-proxy knows of Services and endpoints before it writes a rule.

Sources: Kubernetes pkg/proxy/{serviceport.go,endpoint.go,endpointslicecache.go,topology.go,util/utils.go}.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Object = Mapping[str, Any]

DEFAULT_AFFINITY_SECONDS = 10800
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
# kube-proxy asks for Services and EndpointSlices that have neither: another proxy serves them, or they need none.
LEFT_OUT_LABELS = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")
# What kube-proxy takes as the node's address while it does not know one.
_UNKNOWN_ADDRESS = {"ipv4": "127.0.0.1", "ipv6": "::1"}


class ProxyNode(NamedTuple):
    """The node whose rules are written: its name, addresses and zone."""

    name: str
    addresses: tuple[str, ...] = ()
    zone: str = ""

    def address(self, family: str) -> str:
        """The node IP of a family, as kube-proxy takes it: the first one; empty without any."""
        return next((address for address in self.addresses if family_of(address) == family), "")


class ServicePort(NamedTuple):
    """One port entry of one Service: kube-proxy's unit of work. affinity_seconds: 0 means no affinity."""

    namespace: str
    service: str
    port_name: str
    protocol: str
    cluster_ip: str
    port: int
    node_port: int
    external_ips: tuple[str, ...]
    load_balancer_ips: tuple[str, ...]
    source_ranges: tuple[str, ...]
    external_local: bool
    internal_local: bool
    affinity_seconds: int
    health_check_port: int

    @property
    def key(self) -> str:
        """namespace/name of the Service."""
        return f"{self.namespace}/{self.service}"

    @property
    def name_string(self) -> str:
        """namespace/name:port, without the colon when the port has no name."""
        return f"{self.namespace}/{self.service}{':' if self.port_name else ''}{self.port_name}"

    @property
    def accessible(self) -> bool:
        """Reachable from outside the cluster."""
        return bool(self.node_port or self.load_balancer_ips or self.external_ips)

    @property
    def uses_cluster(self) -> bool:
        """Traffic may go to endpoints of every node."""
        return not self.internal_local or self.accessible

    @property
    def uses_local(self) -> bool:
        """Some traffic may only go to endpoints of this node."""
        return self.internal_local or (self.external_local and self.accessible)


class Endpoint(NamedTuple):
    """One address and port behind a service port. target: "ip:port" or "[ip6]:port"."""

    target: str
    ip: str
    ready: bool
    draining: bool  # serving and terminating
    local: bool
    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


class Chosen(NamedTuple):
    """The endpoints that the rules of one service port use, each in the order of the rules."""

    cluster: Sequence[Endpoint]
    local: Sequence[Endpoint]
    reachable: Sequence[Endpoint]
    any: bool


@functools.lru_cache(maxsize=65536)
def clean_ip(text: str) -> str:
    """The address as the rules print it: leading zeros are decimal, IPv6 compressed. Raises ValueError."""
    if "%" in text:
        raise ValueError(f"{text!r} has a zone")
    if ":" in text:
        address = ipaddress.IPv6Address(text)
        return str(address.ipv4_mapped or address)
    return str(ipaddress.IPv4Address(".".join(str(_number(part)) for part in text.split("."))))


def _number(text: str) -> int:
    """Plain decimal digits, with leading zeros or without: int() alone takes signs, blanks and underscores, too."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is no number")
    return int(text)


def clean_range(text: str) -> str:
    """A source range as the rules print it: `203.0.113.000/025` is `203.0.113.0/25`. Raises ValueError."""
    address, _, bits = text.strip().partition("/")
    return str(ipaddress.ip_network(f"{clean_ip(address)}/{_number(bits)}", strict=False))


def family_of(text: str) -> str:
    """ "ipv4" or "ipv6", by the look of an address or range."""
    return "ipv6" if ":" in text else "ipv4"


def _of_family(texts: Iterable[str], family: str) -> tuple[str, ...]:
    return tuple(text for text in texts if family_of(text) == family)


def allowed_sources(port: ServicePort, node: ProxyNode, family: str) -> list[str]:
    """Who may send to the load balancer's addresses of a Service with source ranges: these, and on a node in one of
    them the addresses themselves, which are the source when the node sends to its own."""
    own = ipaddress.ip_address(node.address(family) or _UNKNOWN_ADDRESS[family])
    inside = any(own in ipaddress.ip_network(source) for source in port.source_ranges)
    return [*port.source_ranges, *(port.load_balancer_ips if inside else ())]


def _left_out(metadata: Object) -> bool:
    labels = metadata.get("labels") or {}
    return any(label in labels for label in LEFT_OUT_LABELS)


def service_ports(services: Iterable[Object], family: str = "ipv4") -> list[ServicePort]:
    """One entry per port of every Service that has a cluster address of the family, in the order given."""
    return [port for service in services for port in _ports_of(service, family)]


def _ports_of(service: Object, family: str) -> Iterable[ServicePort]:
    spec = service["spec"]
    cluster_ip = _cluster_ip(spec, family)
    if spec.get("type") == "ExternalName" or not cluster_ip:
        return
    if _left_out(service["metadata"]):
        return
    kind = spec.get("type") or "ClusterIP"
    external_ips = _of_family(map(clean_ip, spec.get("externalIPs") or ()), family)
    balancer = (service.get("status") or {}).get("loadBalancer") or {}
    vips = [
        clean_ip(ingress["ip"])
        for ingress in balancer.get("ingress") or ()
        if ingress.get("ip") and ingress.get("ipMode") != "Proxy"
    ]
    external_local = spec.get("externalTrafficPolicy") == "Local" and (
        kind in ("LoadBalancer", "NodePort") or bool(spec.get("externalIPs"))
    )
    for port in spec.get("ports") or ():
        yield ServicePort(
            namespace=service["metadata"].get("namespace") or "default",
            service=service["metadata"]["name"],
            port_name=port.get("name") or "",
            protocol=(port.get("protocol") or "TCP").lower(),
            cluster_ip=cluster_ip,
            port=port["port"],
            node_port=port.get("nodePort") or 0,
            external_ips=external_ips,
            load_balancer_ips=_of_family(vips, family),
            source_ranges=_of_family(map(clean_range, spec.get("loadBalancerSourceRanges") or ()), family),
            external_local=external_local,
            internal_local=spec.get("internalTrafficPolicy") == "Local",
            affinity_seconds=_affinity(spec),
            health_check_port=(spec.get("healthCheckNodePort") or 0)
            if kind == "LoadBalancer" and external_local
            else 0,
        )


def _cluster_ip(spec: Object, family: str) -> str:
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    if spec.get("clusterIP", "") in ("", "None", None):
        return ""
    own = _of_family((clean_ip(address) for address in addresses if address), family)
    return own[0] if own else ""


def _affinity(spec: Object) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return config.get("timeoutSeconds") or DEFAULT_AFFINITY_SECONDS


def endpoints_by_port(
    slices: Iterable[Object], node: ProxyNode, family: str = "ipv4"
) -> dict[tuple[str, str, str], list[Endpoint]]:
    """Endpoints per (namespace/name, port name, protocol), in the byte order of their "ip:port".

    A slice without the label of its Service, a port without a name (null; "" is one) or number, an endpoint without
    an address are left out, as kube-proxy leaves them out.
    """
    found: dict[tuple[str, str, str], dict[str, Endpoint]] = {}
    wanted = {"ipv4": "IPv4", "ipv6": "IPv6"}[family]
    for item in slices:
        metadata = item["metadata"]
        service = (metadata.get("labels") or {}).get(SERVICE_NAME_LABEL)
        if (item.get("addressType") or "IPv4") != wanted or not service or _left_out(metadata):
            continue
        key = f"{metadata.get('namespace') or 'default'}/{service}"
        for port in item.get("ports") or ():
            if port.get("name") is None or not port.get("port"):
                continue
            place = found.setdefault((key, port["name"], (port.get("protocol") or "TCP").lower()), {})
            for endpoint in item.get("endpoints") or ():
                _place(place, endpoint, port["port"], node)
    return {key: [place[target] for target in sorted(place)] for key, place in found.items()}


def _place(place: dict[str, Endpoint], endpoint: Object, port: int, node: ProxyNode) -> None:
    if not endpoint.get("addresses"):
        return
    ip = clean_ip(endpoint["addresses"][0])
    target = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
    conditions = endpoint.get("conditions") or {}
    ready = conditions.get("ready") is not False
    serving = conditions.get("serving") is not False
    terminating = bool(conditions.get("terminating"))
    if target in place and terminating:
        return
    hints = endpoint.get("hints") or {}
    place[target] = Endpoint(
        target=target,
        ip=ip,
        ready=ready,
        draining=serving and terminating,
        local=bool(node.name) and endpoint.get("nodeName") == node.name,
        zones=tuple(hint["name"] for hint in hints.get("forZones") or ()),
        nodes=tuple(hint["name"] for hint in hints.get("forNodes") or ()),
    )


def choose(port: ServicePort, endpoints: Sequence[Endpoint], node: ProxyNode) -> Chosen:
    """Which endpoints serve the cluster, which serve this node alone, and which need a chain (topology.go)."""
    ready = [endpoint for endpoint in endpoints if endpoint.ready]
    field, own = _topology(ready, node)
    cluster: Sequence[Endpoint] = ()
    local: Sequence[Endpoint] = ()
    if port.uses_cluster:
        suited = [endpoint for endpoint in ready if own in getattr(endpoint, field)] if field else ready
        cluster = suited or [endpoint for endpoint in endpoints if endpoint.draining]
    found = bool(cluster)
    if port.uses_local:
        local_ready = [endpoint for endpoint in ready if endpoint.local]
        local = local_ready or [endpoint for endpoint in endpoints if endpoint.draining and endpoint.local]
        found = found or any(endpoint.ready or endpoint.draining for endpoint in endpoints)
    if not port.uses_local:
        reachable = cluster
    elif not port.uses_cluster:
        reachable = local
    else:
        union = {endpoint.target: endpoint for endpoint in (*cluster, *local)}
        reachable = [union[target] for target in sorted(union)]
    return Chosen(cluster, local, reachable, found)


def _topology(ready: Sequence[Endpoint], node: ProxyNode) -> tuple[str, str]:
    """The hint that decides ("nodes", "zones" or "") and this node's value of it."""
    for field, own in (("nodes", node.name), ("zones", node.zone)):
        hints = [getattr(endpoint, field) for endpoint in ready]
        if own and hints and all(hints) and any(own in hint for hint in hints):
            return field, own
    return "", ""
