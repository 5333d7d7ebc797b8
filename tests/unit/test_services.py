"""Addresses of Services."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.kube import objects, plan, services
from support.lab_objects import cluster, deployment, service, store

SUBNET = "10.96.0.0/16"


def given_to(*things, remembered=None, subnet=SUBNET):
    return services.allocate(things, remembered or {}, subnet)


def test_kube_dns_gets_the_tenth_address():
    found, faults = given_to(service("kube-dns", "kube-system"), service("kubernetes"))
    assert found == {"kube-system/kube-dns": "10.96.0.10", "default/kubernetes": "10.96.0.1"}
    assert faults == {}
    assert given_to(service("kube-dns", "kube-system"), subnet="10.0.0.0/24")[0]["kube-system/kube-dns"] == "10.0.0.10"


def test_headless():
    assert given_to(service(clusterIP="None"))[0] == {"default/web": "None"}


def test_an_address_is_from_the_upper_part_and_always_the_same():
    found, _ = given_to(service("a"), service("b"))
    assert found == given_to(service("b"), service("a"))[0]
    assert len(set(found.values())) == 2
    assert all(ipaddress.IPv4Address(address) >= ipaddress.IPv4Address("10.96.1.0") for address in found.values())


def test_what_is_remembered_stays():
    assert given_to(service(), remembered={"default/web": "10.96.7.7"})[0] == {"default/web": "10.96.7.7"}
    assert given_to(service(), remembered={"default/web": "10.97.7.7"})[0] == given_to(service())[0]


def test_an_address_that_another_was_given_is_taken():
    things = service("a"), service("b", clusterIP="10.96.7.7")
    found, faults = given_to(*things, remembered={"default/a": "10.96.7.7"})
    assert (found, faults) == (
        {"default/a": "10.96.7.7"},
        {"default/b": "10.96.7.7 is taken by the Service default/a"},
    )


def test_an_address_that_its_owner_no_longer_wants_is_free():
    remembered = {"default/a": "10.96.7.7"}
    for other in ({"clusterIP": "10.96.8.8"}, {"clusterIP": "None"}, {"type": "ExternalName"}):
        things = service("a", **other), service("b", clusterIP="10.96.7.7")
        found, faults = given_to(*things, remembered=remembered)
        assert faults == {}
        assert found["default/b"] == "10.96.7.7"


def test_an_external_name_has_no_address():
    assert given_to(service(type="ExternalName"), remembered={"default/web": "10.96.7.7"}) == ({}, {})


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("10.97.0.5", "must be in the service subnet 10.96.0.0/16, which 10.97.0.5 is not"),
        ("10.96.0.0", "must not be the first or last address of the service subnet 10.96.0.0/16, which 10.96.0.0 is"),
        ("10.96.0.10", "10.96.0.10 is taken by the Service kube-system/kube-dns"),
        ("fd00::1", "must be an IPv4 address of the service subnet 10.96.0.0/16, not fd00::1"),
    ],
)
def test_fixed_addresses_that_cannot_be(address, fault):
    assert given_to(service(clusterIP=address)) == ({}, {"default/web": fault})


def test_two_want_the_same():
    faults = given_to(service("a", clusterIP="10.96.5.5"), service("b", clusterIP="10.96.5.5"))[1]
    assert faults == {"default/b": "10.96.5.5 is taken by the Service default/a"}


def test_zeros_in_front_are_decimal():
    one, other = service("a", clusterIP="10.096.0.008"), service("b", clusterIP="10.96.0.8")
    found, faults = given_to(one, other)
    assert found == {"default/a": "10.96.0.8"}
    assert list(faults) == ["default/b"] == list(services.clashes([one, other]))


def test_kube_dns_elsewhere_is_refused():
    faults = given_to(service("kube-dns", "kube-system", clusterIP="10.96.9.9"))[1]
    assert faults == {"kube-system/kube-dns": "must be 10.96.0.10, which is kept for this Service, not 10.96.9.9"}


def test_a_full_subnet():
    things = [service(f"s{n}") for n in range(14)]
    found, faults = given_to(*things, subnet="10.0.0.0/28")
    # 14 addresses, of which the first and the tenth are kept.
    assert len(found) == 12
    assert set(faults.values()) == {"no address of the service subnet 10.0.0.0/28 is free"}


@given(st.sets(st.from_regex(r"\A[a-z]{1,8}\Z"), max_size=40), st.sampled_from(["10.0.0.0/24", "10.96.0.0/16"]))
def test_addresses_are_distinct_and_inside(names, subnet):
    found, faults = given_to(*(service(name) for name in sorted(names)), subnet=subnet)
    assert faults == {}
    network = ipaddress.IPv4Network(subnet)
    assert len(set(found.values())) == len(names)
    kept = {network.network_address + index for index in (0, 10, network.num_addresses - 1)}
    for name, address in found.items():
        assert ipaddress.IPv4Address(address) in network
        assert name == "default/kubernetes" or ipaddress.IPv4Address(address) not in kept


def test_a_complete_service():
    made = plan.plan(store(service(sessionAffinity="ClientIP", clusterIP="10.96.4.4")), cluster(), ())
    assert made.services[0]["spec"] == {
        "type": "ClusterIP",
        "selector": {"app": "web"},
        "clusterIP": "10.96.4.4",
        "clusterIPs": ["10.96.4.4"],
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
        "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
    }
    assert objects.addresses(made.store) == {"default/web": "10.96.4.4"}


def test_a_fault_is_a_problem_of_the_plan():
    made = plan.plan(store(service(clusterIP="10.97.0.1"), deployment(1)), cluster(), ())
    assert [problem.place for problem in made.problems] == ["Service/web: spec.clusterIP"]
    assert made.services == ()


def complete(**spec):
    thing = service(clusterIP="10.96.4.4", **spec)
    if spec.get("type") == "ExternalName":
        del thing["spec"]["clusterIP"]
    (made,) = plan.plan(store(thing), cluster(), ()).services
    return made


def test_what_each_type_is_filled_up_with():
    assert "externalTrafficPolicy" not in complete()["spec"]
    assert complete(externalIPs=["192.0.2.1"])["spec"]["externalTrafficPolicy"] == "Cluster"
    node_port = complete(type="NodePort")["spec"]
    assert node_port["externalTrafficPolicy"] == "Cluster"
    assert "allocateLoadBalancerNodePorts" not in node_port
    balancer = complete(type="LoadBalancer", externalTrafficPolicy="Local")["spec"]
    assert balancer["allocateLoadBalancerNodePorts"] is True
    assert balancer["externalTrafficPolicy"] == "Local"
    assert balancer["healthCheckNodePort"] > 30000
    alias = complete(type="ExternalName", externalName="a.example", ports=[{"port": 80}])["spec"]
    assert alias == {
        "type": "ExternalName",
        "externalName": "a.example",
        "selector": {"app": "web"},
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "sessionAffinity": "None",
    }


def test_the_status_of_load_balancers():
    thing = service(type="LoadBalancer")
    thing["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "a"}]}}
    (made,) = plan.plan(store(thing), cluster(), ()).services
    assert made["status"] == {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}, {"hostname": "a"}]}}
    assert complete()["status"] == {"loadBalancer": {}}
