"""The connection plugin's knowledge of a node: its record, its process, its namespaces. No root."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import types
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure

from podlab.linux import process

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def plugin() -> types.ModuleType:
    """The plugin's module."""
    spec = importlib.util.spec_from_file_location("podlab_connection", ROOT / "plugins" / "connection" / "podlab.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_record(roots: pathlib.Path, text: str) -> None:
    """node.json of node kind-worker."""
    directory = roots / "run" / "kind" / "nodes" / "kind-worker"
    directory.mkdir(parents=True)
    (directory / "node.json").write_text(text, encoding="utf-8")


def own_record() -> dict[str, Any]:
    """This process as a node's."""
    return {"pid": os.getpid(), "start": process.start_time(os.getpid())}


def test_a_record(plugin: types.ModuleType, podlab_roots: pathlib.Path) -> None:
    write_record(podlab_roots, json.dumps({"pid": 7, "start": 8, "role": "worker"}))
    assert plugin.read_record("kind", "kind-worker") == {"pid": 7, "start": 8}


def test_no_record(plugin: types.ModuleType, podlab_roots: pathlib.Path) -> None:
    with pytest.raises(AnsibleConnectionFailure, match=r"^Node kind-worker is not running\. Start it: \./lab up$"):
        plugin.read_record("kind", "kind-worker")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": 1}', '{"pid": "x", "start": 1}'])
def test_a_damaged_record(plugin: types.ModuleType, podlab_roots: pathlib.Path, text: str) -> None:
    write_record(podlab_roots, text)
    with pytest.raises(AnsibleConnectionFailure, match=r"node\.json is damaged\. Write it anew: \./lab up"):
        plugin.read_record("kind", "kind-worker")


@pytest.mark.parametrize(("cluster", "node"), [("..", "a"), ("a", "../b"), ("", "a"), ("a", "."), ("a/b", "c")])
def test_names_do_not_leave_the_state_directory(plugin: types.ModuleType, cluster: str, node: str) -> None:
    with pytest.raises(AnsibleConnectionFailure, match="is not a name of a cluster or node"):
        plugin.read_record(cluster, node)


def test_namespaces_of_a_living_process_are_open_only_inside(plugin: types.ModuleType) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with plugin.opened_namespaces(own_record(), "n") as fds:
        assert list(fds) == ["mnt", "uts", "ipc", "net", "pid", "cgroup"]
        for name, fd in fds.items():
            assert os.readlink(f"/proc/self/fd/{fd}") == os.readlink(f"/proc/self/ns/{name}")
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("change", [{"start": 1}, {"pid": 2**22 + 1}])
def test_a_pid_that_was_used_again_is_not_the_node(plugin: types.ModuleType, change: dict[str, int]) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with (
        pytest.raises(AnsibleConnectionFailure, match="Node n is not running"),
        plugin.opened_namespaces({**own_record(), **change}, "n"),
    ):
        raise AssertionError("entered")
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert plugin.alive(own_record())
    assert not plugin.alive({**own_record(), **change})


def test_the_controllers_environment_stays_outside(plugin: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/secret")
    monkeypatch.setenv("PATH", "/controller")
    monkeypatch.setenv("LANG", "C.UTF-8")
    found = plugin.environment()
    assert found["LANG"] == "C.UTF-8"
    assert found["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert set(found) <= {"PATH", "HOME", "USER", "LOGNAME", "SHELL", *plugin.KEPT}
