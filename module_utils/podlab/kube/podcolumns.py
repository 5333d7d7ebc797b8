"""What kubectl's columns READY, STATUS and RESTARTS say of a pod (printPod in printers.go)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .times import epoch

TERMINAL = ("Succeeded", "Failed")


def _sidecars(pod: Mapping[str, Any]) -> set[str]:
    return {item["name"] for item in pod["spec"].get("initContainers") or [] if item.get("restartPolicy") == "Always"}


def _statuses(pod: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    return list(pod.get("status", {}).get(key) or [])


def _condition(pod: Mapping[str, Any], name: str) -> bool:
    return any(item["type"] == name and item["status"] == "True" for item in _statuses(pod, "conditions"))


def _running(container: Mapping[str, Any]) -> bool:
    return bool(container.get("ready")) and "running" in container.get("state", {})


def _ended(terminated: Mapping[str, Any]) -> str:
    """Why a container ended: its reason, else its signal, else its code."""
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _initializing(pod: Mapping[str, Any]) -> str:
    """What the init containers are at ("Init:0/2", "Init:Error"); "" when they are done."""
    sidecars = _sidecars(pod)
    for number, container in enumerate(_statuses(pod, "initContainerStatuses")):
        state = container.get("state", {})
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if terminated is not None and terminated.get("exitCode", 0) == 0:
            continue
        if container["name"] in sidecars and container.get("started"):
            continue
        if terminated is not None:
            return f"Init:{_ended(terminated)}"
        if waiting.get("reason") and waiting["reason"] != "PodInitializing":
            return f"Init:{waiting['reason']}"
        return f"Init:{number}/{len(pod['spec'].get('initContainers') or [])}"
    return ""


def _starting(pod: Mapping[str, Any]) -> bool:
    """True while only the init containers count."""
    return bool(_initializing(pod)) and not _condition(pod, "Initialized")


def status_word(pod: Mapping[str, Any]) -> str:
    """STATUS: Running, Completed, CrashLoopBackOff, Init:0/1, Terminating, ..."""
    status = pod.get("status", {})
    phase = status.get("phase", "Unknown")
    reason = _reason(pod, status.get("reason") or phase)
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            return "Unknown"
        if phase not in TERMINAL:
            return "Terminating"
    return reason


def _reason(pod: Mapping[str, Any], reason: str) -> str:
    if any(item.get("reason") == "SchedulingGated" for item in _statuses(pod, "conditions")):
        reason = "SchedulingGated"
    reason = _initializing(pod) or reason
    # Whoever has lost sight of the pod cannot know what its containers do.
    if _starting(pod) or pod.get("status", {}).get("reason") == "NodeLost":
        return reason
    running = False
    # The first container has the last word.
    for container in reversed(_statuses(pod, "containerStatuses")):
        state = container.get("state", {})
        waiting, terminated = state.get("waiting") or {}, state.get("terminated")
        if waiting.get("reason"):
            reason = waiting["reason"]
        elif terminated is not None:
            reason = _ended(terminated)
        elif _running(container):
            running = True
    if reason == "Completed" and running:
        return "Running" if _condition(pod, "Ready") else "NotReady"
    return reason


def ready_count(pod: Mapping[str, Any]) -> tuple[int, int]:
    """READY: how many containers (sidecars included) are ready, of how many."""
    sidecars = _sidecars(pod)
    ready = sum(
        1
        for container in _statuses(pod, "initContainerStatuses")
        if container["name"] in sidecars and container.get("started") and container.get("ready")
    )
    if not _starting(pod):
        ready += sum(_running(container) for container in _statuses(pod, "containerStatuses"))
    return ready, len(pod["spec"]["containers"]) + len(sidecars)


def restarts(pod: Mapping[str, Any]) -> tuple[int, str]:
    """RESTARTS: how many, and when the last run before this one ended ("" when never).

    Plain init containers count only while they run.
    """
    sidecars = _sidecars(pod)
    starting = _starting(pod)
    counted = [item for item in _statuses(pod, "initContainerStatuses") if starting or item["name"] in sidecars]
    if not starting:
        counted += _statuses(pod, "containerStatuses")
    ends = [(item.get("lastState", {}).get("terminated") or {}).get("finishedAt", "") for item in counted]
    last = max(filter(None, ends), key=epoch, default="")
    return sum(item.get("restartCount", 0) for item in counted), last
