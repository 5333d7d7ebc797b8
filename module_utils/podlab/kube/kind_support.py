"""What of a kind config podlab cannot do, or gives no meaning.

The first are errors, by name and with a way out; the others are warnings: a config that people have should work.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import kind_kubelet
from .cidr import listen_address
from .kind_report import Report
from .kind_types import Config, PortMapping

# Fields without a meaning here, and why.
NO_KUBEADM = "podlab has no kubeadm: nothing is patched"
NO_CONTAINERD = "podlab has no containerd: nothing is patched"
NO_API = "podlab has no API server"
MEANINGLESS_AT_TOP = {
    "featureGates": "podlab has no Kubernetes components whose gates could be set",
    "runtimeConfig": NO_API,
    "kubeadmConfigPatches": NO_KUBEADM,
    "kubeadmConfigPatchesJSON6902": NO_KUBEADM,
    "containerdConfigPatches": NO_CONTAINERD,
    "containerdConfigPatchesJSON6902": NO_CONTAINERD,
}
MEANINGLESS_IN_NETWORKING = {"apiServerPort": NO_API, "apiServerAddress": NO_API}
MEANINGLESS_IN_NODE = {
    "image": "a podlab node shares the machine's file tree",
    "kubeadmConfigPatches": NO_KUBEADM,
    "kubeadmConfigPatchesJSON6902": NO_KUBEADM,
}


def limits(config: Config, report: Report) -> None:
    """Add what cannot be built, then what will have no effect."""
    _unsupported(config, report)
    _meaningless(config, report)


def _unsupported(config: Config, report: Report) -> None:
    networking = config.networking
    if networking.ip_family in ("ipv6", "dual"):
        report.error(
            ("networking", "ipFamily"),
            f"podlab cannot build {networking.ip_family} clusters yet",
            "Use ipFamily: ipv4 and IPv4 subnets",
        )
    if networking.kube_proxy_mode == "ipvs":
        report.error(
            ("networking", "kubeProxyMode"),
            "podlab has no ipvs mode: it needs the kernel's ip_vs, and Kubernetes has deprecated it",
            "Use iptables or nftables, or none for a lab without Services",
        )
    if networking.disable_default_cni:
        report.error(
            ("networking", "disableDefaultCNI"),
            "podlab runs no CNI plugins: without its own pod network pods would have none",
            "Remove the field",
        )
    for fault, remedy in kind_kubelet.faults(config):
        report.error(("kubeadmConfigPatches",), fault, remedy)
    for index, node in enumerate(config.nodes):
        for number, mapping in enumerate(node.extra_port_mappings):
            _port_mapping(mapping, ("nodes", index, "extraPortMappings", number), report)


def _port_mapping(mapping: PortMapping, path: tuple[Any, ...], report: Report) -> None:
    """What Docker would say when kind has let it pass."""
    if mapping.container_port in (0, -1):
        message = f"must be from 1 to 65535, not {mapping.container_port}: nothing listens there"
        report.error((*path, "containerPort"), message, "Name the port in the node, a NodePort for one")
    try:
        address = listen_address(mapping.listen_address)
    except ValueError:
        if mapping.host_port in (0, -1):  # else it is said already
            report.error((*path, "listenAddress"), f"must be an IP address, not {mapping.listen_address!r}")
        return
    if ":" in address:
        message = f"podlab's nodes have IPv4 addresses only, so nothing can lead to them from {mapping.listen_address}"
        report.error((*path, "listenAddress"), message, "Use an IPv4 address, or :: for every address")


def _meaningless(config: Config, report: Report) -> None:
    for path, why in _meaningless_paths(config):
        if path == ("kubeadmConfigPatches",) and kind_kubelet.every_word_counts(config):
            continue
        if report.given(path):
            report.warning(path, f"has no effect: {why}")


def _meaningless_paths(config: Config) -> Iterator[tuple[tuple[Any, ...], str]]:
    for field, why in MEANINGLESS_AT_TOP.items():
        yield (field,), why
    for field, why in MEANINGLESS_IN_NETWORKING.items():
        yield ("networking", field), why
    for index, node in enumerate(config.nodes):
        for field, why in MEANINGLESS_IN_NODE.items():
            yield ("nodes", index, field), why
        for number, mount in enumerate(node.extra_mounts):
            if mount.selinux_relabel:
                yield ("nodes", index, "extraMounts", number, "selinuxRelabel"), "podlab relabels nothing"
