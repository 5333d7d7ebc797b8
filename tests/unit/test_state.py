"""What is read of a lab: nodes and pods, alive, finished, going or lost."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import pytest

from podlab.linux import process
from podlab.runtime import paths, state

ALIVE = {"pid": os.getpid(), "start": process.start_time(os.getpid())}
GONE = {"pid": os.getpid(), "start": 1}


@pytest.fixture(autouse=True)
def roots(podlab_roots: pathlib.Path) -> None:
    """State in the test's directory."""


def write(path: str, data: Any) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    pathlib.Path(path).write_text(json.dumps(data))


def pod(name: str, supervisor: Any = None, status: Any = None, delete: Any = None, namespace: str = "default") -> None:
    directory = paths.pod_dir("kind", f"uid-{name}")
    write(f"{directory}/pod.json", {"metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}"}})
    for file, content in (("supervisor", supervisor), ("status", status), ("delete", delete)):
        if content is not None:
            write(f"{directory}/{file}.json", content)


RUNNING = {
    "phase": "Running",
    "conditions": [
        {"type": "Initialized", "status": "True"},
        {"type": "Ready", "status": "True"},
        {"type": "ContainersReady", "status": "True"},
    ],
    "containerStatuses": [{"name": "c", "ready": True, "started": True}],
}


def only() -> dict[str, Any]:
    (found,) = state.read_pods("kind")
    return found


def test_nothing_is_there() -> None:
    assert state.labs() == []
    assert state.read_state("kind") == {
        "cluster": None,
        "nodes": [],
        "pods": [],
        "services": {"services": [], "endpointslices": []},
        "objects": {"objects": []},
        "jobs": {},
        "watcher": {"alive": False},
    }


def test_labs_are_the_directories_of_labs() -> None:
    for name in ("two", "one"):
        write(paths.cluster_file(name), {})
    pathlib.Path(paths.lock_file("one")).write_text("")
    pathlib.Path(paths.run_root(), ".netns-dir").write_text("")
    assert state.labs() == ["one", "two"]


def test_nodes_in_their_order() -> None:
    for number, (name, process_record) in enumerate((("z", ALIVE), ("a", GONE))):
        write(paths.node_file("kind", name), {"name": name, "index": number, **process_record})
    os.makedirs(paths.node_dir("kind", "half-made"))
    assert [(node["name"], node["alive"]) for node in state.read_nodes("kind")] == [("z", True), ("a", False)]


def test_pods_by_namespace_and_name() -> None:
    for name, namespace in (("b", "default"), ("a", "z"), ("a", "default")):
        pod(f"{name}-{namespace}", ALIVE, RUNNING, namespace=namespace)
    os.makedirs(paths.pod_dir("kind", "without-pod-json"))
    names = [each["pod"]["metadata"]["name"] for each in state.read_pods("kind")]
    assert names == ["a-default", "b-default", "a-z"]


def test_a_pod_with_its_supervisor() -> None:
    pod("web", ALIVE, RUNNING)
    assert only()["alive"] is True
    assert only()["status"] == RUNNING


@pytest.mark.parametrize("supervisor", [GONE, None], ids=["ended", "never noted"])
def test_a_lost_pod_is_never_ready(supervisor: Any) -> None:
    pod("web", supervisor, RUNNING)
    found = only()
    assert (found["alive"], found["status"]["phase"], found["status"]["reason"]) == (False, "Unknown", "NodeLost")
    ready = {each["type"]: each["status"] for each in found["status"]["conditions"]}
    assert ready == {"Initialized": "True", "Ready": "False", "ContainersReady": "False"}
    assert found["status"]["containerStatuses"] == [{"name": "c", "ready": False, "started": False}]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_finished_pod_needs_no_supervisor(phase: str) -> None:
    pod("job", GONE, {"phase": phase})
    assert only()["status"] == {"phase": phase}


def test_a_pod_that_has_said_nothing_yet() -> None:
    pod("web", ALIVE)
    assert only()["status"] == {"phase": "Pending"}


def test_a_pod_that_is_going() -> None:
    pod("web", ALIVE, RUNNING, {"deletionTimestamp": "t"})
    assert only()["status"]["deletionTimestamp"] == "t"
    assert only()["pod"]["metadata"]["deletionTimestamp"] == "t"


def test_a_lost_pod_is_going_nowhere() -> None:
    pod("web", GONE, RUNNING, {"deletionTimestamp": "t"})
    assert "deletionTimestamp" not in only()["status"]
    assert only()["status"]["phase"] == "Unknown"
