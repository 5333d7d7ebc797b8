"""Random Services with endpoints, for property tests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from .services import draining, endpoint, endpoint_slice, service

_ADDRESSES = st.builds("10.244.{}.{}".format, st.integers(0, 3), st.integers(1, 254))
_ENDPOINTS = st.lists(
    st.builds(
        lambda make, address, node: make(address, node),
        st.sampled_from([endpoint, draining, lambda address, node: endpoint(address, node, ready=False)]),
        _ADDRESSES,
        st.sampled_from(["node-a", "node-b"]),
    ),
    max_size=6,
)
_SPECS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"]),
        "internalTrafficPolicy": st.sampled_from(["Local", "Cluster"]),
        "externalTrafficPolicy": st.sampled_from(["Local", "Cluster"]),
        "sessionAffinity": st.sampled_from(["ClientIP", "None"]),
        "externalIPs": st.lists(st.sampled_from(["192.0.2.1", "192.0.2.2"]), unique=True),
        "loadBalancerSourceRanges": st.lists(st.sampled_from(["203.0.113.0/24", "172.18.0.0/16", "0.0.0.0/0"])),
    },
)
_PORTS = st.sampled_from(
    [
        [{"port": 80}],
        [{"port": 80, "nodePort": 30080}],
        [{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 80, "protocol": "UDP"}],
        [{"name": "s", "port": 7, "protocol": "SCTP"}],
    ]
)
_STATUS = st.sampled_from([None, {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}]}}])


@st.composite
def labs(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Services of every kind and their EndpointSlices."""
    services, slices = [], []
    for number in range(draw(st.integers(0, 4))):
        ports = draw(_PORTS)
        name = f"s{number}"
        services.append(service(name, f"10.96.0.{number + 1}", ports, status=draw(_STATUS), **draw(_SPECS)))
        own = [
            {"name": port.get("name", ""), "port": port["port"], "protocol": port.get("protocol", "TCP")}
            for port in ports
        ]
        slices.append(endpoint_slice(draw(_ENDPOINTS), own, name))
    return services, slices
