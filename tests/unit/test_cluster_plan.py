"""podlab_cluster's plans: claiming a place, and finding what is to go."""

from __future__ import annotations

import os
import pathlib
import stat
from collections.abc import Callable
from typing import Any

import pytest

from podlab import cluster_plan
from podlab.errors import PodlabError
from podlab.runtime import lab, paths
from podlab.runtime.files import read_json
from podlab.step import apply
from support.planned import cluster, write

CLUSTER = cluster().to_dict()
NOTHING = lab.Found((), (), "", "", ())
ALL = lab.Found(
    ((11, 5, "/pause"), (12, 6, "python3")),
    ("podlab-kind-network", "podlab-kind-worker"),
    "podlab/kind",
    "podlab1234",
    ("/run/podlab/kind",),
)


@pytest.fixture(autouse=True)
def roots(podlab_roots: pathlib.Path) -> None:
    """State in the test's directory."""


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[[lab.Found], None]:
    """found(what): from now on that is what there is of the lab."""

    def set_found(what: lab.Found) -> None:
        monkeypatch.setattr(lab, "find", lambda name, purge=False: what)

    return set_found


def claim(objects: Any = None, **changed: Any) -> cluster_plan.Claim:
    return cluster_plan.Claim({**CLUSTER, **changed}, objects)


def told(plan: Any) -> dict[str, list[str]]:
    return {item.name: [step.why for step in item.steps] for item in plan.items()}


def carry_out(plan: Any) -> None:
    apply([step for item in plan.items() for step in item.steps])


def test_claiming_writes_both_files_for_root_only() -> None:
    plan = claim({"objects": [1]})
    assert told(plan) == {"cluster.json": ["missing"], "objects.json": ["missing"]}
    carry_out(plan)
    assert read_json(paths.cluster_file("kind")) == CLUSTER
    assert read_json(paths.objects_file("kind")) == {"objects": [1]}
    for path, mode in (
        (paths.run_root(), 0o700),
        (paths.cluster_dir("kind"), 0o700),
        (paths.cluster_file("kind"), 0o600),
        (paths.objects_file("kind"), 0o600),
    ):
        assert stat.S_IMODE(os.stat(path).st_mode) == mode, path
    assert told(plan) == {"cluster.json": [], "objects.json": []}
    assert plan.state() == {"name": "kind", "cluster": CLUSTER}


def test_objects_left_out_stay_as_they_are() -> None:
    carry_out(claim({"objects": [1]}))
    assert told(claim()) == {"cluster.json": []}
    assert told(claim({"objects": [2]})) == {"cluster.json": [], "objects.json": ["changed"]}
    assert read_json(paths.objects_file("kind")) == {"objects": [1]}


def test_other_nodes_are_a_change() -> None:
    carry_out(claim())
    assert told(claim(nodes=[])) == {"cluster.json": ["changed"]}


def test_networks_cannot_change_while_the_lab_is_up() -> None:
    carry_out(claim())
    with pytest.raises(PodlabError) as caught:
        claim(node_subnet="172.19.0.0/16", service_subnet="10.97.0.0/16").items()
    assert str(caught.value) == (
        "The input is not valid, 2 problems:\n"
        "  podlab_node_subnet: cannot change while lab kind is up: it is 172.18.0.0/16, not 172.19.0.0/16. "
        "Take the lab down first: ./lab down\n"
        "  serviceSubnet: cannot change while lab kind is up: it is 10.96.0.0/16, not 10.97.0.0/16. "
        "Take the lab down first: ./lab down"
    )
    with pytest.raises(PodlabError, match="^podSubnet: cannot change while lab kind is up"):
        claim(pod_subnet="10.1.0.0/16").items()


def test_removal_ends_processes_first_and_directories_last(found: Callable[[lab.Found], None]) -> None:
    found(ALL)
    (item,) = cluster_plan.Removal("kind", False).items()
    assert [step.argv[:4] for step in item.steps] == [
        ("kill", "-KILL", "11", "12"),
        ("ip", "link", "delete", "podlab1234"),
        ("ip", "netns", "delete", "podlab-kind-network"),
        ("ip", "netns", "delete", "podlab-kind-worker"),
        ("find", "/sys/fs/cgroup/*/podlab/kind", "-depth", "-type"),
        ("rm", "-r", "/run/podlab/kind"),
    ]
    assert item.before == {
        "found": [
            "process 11 /pause",
            "process 12 python3",
            "netns podlab-kind-network",
            "netns podlab-kind-worker",
            "cgroup podlab/kind",
            "link podlab1234",
            "/run/podlab/kind",
        ]
    }
    assert item.after == {"found": []}


def test_nothing_is_nothing_to_do(found: Callable[[lab.Found], None]) -> None:
    found(NOTHING)
    assert told(cluster_plan.Removal("kind", False)) == {"lab kind": []}


def test_the_image_store_of_others_is_not_purged(found: Callable[[lab.Found], None]) -> None:
    found(NOTHING)
    write(paths.cluster_file("second"), {})
    with pytest.raises(PodlabError) as caught:
        cluster_plan.Removal("kind", True).items()
    assert str(caught.value) == (
        "The image store is not removed: the lab second uses it. "
        "Take it down first (./lab down --name second), or leave --purge out"
    )
    assert told(cluster_plan.Removal("second", True)) == {"lab second": []}


OURS = [
    ("kind", "podlab-kind-network", True),
    ("kind", "podlab-kind-control-plane", True),
    ("kind", "podlab-kind-control-plane2", True),
    ("kind", "podlab-kind-worker", True),
    ("kind", "podlab-kind-worker12", True),
    ("kind", "podlab-kind-worker-network", False),  # the network of a lab named kind-worker
    ("kind", "podlab-kind-2-worker", False),
    ("kind", "podlab-kinda-worker", False),
    ("kind", "podlab-kind", False),
    ("kind", "kind-worker", False),
    ("kind", "podlab-kind-worker2x", False),
    ("k.nd", "podlab-kind-worker", False),
    ("kind-2", "podlab-kind-2-worker", True),
]


@pytest.mark.parametrize(("name", "namespace", "expected"), OURS)
def test_whose_a_namespace_is(name: str, namespace: str, expected: bool) -> None:
    assert lab.is_ours(name, namespace) is expected


class TestModule:
    """podlab_cluster as Ansible runs it."""

    def test_check_mode_writes_nothing(self, run_module: Callable[..., Any], podlab_roots: pathlib.Path) -> None:
        result = run_module("podlab_cluster", {"cluster": CLUSTER, "objects": {"objects": []}}, check=True, diff=True)
        assert not result.get("failed"), result
        assert result["changed"] is True
        assert [each["name"] for each in result["results"]] == ["cluster.json", "objects.json"]
        assert result["commands"][0][:4] == ["install", "-D", "-m", "600"]
        assert (result["diff"][0]["before"], result["diff"][0]["after"]) == ({}, CLUSTER)
        assert result["lab"] == {"name": "kind", "cluster": {}}
        assert not os.path.exists(paths.run_root())

    def test_twice(self, run_module: Callable[..., Any]) -> None:
        args = {"cluster": CLUSTER, "objects": {"objects": []}}
        assert run_module("podlab_cluster", args)["changed"] is True
        again = run_module("podlab_cluster", args)
        assert (again["changed"], again["commands"], again["lab"]["cluster"]) == (False, [], CLUSTER)

    def test_absent_in_check_mode(self, run_module: Callable[..., Any], podlab_roots: pathlib.Path) -> None:
        name = f"unit{os.getpid()}"
        write(paths.cluster_file(name), {})
        result = run_module("podlab_cluster", {"name": name, "state": "absent"}, check=True, diff=True)
        assert result["commands"] == [["rm", "-r", paths.cluster_dir(name)]]
        assert result["lab"] == {"name": name, "found": [paths.cluster_dir(name)]}
        assert os.path.exists(paths.cluster_file(name))

    def test_absent(self, run_module: Callable[..., Any], podlab_roots: pathlib.Path) -> None:
        name = f"unit{os.getpid()}"
        write(paths.cluster_file(name), {})
        result = run_module("podlab_cluster", {"name": name, "state": "absent"})
        assert (result["changed"], result["lab"]) == (True, {"name": name, "found": []})
        assert not os.path.exists(paths.run_root())
        assert run_module("podlab_cluster", {"name": name, "state": "absent"})["changed"] is False

    def test_a_name_is_needed(self, run_module: Callable[..., Any]) -> None:
        assert "one of the following is required: name, cluster" in run_module("podlab_cluster", {})["msg"]
        assert "cluster" in run_module("podlab_cluster", {"name": "kind"})["msg"]

    @pytest.mark.parametrize(
        ("state", "said"),
        [
            ("present", "cluster: is no cluster as Cluster.to_dict makes it: 'nodes' is missing or wrong"),
            ("absent", "name: must be lower case letters, digits, dots and dashes, not ''"),
        ],
    )
    def test_what_is_no_cluster(self, run_module: Callable[..., Any], state: str, said: str) -> None:
        result = run_module("podlab_cluster", {"cluster": {"pod_subnet": "10.244.0.0/16"}, "state": state})
        assert result["failed"] and result["msg"] == said
