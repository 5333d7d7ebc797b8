"""Names, asked with a real resolver from inside a pod's network, over UDP and over TCP."""

from __future__ import annotations

import ipaddress

import pytest

from support.lab import Lab, ip_of, name_of

pytestmark = pytest.mark.lab

ZONE = "cluster.local"
DNS = "10.96.0.10"


def dig(lab: Lab, *question: str) -> list[str]:
    """The answers, sorted, as `dig +short` prints them; asked in the network of a pod that is no DNS server."""
    flags = ("+short", "+time=8", "+tries=1")
    return sorted(lab.in_pod_network(lab.pod("core-k8s"), "dig", f"@{DNS}", *flags, *question).stdout.split())


def status_of(lab: Lab, name: str) -> str:
    """The response code: NOERROR, NXDOMAIN."""
    text = lab.in_pod_network(lab.pod("core-k8s"), "dig", f"@{DNS}", "+time=8", "+tries=1", name).stdout
    return text.partition("status: ")[2].partition(",")[0]


@pytest.mark.parametrize("protocol", ["+notcp", "+tcp"])
def test_service_has_its_address_over_udp_and_tcp(lab: Lab, protocol: str) -> None:
    assert dig(lab, protocol, f"web.default.svc.{ZONE}") == [lab.service_ip("web")]
    assert dig(lab, protocol, f"kube-dns.kube-system.svc.{ZONE}") == [DNS]


def test_case_does_not_matter(lab: Lab) -> None:
    assert dig(lab, f"WEB.Default.SVC.{ZONE}") == [lab.service_ip("web")]


def test_address_has_its_name(lab: Lab) -> None:
    assert dig(lab, "-x", lab.service_ip("web")) == [f"web.default.svc.{ZONE}."]


def test_unknown_names_do_not_exist(lab: Lab) -> None:
    assert status_of(lab, f"nothing.default.svc.{ZONE}") == "NXDOMAIN"
    assert status_of(lab, f"web.default.svc.{ZONE}") == "NOERROR"


def test_headless_service_is_its_ready_pods(extras: Lab) -> None:
    assert dig(extras, f"web-each.default.svc.{ZONE}") == sorted(ip_of(pod) for pod in extras.pods("web-"))


def test_pods_of_a_statefulset_have_names_of_their_own(extras: Lab) -> None:
    addresses = {name_of(pod): ip_of(pod) for pod in extras.pods("db-", "extras")}
    assert set(addresses) == {"db-0", "db-1"}
    for name, address in addresses.items():
        assert dig(extras, f"{name}.db.extras.svc.{ZONE}") == [address]
    assert dig(extras, f"db.extras.svc.{ZONE}") == sorted(addresses.values())


def test_resolver_inside_a_pod_goes_through_the_search_path(lab: Lab) -> None:
    """busybox' own resolver, over UDP, with the pod's /etc/resolv.conf."""
    text = lab.exec("core-k8s", "nslookup", f"web.default.svc.{ZONE}.")
    assert f"Server:\t\t{DNS}" in text
    assert f"Address: {lab.service_ip('web')}" in text


def test_dns_server_is_an_ordinary_pod_behind_the_tenth_address(lab: Lab) -> None:
    (service,) = [entry for entry in lab.get_json("services", "-n", "kube-system") if name_of(entry) == "kube-dns"]
    assert service["spec"]["clusterIP"] == DNS
    pod = lab.pod("kube-dns", "kube-system")
    (endpoints,) = lab.get_json("endpoints", "kube-dns", "-n", "kube-system")
    assert [entry["ip"] for entry in endpoints["subsets"][0]["addresses"]] == [ip_of(pod)]
    assert ipaddress.ip_address(ip_of(pod)) in ipaddress.ip_network("10.244.0.0/16")
