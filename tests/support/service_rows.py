"""What a client of a Service sees: kinds of Services, who asks for which of their addresses, and what comes of it.

Those that need other options are in service_option_rows. The rows are measured by
tests/kernel/test_service_behaviour.py and shown in docs/service-behaviour.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

WEB = ({"port": 80, "targetPort": 8080},)
CLUSTER_IP, NODE_PORT, EXTERNAL, BALANCER, LOCALHOST, POD = (
    "cluster IP", "node port of", "external IP", "load balancer IP", "node port of localhost", "pod",
)  # fmt: skip
NODE_PORT_A, NODE_PORT_B = f"{NODE_PORT} node-a", f"{NODE_PORT} node-b"
# An address that node-a has beside its first one.
NODE_PORT_GATEWAY = f"{NODE_PORT} gateway of node-a"
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
    _endpoints. proxy: options of podlab_service that are not the default. setting: what else about the lab is not.
    """

    name: str
    endpoints: tuple[str, ...]
    rows: tuple[Row, ...]
    spec: Mapping[str, Any] = {}
    ports: tuple[Mapping[str, Any], ...] = WEB
    proxy: Mapping[str, Any] = {}
    setting: str = ""


# Settings. Kinds of each are programmed apart from the others; the two that a lab never has are made by the test.
LARGE, NO_ZONES, NO_DETECTOR = "large cluster", "nodes without zones", "no local detector"

ALL = "a1 or b1 (from itself)"
AS_A, AS_B = "a1 or b1 (from node-a)", "a1 or b1 (from node-b)"
NO_LOCALHOST = "nftables mode has no node ports on localhost"
LOOPBACK = "IPv6 has no node ports on localhost"
_UNKNOWN = "nftables mode refuses unknown ports of a cluster IP"
_FIRST = "nftables mode has node ports on a node's first address"
_FIREWALL = "nftables mode looks at source ranges also where there are no endpoints"

NODEPORT = {"type": "NodePort"}
BALANCED = {"type": "LoadBalancer"}
LOCAL = {"externalTrafficPolicy": "Local"}
RANGES = {"loadBalancerSourceRanges": ["{node-a}", "{client}"]}

KINDS = (
    Kind(
        "ClusterIP",
        ("a1", "b1"),
        (
            Row("a4", CLUSTER_IP, ALL),
            Row("b3", CLUSTER_IP, ALL),
            Row("node-a", CLUSTER_IP, ALL),
            Row("client", CLUSTER_IP, AS_A),
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
        "one number, two protocols",
        ("a1",),
        (Row("a4", f"{CLUSTER_IP}:dns", "a1 (from itself)"), Row("a4", f"{CLUSTER_IP}:dns-tcp", "a1 (from itself)")),
        ports=(
            {"name": "dns", "port": 53, "targetPort": 5353, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 53, "targetPort": 8080},
        ),
    ),
    Kind(
        "headless (clusterIP: None)",
        ("a1", "b1"),
        (Row("a4", f"{POD} b1", "b1 (from itself)"), Row("client", f"{POD} a1", "a1 (from itself)")),
        {"clusterIP": "None"},
    ),
    Kind(
        "ExternalName, with what another type left in it",
        ("a1",),
        (Row("a4", CLUSTER_IP, DROPPED), Row("client", NODE_PORT_A, REFUSED)),
        {"type": "ExternalName", "externalName": "example.com"},
    ),
    Kind(
        "UDP",
        ("a1", "b1"),
        (
            Row("a4", CLUSTER_IP, ALL),
            Row("node-a", CLUSTER_IP, ALL),
            Row("client", NODE_PORT_A, AS_A),
        ),
        NODEPORT,
        ({"port": 53, "targetPort": 5353, "protocol": "UDP"},),
    ),
    Kind(
        "SCTP",
        ("a1", "b1"),
        (
            Row("a4", CLUSTER_IP, ALL),
            Row("node-a", CLUSTER_IP, ALL),
            Row("client", NODE_PORT_A, AS_A),
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
        (Row("a4", CLUSTER_IP, ALL),),
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
            Row("client", NODE_PORT_A, AS_A),
            Row("client", NODE_PORT_B, AS_B),
            Row("a4", NODE_PORT_A, AS_A),
            Row("a4", NODE_PORT_B, AS_B),
            Row("node-a", NODE_PORT_A, ALL),
            Row("node-a", LOCALHOST, ALL, ipv6=REFUSED, nftables=REFUSED, why=f"{LOOPBACK}; {NO_LOCALHOST}"),
            Row("a4", NODE_PORT_GATEWAY, AS_A, nftables=REFUSED, why=_FIRST),
        ),
        NODEPORT,
    ),
    Kind(
        "externalIPs",
        ("a1", "b1"),
        (Row("client", EXTERNAL, AS_A), Row("a4", EXTERNAL, AS_A), Row("node-a", EXTERNAL, ALL)),
        {"externalIPs": ["{external}"]},
    ),
    Kind(
        "LoadBalancer",
        ("a1", "b1"),
        (Row("client", BALANCER, AS_A), Row("a4", BALANCER, AS_A), Row("client", NODE_PORT_A, AS_A)),
        BALANCED,
    ),
    Kind(
        "LoadBalancer with source ranges",
        ("a1", "b1"),
        (
            Row("client", BALANCER, AS_A),
            Row("stranger", BALANCER, DROPPED),
            Row("a4", BALANCER, DROPPED),
            Row("node-a", BALANCER, ALL),
            Row("node-b", BALANCER, DROPPED),
            Row("stranger", NODE_PORT_A, AS_A),
        ),
        {**BALANCED, **RANGES},
    ),
    Kind(
        "LoadBalancer with source ranges, no endpoints",
        (),
        (Row("client", BALANCER, REFUSED), Row("stranger", BALANCER, REFUSED, nftables=DROPPED, why=_FIREWALL)),
        {**BALANCED, **RANGES},
    ),
    Kind(
        "LoadBalancer with source ranges, externalTrafficPolicy: Local",
        ("a1",),
        (Row("client", BALANCER, "a1 (from itself)"), Row("stranger", BALANCER, DROPPED)),
        {**BALANCED, **RANGES, **LOCAL},
    ),
    Kind(
        "externalTrafficPolicy: Local",
        ("a1",),
        (
            Row("client", NODE_PORT_A, "a1 (from itself)"),
            Row("client", NODE_PORT_B, DROPPED),
            Row("client", BALANCER, "a1 (from itself)"),
            Row("a4", NODE_PORT_A, "a1 (from itself)"),
            Row("a1", BALANCER, "a1 (from node-a)"),
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
            Row("a4", NODE_PORT_A, ALL),
            Row("node-a", NODE_PORT_A, ALL),
        ),
        {**NODEPORT, **LOCAL},
    ),
    Kind(
        "externalTrafficPolicy: Local, the local one terminating",
        ("a1 terminating", "b1", "b2 terminating"),
        (
            Row("client", NODE_PORT_A, "a1 (from itself)"),
            Row("client", NODE_PORT_B, "b1 (from itself)"),
            Row("a4", CLUSTER_IP, "b1 (from itself)"),
        ),
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
        "internalTrafficPolicy: Local, the local one terminating",
        ("a1 terminating", "b1", "b2 terminating"),
        (Row("a4", CLUSTER_IP, "a1 (from itself)"), Row("b3", CLUSTER_IP, "b1 (from itself)")),
        {"internalTrafficPolicy": "Local"},
    ),
    Kind(
        "internalTrafficPolicy: Local, no endpoints",
        (),
        (Row("a4", CLUSTER_IP, REFUSED),),
        {"internalTrafficPolicy": "Local"},
    ),
    Kind(
        "endpoints with hints for zones",
        ("a1 zone-a", "a2 zone-b", "b1 zone-b"),
        (Row("a4", CLUSTER_IP, "a1 (from itself)"), Row("b3", CLUSTER_IP, "a2 or b1 (from itself)")),
    ),
    Kind(
        "endpoints with hints for zones, none for node-b's",
        ("a1 zone-a", "b1 zone-a"),
        (Row("a4", CLUSTER_IP, ALL), Row("b3", CLUSTER_IP, ALL)),
    ),
    Kind(
        "endpoints with hints for zones, one without",
        ("a1 zone-a", "b1"),
        (Row("a4", CLUSTER_IP, ALL), Row("b3", CLUSTER_IP, ALL)),
    ),
    Kind(
        "endpoints with hints for nodes",
        ("a1 for-node-a", "b1 for-node-b"),
        (Row("a4", CLUSTER_IP, "a1 (from itself)"), Row("b3", CLUSTER_IP, "b1 (from itself)")),
    ),
)
