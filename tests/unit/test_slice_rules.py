"""EndpointSlices by hand: what the API server refuses, what has no effect, and what becomes of them."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.kube import plan, slice_rules
from podlab.kube.proxy_model import SERVICE_NAME_LABEL
from podlab.kube.yamltree import path_text
from podlab.service_request import request, summary
from support.lab_objects import cluster, service, store
from support.services import endpoint, endpoint_slice

MANAGED = "endpointslice.kubernetes.io/managed-by"


def piece(**fields: Any) -> dict[str, Any]:
    """A sound slice of the Service web, but for the fields given."""
    return {**endpoint_slice([endpoint("192.0.2.1", "w1")]), **fields}


def found(thing: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(path_text(f.path), f.message, f.level) for f in slice_rules.check(thing)]


def labelled(**labels: str) -> dict[str, Any]:
    return {"name": "x", "namespace": "default", "labels": labels}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"endpoints": [], "ports": []},
        {"endpoints": [{"addresses": ["10.0.0.1"]}]},
        {"endpoints": [{"addresses": ["10.0.0.1"], "hostname": "db-0", "zone": "a", "nodeName": "w1",
                        "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "w1"}]}}]},
        # that the names are missing the schema says
        {"endpoints": [{"addresses": ["10.0.0.1"], "hints": {"forZones": [{}, {}]}}]},
        {"ports": [{"port": 80}, {"name": "dns", "port": 53, "protocol": "UDP", "appProtocol": "a.example/dns"}]},
        {"endpoints": [{"addresses": [f"10.0.{n // 250}.{n % 250}"]} for n in range(1000)]},
    ],
)  # fmt: skip
def test_accepted(fields: dict[str, Any]) -> None:
    assert found(piece(**fields)) == []


def at(address: str) -> dict[str, Any]:
    return {"endpoints": [{"addresses": [address]}]}


REFUSED = [
    ({"addressType": "ipv4"}, "addressType", "must be one of IPv4, IPv6, FQDN, not 'ipv4'"),
    ({"addressType": "IPv6", **at("2001:db8::1")}, "addressType",
     "must be IPv4: a lab's Services, nodes and pods have IPv4 addresses only"),
    ({"addressType": "FQDN", **at("db.example.org")}, "addressType",
     "must be IPv4: kube-proxy ignores endpoints that are names"),
    (at("2001:db8::1"), "endpoints[0].addresses[0]",
     "must be an IPv4 address, as addressType says, not '2001:db8::1'"),
    (at("db.example.org"), "endpoints[0].addresses[0]", "must be an IP address, not 'db.example.org'"),
    (at("127.0.0.1"), "endpoints[0].addresses[0]",
     "must not be in the loopback range (127.0.0.0/8, ::1/128), which 127.0.0.1 is"),
    (at("169.254.0.9"), "endpoints[0].addresses[0]",
     "must not be in the link-local range (169.254.0.0/16, fe80::/10), which 169.254.0.9 is"),
    (at("0.0.0.0"), "endpoints[0].addresses[0]",
     "must not be the unspecified address (0.0.0.0 or ::), which 0.0.0.0 is"),
    (at("224.0.0.1"), "endpoints[0].addresses[0]",
     "must not be in the link-local multicast range (224.0.0.0/24, ff02::/10), which 224.0.0.1 is"),
    ({"endpoints": [{"addresses": []}]}, "endpoints[0].addresses", "must have at least one address"),
    ({"endpoints": [{"addresses": ["10.0.0.1"]}] * 1001}, "endpoints", "must have at most 1000 endpoints, not 1001"),
    ({"endpoints": [{"addresses": ["10.0.0.1"], "hostname": "a.b"}]}, "endpoints[0].hostname",
     "must be lower case letters, digits and '-', beginning and ending with a letter or digit; it is 'a.b'"),
    ({"endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "W1"}]}, "endpoints[0].nodeName",
     "must be lower case letters, digits, '-' and '.', each part beginning and ending with a letter or digit; "
     "it is 'W1'"),
    ({"endpoints": [{"addresses": ["10.0.0.1"], "hints": {"forZones": [{"name": "a"}, {"name": "a"}]}}]},
     "endpoints[0].hints.forZones[1].name", "'a' is there twice"),
    ({"endpoints": [{"addresses": ["10.0.0.1"], "hints": {"forNodes": [{"name": f"n{n}"} for n in range(9)]}}]},
     "endpoints[0].hints.forNodes", "must have at most 8 hints, not 9"),
    ({"ports": [{"name": "a", "port": 80}, {"port": 81}, {"name": "a", "port": 82}]}, "ports[2].name",
     "the port name 'a' is there twice, first at ports[0]"),
    ({"ports": [{"port": 80}, {"name": "", "port": 81}]}, "ports[1].name", "is required: ports[0] has no name either"),
    ({"ports": [{"port": 65536}]}, "ports[0].port", "must be between 1 and 65535, not 65536"),
    ({"ports": [{"port": 80, "protocol": "tcp"}]}, "ports[0].protocol", "must be one of TCP, UDP, SCTP, not 'tcp'"),
    ({"ports": [{"name": f"p{n}", "port": 80} for n in range(20001)]}, "ports",
     "must have at most 20000 ports, not 20001"),
    ({"metadata": labelled(**{SERVICE_NAME_LABEL: "web", MANAGED: "endpointslice-controller.k8s.io"})},
     f"metadata.labels[{MANAGED!r}]",
     "endpointslice-controller.k8s.io makes such slices from pods, and would remove this one"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "path", "message"), REFUSED)
def test_refused(fields: dict[str, Any], path: str, message: str) -> None:
    assert found(piece(**fields)) == [(path, message, "error")]


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        ({"metadata": labelled()}, "metadata.labels",
         "has no label kubernetes.io/service-name, so no Service uses these endpoints"),
        ({"ports": [{"name": "a"}]}, "ports[0].port", "kube-proxy ignores a port without a number"),
        ({"endpoints": [{"addresses": ["10.0.0.1", "10.0.0.2"]}]}, "endpoints[0].addresses[1]",
         "kube-proxy uses an endpoint's first address only"),
    ],
)  # fmt: skip
def test_warned_of(fields: dict[str, Any], path: str, message: str) -> None:
    assert found(piece(**fields)) == [(path, message, "warning")]


def test_what_is_only_warned_of_can_be_programmed() -> None:
    made = piece(ports=[{"name": "a"}, {"name": "", "port": 80}])
    web = service(clusterIP="10.96.0.20")
    absent = dict.fromkeys(("nodes", "pods", "proxy", "dns_dir", "state_file"))
    params = {"cluster": cluster().to_dict(), "services": [web], "endpoint_slices": [made], "state": "present"}
    assert summary(request({**absent, **params}))[0]["endpoints"] == ["192.0.2.1:80"]


# -- with the rest of the lab


def bare(name: str = "web", **spec: Any) -> dict[str, Any]:
    """A Service without a selector."""
    thing = service(name, **spec)
    del thing["spec"]["selector"]
    return thing


@pytest.mark.parametrize(
    ("owner", "fields", "said"),
    [
        (bare(), {}, []),
        (bare(clusterIP="None", ports=[]), {}, []),
        (None, {}, ["there is no Service web in the namespace default: nothing uses these endpoints"]),
        (bare("other"), {}, ["there is no Service web in the namespace default: nothing uses these endpoints"]),
        (service(), {}, ["the Service web has a selector: these endpoints are added to those of its pods"]),
        (bare(type="ExternalName", externalName="a.example"), {},
         ["the Service web is of type ExternalName and has no endpoints"]),
        (bare(ports=[{"port": 80, "name": "http"}]), {}, ["the Service web has no port (no name)/TCP"]),
        (bare(), {"ports": [{"port": 80, "protocol": "UDP"}]}, ["the Service web has no port (no name)/UDP"]),
        (bare(), {"endpoints": [{"addresses": ["192.0.2.1"], "nodeName": "w9"}]}, ["there is no node w9"]),
        (None, {"metadata": labelled()}, []),
    ],
)  # fmt: skip
def test_what_has_no_effect(owner: dict[str, Any] | None, fields: dict[str, Any], said: list[str]) -> None:
    things = [*([owner] if owner else []), piece(**fields)]
    problems = plan.plan(store(*things), cluster(), ()).problems
    assert [(problem.message, problem.level) for problem in problems] == [(message, "warning") for message in said]


def test_a_plan_has_them_complete() -> None:
    thing = piece(ports=[{"port": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}])
    made = plan.plan(store(bare(), thing, piece(metadata=labelled())), cluster(), ())
    assert made.endpoint_slices == (
        {
            **thing,
            "ports": [
                {"name": "", "port": 8080, "protocol": "TCP"},
                {"name": "dns", "port": 53, "protocol": "UDP"},
            ],
        },
    )
