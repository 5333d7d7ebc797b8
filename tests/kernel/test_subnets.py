"""The ranges in use, read from the kernel: inside a network namespace with routes of its own."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Callable

import pytest

from podlab.linux import subnets, syscalls

pytestmark = pytest.mark.kernel

NOBODY = 65534


def in_new_netns(body: Callable[[], object], user: int = 0) -> object:
    """The JSON-plain result of body, run as user in a child with a network namespace of its own."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            make_routes()
            if user:
                os.setresuid(user, user, user)
            os.write(write, json.dumps({"result": body()}).encode())
        except BaseException as error:
            os.write(write, json.dumps({"error": repr(error)}).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as file:
        answer = json.load(file)
    os.waitpid(child, 0)
    assert "error" not in answer, answer
    return answer["result"]


def make_routes() -> None:
    """What a machine with Docker, a VPN, a second lab and our own uplink has."""
    batch = "link set lo up\n"
    for name in ("eth0", "docker0", "podlab1", "podlab2"):
        batch += f"link add {name} type veth peer far-{name}\nlink set far-{name} up\nlink set {name} up\n"
    batch += """
address add 192.0.2.2/24 dev eth0
address add 172.21.9.9/32 dev eth0
address add 172.17.0.1/16 dev docker0
address add 172.18.0.1/16 dev podlab1
address add 172.19.0.1/16 dev podlab2
route add default via 192.0.2.1
route add 128.0.0.0/1 via 192.0.2.1
route add unreachable 172.20.0.0/16
"""
    subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)


def test_routes_and_addresses_of_the_kernel(tmp_path: pathlib.Path) -> None:
    found = in_new_netns(lambda: subnets.in_use("kind", "podlab1", str(tmp_path)))
    assert found == [
        "172.18.0.0/16",
        [
            ["172.17.0.0/16", "route 172.17.0.0/16 dev docker0", "docker0"],
            ["172.19.0.0/16", "route 172.19.0.0/16 dev podlab2", "podlab2"],
            ["172.20.0.0/16", "unreachable route 172.20.0.0/16", "*"],
            ["192.0.2.0/24", "route 192.0.2.0/24 dev eth0", "eth0"],
            ["172.21.9.9/32", "address 172.21.9.9 of this machine", ""],
        ],
    ]


def test_a_new_lab_gets_the_first_range_that_nobody_has(tmp_path: pathlib.Path) -> None:
    def choose() -> str:
        return subnets.node_subnet("", 3, {}, subnets.in_use("new", "podlab3", str(tmp_path)))

    # .18 and .19 are labs', .20 is unreachable, .21 has an address.
    assert in_new_netns(choose) == "172.22.0.0/16"


def test_without_root_the_state_of_labs_is_passed_over(tmp_path: pathlib.Path) -> None:
    state = tmp_path / "run" / "kind"
    state.mkdir(parents=True)
    (state / "cluster.json").write_text('{"node_subnet": "172.30.0.0/16"}', encoding="utf-8")
    (tmp_path / "run").chmod(0o700)

    def choose() -> str:
        return subnets.node_subnet("", 3, {}, subnets.in_use("kind", "podlab1", str(tmp_path / "run")))

    assert in_new_netns(choose) == "172.30.0.0/16"
    assert in_new_netns(choose, user=NOBODY) == "172.18.0.0/16"  # seen by the uplink's route
