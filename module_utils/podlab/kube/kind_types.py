"""kind's cluster config, kind.x-k8s.io/v1alpha4: its records, with kind's defaults.

Source: https://kind.sigs.k8s.io/docs/user/configuration/ and kind's pkg/apis/config/v1alpha4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

KIND = "Cluster"
API_VERSION = "kind.x-k8s.io/v1alpha4"
DEFAULT_NAME = "kind"

DEFAULT_SUBNETS = {
    # ipFamily -> (podSubnet, serviceSubnet)
    "ipv4": ("10.244.0.0/16", "10.96.0.0/16"),
    "ipv6": ("fd00:10:244::/56", "fd00:10:96::/112"),
    "dual": ("10.244.0.0/16,fd00:10:244::/56", "10.96.0.0/16,fd00:10:96::/112"),
}


class JSON6902(NamedTuple):
    """One JSON patch, for an object of a group, version and kind."""

    group: str = ""
    version: str = ""
    kind: str = ""
    patch: str = ""


class ExtraMount(NamedTuple):
    """A path of the machine that a node shows."""

    container_path: str = ""
    host_path: str = ""
    read_only: bool = False
    selinux_relabel: bool = False
    propagation: str = ""  # "" | None | HostToContainer | Bidirectional


class PortMapping(NamedTuple):
    """A port of the machine that leads to a port of a node."""

    container_port: int = 0
    host_port: int = 0
    listen_address: str = ""
    protocol: str = ""  # "" | TCP | UDP | SCTP


class NodeConfig(NamedTuple):
    """One item of nodes."""

    role: str = "control-plane"
    image: str = ""
    labels: Mapping[str, str] = {}
    extra_mounts: tuple[ExtraMount, ...] = ()
    extra_port_mappings: tuple[PortMapping, ...] = ()
    kubeadm_config_patches: tuple[str, ...] = ()
    kubeadm_config_patches_json6902: tuple[JSON6902, ...] = ()


class Networking(NamedTuple):
    """The networking section."""

    ip_family: str = "ipv4"
    api_server_port: int = 0
    api_server_address: str = "127.0.0.1"
    pod_subnet: str = DEFAULT_SUBNETS["ipv4"][0]
    service_subnet: str = DEFAULT_SUBNETS["ipv4"][1]
    disable_default_cni: bool = False
    kube_proxy_mode: str = "iptables"
    dns_search: tuple[str, ...] | None = None  # None: the machine's, (): none


class Config(NamedTuple):
    """The whole config, with kind's defaults filled in."""

    name: str = DEFAULT_NAME
    nodes: tuple[NodeConfig, ...] = (NodeConfig(),)
    networking: Networking = Networking()
    feature_gates: Mapping[str, bool] = {}
    runtime_config: Mapping[str, str] = {}
    kubeadm_config_patches: tuple[str, ...] = ()
    kubeadm_config_patches_json6902: tuple[JSON6902, ...] = ()
    containerd_config_patches: tuple[str, ...] = ()
    containerd_config_patches_json6902: tuple[JSON6902, ...] = ()
