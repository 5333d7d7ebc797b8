"""kube-proxy's rules for one node, as a pure function of Services and EndpointSlices.

Rules are kept as shapes, text with {places}, and the values for them: a shape's saved form is worked out once, and
the text to load or the prediction of iptables-save is put together when it is asked for.
Source: Kubernetes pkg/proxy/iptables/proxier.go, syncProxyRules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from . import proxy_chains as chains
from .iptables_save import Tables, saved_form
from .proxy_model import (
    Chosen,
    Endpoint,
    Object,
    ProxyNode,
    ServicePort,
    allowed_sources,
    choose,
    endpoints_by_port,
    service_ports,
)

LARGE_CLUSTER_ENDPOINTS = 1000

_L4 = "-m {proto} -p {proto}"
_AT = _L4 + " -d {ip} --dport {port}"
# hasEndpoints -> comment and verdict of traffic that has nowhere to go.
_VERDICTS = {
    False: ('-m comment --comment "{n} has no endpoints"', "-j REJECT"),
    True: ('-m comment --comment "{n} has no local endpoints"', "-j DROP"),
}


def _says(text: str) -> str:
    return '-m comment --comment "{n}%s"' % text


class Rule(NamedTuple):
    """A rule of a chain: shape with {places}, and the values."""

    chain: str
    shape: str
    values: Mapping[str, Any]

    def text(self) -> str:
        return f"-A {self.chain} {self.shape.format_map(self.values)}"

    def saved(self, family: str) -> str:
        return f"-A {self.chain} {saved_form(self.shape, family).format_map(self.values)}"


class RuleSet:
    """Chains and rules of the tables filter and nat, in the order in which kube-proxy writes them.

    owners: nat chain -> namespace/name of the Service it belongs to; a fixed chain has none.
    """

    def __init__(self, family: str) -> None:
        self.family = family
        self.chains: dict[str, list[str]] = {"filter": [], "nat": []}
        self.rules: dict[str, list[Rule]] = {"filter": [], "nat": []}
        self.tail: list[Rule] = []
        self.owners: dict[str, str] = {}

    def add(self, table: str, chain: str, shape: str, values: Mapping[str, Any]) -> None:
        """Append a rule."""
        self.rules[table].append(Rule(chain, shape, values))

    def declare(self, chain: str, owner: str) -> None:
        """Add a Service's nat chain."""
        if chain not in self.owners:
            self.owners[chain] = owner
            self.chains["nat"].append(chain)

    def saved(self) -> Tables:
        """The managed chains as `iptables-save` will print them after a load: table -> chain -> rules."""
        tables: Tables = {}
        for table, names in self.chains.items():
            tables[table] = {name: [] for name in sorted(names)}
            for rule in (*self.rules[table], *(self.tail if table == "nat" else ())):
                tables[table][rule.chain].append(rule.saved(self.family))
        return tables

    def text(
        self,
        services: Iterable[str] | None = None,
        stale: Sequence[str] = (),
        jumps: Mapping[str, Sequence[str]] | None = None,
    ) -> str:
        """What is handed to `iptables-restore --noflush --counters`.

        services: write the chains of only these Services (namespace/name), a partial sync; None: of all.
        stale: nat chains to remove.
        jumps: table -> lines (-I or -D of jumps) to put after that table's chain lines.
        """
        skipped = self._skipped(services)
        lines: list[str] = []
        for table, names in self.chains.items():
            nat = table == "nat"
            lines.append(f"*{table}")
            lines += [f":{name} - [0:0]" for name in (*names, *(stale if nat else ())) if name not in skipped]
            lines += (jumps or {}).get(table, ())
            lines += [rule.text() for rule in self.rules[table] if rule.chain not in skipped]
            if nat:
                lines += [f"-X {name}" for name in stale]
                lines += [rule.text() for rule in self.tail]
            lines.append("COMMIT")
        return "\n".join(lines) + "\n"

    def _skipped(self, services: Iterable[str] | None) -> set[str]:
        if services is None:
            return set()
        wanted = set(services)
        return {chain for chain, owner in self.owners.items() if owner not in wanted}


class _Work(NamedTuple):
    """One service port at work: what it is, what it may reach, its chains, the values for its shapes."""

    port: ServicePort
    chosen: Chosen
    options: chains.Options
    node: ProxyNode
    values: Mapping[str, Any]
    svc: str
    svl: str
    ext: str
    fw: str
    internal: str
    quiet: bool

    @property
    def has_internal(self) -> bool:
        return self.chosen.any and not (self.port.internal_local and not self.chosen.local)

    @property
    def has_external(self) -> bool:
        return self.chosen.any and not (self.port.external_local and not self.chosen.local)

    @property
    def firewalled(self) -> bool:
        return bool(self.chosen.any and self.port.load_balancer_ips and self.port.source_ranges)


def restore_text(
    services: Iterable[Object], endpoint_slices: Iterable[Object], node: ProxyNode, options: chains.Options
) -> RuleSet:
    """The rules of a node.

    services: v1 Services, complete with their cluster address. endpoint_slices: discovery.k8s.io/v1 EndpointSlices.
    node: whose point of view is taken. options: kube-proxy's configuration.
    Raises ValueError for an address that is none.
    """
    rules = RuleSet(options.family)
    rules.chains["filter"] += chains.FILTER_CHAINS
    if chains.localhost_nodeports(options):
        rules.chains["filter"].append(chains.FIREWALL)
    rules.chains["nat"] += chains.NAT_CHAINS
    for chain, rule in chains.nat_fixed(options):
        rules.add("nat", chain, rule, {})
    for chain, rule in chains.firewall_rules(options):
        rules.add("filter", chain, rule, {})

    ports = service_ports(services, options.family)
    endpoints = endpoints_by_port(endpoint_slices, node, options.family)
    per_port = [endpoints.get((port.key, port.port_name, port.protocol), []) for port in ports]
    quiet = sum(map(len, per_port)) > LARGE_CLUSTER_ENDPOINTS
    for port, own in zip(ports, per_port):
        _service_port(rules, _work(port, choose(port, own, node), options, node, quiet))

    rules.tail = [Rule("KUBE-SERVICES", rule, {}) for rule in chains.nodeport_jumps(options, node)]
    for chain, rule in chains.forward_rules(options):
        rules.add("filter", chain, rule, {})
    return rules


def _work(port: ServicePort, chosen: Chosen, options: chains.Options, node: ProxyNode, quiet: bool) -> _Work:
    name = port.name_string
    hashed = chains.hash16(name + port.protocol)
    named = {kind.lower(): f"KUBE-{kind}-{hashed}" for kind in ("SVC", "SVL", "EXT", "FW")}
    internal = named["svl" if port.internal_local else "svc"]
    values = {
        "n": name,
        "proto": port.protocol,
        "port": port.port,
        "ip": port.cluster_ip,
        "internal": internal,
        **named,
    }
    return _Work(port, chosen, options, node, values, quiet=quiet, internal=internal, **named)


def _service_port(rules: RuleSet, work: _Work) -> None:
    port, chosen = work.port, work.chosen
    seps = {}
    for endpoint in chosen.reachable:
        hashed = chains.hash16(f"{port.name_string}{port.protocol}{endpoint.target}")
        seps[endpoint.target] = f"KUBE-SEP-{hashed}"
    for chain, exists in (
        (work.ext, chosen.any and port.accessible),
        (work.fw, work.firewalled),
        (work.svc, chosen.cluster),
        (work.svl, chosen.local),
    ):
        if exists:
            rules.declare(chain, port.key)
    for sep in seps.values():
        rules.declare(sep, port.key)
    _dispatch(rules, work)
    _cluster_masquerade(rules, work)
    if chosen.any and port.accessible:
        _external(rules, work)
    if work.firewalled:
        _firewall(rules, work)
    _spread(rules, work, work.svc, chosen.cluster, seps)
    _spread(rules, work, work.svl, chosen.local, seps)
    for endpoint in chosen.reachable:
        _endpoint(rules, work, endpoint, seps[endpoint.target])


def _dispatch(rules: RuleSet, work: _Work) -> None:
    """From an address and port to the Service's chains, or to a verdict."""
    port, values, found = work.port, work.values, work.chosen.any
    comment, verdict = _VERDICTS[found]
    if work.has_internal:
        rules.add("nat", "KUBE-SERVICES", f"{_says(' cluster IP')} {_AT} -j {{internal}}", values)
    else:
        rules.add("filter", "KUBE-SERVICES", f"{comment} {_AT} {verdict}", values)
    for address in port.external_ips:
        at = {**values, "ip": address}
        if found:
            rules.add("nat", "KUBE-SERVICES", f"{_says(' external IP')} {_AT} -j {{ext}}", at)
        if not work.has_external:
            rules.add("filter", "KUBE-EXTERNAL-SERVICES", f"{comment} {_AT} {verdict}", at)
    balancer = "{fw}" if work.firewalled else "{ext}"
    refused = _says(" traffic not accepted by {fw}")
    for address in port.load_balancer_ips:
        at = {**values, "ip": address}
        if found:
            rules.add("nat", "KUBE-SERVICES", f"{_says(' loadbalancer IP')} {_AT} -j {balancer}", at)
        if work.firewalled:
            rules.add("filter", "KUBE-PROXY-FIREWALL", f"{refused} {_AT} -j DROP", at)
    for address in port.load_balancer_ips if not work.has_external else ():
        rules.add("filter", "KUBE-EXTERNAL-SERVICES", f"{comment} {_AT} {verdict}", {**values, "ip": address})
    if port.node_port:
        _node_port(rules, work, f"{comment} -m addrtype --dst-type LOCAL {_L4} --dport {{node_port}} {verdict}")
    if port.health_check_port:
        health = f"-m tcp -p tcp --dport {port.health_check_port} -j ACCEPT"
        rules.add("filter", "KUBE-NODEPORTS", f"{_says(' health check node port')} {health}", values)


def _node_port(rules: RuleSet, work: _Work, refusal: str) -> None:
    values = {**work.values, "node_port": work.port.node_port}
    name = "-m comment --comment {n}"
    if work.chosen.any:
        if chains.localhost_nodeports(work.options) and chains.LOCALHOST_ACCEPTED in work.options.counters:
            accounted = f"-d 127.0.0.0/8 --dport {{node_port}} -m nfacct --nfacct-name {chains.LOCALHOST_ACCEPTED}"
            rules.add("nat", "KUBE-NODEPORTS", f"{name} {_L4} {accounted} -j {{ext}}", values)
        rules.add("nat", "KUBE-NODEPORTS", f"{name} {_L4} --dport {{node_port}} -j {{ext}}", values)
    if not work.has_external:
        rules.add("filter", "KUBE-EXTERNAL-SERVICES", refusal, values)


def _cluster_masquerade(rules: RuleSet, work: _Work) -> None:
    """Traffic to the cluster address from outside the pods comes back through this node only with its address."""
    options = work.options
    if work.has_internal and (options.masquerade_all or options.not_local):
        match = "" if options.masquerade_all else f" {options.not_local}"
        shape = f"{_says(' cluster IP')} {_AT}{match} -j KUBE-MARK-MASQ"
        rules.add("nat", work.internal, shape, work.values)


def _external(rules: RuleSet, work: _Work) -> None:
    def says(what: str) -> str:
        return '-m comment --comment "%s for {n} external destinations"' % what

    source_local = "-m addrtype --src-type LOCAL"
    shapes = [f"{says('masquerade traffic')} -j KUBE-MARK-MASQ"]
    if work.port.external_local:
        shapes = [
            f"{says('masquerade LOCAL traffic')} {source_local} -j KUBE-MARK-MASQ",
            f"{says('route LOCAL traffic')} {source_local} -j {{svc}}",
        ]
        if work.options.local:
            shapes.insert(0, f"{says('pod traffic')} {work.options.local} -j {{svc}}")
    if work.has_external:
        shapes.append("-j {svl}" if work.port.external_local else "-j {svc}")
    for shape in shapes:
        rules.add("nat", work.ext, shape, work.values)


def _firewall(rules: RuleSet, work: _Work) -> None:
    for source in allowed_sources(work.port, work.node, work.options.family):
        rules.add("nat", work.fw, f"{_says(' loadbalancer IP')} -s {source} -j {{ext}}", work.values)
    last = '-m comment --comment "other traffic to {n} will be dropped by KUBE-PROXY-FIREWALL"'
    rules.add("nat", work.fw, last, work.values)


def _spread(rules: RuleSet, work: _Work, chain: str, endpoints: Sequence[Endpoint], seps: Mapping[str, str]) -> None:
    """One endpoint by the client's last choice, else one by chance: 1/n, 1/(n-1), ... and the last takes the rest."""
    comment = "" if work.quiet else '-m comment --comment "{n} -> {target}" '
    values = [
        {"n": work.values["n"], "target": endpoint.target, "sep": seps[endpoint.target]} for endpoint in endpoints
    ]
    if work.port.affinity_seconds:
        recent = f"-m recent --name {{sep}} --rcheck --seconds {work.port.affinity_seconds} --reap"
        for value in values:
            rules.add("nat", chain, f"{comment}{recent} -j {{sep}}", value)
    count = len(endpoints)
    for number, value in enumerate(values):
        chance = f"-m statistic --mode random --probability {1 / (count - number):.10f} "
        rules.add("nat", chain, f"{comment}{chance if number < count - 1 else ''}-j {{sep}}", value)


def _endpoint(rules: RuleSet, work: _Work, endpoint: Endpoint, sep: str) -> None:
    comment = "" if work.quiet else "-m comment --comment {n} "
    recent = "-m recent --name {sep} --set " if work.port.affinity_seconds else ""
    values = {**work.values, "source": endpoint.ip, "target": endpoint.target, "sep": sep}
    rules.add("nat", sep, comment + "-s {source} -j KUBE-MARK-MASQ", values)
    rules.add("nat", sep, f"{comment}{recent}{_L4} -j DNAT --to-destination {{target}}", values)
