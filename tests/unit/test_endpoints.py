"""EndpointSlices from pods, as the EndpointSlice controller makes them."""

from __future__ import annotations

from typing import Any

from podlab.kube.endpoints import MAX_ENDPOINTS, endpoint_slices, target_port, zones_of
from support.services import pod, service

SELECT = {"selector": {"app": "web"}}


def slices_of(pods: list[dict[str, Any]], **spec: Any) -> list[dict[str, Any]]:
    return endpoint_slices([service(**{**SELECT, **spec})], pods)


def conditions(item: dict[str, Any]) -> dict[str, dict[str, bool]]:
    return {endpoint["addresses"][0]: endpoint["conditions"] for endpoint in item["endpoints"]}


def test_a_slice_is_complete() -> None:
    (item,) = slices_of([pod("web-1", "10.244.1.2")], ports=[{"port": 80, "targetPort": 8080}])
    assert item["metadata"].pop("name").startswith("web-")
    assert item == {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "default",
            "labels": {
                "kubernetes.io/service-name": "web",
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "protocol": "TCP", "port": 8080}],
        "endpoints": [
            {
                "addresses": ["10.244.1.2"],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": "node-a",
                "targetRef": {"kind": "Pod", "namespace": "default", "name": "web-1"},
            }
        ],
    }


def test_who_is_an_endpoint() -> None:
    going = pod("going", "10.244.1.5")
    going["pod"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    (item,) = slices_of(
        [
            pod("ready", "10.244.1.2"),
            pod("starting", "10.244.1.3", ready=False),
            pod("no-address", ""),
            pod("done", "10.244.1.4", status={"phase": "Succeeded"}),
            pod("failed", "10.244.1.4", status={"phase": "Failed"}),
            going,
            pod("other-label", "10.244.1.6", labels={"app": "db"}),
            pod("other-namespace", "10.244.1.7", namespace="dev"),
        ]
    )
    assert conditions(item) == {
        "10.244.1.2": {"ready": True, "serving": True, "terminating": False},
        "10.244.1.3": {"ready": False, "serving": False, "terminating": False},
        "10.244.1.5": {"ready": False, "serving": True, "terminating": True},
    }


def test_publish_not_ready_addresses() -> None:
    (item,) = slices_of([pod("starting", "10.244.1.3", ready=False)], publishNotReadyAddresses=True)
    assert conditions(item)["10.244.1.3"] == {"ready": True, "serving": False, "terminating": False}


def with_port(name: str, address: str, number: int) -> dict[str, Any]:
    return pod(name, address, containers=[{"name": "c", "ports": [{"name": "http", "containerPort": number}]}])


def test_named_target_ports_split_slices_by_number() -> None:
    pods = [with_port("a", "10.244.1.2", 8080), with_port("b", "10.244.1.3", 9090), pod("c", "10.244.1.4")]
    slices = slices_of(pods, ports=[{"name": "web", "port": 80, "targetPort": "http"}])
    assert {item["ports"][0]["port"] if item["ports"] else 0: list(conditions(item)) for item in slices} == {
        0: ["10.244.1.4"],
        8080: ["10.244.1.2"],
        9090: ["10.244.1.3"],
    }
    assert len({item["metadata"]["name"] for item in slices}) == 3


def test_a_named_port_needs_its_protocol_and_may_be_a_sidecars() -> None:
    ports = [{"name": "dns", "containerPort": 53, "protocol": "UDP"}]
    spec = {"spec": {"containers": [], "initContainers": [{"restartPolicy": "Always", "ports": ports}]}}
    assert target_port({"port": 53, "targetPort": "dns", "protocol": "UDP"}, spec) == 53
    assert target_port({"port": 53, "targetPort": "dns"}, spec) == 0
    assert target_port({"port": 53}, spec) == 53


def test_hostname_only_in_the_pods_own_subdomain() -> None:
    pods = [
        pod("db-0", "10.244.1.2", hostname="db-0", subdomain="web"),
        pod("db-1", "10.244.1.3", hostname="db-1", subdomain="elsewhere"),
    ]
    (item,) = slices_of(pods)
    assert [endpoint.get("hostname") for endpoint in item["endpoints"]] == ["db-0", None]


def test_services_without_selector_or_with_an_external_name_have_no_slices() -> None:
    external = service("alias", "", type="ExternalName", selector={"app": "web"})
    assert endpoint_slices([service(), external], [pod("web-1", "10.244.1.2")]) == []


def test_no_pod_gives_one_empty_slice_and_many_pods_several() -> None:
    (empty,) = slices_of([])
    assert empty["endpoints"] == [] and empty["ports"] == []
    many = slices_of([pod(f"web-{n:03}", f"10.244.1.{n}") for n in range(1, 252)])
    assert [len(item["endpoints"]) for item in many] == [MAX_ENDPOINTS, MAX_ENDPOINTS, 51]
    assert many[0]["endpoints"][0]["targetRef"]["name"] == "web-001"


def test_headless_label_and_families() -> None:
    (item,) = slices_of([pod("web-1", "10.244.1.2")], clusterIP="None")
    assert item["metadata"]["labels"]["service.kubernetes.io/headless"] == ""
    both = pod("web-1", "10.244.1.2", status={"podIPs": [{"ip": "10.244.1.2"}, {"ip": "fd00::2"}]})
    slices = slices_of([both], ipFamilies=["IPv4", "IPv6"])
    assert [(item["addressType"], list(conditions(item))) for item in slices] == [
        ("IPv4", ["10.244.1.2"]),
        ("IPv6", ["fd00::2"]),
    ]


def test_the_zone_is_the_nodes_and_hints_are_for_ready_endpoints() -> None:
    pods = [
        pod("a", "10.244.1.2", nodeName="node-a"),
        pod("b", "10.244.2.2", nodeName="node-b"),
        pod("c", "10.244.1.3", ready=False, nodeName="node-a"),
    ]
    zones = zones_of([{"name": "node-a", "labels": {"topology.kubernetes.io/zone": "east"}}, {"name": "node-b"}])
    east, node_a, node_b = ({"name": name} for name in ("east", "node-a", "node-b"))
    same_zone = [{"forZones": [east]}, None, None]
    for distribution, hints in (
        (None, [None, None, None]),
        ("PreferClose", same_zone),
        ("PreferSameZone", same_zone),
        ("PreferSameNode", [{"forZones": [east], "forNodes": [node_a]}, {"forNodes": [node_b]}, None]),
    ):
        thing = service(**SELECT, **({"trafficDistribution": distribution} if distribution else {}))
        (item,) = endpoint_slices([thing], pods, zones)
        assert [endpoint.get("zone") for endpoint in item["endpoints"]] == ["east", None, "east"]
        assert [endpoint.get("hints") for endpoint in item["endpoints"]] == hints


def test_the_services_labels_and_application_protocols_are_its_slices() -> None:
    thing = service(**SELECT, ports=[{"port": 80, "appProtocol": "http"}])
    thing["metadata"]["labels"] = {
        "tier": "front",
        "service.kubernetes.io/headless": "",
        "kubernetes.io/service-name": "x",
    }
    (item,) = endpoint_slices([thing], [pod("web-1", "10.244.1.2")])
    assert item["metadata"]["labels"] == {
        "tier": "front",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert item["ports"] == [{"name": "", "protocol": "TCP", "port": 80, "appProtocol": "http"}]


def test_a_terminating_pod_is_published_when_the_service_says_so() -> None:
    going = pod("going", "10.244.1.5")
    going["pod"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    (item,) = slices_of([going], publishNotReadyAddresses=True)
    assert conditions(item)["10.244.1.5"] == {"ready": True, "serving": True, "terminating": True}
