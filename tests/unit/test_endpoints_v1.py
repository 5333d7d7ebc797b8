"""v1 Endpoints from EndpointSlices."""

from __future__ import annotations

from podlab.kube.endpoints_v1 import endpoints
from support.services import draining, endpoint, endpoint_slice


def addresses(*slices: dict) -> list[list[tuple[list[str], list[str]]]]:
    return [
        [
            tuple([entry["ip"] for entry in subset.get(key, [])] for key in ("addresses", "notReadyAddresses"))
            for subset in item["subsets"]
        ]
        for item in endpoints(slices)
    ]


def test_addresses_are_in_the_order_of_their_text_and_slices_of_the_same_ports_are_one_subset() -> None:
    first = endpoint_slice([endpoint("10.244.2.9"), endpoint("10.244.1.2")])
    second = endpoint_slice([endpoint("10.244.1.10"), endpoint("10.244.1.3", ready=False)])
    other = endpoint_slice([endpoint("10.244.1.2")], [{"name": "", "port": 81, "protocol": "TCP"}])
    assert addresses(first, second, other) == [
        [(["10.244.1.10", "10.244.1.2", "10.244.2.9"], ["10.244.1.3"]), (["10.244.1.2"], [])]
    ]


def test_a_port_without_a_number_is_none() -> None:
    (item,) = endpoints([endpoint_slice([endpoint("10.244.1.2")], [{"name": "a"}, {"name": "b", "port": 80}])])
    assert item["subsets"][0]["ports"] == [{"name": "b", "port": 80}]


def test_ports_without_a_name_have_none() -> None:
    (item,) = endpoints([endpoint_slice([endpoint("10.244.1.2")])])
    assert item["subsets"][0]["ports"] == [{"port": 80, "protocol": "TCP"}]


def test_pods_on_their_way_out_are_in_none_unless_published() -> None:
    published = endpoint("10.244.1.3", ready=True, serving=True, terminating=True)
    assert addresses(endpoint_slice([draining("10.244.1.2")])) == [[]]
    assert addresses(endpoint_slice([draining("10.244.1.2"), published])) == [[(["10.244.1.3"], [])]]


def test_each_service_has_its_own_and_what_an_address_tells_stays() -> None:
    entry = {**endpoint("10.244.1.2", "node-a"), "hostname": "db-0", "targetRef": {"kind": "Pod", "name": "db-0"}}
    web, db = endpoints([endpoint_slice([]), endpoint_slice([entry], name="db")])
    assert (web["metadata"]["name"], web["subsets"]) == ("web", [])
    assert db["subsets"][0]["addresses"] == [
        {"ip": "10.244.1.2", "nodeName": "node-a", "hostname": "db-0", "targetRef": {"kind": "Pod", "name": "db-0"}}
    ]
