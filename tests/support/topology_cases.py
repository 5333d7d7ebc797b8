"""Topologies that are, topologies that are wanted, and the commands from one to the other. Data."""

from __future__ import annotations

from typing import Any

from podlab.topology_have import GROUP

NETNS = [{"name": "red"}, {"name": "blue"}]
VETH = {"name": "v0", "netns": "red", "kind": "veth", "peer": {"name": "v1", "netns": "blue"}}
BRIDGE = {"name": "br0", "netns": "red", "kind": "bridge"}
PORT = {**VETH, "master": "br0"}
VXLAN = {"name": "vx", "netns": "red", "kind": "vxlan", "vxlan": {"id": 1, "dstport": 8472, "learning": False}}
UPLINK = {"name": "up", "kind": "veth", "altname": "podlab-uplink", "peer": {"name": "u0", "netns": "red"}}
MAC = "02:00:00:00:00:01"


def one(**link: Any) -> dict[str, Any]:
    return {"namespaces": NETNS, "links": [link]}


def veth(**props: Any) -> dict[str, Any]:
    return one(**{**VETH, **props})


# have, want, the commands from one to the other. Both are podlab_topology's options; have is reached first.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "nothing": ({}, {}, []),
    "namespace": (
        {},
        {"namespaces": [{"name": "red", "loopback": True, "sysctls": {"net.ipv4.ip_forward": 1}}]},
        [
            "ip netns add red",
            "ip netns exec red sysctl -w net.ipv4.ip_forward=1",
            "ip -n red link set dev lo up",
        ],
    ),
    "namespace, lo down again": (
        {"namespaces": [{"name": "red", "loopback": True}]},
        {"namespaces": [{"name": "red", "loopback": False}]},
        ["ip -n red link set dev lo down"],
    ),
    "namespace unset leaves alone": (
        {"namespaces": [{"name": "red", "loopback": True, "sysctls": {"net.ipv4.ip_forward": 1}}]},
        {"namespaces": [{"name": "red"}]},
        [],
    ),
    "namespace away": (
        {"namespaces": NETNS},
        {"state": "absent", "namespaces": [{"name": "red"}]},
        ["ip netns delete red"],
    ),
    "namespace away that is not there": ({}, {"state": "absent", "namespaces": [{"name": "red"}]}, []),
    "veth with everything": (
        {"namespaces": NETNS},
        veth(mtu=1450, address=MAC.upper(), up=True, addrgenmode="none", addresses=["10.0.0.1/24", "fd00::1/64"]),
        [
            f"ip -n red link add v0 mtu 1450 address {MAC} type veth peer name v1 netns blue",
            "ip -n red link set dev v0 addrgenmode none",
            "ip -n red link set dev v0 up",
            "ip -n red address replace 10.0.0.1/24 dev v0",
            "ip -n red address replace fd00::1/64 dev v0",
        ],
    ),
    "veth inside one namespace": (
        {"namespaces": NETNS},
        veth(peer={"name": "v1", "netns": "red"}),
        ["ip -n red link add v0 type veth peer name v1"],
    ),
    "veth property": (veth(mtu=1500), veth(mtu=1450), ["ip -n red link set dev v0 mtu 1450"]),
    "veth properties in one command": (
        veth(),
        veth(mtu=1450, address=MAC),
        [f"ip -n red link set dev v0 mtu 1450 address {MAC}"],
    ),
    "veth down": (veth(up=True), veth(up=False), ["ip -n red link set dev v0 down"]),
    "veth up unset leaves alone": (veth(up=True), veth(), []),
    "veth with another peer": (
        veth(),
        veth(peer={"name": "v2", "netns": "blue"}),
        ["ip -n red link delete v0", "ip -n red link add v0 type veth peer name v2 netns blue"],
    ),
    "two crossed pairs are both made again": (
        {
            "namespaces": NETNS,
            "links": [
                {**VETH, "peer": {"name": "b", "netns": "blue"}},
                {**VETH, "name": "a", "peer": {"name": "v1", "netns": "blue"}},
            ],
        },
        veth(),
        [
            "ip -n red link delete v0",
            "ip -n blue link delete v1",
            "ip -n red link add v0 type veth peer name v1 netns blue",
        ],
    ),
    "veth where a bridge was": (
        one(**{**BRIDGE, "name": "v0"}),
        veth(),
        ["ip -n red link delete v0", "ip -n red link add v0 type veth peer name v1 netns blue"],
    ),
    "veth absent": (veth(), veth(state="absent"), ["ip -n red link delete v0"]),
    "veth absent that is not there": ({"namespaces": NETNS}, veth(state="absent"), []),
    "bridge": (
        {"namespaces": NETNS},
        one(**BRIDGE, mtu=1450, up=True, bridge={"stp": False, "mcast_snooping": False, "ageing_time": 100}),
        [
            "ip -n red link add br0 type bridge stp_state 0 mcast_snooping 0 ageing_time 100",
            "ip -n red link set dev br0 mtu 1450",
            "ip -n red link set dev br0 up",
        ],
    ),
    "bridge option changes in place": (
        one(**BRIDGE, bridge={"stp": False}),
        one(**BRIDGE, bridge={"stp": True}),
        ["ip -n red link set dev br0 type bridge stp_state 1"],
    ),
    "ports come after their bridge": (
        {"namespaces": NETNS},
        {"namespaces": NETNS, "links": [{**PORT, "port": {"hairpin": True, "isolated": False}}, BRIDGE]},
        [
            "ip -n red link add br0 type bridge",
            "ip -n red link add v0 type veth peer name v1 netns blue",
            "ip -n red link set dev v0 master br0",
            "bridge -n red link set dev v0 hairpin on isolated off",
        ],
    ),
    "port leaves its bridge": (
        {"namespaces": NETNS, "links": [BRIDGE, PORT]},
        {"namespaces": NETNS, "links": [BRIDGE, {**VETH, "master": ""}]},
        ["ip -n red link set dev v0 nomaster"],
    ),
    "vxlan": (
        {"namespaces": NETNS},
        one(**VXLAN, mtu=1450),
        ["ip -n red link add vx mtu 1450 type vxlan id 1 dstport 8472 nolearning"],
    ),
    "vxlan of another id is made again": (
        one(**VXLAN),
        one(**{**VXLAN, "vxlan": {"id": 2}}),
        ["ip -n red link delete vx", "ip -n red link add vx type vxlan id 2"],
    ),
    "vxlan over a device": (
        {"namespaces": NETNS},
        {"namespaces": NETNS, "links": [{**VXLAN, "vxlan": {"id": 1, "dev": "v0", "local": "10.0.0.1"}}, VETH]},
        [
            "ip -n red link add v0 type veth peer name v1 netns blue",
            "ip -n red link add vx type vxlan id 1 local 10.0.0.1 dev v0",
        ],
    ),
    "dummy": ({"namespaces": NETNS}, one(name="d0", netns="red", kind="dummy"), ["ip -n red link add d0 type dummy"]),
    "uplink is marked from its first moment": (
        {"namespaces": NETNS},
        one(**UPLINK, up=True, addresses=["172.18.0.1/16"]),
        [
            f"ip link add up group {GROUP} type veth peer name u0 netns red",
            "ip link property add dev up altname podlab-uplink",
            "ip link set dev up up",
            "ip address replace 172.18.0.1/16 dev up",
        ],
    ),
    "uplink as peer is made from the machine too": (
        {"namespaces": NETNS},
        one(name="u0", netns="red", kind="veth", peer={"name": "up", "altname": "podlab-uplink"}),
        [
            f"ip link add up group {GROUP} type veth peer name u0 netns red",
            "ip link property add dev up altname podlab-uplink",
        ],
    ),
    "teardown deletes what the namespaces leave": (
        one(**UPLINK),
        {"state": "absent", **one(**UPLINK)},
        ["ip link delete up", "ip netns delete red", "ip netns delete blue"],
    ),
    "what is inside namespaces goes with them": (
        veth(),
        {"state": "absent", **veth()},
        ["ip netns delete red", "ip netns delete blue"],
    ),
    "a port is free when its bridge is gone": (
        {"namespaces": NETNS, "links": [BRIDGE, PORT]},
        {"namespaces": NETNS, "links": [{**BRIDGE, "state": "absent"}, {**VETH, "master": ""}]},
        ["ip -n red link delete br0"],
    ),
    "addresses are the whole list": (
        veth(addresses=["10.0.0.1/24", "10.1.0.1/24"]),
        veth(addresses=["10.1.0.1/24"]),
        ["ip -n red address delete 10.0.0.1/24 dev v0"],
    ),
    "deleting an address takes its network's others along": (
        veth(addresses=["10.0.0.1/24", "10.0.0.2/24"]),
        veth(addresses=["10.0.0.2/24"]),
        ["ip -n red address delete 10.0.0.1/24 dev v0", "ip -n red address replace 10.0.0.2/24 dev v0"],
    ),
    "addresses of the topology stay beside the link's": (
        {**veth(addresses=["10.0.0.1/24"]), "addresses": [{"netns": "red", "dev": "v0", "address": "10.9.0.1/32"}]},
        {**veth(addresses=[]), "addresses": [{"netns": "red", "dev": "v0", "address": "10.9.0.1/32"}]},
        ["ip -n red address delete 10.0.0.1/24 dev v0"],
    ),
    "the later addresses of a network go first": (
        veth(addresses=["10.0.0.1/24", "10.0.0.2/24"]),
        veth(addresses=[]),
        ["ip -n red address delete 10.0.0.2/24 dev v0", "ip -n red address delete 10.0.0.1/24 dev v0"],
    ),
    "address with another flag": (
        {**veth(), "addresses": [{"netns": "red", "dev": "v0", "address": "10.9.0.1/24"}]},
        {**veth(), "addresses": [{"netns": "red", "dev": "v0", "address": "10.9.0.1/24", "noprefixroute": True}]},
        [
            "ip -n red address delete 10.9.0.1/24 dev v0",
            "ip -n red address replace 10.9.0.1/24 dev v0 noprefixroute",
        ],
    ),
    "two addresses of a network absent": (
        {
            **veth(),
            "addresses": [
                {"netns": "red", "dev": "v0", "address": "10.9.0.1/24"},
                {"netns": "red", "dev": "v0", "address": "10.9.0.2/24"},
            ],
        },
        {
            **veth(),
            "addresses": [
                {"netns": "red", "dev": "v0", "address": "10.9.0.1/24", "state": "absent"},
                {"netns": "red", "dev": "v0", "address": "10.9.0.2/24", "state": "absent"},
            ],
        },
        ["ip -n red address delete 10.9.0.2/24 dev v0", "ip -n red address delete 10.9.0.1/24 dev v0"],
    ),
    "address absent": (
        {**veth(), "addresses": [{"netns": "red", "dev": "v0", "address": "10.9.0.1/24"}]},
        {**veth(), "addresses": [{"netns": "red", "dev": "v0", "address": "10.9.0.1/24", "state": "absent"}]},
        ["ip -n red address delete 10.9.0.1/24 dev v0"],
    ),
    "routes": (
        veth(addresses=["10.0.0.1/24"]),
        {
            **veth(),
            "routes": [
                {"netns": "red", "dst": "10.9.0.1", "dev": "v0", "scope": "link"},
                {"netns": "red", "dst": "default", "via": "10.0.0.2"},
                {"netns": "red", "dst": "default", "via": "fd00::1", "dev": "v0", "onlink": True},
                {"netns": "red", "dst": "10.8.0.0/16", "type": "unreachable", "metric": 7},
            ],
        },
        [
            "ip -n red route replace 10.9.0.1/32 dev v0 scope link",
            "ip -n red route replace default via 10.0.0.2",
            "ip -n red -6 route replace default via fd00::1 dev v0 onlink",
            "ip -n red route replace unreachable 10.8.0.0/16 metric 7",
        ],
    ),
    "IPv6 routes have no scope": (
        {
            **veth(addresses=["fd00::1/64"]),
            "routes": [{"netns": "red", "dst": "fd01::/64", "dev": "v0", "scope": "link"}],
        },
        {**veth(), "routes": [{"netns": "red", "dst": "fd01::/64", "dev": "v0", "scope": "link"}]},
        [],
    ),
    "route with another next hop": (
        {**veth(addresses=["10.0.0.1/24"]), "routes": [{"netns": "red", "dst": "10.9.0.0/24", "via": "10.0.0.2"}]},
        {**veth(), "routes": [{"netns": "red", "dst": "10.9.0.0/24", "via": "10.0.0.3"}]},
        ["ip -n red route replace 10.9.0.0/24 via 10.0.0.3"],
    ),
    "route absent": (
        {**veth(addresses=["10.0.0.1/24"]), "routes": [{"netns": "red", "dst": "10.9.0.0/24", "via": "10.0.0.2"}]},
        {**veth(), "routes": [{"netns": "red", "dst": "10.9.0.0/24", "state": "absent"}]},
        ["ip -n red route delete 10.9.0.0/24"],
    ),
    "routes through a link that is made again": (
        {**veth(addresses=["10.0.0.1/24"]), "routes": [{"netns": "red", "dst": "10.9.0.0/24", "via": "10.0.0.2"}]},
        {
            **veth(addresses=["10.0.0.1/24"], peer={"name": "x", "netns": "blue"}),
            "routes": [{"netns": "red", "dst": "10.9.0.0/24", "via": "10.0.0.2"}],
        },
        [
            "ip -n red link delete v0",
            "ip -n red link add v0 type veth peer name x netns blue",
            "ip -n red address replace 10.0.0.1/24 dev v0",
            "ip -n red route replace 10.9.0.0/24 via 10.0.0.2",
        ],
    ),
    "neighbour": (
        veth(),
        {**veth(), "neighbours": [{"netns": "red", "dev": "v0", "dst": "10.0.0.9", "address": MAC}]},
        [f"ip -n red neighbour replace 10.0.0.9 lladdr {MAC} dev v0 nud permanent"],
    ),
    "neighbour absent": (
        {**veth(), "neighbours": [{"netns": "red", "dev": "v0", "dst": "10.0.0.9", "address": MAC}]},
        {**veth(), "neighbours": [{"netns": "red", "dev": "v0", "dst": "10.0.0.9", "address": MAC, "state": "absent"}]},
        ["ip -n red neighbour delete 10.0.0.9 dev v0"],
    ),
    "neighbour on a device whose address changes": (
        {**veth(), "neighbours": [{"netns": "red", "dev": "v0", "dst": "10.0.0.9", "address": MAC}]},
        {**veth(address=MAC), "neighbours": [{"netns": "red", "dev": "v0", "dst": "10.0.0.9", "address": MAC}]},
        [
            f"ip -n red link set dev v0 address {MAC}",
            f"ip -n red neighbour replace 10.0.0.9 lladdr {MAC} dev v0 nud permanent",
        ],
    ),
    "what hangs on a device that goes down": (
        {
            **veth(up=True, addresses=["10.0.0.1/24", "fd00::1/64"]),
            "routes": [{"netns": "red", "dst": "10.7.0.0/16", "via": "10.0.0.2"}],
            "neighbours": [{"netns": "red", "dev": "v0", "dst": "10.0.0.9", "address": MAC}],
        },
        {
            **veth(up=False, addresses=["10.0.0.1/24", "fd00::1/64"]),
            "neighbours": [{"netns": "red", "dev": "v0", "dst": "10.0.0.9", "address": MAC}],
        },
        [
            "ip -n red link set dev v0 down",
            "ip -n red address replace fd00::1/64 dev v0",
            f"ip -n red neighbour replace 10.0.0.9 lladdr {MAC} dev v0 nud permanent",
        ],
    ),
    "settings and entries of a port that is made again": (
        {
            "namespaces": NETNS,
            "links": [BRIDGE, PORT],
            "fdb": [{"netns": "red", "dev": "v0", "address": MAC}],
            "sysctls": [{"netns": "red", "name": "net.ipv4.conf.v0.proxy_arp", "value": "1"}],
        },
        {
            "namespaces": NETNS,
            "links": [BRIDGE, {**PORT, "peer": {"name": "x", "netns": "blue"}}],
            "fdb": [{"netns": "red", "dev": "v0", "address": MAC}],
            "sysctls": [{"netns": "red", "name": "net.ipv4.conf.v0.proxy_arp", "value": "1"}],
        },
        [
            "ip -n red link delete v0",
            "ip -n red link add v0 type veth peer name x netns blue",
            "ip -n red link set dev v0 master br0",
            "ip netns exec red sysctl -w net.ipv4.conf.v0.proxy_arp=1",
            f"bridge -n red fdb add {MAC} dev v0 master static",
        ],
    ),
    "entries of a port that changes its bridge": (
        {
            "namespaces": NETNS,
            "links": [BRIDGE, {**BRIDGE, "name": "br1"}, PORT],
            "fdb": [{"netns": "red", "dev": "v0", "address": MAC}],
        },
        {
            "namespaces": NETNS,
            "links": [BRIDGE, {**BRIDGE, "name": "br1"}, {**PORT, "master": "br1", "port": {"hairpin": False}}],
            "fdb": [{"netns": "red", "dev": "v0", "address": MAC}],
        },
        [
            "ip -n red link set dev v0 master br1",
            "bridge -n red link set dev v0 hairpin off",
            f"bridge -n red fdb add {MAC} dev v0 master static",
        ],
    ),
    "fdb of a vxlan": (
        one(**VXLAN),
        {
            **one(**VXLAN),
            "fdb": [
                {"netns": "red", "dev": "vx", "address": MAC, "dst": "192.168.0.2"},
                {"netns": "red", "dev": "vx", "address": "00:00:00:00:00:00", "dst": "192.168.0.2"},
                {"netns": "red", "dev": "vx", "address": "00:00:00:00:00:00", "dst": "192.168.0.3"},
            ],
        },
        [
            f"bridge -n red fdb add {MAC} dev vx dst 192.168.0.2",
            "bridge -n red fdb append 00:00:00:00:00:00 dev vx dst 192.168.0.2",
            "bridge -n red fdb append 00:00:00:00:00:00 dev vx dst 192.168.0.3",
        ],
    ),
    "fdb with another remote end": (
        {**one(**VXLAN), "fdb": [{"netns": "red", "dev": "vx", "address": MAC, "dst": "192.168.0.2"}]},
        {**one(**VXLAN), "fdb": [{"netns": "red", "dev": "vx", "address": MAC, "dst": "192.168.0.3"}]},
        [
            f"bridge -n red fdb delete {MAC} dev vx dst 192.168.0.2",
            f"bridge -n red fdb add {MAC} dev vx dst 192.168.0.3",
        ],
    ),
    "fdb of a port": (
        {"namespaces": NETNS, "links": [BRIDGE, PORT]},
        {"namespaces": NETNS, "fdb": [{"netns": "red", "dev": "v0", "address": MAC}]},
        [f"bridge -n red fdb add {MAC} dev v0 master static"],
    ),
    "settings of a device": (
        veth(),
        {**veth(), "sysctls": [{"netns": "red", "name": "net.ipv4.conf.v0.proxy_arp", "value": "1"}]},
        ["ip netns exec red sysctl -w net.ipv4.conf.v0.proxy_arp=1"],
    ),
    "setting that is there": (
        {**veth(), "sysctls": [{"netns": "red", "name": "net.ipv4.ip_local_port_range", "value": "1 2"}]},
        {**veth(), "sysctls": [{"netns": "red", "name": "net/ipv4/ip_local_port_range", "value": "1\t2"}]},
        [],
    ),
}
