"""kubectl's tables of Services, Endpoints and EndpointSlices."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from podlab.kube import printers, times

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden" / "cli"
NOW = times.epoch("2026-11-21T12:00:00Z")


def service(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "s", "namespace": "default"}, "spec": spec}


@pytest.mark.parametrize(
    ("spec", "row"),
    [
        ({"clusterIP": "10.96.0.9", "ports": [{"port": 80}]},
         ["s", "ClusterIP", "10.96.0.9", "<none>", "80/TCP", "<unknown>"]),
        ({"clusterIP": "None"}, ["s", "ClusterIP", "None", "<none>", "<none>", "<unknown>"]),
        ({"type": "NodePort", "clusterIP": "10.96.0.9", "externalIPs": ["1.2.3.4", "1.2.3.5"],
          "ports": [{"port": 53, "protocol": "UDP", "nodePort": 30053}, {"port": 53, "nodePort": 30054}]},
         ["s", "NodePort", "10.96.0.9", "1.2.3.4,1.2.3.5", "53:30053/UDP,53:30054/TCP", "<unknown>"]),
        ({"type": "ExternalName", "externalName": "example.org"},
         ["s", "ExternalName", "<none>", "example.org", "<none>", "<unknown>"]),
        ({"type": "LoadBalancer", "clusterIP": "10.96.0.9", "ports": [{"port": 80, "nodePort": 30080}]},
         ["s", "LoadBalancer", "10.96.0.9", "<pending>", "80:30080/TCP", "<unknown>"]),
    ],
)  # fmt: skip
def test_services(spec: dict[str, Any], row: list[str]) -> None:
    assert printers.table("services", [service(**spec)], NOW)[1] == row


@pytest.mark.parametrize(
    ("ingress", "external", "narrow", "wide"),
    [
        ([], [], "<pending>", "<pending>"),
        ([], ["1.2.3.4"], "1.2.3.4", "1.2.3.4"),
        ([{"ip": "192.0.2.9"}], [], "192.0.2.9", "192.0.2.9"),
        ([{"ip": "9.9.9.9"}, {"ip": "1.1.1.1"}], ["5.5.5.5"], "1.1.1.1,9.9.9.9,5.5.5.5", "1.1.1.1,9.9.9.9,5.5.5.5"),
        ([{"hostname": "lb-1234567890.example.org"}], [], "lb-1234567890...", "lb-1234567890.example.org"),
        ([{"ip": "192.0.2.9", "hostname": "lb"}], [], "192.0.2.9", "192.0.2.9"),
    ],
)
def test_addresses_of_load_balancers(ingress: list[Any], external: list[str], narrow: str, wide: str) -> None:
    item = service(type="LoadBalancer", externalIPs=external)
    item["status"] = {"loadBalancer": {"ingress": ingress}}
    assert printers.table("services", [item], NOW)[1][3] == narrow
    assert printers.table("services", [item], NOW, wide=True)[1][3] == wide


@pytest.mark.parametrize(
    ("ports", "addresses", "cells"),
    [
        (None, [], ["<unset>", "<unset>"]),
        ([{"name": "", "port": 80}], ["10.0.0.1"], ["80", "10.0.0.1"]),
        ([{"name": "http"}, {}, {"port": 81}], ["10.0.0.1", "10.0.0.2", "10.0.0.3"],
         ["http,*,81", "10.0.0.1,10.0.0.2,10.0.0.3"]),
        ([{"port": n} for n in range(1, 6)], [f"10.0.0.{n}" for n in range(1, 5)],
         ["1,2,3 + 2 more...", "10.0.0.1,10.0.0.2,10.0.0.3 + 1 more..."]),
    ],
)  # fmt: skip
def test_endpoint_slices(ports: list[Any] | None, addresses: list[str], cells: list[str]) -> None:
    item = {"metadata": {"name": "s"}, "addressType": "IPv4", "ports": ports,
            "endpoints": [{"addresses": [address]} for address in addresses]}  # fmt: skip
    header, row = printers.table("endpointslices", [item], NOW)
    assert header == ["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"]
    assert row == ["s", "IPv4", *cells, "<unknown>"]


@pytest.mark.parametrize(
    ("subsets", "cell"),
    [
        ([], "<none>"),
        ([{"addresses": [], "ports": [{"port": 80}]}], "<none>"),
        ([{"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"port": 80}]}],
         "10.0.0.1:80,10.0.0.2:80"),
        ([{"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"port": 80}, {"port": 81}]}],
         "10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more..."),
        ([{"addresses": [{"ip": "10.0.0.1"}]}], "10.0.0.1"),
        ([{"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 80}]}], "[fd00::1]:80"),
    ],
)  # fmt: skip
def test_endpoints(subsets: list[Any], cell: str) -> None:
    item = {"metadata": {"name": "s"}, "subsets": subsets}
    assert printers.table("endpoints", [item], NOW)[1][1] == cell


@pytest.mark.parametrize("wide", [False, True])
def test_golden_of_every_service_type(wide: bool) -> None:
    objects = json.loads((GOLDEN / "service-types.json").read_text())
    text = printers.text(printers.table("services", objects, NOW, wide=wide))
    assert text == (GOLDEN / f"service-types{'-wide' if wide else ''}.txt").read_text()
