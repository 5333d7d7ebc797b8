"""The records as dnsmasq answers them, while files change under it."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.packets import Namespace
from support.services import pod, service

pytestmark = pytest.mark.kernel

CLUSTER = {
    "name": "kind",
    "pod_subnet": "10.244.0.0/16",
    "kube_proxy_mode": "none",
    "nodes": [{"name": "node-a", "address": "172.18.0.2"}],
}
ZONE = "default.svc.cluster.local"


class Server:
    """dnsmasq as the lab runs it, in a namespace of its own; its log says when a file has been read."""

    def __init__(self, namespace: Namespace, directory: pathlib.Path) -> None:
        self.namespace = namespace
        options = (
            "--keep-in-foreground --no-resolv --no-hosts --local=/cluster.local/ --bogus-priv --log-facility=-"
            f" --hostsdir={directory} --conf-file=/dev/null --pid-file= --user=root --group=root"
        )
        self.process = subprocess.Popen(
            ["nsenter", f"--net={namespace.path}", "dnsmasq", *options.split()],
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self, *words: str) -> None:
        """Until the log has a line with these words."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if all(word in line for word in words):
                return
        raise AssertionError(f"dnsmasq ended without saying {words}")

    def ask(self, *question: str) -> tuple[str, list[str]]:
        """Status and sorted answers."""
        text = self.namespace.run(f"dig @127.0.0.1 +tries=1 +time=5 {' '.join(question)}")
        status = text.split("status: ")[1].split(",")[0]
        answers = [line.split()[-1] for line in text.splitlines() if line and not line.startswith(";")]
        return status, sorted(answers)

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=10)


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[Server]:
    (tmp_path / "dns").mkdir()
    namespace = Namespace()
    namespace.run("ip link set lo up")
    made = Server(namespace, tmp_path / "dns")
    try:
        made.wait("started")
        yield made
    finally:
        made.close()
        namespace.close()


Run = Callable[..., dict[str, Any]]


def test_records_follow_the_services(
    server: Server, run_module: Run, podlab_roots: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    def program(services: list[Any], pods: list[Any]) -> dict[str, Any]:
        args = {"cluster": CLUSTER, "nodes": [], "services": services, "pods": pods, "dns_dir": str(tmp_path / "dns")}
        result = run_module("podlab_service", args, diff=True)
        assert not result.get("failed"), result
        return result

    web = service("web", "10.96.0.20", selector={"app": "web"})
    db = service("db", "None", [], selector={"app": "web"})
    peers = service("peers", "None", [], selector={"app": "web"})
    pods = [pod("db-0", "10.244.1.2", hostname="db-0", subdomain="db"), pod("db-1", "10.244.1.3")]
    program([web, db, peers], pods)
    server.wait("read", "/default")
    assert server.ask(f"web.{ZONE}") == ("NOERROR", ["10.96.0.20"])
    assert server.ask(f"WEB.{ZONE.upper()}") == ("NOERROR", ["10.96.0.20"])
    assert server.ask("+tcp", f"db.{ZONE}") == ("NOERROR", ["10.244.1.2", "10.244.1.3"])
    assert server.ask(f"db-0.db.{ZONE}") == ("NOERROR", ["10.244.1.2"])
    assert server.ask(f"10-244-1-3.peers.{ZONE}") == ("NOERROR", ["10.244.1.3"])
    assert server.ask(f"web.{ZONE}", "AAAA") == ("NOERROR", [])
    assert server.ask(f"nobody.{ZONE}") == ("NXDOMAIN", [])
    assert server.ask("-x", "10.96.0.20") == ("NOERROR", [f"web.{ZONE}."])
    assert server.ask("-x", "10.244.1.2") == ("NOERROR", [f"db-0.db.{ZONE}."])
    assert server.ask("-x", "10.244.1.77") == ("NXDOMAIN", [])

    # A pod that is not ready any more, a Service with another address, one that is gone.
    program([service("web", "10.96.0.21"), peers], [pods[0], pod("db-1", "10.244.1.3", ready=False)])
    server.wait("read", "/default")
    assert server.ask(f"web.{ZONE}") == ("NOERROR", ["10.96.0.21"])
    assert server.ask("-x", "10.96.0.20") == ("NXDOMAIN", [])
    assert server.ask(f"db.{ZONE}") == ("NXDOMAIN", [])
    assert server.ask(f"peers.{ZONE}") == ("NOERROR", ["10.244.1.2"])
    # The other headless Service has the address still, so its PTR is there, now under the name left.
    assert server.ask("-x", "10.244.1.2") == ("NOERROR", [f"10-244-1-2.peers.{ZONE}."])

    gone = program([], [])
    server.wait("default", "removed")
    server.wait("flushed", "default")
    assert server.ask(f"web.{ZONE}") == ("NXDOMAIN", [])
    assert server.ask("-x", "10.96.0.21") == ("NXDOMAIN", [])
    assert gone["commands"][0] == ["rm", f"{tmp_path}/dns/default"]
    assert program([], [])["changed"] is False
