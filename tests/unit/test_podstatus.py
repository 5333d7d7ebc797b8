"""PodStatus: phases, conditions and states, as the kubelet reports them."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.kube import podstatus

CREATING = {"waiting": {"reason": "ContainerCreating"}}
LOOPING = {"waiting": {"reason": "CrashLoopBackOff"}}
RUNNING = {"running": {"startedAt": "t0"}}
NO_LAST: dict[str, Any] = {}


def ended(code: int) -> dict[str, Any]:
    return {"terminated": {"exitCode": code}}


def view(state: dict[str, Any], restarts: bool = False, last: dict[str, Any] = NO_LAST, name: str = "c") -> Any:
    return {
        "name": name,
        "image": "busybox",
        "image_id": "sha256:1",
        "id": "f00",
        "state": state,
        "last_state": last,
        "restart_count": 0,
        "restarts": restarts,
        "started": "running" in state,
        "ready": "running" in state,
    }


PHASES = [
    ("one never ran", "Pending", [view(CREATING, True)]),
    ("one of two never ran", "Pending", [view(RUNNING), view(CREATING, True)]),
    ("one never ran, the other is done", "Pending", [view(ended(0)), view(CREATING, True)]),
    ("all run", "Running", [view(RUNNING), view(RUNNING)]),
    ("one runs, one is done", "Running", [view(RUNNING), view(ended(0))]),
    ("one runs, one has failed for good", "Running", [view(RUNNING), view(ended(1))]),
    ("stopped, will be started again", "Running", [view(ended(1), True)]),
    ("ended with 0, will be started again", "Running", [view(ended(0), True)]),
    ("waits in CrashLoopBackOff", "Running", [view(LOOPING, True, ended(1))]),
    ("one in CrashLoopBackOff, one done", "Running", [view(LOOPING, True, ended(1)), view(ended(0))]),
    ("all done", "Succeeded", [view(ended(0)), view(ended(0))]),
    ("one failed", "Failed", [view(ended(0)), view(ended(3))]),
    ("killed", "Failed", [view(ended(137))]),
]


@pytest.mark.parametrize(("_case", "phase", "views"), PHASES, ids=[row[0] for row in PHASES])
def test_phase(_case: str, phase: str, views: list[Any]) -> None:
    assert podstatus.phase(views) == phase


def init(state: dict[str, Any], restarts: bool = False, last: dict[str, Any] = NO_LAST, **more: Any) -> Any:
    done = state.get("terminated", {}).get("exitCode") == 0
    return {**view(state, restarts, last, "i"), "sidecar": False, "ready": done, **more}


def side(state: dict[str, Any], **more: Any) -> Any:
    return {**view(state, True, name="s"), "sidecar": True, **more}


INITIALIZING = {"waiting": {"reason": "PodInitializing"}}
AGAIN = view(INITIALIZING, True)
WITH_INITS = [
    ("the init container runs", "Pending", [AGAIN], [init(RUNNING)]),
    ("it waits for its turn", "Pending", [AGAIN], [init(ended(0)), init(INITIALIZING, True)]),
    ("it has failed and comes again", "Pending", [AGAIN], [init(LOOPING, True, ended(1))]),
    ("it has failed for good", "Failed", [AGAIN], [init(ended(1))]),
    ("it has failed for good, a sidecar still runs", "Pending", [AGAIN], [side(RUNNING), init(ended(1))]),
    ("a sidecar has not started", "Pending", [AGAIN], [side(RUNNING, started=False)]),
    ("a sidecar starts again beside the others", "Running", [view(RUNNING)], [side(RUNNING, started=False)]),
    ("init containers run again in a new sandbox", "Running", [view(ended(1), True)], [init(LOOPING, True, ended(0))]),
    ("all done, a sidecar still runs", "Running", [view(ended(0))], [side(RUNNING)]),
    ("all done, the sidecar has failed", "Succeeded", [view(ended(0))], [side(ended(3))]),
    ("a sidecar has ended, the main container runs", "Running", [view(RUNNING)], [side(ended(0))]),
]


@pytest.mark.parametrize(("_case", "phase", "views", "inits"), WITH_INITS, ids=[row[0] for row in WITH_INITS])
def test_phase_with_init_containers(_case: str, phase: str, views: list[Any], inits: list[Any]) -> None:
    assert podstatus.phase(views, inits) == phase


CONFIG = {"host_ip": "172.18.0.3", "qos": "Burstable"}


def status(views: list[Any], now: str = "t1", old: Any = (), address: str = "10.244.0.5") -> dict[str, Any]:
    return podstatus.pod_status(CONFIG, views, address, "t0", now, old)


def conditions(found: dict[str, Any]) -> dict[str, tuple[str, str, str]]:
    return {
        each["type"]: (each["status"], each["lastTransitionTime"], each.get("reason", ""))
        for each in found["conditions"]
    }


def test_the_whole_of_a_running_pod() -> None:
    true = {"status": "True", "lastProbeTime": None}
    assert status([view(RUNNING)]) == {
        "phase": "Running",
        "conditions": [
            {"type": "PodReadyToStartContainers", **true, "lastTransitionTime": "t0"},
            {"type": "Initialized", **true, "lastTransitionTime": "t0"},
            {"type": "Ready", **true, "lastTransitionTime": "t1"},
            {"type": "ContainersReady", **true, "lastTransitionTime": "t1"},
            {"type": "PodScheduled", **true, "lastTransitionTime": "t0"},
        ],
        "hostIP": "172.18.0.3",
        "hostIPs": [{"ip": "172.18.0.3"}],
        "podIP": "10.244.0.5",
        "podIPs": [{"ip": "10.244.0.5"}],
        "startTime": "t0",
        "qosClass": "Burstable",
        "containerStatuses": [
            {
                "name": "c",
                "state": RUNNING,
                "lastState": {},
                "ready": True,
                "started": True,
                "restartCount": 0,
                "image": "busybox",
                "imageID": "sha256:1",
                "containerID": "podlab://f00",
            }
        ],
    }


def test_without_an_address_there_is_no_sandbox_yet() -> None:
    found = status([view(CREATING)], address="")
    assert "podIP" not in found and "podIPs" not in found
    assert conditions(found)["PodReadyToStartContainers"][0] == "False"


def test_the_unready_are_named() -> None:
    found = status([view(RUNNING, name="a"), view(LOOPING, True, ended(1), "b"), view(ended(0), name="c")])
    ready = next(each for each in found["conditions"] if each["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ContainersNotReady")
    assert ready["message"] == "containers with unready status: [b c]"


def test_a_completed_pod_is_not_ready_because_it_is_completed() -> None:
    assert conditions(status([view(ended(0))]))["Ready"] == ("False", "t1", "PodCompleted")
    assert conditions(status([view(ended(0))]))["ContainersReady"] == ("False", "t1", "PodCompleted")


def test_a_failed_pod_is_not_ready_because_it_has_failed() -> None:
    found = status([view(ended(1)), view(ended(0))])
    assert conditions(found)["Ready"] == ("False", "t1", "PodFailed")
    assert conditions(found)["ContainersReady"] == ("False", "t1", "PodFailed")


def test_one_that_runs_and_is_not_ready() -> None:
    found = status([view(RUNNING, name="a"), {**view(RUNNING, name="b"), "ready": False}])
    assert found["phase"] == "Running"
    assert conditions(found)["Ready"] == conditions(found)["ContainersReady"] == ("False", "t1", "ContainersNotReady")
    assert [(each["ready"], each["started"]) for each in found["containerStatuses"]] == [(True, True), (False, True)]


def test_readiness_gates_that_nobody_opens() -> None:
    gated = {**CONFIG, "readiness_gates": ["a/b", "c/d"]}
    found = podstatus.pod_status(gated, [view(RUNNING)], "10.244.0.5", "t0", "t1")
    assert conditions(found)["ContainersReady"] == ("True", "t1", "")
    ready = next(each for each in found["conditions"] if each["type"] == "Ready")
    assert (ready["status"], ready["reason"], ready["message"]) == (
        "False",
        "ReadinessGatesNotReady",
        'corresponding condition of pod readiness gate "a/b" does not exist., '
        'corresponding condition of pod readiness gate "c/d" does not exist.',
    )
    unready = podstatus.pod_status(gated, [view(LOOPING, True, ended(1))], "10.244.0.5", "t0", "t1")
    assert conditions(unready)["Ready"][2] == "ContainersNotReady"


def test_containers_are_listed_by_name() -> None:
    found = status([view(RUNNING, name="b"), view(RUNNING, name="a")])
    assert [each["name"] for each in found["containerStatuses"]] == ["a", "b"]


def test_a_container_that_never_was_has_no_id() -> None:
    assert podstatus.container_status({**view(CREATING), "id": ""})["containerID"] == ""


def test_times_of_conditions_stay_until_they_change() -> None:
    first = status([view(RUNNING)], "t1")
    second = status([view(RUNNING)], "t2", first["conditions"])
    assert conditions(second) == conditions(first)
    third = status([view(ended(1), True)], "t3", second["conditions"])
    assert conditions(third)["Ready"] == ("False", "t3", "ContainersNotReady")
    assert conditions(third)["Initialized"] == ("True", "t0", "")
    fourth = status([view(LOOPING, True, ended(1))], "t4", third["conditions"])
    assert conditions(fourth)["Ready"][1] == "t3"
    fifth = status([view(RUNNING)], "t5", fourth["conditions"])
    assert conditions(fifth)["Ready"] == ("True", "t5", "")


TERMINATED = [
    (0, "", "Completed", None),
    (1, "", "Error", None),
    (128, "StartError", "StartError", None),
    (137, "", "Error", 9),
    (137, "OOMKilled", "OOMKilled", 9),
    (143, "", "Error", 15),
]


@pytest.mark.parametrize(("code", "given", "reason", "signal"), TERMINATED)
def test_terminated(code: int, given: str, reason: str, signal: int | None) -> None:
    found = podstatus.terminated(code, given, "t0", "t1", "f00")["terminated"]
    expected = {
        "exitCode": code,
        "reason": reason,
        "startedAt": "t0",
        "finishedAt": "t1",
        "containerID": "podlab://f00",
    }
    assert found == (expected if signal is None else {**expected, "signal": signal})


def test_the_termination_message() -> None:
    assert podstatus.terminated(1, "", "t0", "t1", "f00", "why")["terminated"]["message"] == "why"


def with_inits(views: list[Any], inits: list[Any], failure: Any = None) -> dict[str, Any]:
    return podstatus.pod_status(CONFIG, views, "10.244.0.5", "t0", "t1", inits=inits, failure=failure)


def test_initialized_names_what_is_missing() -> None:
    found = with_inits([AGAIN], [init(ended(0)), side(RUNNING, started=False, name="late"), init(INITIALIZING, True)])
    initialized = next(each for each in found["conditions"] if each["type"] == "Initialized")
    assert (initialized["status"], initialized["reason"]) == ("False", "ContainersNotInitialized")
    assert initialized["message"] == "containers with incomplete status: [late i]"
    assert [each["name"] for each in found["initContainerStatuses"]] == ["i", "late", "i"]


def test_initialized_stays_true_once_a_main_container_has_begun() -> None:
    assert conditions(with_inits([view(ended(1), True)], [init(INITIALIZING, True)]))["Initialized"][0] == "True"


def test_a_sidecar_that_is_not_ready_keeps_the_pod_unready() -> None:
    assert conditions(with_inits([view(RUNNING)], [side(RUNNING, ready=False)]))["Ready"][2] == "ContainersNotReady"
    assert conditions(with_inits([view(RUNNING)], [side(RUNNING), init(ended(0))]))["Ready"][0] == "True"


def test_what_has_ended_the_pod_from_outside() -> None:
    found = with_inits([view(ended(0))], [], ("DeadlineExceeded", "too long"))
    assert (found["phase"], found["reason"], found["message"]) == ("Failed", "DeadlineExceeded", "too long")
    assert conditions(found)["Ready"][2] == "PodFailed"
