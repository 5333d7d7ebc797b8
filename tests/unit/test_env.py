"""The environment: expansion, precedence, Service variables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.kube import env


# third_party/forked/golang/expansion/expand_test.go
@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$(VAR_A)", "A"),
        ("___$(VAR_B)___", "___B___"),
        ("$(VAR_A)-1", "A-1"),
        ("$(VAR_A)_$(VAR_B)_$(VAR_C)", "A_B_C"),
        ("$$(VAR_B)_$(VAR_A)", "$(VAR_B)_A"),
        ("$$(VAR_A)_$$(VAR_B)", "$(VAR_A)_$(VAR_B)"),
        ("f000-$$VAR_A", "f000-$VAR_A"),
        ("foo\\$(VAR_C)bar", "foo\\Cbar"),
        ("foo$$$$$$(BAR)", "foo$$$(BAR)"),
        ("$(VAR_DNE)", "$(VAR_DNE)"),
        ("$VAR_A", "$VAR_A"),
        ("foo$", "foo$"),
        ("$(VAR_A", "$(VAR_A"),
        ("$(VAR_A)$(", "A$("),
        ("$()", "$()"),
        ("$($(VAR_A))", "$($(VAR_A))"),
        ("$(VAR_EMPTY)x", "x"),
        ("\n$(VAR_A)\n", "\nA\n"),
    ],
)
def test_expand(text, result):
    assert env.expand(text, {"VAR_A": "A", "VAR_B": "B", "VAR_C": "C", "VAR_EMPTY": ""}) == result


@given(st.text())
def test_doubled_dollars_are_literal(text):
    assert env.expand(text.replace("$", "$$"), {"A": "x"}) == text


def service(name="redis-primary", namespace="default", address="10.0.0.11", ports=None):
    ports = ports or [{"name": "db", "port": 6379, "protocol": "TCP"}]
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"clusterIP": address, "ports": ports}}


def pairs(entries):
    return [(entry["name"], entry["value"]) for entry in entries]


def test_service_variables():
    assert pairs(env.service_entries([service()], "default")) == [
        ("REDIS_PRIMARY_SERVICE_HOST", "10.0.0.11"),
        ("REDIS_PRIMARY_SERVICE_PORT", "6379"),
        ("REDIS_PRIMARY_SERVICE_PORT_DB", "6379"),
        ("REDIS_PRIMARY_PORT", "tcp://10.0.0.11:6379"),
        ("REDIS_PRIMARY_PORT_6379_TCP", "tcp://10.0.0.11:6379"),
        ("REDIS_PRIMARY_PORT_6379_TCP_PROTO", "tcp"),
        ("REDIS_PRIMARY_PORT_6379_TCP_PORT", "6379"),
        ("REDIS_PRIMARY_PORT_6379_TCP_ADDR", "10.0.0.11"),
    ]


def test_a_node_port_changes_nothing():
    plain = service(ports=[{"port": 80, "protocol": "TCP"}])
    with_node_port = service(ports=[{"port": 80, "protocol": "TCP", "nodePort": 30080}])
    assert env.service_entries([with_node_port], "default") == env.service_entries([plain], "default")


def test_which_services_count():
    services = [
        service("own"),
        service("headless", address="None"),
        service("elsewhere", "other"),
        service("kubernetes", "default", "10.96.0.1"),
        # An ExternalName has no address, and maybe no ports.
        {"metadata": {"name": "alias", "namespace": "other"}, "spec": {"type": "ExternalName", "ports": []}},
    ]
    hosts = [e["name"] for e in env.service_entries(services, "other") if e["name"].endswith("_SERVICE_HOST")]
    assert hosts == ["ELSEWHERE_SERVICE_HOST", "KUBERNETES_SERVICE_HOST"]
    without_links = env.service_entries(services, "default", enable_service_links=False)
    assert [e["name"] for e in without_links if e["name"].endswith("_SERVICE_HOST")] == ["KUBERNETES_SERVICE_HOST"]


def container(*entries, command=()):
    return {"env": [{"name": n, "value": v, "source": s} for n, v, s in entries], "command": list(command)}


def test_precedence_and_place():
    box = container(
        *[("PATH", "/bin", "image"), ("HOSTNAME", "pod", "image"), ("LANG", "C", "image")],
        *[("HOSTNAME", "mine", "pod"), ("A", "1", "pod"), ("A", "2", "pod")],
        *[("A", "service", "service"), ("B", "service", "service")],
    )
    assert env.whole(box, env.kubelet_env(box, {})) == [
        ("PATH", "/bin"),
        ("HOSTNAME", "mine"),
        ("LANG", "C"),
        ("A", "2"),
        ("B", "service"),
    ]


def test_values_see_earlier_entries_and_services_but_not_the_image():
    box = container(
        ("IMG", "i", "image"),
        ("ONE", "$(SVC)-$(IMG)-$(TWO)", "pod"),
        ("TWO", "$(ONE)", "pod"),
        ("RAW", "$(ONE)", "field"),
        ("SVC", "s", "service"),
        command=("$(IMG)", "$(TWO)", "$$(TWO)"),
    )
    known = dict(env.whole(box, env.kubelet_env(box, {})))
    assert known["ONE"] == "s-$(IMG)-$(TWO)"
    assert known["TWO"] == "s-$(IMG)-$(TWO)"
    assert known["RAW"] == "$(ONE)"
    assert env.argv(box, env.kubelet_env(box, {})) == ["$(IMG)", "s-$(IMG)-$(TWO)", "$(TWO)"]


def test_own_value_shadows_a_service_variable():
    box = container(("SVC", "own", "pod"), ("X", "$(SVC)", "pod"), ("SVC", "s", "service"))
    assert env.whole(box, env.kubelet_env(box, {})) == [("SVC", "own"), ("X", "own")]


def test_fields_known_at_start():
    box = {"env": [{"name": "IP", "field": "status.podIP", "source": "field"}], "command": ["$(IP)"]}
    assert env.whole(box, env.kubelet_env(box, {"status.podIP": "10.244.1.2"})) == [("IP", "10.244.1.2")]
    assert env.argv(box, env.kubelet_env(box, {"status.podIP": "10.244.1.2"})) == ["10.244.1.2"]


def test_image_entries_add_a_path_only_when_the_image_has_none():
    assert pairs(env.image_entries(["A=b=c"], "web")) == [
        ("PATH", env.DEFAULT_PATH),
        ("HOSTNAME", "web"),
        ("A", "b=c"),
    ]
    assert pairs(env.image_entries(["PATH=/x"], "web")) == [("HOSTNAME", "web"), ("PATH", "/x")]
