"""What podlab_service is asked for: its options checked, with defaults from the cluster, and summed up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .errors import Problem, refuse
from .kube import service_check
from .kube.endpoints import endpoint_slices, zones_of
from .kube.proxy_chains import Options, detector
from .kube.proxy_model import SERVICE_NAME_LABEL, Object, ProxyNode
from .runtime import paths

_MODES = ("iptables", "nftables", "none")
_IPVS = "is not supported: it needs the kernel's ip_vs, and Kubernetes has deprecated it"


class Node(NamedTuple):
    """A node whose rules are kept: what kube-proxy knows of it, and the namespace that it is."""

    proxy: ProxyNode
    netns: str


class Request(NamedTuple):
    """The module's options, checked. inputs: what the watcher keeps to; None without one."""

    cluster: str
    nodes: tuple[Node, ...]
    services: Sequence[Object]
    slices: Sequence[Object]
    options: Options
    zone: str
    dns_dir: str
    state_file: str
    mode: str
    present: bool
    backend: str
    pod_subnet: str
    inputs: Mapping[str, Any] | None
    networks: Sequence[str] = ()
    namespaces: Sequence[str] = ()


# What of the module's options the watcher needs to ask the same again; the pods it reads itself.
_KEPT = ("cluster", "nodes", "services", "endpoint_slices", "proxy", "dns_dir", "state_file")


def _staying(pods: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The pods that are not being deleted.

    kube-proxy sends to pods on their way out while no other is ready, and takes the rules away when they are gone.
    Without a watcher nobody looks again after this call: their rules would lead to nothing until the next one.
    """
    return [entry for entry in pods if not entry["pod"]["metadata"].get("deletionTimestamp")]


def request(params: Mapping[str, Any]) -> Request:
    """The module's parameters as a Request. Raises PodlabError with every problem of them.

    typed: the types of Services, slices and pods are known to be right, as those of what the watcher keeps to.
    """
    cluster = params["cluster"]
    problems = _cluster_problems(params)
    family = str(cluster.get("ip_family") or "ipv4")
    services, pods = params["services"] or [], params["pods"] or []
    given = params["endpoint_slices"] or []
    problems += service_check.check(services, given, pods, family, bool(params.get("typed")))
    refuse(problems)
    zones = zones_of(cluster["nodes"])
    counted = pods if params.get("watch") else _staying(pods)
    options = params["proxy"] or {}
    mode = options.get("detect_local_mode") or "ClusterCIDR"
    default = cluster.get("pod_subnet", "") if mode == "ClusterCIDR" else ""
    local, not_local = detector(mode, options.get("detect_local") or default)
    name = cluster["name"]
    return Request(
        cluster=name,
        nodes=tuple(_nodes(params)),
        services=services,
        slices=[*endpoint_slices(services, counted, zones), *given],
        options=Options(
            family=family,
            local=local,
            not_local=not_local,
            masquerade_all=bool(options.get("masquerade_all")),
            masquerade_bit=14 if options.get("masquerade_bit") is None else options["masquerade_bit"],
            nodeport_addresses=tuple(options.get("nodeport_addresses") or ()),
            localhost_nodeports=options.get("localhost_nodeports") is not False,
            tcp_be_liberal=bool(options.get("tcp_be_liberal")),
            service_cidrs=tuple(filter(None, [cluster.get("service_subnet")])),
        ),
        zone=str(cluster.get("dns_domain") or "cluster.local"),
        dns_dir=params["dns_dir"] or paths.dns_dir(name),
        state_file=params["state_file"] or paths.services_file(name),
        mode=cluster.get("kube_proxy_mode") or "iptables",
        present=params["state"] == "present",
        backend=options.get("backend") or "",
        pod_subnet=cluster["pod_subnet"],
        inputs={key: params[key] for key in _KEPT} if params.get("watch") else None,
        networks=[cluster[key] for key in ("service_subnet", "pod_subnet") if cluster.get(key)],
        namespaces=sorted({entry["pod"]["metadata"].get("namespace") or "default" for entry in pods}),
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
        message = f"{mode!r} {_IPVS}" if mode == "ipvs" else f"{mode!r} is not supported, only {', '.join(_MODES)}"
        remedy = "Set networking.kubeProxyMode to iptables or nftables"
        problems.append(Problem("cluster.kube_proxy_mode", message, remedy))
    known = {node["name"] for node in cluster.get("nodes") or ()}
    for number, node in enumerate(params["nodes"] or ()):
        if node["name"] not in known:
            message = f"{node['name']!r} is no node of cluster {cluster.get('name')!r}"
            problems.append(Problem(f"nodes[{number}].name", message, f"Nodes: {', '.join(sorted(known))}"))
    period = (params["proxy"] or {}).get("sync_period")
    if period is not None and period < 1:
        problems.append(Problem("proxy.sync_period", f"must be at least 1 second, not {period}"))
    bit = (params["proxy"] or {}).get("masquerade_bit")
    if bit is not None and not 0 <= bit <= 31:
        problems.append(Problem("proxy.masquerade_bit", f"must be from 0 to 31, not {bit}"))
    return problems


def _nodes(params: Mapping[str, Any]) -> list[Node]:
    records = {node["name"]: node for node in params["cluster"]["nodes"]}
    zones = zones_of(records.values())
    asked = params["nodes"] if params["nodes"] is not None else [{"name": name} for name in records]
    return [
        Node(
            ProxyNode(node["name"], (records[node["name"]]["address"],), zones.get(node["name"], "")),
            node.get("netns") or paths.node_netns(node["name"]),
        )
        for node in asked
    ]


def summary(request: Request) -> list[dict[str, Any]]:
    """Per Service: namespace, name, clusterIP, ports ("80/TCP"), ready endpoints ("10.244.1.2:80")."""
    ready: dict[tuple[str, str], set[str]] = {}
    for item in request.slices:
        metadata = item["metadata"]
        key = (metadata.get("namespace", "default"), metadata["labels"][SERVICE_NAME_LABEL])
        for endpoint in item.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is not False:
                address = endpoint["addresses"][0]
                host = f"[{address}]" if ":" in address else address
                # kube-proxy ignores a port without a number.
                numbers = [port["port"] for port in item.get("ports") or () if port.get("port")]
                ready.setdefault(key, set()).update(f"{host}:{number}" for number in numbers)
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
