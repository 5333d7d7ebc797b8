"""Services and EndpointSlices for tests, short to write."""

from __future__ import annotations

from typing import Any

from podlab.kube.proxy_chains import Options, detector
from podlab.kube.proxy_model import SERVICE_NAME_LABEL, ProxyNode

NODE = ProxyNode("node-a", ("172.18.0.2",))
LOCAL, NOT_LOCAL = detector("ClusterCIDR", "10.244.0.0/16")
OPTIONS = Options(local=LOCAL, not_local=NOT_LOCAL)


def service(
    name: str = "web",
    ip: str = "10.96.0.20",
    ports: list[dict[str, Any]] | None = None,
    namespace: str = "default",
    status: dict[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A v1 Service; further keywords go to its spec."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": ip, "ports": [{"port": 80}] if ports is None else ports, **spec},
        **({"status": status} if status else {}),
    }


def endpoint(address: str, node: str = "node-b", **conditions: bool) -> dict[str, Any]:
    """An endpoint, ready unless told otherwise."""
    return {"addresses": [address], "nodeName": node, "conditions": {"ready": True, **conditions}}


def draining(address: str, node: str = "node-b") -> dict[str, Any]:
    """An endpoint that still serves but is terminating."""
    return endpoint(address, node, ready=False, serving=True, terminating=True)


def endpoint_slice(
    endpoints: list[dict[str, Any]],
    ports: list[dict[str, Any]] | None = None,
    name: str = "web",
    namespace: str = "default",
    family: str = "IPv4",
) -> dict[str, Any]:
    """An EndpointSlice of a Service."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-x", "namespace": namespace, "labels": {SERVICE_NAME_LABEL: name}},
        "addressType": family,
        "endpoints": endpoints,
        "ports": [{"name": "", "port": 80, "protocol": "TCP"}] if ports is None else ports,
    }


def pod(
    name: str, address: str, ready: bool = True, *, status: dict[str, Any] | None = None, **spec: Any
) -> dict[str, Any]:
    """An entry of podlab_service's pods. Keywords labels and namespace go to the metadata, others to the spec."""
    metadata = {
        "name": name,
        "namespace": spec.pop("namespace", "default"),
        "labels": spec.pop("labels", {"app": "web"}),
    }
    return {
        "pod": {"metadata": metadata, "spec": {"nodeName": "node-a", "containers": [], **spec}},
        "status": {
            "phase": "Running",
            "podIP": address,
            "conditions": [{"type": "Ready", "status": str(ready)}],
            **(status or {}),
        },
    }
