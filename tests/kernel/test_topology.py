"""podlab_topology on the kernel: made, made again, checked, refused, taken down."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from podlab.linux import netns
from podlab.linux.netlink import Netlink
from podlab.step import apply
from podlab.topology import Topology
from podlab.topology_kernel import Session
from support.own_machine import sh, trace
from support.topology_lab import LAB, NETNS, Run, down, left_as_found, pair, ping, remove_directory, run_ok

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine]


@pytest.fixture(autouse=True)
def machine() -> Iterator[None]:
    """A machine that is left as it was found."""
    yield from left_as_found()


def test_a_lab_made_again_checked_and_taken_down(run_module: Run) -> None:
    checked = run_ok(run_module, check=True, **LAB)
    assert not os.path.exists("/run/netns"), "check mode made something"
    made = run_ok(run_module, **LAB)
    for key in ("changed", "commands", "results", "diff"):
        assert made[key] == checked[key]
    assert made["changed"] is True
    ping("podlab-n1", "172.18.0.3")
    ping("podlab-n1", "172.18.0.1")
    ping("", "172.18.0.2")
    ping("podlab-n2", "10.244.0.1")
    again = run_ok(run_module, **LAB)
    assert (again["changed"], again["commands"], again["diff"]) == (False, [], [])
    assert again["topology"]["namespaces"] == ["podlab-lab-network", "podlab-n1", "podlab-n2"]
    assert [link["name"] for link in again["topology"]["links"]] == [
        "br0", "podlab01234567", "uplink", "n1", "eth0", "n2", "eth0",
    ]  # fmt: skip
    assert again["topology"]["links"][4]["address"] == "02:00:00:00:00:01"
    would_go = run_ok(run_module, check=True, state="absent", **LAB)
    assert run_ok(run_module, **LAB)["changed"] is False
    gone = run_ok(run_module, state="absent", **LAB)
    assert gone["commands"] == would_go["commands"]
    assert ["ip", "link", "delete", "podlab01234567"] in gone["commands"]
    assert run_ok(run_module, state="absent", **LAB)["changed"] is False


def test_the_commands_typed_make_the_same(run_module: Run) -> None:
    """The plan as a shell script builds what the module builds: the module finds nothing left to do."""
    commands = run_ok(run_module, check=True, **LAB)["commands"]
    for argv in commands:
        sh(*argv)
    assert run_ok(run_module, **LAB)["commands"] == []
    for argv in run_ok(run_module, check=True, state="absent", **LAB)["commands"]:
        sh(*argv)
    assert run_ok(run_module, state="absent", **LAB)["commands"] == []
    remove_directory()


def test_a_wrong_kind_and_a_wrong_peer_are_made_again(run_module: Run) -> None:
    run_ok(run_module, namespaces=NETNS)
    sh("ip", "-n", "red", "link", "add", "v0", "type", "bridge")
    sh("ip", "-n", "blue", "link", "add", "v1", "type", "veth", "peer", "name", "other")
    result = run_ok(run_module, namespaces=NETNS, links=[pair()])
    assert [" ".join(argv) for argv in result["commands"]][:3] == [
        "ip -n red link delete v0",
        "ip -n blue link delete v1",
        "ip -n red link add v0 type veth peer name v1 netns blue",
    ]
    ping("red", "11.11.11.3")
    down(run_module, namespaces=NETNS)


def test_ends_that_only_look_like_a_pair(run_module: Run) -> None:
    """Device numbers repeat between namespaces: that v0 and v1 have each other's number does not make them a pair."""
    spaces = [{"name": name} for name in ("red", "blue", "green", "grey")]
    run_ok(run_module, namespaces=spaces)
    sh("ip", "-n", "red", "link", "add", "v0", "type", "veth", "peer", "name", "x", "netns", "green")
    sh("ip", "-n", "blue", "link", "add", "v1", "type", "veth", "peer", "name", "y", "netns", "grey")
    result = run_ok(run_module, namespaces=spaces, links=[pair()])
    assert ["ip", "-n", "red", "link", "delete", "v0"] in result["commands"]
    ping("red", "11.11.11.3")
    down(run_module, namespaces=spaces)


def test_deleting_one_end_removes_both(run_module: Run) -> None:
    run_ok(run_module, namespaces=NETNS, links=[pair()])
    result = run_ok(run_module, namespaces=NETNS, links=[pair(state="absent")])
    assert result["commands"] == [["ip", "-n", "red", "link", "delete", "v0"]]
    assert result["topology"]["links"] == []
    down(run_module, namespaces=NETNS)


def test_a_foreign_link_of_the_machine_is_left_alone(run_module: Run) -> None:
    sh("ip", "link", "add", "podlab01234567", "type", "bridge")
    before = trace()
    for state in ("present", "absent"):
        result = run_module("podlab_topology", {**LAB, "state": state})
        assert result["failed"] is True
        assert result["msg"] == (
            "links[1].name: the machine has a bridge link 'podlab01234567' that is not ours. "
            "Rename or remove it, or choose another name."
        )
    assert trace() == before
    sh("ip", "link", "delete", "podlab01234567")


def test_a_network_of_the_machine_is_not_taken_over(run_module: Run) -> None:
    sh("ip", "link", "add", "docker0", "type", "bridge")
    sh("ip", "address", "add", "172.18.0.1/16", "dev", "docker0")
    sh("ip", "link", "set", "docker0", "up")
    result = run_module("podlab_topology", LAB)
    assert result["msg"] == (
        "links[1].addresses: 172.18.0.0/16 overlaps with the machine's route 172.18.0.0/16 dev docker0. "
        "Choose another network."
    )
    sh("ip", "link", "delete", "docker0")


def test_every_problem_before_the_kernel_is_touched(run_module: Run) -> None:
    links = [
        pair(name="a-name-of-16-byt", mtu=1, master="br9"),
        {"name": "vx", "netns": "red", "kind": "vxlan", "vxlan": {"id": 0}},
        {"name": "br0", "netns": "../../etc", "kind": "bridge"},
    ]
    result = run_module("podlab_topology", {"namespaces": NETNS, "links": links})
    assert [problem["place"] for problem in result["problems"]] == [
        "links[0].name",
        "links[0].mtu",
        "links[1].vxlan.id",
        "links[2].netns",
        "links[0].master",
    ]
    assert not os.path.exists("/run/netns")


def test_a_link_that_goes_by_itself_is_cleared_away_all_the_same() -> None:
    with Netlink() as socket:
        socket.clear_link("gone")
        with pytest.raises(OSError, match="delete link lo"):
            socket.clear_link("lo")


def test_a_dummy_where_the_kernel_has_some_and_where_it_has_none(run_module: Run) -> None:
    with Netlink() as socket:
        try:
            socket.add_dummy("asked")
            supported = True
            socket.del_link("asked")
        except OSError:
            supported = False
    links = [{"name": "d0", "netns": "red", "kind": "dummy", "up": True, "addresses": ["10.0.0.1/32"]}]
    result = run_module("podlab_topology", {"namespaces": NETNS, "links": links})
    if supported:
        assert run_ok(run_module, namespaces=NETNS, links=links)["changed"] is False
    else:
        assert "This kernel has no dummy links (CONFIG_DUMMY)" in result["msg"]
        assert "link.add on d0 in netns red" in result["msg"]
        assert result["completed"][0] == "ip netns add red"
    down(run_module, namespaces=NETNS)


def test_hostile_names_arrive_as_they_are(run_module: Run) -> None:
    names = {"name": "$(reboot)", "netns": "`id`", "kind": "veth", "altname": "';{{1}}"}
    links = [{**names, "peer": {"name": "ünï", "netns": "';"}}]
    spaces = [{"name": "`id`"}, {"name": "';"}]
    run_ok(run_module, namespaces=spaces, links=links)
    found = json.loads(sh("ip", "-j", "-n", "`id`", "link"))
    assert [link["ifname"] for link in found] == ["lo", "$(reboot)"]
    assert run_ok(run_module, namespaces=spaces, links=links)["changed"] is False
    down(run_module, namespaces=spaces)


def test_addresses_of_one_network(run_module: Run) -> None:
    def with_addresses(*addresses: str) -> dict[str, Any]:
        return {"namespaces": NETNS, "links": [pair(addresses=list(addresses))]}

    for promote in ("0", "1"):
        run_ok(run_module, **with_addresses("10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24"))
        sh("ip", "netns", "exec", "red", "sysctl", "-qw", f"net.ipv4.conf.all.promote_secondaries={promote}")
        run_ok(run_module, **with_addresses("10.0.0.3/24"))
        found = json.loads(sh("ip", "-j", "-4", "-n", "red", "address", "show", "dev", "v0"))
        assert [each["local"] for each in found[0]["addr_info"]] == ["10.0.0.3"]
        run_ok(run_module, **with_addresses("10.0.0.3/24", "10.0.0.4/24"))
        first = {"netns": "red", "dev": "v0", "address": "10.0.0.3/24", "state": "absent"}
        run_ok(run_module, **with_addresses(), addresses=[first])
    down(run_module, namespaces=NETNS)


def test_a_bystander_stays(run_module: Run) -> None:
    sh("ip", "netns", "add", "theirs")
    sh("ip", "link", "add", "theirs0", "type", "veth", "peer", "name", "theirs1", "netns", "theirs")
    before = sh("ip", "-details", "link")
    inside = sh("ip", "-n", "theirs", "-details", "link")
    run_ok(run_module, **LAB)
    down(run_module, **LAB)
    assert sh("ip", "-details", "link") == before
    assert sh("ip", "-n", "theirs", "-details", "link") == inside
    sh("ip", "link", "delete", "theirs0")
    sh("ip", "netns", "delete", "theirs")
    remove_directory()


def test_a_lab_of_three_nodes_takes_few_requests() -> None:
    with Session() as session:
        topology = Topology(LAB, session)
        steps = [step for item in topology.items() for step in item.steps]
        apply(steps)
        made = session.round_trips
        assert [step for item in topology.items() for step in item.steps] == []
        assert made <= 2.5 * len(steps)
        assert session.round_trips - made <= 8 * 4
        apply([step for item in Topology({**LAB, "state": "absent"}, session).items() for step in item.steps])
    assert netns.names() == []
