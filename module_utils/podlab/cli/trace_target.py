"""What `trace` is to reach: a Service's port by the words a person uses, or an address. Pure: the lab's state in."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import PodlabError
from .objects import DEFAULT_NAMESPACE

PROTOCOLS = ("tcp", "udp", "sctp")
SERVICE_WORDS = ("service", "services", "svc")
SERVICE_NAME = "kubernetes.io/service-name"
_USE = "SERVICE[:PORT] or ADDRESS:PORT"


class Endpoint(NamedTuple):
    """One endpoint of a Service port. pod: its name, "" when it is none."""

    address: str
    port: int
    node: str
    pod: str
    ready: bool


class Target(NamedTuple):
    """Where the packet is sent. service: namespace/name, "" for a bare address; port_name: "" for an unnamed port."""

    service: str
    port_name: str
    address: str
    port: int
    protocol: str
    endpoints: tuple[Endpoint, ...]


def find(state: Mapping[str, Any], text: str, namespace: str = DEFAULT_NAMESPACE) -> Target:
    """The target that the text names.

    text: SERVICE, ns/SERVICE or SERVICE.ns, with :PORT (number or name) when it has several; or ADDRESS:PORT. A number
        that two protocols share takes /udp, /tcp or /sctp behind it.
    namespace: of a Service named without one. Raises PodlabError that says what there is instead.
    """
    if "://" in text:
        raise PodlabError(f"{text}: is a URL. Write SERVICE[:PORT] or ADDRESS:PORT")
    place, _, port = text.partition(":")
    port, _, protocol = port.partition("/")
    protocol = protocol.lower()
    if protocol and protocol not in PROTOCOLS:
        raise PodlabError(f"{text}: the protocol must be one of {', '.join(PROTOCOLS)}, not {protocol!r}")
    if _is_address(place):
        return _address(state, text, place, port, protocol or "tcp")
    service = _service(state, place, namespace)
    return _service_port(state, service, text, port, protocol)


def _is_address(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _address(state: Mapping[str, Any], text: str, address: str, port: str, protocol: str) -> Target:
    """An address and port, which may be those of a Service all the same: then its endpoints are known, too."""
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise PodlabError(f"{text}: an address needs a port between 1 and 65535: {address}:80")
    wanted = int(port), protocol
    for service in state["services"]["services"]:
        for entry in service["spec"].get("ports") or ():
            own = _number_and_protocol(entry)
            at_node = (entry.get("nodePort"), own[1]) == wanted
            if (own == wanted and address in _addresses(service)) or (at_node and address in _nodes(state)):
                found = tuple(_endpoints(state, service, entry))
                return Target(_full(service), entry.get("name") or "", address, int(port), protocol, found)
    return Target("", "", address, int(port), protocol, ())


def _addresses(service: Mapping[str, Any]) -> list[str]:
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return [
        service["spec"].get("clusterIP", ""),
        *(service["spec"].get("externalIPs") or ()),
        *(entry.get("ip", "") for entry in ingress),
    ]


def _nodes(state: Mapping[str, Any]) -> list[str]:
    return [node["address"] for node in state["nodes"]]


def _service(state: Mapping[str, Any], word: str, namespace: str) -> Mapping[str, Any]:
    kind, slash, name = word.rpartition("/")
    if slash and kind not in SERVICE_WORDS:
        namespace = kind
    elif "." in name:
        name, namespace = name.split(".")[:2]
    there: dict[str, Mapping[str, Any]] = {_full(service): service for service in state["services"]["services"]}
    if f"{namespace}/{name}" not in there:
        every = ", ".join(sorted(there)) or "none"
        raise PodlabError(f'services "{name}" not found in namespace {namespace}. The lab has: {every}. Use {_USE}')
    return there[f"{namespace}/{name}"]


def _service_port(state: Mapping[str, Any], service: Mapping[str, Any], text: str, port: str, protocol: str) -> Target:
    spec, name = service["spec"], _full(service)
    if spec.get("type") == "ExternalName":
        raise PodlabError(
            f"{name} is an ExternalName: DNS answers with the name {spec.get('externalName')}. It has no address, and "
            f"no rule is ever hit"
        )
    if spec.get("clusterIP") in ("", None, "None"):
        known = sorted(
            {end.address for entry in spec.get("ports") or [{}] for end in _endpoints(state, service, entry)}
        )
        raise PodlabError(
            f"{name} is headless: it has no address and no rules; DNS answers with its endpoints' addresses: "
            f"{', '.join(known) or 'none now'}. Trace one of them: ADDRESS:PORT"
        )
    fitting = [
        entry
        for entry in spec.get("ports") or ()
        if (not port or port in (str(entry["port"]), entry.get("name")))
        and protocol in ("", _number_and_protocol(entry)[1])
    ]
    if len(fitting) != 1:
        every = ", ".join(_port_text(entry) for entry in spec.get("ports") or ())
        if not fitting:
            raise PodlabError(f"{text}: Service {name} has no such port. It has: {every}")
        raise PodlabError(f"{text}: Service {name} has several ports: {every}. Say which: {_example(service, fitting)}")
    [entry] = fitting
    number, own = _number_and_protocol(entry)
    found = tuple(_endpoints(state, service, entry))
    return Target(name, entry.get("name") or "", spec["clusterIP"], number, own, found)


def _example(service: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> str:
    return f"{service['metadata']['name']}:{entries[0].get('name') or entries[0]['port']}"


def _port_text(entry: Mapping[str, Any]) -> str:
    number = f"{entry['port']}/{entry.get('protocol') or 'TCP'}"
    return f"{entry['name']} ({number})" if entry.get("name") else number


def _number_and_protocol(entry: Mapping[str, Any]) -> tuple[int, str]:
    return entry["port"], (entry.get("protocol") or "TCP").lower()


def _full(service: Mapping[str, Any]) -> str:
    return f"{service['metadata'].get('namespace', DEFAULT_NAMESPACE)}/{service['metadata']['name']}"


def _endpoints(state: Mapping[str, Any], service: Mapping[str, Any], entry: Mapping[str, Any]) -> Iterator[Endpoint]:
    """The endpoints of one port, as the EndpointSlices have them."""
    metadata = service["metadata"]
    for item in state["services"]["endpointslices"]:
        own = item["metadata"]
        if (own.get("namespace"), (own.get("labels") or {}).get(SERVICE_NAME)) != (
            metadata.get("namespace"),
            metadata["name"],
        ):
            continue
        ports = [
            port["port"]
            for port in item.get("ports") or ()
            if port.get("port") and (port.get("name") or "") == (entry.get("name") or "")
        ]
        for end in item.get("endpoints") or ():
            ready = (end.get("conditions") or {}).get("ready") is not False
            pod = (end.get("targetRef") or {}).get("name", "")
            for port in ports:
                yield Endpoint(end["addresses"][0], port, end.get("nodeName") or "", pod, ready)
