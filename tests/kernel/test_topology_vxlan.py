"""podlab_topology on the kernel: two hosts joined by VXLAN."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from support.own_machine import sh
from support.topology_lab import Run, down, left_as_found, ping, run_ok

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine]


@pytest.fixture(autouse=True)
def machine() -> Iterator[None]:
    """A machine that is left as it was found."""
    yield from left_as_found()


def host(number: int, other: int) -> dict[str, list[dict[str, Any]]]:
    """A "host" with a bridge, a pod, and a VXLAN to the other host; everything in namespaces."""
    me, pod = f"host{number}", f"pod{number}"
    vtep = f"02:42:00:00:00:0{other}"
    return {
        "namespaces": [
            {"name": me, "loopback": True, "sysctls": {"net.ipv4.ip_forward": "1"}},
            {"name": pod, "loopback": True},
        ],
        "links": [
            {"name": "cni0", "netns": me, "kind": "bridge", "mtu": 1450, "up": True,
             "addresses": [f"10.244.{number}.1/24"]},
            {"name": "veth0", "netns": me, "kind": "veth", "master": "cni0", "mtu": 1450, "up": True,
             "peer": {"name": "eth0", "netns": pod, "mtu": 1450, "up": True, "addresses": [f"10.244.{number}.2/24"]}},
            {"name": "flannel.1", "netns": me, "kind": "vxlan", "mtu": 1450, "up": True,
             "address": f"02:42:00:00:00:0{number}", "addresses": [f"10.244.{number}.0/32"],
             "vxlan": {"id": 1, "dstport": 8472, "learning": False, "local": f"192.168.50.{number}", "dev": "eth0"}},
        ],
        "routes": [
            {"netns": pod, "dst": "default", "via": f"10.244.{number}.1"},
            {"netns": me, "dst": f"10.244.{other}.0/24", "via": f"10.244.{other}.0", "dev": "flannel.1",
             "onlink": True},
        ],
        "neighbours": [{"netns": me, "dev": "flannel.1", "dst": f"10.244.{other}.0", "address": vtep}],
        "fdb": [{"netns": me, "dev": "flannel.1", "address": vtep, "dst": f"192.168.50.{other}"}],
    }  # fmt: skip


def test_two_hosts_joined_by_vxlan(run_module: Run, tmp_path: pathlib.Path) -> None:
    one, two = host(1, 2), host(2, 1)
    wanted = {option: [*one[option], *two[option]] for option in one}
    wire = {
        "name": "eth0", "netns": "host1", "kind": "veth", "up": True, "addresses": ["192.168.50.1/24"],
        "peer": {"name": "eth0", "netns": "host2", "up": True, "addresses": ["192.168.50.2/24"]},
    }  # fmt: skip
    wanted["links"].append(wire)
    run_ok(run_module, **wanted)
    assert run_ok(run_module, **wanted)["changed"] is False
    watch = subprocess.Popen(
        ["ip", "netns", "exec", "host2", "tcpdump", "-lnv", "-c", "1", "-i", "eth0", "udp port 8472"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watch.stderr is not None
    assert "listening" in watch.stderr.readline()
    ping("pod1", "10.244.2.2")
    seen, _ = watch.communicate(timeout=10)
    assert "192.168.50.1." in seen and "10.244.1.2 > 10.244.2.2" in seen
    # 50 bytes less than the wire: what fits goes through unfragmented, one byte more does not.
    inside = ("ip", "netns", "exec", "pod1", "ping", "-c", "1", "-W", "2", "-M", "do")
    assert "1 received" in sh(*inside, "-s", str(1450 - 28), "10.244.2.2", check=False)
    assert "1 received" not in sh(*inside, "-s", str(1450 - 27), "10.244.2.2", check=False)
    # Another id is another device: the entries and routes on it come back with it.
    for link in wanted["links"]:
        if link["kind"] == "vxlan":
            link["vxlan"]["id"] = 7
    run_ok(run_module, **wanted)
    ping("pod1", "10.244.2.2")
    down(run_module, **wanted)
