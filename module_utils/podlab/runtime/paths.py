"""Every path that podlab makes on a machine, in one place.

PODLAB_RUN and PODLAB_LIB move the two roots (tests do that).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


def run_root() -> str:
    """Where the state of the labs of this machine is: gone after a reboot."""
    return os.environ.get("PODLAB_RUN", "/run/podlab")


def lib_root() -> str:
    """Where images, container layers, volumes and logs are: on a disk."""
    return os.environ.get("PODLAB_LIB", "/var/lib/podlab")


def cluster_dir(cluster: str) -> str:
    """State of one lab: cluster.json, objects.json, services.json, nodes/, pods/, dns/."""
    return f"{run_root()}/{cluster}"


def cluster_file(cluster: str) -> str:
    """The cluster as it was set up (kube.cluster.Cluster.to_dict)."""
    return f"{cluster_dir(cluster)}/cluster.json"


def objects_file(cluster: str) -> str:
    """The manifests as applied: what etcd is to a real cluster."""
    return f"{cluster_dir(cluster)}/objects.json"


def secrets_file(cluster: str) -> str:
    """The data of the manifests' Secrets, apart from what is shown."""
    return f"{cluster_dir(cluster)}/secrets.json"


def services_file(cluster: str) -> str:
    """Services and EndpointSlices as programmed on the nodes."""
    return f"{cluster_dir(cluster)}/services.json"


def proxy_file(cluster: str) -> str:
    """What podlab_service was asked for: the watcher keeps the nodes at it."""
    return f"{cluster_dir(cluster)}/proxy.json"


def watcher_file(cluster: str) -> str:
    """The watcher's process, and how its last sync went."""
    return f"{cluster_dir(cluster)}/watcher.json"


def jobs_file(cluster: str) -> str:
    """What the watcher knows of the lab's Jobs, by UID: {"created": of the Job's object, "status": its JobStatus}."""
    return f"{cluster_dir(cluster)}/jobs.json"


def launch_file(cluster: str) -> str:
    """What podlab_pod was given for the whole lab's pods: the watcher starts those of Jobs by it."""
    return f"{cluster_dir(cluster)}/launch.json"


def code_file(cluster: str) -> str:
    """The code that the lab's watcher runs, where a module brought it: a zip."""
    return f"{cluster_dir(cluster)}/code.zip"


def services_lock_file(cluster: str) -> str:
    """Who programs Services just now: a module call or the watcher."""
    return f"{cluster_dir(cluster)}/.services.lock"


def watcher_cgroup(cluster: str) -> str:
    """The watcher's cgroup, relative to each hierarchy: it goes with the lab."""
    return f"{cgroup_root(cluster)}/watcher"


def lock_file(cluster: str) -> str:
    """Who changes the lab just now."""
    return f"{run_root()}/.{cluster}.lock"


def dns_dir(cluster: str) -> str:
    """The DNS records of the lab; every node sees it as NODE_DNS_DIR."""
    return f"{cluster_dir(cluster)}/dns"


# Where a node finds the lab's DNS records: the same on every node of every lab, so that a manifest can name it.
NODE_DNS_DIR = "/run/podlab-dns"


def nodes_dir(cluster: str) -> str:
    """One directory per node of the lab."""
    return f"{cluster_dir(cluster)}/nodes"


def node_dir(cluster: str, node: str) -> str:
    """State of one node: node.json, hosts, hostname, resolv.conf, run/."""
    return f"{nodes_dir(cluster)}/{node}"


def node_file(cluster: str, node: str) -> str:
    """The node's pause process and what it was made of."""
    return f"{node_dir(cluster, node)}/node.json"


def ipam_dir(cluster: str, node: str) -> str:
    """host-local's store of the node, /run/cni-ipam-state/kindnet inside it."""
    return f"{node_dir(cluster, node)}/cni-ipam-state/kindnet"


def pods_dir(cluster: str) -> str:
    """One directory per pod, by uid."""
    return f"{cluster_dir(cluster)}/pods"


def pod_dir(cluster: str, uid: str) -> str:
    """State of one pod: pod.json, config.json, status.json, the sandbox's files, the control socket."""
    return f"{pods_dir(cluster)}/{uid}"


def sources_file(cluster: str, uid: str) -> str:
    """The ConfigMaps, Secrets and metadata that a pod's environment and volumes are made of."""
    return f"{pod_dir(cluster, uid)}/sources.json"


def data_dir(cluster: str) -> str:
    """The lab's disk: container layers, emptyDir volumes, logs. Removed with the lab."""
    return f"{lib_root()}/clusters/{cluster}"


def pod_data_dir(cluster: str, uid: str) -> str:
    """Upper layers and volumes of one pod."""
    return f"{data_dir(cluster)}/pods/{uid}"


def node_log_dir(cluster: str, node: str) -> str:
    """The node's /var/log/pods, as the machine sees it."""
    return f"{data_dir(cluster)}/logs/{node}"


def pod_log_dir(cluster: str, node: str, namespace: str, name: str, uid: str) -> str:
    """Logs of one pod, one directory per container (kubelet's layout)."""
    return f"{node_log_dir(cluster, node)}/{namespace}_{name}_{uid}"


def node_view_of_logs(config: Mapping[str, Any]) -> str:
    """The same, as the node sees it. config: of the pod."""
    return f"/var/log/pods/{config['namespace']}_{config['name']}_{config['uid']}"


def images_dir() -> str:
    """The image store: shared by all labs, kept by `down`, removed by `down --purge`."""
    return f"{lib_root()}/images"


def cgroup_root(cluster: str) -> str:
    """The lab's cgroup, relative to each hierarchy."""
    return f"podlab/{cluster}"


def node_cgroup(cluster: str, node: str) -> str:
    """The node's cgroup, relative to each hierarchy; its cgroup namespace starts here."""
    return f"{cgroup_root(cluster)}/{node}"


def network_netns(cluster: str) -> str:
    """Name in /run/netns of the namespace that holds the node network's bridge."""
    return f"podlab-{cluster}-network"


def node_netns(node: str) -> str:
    """Name in /run/netns of a node's network namespace."""
    return f"podlab-{node}"
