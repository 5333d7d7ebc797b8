"""From a complete Pod object to the configuration that the runtime starts it from. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from . import containerspec, env, envspec, host_ports, hostnames, podfiles, qos, securityspec, sysctls, volumespec

if TYPE_CHECKING:
    from .cluster import Cluster, Node


class Machine(NamedTuple):
    """What a pod's configuration takes from the machine it will run on.

    memory: bytes of RAM (MemTotal). resolv_conf: text of the node's /etc/resolv.conf. mtu: of the node's eth0.
    cpus: how many.
    """

    memory: int
    resolv_conf: str
    mtu: int = 1500
    cpus: int = 1


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
    containers, inits = spec["containers"], spec.get("initContainers") or []
    pod_resources = qos.pod_values(containers, inits)
    names = hostnames.host_name(metadata, spec, cluster.dns_domain, node.name)
    host_network = bool(spec.get("hostNetwork"))
    around = surroundings(pod, node, cluster, services, images, machine)
    quality = around.quality
    capacity = envspec.Capacity(machine.cpus * 1000, machine.memory)
    volumes_around = volumespec.Around(pod, pod_resources["memory_limit"], capacity)
    return {
        "cluster": cluster.name,
        "node": node.name,
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "labels": dict(metadata.get("labels") or {}),
        "hostname": names.kernel,
        "hosts_name": names.short,
        "domain": names.domain,
        "share_pid": bool(spec.get("shareProcessNamespace")),
        "host_network": host_network,
        "host_pid": bool(spec.get("hostPID")),
        "host_ipc": bool(spec.get("hostIPC")),
        "host_users": spec.get("hostUsers") is not False,
        # Those of the host network are the node's by themselves.
        "host_ports": [] if host_network else [port._asdict() for port in host_ports.host_ports(spec)],
        "sysctls": sysctls.settings(spec),
        "restart_policy": spec["restartPolicy"],
        "grace": spec["terminationGracePeriodSeconds"],
        "log_max_size": cluster.container_log_max_size,
        "log_max_files": cluster.container_log_max_files,
        "qos": quality,
        "seccomp": dict(securityspec.SANDBOX_SECCOMP),
        "cgroup_parent": qos.cgroup_parent(quality, metadata["uid"]),
        "resources": pod_resources,
        "host_aliases": [
            {"ip": alias["ip"], "hostnames": list(alias.get("hostnames") or [])}
            for alias in spec.get("hostAliases") or []
        ],
        "resolv_conf": podfiles.resolv_conf(
            podfiles.effective_policy(spec["dnsPolicy"], host_network),
            spec.get("dnsConfig"),
            metadata["namespace"],
            cluster.dns_domain,
            cluster.dns_service_ip,
            machine.resolv_conf,
        ),
        "network": _network(node, machine),
        "host_ip": node.address,
        "volumes": {volume["name"]: volumespec.volume(volume, volumes_around) for volume in spec.get("volumes") or []},
        "readiness_gates": [gate["conditionType"] for gate in spec.get("readinessGates") or []],
        "init_containers": [containerspec.container(container, around, init=True) for container in inits],
        "containers": [containerspec.container(container, around) for container in containers],
        "active_deadline": spec.get("activeDeadlineSeconds"),
    }


def surroundings(
    pod: Mapping[str, Any],
    node: Node,
    cluster: Cluster,
    services: Iterable[Mapping[str, Any]],
    images: Mapping[str, Mapping[str, Any]],
    machine: Machine,
) -> containerspec.Surroundings:
    """What the pod's containers have in common. The arguments are those of runtime_config()."""
    metadata, spec = pod["metadata"], pod["spec"]
    return containerspec.Surroundings(
        pod,
        node,
        qos.qos_class([*(spec.get("initContainers") or []), *spec["containers"]]),
        hostnames.host_name(metadata, spec, cluster.dns_domain, node.name).kernel,
        env.service_entries(services, metadata["namespace"], spec.get("enableServiceLinks", True)),
        images,
        machine.memory,
        machine.cpus,
        cluster.seccomp_default,
    )


def _network(node: Node, machine: Machine) -> dict[str, Any]:
    network = ipaddress.ip_network(node.pod_cidr)
    return {
        "pod_cidr": node.pod_cidr,
        "gateway": str(network.network_address + 1),
        "address_prefix": network.prefixlen,
        "mtu": machine.mtu,
    }
