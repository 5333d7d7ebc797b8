"""podlab_node's plan: which nodes are made, made anew, labelled, removed."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from podlab import node_plan
from podlab.errors import PodlabError
from podlab.runtime import paths
from podlab.runtime.files import read_json
from podlab.step import Item
from support.planned import ALIVE, GONE, cluster, node, write


@pytest.fixture(autouse=True)
def roots(podlab_roots: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """State in the test's directory; every network namespace is there."""
    for package in ("podlab", "ansible.module_utils.podlab"):
        monkeypatch.setattr(f"{package}.linux.netns.exists", lambda name: True)


CLUSTER = cluster(node(0, "control-plane"), node(1)).to_dict()
FIRST, SECOND = CLUSTER["nodes"]


def there(entry: Mapping[str, Any], process: Mapping[str, Any] = ALIVE, **changed: Any) -> None:
    write(paths.node_file("kind", entry["name"]), {**entry, "cluster": "kind", **process, **changed})


def plan(nodes: Sequence[Mapping[str, Any]] = (FIRST, SECOND), check: bool = False, **options: Any) -> Any:
    return node_plan.Nodes({**CLUSTER, "nodes": list(nodes)}, options.get("state", "present"), check)


def told(items: Sequence[Item]) -> dict[str, list[str]]:
    """Item -> what changes, and why; the steps that only tell are left out."""
    return {each.name.split(" ")[1]: [f"{step.kind}: {step.why}" for step in each.steps if step.call] for each in items}


CREATE, REMOVE = "node.create: ", "node.remove: "
TABLE = [
    ("nothing is there", None, {}, [CREATE + "missing"]),
    ("as wanted", ALIVE, {}, []),
    ("its pause is gone", GONE, {}, [REMOVE + "its pause process is gone", CREATE + "its pause process is gone"]),
    ("other address", ALIVE, {"address": "172.18.0.9"}, [REMOVE + "address changed", CREATE + "address changed"]),
    ("other pod range", ALIVE, {"pod_cidr": "10.9.0.0/24"}, [REMOVE + "pod_cidr changed", CREATE + "pod_cidr changed"]),
    ("other role", ALIVE, {"role": "control-plane"}, [REMOVE + "role changed", CREATE + "role changed"]),
    ("other mounts", ALIVE, {"mounts": [{"x": 1}]}, [REMOVE + "mounts changed", CREATE + "mounts changed"]),
    ("other labels", ALIVE, {"labels": {}}, ["node.label: labels or taints changed"]),
    ("other taints", ALIVE, {"taints": [{"key": "a"}]}, ["node.label: labels or taints changed"]),
]


@pytest.mark.parametrize(("_case", "process", "changed", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_a_wanted_node(_case: str, process: Any, changed: Any, expected: list[str]) -> None:
    there(FIRST)
    if process:
        there(SECOND, process, **changed)
    assert told(plan().items()) == {"kind-control-plane0": [], "kind-worker1": expected}


def test_nodes_that_are_not_in_the_config_go_first() -> None:
    there(FIRST)
    there(SECOND)
    assert list(told(plan([FIRST]).items()).items()) == [
        ("kind-worker1", [REMOVE + "not in the config"]),
        ("kind-control-plane0", []),
    ]


def test_absent_takes_all() -> None:
    there(FIRST)
    there(SECOND, GONE)
    os.makedirs(paths.node_dir("kind", "half-made"))
    assert set(told(plan(state="absent").items())) == {"kind-control-plane0", "kind-worker1", "half-made"}
    assert all(steps == [REMOVE + "not in the config"] for steps in told(plan(state="absent").items()).values())


def test_a_missing_network_namespace_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_plan.netns, "exists", lambda name: False)
    with pytest.raises(PodlabError) as caught:
        plan().items()
    assert str(caught.value) == (
        "The network namespace of podlab-kind-control-plane0, podlab-kind-worker1 is missing. "
        "Make it first with podlab_topology"
    )
    # In check mode the topology has not been made either.
    assert told(plan(check=True).items())["kind-worker1"] == [CREATE + "missing"]


def test_labels_are_written_down_and_nothing_else_changes() -> None:
    there(SECOND, labels={"old": "1"})
    (item,) = plan([SECOND]).items()
    (step,) = item.steps
    assert step.call is not None
    step.call(**step.args)
    found = read_json(paths.node_file("kind", "kind-worker1"))
    assert found["labels"] == SECOND["labels"]
    assert (found["pid"], found["start"], found["cluster"]) == (ALIVE["pid"], ALIVE["start"], "kind")
    assert "running" not in found and "alive" not in found
    assert told(plan([SECOND]).items()) == {"kind-worker1": []}


def test_the_files_of_a_node() -> None:
    (create,) = [step for step in plan([SECOND]).items()[0].steps if step.kind == "node.create"]
    files = create.args["files"]
    assert files["hostname"] == "kind-worker1\n"
    assert files["hosts"] == (
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n172.18.0.3\tkind-worker1\n"
    )


RESOLV = [
    (None, "domain a\nsearch b\nnameserver 9.9.9.9\noptions x\n"),
    ([], "nameserver 9.9.9.9\noptions x\n"),
    (["one.test", "two.test"], "nameserver 9.9.9.9\noptions x\nsearch one.test two.test\n"),
]


@pytest.mark.parametrize(("search", "expected"), RESOLV, ids=str)
def test_resolv_conf_takes_kinds_dns_search(
    monkeypatch: pytest.MonkeyPatch, search: list[str] | None, expected: str
) -> None:
    monkeypatch.setattr(node_plan, "read_text", lambda path: RESOLV[0][1])
    assert node_plan.resolv_conf(search) == expected


def test_check_mode(run_module: Callable[..., Any], podlab_roots: pathlib.Path) -> None:
    there(FIRST, GONE)
    before = sorted(os.walk(podlab_roots))
    result = run_module("podlab_node", {"cluster": CLUSTER}, check=True, diff=True)
    assert not result.get("failed"), result
    assert result["changed"] is True
    assert [each["name"] for each in result["results"]] == ["node kind-control-plane0", "node kind-worker1"]
    shown = {each["after_header"]: each for each in result["diff"]}
    assert shown["node kind-worker1"]["before"] == {}
    assert shown["node kind-worker1"]["after"]["address"] == "172.18.0.3"
    assert ["kill", "-KILL", str(GONE["pid"])] in result["commands"]
    assert [node["alive"] for node in result["nodes"]] == [False]
    assert sorted(os.walk(podlab_roots)) == before


def test_nothing_to_do_is_no_change(run_module: Callable[..., Any]) -> None:
    there(FIRST)
    there(SECOND)
    result = run_module("podlab_node", {"cluster": CLUSTER})
    assert (result["changed"], result["commands"]) == (False, [])
    assert [node["name"] for node in result["nodes"]] == ["kind-control-plane0", "kind-worker1"]


@pytest.mark.parametrize(
    ("cluster", "state", "said"),
    [
        (
            {"name": "kind"},
            "present",
            "cluster: is no cluster as Cluster.to_dict makes it: 'nodes' is missing or wrong",
        ),
        ({}, "absent", "name: must be lower case letters, digits, dots and dashes, not ''"),
    ],
)
def test_what_is_no_cluster(run_module: Callable[..., Any], cluster: dict[str, Any], state: str, said: str) -> None:
    result = run_module("podlab_node", {"cluster": cluster, "state": state})
    assert result["failed"] and result["msg"] == said
