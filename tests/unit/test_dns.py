"""DNS records of Services as hosts files. tests/kernel/test_service_dns.py reads them with dnsmasq."""

from __future__ import annotations

from podlab.kube.dns import records
from support.services import endpoint, endpoint_slice, service


def test_records() -> None:
    services = [
        service("web", "10.96.0.20"),
        service("db", "None"),
        service("alias", "", type="ExternalName", externalName="example.org"),
        service("kube-dns", "10.96.0.10", namespace="kube-system"),
        service("empty", "None", namespace="quiet"),
    ]
    slices = [
        endpoint_slice(
            [
                {**endpoint("10.244.1.2"), "hostname": "db-0"},
                endpoint("10.244.1.3"),
                endpoint("10.244.1.4", ready=False),
            ],
            name="db",
        ),
        # Another slice of the same Service, for another set of ports.
        endpoint_slice([endpoint("10.244.1.3"), endpoint("10.244.1.5")], name="db"),
        endpoint_slice([endpoint("10.244.1.9")], name="web"),
        endpoint_slice([endpoint("10.244.1.6", ready=False)], name="empty", namespace="quiet"),
    ]
    assert records(services, slices, "cluster.local") == {
        "default": (
            "10.244.1.2 db-0.db.default.svc.cluster.local db.default.svc.cluster.local\n"
            "10.244.1.3 10-244-1-3.db.default.svc.cluster.local db.default.svc.cluster.local\n"
            "10.244.1.5 10-244-1-5.db.default.svc.cluster.local db.default.svc.cluster.local\n"
            "10.96.0.20 web.default.svc.cluster.local\n"
        ),
        "kube-system": "10.96.0.10 kube-dns.kube-system.svc.cluster.local\n",
    }


def test_ipv6_and_another_zone() -> None:
    services = [service("db", "None"), service("both", "10.96.0.1", clusterIPs=["10.96.0.1", "fd00::1"])]
    slices = [endpoint_slice([endpoint("fd00:0::7")], name="db", family="IPv6")]
    assert records(services, slices, "lab.example")["default"].splitlines() == [
        "10.96.0.1 both.default.svc.lab.example",
        "fd00::1 both.default.svc.lab.example",
        "fd00::7 fd00--7.db.default.svc.lab.example db.default.svc.lab.example",
    ]
