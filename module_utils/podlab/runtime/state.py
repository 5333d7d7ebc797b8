"""What is there of a lab on this machine: the reader behind `get`, `status` and every plan."""

from __future__ import annotations

import os
from typing import Any

from ..kube import configs
from ..kube.cluster import Cluster
from ..linux import process
from . import paths, watcher
from .files import read_json


def labs() -> list[str]:
    """Names of the labs that have state on this machine."""
    try:
        names = os.listdir(paths.run_root())
    except OSError:
        return []
    return sorted(name for name in names if os.path.isdir(paths.cluster_dir(name)) and not name.startswith("."))


def read_state(cluster: str) -> dict[str, Any]:
    """Everything known of one lab, plain data.

    Keys: cluster (Cluster as dict, or None), nodes, pods, services ({"services", "endpointslices"}), objects, watcher,
    jobs (what the watcher knows of them, by UID).
    Each node has name, role, address, pod_cidr, pid, start, alive; each pod has pod, status, config, alive.
    Raises PermissionError when the state is another user's.
    """
    return {
        "cluster": read_json(paths.cluster_file(cluster)),
        "nodes": read_nodes(cluster),
        "pods": read_pods(cluster),
        "services": read_json(paths.services_file(cluster), {"services": [], "endpointslices": []}),
        "objects": read_objects(cluster),
        "jobs": read_json(paths.jobs_file(cluster), {}),
        "watcher": watcher.read(cluster),
    }


def read_objects(cluster: str) -> dict[str, Any]:
    """The store: the objects as applied, Secrets with their data."""
    store = read_json(paths.objects_file(cluster), {"objects": []})
    return configs.join(store, read_json(paths.secrets_file(cluster), {}))


def read_cluster(name: str) -> Cluster | None:
    """A lab's cluster; None when it is not there, is another user's, or is one that this podlab cannot read."""
    try:
        plain = read_json(paths.cluster_file(name))
        return Cluster.from_dict(plain) if plain else None
    except (OSError, KeyError, TypeError):
        return None


def read_nodes(cluster: str) -> list[dict[str, Any]]:
    """The nodes' records in node order, each with `alive`."""
    found = []
    for name in _listdir(paths.nodes_dir(cluster)):
        record = read_json(paths.node_file(cluster, name))
        if record:
            record["alive"] = process.alive(record["pid"], record["start"])
            found.append(record)
    return sorted(found, key=lambda record: record["index"])


def read_pods(cluster: str) -> list[dict[str, Any]]:
    """The pods' objects and statuses, by namespace and name, each with `alive`: its supervisor runs.

    A pod without a supervisor is what its last status says only when that is terminal; else it is lost,
    and its status says so: no reader may take a dead pod for a ready one.
    """
    found = []
    for uid in _listdir(paths.pods_dir(cluster)):
        directory = paths.pod_dir(cluster, uid)
        pod = read_json(f"{directory}/pod.json")
        if not pod:
            continue
        record = read_json(f"{directory}/supervisor.json", {"pid": 0, "start": 0})
        alive = process.alive(record["pid"], record["start"])
        status = read_json(f"{directory}/status.json", {"phase": "Pending"})
        if not alive and status.get("phase") not in ("Succeeded", "Failed"):
            status = _lost(status)
        going = read_json(f"{directory}/delete.json", {}).get("deletionTimestamp")
        if going and alive:
            status["deletionTimestamp"] = pod["metadata"]["deletionTimestamp"] = going
        found.append({"pod": pod, "status": status, "alive": alive, "supervisor": record})
    return sorted(found, key=lambda item: (item["pod"]["metadata"]["namespace"], item["pod"]["metadata"]["name"]))


def _lost(status: dict[str, Any]) -> dict[str, Any]:
    lost = dict(status, phase="Unknown", reason="NodeLost", message="the pod's supervisor is gone: ./lab up")
    lost["conditions"] = [
        dict(condition, status="False") if condition["type"] in ("Ready", "ContainersReady") else condition
        for condition in status.get("conditions", [])
    ]
    for key in ("containerStatuses", *(("initContainerStatuses",) if "initContainerStatuses" in status else ())):
        lost[key] = [dict(container, ready=False, started=False) for container in status.get(key, [])]
    return lost


def _listdir(path: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(path) if not name.startswith("."))
    except FileNotFoundError:
        return []
