"""v1.PodStatus from what the supervisor knows. Pure. Source: kubelet's getPhase and status/generate.go.

A container's view is a dict: name, image, image_id, id, state (one of waiting, running, terminated), last_state,
restart_count, restarts (it will be started again), started and ready (as its probes say). One of an init container has
`sidecar` too: whether it is a restartable one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

View = Mapping[str, Any]


def phase(containers: Sequence[View], inits: Sequence[View] = ()) -> str:
    """Pending, Running, Succeeded or Failed. How a sidecar has ended counts for nothing.

    A pod becomes Succeeded or Failed when nothing of it runs any more, a sidecar neither.
    """
    plain = [view for view in inits if not view["sidecar"]]
    sidecars = [view for view in inits if view["sidecar"]]
    running = any("running" in view["state"] for view in (*sidecars, *containers))
    if any(_code(view) and not view["restarts"] for view in plain):
        return "Pending" if running else "Failed"
    if any("running" in view["state"] or _never_ran(view) for view in plain) or any(map(_never_ran, containers)):
        return "Pending"
    if any(not view["started"] and "terminated" not in view["state"] for view in sidecars) and not _begun(containers):
        return "Pending"
    if running or any(view["restarts"] for view in containers):
        return "Running"
    return "Failed" if any(_code(view) for view in containers) else "Succeeded"


def _never_ran(view: View) -> bool:
    return "waiting" in view["state"] and not view["last_state"]


def _begun(containers: Sequence[View]) -> bool:
    """A main container has run, so the pod has been initialized (HasAnyRegularContainerStarted)."""
    return not all(map(_never_ran, containers))


def _code(view: View) -> int:
    """How it ended the last time; 0 while it has not."""
    ended = view["state"].get("terminated") or ("waiting" in view["state"] and view["last_state"].get("terminated"))
    return int(ended["exitCode"]) if ended else 0


def _condition(kind: str, true: bool, when: str, reason: str = "", message: str = "") -> dict[str, Any]:
    made = {"type": kind, "status": "True" if true else "False", "lastProbeTime": None, "lastTransitionTime": when}
    if not true and reason:
        made.update(reason=reason, message=message)
    return made


def conditions(
    containers: Sequence[View],
    final: str,
    sandbox: bool,
    start: str,
    now: str,
    gates: Sequence[str] = (),
    inits: Sequence[View] = (),
) -> list[dict[str, Any]]:
    """The pod's conditions. final: its phase; a finished pod is not ready because it is completed.

    gates: condition types of spec.readinessGates. Nobody sets conditions from outside, so they keep the pod unready.
    """
    unready = [
        view["name"] for view in (*(view for view in inits if view["sidecar"]), *containers) if not view["ready"]
    ]
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
        _initialized(containers, final, start, now, inits),
        _condition("Ready", *ready),
        _condition("ContainersReady", *contained),
        _condition("PodScheduled", True, start),
    ]


def _initialized(containers: Sequence[View], final: str, start: str, now: str, inits: Sequence[View]) -> dict[str, Any]:
    """Once a main container has begun it stays true, whatever becomes of the init containers."""
    missing = [view["name"] for view in inits if not view["started" if view["sidecar"] else "ready"]]
    true = not missing or final == "Succeeded" or _begun(containers)
    message = f"containers with incomplete status: [{' '.join(missing)}]"
    return _condition("Initialized", true, now if inits else start, "ContainersNotInitialized", message)


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


def ephemeral_status(view: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of ephemeralContainerStatuses: nobody probes it, and it makes nothing ready."""
    return {**{key: value for key, value in container_status(view).items() if key != "started"}, "ready": False}


def pod_status(
    config: Mapping[str, Any],
    containers: Sequence[Mapping[str, Any]],
    address: str,
    started: str,
    now: str,
    old: Sequence[Mapping[str, Any]] = (),
    inits: Sequence[View] = (),
    failure: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """The whole status. old: the conditions before, whose transition times stay while they do not change.

    inits: views of the init containers, in the order of the spec. failure: reason and message of what has ended the pod
    from outside.
    """
    final = "Failed" if failure else phase(containers, inits)
    gates = config.get("readiness_gates") or ()
    found = conditions(containers, final, bool(address), started, now, gates, inits)
    status: dict[str, Any] = {
        "phase": final,
        "conditions": _keep_times(found, old),
        "hostIP": config["host_ip"],
        "hostIPs": [{"ip": config["host_ip"]}],
        "startTime": started,
        "qosClass": config["qos"],
        "containerStatuses": [container_status(view) for view in sorted(containers, key=lambda view: view["name"])],
    }
    if inits:
        status["initContainerStatuses"] = [container_status(view) for view in inits]
    if failure:
        status.update(reason=failure[0], message=failure[1])
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
