"""DNS records of a cluster, as one document that the lab's DNS server reads.

The document is JSON; its records are lines of a zone file, one per record: `NAME. 30 IN TYPE DATA`. What needs no
record of its own (pod names, the zone's SOA) is worked out by kube/dns_answers.py.
Source: Kubernetes DNS-Based Service Discovery 1.1.0; CoreDNS plugin/kubernetes.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .names import label_fault, subdomain_fault
from .proxy_model import SERVICE_NAME_LABEL, Object, clean_ip

FILE = "records.json"
SCHEMA_VERSION = "1.1.0"
# kubeadm's Corefile says `ttl 30`.
TTL = 30
# The namespaces that every cluster has.
NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
# SRV weights of one name add up to about this, as CoreDNS has it.
_WEIGHTS = 100


def document(
    services: Iterable[Object],
    endpoint_slices: Iterable[Object],
    zone: str,
    networks: Sequence[str] = (),
    namespaces: Iterable[str] = (),
) -> str:
    """The text of FILE.

    zone: the cluster's domain, "cluster.local". networks: the CIDRs of pods and Services: names of addresses in them
    that nobody has do not exist. namespaces: those that exist besides the ones that have a Service.
    """
    services = sorted(services, key=_key)
    found = sorted({*NAMESPACES, *namespaces, *(_key(service)[0] for service in services)})
    lines = dict.fromkeys(_lines(services, endpoint_slices, zone))
    whole = {
        "zone": zone,
        "networks": [str(ipaddress.ip_network(network, strict=False)) for network in networks],
        "namespaces": found,
        "records": list(lines),
    }
    return json.dumps(whole, indent=1) + "\n"


def shown(text: str) -> list[str]:
    """The records of a document, for a diff; its lines when it is none."""
    try:
        return list(json.loads(text)["records"])
    except (ValueError, KeyError, TypeError):
        return text.splitlines()


def reverse_name(address: str) -> str:
    """The name that has an address's PTR: 20.0.96.10.in-addr.arpa."""
    return ipaddress.ip_address(address).reverse_pointer


def _key(item: Object) -> tuple[str, str]:
    return str(item["metadata"].get("namespace") or "default"), str(item["metadata"]["name"])


def _record(name: str, kind: str, data: str) -> str:
    return f"{name}. {TTL} IN {kind} {data}"


def _address(name: str, address: str) -> str:
    return _record(name, "AAAA" if ":" in address else "A", address)


def _lines(services: Sequence[Object], endpoint_slices: Iterable[Object], zone: str) -> Iterator[str]:
    by_service: dict[tuple[str, str], list[Object]] = {}
    for item in endpoint_slices:
        key = (_key(item)[0], item["metadata"]["labels"][SERVICE_NAME_LABEL])
        by_service.setdefault(key, []).append(item)
    yield _record(f"dns-version.{zone}", "TXT", f'"{SCHEMA_VERSION}"')
    yield _record(zone, "NS", f"ns.dns.{zone}.")
    for service in services:
        key, spec = _key(service), service["spec"]
        name = f"{key[1]}.{key[0]}.svc.{zone}"
        address = spec.get("clusterIP") or ""
        if spec.get("type") == "ExternalName":
            yield from _external(name, str(spec.get("externalName") or ""))
        elif address == "None":
            yield from _headless(name, by_service.get(key, ()))
        elif address:
            addresses = [clean_ip(own) for own in spec.get("clusterIPs") or [address]]
            yield from _cluster_ip(name, addresses, spec.get("ports") or ())
            if key == ("kube-system", "kube-dns"):
                yield from (_address(f"ns.dns.{zone}", own) for own in addresses)


def _external(name: str, target: str) -> Iterator[str]:
    """A CNAME. An address is no name: CoreDNS has no record of it either."""
    target = target.rstrip(".").lower()
    try:
        ipaddress.ip_address(target)
    except ValueError:
        if not subdomain_fault(target):
            yield _record(name, "CNAME", f"{target}.")


def _cluster_ip(name: str, addresses: Sequence[str], ports: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for address in addresses:
        yield _address(name, address)
        yield _record(reverse_name(address), "PTR", f"{name}.")
    for port in ports:
        if port.get("name"):
            yield _record(f"{_port_labels(port)}.{name}", "SRV", f"0 {_WEIGHTS} {port['port']} {name}.")


def _port_labels(port: Mapping[str, Any]) -> str:
    return f"_{port['name']}._{(port.get('protocol') or 'TCP').lower()}"


def _headless(name: str, slices: Iterable[Object]) -> Iterator[str]:
    """Per ready endpoint its address under both names, and its PTR; per named port and endpoint a SRV."""
    targets: dict[str, dict[tuple[int, str], None]] = {}
    for item in slices:
        ready = dict.fromkeys(_ready(item, name))
        for address, own in ready:
            yield _address(name, address)
            yield _address(own, address)
            yield _record(reverse_name(address), "PTR", f"{own}.")
        for port in item.get("ports") or ():
            if port.get("name") and port.get("port"):
                found = targets.setdefault(f"{_port_labels(port)}.{name}", {})
                found.update(dict.fromkeys((port["port"], own) for _, own in ready))
    for labels, pairs in targets.items():
        weight = max(1, _WEIGHTS // max(1, len(pairs)))
        for number, own in pairs:
            yield _record(labels, "SRV", f"0 {weight} {number} {own}.")


def _ready(item: Object, name: str) -> Iterator[tuple[str, str]]:
    """Address and name of each ready endpoint of a slice. A slice of names (addressType FQDN) has none."""
    for endpoint in item.get("endpoints") or ():
        if (endpoint.get("conditions") or {}).get("ready") is False or item.get("addressType") == "FQDN":
            continue
        address = clean_ip(endpoint["addresses"][0])
        host = str(endpoint.get("hostname") or "").lower()
        # Without a hostname, as CoreDNS has it: the address with dashes.
        if not host or label_fault(host):
            host = address.replace(".", "-").replace(":", "-")
        yield address, f"{host}.{name}"
