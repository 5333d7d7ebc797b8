"""What is wrong with Services, EndpointSlices and pods before rules are made of them: every problem, by path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable

from ..errors import Problem
from . import names
from . import service_forms as forms
from .proxy_model import SERVICE_NAME_LABEL, Object, clean_ip, clean_range, family_of

PROTOCOLS = ("TCP", "UDP", "SCTP")
FAMILIES = ("IPv4", "IPv6")
TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")


def check(
    services: Sequence[Object],
    slices: Sequence[Object],
    pods: Sequence[Mapping[str, Any]],
    family: str = "ipv4",
    typed: bool = False,
) -> list[Problem]:
    """Problems of the inputs, with places like services[0].spec.ports[1].port.

    typed: the types of their fields are known to be right, and are not looked at.
    """
    problems: list[Problem] = []
    sound: dict[int, Object] = {}
    for number, service in enumerate(services):
        place = f"services[{number}]"
        wrong = [] if typed else list(forms.faults(service, forms.SERVICE, place))
        problems += wrong or _service(service, place, family)
        if not wrong:
            sound[number] = service
    problems += _repeated(sound)
    for number, item in enumerate(slices):
        place = f"endpoint_slices[{number}]"
        wrong = [] if typed else list(forms.faults(item, forms.SLICE, place))
        problems += wrong or _slice(item, place)
    for number, item in enumerate(pods):
        place = f"pods[{number}]"
        wrong = [] if typed else list(forms.faults(item, forms.POD, place))
        problems += wrong or _pod(item, place)
    return problems


def _service(service: Object, place: str, family: str) -> Iterable[Problem]:
    if not _name(service):
        yield Problem(f"{place}.metadata.name", "is missing: a Service needs a name")
    # They are words of rules.
    for field in ("name", "namespace"):
        yield from _word((service.get("metadata") or {}).get(field), f"{place}.metadata.{field}")
    spec = service.get("spec")
    if not isinstance(spec, Mapping):
        yield Problem(f"{place}.spec", "is missing: a Service needs a spec")
        return
    kind = spec.get("type", "ClusterIP")
    if kind not in TYPES:
        yield Problem(f"{place}.spec.type", f"must be one of {', '.join(TYPES)}, not {kind!r}")
    if kind != "ExternalName":
        yield from _cluster_ip(spec, f"{place}.spec.clusterIP", family)
        for number, text in enumerate(spec.get("clusterIPs") or ()):
            if text != "None":
                yield from _address(text, f"{place}.spec.clusterIPs[{number}]", clean_ip)
    for number, text in enumerate(spec.get("ipFamilies") or ()):
        if text not in FAMILIES:
            yield Problem(f"{place}.spec.ipFamilies[{number}]", f"must be IPv4 or IPv6, not {text!r}")
    for field in ("externalIPs", "loadBalancerSourceRanges"):
        parse = clean_range if field == "loadBalancerSourceRanges" else clean_ip
        for number, text in enumerate(spec.get(field) or ()):
            yield from _address(text, f"{place}.spec.{field}[{number}]", parse)
    for number, entry in enumerate(((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()):
        if entry.get("ip"):
            yield from _address(entry["ip"], f"{place}.status.loadBalancer.ingress[{number}].ip", clean_ip)
    yield from _ports(spec.get("ports") or (), f"{place}.spec.ports")


def _name(item: Object) -> str:
    return str((item.get("metadata") or {}).get("name") or "")


def _word(text: str | None, place: str) -> Iterable[Problem]:
    fault = names.label_fault(text) if text else ""
    if fault:
        yield Problem(place, f"{fault}; it is {text!r}")


def _cluster_ip(spec: Object, place: str, family: str) -> Iterable[Problem]:
    address = spec.get("clusterIP")
    if not address:
        yield Problem(place, "is missing", "Give the Service its cluster address, or None to make it headless")
    elif address != "None":
        problems = list(_address(address, place, clean_ip))
        yield from problems
        if not problems and family not in {family_of(own) for own in spec.get("clusterIPs") or [address]}:
            yield Problem(place, f"must be an {family.replace('ip', 'IP')} address in this cluster, not {address!r}")


def _address(text: Any, place: str, parse: Callable[[str], str]) -> Iterable[Problem]:
    try:
        parse(str(text))
    except ValueError:
        what = "an address range like 10.0.0.0/8" if parse is clean_range else "an IP address"
        yield Problem(place, f"must be {what}, not {text!r}")


def _ports(ports: Sequence[Object], place: str) -> Iterable[Problem]:
    seen: dict[tuple[str, Any], str] = {}
    named: dict[str, str] = {}
    for number, port in enumerate(ports):
        here = f"{place}[{number}]"
        for field in ("port", "nodePort"):
            value = port.get(field)
            if (field == "port" or value) and not (isinstance(value, int) and 1 <= value <= 65535):
                yield Problem(f"{here}.{field}", f"must be a port number from 1 to 65535, not {value!r}")
        protocol = port.get("protocol", "TCP")
        if protocol not in PROTOCOLS:
            yield Problem(f"{here}.protocol", f"must be TCP, UDP or SCTP, not {protocol!r}")
        key = (str(protocol), port.get("port"))
        if key in seen:
            yield Problem(here, f"is the same port as {seen[key]}: {key[1]}/{key[0]}", "A port may stand there once")
        seen.setdefault(key, here)
        name = port.get("name") or ""
        yield from _word(name, f"{here}.name")
        if len(ports) > 1 and not name:
            yield Problem(f"{here}.name", "is missing: a Service with several ports names each of them")
        elif name in named:
            yield Problem(f"{here}.name", f"{name!r} is already the name of {named[name]}")
        named.setdefault(name, here)


def _repeated(services: Mapping[int, Object]) -> Iterable[Problem]:
    known: dict[str, str] = {}
    addresses: dict[str, str] = {}
    ports: dict[tuple[str, Any], str] = {}
    for number, service in services.items():
        metadata, spec = service.get("metadata") or {}, service.get("spec") or {}
        key = f"{metadata.get('namespace') or 'default'}/{metadata.get('name')}"
        if key in known:
            yield Problem(f"services[{number}].metadata.name", f"{key} stands there twice, first as {known[key]}")
        known.setdefault(key, f"services[{number}]")
        address = spec.get("clusterIP")
        if address and address != "None" and spec.get("type") != "ExternalName":
            if address in addresses:
                message = f"{address} is taken by {addresses[address]}"
                yield Problem(f"services[{number}].spec.clusterIP", message, "Give each Service an address of its own")
            addresses.setdefault(address, key)
        for index, port in enumerate(spec.get("ports") or ()):
            mark = (port.get("protocol", "TCP"), port.get("nodePort"))
            if mark[1] and mark in ports:
                message = f"{mark[1]}/{mark[0]} is taken by {ports[mark]}"
                yield Problem(f"services[{number}].spec.ports[{index}].nodePort", message, "Give each its own")
            ports.setdefault(mark, key)


def _slice(item: Object, place: str) -> Iterable[Problem]:
    if not ((item.get("metadata") or {}).get("labels") or {}).get(SERVICE_NAME_LABEL):
        yield Problem(f"{place}.metadata.labels", f"lacks {SERVICE_NAME_LABEL}: the Service that it belongs to")
    wanted = {"IPv4": "ipv4", "IPv6": "ipv6"}.get(item.get("addressType", "IPv4"))
    for number, endpoint in enumerate(item.get("endpoints") or ()):
        here = f"{place}.endpoints[{number}].addresses"
        if not endpoint.get("addresses"):
            yield Problem(here, "is empty: an endpoint needs an address")
            continue
        first = endpoint["addresses"][0]
        if wanted:
            problems = list(_address(first, f"{here}[0]", clean_ip))
            yield from problems
            if not problems and family_of(first) != wanted:
                yield Problem(f"{here}[0]", f"must be an {item.get('addressType', 'IPv4')} address, not {first!r}")


def _pod(item: Mapping[str, Any], place: str) -> Iterable[Problem]:
    pod = item.get("pod")
    if not isinstance(pod, Mapping) or not _name(pod):
        yield Problem(f"{place}.pod.metadata.name", "is missing: each entry is {pod: a v1 Pod, status: its PodStatus}")
    status = item.get("status") or {}
    if status.get("podIP"):
        yield from _address(status["podIP"], f"{place}.status.podIP", clean_ip)
    for number, entry in enumerate(status.get("podIPs") or ()):
        yield from _address(entry.get("ip"), f"{place}.status.podIPs[{number}].ip", clean_ip)
