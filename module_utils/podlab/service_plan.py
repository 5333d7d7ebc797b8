"""Services on the nodes of this machine: rules, DNS records and the record of both. Observe, plan, apply."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .errors import PodlabError, Problem, refuse
from .kube import dns, proxy, proxy_sync, service_check
from .kube.endpoints import endpoint_slices
from .kube.iptables_save import Tables, parse_save
from .kube.proxy_chains import Options, detector, localhost_nodeports
from .kube.proxy_model import Object, ProxyNode
from .linux import iptables, netns, sysctl
from .module import Item
from .runtime import files, paths
from .step import Step, apply

RESTORE = "iptables.restore"
_LOCALNET = "net.ipv4.conf.all.route_localnet"
_MODES = ("iptables", "none")
_ENTRANCE = ("ip", "netns", "exec")


class Node(NamedTuple):
    """A node whose rules are kept: what kube-proxy knows of it, and the namespace that it is."""

    proxy: ProxyNode
    netns: str


class Request(NamedTuple):
    """The module's options, checked."""

    nodes: tuple[Node, ...]
    services: Sequence[Object]
    slices: Sequence[Object]
    options: Options
    zone: str
    dns_dir: str
    state_file: str
    rules: bool
    present: bool
    backend: str


class Have(NamedTuple):
    """What is there: per node name the tables (None without a namespace) and route_localnet; files; the record."""

    tables: Mapping[str, Tables | None]
    localnet: Mapping[str, str]
    records: Mapping[str, str]
    state: Any


def request(params: Mapping[str, Any]) -> Request:
    """The module's parameters as a Request. Raises PodlabError with every problem of them."""
    cluster = params["cluster"]
    problems = _cluster_problems(params)
    family = str(cluster.get("ip_family") or "ipv4")
    services, pods = params["services"] or [], params["pods"] or []
    given = params["endpoint_slices"]
    problems += service_check.check(services, given or [], pods, family)
    refuse(problems)
    options = params["proxy"] or {}
    mode = options.get("detect_local_mode") or "ClusterCIDR"
    default = cluster.get("pod_subnet", "") if mode == "ClusterCIDR" else ""
    local, not_local = detector(mode, options.get("detect_local") or default)
    name = cluster["name"]
    return Request(
        nodes=tuple(_nodes(params)),
        services=services,
        slices=list(given) if given is not None else endpoint_slices(services, pods),
        options=Options(
            family=family,
            local=local,
            not_local=not_local,
            masquerade_all=bool(options.get("masquerade_all")),
            masquerade_bit=14 if options.get("masquerade_bit") is None else options["masquerade_bit"],
            nodeport_addresses=tuple(options.get("nodeport_addresses") or ()),
            localhost_nodeports=options.get("localhost_nodeports") is not False,
            tcp_be_liberal=bool(options.get("tcp_be_liberal")),
        ),
        zone=str(cluster.get("dns_domain") or "cluster.local"),
        dns_dir=params["dns_dir"] or paths.dns_dir(name),
        state_file=params["state_file"] or paths.services_file(name),
        rules=(cluster.get("kube_proxy_mode") or "iptables") == "iptables",
        present=params["state"] == "present",
        backend=options.get("backend") or "",
    )


def _cluster_problems(params: Mapping[str, Any]) -> list[Problem]:
    cluster = params["cluster"]
    problems = [
        Problem(f"cluster.{key}", "is missing: give the cluster as Cluster.to_dict makes it")
        for key in ("name", "nodes", "pod_subnet")
        if not cluster.get(key)
    ]
    mode = cluster.get("kube_proxy_mode") or "iptables"
    if mode not in _MODES:
        message = f"{mode!r} is not supported, only {' and '.join(_MODES)}"
        problems.append(Problem("cluster.kube_proxy_mode", message, "Set networking.kubeProxyMode to iptables"))
    known = {node["name"] for node in cluster.get("nodes") or ()}
    for number, node in enumerate(params["nodes"] or ()):
        if node["name"] not in known:
            message = f"{node['name']!r} is no node of cluster {cluster.get('name')!r}"
            problems.append(Problem(f"nodes[{number}].name", message, f"Nodes: {', '.join(sorted(known))}"))
    bit = (params["proxy"] or {}).get("masquerade_bit")
    if bit is not None and not 0 <= bit <= 31:
        problems.append(Problem("proxy.masquerade_bit", f"must be from 0 to 31, not {bit}"))
    return problems


def _nodes(params: Mapping[str, Any]) -> list[Node]:
    records = {node["name"]: node for node in params["cluster"]["nodes"]}
    asked = params["nodes"] if params["nodes"] is not None else [{"name": name} for name in records]
    return [
        Node(
            ProxyNode(node["name"], (records[node["name"]]["address"],)),
            node.get("netns") or paths.node_netns(node["name"]),
        )
        for node in asked
    ]


class ServicePlan:
    """Observes and plans for one module call. What is wanted does not change in it, so it is worked out once."""

    def __init__(self, request: Request, check_mode: bool) -> None:
        self.request = request
        self.check_mode = check_mode
        self.backend: iptables.Backend | None = None
        self._wanted: dict[str, tuple[proxy.RuleSet, Tables]] = {}

    def items(self) -> list[Item]:
        """The plan: one item per node, then the DNS records, then the record of what is programmed."""
        have = self._observe()
        make = self._node_item if self.request.present else self._node_removal
        nodes = [make(node, have) for node in self.request.nodes] if self.request.rules else []
        return [*nodes, self._dns_item(have), self._state_item(have)]

    def summary(self) -> list[dict[str, Any]]:
        """The Services as programmed: address, ports and ready endpoints."""
        return summary(self.request) if self.request.present else []

    def apply_all(self, items: Sequence[Item]) -> None:
        """Settings first, then the rules of all nodes side by side, then files: names after what they lead to."""
        steps = [step for item in items for step in item.steps]
        restores = [step for step in steps if step.kind == RESTORE]
        before = [step for step in steps if step.kind == "sysctl.set"]
        after = [step for step in steps if step.kind not in (RESTORE, "sysctl.set")]
        apply([*before, *_merged(restores), *after])

    def _observe(self) -> Have:
        request = self.request
        there = [node for node in request.nodes if request.rules and netns.exists(node.netns)]
        missing = [node for node in request.nodes if request.rules and node not in there]
        if missing and request.present and not self.check_mode:
            refuse(
                Problem(
                    f"nodes.{node.proxy.name}", f"has no network namespace {node.netns}", "Build the topology first"
                )
                for node in missing
            )
        tables: dict[str, Tables | None] = {node.proxy.name: None for node in request.nodes}
        localnet: dict[str, str] = {}
        if request.rules and (there or request.present):
            self.backend = self.backend or iptables.detect(request.options.family, request.backend)
            saved = iptables.save(self.backend, [node.netns for node in there])
            self._refuse_mixed([node.netns for node in there])
            for node in there:
                tables[node.proxy.name] = parse_save(saved[node.netns])
                with netns.entered(node.netns):
                    localnet[node.proxy.name] = sysctl.read(_LOCALNET)
        return Have(tables, localnet, _read_dir(request.dns_dir), files.read_json(request.state_file))

    def _refuse_mixed(self, namespaces: Sequence[str]) -> None:
        assert self.backend is not None
        other = self.backend.other()
        refuse(
            Problem(
                f"network namespace {where}",
                f"has kube-proxy's chains in iptables-{other.name}, and this machine's iptables is {self.backend.name}",
                f"Rules of both would apply. Remove those with iptables-{other.name}, or set proxy.backend: {other.name}",
            )
            for where, text in iptables.other_in_use(self.backend, namespaces).items()
            if any(line.startswith(":KUBE-") for line in text.splitlines())
        )

    def _rules(self, node: Node) -> tuple[proxy.RuleSet, Tables]:
        request = self.request
        same = proxy_sync.same_on_every_node(request.services, request.slices, request.options)
        key = "" if same else node.proxy.name
        if key not in self._wanted:
            rules = proxy.restore_text(request.services, request.slices, node.proxy, request.options)
            self._wanted[key] = (rules, rules.saved())
        return self._wanted[key]

    def _node_item(self, node: Node, have: Have) -> Item:
        name = node.proxy.name
        rules, want = self._rules(node)
        present = have.tables[name] or {}
        difference = proxy_sync.compare(rules, want, present)
        users = proxy_sync.foreign_users(want, present, difference.stale)
        if users:
            raise PodlabError(
                f"Cannot remove chains of Services that are gone on node {name}: other rules jump to them: "
                f"{'; '.join(users)}. Delete those rules."
            )
        steps = []
        if localhost_nodeports(self.request.options) and have.localnet.get(name) != "1":
            steps.append(_localnet_step(node))
        if difference.why():
            steps.append(self._restore_step(node, proxy_sync.sync_text(rules, difference), difference.why()))
        before, after = proxy_sync.before_after(want, present, difference, self.request.options.family)
        return Item(name, steps, before, after)

    def _node_removal(self, node: Node, have: Have) -> Item:
        present = have.tables[node.proxy.name] or {}
        text = proxy_sync.removal_text(present, self.request.options.family)
        steps = [self._restore_step(node, text, "state absent")] if text else []
        before = {
            table: [line for chain, lines in own.items() if chain.startswith("KUBE-") for line in (chain, *lines)]
            for table, own in present.items()
        }
        return Item(node.proxy.name, steps, before if steps else {}, {})

    def _restore_step(self, node: Node, text: str, why: str) -> Step:
        assert self.backend is not None
        return Step(
            kind=RESTORE,
            target=f"node {node.proxy.name}",
            argv=(*_ENTRANCE, node.netns, *self.backend.restore_argv()),
            why=why,
            call=iptables.restore,
            args={"backend": self.backend, "texts": {node.netns: text}},
        )

    def _dns_item(self, have: Have) -> Item:
        request = self.request
        want = dns.records(request.services, request.slices, request.zone) if request.present else {}
        changed = {name: text for name, text in want.items() if have.records.get(name) != text}
        gone = [name for name in have.records if name not in want]
        steps = [_write_step(f"{request.dns_dir}/{name}", text) for name, text in changed.items()]
        steps += [_remove_step(f"{request.dns_dir}/{name}", "no records in this namespace") for name in gone]
        before = {name: have.records[name] for name in (*changed, *gone) if name in have.records}
        return Item("dns", steps, before, changed)

    def _state_item(self, have: Have) -> Item:
        request = self.request
        want = {"services": list(request.services), "endpointslices": list(request.slices)} if request.present else None
        if want == have.state:
            return Item("state", [], {}, {})
        if want is None:
            return Item("state", [_remove_step(request.state_file, "state absent")], {"state": "present"}, {})
        why = "differs" if have.state else "missing"
        step = Step("file.write", request.state_file, ("tee", request.state_file), why, _write_state)
        return Item("state", [step._replace(args={"path": request.state_file, "data": want})], {}, {"state": why})


def summary(request: Request) -> list[dict[str, Any]]:
    """Per Service: namespace, name, clusterIP, ports ("80/TCP"), ready endpoints ("10.244.1.2:80")."""
    ready: dict[tuple[str, str], set[str]] = {}
    for item in request.slices:
        metadata = item["metadata"]
        key = (metadata.get("namespace", "default"), metadata["labels"][dns.SERVICE_NAME_LABEL])
        for endpoint in item.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is not False:
                address = endpoint["addresses"][0]
                host = f"[{address}]" if ":" in address else address
                ready.setdefault(key, set()).update(f"{host}:{port['port']}" for port in item.get("ports") or ())
    return [
        {
            "namespace": service["metadata"].get("namespace", "default"),
            "name": service["metadata"]["name"],
            "clusterIP": service["spec"].get("clusterIP", ""),
            "ports": [f"{port['port']}/{port.get('protocol', 'TCP')}" for port in service["spec"].get("ports") or ()],
            "endpoints": sorted(
                ready.get((service["metadata"].get("namespace", "default"), service["metadata"]["name"]), ())
            ),
        }
        for service in request.services
    ]


def _localnet_step(node: Node) -> Step:
    argv = (*_ENTRANCE, node.netns, "sysctl", "-w", f"{_LOCALNET}=1")
    why = "NodePorts answer on localhost"
    return Step("sysctl.set", f"node {node.proxy.name}", argv, why, _set_localnet, {"where": node.netns})


def _set_localnet(where: str) -> None:
    with netns.entered(where):
        sysctl.write(_LOCALNET, 1)


def _merged(restores: Sequence[Step]) -> list[Step]:
    """The nodes' restores as one step whose commands run side by side."""
    if len(restores) < 2:
        return list(restores)
    first = restores[0]
    texts = {where: text for step in restores for where, text in step.args["texts"].items()}
    target = ", ".join(step.target for step in restores)
    return [first._replace(target=target, args={**first.args, "texts": texts})]


def _write_step(path: str, text: str) -> Step:
    why = f"{text.count(chr(10))} records"
    return Step("file.write", path, ("tee", path), why, _write_records, {"path": path, "text": text})


def _write_records(path: str, text: str) -> None:
    """The directory and its files are for everyone to read: the DNS server is not root."""
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        os.makedirs(os.path.dirname(directory), 0o700, exist_ok=True)
        os.mkdir(directory)
        os.chmod(directory, 0o755)
    files.write_text(path, text, 0o644)


def _write_state(path: str, data: Any) -> None:
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    files.write_json(path, data)


def _remove_step(path: str, why: str) -> Step:
    return Step("file.remove", path, ("rm", path), why, os.unlink, {"path": path})


def _read_dir(path: str) -> dict[str, str]:
    try:
        names = sorted(name for name in os.listdir(path) if not name.startswith("."))
    except FileNotFoundError:
        return {}
    return {name: files.read_text(f"{path}/{name}") for name in names}
