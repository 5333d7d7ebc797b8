"""Types of the fields that kube-proxy reads, in the form that schema.check walks. Other fields are let through.

Sources: k8s.io/api core/v1 and discovery/v1; k8s.io/kube-proxy/config/v1alpha1/types.go.
"""

from __future__ import annotations

from typing import Any

# kind -> apiVersion. ServiceCIDR matters in nftables mode only.
KINDS = {
    "Service": "v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    "Node": "v1",
    "ServiceCIDR": "networking.k8s.io/v1",
}
CONFIG_KIND = "KubeProxyConfiguration"
CONFIG_VERSION = "kubeproxy.config.k8s.io/v1alpha1"

Shape = dict[str, Any]

_TEXT: Shape = {"type": "string"}
_NUMBER: Shape = {"type": "integer", "format": "int32"}
_FLAG: Shape = {"type": "boolean"}
_TEXTS: Shape = {"type": "array", "items": _TEXT}
# Durations may be written as a number, too.
_ANY: Shape = {}


def _map(required: tuple[str, ...] = (), closed: bool = False, **fields: Shape) -> Shape:
    return {"type": "object", "properties": fields, "required": required, "additionalProperties": not closed}


def _list(item: Shape) -> Shape:
    return {"type": "array", "items": item}


def _one_of(*words: str) -> Shape:
    return {"type": "string", "enum": words}


_PROTOCOL = _one_of("TCP", "UDP", "SCTP")
_POLICY = _one_of("Cluster", "Local")
_METADATA = _map(
    ("name",), name=_TEXT, namespace=_TEXT, labels={"type": "object", "additionalProperties": _TEXT}
)  # fmt: skip
_HINTS = _list(_map(("name",), name=_TEXT))

_SERVICE_SPEC = _map(
    type=_one_of("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
    clusterIP=_TEXT,
    clusterIPs=_TEXTS,
    ports=_list(_map(("port",), name=_TEXT, protocol=_PROTOCOL, port=_NUMBER, nodePort=_NUMBER)),
    externalIPs=_TEXTS,
    loadBalancerSourceRanges=_TEXTS,
    externalTrafficPolicy=_POLICY,
    internalTrafficPolicy=_POLICY,
    healthCheckNodePort=_NUMBER,
    sessionAffinity=_one_of("None", "ClientIP"),
    sessionAffinityConfig=_map(clientIP=_map(timeoutSeconds=_NUMBER)),
)
_INGRESS = _map(ip=_TEXT, ipMode=_one_of("VIP", "Proxy"))
_ENDPOINT = _map(
    addresses=_TEXTS,
    conditions=_map(ready=_FLAG, serving=_FLAG, terminating=_FLAG),
    nodeName=_TEXT,
    hints=_map(forZones=_HINTS, forNodes=_HINTS),
)

SHAPES: dict[str, Shape] = {
    "Service": _map(
        ("metadata", "spec"),
        metadata=_METADATA,
        spec=_SERVICE_SPEC,
        status=_map(loadBalancer=_map(ingress=_list(_INGRESS))),
    ),
    "EndpointSlice": _map(
        ("metadata", "addressType"),
        metadata=_METADATA,
        addressType=_one_of("IPv4", "IPv6", "FQDN"),
        endpoints=_list(_ENDPOINT),
        ports=_list(_map(name=_TEXT, protocol=_PROTOCOL, port=_NUMBER)),
    ),
    "Node": _map(
        ("metadata",),
        metadata=_METADATA,
        spec=_map(podCIDR=_TEXT, podCIDRs=_TEXTS),
        status=_map(addresses=_list(_map(("type", "address"), type=_TEXT, address=_TEXT))),
    ),
    "ServiceCIDR": _map(("metadata", "spec"), metadata=_METADATA, spec=_map(("cidrs",), cidrs=_TEXTS)),
    CONFIG_KIND: _map(
        ("apiVersion", "kind"),
        closed=True,
        apiVersion=_one_of(CONFIG_VERSION),
        kind=_one_of(CONFIG_KIND),
        mode=_TEXT,
        clusterCIDR=_TEXT,
        detectLocalMode=_TEXT,
        detectLocal=_map(closed=True, bridgeInterface=_TEXT, interfaceNamePrefix=_TEXT),
        nodePortAddresses=_TEXTS,
        iptables=_map(
            closed=True,
            masqueradeBit=_NUMBER,
            masqueradeAll=_FLAG,
            localhostNodePorts=_FLAG,
            syncPeriod=_ANY,
            minSyncPeriod=_ANY,
        ),
        nftables=_map(closed=True, masqueradeBit=_NUMBER, masqueradeAll=_FLAG, syncPeriod=_ANY, minSyncPeriod=_ANY),
        conntrack=_map(
            closed=True,
            tcpBeLiberal=_FLAG,
            maxPerCore=_NUMBER,
            min=_NUMBER,
            tcpEstablishedTimeout=_ANY,
            tcpCloseWaitTimeout=_ANY,
            udpTimeout=_ANY,
            udpStreamTimeout=_ANY,
        ),
        bindAddress=_TEXT,
        # Known to kube-proxy and without a bearing on its rules.
        bindAddressHardFail=_FLAG,
        clientConnection=_map(),
        configSyncPeriod=_ANY,
        enableProfiling=_FLAG,
        featureGates={"type": "object", "additionalProperties": _FLAG},
        healthzBindAddress=_TEXT,
        hostnameOverride=_TEXT,
        ipvs=_map(),
        logging=_map(),
        metricsBindAddress=_TEXT,
        oomScoreAdj=_NUMBER,
        portRange=_TEXT,
        showHiddenMetricsForVersion=_TEXT,
        udpIdleTimeout=_ANY,
        windowsRunAsService=_FLAG,
        winkernel=_map(),
    ),
}
