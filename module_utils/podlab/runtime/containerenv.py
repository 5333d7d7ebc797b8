"""A container's environment: made of sources.json at each start, and kept for whoever joins it later.

A ConfigMap or Secret may change while a container runs: what is executed in it later sees what it was started with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..kube import env
from . import paths
from .files import read_json, write_json

_DYNAMIC = ("from", "key")


def started(config: Mapping[str, Any], container: Mapping[str, Any], facts: Mapping[str, str]) -> dict[str, str]:
    """At a container's start: what the kubelet adds to its environment.

    Raises PodlabError with the reason CreateContainerConfigError.
    """
    if not is_dynamic(container):
        return env.kubelet_env(container, facts)
    made = env.kubelet_env(container, facts, read_json(paths.sources_file(config["cluster"], config["uid"]), {}))
    write_json(_file(config, container), made)
    return made


def pairs(config: Mapping[str, Any], container: Mapping[str, Any], facts: Mapping[str, str]) -> list[tuple[str, str]]:
    """The whole environment of a container that runs, as it was started with."""
    kept = read_json(_file(config, container)) if is_dynamic(container) else None
    return env.whole(container, env.kubelet_env(container, facts) if kept is None else kept)


def is_dynamic(container: Mapping[str, Any]) -> bool:
    """Whether anything has a part in it that may change while the pod is there."""
    return any(entry["source"] in _DYNAMIC or "metadata" in entry for entry in container["env"])


def _file(config: Mapping[str, Any], container: Mapping[str, Any]) -> str:
    return f"{paths.pod_dir(config['cluster'], config['uid'])}/env-{container['name']}.json"
