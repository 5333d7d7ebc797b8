"""What kube-proxy reads of an API server, as `kubectl get -o yaml` prints it: Services, EndpointSlices, Nodes.

Only the fields that kube-proxy looks at are checked; everything else (managedFields, annotations) is taken as it comes.
Controller only (it reads YAML).
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import PodlabError, Problem, refuse
from . import names, schema, service_rules
from .field_checks import named
from .manifests import Manifest, Source
from .proxy_model import SERVICE_NAME_LABEL, Object, ProxyNode, clean_ip, clean_range, family_of
from .proxy_shapes import KINDS, SHAPES
from .schema import Finding, Path, show
from .yamltree import Document, load_documents, path_text

_WITHOUT_NAMESPACE = ("Node", "ServiceCIDR")
ZONE_LABEL = "topology.kubernetes.io/zone"
MAX_AFFINITY_SECONDS = 86400
# kube-proxy looks for its node's address among these, in this order.
_ADDRESS_TYPES = ("InternalIP", "ExternalIP")


class Objects(NamedTuple):
    """What is read: objects of right types without nulls, and warnings about what is left out.

    service_cidrs: the ranges of the ServiceCIDR objects.
    """

    services: tuple[dict[str, Any], ...]
    slices: tuple[dict[str, Any], ...]
    nodes: tuple[dict[str, Any], ...]
    service_cidrs: tuple[str, ...]
    warnings: tuple[Problem, ...]


def read(sources: Iterable[Source]) -> Objects:
    """The objects of the files: single ones, several documents, kind List, ServiceList and so on.

    Objects of other kinds are left out with one warning. Raises PodlabError with every error of every file.
    """
    problems: list[Problem] = []
    found: dict[tuple[str, str, str], Manifest] = {}
    others: collections.Counter[str] = collections.Counter()
    for source in sources:
        try:
            documents = load_documents(source.text, source.file)
        except PodlabError as error:
            problems += error.problems
            continue
        if not documents:
            problems.append(Problem("", "there is nothing in it", "", source.file))
        for document in documents:
            for manifest in _flat(document, document.data, (), problems):
                if _is_known(manifest, others, problems):
                    _add(found, manifest, problems)
    refuse(problems, "The objects are not valid")
    if others:
        names = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
        problems.append(Problem("", f"left out: {names}. kube-proxy reads {', '.join(KINDS)}", level="warning"))
    by_kind = {kind: tuple(manifest.object for (own, _, _), manifest in found.items() if own == kind) for kind in KINDS}
    cidrs = (clean_range(text) for item in by_kind["ServiceCIDR"] for text in item["spec"]["cidrs"])
    return Objects(
        by_kind["Service"], by_kind["EndpointSlice"], by_kind["Node"], tuple(dict.fromkeys(cidrs)), tuple(problems)
    )


def _flat(document: Document, data: Any, start: Path, problems: list[Problem]) -> Iterator[Manifest]:
    """The objects of a document: itself, or the items of a list; items of a ServiceList need not say their kind."""
    if not isinstance(data, dict):
        message = f"must be a Kubernetes object, not {show(data)}"
        problems.append(Problem(path_text(start), message, "", document.file, document.line(start)))
        return
    kind = data.get("kind")
    if not (isinstance(kind, str) and kind.endswith("List")):
        yield Manifest(data, document, start)
        return
    items = data.get("items")
    if items is not None and not isinstance(items, list):
        line = document.line((*start, "items"))
        problems.append(Problem(f"{kind}: items", f"must be a list, not {show(items)}", "", document.file, line))
        return
    implied = {} if kind == "List" else {"kind": kind[: -len("List")], "apiVersion": data.get("apiVersion")}
    for index, item in enumerate(items or ()):
        inner = {**implied, **item} if isinstance(item, dict) else item
        yield from _flat(document, inner, (*start, "items", index), problems)


def _is_known(manifest: Manifest, others: collections.Counter[str], problems: list[Problem]) -> bool:
    """True for a kind that kube-proxy reads; others are counted, a wrong version of one that it reads is an error."""
    version, kind = manifest.object.get("apiVersion"), manifest.object.get("kind")
    for name, value in (("apiVersion", version), ("kind", kind)):
        if not isinstance(value, str) or not value:
            message = "is required and missing" if value in (None, "") else f"must be text, not {show(value)}"
            problems.append(manifest.problem(Finding((name,), message)))
            return False
    right = KINDS.get(str(kind), "")
    if version == right:
        return True
    if right and str(version).rpartition("/")[0] == right.rpartition("/")[0]:
        message = f"must be {right}, not {show(version)}"
        problems.append(manifest.problem(Finding(("apiVersion",), message)))
    else:
        others[str(kind)] += 1
    return False


def _add(found: dict[tuple[str, str, str], Manifest], manifest: Manifest, problems: list[Problem]) -> None:
    """Take the object, clean, and what is wrong with it."""
    kind = manifest.object["kind"]
    checked = schema.check(manifest.object, kind, SHAPES)
    seen = {finding.path for finding in checked.findings}
    later = [finding for finding in _CHECKS[kind](checked.object) if finding.path not in seen]
    problems += sorted(map(manifest.problem, (*checked.findings, *later)), key=lambda problem: problem.line)
    metadata = checked.object.get("metadata") or {}
    if not metadata.get("name"):
        return
    namespace = "" if kind in _WITHOUT_NAMESPACE else metadata.get("namespace") or "default"
    first = found.setdefault((kind, namespace, metadata["name"]), manifest._replace(object=checked.object))
    if first.object is not checked.object:
        message = f"the object is there twice, first at {first.where()}"
        problems.append(manifest.problem(Finding((), message, "Remove one of them")))


# What types do not say. Each gets an object of the right types.


def _service(service: Object) -> Iterator[Finding]:
    metadata, spec = service.get("metadata") or {}, service.get("spec") or {}
    # They are words of rules: what breaks out of a comment would be a rule of its own.
    for key in ("name", "namespace"):
        yield from named(metadata, key, names.label_fault, ("metadata",))
    for name in ("clusterIPs", "externalIPs"):
        yield from _all(spec.get(name), ("spec", name), _address, headless=name == "clusterIPs")
    yield from _address(spec.get("clusterIP") or "None", ("spec", "clusterIP"), headless=True)
    yield from _all(spec.get("loadBalancerSourceRanges"), ("spec", "loadBalancerSourceRanges"), _range)
    for index, ingress in enumerate(((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()):
        if ingress.get("ip"):
            yield from _address(ingress["ip"], ("status", "loadBalancer", "ingress", index, "ip"))
    yield from service_rules.distinct(spec.get("ports") or [], ("spec", "ports"))
    for index, port in enumerate(spec.get("ports") or ()):
        where: Path = ("spec", "ports", index)
        yield from _port(port.get("port", 1), (*where, "port"), 1)
        yield from _port(port.get("nodePort", 0), (*where, "nodePort"), 0)
    yield from _port(spec.get("healthCheckNodePort", 0), ("spec", "healthCheckNodePort"), 0)
    seconds = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds", 1)
    if not 1 <= seconds <= MAX_AFFINITY_SECONDS:
        place = ("spec", "sessionAffinityConfig", "clientIP", "timeoutSeconds")
        yield Finding(place, f"must be between 1 and {MAX_AFFINITY_SECONDS}, not {seconds}")
    if spec and not spec.get("clusterIP") and spec.get("type") != "ExternalName":
        message = "is missing, so kube-proxy writes no rule for this Service"
        remedy = "Take the Service from a cluster (kubectl get service -o yaml), or give it an address"
        yield Finding(("spec", "clusterIP"), message, remedy, "warning")


def _slice(item: Object) -> Iterator[Finding]:
    if not ((item.get("metadata") or {}).get("labels") or {}).get(SERVICE_NAME_LABEL):
        message = f"has no label {SERVICE_NAME_LABEL}, so it belongs to no Service and is left out"
        yield Finding(("metadata", "labels"), message, "", "warning")
    for index, port in enumerate(item.get("ports") or ()):
        yield from _port(port.get("port", 0), ("ports", index, "port"), 0)
    wanted = item.get("addressType")
    if wanted == "FQDN":
        return
    for index, endpoint in enumerate(item.get("endpoints") or ()):
        for number, address in enumerate(endpoint.get("addresses") or ()):
            where = ("endpoints", index, "addresses", number)
            faults = list(_address(address, where))
            yield from faults
            if not faults and wanted and f"ip{wanted[2:]}" != family_of(clean_ip(address)):
                yield Finding(where, f"must be an {wanted} address, as addressType says, not {show(address)}")


def _node(node: Object) -> Iterator[Finding]:
    for index, entry in enumerate((node.get("status") or {}).get("addresses") or ()):
        if entry.get("type") in _ADDRESS_TYPES:
            yield from _address(entry.get("address", ""), ("status", "addresses", index, "address"))
    spec = node.get("spec") or {}
    if spec.get("podCIDR"):
        yield from _range(spec["podCIDR"], ("spec", "podCIDR"))
    yield from _all(spec.get("podCIDRs"), ("spec", "podCIDRs"), _range)


def _service_cidr(item: Object) -> Iterator[Finding]:
    yield from _all((item.get("spec") or {}).get("cidrs"), ("spec", "cidrs"), _range)


_CHECKS: Mapping[str, Callable[[Object], Iterator[Finding]]] = {
    "Service": _service,
    "EndpointSlice": _slice,
    "Node": _node,
    "ServiceCIDR": _service_cidr,
}


def _all(
    values: Sequence[str] | None, path: Path, check: Callable[..., Iterator[Finding]], **how: Any
) -> Iterator[Finding]:
    for index, value in enumerate(values or ()):
        yield from check(value, (*path, index), **how)


def _address(value: str, path: Path, headless: bool = False) -> Iterator[Finding]:
    try:
        if not (headless and value == "None"):
            clean_ip(value)
    except ValueError:
        yield Finding(path, f"must be an IP address{' or None' if headless else ''}, not {show(value)}")


def _range(value: str, path: Path) -> Iterator[Finding]:
    try:
        clean_range(value)
    except ValueError:
        yield Finding(path, f"must be an address range like 10.0.0.0/8, not {show(value)}")


def _port(value: int, path: Path, least: int) -> Iterator[Finding]:
    if not least <= value <= 65535:
        yield Finding(path, f"must be a port number from 1 to 65535, not {value}")


# Nodes


def pick_node(nodes: Sequence[Object], name: str = "") -> Object | None:
    """The Node whose point of view is taken: the one named, else the only one there is; None when there is none.

    Raises PodlabError when there is none of that name, or several and no name.
    """
    names = sorted(node["metadata"]["name"] for node in nodes)
    there = f"Nodes in the files: {', '.join(names) or 'none'}"
    if name:
        for node in nodes:
            if node["metadata"]["name"] == name:
                return node
        remedy = f"{there}. Add it with -f (kubectl get node {name} -o yaml), or name one of them"
        raise PodlabError(f"--node {name}: no Node object has that name. {remedy}")
    if len(nodes) > 1:
        raise PodlabError(f"The rules differ from node to node. Say which with --node. {there}")
    return nodes[0] if nodes else None


def proxy_node(node: Object | None) -> ProxyNode:
    """What kube-proxy knows of its node; without one nothing is local."""
    if node is None:
        return ProxyNode("")
    metadata, entries = node["metadata"], (node.get("status") or {}).get("addresses") or ()
    addresses = [clean_ip(entry["address"]) for kind in _ADDRESS_TYPES for entry in entries if entry["type"] == kind]
    zone = (metadata.get("labels") or {}).get(ZONE_LABEL, "")
    return ProxyNode(metadata["name"], tuple(dict.fromkeys(addresses)), zone)


def pod_cidrs(node: Object | None) -> list[str]:
    """The node's ranges for pods, of any family."""
    spec = (node or {}).get("spec") or {}
    return [clean_range(text) for text in spec.get("podCIDRs") or [spec.get("podCIDR")] if text]
