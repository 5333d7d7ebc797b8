"""podlab_namespace_info on the kernel, against what lsns and /proc say."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from podlab.linux import netns
from support.own_machine import own_machine, sh, trace

pytestmark = pytest.mark.kernel

Run = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def machine() -> Iterator[None]:
    """A machine that is left as it was found."""
    with own_machine():
        before = trace()
        yield
        assert trace() == before


@pytest.fixture
def alone() -> Iterator[int]:
    """The pid of a process in uts and ipc namespaces of its own, named by its command line."""
    argv = ["unshare", "--uts", "--ipc", "sh", "-c", "echo ready; read line", "ünï code"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        process.communicate()


def test_one_process(run_module: Run, alone: int) -> None:
    result = run_module("podlab_namespace_info", {"pids": [alone], "types": ["uts", "net"]})
    assert result["changed"] is False
    assert result["commands"] == [["lsns", "-p", str(alone)]]
    inodes = {kind: os.stat(f"/proc/{alone}/ns/{kind}").st_ino for kind in ("net", "uts")}
    assert result["processes"] == [{"pid": alone, "namespaces": inodes}]
    net, uts = result["namespaces"]
    assert (uts["type"], uts["inode"], uts["pids"]) == ("uts", inodes["uts"], [alone])
    assert uts["command"] == "sh -c echo ready; read line ünï code"
    assert net["inode"] == inodes["net"]
    assert {os.getpid(), alone} <= set(net["pids"])


def test_all_are_those_of_lsns(run_module: Run, alone: int) -> None:
    types = ["uts", "ipc", "pid", "user"]
    found = run_module("podlab_namespace_info", {"types": types})["namespaces"]
    options = [word for kind in types for word in ("--type", kind)]
    listed = json.loads(sh("lsns", "--json", "--output", "NS,TYPE,PID", *options))["namespaces"]
    wanted = {(each["type"], int(each["ns"])) for each in listed if each["pid"] is not None}
    assert {(each["type"], each["inode"]) for each in found} >= {
        pair for pair in wanted if pair[1] == os.stat(f"/proc/{alone}/ns/{pair[0]}").st_ino
    }
    assert ("uts", os.stat(f"/proc/{alone}/ns/uts").st_ino) in wanted
    assert result_order(found)


def result_order(found: list[dict[str, Any]]) -> bool:
    """By type, then inode; pids ascend."""
    keys = [(each["type"], each["inode"]) for each in found]
    return keys == sorted(keys) and all(each["pids"] == sorted(each["pids"]) for each in found)


def test_a_pinned_namespace_without_a_process(run_module: Run) -> None:
    netns.create("red")
    found = run_module("podlab_namespace_info", {"types": ["net"]}, check=True)["namespaces"]
    red = [each for each in found if each["names"] == ["red"]]
    assert red == [{"inode": netns.inode("red"), "type": "net", "pids": [], "command": "", "names": ["red"]}]
    netns.delete("red")


def test_every_process_that_is_none_is_named(run_module: Run) -> None:
    result = run_module("podlab_namespace_info", {"pids": [1 << 30, os.getpid(), -1]})
    assert result["failed"] is True
    assert [problem["place"] for problem in result["problems"]] == ["pids[0]", "pids[2]"]
    assert f"cannot look at process {1 << 30}: No such file or directory" in result["msg"]


def test_no_pids_is_not_all_pids(run_module: Run) -> None:
    result = run_module("podlab_namespace_info", {"pids": []})
    assert result["namespaces"] == result["processes"] == []
