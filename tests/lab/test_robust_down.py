"""`down` is exact: the machine afterwards is the machine before, whatever state the lab was in; others are spared."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Iterator

import pytest

from support import snapshot
from support.machine import Machine, machine
from support.small_lab import SERVER, SmallLab
from support.waiting import until

pytestmark = pytest.mark.own_machine

DEFAULT = pathlib.Path(__file__).resolve().parents[2] / "clusters" / "default" / "cluster.yaml"


@pytest.fixture
def host() -> Iterator[Machine]:
    """A machine of the test's own."""
    with machine() as made:
        yield made


@pytest.fixture
def untouched(host: Machine) -> Iterator[None]:
    """The machine after the test must be as it was before."""
    before = host.snapshot()
    yield
    snapshot.assert_same(before, host.snapshot())


@pytest.fixture
def lab(host: Machine, tmp_path: pathlib.Path, untouched: None) -> Iterator[SmallLab]:
    """A lab that the test makes and takes down, or leaves half made."""
    yield SmallLab(host, tmp_path, "small")


def test_the_default_lab_leaves_nothing(host: Machine, untouched: None) -> None:
    """All of it: three nodes, Deployments, Jobs, DNS."""
    host.sh("invoke", "up", "--config", str(DEFAULT), "--name", "whole")
    assert host.path("/var/lib/podlab/clusters/whole").is_dir()
    host.sh("invoke", "down", "--name", "whole")
    assert [entry.name for entry in host.path("/var/lib/podlab").iterdir()] == ["images"]
    assert not host.path("/run/podlab").exists()
    assert not host.path("/run/netns").exists()


def test_purge_takes_the_image_store_along(lab: SmallLab) -> None:
    lab.up()
    assert lab.machine.path("/var/lib/podlab/images/refs").is_dir()
    lab.down("--purge")
    assert list(lab.machine.path("/var/lib/podlab").iterdir()) == []
    assert "nothing to do" in lab.down("--purge")


def test_purge_is_refused_while_another_lab_lives(lab: SmallLab, tmp_path: pathlib.Path) -> None:
    lab.up()
    other = SmallLab(lab.machine, tmp_path, "other")
    done = other.invoke("down", "--purge")
    assert done.returncode
    assert "the lab small uses it" in done.text
    lab.assert_works()
    lab.down()


def test_down_without_the_config(lab: SmallLab) -> None:
    lab.up()
    shutil.rmtree(lab.directory)
    assert "is down" in lab.down()


def test_down_without_the_state(lab: SmallLab) -> None:
    lab.up()
    lab.machine.sh("rm", "-r", lab.state)
    assert "is down" in lab.down()


def test_down_without_state_and_cgroups_of_pods_known(lab: SmallLab) -> None:
    """Not even the directory above: nothing but marks and names is left to find the lab by."""
    lab.up()
    lab.machine.sh("rm", "-r", "/run/podlab")
    assert "is down" in lab.down()
    # Whose directory this was is not known any more: an empty one stays.
    lab.machine.sh("rmdir", "/run/netns")


def test_down_twice_says_nothing_to_do(lab: SmallLab) -> None:
    lab.up()
    assert "is down" in lab.down()
    assert "nothing to do" in lab.down()


def test_down_of_what_never_was(lab: SmallLab) -> None:
    assert "nothing to do" in lab.down()


def test_down_of_a_network_alone(lab: SmallLab) -> None:
    """Only the topology was made."""
    done = lab.machine.run(
        "ansible-playbook",
        "playbooks/lab.yml",
        "--extra-vars",
        json.dumps({"node_objects": "nonsense"}),
        environment=lab.environment,
    )
    assert done.returncode, done.text
    assert lab.machine.path("/run/netns/podlab-small-control-plane").exists()
    assert lab.there("pods/*") == []
    assert "is down" in lab.down()


def test_down_with_the_node_dead(lab: SmallLab) -> None:
    """Killing the node's PID 1 ends all that is in it; the rest is still there to be removed."""
    lab.up()
    record = json.loads(lab.there("nodes/*/node.json")[0].read_text())
    lab.machine.sh("kill", "-KILL", str(record["pid"]))
    assert "is down" in lab.down()


def test_up_repairs_a_dead_node(lab: SmallLab) -> None:
    lab.up()
    record = json.loads(lab.there("nodes/*/node.json")[0].read_text())
    lab.machine.sh("kill", "-KILL", str(record["pid"]))
    lab.up()
    lab.assert_works()
    assert "nothing to do" in lab.up()
    lab.down()


def reboot(machine: Machine) -> None:
    """No process, namespace, link, cgroup or /run survives; what is on the disk does."""
    # Links first: with its peer's namespace gone, an uplink goes by itself, at a moment of the kernel's choice.
    for link in machine.sh("sh", "-c", "ls /sys/class/net | grep ^podlab").split():
        machine.sh("ip", "link", "delete", link)
    machine.sh("sh", "-c", "kill -KILL -1; umount /run/netns/*; rm -r /run/netns /run/podlab")
    places = [place for tree in machine.cgroup_trees() if machine.path(place := f"{tree}/podlab").is_dir()]
    procs = [file for place in places for file in machine.path(place).glob("**/cgroup.procs")]
    until(lambda: not any(file.read_text() for file in procs), "processes are left after a kill of all")
    machine.sh("find", *places, *"-depth -type d -exec rmdir {} +".split())


def test_up_after_a_reboot(lab: SmallLab) -> None:
    lab.up()
    reboot(lab.machine)
    assert list(lab.machine.path("/var/lib/podlab/clusters/small/pods").iterdir())
    lab.up()
    lab.assert_works()
    assert "nothing to do" in lab.up()
    lab.down()


def test_down_after_a_reboot(lab: SmallLab) -> None:
    lab.up()
    reboot(lab.machine)
    assert "is down" in lab.down()


def test_two_labs_and_a_stranger(host: Machine, tmp_path: pathlib.Path) -> None:
    """Labs side by side with the same pod subnet; a namespace, a link and a cgroup of somebody else's between them."""
    host.sh("ip", "netns", "add", "podlab-stranger")
    host.sh("ip", "link", "add", "podlabfeedbeef", "type", "veth", "peer", "stranger")
    host.sh("mkdir", "-p", *(f"{tree}/podlab/stranger" for tree in host.cgroup_trees()))
    before = host.snapshot()
    one, two = (SmallLab(host, tmp_path, name) for name in ("one", "one-two"))
    one.up()
    with_one = host.snapshot()
    two.up()
    subnets = [json.loads(lab.there("cluster.json")[0].read_text())["node_subnet"] for lab in (one, two)]
    assert len(set(subnets)) == 2, subnets
    ranges = [json.loads(lab.there("cluster.json")[0].read_text())["pod_subnet"] for lab in (one, two)]
    assert len(set(ranges)) == 1, ranges
    one.assert_works()
    two.assert_works()
    assert "nothing to do" in one.up()
    two.down()
    snapshot.assert_same(with_one, host.snapshot())
    one.assert_works()
    two.up()
    # The name of the one is the beginning of the other's.
    one.down()
    two.assert_works()
    assert "nothing to do" in two.up()
    two.down()
    snapshot.assert_same(before, host.snapshot())


def test_the_stranger_with_our_links_name_is_named(lab: SmallLab) -> None:
    """An unmarked thing in the way is an error that names it, and stays."""
    from podlab.kube.cluster import uplink_name

    lab.machine.sh("ip", "link", "add", uplink_name("small"), "type", "veth", "peer", "stranger")
    before = lab.machine.snapshot()
    done = lab.invoke("up", "--config", str(lab.config))
    assert done.returncode
    assert uplink_name("small") in done.text
    lab.down()
    snapshot.assert_same(before, lab.machine.snapshot())
    lab.machine.sh("ip", "link", "delete", uplink_name("small"))


def test_manifests_of_the_small_lab_are_sound(lab: SmallLab) -> None:
    """The other tests show what they claim only if nothing is amiss from the beginning."""
    assert SERVER.count("kind:") == 2
    done = lab.machine.run("invoke", "validate", str(lab.directory / "manifests"), str(lab.config))
    assert done.returncode == 0, done.text
