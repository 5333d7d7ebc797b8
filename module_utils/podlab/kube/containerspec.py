"""One container of a pod's runtime configuration. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from . import env, envspec, probespec, qos, securityspec, volumespec

if TYPE_CHECKING:
    from .cluster import Node

_NO_IMAGE: Mapping[str, Any] = {"id": "", "layers": [], "config": {}}


class Surroundings(NamedTuple):
    """What the containers of a pod have in common.

    pod: the complete Pod object. quality: its QoS class. hostname: the pod's. service_vars: its Service variables.
    images: see podspec.runtime_config(). node_memory: bytes. node_cpus: how many.
    """

    pod: Mapping[str, Any]
    node: Node
    quality: str
    hostname: str
    service_vars: list[dict[str, str]]
    images: Mapping[str, Mapping[str, Any]]
    node_memory: int
    node_cpus: int = 1


def container(container: Mapping[str, Any], around: Surroundings) -> dict[str, Any]:
    """One container. container: of the Pod object."""
    pod = around.pod
    image = around.images.get(container["image"], _NO_IMAGE)
    config = image["config"] or {}
    return {
        "name": container["name"],
        "image": container["image"],
        "image_id": image["id"],
        "layers": list(reversed(image["layers"])),
        "command": _command(container, config),
        "env": [
            *env.image_entries(config.get("Env") or [], around.hostname),
            *envspec.entries(
                container, pod, around.node, envspec.Capacity(around.node_cpus * 1000, around.node_memory)
            ),
            *around.service_vars,
        ],
        "cwd": container.get("workingDir") or config.get("WorkingDir") or "/",
        **securityspec.security(container, pod, config),
        "mounts": volumespec.mounts(container),
        "resources": qos.container_values(container),
        "oom_score_adj": qos.oom_score_adj(around.quality, qos.resources(container).memory_request, around.node_memory),
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
