"""A lab as podlab_topology's options, and what kernel tests of it share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Callable

from podlab.linux import syscalls
from support.own_machine import own_machine, sh, trace

Run = Callable[..., dict[str, Any]]
NETNS = [{"name": "red", "loopback": True}, {"name": "blue", "loopback": True}]


def pair(**props: Any) -> dict[str, Any]:
    peer = {"name": "v1", "netns": "blue", "up": True, "addresses": ["11.11.11.3/24"]}
    return {
        "name": "v0",
        "netns": "red",
        "kind": "veth",
        "up": True,
        "addresses": ["11.11.11.2/24"],
        "peer": {**peer, **props.pop("peer", {})},
        **props,
    }


LAB: dict[str, Any] = {
    "namespaces": [
        {"name": "podlab-lab-network"},
        {"name": "podlab-n1", "loopback": True, "sysctls": {"net.ipv4.ip_forward": "1"}},
        {"name": "podlab-n2", "loopback": True, "sysctls": {"net.ipv4.ip_forward": "1"}},
    ],
    "links": [
        {
            "name": "br0",
            "netns": "podlab-lab-network",
            "kind": "bridge",
            "mtu": 1450,
            "up": True,
            "bridge": {"stp": False, "mcast_snooping": False, "nf_call_iptables": False, "ageing_time": 1000},
        },
        {
            "name": "podlab01234567",
            "kind": "veth",
            "altname": "podlab-uplink-lab",
            "addrgenmode": "none",
            "up": True,
            "addresses": ["172.18.0.1/16"],
            "peer": {"name": "uplink", "netns": "podlab-lab-network", "master": "br0", "up": True},
        },
        *(
            {
                "name": f"n{number}",
                "netns": "podlab-lab-network",
                "kind": "veth",
                "mtu": 1450,
                "master": "br0",
                "port": {"hairpin": True, "isolated": False},
                "up": True,
                "peer": {
                    "name": "eth0",
                    "netns": f"podlab-n{number}",
                    "mtu": 1450,
                    "address": f"02:00:00:00:00:0{number}",
                    "addresses": [f"172.18.0.{number + 1}/16"],
                    "up": True,
                },
            }
            for number in (1, 2)
        ),
    ],
    "addresses": [{"netns": "podlab-n1", "dev": "lo", "address": "10.244.0.1/32", "scope": "host"}],
    "routes": [
        {"netns": "podlab-n1", "dst": "default", "via": "172.18.0.1"},
        {"netns": "podlab-n2", "dst": "default", "via": "172.18.0.1", "dev": "eth0"},
        {"netns": "podlab-n2", "dst": "10.244.0.0/24", "via": "172.18.0.2"},
        {"netns": "podlab-n2", "dst": "10.244.9.0/24", "type": "unreachable"},
    ],
    "neighbours": [{"netns": "podlab-n1", "dev": "eth0", "dst": "172.18.9.9", "address": "02:00:00:00:09:09"}],
    "fdb": [{"netns": "podlab-lab-network", "dev": "n1", "address": "02:00:00:00:09:09"}],
    "sysctls": [{"netns": "podlab-n1", "name": "net.ipv4.conf.eth0.proxy_arp", "value": "1"}],
}


def ping(where: str, ip: str) -> None:
    inside = ("ip", "netns", "exec", where) if where else ()
    sh(*inside, "ping", "-c", "1", "-W", "2", ip)


def down(run: Run, **params: Any) -> None:
    run_ok(run, state="absent", **params)


def run_ok(run: Run, check: bool = False, **params: Any) -> dict[str, Any]:
    result = run("podlab_topology", params, check=check, diff=True)
    assert not result.get("failed"), result["msg"]
    return result


def remove_directory() -> None:
    """Take away what `ip netns add` made: /run/netns, mounted on itself."""
    syscalls.umount("/run/netns")
    os.rmdir("/run/netns")


def left_as_found() -> Iterator[None]:
    """A machine of the test's own, with lo up, that must be left as it was found: the body of a fixture."""
    with own_machine():
        sh("ip", "link", "set", "lo", "up")
        before = trace()
        yield
        assert trace() == before
