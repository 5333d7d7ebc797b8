"""What a pod is called: inside (uname, HOSTNAME, /etc/hostname), in its own /etc/hosts, and in DNS. Pure.

Source: k8s pkg/kubelet/kubelet_pods.go (GeneratePodHostNameAndDomain), pkg/kubelet/util (GetNodenameForKernel).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from . import podfiles

# The kernel's nodename has 64 characters and a NUL.
KERNEL_LIMIT = 64


class HostName(NamedTuple):
    """short, domain: as /etc/hosts has them. kernel: what uname says, and HOSTNAME, and /etc/hostname."""

    short: str
    domain: str
    kernel: str


def host_name(metadata: Mapping[str, Any], spec: Mapping[str, Any], dns_domain: str, node: str) -> HostName:
    """The names of a pod. node: its node's name, which a pod on the host network has."""
    if spec.get("hostNetwork"):
        return HostName(node, "", node)
    if spec.get("hostnameOverride"):
        return HostName(spec["hostnameOverride"], "", spec["hostnameOverride"])
    short = podfiles.hostname(spec.get("hostname") or metadata["name"])
    domain = podfiles.pod_domain(spec.get("subdomain") or "", metadata["namespace"], dns_domain)
    full = f"{short}.{domain}" if domain and spec.get("setHostnameAsFQDN") else short
    return HostName(short, domain, full)


def fault(name: HostName) -> str:
    """Why the kernel cannot take the name, in the kubelet's words; empty when it can."""
    if len(name.kernel) <= KERNEL_LIMIT:
        return ""
    limit = f"{KERNEL_LIMIT} characters is the max, {len(name.kernel)} characters requested"
    return f"failed to construct FQDN from pod hostname and cluster domain, FQDN {name.kernel} is too long ({limit})"
