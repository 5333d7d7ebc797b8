"""The watcher that podlab_service starts: its process, its canary, and the health-check node ports that it answers."""

from __future__ import annotations

import json
import os
import pathlib
import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from podlab.kube.proxy_health import Health
from podlab.linux import cgroup, inotify, syscalls
from podlab.runtime import paths, watcher
from podlab.service_health import CONNECTIONS, REQUEST_BYTES, REQUEST_SECONDS, Listeners, Place
from support.packets import GATEWAY, NODE_ADDRESS, Namespace, Node
from support.services import endpoint, endpoint_slice, service

pytestmark = pytest.mark.kernel

Run = Callable[..., dict[str, Any]]
SECONDS = 60
PORT = 30999


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    made = Node()
    yield made
    made.close()


# -- the process ------------------------------------------------------------------------------------------------------


@pytest.fixture
def name() -> str:
    return f"watch{os.getpid()}"


@pytest.fixture
def program(name: str, node: Node, run_module: Run, podlab_roots: pathlib.Path, unchanged_host: Any) -> Iterator[Run]:
    """program(services, slices, ...): podlab_service with a watcher. Both are gone after the test."""
    os.makedirs(paths.cluster_dir(name))
    cluster = {"name": name, "pod_subnet": "10.244.0.0/16", "nodes": [{"name": "node-a", "address": NODE_ADDRESS}]}

    def run(
        services: list[Any], slices: list[Any], check: bool = False, mode: str = "iptables", **more: Any
    ) -> dict[str, Any]:
        args = {
            "cluster": {**cluster, "kube_proxy_mode": mode},
            "nodes": [{"name": "node-a", "netns": node.node.path}],
            "services": services,
            "endpoint_slices": slices,
            "watch": True,
            **more,
        }
        result = run_module("podlab_service", args, check=check, diff=True)
        assert not result.get("failed"), result
        return result

    yield run
    run([], [], state="absent")
    assert not watcher.read(name)["alive"]
    assert "KUBE" not in node.node.run("iptables-save")


def balancer(**spec: Any) -> dict[str, Any]:
    policy = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": PORT, **spec}
    return service("web", "10.96.0.20", [{"port": 80, "nodePort": 30080}], **policy)


def synced(name: str) -> None:
    """Return when the watcher has made its first sync."""
    with inotify.Inotify() as events:
        events.add(paths.cluster_dir(name), inotify.MOVED_TO)
        while not watcher.read(name).get("synced"):
            assert events.wait(SECONDS), "the watcher does not sync"


def ask(source: Namespace, address: str, port: int = PORT) -> tuple[list[str], str]:
    """Head lines and body of a GET."""
    with source.socket() as client:
        client.connect((address, port))
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        said = b""
        while data := client.recv(65536):
            said += data
    head, body = said.decode().split("\r\n\r\n")
    return head.split("\r\n"), body


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
@pytest.mark.parametrize(
    ("where", "code", "count"), [("node-a", "200 OK", 1), ("node-b", "503 Service Unavailable", 0)]
)
def test_the_health_check_port_tells_of_local_endpoints(
    name: str, node: Node, program: Run, where: str, code: str, count: int, mode: str
) -> None:
    program([balancer()], [endpoint_slice([endpoint("10.244.1.2", where)])], mode=mode)
    synced(name)
    head, body = ask(node.pods["10.244.1.3"], GATEWAY)
    assert head[0] == f"HTTP/1.1 {code}"
    assert f"X-Load-Balancing-Endpoint-Weight: {count}" in head
    assert json.loads(body) == {
        "service": {"namespace": "default", "name": "web"},
        "localEndpoints": count,
        "serviceProxyHealthy": True,
    }
    # Gone with the Service: the port is closed.
    program([service("web", "10.96.0.20")], [], mode=mode)
    until_refused(name, node)


def until_refused(name: str, node: Node) -> None:
    end = time.monotonic() + SECONDS
    while True:
        with node.node.socket() as client:
            if client.connect_ex((NODE_ADDRESS, PORT)):
                return
        assert time.monotonic() < end, watcher.read(name)
        os.sched_yield()


def test_start_is_predicted_made_once_and_in_the_labs_cgroup(name: str, node: Node, program: Run) -> None:
    planned = program([balancer()], [], check=True)
    assert not watcher.read(name)["alive"]
    first = program([balancer()], [])
    assert planned["commands"] == first["commands"]
    assert ["python3", "-m", "podlab.service_watch", name] in first["commands"]
    record = watcher.read(name)
    assert record["alive"]
    assert paths.watcher_cgroup(name) in pathlib.Path(f"/proc/{record['pid']}/cgroup").read_text()
    assert pathlib.Path(f"/proc/{record['pid']}/comm").read_text() == "podlab-watcher\n"
    assert not program([balancer()], [])["changed"]
    assert watcher.read(name)["pid"] == record["pid"]
    program([], [], state="absent")
    assert not cgroup.detect().exists(paths.cgroup_root(name))


def test_one_that_runs_other_code_is_started_anew(name: str, node: Node, program: Run) -> None:
    program([], [])
    synced(name)
    before, file = watcher.read(name), pathlib.Path(paths.watcher_file(name))
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "code": {**record["code"], "digest": "of older code"}}))
    planned = program([], [], check=True)
    assert watcher.read(name)["pid"] == before["pid"]
    result = program([], [])
    assert result["commands"] == planned["commands"]
    assert result["commands"] == [
        ["kill", "-KILL", str(before["pid"])],
        ["python3", "-m", "podlab.service_watch", name],
    ]
    after = watcher.read(name)
    assert after["alive"] and after["pid"] != before["pid"]
    assert not program([], [])["changed"]


def test_an_error_stays_told_while_it_lasts(name: str, node: Node, program: Run) -> None:
    """A stale chain that cannot go: what is wanted is programmed, and yet not all is well."""
    program([service()], [], proxy={"sync_period": 1})
    synced(name)
    chain = "KUBE-SVC-AAAAAAAAAAAAAAAA"
    with inotify.Inotify() as events:
        events.add(paths.cluster_dir(name), inotify.MOVED_TO)
        node.node.run(f"iptables -t nat -N {chain}")
        node.node.run(f"iptables -t nat -A OUTPUT -d 192.0.2.99 -j {chain}")
        while "other rules jump to them" not in watcher.read(name)["error"]:
            assert events.wait(SECONDS), "it is not told"
        events.drain()
        assert not events.wait(1.5), watcher.read(name)
        node.node.run(f"iptables -t nat -D OUTPUT -d 192.0.2.99 -j {chain}")
        while watcher.read(name)["error"]:
            assert events.wait(SECONDS), "the error is still told"


def test_the_canary_is_in_three_tables(name: str, node: Node, program: Run) -> None:
    program([], [])
    synced(name)
    assert node.node.run("iptables-save").count(":KUBE-PROXY-CANARY - [0:0]") == 3


# Mode -> how its rules are listed, and what somebody does to them: all of them gone, one table or chain, one rule.
BY_HAND = {
    "iptables": ("iptables-save", ("iptables -t nat -F", "iptables -t filter -F", "iptables -t nat -D PREROUTING 1")),
    "nftables": (
        "nft -s list ruleset",
        (
            "nft flush ruleset",
            "nft delete table ip kube-proxy",
            "nft flush chain ip kube-proxy services",
            "nft delete element ip kube-proxy service-ips { 10.96.0.20 . tcp . 80 }",
        ),
    ),
}


@pytest.mark.parametrize("mode", BY_HAND)
def test_what_is_changed_by_hand_comes_back(name: str, node: Node, program: Run, mode: str) -> None:
    slices = [endpoint_slice([endpoint("10.244.1.2")])]
    program([service("web", "10.96.0.20")], slices, mode=mode, proxy={"sync_period": 1})
    synced(name)
    command, damages = BY_HAND[mode]

    def listed() -> list[str]:
        """Of iptables all, of nftables kube-proxy's table; in no order: what is made anew comes last."""
        text = re.sub(r"\[\d+:\d+\]", "", node.node.run(command))
        if mode == "nftables":
            text = text.partition("table ip kube-proxy {")[2].partition("\n}\n")[0]
        return sorted(line for line in text.splitlines() if not line.startswith("#"))

    before = listed()
    assert any("10.244.1.2" in line for line in before)
    for damage in damages:
        node.node.run(damage)
        end = time.monotonic() + SECONDS
        while listed() != before:
            assert time.monotonic() < end, (damage, watcher.read(name))
            os.sched_yield()


def test_it_ends_when_the_labs_directory_is_gone(name: str, node: Node, program: Run) -> None:
    program([], [])
    synced(name)
    record = watcher.read(name)
    pidfd = syscalls.pidfd_open(record["pid"])
    try:
        gone = f"{paths.cluster_dir(name)}.gone"
        os.rename(paths.cluster_dir(name), gone)
        # Something happens in the directory that it watches, wherever that is by now.
        pathlib.Path(gone, "one").write_text("")
        os.rename(f"{gone}/one", f"{gone}/two")
        assert select.select([pidfd], [], [], SECONDS)[0], "the watcher outlives its lab"
        os.rename(gone, paths.cluster_dir(name))
    finally:
        os.close(pidfd)


def test_one_that_has_ended_by_itself_is_no_error(name: str, program: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at it and its end there is time to end: a lab that goes takes it along."""
    program([], [])
    record = watcher.read(name)
    watcher.stop(name)
    with monkeypatch.context() as early:
        early.setattr(watcher, "read", lambda cluster: record)
        watcher.stop(name)
    assert not watcher.read(name)["alive"]


# -- the sockets ------------------------------------------------------------------------------------------------------


class Loop:
    """A loop for Listeners, driven by the test."""

    def __init__(self) -> None:
        self.handlers: dict[int, Callable[[], None]] = {}
        self.time = 0.0
        self.listeners = Listeners(self.handlers.__setitem__, lambda fd: self.handlers.pop(fd), lambda: self.time)

    def turn(self, seconds: float = 1.0) -> None:
        """Serve what is ready, for as long as something becomes ready."""
        while ready := select.select(list(self.handlers), [], [], seconds)[0]:
            seconds = 0.05
            for fd in ready:
                if fd in self.handlers:
                    self.handlers[fd]()


@pytest.fixture
def loop(node: Node) -> Iterator[tuple[Loop, Place]]:
    made = Loop()
    place = Place(node.node.path, "0.0.0.0", PORT)
    assert made.listeners.follow({place: Health(PORT, "default", "web", 1)}) == []
    yield made, place
    made.listeners.follow({})
    made.time += REQUEST_SECONDS + 1
    made.listeners.expire()
    assert not made.handlers, "sockets are left"


def client_of(node: Node) -> socket.socket:
    made = node.node.socket()
    made.connect((NODE_ADDRESS, PORT))
    return made


def test_a_silent_client_is_dropped_when_its_time_is_up(node: Node, loop: tuple[Loop, Place]) -> None:
    own, _ = loop
    with client_of(node) as silent:
        own.turn()
        assert own.listeners.expire() == REQUEST_SECONDS
        own.time = REQUEST_SECONDS
        assert own.listeners.expire() is None
        assert silent.recv(10) == b""


def test_a_request_without_end_gets_no_answer(node: Node, loop: tuple[Loop, Place]) -> None:
    own, _ = loop
    with client_of(node) as greedy:
        greedy.sendall(b"x" * (REQUEST_BYTES + 1))
        own.turn()
        with pytest.raises(ConnectionResetError):
            # Closed with bytes unread is a reset; without, an end.
            if greedy.recv(10) == b"":
                raise ConnectionResetError
    with client_of(node) as good:
        good.sendall(b"GET / HTTP/1.0\r\n")
        own.turn()
        good.sendall(b"\r\n")
        own.turn()
        assert good.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


def test_too_many_clients_are_turned_away(node: Node, loop: tuple[Loop, Place]) -> None:
    own, _ = loop
    clients = []
    try:
        for _number in range(CONNECTIONS + 1):
            clients.append(client_of(node))
            own.turn(0.2)
        assert clients[-1].recv(10) == b""
    finally:
        for client in clients:
            client.close()


def test_a_node_that_is_made_again_is_listened_in(node: Node, tmp_path: pathlib.Path) -> None:
    """Its namespace has the same name; the old one must not be kept by our socket."""
    own, again, name = Loop(), Namespace(), tmp_path / "node"
    wanted = {Place(str(name), "0.0.0.0", PORT): Health(PORT, "default", "web", 1)}
    try:
        again.run("ip link set lo up")
        for where in (node.node, again):
            name.unlink(missing_ok=True)
            name.symlink_to(where.path)
            assert own.listeners.follow(wanted) == []
            assert [line.split()[3].rpartition(":")[2] for line in listening(where)] == [str(PORT)]
        assert listening(node.node) == []
    finally:
        own.listeners.follow({})
        again.close()


def listening(where: Namespace) -> list[str]:
    """Lines of ss about listening sockets."""
    return where.run("ss -Hltn").splitlines()


def test_a_port_that_is_taken_is_told(node: Node, loop: tuple[Loop, Place]) -> None:
    own, place = loop
    with node.node.socket() as other:
        other.bind((NODE_ADDRESS, 31000))
        other.listen()
        taken = Place(node.node.path, "0.0.0.0", 31000)
        wanted = {place: Health(PORT, "default", "web", 1), taken: Health(31000, "default", "two", 1)}
        assert own.listeners.follow(wanted) == [
            f"health check node port 31000 in {node.node.path}: Address already in use"
        ]
