"""podlab_gateway on a machine that is a throw-away namespace: both backends, check mode, and what is left."""

from __future__ import annotations

import os
import pathlib
import select
import shutil
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from podlab.kube.cluster import Cluster, PortMapping
from podlab.linux import netns, syscalls, sysctl
from podlab.runtime import lock
from podlab.runtime.gateway import FORWARDING
from support.lab_objects import cluster
from support.packets import Namespace

pytestmark = pytest.mark.kernel

Run = Callable[..., dict[str, Any]]
PORT = 8080


def use(backend: str, directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make plain `iptables` that backend, as the alternatives system does it."""
    place = directory / backend
    place.mkdir()
    program = shutil.which(f"xtables-{backend}-multi", path="/usr/sbin:/sbin")
    assert program
    for name in ("iptables", "iptables-save", "iptables-restore"):
        (place / name).symlink_to(program)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    # The lock file of iptables-legacy would stay on the machine.
    monkeypatch.setenv("XTABLES_LOCKFILE", str(directory / "xtables.lock"))


@pytest.fixture(params=["nft", "legacy"])
def backend(request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> str:
    use(request.param, tmp_path, monkeypatch)
    return str(request.param)


@pytest.fixture
def machine() -> Iterator[Namespace]:
    made = Namespace()
    made.run("ip link set lo up")
    with netns.entered(made.path):
        sysctl.write(FORWARDING, 0)
    yield made
    made.close()


@pytest.fixture
def program(machine: Namespace, run_module: Run, podlab_roots: pathlib.Path) -> Run:
    """program(cluster, ...): run podlab_gateway on the machine."""

    def run(made: Cluster, check: bool = False, **args: Any) -> dict[str, Any]:
        with netns.entered(machine.path):
            return run_module("podlab_gateway", {"cluster": made.to_dict(), **args}, check=check, diff=True)

    return run


def lab(nat: bool = True, ports: bool = True) -> Cluster:
    made = cluster(workers=0)
    mapping = (PortMapping("0.0.0.0", PORT, 80, "TCP"),) if ports else ()
    return made._replace(nodes=(made.nodes[0]._replace(port_mappings=mapping),), nat=nat)


def forwarding(machine: Namespace) -> str:
    with netns.entered(machine.path):
        return sysctl.read(FORWARDING)


def test_made_shown_kept_and_taken_away(machine: Namespace, backend: str, program: Run) -> None:
    planned = program(lab(), check=True)
    assert planned["changed"] and forwarding(machine) == "0"
    assert "PODLAB" not in machine.run(f"iptables-{backend}-save")
    made = program(lab())
    assert not made.get("failed"), made
    assert (made["commands"], made["diff"]) == (planned["commands"], planned["diff"])
    assert made["gateway"]["ports"] == [f"0.0.0.0:{PORT} -> cp:80/TCP"] and made["gateway"]["nat"]
    assert machine.run(f"iptables-{backend}-save").count("\n:PODLAB-") == 4 == len(made["gateway"]["chains"])
    assert forwarding(machine) == "1"
    assert not program(lab())["changed"]
    assert not program(lab(), check=True)["changed"]
    gone = program(lab(), state="absent")
    assert gone["gateway"] == {"nat": False, "ports": [], "chains": []}
    assert "podlab" not in machine.run(f"iptables-{backend}-save").lower()
    assert forwarding(machine) == "0"
    assert machine.run("nft list ruleset") == ""
    assert not program(lab(), state="absent")["changed"]
    assert not program(lab(nat=False, ports=False))["changed"]


def test_what_is_no_longer_asked_for_goes(machine: Namespace, backend: str, program: Run) -> None:
    program(lab())
    program(lab(ports=False))
    saved = machine.run(f"iptables-{backend}-save")
    assert "MASQUERADE" in saved and "PODLAB-DNAT" not in saved and "PODLAB-IN" not in saved
    program(lab(nat=False, ports=False))
    assert "PODLAB" not in machine.run(f"iptables-{backend}-save")
    assert forwarding(machine) == "0"


def test_another_backend_takes_over(
    machine: Namespace, program: Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine's alternatives were switched: rules are in the one that it uses now, and what was is remembered."""
    use("nft", tmp_path, monkeypatch)
    program(lab())
    use("legacy", tmp_path, monkeypatch)
    program(lab())
    assert "PODLAB" not in machine.run("iptables-nft-save")
    assert "PODLAB" in machine.run("iptables-legacy-save")
    program(lab(), state="absent")
    assert "PODLAB" not in machine.run("iptables-legacy-save")
    assert forwarding(machine) == "0"


def test_two_labs_do_not_go_at_the_same_time(machine: Namespace, program: Run) -> None:
    """Each would leave the machine's setting to the other."""
    program(lab())
    with netns.entered(machine.path), lock.machine():
        child = os.fork()
        if child == 0:
            try:
                program(lab(), state="absent")
            finally:
                os._exit(0)
        ended = syscalls.pidfd_open(child)
        assert not select.select([ended], [], [], 0.5)[0], "it does not wait"
        assert forwarding(machine) == "1"
    assert select.select([ended], [], [], 60)[0], "it does not end"
    os.waitpid(child, 0)
    os.close(ended)
    assert forwarding(machine) == "0"


def test_a_taken_port_is_refused_before_anything_is_made(machine: Namespace, backend: str, program: Run) -> None:
    with machine.socket(socket.SOCK_STREAM) as server:
        server.bind(("0.0.0.0", PORT))
        server.listen()
        refused = program(lab())
    assert refused["failed"]
    assert refused["msg"].startswith(f"nodes[0].extraPortMappings[0].hostPort: 0.0.0.0:{PORT}/TCP is taken by ")
    assert f"(pid {os.getpid()}), which listens on 0.0.0.0:{PORT}. Stop that" in refused["msg"]
    assert machine.run(f"iptables-{backend}-save") == ""
    assert forwarding(machine) == "0"


def test_a_cluster_that_is_none_is_refused(program: Run, run_module: Run) -> None:
    assert "cluster: is no cluster" in run_module("podlab_gateway", {"cluster": {"name": "kind"}})["msg"]
