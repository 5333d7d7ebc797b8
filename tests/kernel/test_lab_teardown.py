"""Taking a lab away: all of it, from any state, and nothing of anybody else's."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from podlab.linux import cgroup, netns, process
from podlab.linux.netlink import Netlink
from podlab.runtime import lab, paths
from podlab.step import apply
from support import runtime
from support.waiting import running, until

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]
SLEEP = {"command": ["sleep", "1000"]}
NAME = f"down{os.getpid()}"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    with runtime.machine(tmp_path_factory.mktemp("machine")) as made:
        yield made


@pytest.fixture
def made(images: Mapping[str, Any]) -> Iterator[runtime.Lab]:
    """A lab of one node with two pods; that nothing is left of it is asserted after the test."""
    with runtime.node_on(NAME, images) as one:
        one.start(one.pod(SLEEP), one.pod(SLEEP, SLEEP, shareProcessNamespace=True))
        yield one


def take_away() -> None:
    apply(lab.removal(NAME, lab.find(NAME)))


def assert_gone() -> None:
    assert lab.find(NAME).names() == []
    assert not os.path.exists(paths.run_root())


def kill_node(made: runtime.Lab) -> None:
    os.kill(made.record["pid"], signal.SIGKILL)


def kill_supervisors(made: runtime.Lab) -> None:
    for uid in os.listdir(paths.pods_dir(NAME)):
        record = runtime.read_json(f"{paths.pod_dir(NAME, uid)}/supervisor.json")
        os.kill(record["pid"], signal.SIGKILL)


def lose_state(_made: runtime.Lab) -> None:
    shutil.rmtree(paths.cluster_dir(NAME))


def spoil_state(made: runtime.Lab) -> None:
    pathlib.Path(paths.node_file(NAME, made.record["name"])).write_text("{cut off")


def unpin(made: runtime.Lab) -> None:
    netns.delete(paths.node_netns(made.record["name"]))


def lose_data(_made: runtime.Lab) -> None:
    shutil.rmtree(paths.data_dir(NAME))


DAMAGE: list[Callable[[runtime.Lab], None]] = [kill_node, kill_supervisors, lose_state, spoil_state, unpin, lose_data]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda each: str(each.__name__))
def test_from_any_state(made: runtime.Lab, damage: Callable[[runtime.Lab], None]) -> None:
    damage(made)
    take_away()
    assert_gone()


def test_it_takes_all_and_again_nothing(made: runtime.Lab) -> None:
    # pause of the node; per pod supervisor, pause and containers; whoever started these may be on his way out.
    until(lambda: len(lab.find(NAME).processes) == 1 + 3 + 4, "the lab has other processes")
    found = lab.find(NAME)
    assert found.namespaces == (f"podlab-{NAME}-worker",)
    assert set(found.directories) == {paths.cluster_dir(NAME), paths.data_dir(NAME)}
    take_away()
    assert_gone()
    assert lab.removal(NAME, lab.find(NAME)) == []


def test_what_a_run_that_was_killed_at_once_has_left_goes(images: Mapping[str, Any]) -> None:
    """The cgroup above all labs', in one tree only."""
    cgroup.detect().single().create("podlab")
    assert lab.find(NAME).names() == ["cgroup podlab"]
    take_away()
    assert_gone()


def test_the_cgroup_above_another_labs_is_not_taken(images: Mapping[str, Any]) -> None:
    hierarchies = cgroup.detect()
    hierarchies.single().create("podlab")
    found = lab.find(NAME)
    hierarchies.create("podlab/another")
    apply(lab.removal(NAME, found))
    assert lab.find(NAME).names() == []
    assert hierarchies.exists("podlab/another")
    hierarchies.remove("podlab")


def test_the_images_stay(made: runtime.Lab) -> None:
    take_away()
    assert os.path.isdir(paths.images_dir())


def test_another_labs_things_stay(images: Mapping[str, Any]) -> None:
    other = f"{NAME}-2"  # its names begin as ours do
    with runtime.node_on(other, images) as second:
        (pod,) = second.start(second.pod(SLEEP))
        with runtime.node_on(NAME, images) as first:
            first.start(first.pod(SLEEP))
            take_away()
            assert lab.find(NAME).names() == []
        assert process.alive(second.record["pid"], second.record["start"])
        assert pod.sh("echo alive") == "alive\n"
        assert netns.exists(paths.node_netns(second.record["name"]))
        assert cgroup.detect().exists(paths.cgroup_root(other))


def test_a_busy_container_goes_too(made: runtime.Lab) -> None:
    """Processes that come and go while they are counted."""
    made.start(made.pod({"command": ["sh", "-c", "while :; do /bin/true; done"]}))
    take_away()
    assert_gone()


def test_a_pid_that_another_process_has_by_now_is_spared(images: Mapping[str, Any]) -> None:
    with running(["sleep", "1000"]) as stranger:
        lab.end(((stranger.pid, process.start_time(stranger.pid) - 1, "sleep"),), NAME)
        assert process.start_time(stranger.pid)


def test_only_an_uplink_with_our_mark_is_ours(images: Mapping[str, Any]) -> None:
    name = lab.uplink_name(NAME)
    with Netlink() as netlink:
        netlink.add_veth(name, "peer0")
        try:
            assert lab.find(NAME).uplink == ""
            netlink.add_altname(name, f"podlab-uplink-{NAME}")
            assert lab.find(NAME).uplink == name
            take_away()
            assert name not in netlink.links()
        finally:
            if name in netlink.links():
                netlink.del_link(name)


def test_a_volume_of_the_host_survives_it(made: runtime.Lab, tmp_path: pathlib.Path) -> None:
    (tmp_path / "kept").write_text("kept")
    volumes = [{"name": "v", "hostPath": {"path": str(tmp_path)}}]
    mounted = {**SLEEP, "volumeMounts": [{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}]}
    made.run_pod(mounted, volumes=volumes).sh("echo > /v/written")
    take_away()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "written"]
