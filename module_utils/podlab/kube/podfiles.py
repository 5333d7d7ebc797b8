"""The files that kubelet and the runtime write for a pod: /etc/hosts and /etc/resolv.conf, and its hostname.

Sources: k8s pkg/kubelet/kubelet_pods.go, pkg/kubelet/network/dns/dns.go; containerd's parseDNSOptions.
The pod supervisor imports this file, hence no import that costs memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

HOSTNAME_LIMIT = 63
MAX_NAMESERVERS = 3
MAX_SEARCHES = 32
MAX_SEARCH_CHARACTERS = 2048

_HOST_NETWORK_HEAD = "# Kubernetes-managed hosts file (host network).\n"
_HOSTS_HEAD = """\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


def hostname(name: str) -> str:
    """The pod's hostname: at most 63 characters, without a trailing dash or dot."""
    return name[:HOSTNAME_LIMIT].rstrip("-.")


def pod_domain(subdomain: str, namespace: str, dns_domain: str) -> str:
    """The pod's domain, empty without a subdomain."""
    return f"{subdomain}.{namespace}.svc.{dns_domain}" if subdomain else ""


def hosts_file(addresses: Sequence[str], host: str, domain: str = "", aliases: Iterable[Mapping[str, Any]] = ()) -> str:
    """A pod's /etc/hosts, byte for byte as kubelet writes it.

    domain: `pod_domain()`; aliases: the manifest's hostAliases.
    """
    names = f"{host}.{domain}\t{host}" if domain else host
    text = _HOSTS_HEAD + "".join(f"{address}\t{names}\n" for address in addresses)
    return text + _aliases(aliases)


def host_network_hosts_file(node_hosts: str, aliases: Iterable[Mapping[str, Any]] = ()) -> str:
    """/etc/hosts of a pod on the host network. node_hosts: text of the node's own."""
    return _HOST_NETWORK_HEAD + node_hosts + _aliases(aliases)


def _aliases(aliases: Iterable[Mapping[str, Any]]) -> str:
    extra = [f"{alias['ip']}\t{chr(9).join(alias.get('hostnames') or [])}\n" for alias in aliases]
    return "\n# Entries added by HostAliases.\n" + "".join(extra) if extra else ""


class Resolver(NamedTuple):
    """The content of a resolv.conf."""

    nameservers: Sequence[str] = ()
    searches: Sequence[str] = ()
    options: Sequence[str] = ()


def parse_resolv_conf(text: str) -> Resolver:
    """Read a resolv.conf as kubelet does: the last search line counts, of an option the last word; no `domain`."""
    nameservers: list[str] = []
    searches: list[str] = []
    options: dict[str, str] = {}
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        if words[0] == "nameserver" and len(words) > 1:
            nameservers.append(words[1])
        elif words[0] == "search":
            searches = [word if word == "." else word.rstrip(".") for word in words[1:]]
        elif words[0] == "options":
            options.update((word.partition(":")[0], word) for word in words[1:])
    return Resolver(nameservers, searches, list(options.values()))


def resolv_conf(
    policy: str,
    dns_config: Mapping[str, Any] | None,
    namespace: str,
    dns_domain: str,
    cluster_dns: str,
    node_resolv_conf: str,
) -> str:
    """A pod's /etc/resolv.conf.

    policy: dnsPolicy Default or None, else the cluster's DNS comes first (see effective_policy).
    dns_config: the manifest's dnsConfig, added to what the policy gives.
    cluster_dns: address of the Service kube-dns. node_resolv_conf: text of the node's own file.
    """
    node = parse_resolv_conf(node_resolv_conf)
    if policy == "Default":
        base = node
    elif policy == "None":
        base = Resolver()
    else:
        cluster = (f"{namespace}.svc.{dns_domain}", f"svc.{dns_domain}", dns_domain)
        base = Resolver((cluster_dns,), _once((*cluster, *node.searches)), ("ndots:5",))
    return _render(_extended(base, dns_config or {}))


def effective_policy(policy: str, host_network: bool) -> str:
    """What a dnsPolicy means: on the host network ClusterFirst is Default, as kubelet has it."""
    return "Default" if host_network and policy == "ClusterFirst" else policy


def _extended(base: Resolver, extra: Mapping[str, Any]) -> Resolver:
    options = dict(option.partition(":")[::2] for option in base.options)
    for option in extra.get("options") or []:
        options[option["name"]] = option.get("value") or ""
    return Resolver(
        _once((*base.nameservers, *(extra.get("nameservers") or []))),
        _once((*base.searches, *(extra.get("searches") or []))),
        [f"{name}:{value}" if value else name for name, value in options.items()],
    )


def _once(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _render(resolver: Resolver) -> str:
    searches = _fitting(resolver.searches)
    lines = []
    if searches:
        lines.append(f"search {' '.join(searches)}\n")
    lines += [f"nameserver {address}\n" for address in resolver.nameservers[:MAX_NAMESERVERS]]
    if resolver.options:
        lines.append(f"options {' '.join(resolver.options)}\n")
    return "".join(lines)


def _fitting(searches: Sequence[str]) -> list[str]:
    """The leading search domains within kubelet's limits of count and characters."""
    fitting: list[str] = []
    length = -1
    for domain in searches[:MAX_SEARCHES]:
        length += 1 + len(domain)
        if length > MAX_SEARCH_CHARACTERS:
            break
        fitting.append(domain)
    return fitting
