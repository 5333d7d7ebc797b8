"""Services on the nodes of this machine: rules, DNS records and the record of both. Observe, plan, apply."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .errors import PodlabError, Problem, refuse
from .kube import dns, masq, proxy, proxy_canary, proxy_sync
from .kube.iptables_save import Tables, parse_save
from .kube.nft_model import Ruleset
from .kube.proxy_chains import Options, localhost_nodeports
from .linux import iptables, netns, sysctl
from .runtime import files, paths, watcher
from .service_conntrack import Clearing
from .service_features import ADD, Features
from .service_nft import DELETE, LOAD, NftRules
from .service_request import Node, Request, summary
from .step import Item, Step, apply

RESTORE = "iptables.restore"
# What comes before the rules: what they rely on, and the end of who else writes them.
_FIRST = ("sysctl.set", "watcher.stop", ADD)
# The rules, in this order: those of the other mode go, then the new ones come.
_RULES = (RESTORE, LOAD, DELETE)
_LOCALNET = "net.ipv4.conf.all.route_localnet"
_ENTRANCE = ("ip", "netns", "exec")


class Have(NamedTuple):
    """What is there: per node name the tables (None without a namespace) and route_localnet; files; the records.

    nft: the table kube-proxy of nftables, of the nodes that have one.
    state: services.json. inputs: proxy.json, what the watcher keeps to. watcher: its own record. outdated: it runs
    other code than this.
    """

    tables: Mapping[str, Tables | None]
    nft: Mapping[str, Ruleset]
    localnet: Mapping[str, str]
    records: Mapping[str, str]
    state: Any
    inputs: Any
    watcher: Mapping[str, Any]
    outdated: bool


class ServicePlan:
    """Observes and plans for one module call. What is wanted does not change in it, so it is worked out once."""

    def __init__(self, request: Request, check_mode: bool, watch_module: str = "") -> None:
        """watch_module: __name__ of service_watch, which imports this one; needed where a watcher may be started."""
        self.request = request
        self.watch_module = watch_module
        self.check_mode = check_mode
        self.backend: iptables.Backend | None = None
        self.clearing = Clearing(request)
        self.features = Features(request)
        self.nft = NftRules(request)
        self._wanted: dict[tuple[str, Options], tuple[proxy.RuleSet, Tables]] = {}
        self._seen = Have({}, {}, {}, {}, None, {}, {}, False)

    def items(self) -> list[Item]:
        """The plan: two items per node, the DNS records, the record of what is programmed, the watcher."""
        self._seen = have = self._observe()
        nodes = [self._mode_item(node, have) for node in self.request.nodes] if self.request.mode != "none" else []
        nodes = self.clearing.added(nodes, have.state, wanted_state(self.request))
        nodes = self.features.added(nodes)
        masquerades = [self._masquerade_item(node, have) for node in self.request.nodes]
        return [*nodes, *masquerades, self._dns_item(have), self._state_item(have), *self._watcher_items(have)]

    def canaries(self) -> list[Item]:
        """What the watcher itself adds to the nodes that items() has just read: iptables mode's canary."""
        if not (self.request.mode == "iptables" and self.request.present):
            return []
        missing = {node: proxy_canary.missing(self._seen.tables[node.proxy.name] or {}) for node in self.request.nodes}
        return [
            Item(node.proxy.name, [self._restore_step(node, proxy_canary.text(tables), "no canary")], {}, {})
            for node, tables in missing.items()
            if tables
        ]

    def summary(self) -> list[dict[str, Any]]:
        """The Services as programmed: address, ports and ready endpoints."""
        return summary(self.request) if self.request.present else []

    def apply_all(self, items: Sequence[Item]) -> None:
        """Settings first, then the rules of all nodes side by side, then files: names after what they lead to."""
        steps = [step for item in items for step in item.steps]
        before = [step for step in steps if step.kind in _FIRST]
        rules = [one for kind in _RULES for one in _merged([step for step in steps if step.kind == kind])]
        after = [step for step in steps if step.kind not in (*_RULES, *_FIRST)]
        apply([*before, *rules, *after])
        self.clearing.sweep()

    def _observe(self) -> Have:
        request = self.request
        there = [node for node in request.nodes if netns.exists(node.netns)]
        missing = [node for node in request.nodes if node not in there]
        if missing and request.present and not self.check_mode:
            remedy = "Build the topology first"
            refuse(
                Problem(f"nodes.{node.proxy.name}", f"has no network namespace {node.netns}", remedy)
                for node in missing
            )
        tables: dict[str, Tables | None] = {node.proxy.name: None for node in request.nodes}
        localnet: dict[str, str] = {}
        if there or (request.nodes and request.present):
            self.backend = self.backend or iptables.detect(request.options.family, request.backend)
            self.features.observe(self.backend, there)
            saved = iptables.save(self.backend, [node.netns for node in there], self._work_out)
            if request.mode != "none":
                self._refuse_mixed([node.netns for node in there])
            for node in there:
                tables[node.proxy.name] = parse_save(saved[node.netns])
                with netns.entered(node.netns):
                    localnet[node.proxy.name] = sysctl.read(_LOCALNET)
        return Have(
            tables,
            self.nft.observe(there) if request.mode != "none" else {},
            localnet,
            _read_dir(request.dns_dir),
            files.read_json(request.state_file),
            files.read_json(paths.proxy_file(request.cluster)),
            watcher.read(request.cluster),
            # The watcher's own syncs have nothing to do with it.
            bool(request.inputs) and watcher.outdated(request.cluster),
        )

    def _refuse_mixed(self, namespaces: Sequence[str]) -> None:
        assert self.backend is not None
        other = self.backend.other()
        remedy = (
            f"Rules of both would apply. Remove those with iptables-{other.name}, or set proxy.backend: {other.name}"
        )
        refuse(
            Problem(
                f"network namespace {where}",
                f"has kube-proxy's chains in iptables-{other.name}, and this machine's iptables is {self.backend.name}",
                remedy,
            )
            for where, text in iptables.other_in_use(self.backend, namespaces).items()
            if any(line.startswith(":KUBE-") for line in text.splitlines())
        )

    def rules(self, node: Node) -> proxy.RuleSet:
        """The rules that iptables mode wants on a node, by what items() has found out about it."""
        return self._rules(node)[0]

    def _work_out(self) -> None:
        """The wanted rules of every node, before they are asked for: while the nodes' own are being read."""
        if self.request.mode == "iptables" and self.request.present:
            for node in self.request.nodes:
                self._rules(node)

    def _rules(self, node: Node) -> tuple[proxy.RuleSet, Tables]:
        request = self.request
        options = self.features.options(node)
        same = proxy_sync.same_on_every_node(request.services, request.slices, options)
        key = ("" if same else node.proxy.name, options)
        if key not in self._wanted:
            rules = proxy.restore_text(request.services, request.slices, node.proxy, options)
            self._wanted[key] = (rules, rules.saved())
        return self._wanted[key]

    def _mode_item(self, node: Node, have: Have) -> Item:
        """The rules of the cluster's mode, and those of the other one gone, as kube-proxy clears them away."""
        present, mode = self.request.present, self.request.mode
        why = f"kubeProxyMode is {mode}" if present else "state absent"
        if present and mode == "nftables":
            return _joined(self._node_removal(node, have, why), self.nft.item(node, have.nft))
        if present:
            return _joined(self._node_item(node, have), self.nft.removal(node, have.nft, why))
        return _joined(self._node_removal(node, have, why), self.nft.removal(node, have.nft, why))

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
            steps.append(_localnet_step(node, 1, "NodePorts answer on localhost"))
        if difference.why():
            steps.append(self._restore_step(node, proxy_sync.sync_text(rules, difference), difference.why()))
        before, after = proxy_sync.before_after(want, present, difference, self.request.options.family)
        return Item(name, steps, before, after)

    def _node_removal(self, node: Node, have: Have, why: str) -> Item:
        present = have.tables[node.proxy.name] or {}
        text = proxy_sync.removal_text(present, self.request.options.family) + proxy_canary.removal_text(present)
        steps = [self._restore_step(node, text, why)] if text else []
        if text and self.request.present and have.localnet.get(node.proxy.name) == "1":
            steps.insert(0, _localnet_step(node, 0, "nothing keeps others from 127.0.0.1 any more"))
        before = {
            table: [line for chain, lines in own.items() if chain.startswith("KUBE-") for line in (chain, *lines)]
            for table, own in present.items()
        }
        return Item(node.proxy.name, steps, before if steps else {}, {})

    def _masquerade_item(self, node: Node, have: Have) -> Item:
        """kindnet's chain. It is in iptables in every mode, as on kind's nodes: kindnet has no other way."""
        request = self.request
        present = have.tables[node.proxy.name] or {}
        name, subnets = f"{node.proxy.name} masquerade", (request.pod_subnet,)
        if not request.present:
            text = masq.removal_text(present)
            steps = [self._restore_step(node, text, "state absent")] if text else []
            return Item(name, steps, masq.shown(present), {})
        why = masq.difference(subnets, present)
        if not why:
            return Item(name, [], {}, {})
        step = self._restore_step(node, masq.sync_text(subnets, present), f"{masq.CHAIN}: {why}")
        return Item(name, [step], masq.shown(present), masq.wanted(subnets))

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
        want = {}
        if request.present:
            zone = (request.zone, request.networks, request.namespaces)
            want[dns.FILE] = dns.document(request.services, request.slices, *zone)
        changed = {name: text for name, text in want.items() if have.records.get(name) != text}
        gone = [name for name in have.records if name not in want]
        steps = [_write_step(f"{request.dns_dir}/{name}", text) for name, text in changed.items()]
        steps += [_remove_step(f"{request.dns_dir}/{name}", "no file of records") for name in gone]
        before = {name: dns.shown(have.records[name]) for name in (*changed, *gone) if name in have.records}
        return Item("dns", steps, before, {name: dns.shown(text) for name, text in changed.items()})

    def _state_item(self, have: Have) -> Item:
        request = self.request
        want = wanted_state(request)
        if want == have.state:
            return Item("state", [], {}, {})
        if want is None:
            return Item("state", [_remove_step(request.state_file, "state absent")], {"state": "present"}, {})
        why = "differs" if have.state else "missing"
        return Item("state", [_state_step(request.state_file, why, want)], {}, {"state": why})

    def _watcher_items(self, have: Have) -> list[Item]:
        """The watcher and what it keeps to; it goes first when it goes, and comes last."""
        request, file = self.request, paths.proxy_file(self.request.cluster)
        steps: list[Step] = []
        if not request.present:
            if "pid" in have.watcher:
                steps.append(_watcher_stop(request.cluster, have.watcher["pid"], "state absent"))
            if have.inputs is not None:
                steps.append(_remove_step(file, "state absent"))
            return [Item("watcher", steps, {}, {})] if steps else []
        if request.inputs is None:
            return []
        if have.inputs != request.inputs:
            steps.append(_state_step(file, "differs" if have.inputs else "missing", request.inputs))
        alive, why = have.watcher["alive"], "not running"
        if alive and have.outdated:
            why = "runs other code than this"
            steps.append(_watcher_stop(request.cluster, have.watcher["pid"], why))
        if not alive or have.outdated:
            steps.append(_watcher_start(request.cluster, self.watch_module, why))
        return [Item("watcher", steps, {"running": alive}, {"running": True})]


def wanted_state(request: Request) -> dict[str, Any] | None:
    """What services.json is to say: the Services and EndpointSlices that the nodes' rules are made of."""
    if not request.present:
        return None
    return {"services": list(request.services), "endpointslices": list(request.slices)}


def _joined(first: Item, second: Item) -> Item:
    """Two plans for one node as one."""
    steps = [*first.steps, *second.steps]
    return Item(first.name, steps, {**first.before, **second.before}, {**first.after, **second.after})


def _localnet_step(node: Node, value: int, why: str) -> Step:
    argv = (*_ENTRANCE, node.netns, "sysctl", "-w", f"{_LOCALNET}={value}")
    args = {"where": node.netns, "value": value}
    return Step("sysctl.set", f"node {node.proxy.name}", argv, why, _set_localnet, args)


def _set_localnet(where: str, value: int) -> None:
    with netns.entered(where):
        sysctl.write(_LOCALNET, value)


def _merged(restores: Sequence[Step]) -> list[Step]:
    """The nodes' steps of one kind as one whose commands run side by side."""
    if len(restores) < 2:
        return list(restores)
    first = restores[0]
    texts: dict[str, str] = {}
    for step in restores:
        for where, text in step.args["texts"].items():
            texts[where] = texts.get(where, "") + text
    target = ", ".join(dict.fromkeys(step.target for step in restores))
    return [first._replace(target=target, args={**first.args, "texts": texts})]


def _write_step(path: str, text: str) -> Step:
    why = f"{text.count(' IN ')} records"
    return Step("file.write", path, ("tee", path), why, _write_records, {"path": path, "text": text})


def _write_records(path: str, text: str) -> None:
    """The directory and its files are for everyone to read: the DNS server is not root."""
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        os.makedirs(os.path.dirname(directory), 0o700, exist_ok=True)
        os.mkdir(directory)
        os.chmod(directory, 0o755)
    files.write_text(path, text, 0o644)


def _state_step(path: str, why: str, data: Any) -> Step:
    return Step("file.write", path, ("tee", path), why, _write_state, {"path": path, "data": data})


def _watcher_start(cluster: str, module: str, why: str) -> Step:
    args = {"cluster": cluster, "module": module}
    return Step("watcher.start", f"lab {cluster}", watcher.argv(cluster), why, watcher.start, args)


def _watcher_stop(cluster: str, pid: int, why: str) -> Step:
    argv = ("kill", "-KILL", str(pid))
    return Step("watcher.stop", f"lab {cluster}", argv, why, watcher.stop, {"cluster": cluster})


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
