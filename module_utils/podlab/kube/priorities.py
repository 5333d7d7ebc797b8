"""The PriorityClasses that every cluster has. Sources: k8s pkg/apis/scheduling, plugin/pkg/admission/priority."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .schema import Finding, Path

NODE_CRITICAL = "system-node-critical"
CLASSES: Mapping[str, int] = {"": 0, "system-cluster-critical": 2000000000, NODE_CRITICAL: 2000001000}


def check(spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """A pod that says its priority as a number says the one of its class."""
    wanted, given = CLASSES.get(spec.get("priorityClassName") or ""), spec.get("priority")
    if given is not None and wanted is not None and given != wanted:
        message = f"the integer value of priority ({given}) must not be provided in pod spec"
        yield Finding(
            (*path, "priority"), f"{message}; computed {wanted} from the given PriorityClass name", "Remove it"
        )
