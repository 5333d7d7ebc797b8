"""A topology's plan: which steps lead from what is there to what is wanted; planned again there is nothing left."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podlab.step import apply
from podlab.topology_have import GROUP, Device, missing
from support.topology_cases import BRIDGE, CASES, NETNS, PORT, UPLINK, VETH, VXLAN, one, veth
from support.topology_model import Model, machine, steps_of, typed


@pytest.mark.parametrize(("have", "want", "commands"), CASES.values(), ids=CASES)
def test_the_steps_and_nothing_left(have: dict[str, Any], want: dict[str, Any], commands: list[str]) -> None:
    model = Model()
    model.reach(**have)
    assert typed(model.reach(**want)) == commands


@pytest.mark.parametrize("want", [want for _, want, _ in CASES.values()], ids=CASES)
def test_a_plan_says_why_and_leaves_what_is_there(want: dict[str, Any]) -> None:
    model = Model()
    model.reach(namespaces=NETNS, links=[BRIDGE, PORT, VXLAN])
    before = {name: space.copy() for name, space in model.have.items()}
    steps = steps_of(model.plan(**want))
    assert all(step.why and step.target and step.call for step in steps)
    assert {name: model.have[name] for name in before} == before


@pytest.mark.parametrize("want", [want for _, want, _ in CASES.values()], ids=CASES)
def test_made_and_taken_down_leaves_nothing(want: dict[str, Any]) -> None:
    model = Model()
    model.reach(namespaces=NETNS, links=[BRIDGE, PORT, VXLAN])
    model.reach(**want)
    model.reach(state="absent", namespaces=NETNS, links=[UPLINK])
    assert {name: space.exists for name, space in model.have.items()} == {"": True, "red": False, "blue": False}
    assert set(model.have[""].links) == {"lo"}


def test_a_stale_file_is_repaired_and_said() -> None:
    model = Model({**machine(), "red": missing(stale=True)})
    steps = model.reach(namespaces=[{"name": "red"}])
    assert typed(steps) == ["rm -f /run/netns/red", "ip netns add red"]
    assert steps[0].kind == "netns.repair"


def test_a_half_made_uplink_is_ours_by_its_group() -> None:
    model = Model()
    model.reach(namespaces=NETNS)
    model.link_add("", "up", "veth", {}, {"netns": "red", "name": "u0"}, group=GROUP)
    assert typed(model.reach(**one(**UPLINK))) == ["ip link property add dev up altname podlab-uplink"]


@pytest.mark.parametrize("done", range(30))
def test_killed_after_any_step_the_next_run_finishes(done: int) -> None:
    want: dict[str, Any] = {
        "namespaces": [{**entry, "loopback": True} for entry in NETNS],
        "links": [{**BRIDGE, "up": True}, {**PORT, "up": True, "addresses": ["10.0.0.1/24"]}, UPLINK],
        "routes": [{"netns": "red", "dst": "default", "via": "10.0.0.2"}],
    }
    model = Model()
    steps = steps_of(model.plan(**want))
    apply(steps[:done])
    rest = model.reach(**want)
    assert typed(rest) == typed(steps[done:])


def test_before_and_after_name_only_what_is_managed() -> None:
    model = Model()
    model.reach(**veth(mtu=1500, up=True, addresses=["10.0.0.1/24"]))
    change = next(each for each in model.plan(**veth(mtu=1400, addresses=["10.0.0.2/24"])) if each.steps)
    assert change.name == "link red/v0 - blue/v1"
    assert change.before["v0"] == {"kind": "veth", "mtu": 1500, "addresses": ["10.0.0.1/24"]}
    assert change.after["v0"] == {"kind": "veth", "mtu": 1400, "addresses": ["10.0.0.2/24"]}
    assert change.before["v1"] == change.after["v1"] == {"kind": "veth"}


def test_a_new_object_was_absent_before() -> None:
    changes = Model().plan(**veth(mtu=1400))
    assert [(change.name, dict(change.before)) for change in changes] == [
        ("netns red", {"state": "absent"}),
        ("netns blue", {"state": "absent"}),
        ("link red/v0 - blue/v1", {"state": "absent"}),
    ]


links = st.fixed_dictionaries(
    {},
    optional={
        "mtu": st.sampled_from([1400, 1500]),
        "up": st.booleans(),
        "master": st.sampled_from(["", "br0"]),
        "addresses": st.lists(
            st.sampled_from(["10.0.0.1/24", "10.0.0.2/24", "10.1.0.1/24", "fd00::1/64"]), unique=True
        ),
        "peer": st.sampled_from([{"name": "v1", "netns": "blue"}, {"name": "v2", "netns": "red"}]),
    },
)
routes = st.lists(
    st.builds(
        lambda dst, via: {"netns": "red", "dst": dst, "dev": "v0", "via": via, "onlink": True},
        st.sampled_from(["default", "10.7.0.0/16"]),
        st.sampled_from(["10.0.0.7", "10.0.0.8"]),
    ),
    unique_by=lambda route: route["dst"],
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(links, routes), min_size=1, max_size=4))
def test_any_sequence_of_topologies_settles(wants: list[tuple[dict[str, Any], list[dict[str, Any]]]]) -> None:
    model = Model()
    for link, wanted_routes in wants:
        model.reach(namespaces=NETNS, links=[{**VETH, **link}, BRIDGE], routes=wanted_routes)
    model.reach(state="absent", namespaces=NETNS)
    assert not model.have["red"].exists and not model.have["red"].links


def test_a_physical_device_in_a_namespace_is_made_again_as_wanted() -> None:
    model = Model()
    model.reach(namespaces=NETNS)
    model.have["red"].links["v0"] = Device(kind="")
    assert typed(model.reach(**veth()))[0] == "ip -n red link delete v0"
