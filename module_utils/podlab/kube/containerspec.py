"""One container of a pod's runtime configuration. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from . import env, envspec, hookspec, lifecycle, probespec, qos, securityspec, volumespec

if TYPE_CHECKING:
    from .cluster import Node

_NO_IMAGE: Mapping[str, Any] = {"id": "", "layers": [], "config": {}}


class Surroundings(NamedTuple):
    """What the containers of a pod have in common.

    pod: the complete Pod object. quality: its QoS class. hostname: the pod's. service_vars: its Service variables.
    images: see podspec.runtime_config(). node_memory: bytes. node_cpus: how many. seccomp_default: the kubelet's.
    """

    pod: Mapping[str, Any]
    node: Node
    quality: str
    hostname: str
    service_vars: list[dict[str, str]]
    images: Mapping[str, Mapping[str, Any]]
    node_memory: int
    node_cpus: int = 1
    seccomp_default: bool = False


def container(container: Mapping[str, Any], around: Surroundings, init: bool = False) -> dict[str, Any]:
    """One container. container: of the Pod object, from initContainers when init is set."""
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
            *env.image_entries(config.get("Env") or [], around.hostname, bool(container.get("tty"))),
            *envspec.entries(
                container, pod, around.node, envspec.Capacity(around.node_cpus * 1000, around.node_memory)
            ),
            *around.service_vars,
        ],
        "cwd": container.get("workingDir") or config.get("WorkingDir") or "/",
        **securityspec.security(container, pod, config, around.seccomp_default),
        "mounts": volumespec.mounts(container),
        "resources": qos.container_values(container),
        "oom_score_adj": qos.container_oom_score_adj(
            qos.oom_class(around.quality, pod["spec"].get("priorityClassName")),
            container,
            around.node_memory,
            pod["spec"]["containers"] if init else (),
        ),
        "termination_message_path": container["terminationMessagePath"],
        "termination_message_policy": container.get("terminationMessagePolicy", "File"),
        # Its standard input is a pipe or a terminal that one can attach to; stdin_once: closed when the first has left.
        "stdin": bool(container.get("stdin")),
        "stdin_once": bool(container.get("stdinOnce")),
        "tty": bool(container.get("tty")),
        "stop_signal": (container.get("lifecycle") or {}).get("stopSignal") or config.get("StopSignal") or "SIGTERM",
        "restart": restart(container, pod["spec"]["restartPolicy"], init),
        "hooks": hookspec.hooks(container),
        "sidecar": init and qos.is_sidecar(container),
        "image_pull_policy": container["imagePullPolicy"],
        "probes": probespec.probes(container),
    }


def restart(container: Mapping[str, Any], pod_policy: str, init: bool) -> dict[str, Any]:
    """When the container is started again, as lifecycle.restarts() reads it: its own policy, else the pod's."""
    policy = container.get("restartPolicy") or pod_policy
    if init and policy == lifecycle.ALWAYS and not qos.is_sidecar(container):
        # An init container that has succeeded is done.
        policy = lifecycle.ON_FAILURE
    rules = [rule["exitCodes"] for rule in container.get("restartPolicyRules") or []]
    return {
        "policy": policy,
        "rules": [{"operator": rule["operator"], "values": list(rule.get("values") or [])} for rule in rules],
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
