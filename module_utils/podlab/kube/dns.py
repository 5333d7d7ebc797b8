"""DNS records of Services as hosts files for `dnsmasq --hostsdir`.

One file per namespace. dnsmasq 2.90 follows files by inotify: a file written by rename replaces what the old one said,
a file removed takes its records along. Of an address that stands in several files only the first read has the PTR
record, and it goes with that file. Headless Services share an endpoint's address only within their namespace, so within
a file. The first name of a line is the address's PTR.
Source: Kubernetes DNS-Based Service Discovery 1.1.0; dnsmasq src/inotify.c, src/cache.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .proxy_model import SERVICE_NAME_LABEL, Object, clean_ip


def records(services: Iterable[Object], endpoint_slices: Iterable[Object], zone: str) -> dict[str, str]:
    """File name (the namespace) -> text: a line per cluster address and per ready endpoint of a headless Service.

    zone: the cluster's domain, "cluster.local". A namespace without records has no file.
    """
    by_service: dict[tuple[str, str], list[Object]] = {}
    for item in endpoint_slices:
        key = (_namespace(item), item["metadata"]["labels"][SERVICE_NAME_LABEL])
        by_service.setdefault(key, []).append(item)
    files: dict[str, list[str]] = {}
    for service in sorted(services, key=lambda item: (_namespace(item), item["metadata"]["name"])):
        namespace, name = _namespace(service), service["metadata"]["name"]
        lines = _lines(service, by_service.get((namespace, name), ()), f"{name}.{namespace}.svc.{zone}")
        if lines:
            files.setdefault(namespace, []).extend(lines)
    return {namespace: "".join(f"{line}\n" for line in lines) for namespace, lines in files.items()}


def _namespace(item: Object) -> str:
    return str(item["metadata"].get("namespace") or "default")


def _lines(service: Object, slices: Iterable[Object], name: str) -> list[str]:
    spec = service["spec"]
    if spec.get("type") == "ExternalName":
        return []
    address = spec.get("clusterIP") or ""
    if address and address != "None":
        return [f"{clean_ip(own)} {name}" for own in spec.get("clusterIPs") or [address]]
    # Several slices may hold the same address, once per set of ports.
    found: dict[str, str] = {}
    for item in slices:
        for endpoint in item.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is not False:
                found.setdefault(clean_ip(endpoint["addresses"][0]), _endpoint_name(endpoint))
    return [f"{address} {host}.{name} {name}" for address, host in found.items()]


def _endpoint_name(endpoint: Mapping[str, Any]) -> str:
    """The hostname, or as CoreDNS has it the address with dashes."""
    hostname = endpoint.get("hostname")
    return str(hostname) if hostname else clean_ip(endpoint["addresses"][0]).replace(".", "-").replace(":", "-")
