"""The cluster as podlab builds it: plain records, their JSON form, and the arithmetic from a kind config to them."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import PodlabError
from .cidr import ipv4_network, listen_address
from .kind_types import Config

# `uname -m` -> the value of kubernetes.io/arch (Go's GOARCH).
ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}

CONTROL_PLANE = "control-plane"
CONTROL_PLANE_KEY = "node-role.kubernetes.io/control-plane"
CONTROL_PLANE_TAINT = {"key": CONTROL_PLANE_KEY, "effect": "NoSchedule"}
EXCLUDE_BALANCERS_KEY = "node.kubernetes.io/exclude-from-external-load-balancers"

# kube-controller-manager's --node-cidr-mask-size for IPv4.
NODE_CIDR_PREFIX = 24
# kubeadm: the cluster's DNS is the tenth address of the service subnet, the API the first.
DNS_ADDRESS_INDEX = 10


class Mount(NamedTuple):
    """A path of the machine that a node shows elsewhere (kind's extraMounts)."""

    container_path: str
    host_path: str
    read_only: bool
    propagation: str  # None | HostToContainer | Bidirectional


class PortMapping(NamedTuple):
    """A port of the machine that leads to a port of a node (kind's extraPortMappings), complete."""

    listen_address: str  # 0.0.0.0: every address of the machine
    host_port: int  # below 1: still to be picked
    container_port: int
    protocol: str  # TCP | UDP | SCTP


class Node(NamedTuple):
    """One node of the cluster."""

    name: str
    role: str  # control-plane | worker
    index: int  # type: ignore[assignment]  # position in the config, from 0; hides tuple.index
    address: str  # on the node network, "172.18.0.2"
    pod_cidr: str  # "10.244.0.0/24"
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, str], ...]
    mounts: tuple[Mount, ...]
    port_mappings: tuple[PortMapping, ...] = ()


class Cluster(NamedTuple):
    """Everything that is decided before anything is built."""

    name: str
    nodes: tuple[Node, ...]
    node_subnet: str
    gateway: str
    pod_subnet: str
    service_subnet: str
    ip_family: str
    kube_proxy_mode: str
    dns_service_ip: str
    dns_domain: str = "cluster.local"
    dns_search: tuple[str, ...] | None = None  # None: as on the machine
    nat: bool = False  # the machine forwards what the lab sends outside
    allowed_unsafe_sysctls: tuple[str, ...] = ()  # names, or beginnings of names with a * behind
    container_log_max_size: int = 10 * 1024 * 1024  # bytes; negative: logs are not rotated
    container_log_max_files: int = 5  # with the one that is written
    seccomp_default: bool = False  # containers without a profile have RuntimeDefault

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, host variables and module options; from_dict is the inverse."""
        plain = self._asdict()
        plain["nodes"] = [_node_to_dict(node) for node in self.nodes]
        plain["dns_search"] = None if self.dns_search is None else list(self.dns_search)
        plain["allowed_unsafe_sysctls"] = list(self.allowed_unsafe_sysctls)
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Cluster:
        """A Cluster from to_dict's data. Keys that it does not know are ignored: a newer podlab wrote them."""
        known = {key: plain[key] for key in cls._fields if key in plain}
        known["nodes"] = tuple(_node_from_dict(node) for node in plain["nodes"])
        if known.get("dns_search") is not None:
            known["dns_search"] = tuple(known["dns_search"])
        if "allowed_unsafe_sysctls" in known:
            known["allowed_unsafe_sysctls"] = tuple(known["allowed_unsafe_sysctls"])
        return cls(**known)

    @classmethod
    def of_option(cls, plain: Mapping[str, Any]) -> Cluster:
        """from_dict of a module's option cluster. Raises PodlabError when it is none."""
        try:
            return cls.from_dict(plain)
        except (KeyError, TypeError) as error:
            raise PodlabError(
                f"cluster: is no cluster as Cluster.to_dict makes it: {error} is missing or wrong"
            ) from error


def _node_to_dict(node: Node) -> dict[str, Any]:
    plain = node._asdict()
    plain["labels"] = dict(node.labels)
    plain["taints"] = [dict(taint) for taint in node.taints]
    plain["mounts"] = [mount._asdict() for mount in node.mounts]
    plain["port_mappings"] = [mapping._asdict() for mapping in node.port_mappings]
    return plain


def _node_from_dict(plain: Mapping[str, Any]) -> Node:
    known = {key: plain[key] for key in Node._fields if key in plain}
    known["labels"] = dict(plain["labels"])
    known["taints"] = tuple(dict(taint) for taint in plain["taints"])
    known["mounts"] = tuple(Mount(**{key: mount[key] for key in Mount._fields}) for mount in plain["mounts"])
    known["port_mappings"] = tuple(
        PortMapping(**{key: mapping[key] for key in PortMapping._fields}) for mapping in plain.get("port_mappings", ())
    )
    return Node(**known)


def lab_hash(cluster: str) -> str:
    """Eight hex digits that stand for the lab where names must be short: links have 15 bytes, iptables' chains 28."""
    return hashlib.sha256(cluster.encode()).hexdigest()[:8]


def uplink_name(cluster: str) -> str:
    """The lab's one link on the machine."""
    return f"podlab{lab_hash(cluster)}"


def node_names(name: str, roles: list[str]) -> list[str]:
    """kind's node names: CLUSTER-ROLE, and from the second of a role on a number, from 2."""
    seen: dict[str, int] = {}
    names = []
    for role in roles:
        seen[role] = seen.get(role, 0) + 1
        names.append(f"{name}-{role}{seen[role] if seen[role] > 1 else ''}")
    return names


def pod_cidrs(pod_subnet: str, count: int) -> list[str]:
    """The first `count` /24 slices of the pod subnet, in node order. Raises ValueError when there are fewer."""
    network = ipv4_network(pod_subnet)
    if network.prefixlen > NODE_CIDR_PREFIX or count > 1 << (NODE_CIDR_PREFIX - network.prefixlen):
        raise ValueError(f"{pod_subnet} has no room for {count} nodes of /{NODE_CIDR_PREFIX} each")
    first = int(network.network_address)
    size = 1 << (32 - NODE_CIDR_PREFIX)
    return [f"{ipaddress.IPv4Address(first + size * number)}/{NODE_CIDR_PREFIX}" for number in range(count)]


def default_labels(name: str, role: str, arch: str, single: bool) -> dict[str, str]:
    """The labels that kubelet and kubeadm give a node, in the order `kubectl get nodes --show-labels` shows them.

    single: the cluster has one node; kind then takes exclude-from-external-load-balancers away.
    """
    labels = {
        "beta.kubernetes.io/arch": arch,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": arch,
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
    }
    if role == CONTROL_PLANE:
        labels[CONTROL_PLANE_KEY] = ""
        if not single:
            labels[EXCLUDE_BALANCERS_KEY] = ""
    return labels


def build(config: Config, name: str, node_subnet: str, *, arch: str = "amd64", nat: bool = False) -> Cluster:
    """The cluster that a valid kind config describes.

    config: as kindconfig.load returns it, without errors. name: the cluster's name.
    node_subnet: IPv4 CIDR of the node network; its first address is the gateway, nodes follow in config order.
    arch: value of kubernetes.io/arch (see ARCHITECTURES). nat: the lab is to reach the outside.
    Host ports that are to be picked stay below 1: ports.settle picks them.
    Raises ValueError when addresses do not suffice; the lints have said so before.
    """
    from .kind_kubelet import allowed_unsafe_sysctls, container_logs, seccomp_default  # controller only

    names = node_names(name, [node.role for node in config.nodes])
    network = ipv4_network(node_subnet)
    if network.num_addresses < len(names) + 3:
        raise ValueError(f"{node_subnet} has no room for a gateway and {len(names)} nodes")
    cidrs = pod_cidrs(config.networking.pod_subnet, len(names))
    single = len(names) == 1
    nodes = []
    for index, (node_name, node) in enumerate(zip(names, config.nodes)):
        nodes.append(
            Node(
                name=node_name,
                role=node.role,
                index=index,
                address=str(network.network_address + 2 + index),
                pod_cidr=cidrs[index],
                labels={**default_labels(node_name, node.role, arch, single), **node.labels},
                taints=(CONTROL_PLANE_TAINT,) if node.role == CONTROL_PLANE and not single else (),
                mounts=tuple(
                    Mount(mount.container_path, mount.host_path, mount.read_only, mount.propagation or "None")
                    for mount in node.extra_mounts
                ),
                port_mappings=tuple(
                    PortMapping(
                        listen_address(mapping.listen_address),
                        mapping.host_port,
                        mapping.container_port,
                        mapping.protocol or "TCP",
                    )
                    for mapping in node.extra_port_mappings
                ),
            )
        )
    services = ipv4_network(config.networking.service_subnet)
    log_size, log_files = container_logs(config)
    return Cluster(
        name=name,
        nodes=tuple(nodes),
        node_subnet=str(network),
        gateway=str(network.network_address + 1),
        pod_subnet=str(ipv4_network(config.networking.pod_subnet)),
        service_subnet=str(services),
        ip_family=config.networking.ip_family,
        kube_proxy_mode=config.networking.kube_proxy_mode,
        dns_service_ip=str(services.network_address + DNS_ADDRESS_INDEX),
        dns_search=config.networking.dns_search,
        nat=nat,
        allowed_unsafe_sysctls=allowed_unsafe_sysctls(config),
        container_log_max_size=log_size,
        container_log_max_files=log_files,
        seccomp_default=seccomp_default(config),
    )
