"""What kind accepts and then fails on, or never looks at: said here, before anything is built."""

from __future__ import annotations

import posixpath
import re

from .cidr import Network, listen_address, parse_address
from .cluster import DNS_ADDRESS_INDEX, node_names
from .kind_report import Report
from .kind_types import Config, Networking, NodeConfig
from .kind_validate import addresses_clash, subnets

# kube-controller-manager: a node gets this much of the pod subnet, and it can cut 2^16 such slices at most.
NODE_BITS = {4: 24, 6: 64}
MOST_SLICE_BITS = 16
# kube-apiserver: a service subnet has 2^20 addresses at most.
MOST_SERVICE_BITS = 20
LONGEST_LABEL = 63
LONGEST_SUBDOMAIN = 253

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_WORD = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_SEARCH = re.compile(r"\.|[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?)*\.?")

# kubelet: with --node-labels only these may be set below kubernetes.io and k8s.io.
KUBELET_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")
KUBELET_LABELS = frozenset(
    {
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "kubernetes.io/arch",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    }
)


def lint(config: Config, report: Report) -> None:
    """Add every problem that kind leaves to whoever waits for the cluster."""
    _names(config, report)
    _api_server_address(config.networking, report)
    _networks(config, report)
    _dns_search(config.networking, report)
    for index, node in enumerate(config.nodes):
        _mounts(node, index, report)
        _labels(node, index, report)
    _host_ports(config, report)


def _names(config: Config, report: Report) -> None:
    if not re.fullmatch(r"[a-z0-9.-]+", config.name):
        return  # said already
    longest = max(node_names(config.name, [node.role for node in config.nodes]), key=len)
    if not _SUBDOMAIN.fullmatch(config.name):
        report.error(
            ("name",),
            f"{config.name!r} makes no host name: each part between dots must begin and end with a letter or digit",
        )
    elif len(longest) > LONGEST_LABEL:
        message = f"makes the node name {longest}, {len(longest)} characters; a host name has at most {LONGEST_LABEL}"
        report.error(("name",), message, "Take a shorter name")


def _api_server_address(networking: Networking, report: Report) -> None:
    try:
        parse_address(networking.api_server_address)
    except ValueError:
        message = f"must be an IP address, not {networking.api_server_address!r}"
        report.error(("networking", "apiServerAddress"), message)


def _readable(text: str) -> list[Network]:
    try:
        return subnets(text)
    except ValueError:
        return []  # said already


def _networks(config: Config, report: Report) -> None:
    pods = _readable(config.networking.pod_subnet)
    services = _readable(config.networking.service_subnet)
    pod_path, service_path = ("networking", "podSubnet"), ("networking", "serviceSubnet")
    for network in pods:
        _pod_subnet(network, len(config.nodes), report)
    for network in services:
        bits = network.max_prefixlen - network.prefixlen
        if network.num_addresses <= DNS_ADDRESS_INDEX:
            message = f"{network} has no tenth address, which the cluster's DNS server has"
            report.error(service_path, message, f"Use a /{network.max_prefixlen - 4} or larger")
        elif bits > MOST_SERVICE_BITS:
            message = f"{network} is too large: kube-apiserver takes at most 2^{MOST_SERVICE_BITS} addresses"
            report.error(service_path, message, f"Use a /{network.max_prefixlen - MOST_SERVICE_BITS} or smaller")
    for pod_network in pods:
        for network in services:
            if pod_network.version == network.version and pod_network.overlaps(network):
                path = service_path if report.given(service_path) else pod_path
                message = f"podSubnet {pod_network} and serviceSubnet {network} overlap"
                report.error(path, message, "A Service's address could be a pod's: make them separate")


def _pod_subnet(network: Network, nodes: int, report: Report) -> None:
    path = ("networking", "podSubnet")
    slice_bits = NODE_BITS[network.version]
    room = slice_bits - network.prefixlen
    if room < 0:
        message = f"{network} is smaller than the /{slice_bits} that every node gets: nodes would never be ready"
        report.error(path, message, f"Use a /{slice_bits - (nodes - 1).bit_length()} or larger")
    elif 1 << room < nodes:
        message = f"{network} has room for {1 << room} nodes of /{slice_bits} each, the config has {nodes}"
        report.error(path, message, f"Use a /{slice_bits - (nodes - 1).bit_length()} or larger")
    elif room > MOST_SLICE_BITS:
        message = f"{network} is too large: kube-controller-manager cuts at most 2^{MOST_SLICE_BITS} slices"
        report.error(path, message, f"Use a /{slice_bits - MOST_SLICE_BITS} or smaller")


def _dns_search(networking: Networking, report: Report) -> None:
    for index, domain in enumerate(networking.dns_search or ()):
        if not _SEARCH.fullmatch(domain) or len(domain) > LONGEST_SUBDOMAIN:
            report.error(("networking", "dnsSearch", index), f"must be a domain name, not {domain!r}")


def _mounts(node: NodeConfig, index: int, report: Report) -> None:
    seen: dict[str, int] = {}
    for number, mount in enumerate(node.extra_mounts):
        here = ("nodes", index, "extraMounts", number)
        for field, value in (("containerPath", mount.container_path), ("hostPath", mount.host_path)):
            if not report.usable((*here, field)):
                continue
            if not value:
                report.error((*here, field), "must not be empty", "Give an absolute path")
            elif not value.startswith("/"):
                hint = " kind would look in the directory it is started in." if field == "hostPath" else ""
                report.error(
                    (*here, field), f"must be an absolute path, not {value!r}", f"Begin it with a slash.{hint}"
                )
            elif "\0" in value or "\n" in value:
                report.error((*here, field), f"must be one line of text, not {value!r}")
        target = posixpath.normpath(f"/{mount.container_path.lstrip('/')}") if mount.container_path else ""
        if target == "/" and mount.container_path.startswith("/"):
            report.error((*here, "containerPath"), "must not be /: it would hide the whole node")
        elif target in seen:
            first = report.line(("nodes", index, "extraMounts", seen[target], "containerPath"))
            message = f"{mount.container_path} is mounted on twice, first in line {first}"
            report.error((*here, "containerPath"), message, "The second would hide the first: remove one")
        elif target:
            seen[target] = number


def label_key_fault(key: str) -> str:
    """What is wrong with a label's key, or "". Source: apimachinery's IsQualifiedName."""
    prefix, slash, name = key.rpartition("/")
    if slash and (not _SUBDOMAIN.fullmatch(prefix) or len(prefix) > LONGEST_SUBDOMAIN):
        return f"the prefix {prefix!r} must be a DNS name in lower case"
    if not _LABEL_WORD.fullmatch(name) or len(name) > LONGEST_LABEL:
        return (
            f"{name!r} must be 1 to {LONGEST_LABEL} letters, digits, '-', '_' and '.', "
            f"with a letter or digit at both ends"
        )
    return ""


def label_value_fault(value: str) -> str:
    """What is wrong with a label's value, or "". Source: apimachinery's IsValidLabelValue."""
    if value and (not _LABEL_WORD.fullmatch(value) or len(value) > LONGEST_LABEL):
        return (
            f"must be empty or up to {LONGEST_LABEL} letters, digits, '-', '_' and '.', "
            f"with a letter or digit at both ends, not {value!r}"
        )
    return ""


def _labels(node: NodeConfig, index: int, report: Report) -> None:
    for key, value in node.labels.items():
        here = ("nodes", index, "labels", key)
        key_fault = label_key_fault(key)
        if key_fault:
            report.error(here, f"is not a label key: {key_fault}")
        value_fault = label_value_fault(value)
        if value_fault:
            report.error(here, value_fault)
        if not key_fault and _kubelet_refuses(key):
            message = "a kubelet refuses to give itself this label, so kind would not come up with it"
            report.warning(here, message, "podlab sets it; for kind, set it with kubectl label")


def _kubelet_refuses(key: str) -> bool:
    prefix = key.partition("/")[0] if "/" in key else ""
    reserved = any(prefix == name or prefix.endswith(f".{name}") for name in ("kubernetes.io", "k8s.io"))
    allowed = any(prefix == name or prefix.endswith(f".{name}") for name in KUBELET_PREFIXES)
    return reserved and not allowed and key not in KUBELET_LABELS


def _host_ports(config: Config, report: Report) -> None:
    """Clashes that kind does not see: between nodes, and of an empty protocol (which is TCP) with TCP."""
    taken: dict[tuple[int, str], list[tuple[str, int, str]]] = {}
    for index, node in enumerate(config.nodes):
        for number, mapping in enumerate(node.extra_port_mappings):
            if mapping.host_port in (0, -1):
                continue
            try:
                address = listen_address(mapping.listen_address)
            except ValueError:
                continue  # said already
            others = taken.setdefault((mapping.host_port, mapping.protocol or "TCP"), [])
            for other, other_index, protocol in others:
                seen_by_kind = other_index == index and protocol == mapping.protocol
                if addresses_clash(address, [other]) and not seen_by_kind:
                    where = "this node" if other_index == index else f"nodes[{other_index}]"
                    port = f"{address}:{mapping.host_port} {mapping.protocol or 'TCP'}"
                    path = ("nodes", index, "extraPortMappings", number, "hostPort")
                    report.error(path, f"{port} is mapped on {where}, too; the machine has it once")
                    break
            others.append((address, index, mapping.protocol))
