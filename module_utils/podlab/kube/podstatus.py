"""v1.PodStatus from what the supervisor knows. Pure. Source: kubelet's getPhase and status/generate.go.

A container's view is a dict: name, image, image_id, id, state (one of waiting, running, terminated), last_state,
restart_count, restarts (it will be started again), started and ready (as its probes say).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def phase(containers: Sequence[Mapping[str, Any]]) -> str:
    """Pending, Running, Succeeded or Failed from the regular containers."""
    states = [view["state"] for view in containers]
    if any("waiting" in state and not view["last_state"] for state, view in zip(states, containers)):
        return "Pending"
    stopped = [view for view in containers if "running" not in view["state"]]
    if len(stopped) < len(containers) or any(view["restarts"] for view in stopped):
        return "Running"
    codes = [view["state"].get("terminated", {}).get("exitCode", 1) for view in stopped]
    return "Failed" if any(codes) else "Succeeded"


def _condition(kind: str, true: bool, when: str, reason: str = "", message: str = "") -> dict[str, Any]:
    made = {"type": kind, "status": "True" if true else "False", "lastProbeTime": None, "lastTransitionTime": when}
    if not true and reason:
        made.update(reason=reason, message=message)
    return made


def conditions(
    containers: Sequence[Mapping[str, Any]], final: str, sandbox: bool, start: str, now: str, gates: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The pod's conditions. final: its phase; a finished pod is not ready because it is completed.

    gates: condition types of spec.readinessGates. Nobody sets conditions from outside, so they keep the pod unready.
    """
    unready = [view["name"] for view in containers if not view["ready"]]
    done = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(final, "")
    reason = done or "ContainersNotReady"
    message = "" if done else f"containers with unready status: [{' '.join(unready)}]"
    contained = (not unready and not done, now, reason, message)
    ready = contained
    if contained[0] and gates:
        missing = [f'corresponding condition of pod readiness gate "{gate}" does not exist.' for gate in gates]
        ready = (False, now, "ReadinessGatesNotReady", ", ".join(missing))
    return [
        _condition("PodReadyToStartContainers", sandbox, start),
        _condition("Initialized", True, start),
        _condition("Ready", *ready),
        _condition("ContainersReady", *contained),
        _condition("PodScheduled", True, start),
    ]


def container_status(view: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of containerStatuses."""
    return {
        "name": view["name"],
        "state": view["state"],
        "lastState": view["last_state"],
        "ready": view["ready"],
        "started": view["started"],
        "restartCount": view["restart_count"],
        "image": view["image"],
        "imageID": view["image_id"],
        "containerID": f"podlab://{view['id']}" if view["id"] else "",
    }


def pod_status(
    config: Mapping[str, Any],
    containers: Sequence[Mapping[str, Any]],
    address: str,
    started: str,
    now: str,
    old: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The whole status. old: the conditions before, whose transition times stay while they do not change."""
    final = phase(containers)
    found = conditions(containers, final, bool(address), started, now, config.get("readiness_gates") or ())
    status: dict[str, Any] = {
        "phase": final,
        "conditions": _keep_times(found, old),
        "hostIP": config["host_ip"],
        "hostIPs": [{"ip": config["host_ip"]}],
        "startTime": started,
        "qosClass": config["qos"],
        "containerStatuses": [container_status(view) for view in sorted(containers, key=lambda view: view["name"])],
    }
    if address:
        status.update(podIP=address, podIPs=[{"ip": address}])
    return status


def _keep_times(fresh: list[dict[str, Any]], old: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    before = {condition["type"]: condition for condition in old}
    for condition in fresh:
        known = before.get(condition["type"])
        if known and known["status"] == condition["status"]:
            condition["lastTransitionTime"] = known["lastTransitionTime"]
    return fresh


def terminated(code: int, reason: str, started: str, finished: str, identity: str, message: str = "") -> dict[str, Any]:
    """A ContainerStateTerminated; without a reason it follows from the code."""
    state = {
        "exitCode": code,
        "reason": reason or ("Completed" if code == 0 else "Error"),
        "startedAt": started,
        "finishedAt": finished,
        "containerID": f"podlab://{identity}",
    }
    if code > 128:
        state["signal"] = code - 128
    if message:
        state["message"] = message
    return {"terminated": state}
