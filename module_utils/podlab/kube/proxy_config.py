"""kube-proxy's own configuration file, and the options that come of it. Controller only (it reads YAML).

Sources: Kubernetes pkg/proxy/apis/config/v1alpha1/defaults.go, pkg/proxy/apis/config/validation/validation.go,
cmd/kube-proxy/app/server_linux.go (getLocalDetectors).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import PodlabError, Problem, refuse
from . import schema
from .addresses import ip_fault
from .manifests import Source
from .proxy_chains import COUNTERS, Options, detector
from .proxy_model import ProxyNode, clean_ip, clean_range, family_of
from .proxy_shapes import CONFIG_KIND, CONFIG_VERSION, SHAPES
from .schema import Finding, show
from .yamltree import load_documents, path_text

FEATURES = ("random-fully", "nfacct")
# The one word that --nodeport-addresses takes besides ranges.
PRIMARY = "primary"
MODES = ("iptables", "nftables", "ipvs")
# detectLocalMode -> the field of detectLocal that it needs, and the longest value: a prefix is followed by "+".
_LOCAL_MODES = {
    "ClusterCIDR": ("", 0),
    "NodeCIDR": ("", 0),
    "BridgeInterface": ("bridgeInterface", 15),
    "InterfaceNamePrefix": ("interfaceNamePrefix", 14),
}
_DEFAULT_BIT = 14
# Of what an interface's name may hold, what is one plain word of a rule.
_INTERFACE = re.compile(r"[A-Za-z0-9_.@][A-Za-z0-9_.@:~=%#+-]*")


class Config(NamedTuple):
    """What of a KubeProxyConfiguration decides about rules. masquerade_*: of the section of the mode."""

    mode: str = "iptables"
    cluster_cidrs: tuple[str, ...] = ()
    local_mode: str = "ClusterCIDR"
    interface: str = ""
    nodeport_addresses: tuple[str, ...] = ()
    masquerade_all: bool = False
    masquerade_bit: int = _DEFAULT_BIT
    localhost_nodeports: bool = True
    tcp_be_liberal: bool = False
    bind_address: str = ""


def read(source: Source, mode: str = "") -> Config:
    """The configuration of a file. mode: instead of the file's. Raises PodlabError with every error in it."""
    documents = load_documents(source.text, source.file)
    if len(documents) != 1 or not isinstance(documents[0].data, dict):
        found = f"{len(documents)} documents" if len(documents) != 1 else show(documents[0].data)
        remedy = f"Give the {CONFIG_KIND} alone"
        refuse([Problem("", f"must be one {CONFIG_KIND}, not {found}", remedy, source.file)])
    document = documents[0]
    data = document.data
    checked = schema.check(data, CONFIG_KIND, SHAPES)
    findings = [finding for finding in checked.findings if finding.path in (("apiVersion",), ("kind",))]
    if findings:
        # Everything else would be unknown fields.
        findings = [_other_kind(finding, data) for finding in findings]
    else:
        seen = {finding.path for finding in checked.findings}
        findings = [*checked.findings, *(finding for finding in _check(checked.object) if finding.path not in seen)]
    refuse(
        Problem(path_text(f.path), f.message, f.remedy, source.file, document.line(f.path))
        for f in sorted(findings, key=lambda finding: document.line(finding.path))
    )
    return _config(checked.object, mode)


def _other_kind(finding: Finding, data: Mapping[str, Any]) -> Finding:
    right = CONFIG_VERSION if finding.path == ("apiVersion",) else CONFIG_KIND
    if data.get("kind") == "ConfigMap":
        return finding._replace(remedy="Take the text of its key config.conf")
    return finding._replace(remedy=f"--config takes a {CONFIG_KIND}: {finding.path[0]}: {right}")


def _check(data: Mapping[str, Any]) -> Iterator[Finding]:
    for section in ("iptables", "nftables"):
        bit = (data.get(section) or {}).get("masqueradeBit", _DEFAULT_BIT)
        if not 0 <= bit <= 31:
            yield Finding((section, "masqueradeBit"), f"must be from 0 to 31, not {bit}")
    yield from _cluster_cidr(data.get("clusterCIDR", ""))
    if data.get("bindAddress") and ip_fault(data["bindAddress"], special=True):
        yield Finding(("bindAddress",), ip_fault(data["bindAddress"], special=True))
    addresses = data.get("nodePortAddresses") or []
    for index, text in enumerate(addresses):
        if text == PRIMARY and len(addresses) > 1:
            yield Finding(("nodePortAddresses", index), f"{PRIMARY} must be the only entry", "Remove the others, or it")
        elif text != PRIMARY and not _is_range(text):
            message = f"must be an address range like 10.0.0.0/8, or {PRIMARY} alone, not {show(text)}"
            yield Finding(("nodePortAddresses", index), message)
    for name, words in (("mode", MODES), ("detectLocalMode", tuple(_LOCAL_MODES))):
        if data.get(name) and data[name] not in words:
            yield Finding((name,), f"must be one of {', '.join(words)}, not {show(data[name])}")
    name, longest = _LOCAL_MODES.get(data.get("detectLocalMode", ""), ("", 0))
    value = (data.get("detectLocal") or {}).get(name, "")
    if name and not (_INTERFACE.fullmatch(value) and len(value) <= longest):
        message = f"must be part of an interface's name, at most {longest} characters, not {show(value)}"
        remedy = f"detectLocalMode {data['detectLocalMode']} needs it"
        yield Finding(("detectLocal", name), message if value else "is missing", remedy)


def _cluster_cidr(text: str) -> Iterator[Finding]:
    parts = text.split(",") if text else []
    bad = [part for part in parts if not _is_range(part)]
    if bad:
        message = f"must be an address range like 10.244.0.0/16, or one of each family with a comma, not {show(text)}"
        yield Finding(("clusterCIDR",), message)
    elif len(parts) > 2 or len({family_of(part) for part in parts}) < len(parts):
        yield Finding(("clusterCIDR",), f"must have one range of each family at most, unlike {show(text)}")


def _is_range(text: str) -> bool:
    try:
        clean_range(text)
    except ValueError:
        return False
    return text == text.strip()


def _config(data: Mapping[str, Any], mode: str) -> Config:
    mode = mode or data.get("mode") or "iptables"
    local_mode = data.get("detectLocalMode") or "ClusterCIDR"
    masquerade = data.get("nftables" if mode == "nftables" else "iptables") or {}
    return Config(
        mode=mode,
        cluster_cidrs=tuple(clean_range(part) for part in (data.get("clusterCIDR") or "").split(",") if part),
        local_mode=local_mode,
        interface=(data.get("detectLocal") or {}).get(_LOCAL_MODES[local_mode][0], ""),
        nodeport_addresses=tuple(data.get("nodePortAddresses") or ()),
        masquerade_all=masquerade.get("masqueradeAll", False),
        masquerade_bit=masquerade.get("masqueradeBit", _DEFAULT_BIT),
        localhost_nodeports=(data.get("iptables") or {}).get("localhostNodePorts", True),
        tcp_be_liberal=(data.get("conntrack") or {}).get("tcpBeLiberal", False),
        bind_address=clean_ip(data["bindAddress"]) if data.get("bindAddress") else "",
    )


def bound(config: Config, node: ProxyNode) -> ProxyNode:
    """The node as kube-proxy sees it: bindAddress, unless it means all addresses, is the node's first one."""
    own = config.bind_address
    if own in ("", "0.0.0.0", "::"):
        return node
    return node._replace(addresses=tuple(dict.fromkeys((own, *node.addresses))))


def options(
    config: Config, node: ProxyNode, pod_cidrs: Sequence[str], family: str, features: Iterable[str] = ()
) -> Options:
    """The options of a node's rules.

    pod_cidrs: the node's own, for detectLocalMode NodeCIDR. features: what the kernel has of FEATURES.
    Raises PodlabError when NodeCIDR is asked for and the node has no range.
    """
    local, not_local = detector(*_local(config, pod_cidrs, family))
    addresses = config.nodeport_addresses
    if addresses == (PRIMARY,):
        own = ((node.address("ipv4"), 32), (node.address("ipv6"), 128))
        addresses = tuple(f"{address}/{bits}" for address, bits in own if address)
    made = Options(
        family=family,
        local=local,
        not_local=not_local,
        masquerade_all=config.masquerade_all,
        masquerade_bit=config.masquerade_bit,
        nodeport_addresses=tuple(map(clean_range, addresses)),
        localhost_nodeports=config.localhost_nodeports,
        tcp_be_liberal=config.tcp_be_liberal,
    )
    return with_features(made, features)


def with_features(options: Options, features: Iterable[str]) -> Options:
    """The options with those optional features of the kernel (FEATURES) and no others."""
    named = tuple(features)
    return options._replace(random_fully="random-fully" in named, counters=COUNTERS if "nfacct" in named else ())


def _local(config: Config, pod_cidrs: Sequence[str], family: str) -> tuple[str, str]:
    """Mode and value of the local detector; no mode when there is no range of the family."""
    if config.local_mode not in ("ClusterCIDR", "NodeCIDR"):
        return config.local_mode, config.interface
    if config.local_mode == "NodeCIDR" and not pod_cidrs:
        raise PodlabError(
            "detectLocalMode NodeCIDR: there is no Node with spec.podCIDRs. Add one: kubectl get node NAME -o yaml"
        )
    ranges = config.cluster_cidrs if config.local_mode == "ClusterCIDR" else pod_cidrs
    own = [text for text in ranges if family_of(text) == family]
    return (config.local_mode, own[0]) if own else ("", "")
