"""Node ports: who gets which, and which are taken."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.kube import node_ports, objects, plan
from podlab.kube.node_ports import FIRST, LAST, STATIC, NodePorts
from podlab.kube.yamltree import path_text
from support.lab_objects import cluster, service, store


def node_port(name: str = "web", ports: list[dict[str, Any]] | None = None, **spec: Any) -> dict[str, Any]:
    return service(name, ports=ports, **{"type": "NodePort", **spec})


def port(number: int | None = None, **more: Any) -> dict[str, Any]:
    return {"port": 80, **({"nodePort": number} if number else {}), **more}


def given_to(*things: dict[str, Any], **remembered: NodePorts) -> dict[str, NodePorts]:
    found, faults = node_ports.allocate(things, {f"default/{name}": ports for name, ports in remembered.items()})
    assert faults == []
    return {name.removeprefix("default/"): ports for name, ports in found.items()}


def faults_of(*things: dict[str, Any], **remembered: NodePorts) -> list[tuple[str, str, str]]:
    _, faults = node_ports.allocate(things, {f"default/{name}": ports for name, ports in remembered.items()})
    return [(fault.service, path_text(fault.finding.path), fault.finding.message) for fault in faults]


def test_the_band_for_given_ones_is_that_of_the_api_server() -> None:
    assert (FIRST, FIRST + STATIC - 1, LAST) == (30000, 30085, 32767)


def test_new_ones_follow_from_the_name_and_are_from_the_upper_part() -> None:
    found = given_to(node_port("a"), node_port("b"))
    assert found == given_to(node_port("b"), node_port("a"))
    assert found["a"].ports[""] != found["b"].ports[""]
    assert all(FIRST + STATIC <= ports.ports[""] <= LAST for ports in found.values())


@pytest.mark.parametrize(
    ("spec", "ports", "health"),
    [
        ({"type": "ClusterIP"}, 0, False),
        ({"type": "ExternalName"}, 0, False),
        ({"type": "NodePort"}, 2, False),
        ({"type": "NodePort", "externalTrafficPolicy": "Local"}, 2, False),
        ({"type": "LoadBalancer"}, 2, False),
        ({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": True}, 2, False),
        ({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False}, 0, False),
        ({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}, 2, True),
        ({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "allocateLoadBalancerNodePorts": False}, 0, True),
    ],
)
def test_who_gets_some(spec: dict[str, Any], ports: int, health: bool) -> None:
    listed = [{"name": "a", "port": 80}, {"name": "b", "port": 81}]
    found = given_to(service(ports=listed, **spec)).get("web", NodePorts())
    assert (len(found.ports), bool(found.health_check)) == (ports, health)


def test_without_allocation_a_given_one_counts() -> None:
    thing = service(type="LoadBalancer", allocateLoadBalancerNodePorts=False, ports=[port(30080)])
    assert given_to(thing)["web"].ports == {"": 30080}


def test_the_same_port_of_two_protocols_is_at_the_same_node_port() -> None:
    both = [{"name": "udp", "port": 53, "protocol": "UDP"}, {"name": "tcp", "port": 53}]
    found = given_to(node_port(ports=both))["web"].ports
    assert found["udp"] == found["tcp"]
    both[1]["nodePort"] = 30053
    assert given_to(node_port(ports=both))["web"].ports == {"udp": 30053, "tcp": 30053}


def test_a_twin_that_is_taken_by_another_port_of_the_service_is_no_twin() -> None:
    listed = [
        {"name": "udp", "port": 53, "protocol": "UDP", "nodePort": 30053},
        {"name": "other", "port": 54, "nodePort": 30053},
        {"name": "tcp", "port": 53},
    ]
    assert given_to(node_port(ports=listed))["web"].ports["tcp"] != 30053


# -- what is remembered


def test_what_is_remembered_stays_whatever_the_type() -> None:
    old = NodePorts({"": 31234}, 31235)
    assert given_to(node_port(), web=old)["web"] == NodePorts({"": 31234}, 0)
    balancer = service(type="LoadBalancer", externalTrafficPolicy="Local")
    assert given_to(balancer, web=old)["web"] == old
    assert given_to(service(), web=old) == {}


def test_it_is_remembered_by_the_ports_name() -> None:
    old = NodePorts({"a": 31234, "b": 31235})
    listed = [{"name": "b", "port": 8080}, {"name": "c", "port": 80}]
    found = given_to(node_port(ports=listed), web=old)["web"].ports
    assert found["b"] == 31235
    assert found["c"] != 31234


def test_a_manifest_may_name_another_and_move_its_own() -> None:
    old = NodePorts({"a": 31234, "b": 31235})
    listed = [{"name": "a", "port": 80}, {"name": "b", "port": 81, "nodePort": 31234}]
    found = given_to(node_port(ports=listed), web=old)["web"].ports
    assert found["b"] == 31234
    assert found["a"] not in (31234, 31235)
    assert given_to(node_port(ports=[port(30081)]), web=NodePorts({"": 31234}))["web"].ports == {"": 30081}


# -- what is taken


def test_two_services_want_the_same_whatever_the_protocol() -> None:
    for protocol in ("TCP", "UDP"):
        things = node_port("a", [port(30080)]), node_port("b", [port(30080, protocol=protocol)])
        assert faults_of(*things) == [
            ("default/b", "spec.ports[0].nodePort", "node port 30080 is taken by the Service default/a")
        ]


def test_what_another_was_given_is_taken() -> None:
    things = node_port("a", [port(31234)]), node_port("b")
    assert faults_of(*things, b=NodePorts({"": 31234})) == [
        ("default/a", "spec.ports[0].nodePort", "node port 31234 is taken by the Service default/b")
    ]


def test_a_number_that_its_owner_no_longer_wants_is_free() -> None:
    things = node_port("a", [port(31234)]), node_port("b", [port(30001)])
    assert given_to(*things, b=NodePorts({"": 31234}))["a"].ports == {"": 31234}
    assert given_to(things[0], service("b"), b=NodePorts({"": 31234}))["a"].ports == {"": 31234}


def test_health_check_ports_are_of_the_same_range() -> None:
    local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    things = node_port("a", [port(30080)]), service("b", healthCheckNodePort=30080, **local)
    taken = "node port 30080 is taken by the Service default/a"
    assert faults_of(*things) == [("default/b", "spec.healthCheckNodePort", taken)]
    own = service(ports=[port(30080)], healthCheckNodePort=30080, **local)
    message = "node port 30080 clashes with ports[0] of this Service"
    assert faults_of(own) == [("default/web", "spec.healthCheckNodePort", message)]
    assert given_to(service(healthCheckNodePort=30100, **local))["web"].health_check == 30100


def test_a_full_range_uses_the_lower_part_last() -> None:
    listed = [{"name": f"p{n}", "port": n + 1} for n in range(LAST - FIRST - STATIC + 1)]
    upper = given_to(node_port(ports=listed))["web"]
    assert set(upper.ports.values()) == set(range(FIRST + STATIC, LAST + 1))
    assert FIRST <= given_to(node_port("late"), node_port(ports=listed), web=upper)["late"].ports[""] < FIRST + STATIC
    more = [{"name": f"p{n}", "port": n + 1} for n in range(LAST - FIRST + 2)]
    assert faults_of(node_port(ports=more)) == [
        ("default/web", f"spec.ports[{len(more) - 1}]", "no node port of 30000-32767 is free")
    ]


@given(
    st.lists(
        st.tuples(st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"]), st.integers(1, 3), st.booleans()),
        max_size=20,
    )
)
def test_nobody_shares_and_a_second_run_changes_nothing(wishes: list[tuple[str, int, bool]]) -> None:
    things = [
        service(
            f"s{n}",
            ports=[{"name": f"p{i}", "port": i + 1} for i in range(count)],
            type=kind,
            **({"externalTrafficPolicy": "Local"} if local and kind != "ClusterIP" else {}),
        )
        for n, (kind, count, local) in enumerate(wishes)
    ]
    found, faults = node_ports.allocate(things, {})
    assert faults == []
    numbers = [number for ports in found.values() for number in (*ports.ports.values(), ports.health_check) if number]
    assert len(numbers) == len(set(numbers))
    assert node_ports.allocate(things, found) == (found, [])


# -- in the store and the plan


def test_a_plan_remembers_them() -> None:
    thing = service(type="LoadBalancer", externalTrafficPolicy="Local", ports=[{"name": "http", "port": 80}])
    made = plan.plan(store(thing), cluster(), ())
    spec = made.services[0]["spec"]
    own = NodePorts({"http": spec["ports"][0]["nodePort"]}, spec["healthCheckNodePort"])
    assert objects.node_ports(made.store) == {"default/web": own}
    # Another type keeps what it still needs, and gives the rest back.
    changed = objects.apply(made.store, [service(type="NodePort", ports=[{"name": "http", "port": 80}])])
    again = plan.plan(changed, cluster(), ())
    assert again.services[0]["spec"]["ports"][0]["nodePort"] == own.ports["http"]
    assert again.services[0]["spec"]["clusterIP"] == spec["clusterIP"]
    assert objects.node_ports(again.store) == {"default/web": NodePorts(own.ports, 0)}
    plain = plan.plan(objects.apply(again.store, [service()]), cluster(), ())
    assert objects.node_ports(plain.store) == {"default/web": NodePorts({}, 0)}
    assert plain.services[0]["spec"]["clusterIP"] == spec["clusterIP"]


def test_a_taken_one_is_a_problem_of_the_plan() -> None:
    things = node_port("a", [port(30080)]), node_port("b", [port(30080)])
    made = plan.plan(store(*things), cluster(), ())
    assert [str(problem) for problem in made.problems] == [
        "Service/b: spec.ports[0].nodePort: node port 30080 is taken by the Service default/a. "
        "Choose another, or leave it out to be given one"
    ]
