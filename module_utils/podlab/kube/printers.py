"""Tables as kubectl prints them: columns, words and widths.

After pkg/printers/internalversion/printers.go and k8s.io/apimachinery/pkg/util/duration. Objects are plain
Kubernetes objects with their status; a time is seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, NamedTuple

from . import podcolumns
from .times import age, epoch

NONE = "<none>"
UNKNOWN = "<unknown>"
UNSET = "<unset>"
PENDING = "<pending>"
MAX_ENDPOINTS = 3
# Of what load balancers report, kubectl shows this many characters.
BALANCER_WIDTH = 16

# What is in no namespace.
CLUSTER_WIDE = ("nodes", "namespaces")

# text/tabwriter as kubectl sets it up.
MIN_WIDTH = 6
PADDING = 3


class Column(NamedTuple):
    """One column: its title, how an object fills it, and whether `-o wide` alone shows it, or alone leaves it out."""

    title: str
    cell: Callable[[Mapping[str, Any], float], str]
    wide: bool = False
    narrow: bool = False


def table(kind: str, objects: Iterable[Mapping[str, Any]], now: float, **show: bool) -> list[list[str]]:
    """Header and one row per object of a kind of COLUMNS.

    now: seconds since the epoch, for AGE. show: wide, namespaces (-A), labels (--show-labels).
    """
    columns = [column for column in COLUMNS[kind] if not (column.narrow if show.get("wide") else column.wide)]
    if show.get("namespaces") and kind not in CLUSTER_WIDE:
        columns.insert(0, Column("NAMESPACE", lambda item, now: _metadata(item, "namespace")))
    if show.get("labels"):
        columns.append(Column("LABELS", lambda item, now: pairs(item["metadata"].get("labels"))))
    return [[column.title for column in columns]] + [
        [column.cell(item, now) or NONE for column in columns] for item in objects
    ]


def text(rows: Sequence[Sequence[str]]) -> str:
    """The rows in columns, as kubectl aligns them; "" when there is none."""
    if not rows:
        return ""
    widths = [max(MIN_WIDTH, max(map(len, cells)) + PADDING) for cells in zip(*rows)]
    lines = ("".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"


def pairs(mapping: Mapping[str, Any] | None) -> str:
    """Labels or a selector: "app=web,tier=front", "<none>" when empty."""
    return ",".join(f"{key}={value}" for key, value in sorted((mapping or {}).items())) or NONE


def since(item: Mapping[str, Any], now: float) -> str:
    """AGE: since creation; since the start when the object does not tell its creation."""
    created = item["metadata"].get("creationTimestamp") or item.get("status", {}).get("startTime")
    return age(now - epoch(created)) if created else UNKNOWN


def _metadata(item: Mapping[str, Any], key: str) -> str:
    return str(item["metadata"].get(key, ""))


def _name(item: Mapping[str, Any], now: float) -> str:
    return _metadata(item, "name")


def _pod_restarts(pod: Mapping[str, Any], now: float) -> str:
    count, last = podcolumns.restarts(pod)
    return f"{count} ({age(now - epoch(last))} ago)" if count and last else str(count)


def _pod_ip(pod: Mapping[str, Any], now: float) -> str:
    addresses = pod.get("status", {}).get("podIPs", [])
    return str(addresses[0]["ip"]) if addresses else ""


def _readiness_gates(pod: Mapping[str, Any], now: float) -> str:
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or []]
    true = {item["type"] for item in pod.get("status", {}).get("conditions", []) if item["status"] == "True"}
    return f"{len(true.intersection(gates))}/{len(gates)}" if gates else ""


def _node_status(node: Mapping[str, Any], now: float) -> str:
    conditions = {item["type"]: item["status"] for item in node.get("status", {}).get("conditions", [])}
    words = ["Ready" if conditions["Ready"] == "True" else "NotReady"] if "Ready" in conditions else ["Unknown"]
    return ",".join(words + (["SchedulingDisabled"] if node["spec"].get("unschedulable") else []))


def _node_roles(node: Mapping[str, Any], now: float) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = node["metadata"].get("labels") or {}
    return ",".join(sorted(key[len(prefix) :] for key in labels if key.startswith(prefix)))


def _node_address(node: Mapping[str, Any], now: float) -> str:
    found = [item["address"] for item in node["status"].get("addresses", []) if item["type"] == "InternalIP"]
    return str(found[0]) if found else ""


def _node_info(key: str) -> Callable[[Mapping[str, Any], float], str]:
    return lambda node, now: str(node["status"].get("nodeInfo", {}).get(key, "")) or UNKNOWN


def _external_ip(width: int) -> Callable[[Mapping[str, Any], float], str]:
    """Cell of EXTERNAL-IP. width: of a load balancer's addresses, the rest is cut off; 0 for all of it."""

    def cell(service: Mapping[str, Any], now: float) -> str:
        spec = service["spec"]
        own = list(spec.get("externalIPs") or [])
        if spec.get("type") == "ExternalName":
            return str(spec.get("externalName", ""))
        if spec.get("type") != "LoadBalancer":
            return ",".join(own)
        balancer = _balancer_addresses(service)
        if width and len(balancer) > width:
            balancer = f"{balancer[: width - 3]}..."
        return ",".join([*([balancer] if balancer else []), *own]) or PENDING

    return cell


def _balancer_addresses(service: Mapping[str, Any]) -> str:
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return ",".join(sorted({entry.get("ip") or entry["hostname"] for entry in ingress}))


def _service_port(port: Mapping[str, Any]) -> str:
    node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{node_port}/{port.get('protocol', 'TCP')}"


def _first(found: Sequence[str]) -> str:
    """The first three, and how many more there are."""
    more = f" + {len(found) - MAX_ENDPOINTS} more..." if len(found) > MAX_ENDPOINTS else ""
    return ",".join(found[:MAX_ENDPOINTS]) + more


def _endpoints(endpoints: Mapping[str, Any], now: float) -> str:
    found: list[str] = []
    for subset in endpoints.get("subsets") or []:
        addresses = [item["ip"] for item in subset.get("addresses") or []]
        for port in subset.get("ports") or [None]:
            found.extend(_host_port(address, port) for address in addresses)
    return _first(found)


def _slice_ports(piece: Mapping[str, Any], now: float) -> str:
    """Numbers; the name of a port that has none, * without either."""
    return _first([str(port.get("port") or port.get("name", "*")) for port in piece.get("ports") or []]) or UNSET


def _slice_addresses(piece: Mapping[str, Any], now: float) -> str:
    return _first([address for endpoint in piece.get("endpoints") or [] for address in endpoint["addresses"]]) or UNSET


def _host_port(address: str, port: Mapping[str, Any] | None) -> str:
    if port is None:
        return address
    return f"[{address}]:{port['port']}" if ":" in address else f"{address}:{port['port']}"


def _status(key: str) -> Callable[[Mapping[str, Any], float], str]:
    return lambda item, now: str(item["status"].get(key, 0))


def _replicas(item: Mapping[str, Any]) -> int:
    return int(item["spec"].get("replicas", 1))


def _ready_of_wanted(item: Mapping[str, Any], now: float) -> str:
    return f"{item['status'].get('readyReplicas', 0)}/{_replicas(item)}"


def _template(key: str) -> Callable[[Mapping[str, Any], float], str]:
    return lambda item, now: ",".join(each[key] for each in item["spec"]["template"]["spec"]["containers"])


def _label_selector(item: Mapping[str, Any], now: float) -> str:
    """As metav1.FormatLabelSelector: app=web,tier in (a,b),!old."""
    forms = {
        "In": "{key} in ({values})",
        "NotIn": "{key} notin ({values})",
        "Exists": "{key}",
        "DoesNotExist": "!{key}",
    }
    selector = item["spec"].get("selector") or {}
    found = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for one in selector.get("matchExpressions") or []:
        found.append(forms[one["operator"]].format(key=one["key"], values=",".join(sorted(one.get("values") or []))))
    return ",".join(found)


# What printJob looks for, in this order.
_JOB_STATES = ("Complete", "Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet")


def _job_status(job: Mapping[str, Any], now: float) -> str:
    found = {one["type"] for one in job["status"].get("conditions", []) if one["status"] == "True"}
    return next((state for state in _JOB_STATES if state in found), "Running")


def _completions(job: Mapping[str, Any], now: float) -> str:
    """As printJob: of so many, or of as many as run side by side when no number is said."""
    done, wanted, side_by_side = (
        job["status"].get("succeeded", 0),
        job["spec"].get("completions"),
        job["spec"].get("parallelism", 1),
    )
    if wanted is not None:
        return f"{done}/{wanted}"
    return f"{done}/1 of {side_by_side}" if side_by_side > 1 else f"{done}/1"


def _duration(job: Mapping[str, Any], now: float) -> str:
    begin, end = job["status"].get("startTime"), job["status"].get("completionTime")
    return age((epoch(end) if end else now) - epoch(begin)) if begin else ""


def _data_count(item: Mapping[str, Any], now: float) -> str:
    return str(len(item.get("data") or {}) + len(item.get("binaryData") or {}))


_CONTAINERS = (Column("CONTAINERS", _template("name"), wide=True), Column("IMAGES", _template("image"), wide=True))
_SELECTOR = Column("SELECTOR", _label_selector, wide=True)

COLUMNS: dict[str, tuple[Column, ...]] = {
    "pods": (
        Column("NAME", _name),
        Column("READY", lambda pod, now: "%d/%d" % podcolumns.ready_count(pod)),
        Column("STATUS", lambda pod, now: podcolumns.status_word(pod)),
        Column("RESTARTS", _pod_restarts),
        Column("AGE", since),
        Column("IP", _pod_ip, wide=True),
        Column("NODE", lambda pod, now: str(pod["spec"].get("nodeName", "")), wide=True),
        Column("NOMINATED NODE", lambda pod, now: pod.get("status", {}).get("nominatedNodeName", ""), wide=True),
        Column("READINESS GATES", _readiness_gates, wide=True),
    ),
    # No VERSION: there is no kubelet. What tells a lab's nodes apart is where they are and what they give out.
    "nodes": (
        Column("NAME", _name),
        Column("STATUS", _node_status),
        Column("ROLES", _node_roles),
        Column("AGE", since),
        Column("INTERNAL-IP", _node_address),
        Column("POD-CIDR", lambda node, now: str(node["spec"].get("podCIDR", ""))),
        Column("OS-IMAGE", _node_info("osImage"), wide=True),
        Column("KERNEL-VERSION", _node_info("kernelVersion"), wide=True),
        Column("CONTAINER-RUNTIME", _node_info("containerRuntimeVersion"), wide=True),
    ),
    "services": (
        Column("NAME", _name),
        Column("TYPE", lambda service, now: str(service["spec"].get("type", "ClusterIP"))),
        Column("CLUSTER-IP", lambda service, now: str(service["spec"].get("clusterIP", ""))),
        Column("EXTERNAL-IP", _external_ip(BALANCER_WIDTH), narrow=True),
        Column("EXTERNAL-IP", _external_ip(0), wide=True),
        Column("PORT(S)", lambda service, now: ",".join(map(_service_port, service["spec"].get("ports") or []))),
        Column("AGE", since),
        Column("SELECTOR", lambda service, now: pairs(service["spec"].get("selector")), wide=True),
    ),
    "endpoints": (
        Column("NAME", _name),
        Column("ENDPOINTS", _endpoints),
        Column("AGE", since),
    ),
    "endpointslices": (
        Column("NAME", _name),
        Column("ADDRESSTYPE", lambda piece, now: str(piece["addressType"])),
        Column("PORTS", _slice_ports),
        Column("ENDPOINTS", _slice_addresses),
        Column("AGE", since),
    ),
    "deployments": (
        Column("NAME", _name),
        Column("READY", _ready_of_wanted),
        Column("UP-TO-DATE", _status("updatedReplicas")),
        Column("AVAILABLE", _status("availableReplicas")),
        Column("AGE", since),
        *_CONTAINERS,
        _SELECTOR,
    ),
    "replicasets": (
        Column("NAME", _name),
        Column("DESIRED", lambda item, now: str(_replicas(item))),
        Column("CURRENT", _status("replicas")),
        Column("READY", _status("readyReplicas")),
        Column("AGE", since),
        *_CONTAINERS,
        _SELECTOR,
    ),
    "daemonsets": (
        Column("NAME", _name),
        Column("DESIRED", _status("desiredNumberScheduled")),
        Column("CURRENT", _status("currentNumberScheduled")),
        Column("READY", _status("numberReady")),
        Column("UP-TO-DATE", _status("updatedNumberScheduled")),
        Column("AVAILABLE", _status("numberAvailable")),
        Column("NODE SELECTOR", lambda item, now: pairs(item["spec"]["template"]["spec"].get("nodeSelector"))),
        Column("AGE", since),
        *_CONTAINERS,
        _SELECTOR,
    ),
    "statefulsets": (
        Column("NAME", _name),
        Column("READY", _ready_of_wanted),
        Column("AGE", since),
        *_CONTAINERS,
    ),
    "jobs": (
        Column("NAME", _name),
        Column("STATUS", _job_status),
        Column("COMPLETIONS", _completions),
        Column("DURATION", _duration),
        Column("AGE", since),
        *_CONTAINERS,
        _SELECTOR,
    ),
    "configmaps": (
        Column("NAME", _name),
        Column("DATA", _data_count),
        Column("AGE", since),
    ),
    "secrets": (
        Column("NAME", _name),
        Column("TYPE", lambda secret, now: str(secret.get("type", "Opaque"))),
        Column("DATA", _data_count),
        Column("AGE", since),
    ),
    "namespaces": (
        Column("NAME", _name),
        Column("STATUS", lambda item, now: str(item["status"]["phase"])),
        Column("AGE", since),
    ),
}
