"""The node network as a topology: a bridge in a namespace of its own, a veth for each node, one uplink.

It is what kind has from Docker's bridge network, and kindnet's routes; the result is the options of podlab_topology.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from .cluster import uplink_name

if TYPE_CHECKING:
    from .cluster import Cluster, Node

BRIDGE = "br0"
NODE_DEVICE = "eth0"

# A new namespace takes the machine's values of conf.all and conf.default (net.core.devconf_inherit_init_net), so that
# what routing between pods depends on is said. arp_ignore: the /32 addresses of pod links must be answered for.
_NODE_SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    "net.ipv4.conf.all.arp_ignore": "0",
    "net.ipv4.conf.default.arp_ignore": "0",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
}


def network_namespace(cluster: str) -> str:
    """Name of the network namespace that holds the bridge."""
    return f"podlab-{cluster}-network"


def node_namespace(node: str) -> str:
    """Name of a node's network namespace."""
    return f"podlab-{node}"


def route_localnet(cluster: str) -> str:
    """The setting that lets 127.0.0.1 of the machine be answered through the uplink."""
    return f"net.ipv4.conf.{uplink_name(cluster)}.route_localnet"


def node_network(cluster: Cluster) -> dict[str, list[dict[str, Any]]]:
    """The options namespaces, links, routes and sysctls of podlab_topology for a cluster's nodes."""
    network = network_namespace(cluster.name)
    mapped = any(node.port_mappings for node in cluster.nodes)
    nodes = [{"name": node_namespace(n.name), "loopback": True, "sysctls": dict(_NODE_SYSCTLS)} for n in cluster.nodes]
    return {
        "namespaces": [{"name": network, "loopback": True}, *nodes],
        "links": [
            {"name": BRIDGE, "netns": network, "kind": "bridge", "up": True},
            _uplink(cluster, network),
            *(_node_link(cluster, node, network) for node in cluster.nodes),
        ],
        "routes": [route for node in cluster.nodes for route in _routes(cluster, node)],
        # Mapped ports answer on 127.0.0.1, too; the rules of gateway shut out all else.
        "sysctls": [{"name": route_localnet(cluster.name), "value": "1"}] if mapped else [],
    }


def _prefix(cluster: Cluster) -> int:
    return ipaddress.IPv4Network(cluster.node_subnet).prefixlen


def _uplink(cluster: Cluster, network: str) -> dict[str, Any]:
    return {
        "name": uplink_name(cluster.name),
        "kind": "veth",
        "altname": f"podlab-uplink-{cluster.name}",
        "addresses": [f"{cluster.gateway}/{_prefix(cluster)}"],
        "addrgenmode": "none",
        "up": True,
        "peer": {"name": "uplink", "netns": network, "master": BRIDGE, "addrgenmode": "none", "up": True},
    }


def _node_link(cluster: Cluster, node: Node, network: str) -> dict[str, Any]:
    # The MAC address is Docker's: 02:42 and the four bytes of the IP address.
    octets = ipaddress.IPv4Address(node.address).packed
    return {
        "name": NODE_DEVICE,
        "netns": node_namespace(node.name),
        "kind": "veth",
        "address": ":".join(f"{byte:02x}" for byte in (0x02, 0x42, *octets)),
        "addresses": [f"{node.address}/{_prefix(cluster)}"],
        "up": True,
        "peer": {
            "name": f"veth{node.index}",
            "netns": network,
            "master": BRIDGE,
            "addrgenmode": "none",
            "up": True,
        },
    }


def _routes(cluster: Cluster, node: Node) -> list[dict[str, Any]]:
    netns = node_namespace(node.name)
    others = [{"netns": netns, "dst": n.pod_cidr, "via": n.address} for n in cluster.nodes if n.name != node.name]
    return [{"netns": netns, "dst": "default", "via": cluster.gateway}, *others]
