"""Kinds of Services as in service_rows whose answers depend on kube-proxy's options, or on the lab."""

from __future__ import annotations

from support.service_rows import (
    ALL,
    AS_A,
    AS_B,
    CLUSTER_IP,
    DROPPED,
    KINDS,
    LARGE,
    LOCAL,
    LOCALHOST,
    LOOPBACK,
    NO_DETECTOR,
    NO_LOCALHOST,
    NO_ZONES,
    NODE_PORT_A,
    NODE_PORT_B,
    NODE_PORT_GATEWAY,
    NODEPORT,
    REFUSED,
    Kind,
    Row,
)

# Each list of options and each setting is programmed apart from the others.
EVERY_KIND = (
    *KINDS,
    Kind(
        "endpoints with hints for zones, nodes without a zone",
        ("a1 zone-a", "b1 zone-b"),
        (Row("a4", CLUSTER_IP, ALL), Row("b3", CLUSTER_IP, ALL)),
        setting=NO_ZONES,
    ),
    Kind(
        "more than 1,000 endpoints",
        ("a1", "b1", "999 unready"),
        (
            Row("a4", CLUSTER_IP, ALL),
            Row("a1", CLUSTER_IP, "b1 (from itself), a1 (from node-a)"),
            Row("client", NODE_PORT_A, AS_A),
        ),
        NODEPORT,
        setting=LARGE,
    ),
    Kind(
        "masqueradeAll",
        ("a1", "b1"),
        (Row("a4", CLUSTER_IP, AS_A), Row("b3", CLUSTER_IP, AS_B)),
        proxy={"masquerade_all": True},
    ),
    Kind(
        "pods not told from others",
        ("a1",),
        (
            Row("a4", CLUSTER_IP, "a1 (from itself)"),
            Row("client", CLUSTER_IP, "a1 (from itself)"),
            Row("client", NODE_PORT_A, "a1 (from node-a)"),
        ),
        NODEPORT,
        setting=NO_DETECTOR,
    ),
    Kind(
        "pods not told from others, externalTrafficPolicy: Local",
        ("a1",),
        (
            Row("client", NODE_PORT_A, "a1 (from itself)"),
            Row("b3", NODE_PORT_B, DROPPED),
            Row("node-b", NODE_PORT_B, "a1 (from itself)"),
        ),
        {**NODEPORT, **LOCAL},
        setting=NO_DETECTOR,
    ),
    Kind(
        "pods not told from others, masqueradeAll",
        ("a1", "b1"),
        (Row("a4", CLUSTER_IP, AS_A), Row("client", CLUSTER_IP, AS_A)),
        proxy={"masquerade_all": True},
        setting=NO_DETECTOR,
    ),
    Kind(
        "pods told by the node's pod CIDR",
        ("a1", "b1"),
        (Row("a4", CLUSTER_IP, ALL), Row("b3", CLUSTER_IP, AS_B)),
        proxy={"detect_local_mode": "NodeCIDR", "detect_local": "{cidr of node-a}"},
    ),
    Kind(
        "pods told by a bridge (here: the veth of the fourth)",
        ("a1", "b1"),
        (Row("a4", CLUSTER_IP, ALL), Row("a3", CLUSTER_IP, AS_A)),
        proxy={"detect_local_mode": "BridgeInterface", "detect_local": "pod4"},
    ),
    Kind(
        "pods told by their veth's prefix",
        ("a1", "b1"),
        (Row("a4", CLUSTER_IP, ALL), Row("a3", CLUSTER_IP, ALL), Row("client", CLUSTER_IP, AS_A)),
        proxy={"detect_local_mode": "InterfaceNamePrefix", "detect_local": "pod"},
    ),
    Kind(
        "nodePortAddresses of one node",
        ("a1", "b1"),
        (
            Row("client", NODE_PORT_A, AS_A),
            Row("client", NODE_PORT_B, REFUSED),
            Row("node-a", LOCALHOST, REFUSED),
        ),
        NODEPORT,
        proxy={"nodeport_addresses": ["{node-a}"]},
    ),
    Kind(
        "nodePortAddresses of all",
        ("a1", "b1"),
        (
            Row("client", NODE_PORT_A, AS_A),
            Row("a4", NODE_PORT_GATEWAY, AS_A),
            Row("node-a", LOCALHOST, ALL, ipv6=REFUSED, nftables=REFUSED, why=f"{LOOPBACK}; {NO_LOCALHOST}"),
        ),
        NODEPORT,
        proxy={"nodeport_addresses": ["0.0.0.0/0", "::/0"]},
    ),
    Kind(
        "localhost node ports off",
        ("a1", "b1"),
        (Row("client", NODE_PORT_A, AS_A), Row("node-a", LOCALHOST, REFUSED)),
        NODEPORT,
        proxy={"localhost_nodeports": False},
    ),
)
