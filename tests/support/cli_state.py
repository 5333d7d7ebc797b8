"""A lab's state as the commands read it, made of the golden files' objects."""

from __future__ import annotations

import json
import pathlib
from typing import Any

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden" / "cli"


def slice_of(service: str, addresses: list[tuple[str, bool]], ports: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"{service}-abcde", "namespace": "default", "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ip], "conditions": {"ready": ready}, "nodeName": "n"} for ip, ready in addresses],
        "ports": ports,
    }  # fmt: skip


def state() -> dict[str, Any]:
    """A lab as read_state gives it: two nodes are made, the third is only planned."""
    pods = json.loads((GOLDEN / "pods.json").read_text())
    node = {"role": "worker", "pod_cidr": "10.244.1.0/24", "labels": {}, "taints": []}
    made = [
        {**node, "name": "kind-worker", "address": "172.18.0.3", "pid": 1, "start": 100, "alive": True},
        {**node, "name": "kind-worker2", "address": "172.18.0.4", "pid": 2, "start": 100, "alive": False},
    ]
    planned = [*made, {**node, "name": "kind-worker3", "address": "172.18.0.5"}]
    return {
        "name": "kind",
        "cluster": {"name": "kind", "nodes": planned},
        "nodes": made,
        "pods": [{"pod": pod, "status": pod.pop("status"), "alive": True} for pod in pods],
        "services": {
            "services": json.loads((GOLDEN / "services.json").read_text()),
            "endpointslices": [
                slice_of("web", [("10.244.1.4", True), ("10.244.2.3", False)], [{"name": "", "port": 8080}]),
                slice_of("none", [], []),
            ],
        },
        "objects": {"objects": []},
    }
