"""Two nodes with pods behind them and two machines outside, on one bridge, as podlab_topology's options. Dual stack."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
NODES = {"node-a": ("a1", "a2", "a3", "a4"), "node-b": ("b1", "b2", "b3")}
OUTSIDE = ("client", "stranger")
PODS = tuple(pod for pods in NODES.values() for pod in pods)

POD_SUBNET = {"ipv4": "10.244.0.0/16", "ipv6": "fd00:10:244::/56"}
POD_CIDR = {
    "ipv4": {"node-a": "10.244.0.0/24", "node-b": "10.244.1.0/24"},
    "ipv6": {"node-a": "fd00:10:244::/64", "node-b": "fd00:10:244:1::/64"},
}
# Addresses of Services, which the outside reaches through node-a: cluster, external, load balancer.
SERVICE_SUBNETS = {
    "ipv4": ("10.96.0.0/16", "192.0.2.0/24", "203.0.113.0/24"),
    "ipv6": ("fd00:10:96::/112", "2001:db8:1::/64", "2001:db8:2::/64"),
}
_OUTER = {"ipv4": "172.18.0.{}", "ipv6": "fc00:f853:ccd:e793::{}"}
_OUTER_BITS = {"ipv4": 16, "ipv6": 64}
_WHOLE = {"ipv4": 32, "ipv6": 128}
_DEFAULT = {"ipv4": "default", "ipv6": "::/0"}


def _addresses(family: str) -> dict[str, str]:
    """place -> address. A gateway of pods has the number 1 of the node's pod CIDR, its pods follow."""
    outer, pods = _OUTER[family], POD_CIDR[family]
    found = {place: outer.format(number) for place, number in zip((*NODES, *OUTSIDE), ("2", "3", "9", "201"))}
    found["nowhere"] = outer.format(1)
    for node, own in NODES.items():
        prefix = pods[node].partition("/")[0].removesuffix("0") if family == "ipv4" else pods[node].partition("/")[0]
        found[f"gateway of {node}"] = f"{prefix}1"
        found.update((pod, f"{prefix}{2 + number}") for number, pod in enumerate(own))
    return found


ADDRESSES = {family: _addresses(family) for family in FAMILIES}


def topology() -> dict[str, Any]:
    """The whole network. The veth of a node's n-th pod is called podn."""
    sysctls = {"net.ipv6.conf.all.accept_dad": "0", "net.ipv6.conf.default.accept_dad": "0"}
    node_sysctls = {
        **sysctls,
        "net.ipv4.ip_forward": "1",
        "net.ipv6.conf.all.forwarding": "1",
        # Every refusal is told, also the hundredth within a second: no type of message counts for the limits.
        "net.ipv4.icmp_ratemask": "0",
        "net.ipv6.icmp.ratemask": "0",
    }
    bridge = {"name": "br0", "netns": "network", "kind": "bridge", "up": True, "bridge": {"mcast_snooping": False}}
    return {
        "namespaces": [
            # Drops what a node sends away by default: its bridge has that address, and it forwards nothing.
            {"name": "network", "loopback": True, "sysctls": {**sysctls, "net.ipv4.ip_forward": "0"}},
            *({"name": node, "loopback": True, "sysctls": node_sysctls} for node in NODES),
            *({"name": name, "loopback": True, "sysctls": sysctls} for name in (*OUTSIDE, *PODS)),
        ],
        "links": [
            {**bridge, "addresses": _own("nowhere", _OUTER_BITS)},
            *(_outer_link(place, f"port{number}") for number, place in enumerate((*NODES, *OUTSIDE))),
            *(
                _pod_link(node, pod, f"pod{number}")
                for node, pods in NODES.items()
                for number, pod in enumerate(pods, 1)
            ),
        ],
        "routes": [
            {"netns": "network", "dst": "::/0", "type": "blackhole"},
            *(route for family in FAMILIES for route in _routes(family)),
        ],
    }


def _own(place: str, bits: dict[str, int]) -> list[str]:
    return [f"{ADDRESSES[family][place]}/{bits[family]}" for family in FAMILIES]


def _outer_link(place: str, port: str) -> dict[str, Any]:
    peer = {"name": "eth0", "netns": place, "up": True, "addresses": _own(place, _OUTER_BITS)}
    return {"name": port, "netns": "network", "kind": "veth", "master": "br0", "up": True, "peer": peer}


def _pod_link(node: str, pod: str, name: str) -> dict[str, Any]:
    peer = {"name": "eth0", "netns": pod, "up": True, "addresses": _own(pod, _WHOLE)}
    own = _own(f"gateway of {node}", _WHOLE)
    return {"name": name, "netns": node, "kind": "veth", "up": True, "addresses": own, "peer": peer}


def _routes(family: str) -> Iterator[dict[str, Any]]:
    places = ADDRESSES[family]
    for node, pods in NODES.items():
        gateway = places[f"gateway of {node}"]
        yield {"netns": node, "dst": _DEFAULT[family], "via": places["nowhere"], "dev": "eth0"}
        for number, pod in enumerate(pods, 1):
            yield {"netns": node, "dst": places[pod], "dev": f"pod{number}", "scope": "link"}
            yield {"netns": pod, "dst": gateway, "dev": "eth0", "scope": "link"}
            yield {"netns": pod, "dst": _DEFAULT[family], "via": gateway, "dev": "eth0"}
        for other in (*NODES, *OUTSIDE):
            if other != node:
                yield {"netns": other, "dst": POD_CIDR[family][node], "via": places[node], "dev": "eth0"}
    for subnet in SERVICE_SUBNETS[family]:
        for outside in OUTSIDE:
            yield {"netns": outside, "dst": subnet, "via": places["node-a"], "dev": "eth0"}
