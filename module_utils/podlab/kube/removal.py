"""Pods that are there, and which of them go first when there are too many. Pure.

Source: k8s pkg/controller/controller_utils.go (ActivePodsWithRanks).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Object = Mapping[str, Any]


class Existing(NamedTuple):
    """A pod that is there, with its status."""

    pod: dict[str, Any]
    status: Object

    @property
    def owner(self) -> str:
        """UID of the controller, or of the pod itself."""
        references = self.pod["metadata"].get("ownerReferences") or [self.pod["metadata"]]
        return str(references[0]["uid"])

    @property
    def leaving(self) -> bool:
        """True when it is being deleted."""
        return bool(self.pod["metadata"].get("deletionTimestamp"))

    @property
    def ended(self) -> bool:
        """True when none of its containers will run again."""
        return self.status.get("phase") in ("Succeeded", "Failed")


_PHASES = {"Pending": 0, "Unknown": 1}
_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


def survivors(own: Sequence[Existing], count: int) -> list[Existing]:
    """The pods that stay when only `count` may, in their order."""
    if len(own) <= count:
        return list(own)
    last = by_removal(own)[len(own) - count :]
    return [item for item in own if item in last]


def by_removal(own: Sequence[Existing]) -> list[Existing]:
    """The pods in the order in which they go: the ReplicaSet controller's."""
    by_name = sorted(own, key=lambda item: str(item.pod["metadata"]["name"]), reverse=True)
    youngest = sorted(by_name, key=lambda item: str(item.status.get("startTime") or "9"), reverse=True)
    crowd: dict[str, int] = {}
    for item in own:
        node = str(item.pod["spec"]["nodeName"])
        crowd[node] = crowd.get(node, 0) + 1

    def rank(item: Existing) -> tuple[int, ...]:
        restarts = sum(c.get("restartCount", 0) for c in item.status.get("containerStatuses") or [])
        return (
            1 if item.ended else 0,
            _PHASES.get(str(item.status.get("phase", "Pending")), 2),
            1 if ready(item.status) else 0,
            _cost(item.pod),
            -crowd[str(item.pod["spec"]["nodeName"])],
            -restarts,
        )

    return sorted(youngest, key=rank)


def ready(status: Object) -> bool:
    """Whether the pod's status says that it is ready."""
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or [])


def _cost(pod: Object) -> int:
    try:
        return int((pod["metadata"].get("annotations") or {}).get(_DELETION_COST, 0))
    except ValueError:
        return 0
