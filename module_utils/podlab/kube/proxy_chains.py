"""kube-proxy's chains: their names, the jumps to them, the rules that are always there.

Source: Kubernetes pkg/proxy/iptables/proxier.go.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import ipaddress
from typing import NamedTuple

from .proxy_model import ProxyNode

SERVICE_PREFIXES = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-")

# Order of the chain lines in the text.
FILTER_CHAINS = (
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-FORWARD",
    "KUBE-NODEPORTS",
    "KUBE-PROXY-FIREWALL",
)
FIREWALL = "KUBE-FIREWALL"
# nfacct objects of kube-proxy's metrics: packets dropped as invalid, NodePort packets on localhost.
COUNTERS = INVALID_DROPPED, LOCALHOST_ACCEPTED = ("ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts")
NAT_CHAINS = ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ")


class Options(NamedTuple):
    """What kube-proxy's configuration and the kernel decide.

    local, not_local: match words of the local detector ("-s CIDR"), empty without one.
    nodeport_addresses: CIDRs; empty means every address.
    counters: nfacct objects that exist in the node's network namespace.
    service_cidrs: the ranges of cluster addresses; nftables mode drops what is sent to free ones.
    """

    family: str = "ipv4"
    local: str = ""
    not_local: str = ""
    masquerade_all: bool = False
    masquerade_bit: int = 14
    nodeport_addresses: tuple[str, ...] = ()
    localhost_nodeports: bool = True
    random_fully: bool = True
    counters: tuple[str, ...] = ()
    tcp_be_liberal: bool = False
    service_cidrs: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        """The masquerade mark as kube-proxy prints it: eight digits."""
        return f"{1 << self.masquerade_bit:#010x}"


def detector(mode: str, value: str) -> tuple[str, str]:
    """Match words for local and for not local traffic.

    mode: ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix or "" (no detector).
    """
    word = {
        "ClusterCIDR": f"-s {value}",
        "NodeCIDR": f"-s {value}",
        "BridgeInterface": f"-i {value}",
        "InterfaceNamePrefix": f"-i {value}+",
        "": "",
    }[mode]
    return word, f"! {word}" if word else ""


class Jump(NamedTuple):
    """A jump from a built-in chain; words are what comes between the chain and the target."""

    table: str
    chain: str
    target: str
    words: str

    def rule(self) -> str:
        """Chain, matches and target, as typed after -A, -I or -C."""
        return " ".join(part for part in (self.chain, self.words, f"-j {self.target}") if part)


def _comment(text: str) -> str:
    return f'-m comment --comment "{text}"'


_NEW = "-m conntrack --ctstate NEW "
_EXTERNAL = _NEW + _comment("kubernetes externally-visible service portals")
_HEALTH = _comment("kubernetes health check service ports")
_PORTALS = _comment("kubernetes service portals")
_FORWARDING = _comment("kubernetes forwarding rules")
_BALANCER = _NEW + _comment("kubernetes load balancer firewall")
_POSTROUTING = _comment("kubernetes postrouting rules")

# In the order in which they are made; each is put on top, so a built-in chain shows them the other way round.
JUMPS = tuple(
    Jump(*row)
    for row in (
        ("filter", "INPUT", "KUBE-EXTERNAL-SERVICES", _EXTERNAL),
        ("filter", "FORWARD", "KUBE-EXTERNAL-SERVICES", _EXTERNAL),
        ("filter", "INPUT", "KUBE-NODEPORTS", _HEALTH),
        ("filter", "FORWARD", "KUBE-SERVICES", _NEW + _PORTALS),
        ("filter", "OUTPUT", "KUBE-SERVICES", _NEW + _PORTALS),
        ("filter", "FORWARD", "KUBE-FORWARD", _FORWARDING),
        ("filter", "INPUT", "KUBE-PROXY-FIREWALL", _BALANCER),
        ("filter", "OUTPUT", "KUBE-PROXY-FIREWALL", _BALANCER),
        ("filter", "FORWARD", "KUBE-PROXY-FIREWALL", _BALANCER),
        ("nat", "OUTPUT", "KUBE-SERVICES", _PORTALS),
        ("nat", "PREROUTING", "KUBE-SERVICES", _PORTALS),
        ("nat", "POSTROUTING", "KUBE-POSTROUTING", _POSTROUTING),
        ("filter", "INPUT", FIREWALL, ""),
        ("filter", "OUTPUT", FIREWALL, ""),
    )
)


@functools.lru_cache(maxsize=65536)
def hash16(text: str) -> str:
    """First 16 characters of the base32 of the SHA-256: ten bytes of it."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:10]).decode()


def localhost_nodeports(options: Options) -> bool:
    """True when NodePorts answer on 127.0.0.1 (IPv4 only, and only when the addresses include loopback)."""
    if options.family != "ipv4" or not options.localhost_nodeports:
        return False
    cidrs = _nodeport_cidrs(options)
    return any(_zero(cidr) or cidr.overlaps(ipaddress.ip_network("127.0.0.0/8")) for cidr in cidrs)


def _nodeport_cidrs(options: Options) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    networks = [ipaddress.ip_network(cidr, strict=False) for cidr in options.nodeport_addresses]
    version = 6 if options.family == "ipv6" else 4
    everything = "::/0" if options.family == "ipv6" else "0.0.0.0/0"
    return [network for network in networks if network.version == version] or [ipaddress.ip_network(everything)]


def _zero(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    return network.prefixlen == 0


_LAST = _comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain")


def nodeport_jumps(options: Options, node: ProxyNode) -> list[str]:
    """Rules at the end of nat KUBE-SERVICES that lead to KUBE-NODEPORTS."""
    cidrs = _nodeport_cidrs(options)
    loopback = localhost_nodeports(options)
    if any(_zero(cidr) for cidr in cidrs):
        words = f"{_LAST} -m addrtype --dst-type LOCAL"
        if options.family == "ipv6":
            words += " ! -d ::1/128"
        elif not loopback:
            words += " ! -d 127.0.0.0/8"
        return [f"{words} -j KUBE-NODEPORTS"]
    own = [*node.addresses, *(["127.0.0.1"] if loopback else [])]
    addresses = [ipaddress.ip_address(address) for address in dict.fromkeys(own)]
    return [
        f"{_LAST} -d {address} -j KUBE-NODEPORTS"
        for address in addresses
        if any(address in cidr for cidr in cidrs if cidr.version == address.version)
        and (loopback or not address.is_loopback)
    ]


def nat_fixed(options: Options) -> list[tuple[str, str]]:
    """(chain, rule) of KUBE-POSTROUTING and KUBE-MARK-MASQ."""
    mark = options.mark
    snat = _comment("kubernetes service traffic requiring SNAT")
    return [
        ("KUBE-POSTROUTING", f"-m mark ! --mark {mark}/{mark} -j RETURN"),
        ("KUBE-POSTROUTING", f"-j MARK --xor-mark {mark}"),
        ("KUBE-POSTROUTING", f"{snat} -j MASQUERADE{' --random-fully' if options.random_fully else ''}"),
        ("KUBE-MARK-MASQ", f"-j MARK --or-mark {mark}"),
    ]


def firewall_rules(options: Options) -> list[tuple[str, str]]:
    """(chain, rule) of KUBE-FIREWALL: closes what route_localnet=1 opens."""
    if not localhost_nodeports(options):
        return []
    words = "-d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
    return [(FIREWALL, f"{_comment('block incoming localnet connections')} {words}")]


def forward_rules(options: Options) -> list[tuple[str, str]]:
    """(chain, rule) of KUBE-FORWARD."""
    accounting = f"-m nfacct --nfacct-name {INVALID_DROPPED} " if INVALID_DROPPED in options.counters else ""
    invalid = [] if options.tcp_be_liberal else [f"-m conntrack --ctstate INVALID {accounting}-j DROP"]
    conntrack = _comment("kubernetes forwarding conntrack rule")
    rules = [
        *invalid,
        f"{_FORWARDING} -m mark --mark {options.mark}/{options.mark} -j ACCEPT",
        f"{conntrack} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    ]
    return [("KUBE-FORWARD", rule) for rule in rules]
