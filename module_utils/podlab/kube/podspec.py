"""From a complete Pod object to the configuration that the runtime starts it from. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from . import capabilities, env, podfiles, probespec, qos, quantity

if TYPE_CHECKING:
    from .cluster import Cluster, Node


class Machine(NamedTuple):
    """What a pod's configuration takes from the machine it will run on.

    memory: bytes of RAM (MemTotal). resolv_conf: text of the node's /etc/resolv.conf. mtu: of the node's eth0.
    """

    memory: int
    resolv_conf: str
    mtu: int = 1500


_NO_IMAGE: Mapping[str, Any] = {"id": "", "layers": [], "config": {}}


def runtime_config(
    pod: Mapping[str, Any],
    node: Node,
    cluster: Cluster,
    services: Iterable[Mapping[str, Any]],
    images: Mapping[str, Mapping[str, Any]],
    machine: Machine,
) -> dict[str, Any]:
    """The configuration of a pod, plain JSON.

    pod: a complete Pod object (defaults set, placed). services: all Service objects.
    images: reference as the manifest writes it -> {"id", "layers" bottom first, "config"}; one that is not there yet
    (check mode on a virgin machine) gives a container without layers.
    """
    metadata, spec = pod["metadata"], pod["spec"]
    containers = spec["containers"]
    quality = qos.qos_class(containers)
    pod_resources = qos.pod_values(containers)
    host = podfiles.hostname(spec.get("hostname") or metadata["name"])
    service_vars = env.service_entries(services, metadata["namespace"], spec.get("enableServiceLinks", True))
    return {
        "cluster": cluster.name,
        "node": node.name,
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "labels": dict(metadata.get("labels") or {}),
        "hostname": host,
        "share_pid": bool(spec.get("shareProcessNamespace")),
        "restart_policy": spec["restartPolicy"],
        "grace": spec["terminationGracePeriodSeconds"],
        "qos": quality,
        "cgroup_parent": qos.cgroup_parent(quality, metadata["uid"]),
        "resources": pod_resources,
        "host_aliases": [
            {"ip": alias["ip"], "hostnames": list(alias.get("hostnames") or [])}
            for alias in spec.get("hostAliases") or []
        ],
        "subdomain": spec.get("subdomain") or "",
        "dns_domain": cluster.dns_domain,
        "resolv_conf": podfiles.resolv_conf(
            spec["dnsPolicy"],
            spec.get("dnsConfig"),
            metadata["namespace"],
            cluster.dns_domain,
            cluster.dns_service_ip,
            machine.resolv_conf,
        ),
        "network": _network(node, machine),
        "host_ip": node.address,
        "volumes": {
            volume["name"]: _volume(volume, pod_resources["memory_limit"], machine)
            for volume in spec.get("volumes") or []
        },
        "readiness_gates": [gate["conditionType"] for gate in spec.get("readinessGates") or []],
        "containers": [
            _container(container, pod, node, quality, host, service_vars, images, machine) for container in containers
        ],
    }


def _network(node: Node, machine: Machine) -> dict[str, Any]:
    network = ipaddress.ip_network(node.pod_cidr)
    return {
        "pod_cidr": node.pod_cidr,
        "gateway": str(network.network_address + 1),
        "address_prefix": network.prefixlen,
        "mtu": machine.mtu,
    }


def _volume(volume: Mapping[str, Any], pod_memory: int | None, machine: Machine) -> dict[str, Any]:
    if "hostPath" in volume:
        host_path = volume["hostPath"]
        return {"kind": "hostPath", "path": host_path["path"], "type": host_path.get("type") or ""}
    empty_dir = volume.get("emptyDir") or {}
    medium = empty_dir.get("medium") or ""
    limit = quantity.whole(empty_dir["sizeLimit"]) if empty_dir.get("sizeLimit") is not None else None
    if medium == "Memory":
        limit = min(size for size in (limit, pod_memory, machine.memory) if size)
    return {"kind": "emptyDir", "medium": medium, "size": limit}


def _container(
    container: Mapping[str, Any],
    pod: Mapping[str, Any],
    node: Node,
    quality: str,
    host: str,
    service_vars: list[dict[str, str]],
    images: Mapping[str, Mapping[str, Any]],
    machine: Machine,
) -> dict[str, Any]:
    image = images.get(container["image"], _NO_IMAGE)
    config = image["config"] or {}
    pod_context = pod["spec"].get("securityContext") or {}
    context = {**pod_context, **(container.get("securityContext") or {})}
    return {
        "name": container["name"],
        "image": container["image"],
        "image_id": image["id"],
        "layers": list(reversed(image["layers"])),
        "command": _command(container, config),
        "env": [
            *env.image_entries(config.get("Env") or [], host),
            *(_env_entry(entry, pod, node) for entry in container.get("env") or []),
            *service_vars,
        ],
        "cwd": container.get("workingDir") or config.get("WorkingDir") or "/",
        "user": _user(context, config, pod_context.get("supplementalGroups") or []),
        "caps": capabilities.effective(context.get("capabilities") or {}),
        "no_new_privs": context.get("allowPrivilegeEscalation") is False,
        "readonly_root": bool(context.get("readOnlyRootFilesystem")),
        "mounts": _mounts(container),
        "resources": qos.container_values(container),
        "oom_score_adj": qos.oom_score_adj(quality, qos.resources(container).memory_request, machine.memory),
        "termination_message_path": container["terminationMessagePath"],
        "stop_signal": config.get("StopSignal") or "SIGTERM",
        "image_pull_policy": container["imagePullPolicy"],
        "probes": probespec.probes(container),
    }


def _command(container: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """The argv before expansion. The image's own words are not expanded by kubelet, so their $ is doubled."""
    command = list(container.get("command") or [])
    args = list(container.get("args") or [])
    if command:
        return command + args
    entrypoint = _literal(config.get("Entrypoint") or [])
    return entrypoint + (args or _literal(config.get("Cmd") or []))


def _literal(words: Iterable[str]) -> list[str]:
    return [word.replace("$", "$$") for word in words]


# The fields whose value is known only when the pod runs; env.container_env() takes them from its facts.
_LATE_FIELDS = ("status.podIP", "status.podIPs")


def _env_entry(entry: Mapping[str, Any], pod: Mapping[str, Any], node: Node) -> dict[str, str]:
    source = entry.get("valueFrom")
    if not source:
        return {"name": entry["name"], "value": entry.get("value") or "", "source": "pod"}
    field = source["fieldRef"]["fieldPath"]
    if field in _LATE_FIELDS:
        return {"name": entry["name"], "field": field, "source": "field"}
    return {"name": entry["name"], "value": _field(field, pod, node), "source": "field"}


def _field(path: str, pod: Mapping[str, Any], node: Node) -> str:
    """The value of a downward API field that is known before the pod runs."""
    metadata, spec = pod["metadata"], pod["spec"]
    plain = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": node.name,
        "spec.serviceAccountName": spec.get("serviceAccountName") or "default",
        "status.hostIP": node.address,
        "status.hostIPs": node.address,
    }
    if path in plain:
        return str(plain[path])
    kind, _, key = path[:-2].partition("['")
    table = metadata.get(kind.partition(".")[2]) or {}
    return str(table.get(key, ""))


def _user(context: Mapping[str, Any], config: Mapping[str, Any], groups: list[int]) -> dict[str, Any]:
    """Who the container runs as: runAsUser, else the image's USER (text, resolved in its root file system), else 0.

    gid None: the primary group of that user in the image's /etc/passwd, 0 without an entry.
    """
    gid = context.get("runAsGroup")
    if context.get("runAsUser") is not None:
        return {"uid": context["runAsUser"], "gid": gid, "groups": groups}
    if config.get("User"):
        return {"name": config["User"], "gid": gid, "groups": groups}
    return {"uid": 0, "gid": 0 if gid is None else gid, "groups": groups}


def _mounts(container: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The volume mounts by number of path components, stable, so that /a precedes /a/b (orderedMounts)."""
    mounts = [
        {
            "volume": mount["name"],
            "path": mount["mountPath"],
            "read_only": bool(mount.get("readOnly")),
            "propagation": mount.get("mountPropagation") or "None",
        }
        for mount in container.get("volumeMounts") or []
    ]
    return sorted(mounts, key=lambda mount: len([part for part in mount["path"].split("/") if part]))
