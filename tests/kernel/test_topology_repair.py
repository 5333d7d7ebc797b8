"""podlab_topology on the kernel: what drifted, what is half there, what a killed run left."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from podlab.linux import netns
from podlab.step import apply
from podlab.topology import Topology
from podlab.topology_kernel import Session
from support.own_machine import sh
from support.topology_lab import LAB, Run, down, left_as_found, ping, run_ok
from support.waiting import until

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine]


@pytest.fixture(autouse=True)
def machine() -> Iterator[None]:
    """A machine that is left as it was found."""
    yield from left_as_found()


def drift(run_module: Run, *argv: str) -> list[str]:
    """Build the lab, spoil it with a command, build again: the commands that repaired it."""
    run_ok(run_module, **LAB)
    sh(*argv)
    commands = [" ".join(argv) for argv in run_ok(run_module, **LAB)["commands"]]
    assert run_ok(run_module, **LAB)["commands"] == []
    down(run_module, **LAB)
    return commands


IN = ("ip", "-n", "podlab-n1")
NET = ("ip", "-n", "podlab-lab-network")


@pytest.mark.parametrize(
    ("spoil", "repair"),
    [
        ((*IN, "link", "set", "eth0", "mtu", "1400"), ["ip -n podlab-n1 link set dev eth0 mtu 1450"]),
        (
            (*IN, "link", "set", "eth0", "address", "02:00:00:00:00:77"),
            [
                "ip -n podlab-n1 link set dev eth0 address 02:00:00:00:00:01",
                "ip -n podlab-n1 neighbour replace 172.18.9.9 lladdr 02:00:00:00:09:09 dev eth0 nud permanent",
            ],
        ),
        ((*IN, "address", "add", "9.9.9.9/32", "dev", "eth0"), ["ip -n podlab-n1 address delete 9.9.9.9/32 dev eth0"]),
        ((*IN, "route", "delete", "default"), ["ip -n podlab-n1 route replace default via 172.18.0.1"]),
        (
            (*IN, "route", "replace", "default", "via", "172.18.0.9"),
            ["ip -n podlab-n1 route replace default via 172.18.0.1"],
        ),
        (
            (*IN, "link", "set", "eth0", "down"),
            [
                "ip -n podlab-n1 link set dev eth0 up",
                "ip -n podlab-n1 route replace default via 172.18.0.1",
                "ip -n podlab-n1 neighbour replace 172.18.9.9 lladdr 02:00:00:00:09:09 dev eth0 nud permanent",
            ],
        ),
        (
            (*NET, "link", "set", "n1", "nomaster"),
            [
                "ip -n podlab-lab-network link set dev n1 master br0",
                "bridge -n podlab-lab-network link set dev n1 hairpin on isolated off",
                "bridge -n podlab-lab-network fdb add 02:00:00:00:09:09 dev n1 master static",
            ],
        ),
        (
            ("bridge", "-n", "podlab-lab-network", "link", "set", "dev", "n1", "hairpin", "off"),
            ["bridge -n podlab-lab-network link set dev n1 hairpin on"],
        ),
        (
            (*NET, "link", "set", "br0", "type", "bridge", "stp_state", "1"),
            ["ip -n podlab-lab-network link set dev br0 type bridge stp_state 0"],
        ),
        (
            ("ip", "netns", "exec", "podlab-n1", "sysctl", "-w", "net.ipv4.ip_forward=0"),
            ["ip netns exec podlab-n1 sysctl -w net.ipv4.ip_forward=1"],
        ),
        (
            ("ip", "link", "set", "podlab01234567", "addrgenmode", "eui64"),
            ["ip link set dev podlab01234567 addrgenmode none"],
        ),
    ],
)  # fmt: skip
def test_what_drifts_is_put_right_and_nothing_else(run_module: Run, spoil: tuple[str, ...], repair: list[str]) -> None:
    assert drift(run_module, *spoil) == repair


@pytest.mark.parametrize(
    "spoil",
    [
        (*IN, "link", "delete", "eth0"),
        (*NET, "link", "delete", "br0"),
        ("ip", "link", "delete", "podlab01234567"),
        (*IN, "link", "set", "eth0", "name", "eth1"),
        (*NET, "link", "set", "n1", "netns", "podlab-n2"),
        (*IN, "address", "delete", "172.18.0.2/16", "dev", "eth0"),
        ("ip", "netns", "delete", "podlab-n1"),
        ("umount", "--no-mtab", "/run/netns/podlab-n2"),
    ],
)
def test_what_is_half_gone_comes_back(run_module: Run, spoil: tuple[str, ...]) -> None:
    assert drift(run_module, *spoil) != []


def test_an_end_that_goes_by_itself_meanwhile(run_module: Run) -> None:
    """The kernel takes a namespace apart in its own time, and the other ends of its veth pairs with it."""
    run_ok(run_module, **LAB)
    kept = os.open(netns.path("podlab-n1"), os.O_RDONLY)
    sh("ip", "netns", "delete", "podlab-n1")
    with Session() as session:
        steps = [step for item in Topology(LAB, session).items() for step in item.steps]
        assert ("link.delete", "its peer is missing") in {(step.kind, step.why) for step in steps}
        os.close(kept)
        until(lambda: "n1@" not in sh(*NET, "-o", "link"), "the other end is still there")
        apply(steps)
    assert run_ok(run_module, **LAB)["changed"] is False
    down(run_module, **LAB)


@pytest.mark.parametrize("done", [1, 4, 7, 9, 10, 12, 16, 21, 25, 30])
def test_killed_between_two_steps_the_next_run_finishes(run_module: Run, done: int) -> None:
    child = os.fork()
    if child == 0:
        with Session() as session:
            steps = [step for item in Topology(LAB, session).items() for step in item.steps]
            apply(steps[:done])
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    run_ok(run_module, **LAB)
    assert run_ok(run_module, **LAB)["changed"] is False
    ping("podlab-n1", "172.18.0.3")
    down(run_module, **LAB)


def test_killed_before_the_mark_the_uplink_is_still_ours(run_module: Run) -> None:
    with Session() as session:
        steps = [step for item in Topology(LAB, session).items() for step in item.steps]
        apply(steps[: [step.kind for step in steps].index("link.altname")])
    down(run_module, **LAB)
