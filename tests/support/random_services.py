"""Random Services, EndpointSlices and options of both families, for property tests: everything that rules depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st

from podlab.kube.proxy_chains import Options, detector
from podlab.kube.proxy_model import ProxyNode

from .services import endpoint_slice, service

NODES = {
    "ipv4": ProxyNode("node-a", ("172.18.0.2", "203.0.113.9"), "zone-a"),
    "ipv6": ProxyNode("node-a", ("fc00:f853::2",), "zone-a"),
}
_READY, _DRAINING = {"ready": True}, {"ready": False, "serving": True, "terminating": True}
# The usual ones more often than those that nobody has.
_CONDITIONS = [
    {},
    _READY,
    _READY,
    _READY,
    _DRAINING,
    _DRAINING,
    {"ready": False},
    {"ready": False, "serving": None, "terminating": True},
    {"ready": False, "serving": False, "terminating": True},
    {"ready": None, "serving": True, "terminating": True},
]


class Family(NamedTuple):
    """Addresses to take at random."""

    name: str
    cluster: str
    pods: Sequence[str]
    externals: Sequence[str]
    vips: Sequence[str]
    ranges: Sequence[str]
    pod_cidr: str
    node_ranges: Sequence[str]


FAMILIES = {
    "ipv4": Family(
        "IPv4",
        "10.96.0.{}",
        [f"10.244.{n % 3}.{n}" for n in (1, 2, 10, 11, 100, 101, 200)],
        ["192.0.2.1", "192.0.2.2"],
        ["198.51.100.7", "198.51.100.8"],
        ["203.0.113.0/24", "172.18.0.0/16", "0.0.0.0/0", "10.1.2.3/8", "fd00::/8"],
        "10.244.0.0/16",
        ["172.18.0.0/16", "203.0.113.9/32", "127.0.0.0/8", "0.0.0.0/0", "10.0.0.0/8"],
    ),
    "ipv6": Family(
        "IPv6",
        "fd00:10:96::{}",
        [f"fd00:10:244:{n % 3}::{n:x}" for n in (1, 2, 10, 11, 100, 101, 200)],
        ["2001:db8::1", "2001:db8::2"],
        ["2001:db8:1::7", "2001:db8:1::8"],
        ["2001:db8:2::/64", "fc00:f853::/64", "::/0", "10.0.0.0/8"],
        "fd00:10:244::/56",
        ["fc00:f853::/64", "::1/128", "::/0", "10.0.0.0/8"],
    ),
}


@st.composite
def options(draw: st.DrawFn, family: str, counters: Sequence[str] = ()) -> Options:
    """Any configuration. counters: nfacct objects that there are."""
    own = FAMILIES[family]
    mode, value = draw(
        st.sampled_from(
            [("", ""), ("ClusterCIDR", own.pod_cidr), ("BridgeInterface", "cbr0"), ("InterfaceNamePrefix", "veth")]
        )
    )
    local, not_local = detector(mode, value)
    return Options(
        family=family,
        local=local,
        not_local=not_local,
        masquerade_all=draw(st.booleans()),
        masquerade_bit=draw(st.sampled_from([14, 0, 31])),
        nodeport_addresses=tuple(draw(_some(own.node_ranges))),
        localhost_nodeports=draw(st.booleans()),
        random_fully=draw(st.booleans()),
        counters=tuple(counters) if draw(st.booleans()) else (),
        tcp_be_liberal=draw(st.booleans()),
    )


def _some(values: Sequence[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), unique=True, max_size=2)


def _endpoints(own: Family) -> st.SearchStrategy[list[dict[str, Any]]]:
    hint = st.sampled_from([[], [{"name": "zone-a"}], [{"name": "zone-b"}]])
    node_hint = st.sampled_from([[], [{"name": "node-a"}], [{"name": "node-b"}]])
    some = st.lists(
        st.fixed_dictionaries(
            {
                "addresses": st.sampled_from(own.pods).map(lambda address: [address]),
                "conditions": st.sampled_from(_CONDITIONS),
                "nodeName": st.sampled_from(["node-a", "node-b", None]),
            },
            optional={"hints": st.fixed_dictionaries({"forZones": hint, "forNodes": node_hint})},
        ),
        min_size=1,
        max_size=7,
    )
    return st.one_of(some, some, st.just([]))


def _specs(own: Family) -> st.SearchStrategy[dict[str, Any]]:
    timeout = st.sampled_from([1, 60, 86400])
    return st.fixed_dictionaries(
        {"type": st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"])},
        optional={
            "internalTrafficPolicy": st.sampled_from(["Local", "Cluster"]),
            "externalTrafficPolicy": st.sampled_from(["Local", "Cluster"]),
            "sessionAffinity": st.sampled_from(["ClientIP", "None"]),
            "sessionAffinityConfig": timeout.map(lambda seconds: {"clientIP": {"timeoutSeconds": seconds}}),
            "externalIPs": _some(own.externals),
            "loadBalancerSourceRanges": _some(own.ranges),
            "healthCheckNodePort": st.just(31000),
        },
    )


@st.composite
def _ports(draw: st.DrawFn, number: int) -> list[dict[str, Any]]:
    """One unnamed port, or several with names; NodePorts are the Service's own."""
    count = draw(st.integers(1, 3))
    return [
        {
            "name": draw(st.sampled_from([f"p{place}", f"port-{place}"]))
            if count > 1
            else draw(st.sampled_from(["", "p"])),
            "port": 80 + place,
            "protocol": draw(st.sampled_from(["TCP", "UDP", "SCTP"])),
            "nodePort": draw(st.sampled_from([0, 30000 + 10 * number + place])),
        }
        for place in range(count)
    ]


@st.composite
def labs(draw: st.DrawFn, family: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Services of every kind and their EndpointSlices, one to three slices for each Service."""
    own = FAMILIES[family]
    services, slices = [], []
    for number in range(draw(st.integers(1, 6))):
        ports = draw(_ports(number))
        ingress = [
            {"ip": vip, **draw(st.sampled_from([{}, {"ipMode": "VIP"}, {"ipMode": "Proxy"}]))}
            for vip in draw(_some(own.vips))
        ]
        name, spec = f"s{number}", draw(_specs(own))
        status = {"loadBalancer": {"ingress": ingress}} if spec["type"] == "LoadBalancer" else None
        services.append(service(name, own.cluster.format(number + 1), ports, status=status, **spec))
        slices += [
            endpoint_slice(draw(_endpoints(own)), _targets(ports), name, family=own.name)
            for _ in range(draw(st.integers(0, 2)))
        ]
    return services, slices


def _targets(ports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"name": port["name"], "port": 8000 + port["port"], "protocol": port["protocol"]} for port in ports]
