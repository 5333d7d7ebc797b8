"""Which tracked UDP connections have to be forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.kube.proxy_conntrack import Flow, astray, combined, target, udp_serving
from support.services import draining, endpoint, endpoint_slice, service

VIP, GONE = "10.96.0.10", "10.244.1.9"
DNS = [{"name": "dns", "port": 53, "targetPort": 5353, "nodePort": 30053, "protocol": "UDP"}]
DNS_SLICE = [{"name": "dns", "port": 5353, "protocol": "UDP"}]
NODE = {"172.18.0.2", "10.244.1.1", "127.0.0.1"}


def serving(*endpoints: dict[str, Any], **spec: Any) -> Any:
    services = [service("dns", VIP, DNS, **spec), service("web", "10.96.0.20", [{"port": 53}])]
    slices = [endpoint_slice(list(endpoints), DNS_SLICE, "dns"), endpoint_slice([endpoint("10.244.1.7")])]
    return udp_serving(services, slices, "ipv4")


def test_every_address_of_a_udp_service_and_none_of_others() -> None:
    outside = {"externalIPs": ["192.0.2.1"], "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}}
    found = serving(endpoint("10.244.1.2"), **outside)
    assert found == dict.fromkeys(
        [(VIP, 53), ("192.0.2.1", 53), ("203.0.113.1", 53), ("", 30053)], frozenset({"10.244.1.2:5353"})
    )


@pytest.mark.parametrize(
    ("made", "serves"),
    [
        (endpoint("10.244.1.2"), True),
        (draining("10.244.1.2"), True),
        (endpoint("10.244.1.2", ready=False), False),
        (endpoint("10.244.1.2", ready=False, serving=False, terminating=True), False),
    ],
)
def test_who_serves(made: dict[str, Any], serves: bool) -> None:
    assert bool(serving(made)[VIP, 53]) is serves


STALE = f"{GONE}:5353 no longer serves {VIP}:53"


@pytest.mark.parametrize(
    ("flow", "why"),
    [
        (Flow(VIP, 53, f"{GONE}:5353"), STALE),
        (Flow(VIP, 53, "10.244.1.2:5353"), ""),
        (Flow(VIP, 53, "10.244.1.2:53"), f"10.244.1.2:53 no longer serves {VIP}:53"),
        (Flow(VIP, 53, f"{VIP}:53"), f"went past the rules of {VIP}:53"),
        (Flow(VIP, 54, f"{GONE}:5353"), ""),
        (Flow("172.18.0.2", 30053, f"{GONE}:5353"), f"{GONE}:5353 no longer serves 172.18.0.2:30053"),
        (Flow("172.18.0.2", 30053, "172.18.0.2:30053"), "went past the rules of 172.18.0.2:30053"),
        (Flow("127.0.0.1", 30053, "10.244.1.2:5353"), ""),
        # Somebody else's port of the same number, which this node only forwards.
        (Flow("192.0.2.77", 30053, "192.0.2.77:30053"), ""),
        (Flow("10.244.1.2", 5353, "10.244.1.2:5353"), ""),
        (Flow("10.96.0.20", 53, f"{GONE}:80"), ""),
    ],
)
def test_what_leads_astray(flow: Flow, why: str) -> None:
    assert astray(flow, serving(endpoint("10.244.1.2")), NODE) == why


def test_of_a_service_without_endpoints_or_gone_nothing_stays() -> None:
    before = serving(endpoint("10.244.1.2"))
    flow = Flow(VIP, 53, "10.244.1.2:5353")
    assert astray(flow, serving(), NODE) == astray(flow, combined(before, {}), NODE) != ""
    assert astray(flow, combined(before, before), NODE) == ""


def test_ipv6() -> None:
    services = [service("dns", "fd00::10", DNS)]
    slices = [endpoint_slice([endpoint("fd00::2")], DNS_SLICE, "dns", family="IPv6")]
    found = udp_serving(services, slices, "ipv6")
    assert found["fd00::10", 53] == {"[fd00::2]:5353"}
    assert astray(Flow("fd00::10", 53, target("fd00::10", 53)), found, ()) == "went past the rules of [fd00::10]:53"
    assert udp_serving(services, slices, "ipv4") == {}
