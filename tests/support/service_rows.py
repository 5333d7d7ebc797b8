"""What a client of a Service sees: kinds of Services, who asks for which of their addresses, and what comes of it.

The rows are measured by tests/kernel/test_service_behaviour.py and shown in docs/networking.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

WEB = ({"port": 80, "targetPort": 8080},)
CLUSTER_IP, NODE_PORT, EXTERNAL, BALANCER, LOCALHOST = (
    "cluster IP", "node port of", "external IP", "load balancer IP", "node port of localhost",
)  # fmt: skip
NODE_PORT_A, NODE_PORT_B = f"{NODE_PORT} node-a", f"{NODE_PORT} node-b"
REFUSED, DROPPED = "refused", "dropped"


class Row(NamedTuple):
    """A request and what comes of it.

    asker: a pod, a node, or a machine outside. target: one of the words above; ":NAME" or ":NUMBER" names another port.
    answer: "a1 or b1 (from node-a)": who answers, and whose address it sees; "itself" is the asker's own.
    ipv6, nftables: the answer where it differs there; why says why.
    """

    asker: str
    target: str
    answer: str
    ipv6: str = ""
    nftables: str = ""
    why: str = ""

    def expected(self, family: str, mode: str) -> str:
        """The answer in one family and mode ("iptables" or "nftables")."""
        return (self.nftables if mode == "nftables" else "") or (self.ipv6 if family == "ipv6" else "") or self.answer


class Kind(NamedTuple):
    """A Service, its endpoints, and requests to it.

    spec: what the Service says beside its addresses; FAMILY formats in it are filled by name. endpoints: words of
    _endpoint. proxy: options of podlab_service that are not the default.
    """

    name: str
    endpoints: tuple[str, ...]
    rows: tuple[Row, ...]
    spec: Mapping[str, Any] = {}
    ports: tuple[Mapping[str, Any], ...] = WEB
    proxy: Mapping[str, Any] = {}


_ALL = "a1 or b1 (from itself)"
_AS_A, _AS_B = "a1 or b1 (from node-a)", "a1 or b1 (from node-b)"
_NO_LOCALHOST = "nftables mode has no node ports on localhost"
_LOOPBACK = "IPv6 has no node ports on localhost"
_UNKNOWN = "nftables mode refuses unknown ports of a cluster IP"

NODEPORT = {"type": "NodePort"}
BALANCED = {"type": "LoadBalancer"}
LOCAL = {"externalTrafficPolicy": "Local"}

KINDS = (
    Kind(
        "ClusterIP",
        ("a1", "b1"),
        (
            Row("a4", CLUSTER_IP, _ALL),
            Row("b3", CLUSTER_IP, _ALL),
            Row("node-a", CLUSTER_IP, _ALL),
            Row("client", CLUSTER_IP, _AS_A),
            Row("a4", f"{CLUSTER_IP}:81", DROPPED, nftables=REFUSED, why=_UNKNOWN),
        ),
    ),
    Kind(
        "one endpoint",
        ("a1",),
        (Row("a1", CLUSTER_IP, "a1 (from node-a)"), Row("a4", CLUSTER_IP, "a1 (from itself)")),
    ),
    Kind(
        "several ports",
        ("a1",),
        (Row("a4", f"{CLUSTER_IP}:http", "a1 (from itself)"), Row("a4", f"{CLUSTER_IP}:more", "a1:9090 (from itself)")),
        ports=({"name": "http", "port": 80, "targetPort": 8080}, {"name": "more", "port": 90, "targetPort": 9090}),
    ),
    Kind(
        "UDP",
        ("a1", "b1"),
        (
            Row("a4", CLUSTER_IP, _ALL),
            Row("node-a", CLUSTER_IP, _ALL),
            Row("client", NODE_PORT_A, _AS_A),
        ),
        NODEPORT,
        ({"port": 53, "targetPort": 5353, "protocol": "UDP"},),
    ),
    Kind(
        "SCTP",
        ("a1", "b1"),
        (
            Row("a4", CLUSTER_IP, _ALL),
            Row("node-a", CLUSTER_IP, _ALL),
            Row("client", NODE_PORT_A, _AS_A),
        ),
        NODEPORT,
        ({"port": 38, "targetPort": 3868, "protocol": "SCTP"},),
    ),
    Kind(
        "an endpoint on a node",
        ("node-b",),
        # What leaves the pods' network is masqueraded, as kindnet does it.
        (Row("a4", CLUSTER_IP, "node-b (from node-a)"), Row("client", CLUSTER_IP, "node-b (from node-a)")),
    ),
    Kind(
        "no endpoints",
        (),
        (
            Row("a4", CLUSTER_IP, REFUSED),
            Row("node-a", CLUSTER_IP, REFUSED),
            Row("client", CLUSTER_IP, REFUSED),
            Row("client", NODE_PORT_A, REFUSED),
            Row("client", EXTERNAL, REFUSED),
            Row("client", BALANCER, REFUSED),
        ),
        {**BALANCED, "externalIPs": ["{external}"]},
    ),
    Kind(
        "no endpoints, UDP",
        (),
        (Row("a4", CLUSTER_IP, REFUSED), Row("node-a", CLUSTER_IP, REFUSED), Row("client", NODE_PORT_A, REFUSED)),
        NODEPORT,
        ({"port": 53, "targetPort": 5353, "protocol": "UDP"},),
    ),
    Kind(
        "no endpoints, SCTP",
        (),
        (Row("a4", CLUSTER_IP, REFUSED),),
        ports=({"port": 38, "targetPort": 3868, "protocol": "SCTP"},),
    ),
    Kind("no endpoint ready", ("a1 unready", "b1 unready"), (Row("a4", CLUSTER_IP, REFUSED),)),
    Kind("one ready, one terminating", ("a1", "b1 terminating"), (Row("a4", CLUSTER_IP, "a1 (from itself)"),)),
    Kind(
        "only terminating ones, which still serve",
        ("a1 terminating", "b1 terminating", "b2 gone"),
        (Row("a4", CLUSTER_IP, _ALL),),
    ),
    Kind("only terminating ones, which serve no more", ("a1 gone",), (Row("a4", CLUSTER_IP, REFUSED),)),
    Kind(
        "sessionAffinity: ClientIP",
        ("a1", "a2", "b1", "b2"),
        (
            Row("a4", CLUSTER_IP, "always the same (from itself)"),
            Row("client", NODE_PORT_A, "always the same (from node-a)"),
        ),
        {"sessionAffinity": "ClientIP", **NODEPORT},
    ),
    Kind(
        "NodePort",
        ("a1", "b1"),
        (
            Row("client", NODE_PORT_A, _AS_A),
            Row("client", NODE_PORT_B, _AS_B),
            Row("a4", NODE_PORT_A, _AS_A),
            Row("a4", NODE_PORT_B, _AS_B),
            Row("node-a", NODE_PORT_A, _ALL),
            Row("node-a", LOCALHOST, _ALL, ipv6=REFUSED, nftables=REFUSED, why=f"{_LOOPBACK}; {_NO_LOCALHOST}"),
        ),
        NODEPORT,
    ),
    Kind(
        "externalIPs",
        ("a1", "b1"),
        (Row("client", EXTERNAL, _AS_A), Row("a4", EXTERNAL, _AS_A), Row("node-a", EXTERNAL, _ALL)),
        {"externalIPs": ["{external}"]},
    ),
    Kind(
        "LoadBalancer",
        ("a1", "b1"),
        (Row("client", BALANCER, _AS_A), Row("a4", BALANCER, _AS_A), Row("client", NODE_PORT_A, _AS_A)),
        BALANCED,
    ),
    Kind(
        "LoadBalancer with source ranges",
        ("a1", "b1"),
        (
            Row("client", BALANCER, _AS_A),
            Row("stranger", BALANCER, DROPPED),
            Row("a4", BALANCER, DROPPED),
            Row("node-a", BALANCER, _ALL),
            Row("stranger", NODE_PORT_A, _AS_A),
        ),
        {**BALANCED, "loadBalancerSourceRanges": ["{node-a}", "{client}"]},
    ),
    Kind(
        "externalTrafficPolicy: Local",
        ("a1",),
        (
            Row("client", NODE_PORT_A, "a1 (from itself)"),
            Row("client", NODE_PORT_B, DROPPED),
            Row("client", BALANCER, "a1 (from itself)"),
            Row("a4", NODE_PORT_A, "a1 (from itself)"),
            Row("b3", NODE_PORT_B, "a1 (from itself)"),
            Row("node-b", NODE_PORT_B, "a1 (from itself)"),
            Row("client", CLUSTER_IP, "a1 (from node-a)"),
        ),
        {**BALANCED, **LOCAL},
    ),
    Kind(
        "externalTrafficPolicy: Local, endpoints everywhere",
        ("a1", "b1"),
        (
            Row("client", NODE_PORT_A, "a1 (from itself)"),
            Row("client", NODE_PORT_B, "b1 (from itself)"),
            Row("a4", NODE_PORT_A, _ALL),
            Row("node-a", NODE_PORT_A, _ALL),
        ),
        {**NODEPORT, **LOCAL},
    ),
    Kind(
        "externalTrafficPolicy: Local, the local one terminating",
        ("a1 terminating", "b1"),
        (Row("client", NODE_PORT_A, "a1 (from itself)"), Row("a4", CLUSTER_IP, "b1 (from itself)")),
        {**NODEPORT, **LOCAL},
    ),
    Kind(
        "externalTrafficPolicy: Local, externalIPs",
        ("b1",),
        (Row("client", EXTERNAL, DROPPED), Row("a4", EXTERNAL, "b1 (from itself)")),
        {"externalIPs": ["{external}"], **LOCAL},
    ),
    Kind(
        "externalTrafficPolicy: Local, no endpoints",
        (),
        (Row("client", NODE_PORT_A, REFUSED), Row("a4", CLUSTER_IP, REFUSED)),
        {**NODEPORT, **LOCAL},
    ),
    Kind(
        "internalTrafficPolicy: Local",
        ("a1",),
        (
            Row("a4", CLUSTER_IP, "a1 (from itself)"),
            Row("b3", CLUSTER_IP, DROPPED),
            Row("node-b", CLUSTER_IP, DROPPED),
            Row("client", CLUSTER_IP, "a1 (from node-a)"),
            Row("client", NODE_PORT_B, "a1 (from node-b)"),
        ),
        {**NODEPORT, "internalTrafficPolicy": "Local"},
    ),
    Kind(
        "endpoints with hints for zones",
        ("a1 zone-a", "a2 zone-b", "b1 zone-b"),
        (Row("a4", CLUSTER_IP, "a1 (from itself)"), Row("b3", CLUSTER_IP, "a2 or b1 (from itself)")),
    ),
    Kind(
        "endpoints with hints for nodes",
        ("a1 for-node-a", "b1 for-node-b"),
        (Row("a4", CLUSTER_IP, "a1 (from itself)"), Row("b3", CLUSTER_IP, "b1 (from itself)")),
    ),
    Kind(
        "masqueradeAll",
        ("a1", "b1"),
        (Row("a4", CLUSTER_IP, _AS_A), Row("b3", CLUSTER_IP, _AS_B)),
        proxy={"masquerade_all": True},
    ),
    Kind(
        "pods told by the node's pod CIDR",
        ("a1", "b1"),
        (Row("a4", CLUSTER_IP, _ALL), Row("b3", CLUSTER_IP, _AS_B)),
        proxy={"detect_local_mode": "NodeCIDR", "detect_local": "{cidr of node-a}"},
    ),
    Kind(
        "pods told by a bridge (here: the veth of the fourth)",
        ("a1", "b1"),
        (Row("a4", CLUSTER_IP, _ALL), Row("a3", CLUSTER_IP, _AS_A)),
        proxy={"detect_local_mode": "BridgeInterface", "detect_local": "pod4"},
    ),
    Kind(
        "pods told by their veth's prefix",
        ("a1", "b1"),
        (Row("a4", CLUSTER_IP, _ALL), Row("a3", CLUSTER_IP, _ALL), Row("client", CLUSTER_IP, _AS_A)),
        proxy={"detect_local_mode": "InterfaceNamePrefix", "detect_local": "pod"},
    ),
    Kind(
        "nodePortAddresses of one node",
        ("a1", "b1"),
        (
            Row("client", NODE_PORT_A, _AS_A),
            Row("client", NODE_PORT_B, REFUSED),
            Row("node-a", LOCALHOST, REFUSED),
        ),
        NODEPORT,
        proxy={"nodeport_addresses": ["{node-a}"]},
    ),
    Kind(
        "localhost node ports off",
        ("a1", "b1"),
        (Row("client", NODE_PORT_A, _AS_A), Row("node-a", LOCALHOST, REFUSED)),
        NODEPORT,
        proxy={"localhost_nodeports": False},
    ),
)

# Those that need no other options of kube-proxy: one call programs them all.
KINDS_WITH_DEFAULTS = tuple(kind for kind in KINDS if not kind.proxy)
