"""From a container's lifecycle to the configuration that the runtime runs its hooks from. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import probespec
from .hooks import POST_START, PRE_STOP

# A hook has no time limit of its own; this one is what the kernel's timers can still count.
NO_LIMIT = 20 * 86400
_USER_AGENT = "kube-lifecycle/1.36"
_KEYS = {POST_START: "postStart", PRE_STOP: "preStop"}


def hooks(container: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The container's hooks by kind (post_start, pre_stop): a probe's action, or {"kind": "sleep", "seconds"}."""
    given = container.get("lifecycle") or {}
    return {kind: _hook(given[key], container) for kind, key in _KEYS.items() if given.get(key)}


def _hook(handler: Mapping[str, Any], container: Mapping[str, Any]) -> dict[str, Any]:
    if handler.get("sleep") is not None:
        return {"kind": "sleep", "seconds": handler["sleep"]["seconds"]}
    if "tcpSocket" in handler:
        # The API server lets it pass, the kubelet cannot run it.
        return {"kind": "tcp"}
    made = {**probespec.action(handler, container), "timeout": NO_LIMIT, "hook": True}
    if made["kind"] == "http" and not any(header["name"].lower() == "user-agent" for header in made["headers"]):
        made["headers"] = [*made["headers"], {"name": "User-Agent", "value": _USER_AGENT}]
    return made
