"""The document of DNS records, and what is answered out of it: a table per record kind and response code."""

from __future__ import annotations

import json
from typing import Any

import pytest

from podlab.kube import dns, dns_answers
from podlab.kube.dns_answers import Zone
from support.services import endpoint, endpoint_slice, service

ZONE = "cluster.local"
SVC = f"default.svc.{ZONE}"
HTTP = [{"name": "http", "port": 80}]
SERVICES = [
    service("web", "10.96.0.20", [*HTTP, {"port": 81}, {"name": "dns", "port": 53, "protocol": "UDP"}]),
    service("both", "10.96.0.21", clusterIPs=["10.96.0.21", "fd00::1"]),
    service("db", "None", HTTP),
    service("six", "None", HTTP),
    service("out", "", type="ExternalName", externalName="Example.org."),
    service("in", "", type="ExternalName", externalName=f"web.{SVC}"),
    service("loop", "", type="ExternalName", externalName=f"loop.{SVC}"),
    service("lost", "", type="ExternalName", externalName=f"nothing.{SVC}"),
    service("number", "", type="ExternalName", externalName="192.0.2.1"),
    service("kube-dns", "10.96.0.10", namespace="kube-system"),
    service("empty", "None", namespace="quiet"),
]
SLICES = [
    endpoint_slice(
        [
            {**endpoint("10.244.1.2"), "hostname": "db-0"},
            endpoint("10.244.1.3"),
            endpoint("10.244.1.4", ready=False),
        ],
        [{"name": "http", "port": 8080, "protocol": "TCP"}],
        name="db",
    ),
    # Another slice of the same Service, for another set of ports; one endpoint is in both, one is on another network.
    endpoint_slice(
        [endpoint("10.244.1.3"), {"addresses": ["192.0.2.7"]}],
        [{"name": "http", "port": 8081, "protocol": "TCP"}, {"name": "", "port": 1}],
        name="db",
    ),
    endpoint_slice([endpoint("10.244.1.9")], name="web"),
    endpoint_slice([endpoint("fd00:0::7")], name="six", family="IPv6"),
    endpoint_slice([endpoint("10.244.1.6", ready=False)], name="empty", namespace="quiet"),
]
NETWORKS = ["10.244.0.0/16", "10.96.0.0/12", "fd00::/112"]


def made(services: Any = SERVICES, slices: Any = SLICES, **more: Any) -> Zone:
    given = {"networks": NETWORKS, "namespaces": ["bare"], **more}
    return dns_answers.parse(dns.document(services, slices, ZONE, **given), serial=7)


LAB = made()


def told(name: str, kind: str) -> tuple[str, list[str]]:
    """rcode and sorted data."""
    found = dns_answers.answer(LAB, name, kind)
    return found.rcode, sorted(f"{record.kind} {record.data}" for record in found.answers)


@pytest.mark.parametrize(
    ("name", "kind", "wanted"),
    [
        (f"dns-version.{ZONE}", "TXT", ['TXT "1.1.0"']),
        (f"web.{SVC}", "A", ["A 10.96.0.20"]),
        (f"WEB.Default.SVC.{ZONE}", "A", ["A 10.96.0.20"]),
        (f"both.{SVC}", "A", ["A 10.96.0.21"]),
        (f"both.{SVC}", "AAAA", ["AAAA fd00::1"]),
        (f"_http._tcp.web.{SVC}", "SRV", [f"SRV 0 100 80 web.{SVC}."]),
        (f"_dns._udp.web.{SVC}", "SRV", [f"SRV 0 100 53 web.{SVC}."]),
        ("20.0.96.10.in-addr.arpa", "PTR", [f"PTR web.{SVC}."]),
        (dns.reverse_name("fd00::1"), "PTR", [f"PTR both.{SVC}."]),
        (f"db.{SVC}", "A", ["A 10.244.1.2", "A 10.244.1.3", "A 192.0.2.7"]),
        (f"db-0.db.{SVC}", "A", ["A 10.244.1.2"]),
        (f"10-244-1-3.db.{SVC}", "A", ["A 10.244.1.3"]),
        (
            f"_http._tcp.db.{SVC}",
            "SRV",
            [
                f"SRV 0 25 8080 10-244-1-3.db.{SVC}.",
                f"SRV 0 25 8080 db-0.db.{SVC}.",
                f"SRV 0 25 8081 10-244-1-3.db.{SVC}.",
                f"SRV 0 25 8081 192-0-2-7.db.{SVC}.",
            ],
        ),
        ("2.1.244.10.in-addr.arpa", "PTR", [f"PTR db-0.db.{SVC}."]),
        ("7.2.0.192.in-addr.arpa", "PTR", [f"PTR 192-0-2-7.db.{SVC}."]),
        (f"six.{SVC}", "AAAA", ["AAAA fd00::7"]),
        (f"fd00--7.six.{SVC}", "AAAA", ["AAAA fd00::7"]),
        (f"out.{SVC}", "A", ["CNAME example.org."]),
        (f"out.{SVC}", "CNAME", ["CNAME example.org."]),
        (f"in.{SVC}", "A", ["A 10.96.0.20", f"CNAME web.{SVC}."]),
        (f"10-1-2-3.default.pod.{ZONE}", "A", ["A 10.1.2.3"]),
        (f"10-1-2-3.bare.pod.{ZONE}", "A", ["A 10.1.2.3"]),
        (f"fd00--7.default.pod.{ZONE}", "AAAA", ["AAAA fd00::7"]),
        (ZONE, "SOA", [f"SOA ns.dns.{ZONE}. hostmaster.{ZONE}. 7 7200 1800 86400 30"]),
        (ZONE, "NS", [f"NS ns.dns.{ZONE}."]),
        (f"ns.dns.{ZONE}", "A", ["A 10.96.0.10"]),
        (f"both.{SVC}", "ANY", ["A 10.96.0.21", "AAAA fd00::1"]),
    ],
)
def test_records(name: str, kind: str, wanted: list[str]) -> None:
    assert told(name, kind) == ("NOERROR", wanted)


NOTHING = [
    # Names that are there without this type, and names that are there because something is below them.
    *(("NOERROR", name, kind) for name, kind in (
        (f"web.{SVC}", "AAAA"), (f"web.{SVC}", "SRV"), (f"web.{SVC}", "MX"), (f"db.{SVC}", "AAAA"), (f"six.{SVC}", "A"),
        (f"_http._tcp.web.{SVC}", "A"), (f"_tcp.web.{SVC}", "SRV"), (ZONE, "A"), (f"svc.{ZONE}", "A"), (SVC, "A"),
        (f"bare.svc.{ZONE}", "A"), (f"pod.{ZONE}", "A"), (f"default.pod.{ZONE}", "A"), (f"dns.{ZONE}", "A"),
        (f"kube-public.svc.{ZONE}", "AAAA"), (f"10-1-2-3.default.pod.{ZONE}", "AAAA"), (f"dns-version.{ZONE}", "A"),
        ("20.0.96.10.in-addr.arpa", "A"), ("96.10.in-addr.arpa", "PTR"), ("0.96.10.in-addr.arpa", "PTR"),
        ("100.10.in-addr.arpa", "PTR"), ("1.244.10.in-addr.arpa", "PTR"),
    )),
    *(("NXDOMAIN", name, kind) for name, kind in (
        (f"nothing.{SVC}", "A"), (f"x.web.{SVC}", "A"), (f"_https._tcp.web.{SVC}", "SRV"), (f"_._tcp.web.{SVC}", "SRV"),
        (f"10-244-1-4.db.{SVC}", "A"), (f"10-244-1-9.web.{SVC}", "A"), (f"*.{SVC}", "A"), (f"web.none.svc.{ZONE}", "A"),
        (f"none.svc.{ZONE}", "A"), (f"empty.quiet.svc.{ZONE}", "A"), (f"number.{SVC}", "A"), (f"x.{ZONE}", "A"),
        (f"10-1-2-3.none.pod.{ZONE}", "A"), (f"none.pod.{ZONE}", "A"), (f"x.10-1-2-3.default.pod.{ZONE}", "A"),
        (f"10-1-2-300.default.pod.{ZONE}", "A"), (f"10-1-2.default.pod.{ZONE}", "A"), (f"x.default.pod.{ZONE}", "A"),
        (f"010-1-2-3.default.pod.{ZONE}", "A"), (f"fd00--7%1.default.pod.{ZONE}", "AAAA"),
        ("4.1.244.10.in-addr.arpa", "PTR"), ("9.1.244.10.in-addr.arpa", "PTR"), ("1.111.10.in-addr.arpa", "PTR"),
        (dns.reverse_name("fd00::2"), "PTR"),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("rcode", "name", "kind"), NOTHING)
def test_no_data_is_another_thing_than_no_name(rcode: str, name: str, kind: str) -> None:
    found = dns_answers.answer(LAB, name, kind)
    assert (found.rcode, found.answers) == (rcode, [])
    (soa,) = found.authority
    assert (soa.kind, soa.name, soa.ttl) == ("SOA", dns_answers.apex(LAB, name), 30)


def test_reverse_zones_are_those_of_our_networks() -> None:
    assert dns_answers.apex(LAB, "9.9.244.10.in-addr.arpa") == "244.10.in-addr.arpa"
    assert dns_answers.apex(LAB, "9.9.111.10.IN-ADDR.ARPA") == "111.10.in-addr.arpa"
    assert dns_answers.apex(LAB, dns.reverse_name("fd00::f")).endswith(".0.0.d.f.ip6.arpa")
    assert dns_answers.apex(LAB, "7.2.0.192.in-addr.arpa") == "7.2.0.192.in-addr.arpa"
    for name in ("10.in-addr.arpa", "112.10.in-addr.arpa", "1.1.112.10.in-addr.arpa", "8.2.0.192.in-addr.arpa",
                 "0244.10.in-addr.arpa", "x.10.in-addr.arpa", "in-addr.arpa", dns.reverse_name("fd00::1:0"),
                 "2.0.192.in-addr.arpa", "example.org", "notcluster.local", "local", ""):  # fmt: skip
        assert dns_answers.apex(LAB, name) == "", name


def test_answers_have_the_questions_case_and_thirty_seconds() -> None:
    found = dns_answers.answer(LAB, f"DB.{SVC}", "A")
    assert {(record.name, record.ttl) for record in found.answers} == {(f"DB.{SVC}", 30)}


def test_srv_brings_the_addresses_of_its_targets() -> None:
    found = dns_answers.answer(LAB, f"_http._tcp.db.{SVC}", "SRV")
    assert sorted((record.name.partition(".")[0], record.data) for record in found.additional) == [
        ("10-244-1-3", "10.244.1.3"),
        ("192-0-2-7", "192.0.2.7"),
        ("db-0", "10.244.1.2"),
    ]


def test_aliases_are_followed_as_far_as_we_know() -> None:
    assert dns_answers.answer(LAB, f"out.{SVC}", "A").beyond == "example.org"
    assert dns_answers.answer(LAB, f"out.{SVC}", "CNAME").beyond == ""
    assert dns_answers.answer(LAB, f"in.{SVC}", "A").beyond == ""
    assert told(f"lost.{SVC}", "A") == ("NXDOMAIN", [f"CNAME nothing.{SVC}."])
    rcode, chain = told(f"loop.{SVC}", "A")
    assert (rcode, len(chain)) == ("NOERROR", 8)


def test_the_document_is_lines_that_diff_well() -> None:
    text = dns.document(SERVICES[:1], [], ZONE, NETWORKS[:1], ["bare"])
    assert json.loads(text)["namespaces"] == ["bare", "default", "kube-node-lease", "kube-public", "kube-system"]
    assert f'\n  "web.{SVC}. 30 IN A 10.96.0.20",\n' in text
    # The order of the input makes no difference, so a second run changes nothing.
    assert dns.document(SERVICES[::-1], SLICES, ZONE) == dns.document(SERVICES, SLICES, ZONE)


def test_an_address_of_two_headless_services_has_two_names() -> None:
    peers = endpoint_slice([endpoint("10.244.1.3")], name="peers")
    lab = made([*SERVICES, service("peers", "None")], [*SLICES, peers])
    found = dns_answers.answer(lab, "3.1.244.10.in-addr.arpa", "PTR").answers
    assert {record.data for record in found} == {f"10-244-1-3.db.{SVC}.", f"10-244-1-3.peers.{SVC}."}


def test_a_hostname_that_is_no_label_is_not_used() -> None:
    odd = endpoint_slice([{**endpoint("10.244.1.3"), "hostname": "a b\n"}], name="db")
    assert f"10-244-1-3.db.{SVC}" in made(SERVICES, [odd]).names


def test_another_zone() -> None:
    lab = dns_answers.parse(dns.document(SERVICES, SLICES, "lab.example"))
    assert dns_answers.answer(lab, "web.default.svc.lab.example", "A").answers[0].data == "10.96.0.20"
    assert dns_answers.apex(lab, f"web.{SVC}") == ""


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"zone": "a"}', '{"zone": "a", "networks": ["x"]}', "1",
    '{"zone": "a", "networks": [], "namespaces": [], "records": ["a b"]}',
    '{"zone": "a", "networks": [], "namespaces": [], "records": [1]}',
])  # fmt: skip
def test_what_is_no_document_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        dns_answers.parse(text)
