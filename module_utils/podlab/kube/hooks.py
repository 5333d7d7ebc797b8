"""What the kubelet says of a lifecycle hook that fails. Pure. Source: k8s pkg/kubelet/lifecycle/handlers.go.

The pod supervisor imports this file, hence no import that costs memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

POST_START, PRE_STOP = "post_start", "pre_stop"
POST_START_ERROR = "PostStartHookError"


def complaint(hook: Mapping[str, Any], error: str, container: str, config: Mapping[str, Any]) -> str:
    """The message of a hook that has failed. hook: of the runtime config. error: what went wrong."""
    kind = hook["kind"]
    if kind == "tcp":
        return f"Cannot run handler: {error}"
    what = {"exec": "Exec", "http": "HTTP", "sleep": "Sleep"}[kind]
    shown = {"exec": f"[{' '.join(hook.get('command', ()))}]", "http": hook.get("path", "")}.get(kind, "")
    pod = f"{config['name']}_{config['namespace']}({config['uid']})"
    return f'{what} lifecycle hook ({shown}) for Container "{container}" in Pod "{pod}" failed - error: {error}'
