"""Named network namespaces on the kernel: linux/netns.py and podlab_netns."""

from __future__ import annotations

import os
import pathlib
import socket
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from podlab.linux import netns, syscalls
from podlab.linux.netlink import Netlink
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


def wanted(*names: str, state: str = "present") -> dict[str, Any]:
    return {"namespaces": [{"name": name, "state": state} for name in names]}


def test_created_entered_and_deleted() -> None:
    here = netns.current()
    netns.create("red")
    assert netns.names() == ["red"]
    with netns.entered("red"):
        assert netns.current() == netns.inode("red") != here
        assert [name for _, name in socket.if_nameindex()] == ["lo"]
    assert netns.current() == here
    assert sh("ip", "netns", "exec", "red", "readlink", "/proc/self/ns/net").strip() == f"net:[{netns.inode('red')}]"
    netns.delete("red")
    assert netns.names() == []


def test_an_error_inside_leads_home() -> None:
    here = netns.current()
    netns.create("red")
    with pytest.raises(KeyError), netns.entered(netns.path("red")):
        raise KeyError
    assert netns.current() == here
    netns.delete("red")


def test_entering_what_is_not_there() -> None:
    with pytest.raises(FileNotFoundError), netns.entered("red"):
        pass


def test_entering_a_plain_file() -> None:
    os.mkdir(netns.DIRECTORY)
    pathlib.Path(netns.path("red")).touch()
    with pytest.raises(OSError, match="setns"), netns.entered("red"):
        pass
    os.unlink(netns.path("red"))
    os.rmdir(netns.DIRECTORY)


def test_no_descriptor_is_left_open() -> None:
    before = os.listdir("/proc/self/fd")
    netns.create("red")
    with netns.entered("red"):
        pass
    netns.delete("red")
    assert os.listdir("/proc/self/fd") == before


def test_creating_twice_is_an_error() -> None:
    netns.create("red")
    with pytest.raises(FileExistsError):
        netns.create("red")
    netns.delete("red")


def test_a_namespace_below_the_mount_of_ip_netns() -> None:
    """`ip netns add` mounts /run/netns over what is pinned in it already."""
    netns.create("red")
    sh("ip", "netns", "add", "foreign")
    netns.delete("red")
    assert netns.names() == ["foreign"]
    sh("ip", "netns", "delete", "foreign")
    netns.create("blue")
    netns.delete("blue")


def test_mounted_several_times() -> None:
    netns.create("red")
    syscalls.mount(netns.path("red"), netns.path("red"), None, syscalls.MS_BIND)
    netns.delete("red")


def test_a_directory_that_was_there_stays() -> None:
    os.mkdir(netns.DIRECTORY)
    netns.create("red")
    netns.delete("red")
    os.rmdir(netns.DIRECTORY)
    assert not os.path.exists("/run/podlab")


def test_ip_netns_understands_ours() -> None:
    netns.create("red")
    assert sh("ip", "netns", "list").split() == ["red"]
    sh("ip", "netns", "delete", "red")
    netns.create("red")
    netns.delete("red")


@pytest.mark.parametrize("check", [True, False])
def test_the_module_creates(run_module: Run, check: bool) -> None:
    result = run_module("podlab_netns", wanted("red", "blue"), check=check, diff=True)
    assert result["changed"] is True
    assert result["commands"] == [["ip", "netns", "add", "red"], ["ip", "netns", "add", "blue"]]
    assert [entry["name"] for entry in result["results"]] == ["netns red", "netns blue"]
    assert [(diff["before"], diff["after"]) for diff in result["diff"]] == [
        ({"state": "absent"}, {"state": "present"}),
        ({"state": "absent"}, {"state": "present"}),
    ]
    assert netns.names() == ([] if check else ["blue", "red"])
    run_module("podlab_netns", wanted("red", "blue", state="absent"))


def test_the_module_changes_nothing_again(run_module: Run) -> None:
    run_module("podlab_netns", wanted("red"))
    inode = netns.inode("red")
    result = run_module("podlab_netns", wanted("red"), diff=True)
    assert (result["changed"], result["commands"], result["diff"]) == (False, [], [])
    assert result["netns"] == [{"name": "red", "state": "present", "inode": inode}]
    run_module("podlab_netns", wanted("red", state="absent"))
    result = run_module("podlab_netns", wanted("red", state="absent"))
    assert (result["changed"], result["commands"]) == (False, [])


@pytest.mark.parametrize(("here", "asked"), [("red", "re"), ("red", "red2"), ("a.b", "axb")])
def test_names_match_exactly(run_module: Run, here: str, asked: str) -> None:
    netns.create(here)
    assert run_module("podlab_netns", wanted(asked))["changed"] is True
    run_module("podlab_netns", wanted(here, asked, state="absent"))


@pytest.mark.parametrize("stale", ["file", "dangling link"])
def test_what_a_crash_left_is_repaired_and_said(run_module: Run, stale: str) -> None:
    os.mkdir(netns.DIRECTORY)
    if stale == "file":
        pathlib.Path(netns.path("red")).touch()
    else:
        os.symlink("/proc/nobody/ns/net", netns.path("red"))
    result = run_module("podlab_netns", wanted("red"), diff=True)
    assert result["commands"] == [["rm", "-f", "/run/netns/red"], ["ip", "netns", "add", "red"]]
    assert result["diff"][0]["before"] == {"state": "stale"}
    assert netns.exists("red")
    run_module("podlab_netns", wanted("red", state="absent"))
    os.rmdir(netns.DIRECTORY)


def test_what_a_crash_left_is_removed(run_module: Run) -> None:
    os.mkdir(netns.DIRECTORY)
    pathlib.Path(netns.path("red")).touch()
    assert run_module("podlab_netns", wanted("red", state="absent"))["changed"] is True
    os.rmdir(netns.DIRECTORY)


def test_all_bad_names_at_once_and_nothing_done(run_module: Run) -> None:
    names = ["good", "../etc", "", "a b", "good", "-n", "x" * 256, "new\nline", "."]
    result = run_module("podlab_netns", wanted(*names))
    assert result["failed"] is True
    assert [problem["place"] for problem in result["problems"]] == [
        f"namespaces[{number}].name" for number in range(1, 9)
    ]
    assert netns.names() == []


def test_unusual_names_are_names(run_module: Run) -> None:
    names = ["ünïcödé", "$(reboot)", "'\"", "1", "x" * 255, "{{1}}"]
    run_module("podlab_netns", wanted(*names))
    assert netns.names() == sorted(names)
    run_module("podlab_netns", wanted(*names, state="absent"))


def test_a_hundred_in_one_call(run_module: Run) -> None:
    names = [f"n{number}" for number in range(100)]
    assert len(run_module("podlab_netns", wanted(*names))["commands"]) == 100
    assert len(run_module("podlab_netns", wanted(*names, state="absent"))["commands"]) == 100


def test_a_socket_stays_in_its_namespace() -> None:
    netns.create("red")
    with netns.entered("red"):
        inside = Netlink()
    with inside, Netlink() as here:
        inside.add_bridge("br0", up=True)
        assert set(inside.links()) == {"lo", "br0"}
        assert "br0" not in here.links()
    netns.delete("red")
