"""The Services, EndpointSlices and module options of support.service_rows, and the answers in its words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from podlab.kube.proxy_model import SERVICE_NAME_LABEL
from podlab.service_plan import ServicePlan
from podlab.service_request import request as service_request
from support.service_option_rows import EVERY_KIND
from support.service_rows import BALANCER, CLUSTER_IP, EXTERNAL, LOCALHOST, NO_ZONES, NODE_PORT, POD, Kind
from support.service_topology import ADDRESSES, NODES, POD_CIDR, POD_SUBNET

ZONES = {"node-a": "zone-a", "node-b": "zone-b"}
_SUBNETS = {
    "ipv4": {CLUSTER_IP: "10.96.0.{}", EXTERNAL: "192.0.2.{}", BALANCER: "203.0.113.{}", LOCALHOST: "127.0.0.1"},
    "ipv6": {CLUSTER_IP: "fd00:10:96::{}", EXTERNAL: "2001:db8:1::{}", BALANCER: "2001:db8:2::{}", LOCALHOST: "::1"},
}
# Addresses of endpoints that no pod has, for "999 unready".
_UNUSED = {"ipv4": "10.244.{}.{}", "ipv6": "fd00:10:244:{}::{}"}


_NUMBERS = {kind.name: number for number, kind in enumerate(EVERY_KIND)}


def _number(kind: Kind) -> int:
    """What its addresses end with; a kind of a test's own has the name of one of EVERY_KIND."""
    return _NUMBERS[kind.name]


def variations() -> list[list[Kind]]:
    """The kinds by what they need of kube-proxy and of the lab."""
    found: list[list[Kind]] = []
    for kind in EVERY_KIND:
        needs = kind.proxy, kind.setting
        same = next((kinds for kinds in found if (kinds[0].proxy, kinds[0].setting) == needs), None)
        if same is None:
            found.append(same := [])
        same.append(kind)
    return found


def address(kind: Kind, target: str, family: str) -> tuple[str, int, str]:
    """Address, port and protocol of a row's target."""
    where, _, name = target.partition(":")
    ports = kind.ports
    index = next((number for number, port in enumerate(ports) if port.get("name") == name), 0) if name else 0
    port = ports[index]
    number = int(name) if name.isdigit() else port["port"]
    if where.startswith(NODE_PORT):
        number = _node_port(kind, index)
    elif where.startswith(POD):
        number = port["targetPort"]
    place = where.removeprefix(f"{NODE_PORT} ").removeprefix(f"{POD} ")
    known = ADDRESSES[family]
    ip = known[place] if place in known else _SUBNETS[family][where].format(10 + _number(kind))
    return ip, number, port.get("protocol", "TCP")


def _node_port(kind: Kind, index: int) -> int:
    return 30000 + 10 * _number(kind) + index


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return value.format_map(words) if value.startswith("{") else value
    if isinstance(value, list):
        return [_filled(one, words) for one in value]
    if isinstance(value, Mapping):
        return {key: _filled(one, words) for key, one in value.items()}
    return value


def _words(kind: Kind, family: str, cidrs: Mapping[str, str]) -> dict[str, str]:
    bits = 32 if family == "ipv4" else 128
    places = {place: f"{ADDRESSES[family][place]}/{bits}" for place in (*NODES, "client")}
    return {**places, "external": address(kind, EXTERNAL, family)[0], **cidrs}


def service(kind: Kind, family: str) -> dict[str, Any]:
    """The v1 Service of a kind."""
    own = _filled(kind.spec, _words(kind, family, {}))
    outside = own.get("type", "ClusterIP") != "ClusterIP"
    ports = [
        {"protocol": "TCP", **port, **({"nodePort": _node_port(kind, index)} if outside else {})}
        for index, port in enumerate(kind.ports)
    ]
    made: dict[str, Any] = {
        "metadata": {"name": service_name(kind), "namespace": "default"},
        "spec": {"clusterIP": address(kind, CLUSTER_IP, family)[0], "ports": ports, **own},
    }
    if own.get("type") == "LoadBalancer":
        made["status"] = {"loadBalancer": {"ingress": [{"ip": address(kind, BALANCER, family)[0]}]}}
    return made


def service_name(kind: Kind) -> str:
    """Name of the Service of a kind."""
    return f"kind{_number(kind)}"


def endpoint_slice(kind: Kind, family: str) -> dict[str, Any]:
    """The EndpointSlice of a kind."""
    return {
        "metadata": {
            "name": f"{service_name(kind)}-x",
            "namespace": "default",
            "labels": {SERVICE_NAME_LABEL: service_name(kind)},
        },
        "addressType": family.replace("ip", "IP"),
        "endpoints": [made for words in kind.endpoints for made in _endpoints(words, family)],
        "ports": [
            {"name": port.get("name", ""), "port": port["targetPort"], "protocol": port.get("protocol", "TCP")}
            for port in kind.ports
        ],
    }


_CONDITIONS = {
    "unready": {"ready": False, "serving": False, "terminating": False},
    "terminating": {"ready": False, "serving": True, "terminating": True},
    "gone": {"ready": False, "serving": False, "terminating": True},
}


def _endpoints(words: str, family: str) -> Iterator[dict[str, Any]]:
    """An endpoint from "a1", "a1 unready", "a1 zone-b" or "a1 for-node-b"; so many with no pod from "999 unready"."""
    place, _, word = words.partition(" ")
    if place.isdigit():
        for number in range(int(place)):
            address = _UNUSED[family].format(100 + number // 250, 1 + number % 250)
            yield {"addresses": [address], "nodeName": "node-b", "conditions": _CONDITIONS[word]}
    else:
        yield _endpoint(place, word, family)


def _endpoint(place: str, word: str, family: str) -> dict[str, Any]:
    node = place if place in NODES else next(node for node, pods in NODES.items() if place in pods)
    made: dict[str, Any] = {
        "addresses": [ADDRESSES[family][place]],
        "nodeName": node,
        "conditions": _CONDITIONS.get(word, {"ready": True}),
    }
    if word.startswith("zone-"):
        made["zone"], made["hints"] = ZONES[node], {"forZones": [{"name": word}]}
    if word.startswith("for-"):
        made["hints"] = {"forNodes": [{"name": word.removeprefix("for-")}]}
    return made


def module_args(
    kinds: Iterable[Kind], family: str, mode: str = "iptables", backend: str = "", **more: Any
) -> dict[str, Any]:
    """Options of podlab_service for these kinds, which need the same of kube-proxy and of the lab."""
    kinds = list(kinds)
    zones = {} if kinds and kinds[0].setting == NO_ZONES else ZONES
    cidrs = {f"cidr of {node}": cidr for node, cidr in POD_CIDR[family].items()}
    proxy = _filled(kinds[0].proxy, _words(kinds[0], family, cidrs)) if kinds else {}
    cluster = {
        "name": family,
        "pod_subnet": POD_SUBNET[family],
        "ip_family": family,
        "kube_proxy_mode": mode,
        "nodes": [
            {"name": node, "address": ADDRESSES[family][node], "labels": _labels(zones.get(node))} for node in NODES
        ],
    }
    return {
        "cluster": cluster,
        "nodes": [{"name": node, "netns": node} for node in NODES],
        "services": [service(kind, family) for kind in kinds],
        "endpoint_slices": [endpoint_slice(kind, family) for kind in kinds],
        "proxy": {**proxy, **({"backend": backend} if backend else {})},
        **more,
    }


def program_without_detector(args: Mapping[str, Any]) -> None:
    """What podlab_service would do with these options if it had one for no local detector: a lab always has one."""
    asked = service_request({"pods": [], "dns_dir": None, "state_file": None, "state": "present", **args})
    plan = ServicePlan(asked._replace(options=asked.options._replace(local="", not_local="")), check_mode=False)
    plan.apply_all(plan.items())


def _labels(zone: str | None) -> dict[str, str]:
    return {"topology.kubernetes.io/zone": zone} if zone else {}


def name_of(seen: str, asker: str, family: str) -> str:
    """Whose address a server saw: the asker's own is "itself", a node's is its name, whichever of them it is."""
    places = ADDRESSES[family]
    found = next((place for place, known in places.items() if known == seen), seen).removeprefix("gateway of ")
    return "itself" if found == asker else found


def summed_up(answers: Iterable[tuple[str, str]], sticky: bool = False) -> str:
    """One text for the answers (who, seen) to the same request asked several times."""
    found: dict[str, set[str]] = {}
    for who, seen in answers:
        found.setdefault(seen, set()).add(who)
    parts = []
    for seen, who in sorted(found.items()):
        names = "always the same" if sticky and len(who) == 1 else " or ".join(sorted(who))
        parts.append(f"{names} (from {seen})" if seen else names)
    return ", ".join(parts)
