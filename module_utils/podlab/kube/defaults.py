"""The values that the API server fills in. Source: k8s pkg/apis/core/v1/defaults.go."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from . import names, priorities, service_rules
from .node_ports import NodePorts

_POD: Mapping[str, Any] = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "enableServiceLinks": True,
    "schedulerName": "default-scheduler",
}
_CONTAINER: Mapping[str, Any] = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "resources": {},
}
_PROBE: Mapping[str, int] = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_HTTP_GET: Mapping[str, str] = {"path": "/", "scheme": "HTTP"}
_SERVICE: Mapping[str, Any] = {
    "type": "ClusterIP",
    "sessionAffinity": "None",
}
_SERVICE_WITH_ADDRESS: Mapping[str, Any] = {
    "internalTrafficPolicy": "Cluster",
    "ipFamilies": ["IPv4"],
    "ipFamilyPolicy": "SingleStack",
}
# Kinds of volumes that the kubelet fills.
_FILLED = ("configMap", "secret", "downwardAPI", "projected")
_AFFINITY_SECONDS = 10800


def pod_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A complete pod spec; the argument stays as it is."""
    made: dict[str, Any] = {**copy.deepcopy(dict(_POD)), **copy.deepcopy(dict(spec))}
    account = made.get("serviceAccountName") or made.get("serviceAccount") or "default"
    made["serviceAccountName"] = made["serviceAccount"] = account
    made.setdefault("securityContext", {})
    if made.get("priorityClassName"):
        made["priority"] = priorities.CLASSES.get(made["priorityClassName"], 0)
    for key in ("initContainers", "containers"):
        if key in made:
            made[key] = [container(each, bool(made.get("hostNetwork"))) for each in made[key]]
    made["volumes"] = [_volume(volume) for volume in made.get("volumes") or []]
    return made


def container(given: Mapping[str, Any], host_network: bool) -> dict[str, Any]:
    """A complete container of a pod."""
    made: dict[str, Any] = {**copy.deepcopy(dict(_CONTAINER)), **given}
    made.setdefault("imagePullPolicy", "Always" if names.has_latest_tag(made["image"]) else "IfNotPresent")
    if not made["terminationMessagePath"]:
        made["terminationMessagePath"] = _CONTAINER["terminationMessagePath"]
    if made["resources"].get("limits"):
        requests = {**made["resources"]["limits"], **(made["resources"].get("requests") or {})}
        made["resources"] = {**made["resources"], "requests": requests}
    if "ports" in made:
        made["ports"] = [_port(port, host_network) for port in made["ports"]]
    for key in ("startupProbe", "livenessProbe", "readinessProbe"):
        if made.get(key) is not None:
            made[key] = _probe(made[key])
    if made.get("lifecycle"):
        made["lifecycle"] = {key: _http_get(hook) for key, hook in made["lifecycle"].items()}
    for entry in made.get("env") or []:
        if "fieldRef" in (entry.get("valueFrom") or {}):
            entry["valueFrom"]["fieldRef"].setdefault("apiVersion", "v1")
    return made


def _port(port: Mapping[str, Any], host_network: bool) -> dict[str, Any]:
    """On the host network a container's port is the node's (SetDefaults_HostNetworkPorts)."""
    made = {"protocol": "TCP", **port}
    if host_network and not made.get("hostPort"):
        made["hostPort"] = made["containerPort"]
    return made


def _probe(probe: Mapping[str, Any]) -> Any:
    return _http_get({**probe, **{key: probe.get(key) or value for key, value in _PROBE.items()}})


def _http_get(action: Any) -> Any:
    """A probe or a hook (or a stopSignal, which is a word)."""
    if not isinstance(action, Mapping) or "httpGet" not in action:
        return action
    given = action["httpGet"]
    return {**action, "httpGet": {**given, **{key: given.get(key) or value for key, value in _HTTP_GET.items()}}}


def _with_field_versions(source: Mapping[str, Any]) -> dict[str, Any]:
    """A source of a volume; every fieldRef in it says its version."""
    made: dict[str, Any] = copy.deepcopy(dict(source))
    for part in (made, *((each.get("downwardAPI") or {}) for each in made.get("sources") or [])):
        for item in part.get("items") or []:
            if "fieldRef" in item:
                item["fieldRef"].setdefault("apiVersion", "v1")
    return made


def _volume(volume: Mapping[str, Any]) -> dict[str, Any]:
    if "hostPath" in volume:
        return {**volume, "hostPath": {"type": "", **volume["hostPath"]}}
    for kind in _FILLED:
        if kind in volume:
            return {**volume, kind: {"defaultMode": 0o644, **_with_field_versions(volume[kind])}}
    # A volume that does not say what it is is an emptyDir (SetDefaults_Volume).
    return dict(volume) if "emptyDir" in volume else {**volume, "emptyDir": {}}


def service(thing: Mapping[str, Any], cluster_ip: str, given: NodePorts) -> dict[str, Any]:
    """A complete Service with its address ("None" when headless, "" for an ExternalName) and its node ports."""
    spec = {**copy.deepcopy(dict(_SERVICE)), **copy.deepcopy(dict(thing["spec"]))}
    if cluster_ip:
        spec = {**copy.deepcopy(dict(_SERVICE_WITH_ADDRESS)), **spec}
        spec["clusterIP"] = cluster_ip
        spec["clusterIPs"] = [cluster_ip]
    spec["ports"] = [_service_port(port, given) for port in spec.get("ports") or []]
    if given.health_check:
        spec["healthCheckNodePort"] = given.health_check
    if spec["sessionAffinity"] == "ClientIP":
        client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": _AFFINITY_SECONDS, **client}}
    if service_rules.is_external(spec):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    ingress = [{"ipMode": "VIP", **entry} if entry.get("ip") else entry for entry in service_rules.ingress(thing)]
    return {**thing, "spec": spec, "status": {"loadBalancer": {"ingress": ingress} if ingress else {}}}


def endpoint_slice(thing: Mapping[str, Any]) -> dict[str, Any]:
    """A complete EndpointSlice."""
    ports = [{"name": "", "protocol": "TCP", **port} for port in thing.get("ports") or []]
    return {**thing, "endpoints": thing.get("endpoints") or [], "ports": ports}


def _service_port(port: Mapping[str, Any], given: NodePorts) -> dict[str, Any]:
    number = given.ports.get(port.get("name") or "")
    made = {**port, "protocol": port.get("protocol") or "TCP", "targetPort": port.get("targetPort") or port["port"]}
    return {**made, "nodePort": number} if number else made
