"""A cluster, Pod objects and their traces on disk, for plans that no kernel carries out."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from podlab.kube import defaults
from podlab.kube.cluster import Cluster, Node
from podlab.linux import process
from podlab.runtime import paths

ALIVE = {"pid": os.getpid(), "start": process.start_time(os.getpid())}
GONE = {"pid": os.getpid(), "start": 1}


def node(number: int, role: str = "worker") -> Node:
    labels = {"kubernetes.io/hostname": f"kind-{role}{number}"}
    return Node(f"kind-{role}{number}", role, number, f"172.18.0.{number + 2}", f"10.244.{number}.0/24", labels, (), ())


def cluster(*nodes: Node) -> Cluster:
    return Cluster(
        name="kind",
        nodes=nodes or (node(0),),
        node_subnet="172.18.0.0/16",
        gateway="172.18.0.1",
        pod_subnet="10.244.0.0/16",
        service_subnet="10.96.0.0/16",
        ip_family="ipv4",
        kube_proxy_mode="iptables",
        dns_service_ip="10.96.0.10",
    )


def pod(name: str, uid: str = "", **spec: Any) -> dict[str, Any]:
    """A complete Pod object on node kind-worker0."""
    full = defaults.pod_spec({"containers": [{"name": "c", "image": "busybox", "command": ["sleep", "9"]}], **spec})
    full.setdefault("nodeName", "kind-worker0")
    metadata = {"name": name, "namespace": "default", "uid": uid or f"uid-{name}", "labels": {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": full}


def write(path: str, data: Any) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    pathlib.Path(path).write_text(json.dumps(data))


def there(made: dict[str, Any], supervisor: Any = ALIVE, phase: str = "Running", delete: Any = None) -> None:
    """The pod's state, as its supervisor would have left it."""
    directory = paths.pod_dir("kind", made["metadata"]["uid"])
    files = {"pod": made, "supervisor": supervisor, "status": {"phase": phase}, "delete": delete}
    for name, content in files.items():
        if content is not None:
            write(f"{directory}/{name}.json", content)
