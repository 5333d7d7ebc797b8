"""kube-proxy's rules in nftables mode for one node, as a pure function of Services and EndpointSlices.

Source: Kubernetes pkg/proxy/nftables/proxier.go and README.md.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .nft_model import FAMILIES, Container, Element, Ruleset
from .proxy_chains import Options
from .proxy_model import (
    Chosen,
    Endpoint,
    Object,
    ProxyNode,
    ServicePort,
    allowed_sources,
    choose,
    endpoints_by_port,
    family_of,
    service_ports,
)

# A name is at most 255 long; the longest prefix has 9 characters, and kube-proxy leaves 16 free.
NAME_BASE_LIMIT = 240

_BASE_CHAINS = (
    ("filter-prerouting-pre-dnat", "type filter hook prerouting priority -110"),
    ("filter-output-pre-dnat", "type filter hook output priority -110"),
    ("filter-input", "type filter hook input priority 0"),
    ("filter-forward", "type filter hook forward priority 0"),
    ("filter-output", "type filter hook output priority 0"),
    ("nat-prerouting", "type nat hook prerouting priority -100"),
    ("nat-output", "type nat hook output priority -100"),
    ("nat-postrouting", "type nat hook postrouting priority 100"),
)
# Base chain -> the chains that it jumps to, in order; those of type filter for new connections only.
_JUMPS = (
    ("filter-prerouting-pre-dnat", "firewall-check"),
    ("filter-output-pre-dnat", "firewall-check"),
    ("filter-input", "nodeport-endpoints-check"),
    ("filter-input", "service-endpoints-check"),
    ("filter-forward", "service-endpoints-check"),
    ("filter-forward", "cluster-ips-check"),
    ("filter-output", "service-endpoints-check"),
    ("filter-output", "cluster-ips-check"),
    ("nat-prerouting", "services"),
    ("nat-output", "services"),
    ("nat-postrouting", "masquerading"),
)
_HELPERS = ("mark-for-masquerade", "reject-chain")
_COMMENTS = {"reject-chain": "helper for @no-endpoint-services / @no-endpoint-nodeports"}
_BY_ADDRESS = "{address} . inet_proto . inet_service : verdict"
_BY_PORT = "inet_proto . inet_service : verdict"
_NODEPORT_IPS = "nodeport-ips"
_CONTAINERS = (
    ("set", "cluster-ips", "{address}", "Active ClusterIPs"),
    ("set", _NODEPORT_IPS, "{address}", "IPs that accept NodePort traffic"),
    ("map", "service-ips", _BY_ADDRESS, "ClusterIP, ExternalIP and LoadBalancer IP traffic"),
    ("map", "service-nodeports", _BY_PORT, "NodePort traffic"),
    (
        "map",
        "no-endpoint-services",
        _BY_ADDRESS,
        "vmap to drop or reject packets to services with no endpoints",
    ),
    (
        "map",
        "no-endpoint-nodeports",
        _BY_PORT,
        "vmap to drop or reject packets to service nodeports with no endpoints",
    ),
    ("map", "firewall-ips", _BY_ADDRESS, "destinations that are subject to LoadBalancerSourceRanges"),
)
_MASQUERADE = "jump mark-for-masquerade"
_REJECT = "goto reject-chain"


class _Words(NamedTuple):
    """The words that differ between the families. off_localhost: destination is not the node's loopback."""

    ip: str
    address: str
    off_localhost: str


_WORDS = {
    "ipv4": _Words("ip", "ipv4_addr", "ip daddr != 127.0.0.0/8"),
    "ipv6": _Words("ip6", "ipv6_addr", "ip6 daddr != ::1"),
}


def base_name(text: str) -> str:
    """HASH-text, cut to the length that fits behind every prefix."""
    hashed = base64.b32encode(hashlib.sha256(text.encode()).digest()[:5]).decode()
    name = f"{hashed}-{text}"
    return name if len(name) <= NAME_BASE_LIMIT else f"{name[: NAME_BASE_LIMIT - 3]}..."


def port_name(port: ServicePort) -> str:
    """What a service port is called in the names of its chains: "ns1/svc1/tcp/p80"."""
    return f"{port.namespace}/{port.service}/{port.protocol}/{port.port_name}"


def endpoint_name(port: ServicePort, endpoint: Endpoint) -> str:
    """What an endpoint is called in the names of its chain and set: "ns1/svc1/tcp/p80__10.180.0.1/80"."""
    number = endpoint.target.rpartition(":")[2]
    return f"{port_name(port)}__{endpoint.ip.replace(':', '.')}/{number}"


def detector_words(local: str, ip: str) -> tuple[str, str]:
    """The local detector of the options ("-s CIDR", "-i NAME", "-i PREFIX+") as nft's matches: local, not local."""
    if not local:
        return "", ""
    option, value = local.split()
    if option == "-s":
        return f"{ip} saddr {value}", f"{ip} saddr != {value}"
    name = f"{value[:-1]}*" if value.endswith("+") else value
    return f'iifname "{name}"', f'iifname != "{name}"'


def nodeport_ips(options: Options, node: ProxyNode) -> list[str] | None:
    """The addresses that NodePorts answer on; None: every address of the node.

    Without nodeport_addresses only the node's primary address, unlike in iptables mode; every one while that is not
    known. Never loopback.
    """
    own = [address for address in node.addresses if family_of(address) == options.family]
    if not options.nodeport_addresses:
        return own[:1] or None
    cidrs = [ipaddress.ip_network(cidr, strict=False) for cidr in options.nodeport_addresses]
    cidrs = [cidr for cidr in cidrs if f"ipv{cidr.version}" == options.family]
    if not cidrs or any(cidr.prefixlen == 0 for cidr in cidrs):
        return None
    addresses = [ipaddress.ip_address(address) for address in own]
    return [str(ip) for ip in addresses if not ip.is_loopback and any(ip in cidr for cidr in cidrs)]


def ruleset(
    services: Iterable[Object], endpoint_slices: Iterable[Object], node: ProxyNode, options: Options
) -> Ruleset:
    """The rules of a node.

    services: v1 Services, complete with their cluster address. endpoint_slices: discovery.k8s.io/v1 EndpointSlices.
    node: whose point of view is taken. options: kube-proxy's configuration.
    Raises ValueError for an address that is none.
    """
    rules = Ruleset(options.family)
    _fixed(rules, node, options)
    endpoints = endpoints_by_port(endpoint_slices, node, options.family)
    for port in service_ports(services, options.family):
        own = endpoints.get((port.key, port.port_name, port.protocol), [])
        _ServicePort(rules, port, choose(port, own, node), node, options).write()
    return rules


def for_node(rules: Ruleset, node: ProxyNode, options: Options) -> Ruleset:
    """The same rules with the NodePort addresses of another node, for rules that depend on nothing else of it."""
    own = nodeport_ips(options, node)
    if own is None:
        return rules
    other = Ruleset(rules.family)
    other.chains, other.containers = rules.chains, dict(rules.containers)
    elements = {address: Element() for address in own}
    other.containers[_NODEPORT_IPS] = rules.containers[_NODEPORT_IPS]._replace(elements=elements)
    return other


def _fixed(rules: Ruleset, node: ProxyNode, options: Options) -> None:
    words = _WORDS[options.family]
    for name, hook in _BASE_CHAINS:
        rules.chain(name, hook)
    for name in (*(target for _, target in _JUMPS), *_HELPERS):
        rules.chain(name, comment=_COMMENTS.get(name, ""))
    own = nodeport_ips(options, node)
    for kind, name, of, comment in _CONTAINERS:
        if name != _NODEPORT_IPS or own is not None:
            of = of.format(address=words.address)
            rules.containers[name] = Container(kind, of, comment=comment, elements={})
    for address in own or ():
        rules.element(_NODEPORT_IPS, address)
    for base, target in _JUMPS:
        rules.rule(base, f"{'ct state new ' if base.startswith('filter') else ''}jump {target}")
    _fixed_rules(rules, words, options, everywhere=own is None)


def _fixed_rules(rules: Ruleset, words: _Words, options: Options, everywhere: bool) -> None:
    by_address = f"{words.ip} daddr . meta l4proto . th dport vmap"
    by_port = "meta l4proto . th dport vmap"
    on_node = f"{words.ip} daddr @{_NODEPORT_IPS}"
    rules.rule("firewall-check", f"{by_address} @firewall-ips")
    at = words.off_localhost if everywhere else on_node
    rules.rule("nodeport-endpoints-check", f"{at} {by_port} @no-endpoint-nodeports")
    rules.rule("service-endpoints-check", f"{by_address} @no-endpoint-services")
    rules.rule(
        "cluster-ips-check",
        f"{words.ip} daddr @cluster-ips reject",
        "Reject traffic to invalid ports of ClusterIPs",
    )
    cidrs = [cidr for cidr in options.service_cidrs if family_of(cidr) == options.family]
    if cidrs:
        text = f"{words.ip} daddr {{ {', '.join(cidrs)} }} drop"
        rules.rule("cluster-ips-check", text, "Drop traffic to unallocated ClusterIPs")
    rules.rule("services", f"{by_address} @service-ips")
    at = f"fib daddr type local {words.off_localhost}" if everywhere else on_node
    rules.rule("services", f"{at} {by_port} @service-nodeports")
    rules.rule("masquerading", f"mark and {options.mark} == 0 return")
    rules.rule("masquerading", f"mark set mark xor {options.mark}")
    rules.rule("masquerading", "masquerade fully-random")
    rules.rule("mark-for-masquerade", f"mark set mark or {options.mark}")
    rules.rule("reject-chain", "reject")


class _ServicePort:
    """One service port at work: what it is, what it may reach, its chains."""

    def __init__(self, rules: Ruleset, port: ServicePort, chosen: Chosen, node: ProxyNode, options: Options) -> None:
        self.rules, self.port, self.chosen, self.node, self.options = rules, port, chosen, node, options
        self.ip = FAMILIES[options.family]
        self.local, self.not_local = detector_words(options.local, self.ip)
        base = base_name(port_name(port))
        self.cluster_chain, self.local_chain = f"service-{base}", f"local-{base}"
        self.external_chain, self.firewall_chain = f"external-{base}", f"firewall-{base}"
        self.internal_chain = self.local_chain if port.internal_local else self.cluster_chain
        self.endpoint_names = {
            endpoint.target: base_name(endpoint_name(port, endpoint)) for endpoint in chosen.reachable
        }
        self.has_internal = chosen.any and not (port.internal_local and not chosen.local)
        self.has_external = chosen.any and not (port.external_local and not chosen.local)
        self.uses_external = chosen.any and port.accessible
        # Works before DNAT, so also without endpoints.
        self.firewalled = bool(port.load_balancer_ips and port.source_ranges)

    def write(self) -> None:
        """Add the chains, the ways to them, and what is in them."""
        for name, exists in (
            (self.cluster_chain, self.chosen.cluster),
            (self.local_chain, self.chosen.local),
            (self.external_chain, self.uses_external),
            (self.firewall_chain, self.firewalled),
        ):
            if exists:
                self.rules.chain(name)
        for name in self.endpoint_names.values():
            self.rules.chain(f"endpoint-{name}")
            if self.port.affinity_seconds:
                self.rules.containers[f"affinity-{name}"] = Container(
                    "set", _WORDS[self.options.family].address, "dynamic,timeout", self.port.affinity_seconds
                )
        self._dispatch()
        self._cluster_masquerade()
        if self.uses_external:
            self._external()
        if self.firewalled:
            self._firewall()
        self._spread(self.cluster_chain, self.chosen.cluster)
        self._spread(self.local_chain, self.chosen.local)
        for endpoint in self.chosen.reachable:
            self._endpoint(endpoint)

    def _dispatch(self) -> None:
        """From an address and port to the chains, or to a verdict."""
        port, found, add = self.port, self.chosen.any, self.rules.element
        refused, name = "drop" if found else _REJECT, port.name_string
        external = f"goto {self.external_chain}"

        def at(address: str) -> str:
            return f"{address} . {port.protocol} . {port.port}"

        add("cluster-ips", port.cluster_ip)
        if self.has_internal:
            add("service-ips", at(port.cluster_ip), f"goto {self.internal_chain}")
        else:
            add("no-endpoint-services", at(port.cluster_ip), refused, name)
        for address in (*port.external_ips, *port.load_balancer_ips):
            if found:
                add("service-ips", at(address), external)
            if not self.has_external:
                add("no-endpoint-services", at(address), refused, name)
        for address in port.load_balancer_ips if self.firewalled else ():
            add("firewall-ips", at(address), f"goto {self.firewall_chain}")
        if port.node_port:
            number = f"{port.protocol} . {port.node_port}"
            if found:
                add("service-nodeports", number, external)
            if not self.has_external:
                add("no-endpoint-nodeports", number, refused, name)

    def _cluster_masquerade(self) -> None:
        """Traffic to the cluster address from outside the pods comes back through this node only with its address."""
        if self.has_internal and (self.options.masquerade_all or self.not_local):
            match = "" if self.options.masquerade_all else f"{self.not_local} "
            self.rules.rule(self.internal_chain, f"{self.ip} daddr {self.port.cluster_ip} {match}{_MASQUERADE}")

    def _external(self) -> None:
        chain, rule = self.external_chain, self.rules.rule
        if self.port.external_local:
            source_local = "fib saddr type local"
            if self.local:
                rule(chain, f"{self.local} goto {self.cluster_chain}", "short-circuit pod traffic")
            rule(chain, f"{source_local} {_MASQUERADE}", "masquerade local traffic")
            rule(chain, f"{source_local} goto {self.cluster_chain}", "short-circuit local traffic")
        else:
            rule(chain, _MASQUERADE)
        if self.has_external:
            rule(chain, f"goto {self.local_chain if self.port.external_local else self.cluster_chain}")

    def _firewall(self) -> None:
        sources = allowed_sources(self.port, self.node, self.options.family)
        self.rules.rule(self.firewall_chain, f"{self.ip} saddr != {{ {', '.join(sources)} }} drop")

    def _spread(self, chain: str, endpoints: Sequence[Endpoint]) -> None:
        """The endpoint that knows the client, else one by chance."""
        if not endpoints:
            return
        names = [self.endpoint_names[endpoint.target] for endpoint in endpoints]
        if self.port.affinity_seconds:
            for name in names:
                self.rules.rule(chain, f"{self.ip} saddr @affinity-{name} goto endpoint-{name}")
        choices = " , ".join(f"{number} : goto endpoint-{name}" for number, name in enumerate(names))
        self.rules.rule(chain, f"numgen random mod {len(names)} vmap {{ {choices} }}")

    def _endpoint(self, endpoint: Endpoint) -> None:
        name = self.endpoint_names[endpoint.target]
        rule = self.rules.rule
        rule(f"endpoint-{name}", f"{self.ip} saddr {endpoint.ip} {_MASQUERADE}")
        if self.port.affinity_seconds:
            rule(f"endpoint-{name}", f"update @affinity-{name} {{ {self.ip} saddr }}")
        rule(f"endpoint-{name}", f"meta l4proto {self.port.protocol} dnat to {endpoint.target}")
