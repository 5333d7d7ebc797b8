"""restartPolicy by Kubernetes' own oracle (test/e2e_node/runtime.go), exit codes and reasons."""

from __future__ import annotations

import os
from typing import Any

import pytest

from podlab.runtime import paths
from support.lab import Lab, container_of, pids_in, uid_of

pytestmark = pytest.mark.lab


def outcome(pod: dict[str, Any]) -> tuple[str, str, int, bool]:
    """Phase, state, restart count, readiness: the columns of the oracle."""
    container = container_of(pod)
    return pod["status"]["phase"], next(iter(container["state"])), container["restartCount"], container["ready"]


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        ("always", ("Running", "running", 2, True)),
        ("onfailure", ("Succeeded", "terminated", 1, False)),
        ("never", ("Failed", "terminated", 0, False)),
    ],
)
def test_script_that_fails_then_ends_then_runs(extras: Lab, pod: str, expected: tuple[str, str, int, bool]) -> None:
    uid = uid_of(extras.pod(pod, "extras"))
    after = extras.until(uid, lambda found: outcome(found) == expected, f"expected {expected}")
    # The script's own count, from a volume that outlives its container, says the same.
    runs = expected[2] + 1
    extras.until_logged(after, f" this is run {runs}\n", expected[2])
    log = extras.invoke("logs", pod, "-n", "extras").stdout
    assert log == f"this is run {runs}\n"
    if expected[0] == "Failed":
        assert container_of(after)["lastState"] == {}


def test_last_state_tells_of_the_run_before(extras: Lab) -> None:
    uid = uid_of(extras.pod("always", "extras"))
    pod = extras.until(uid, lambda found: outcome(found)[1:3] == ("running", 2), "run 3 has not come")
    ended = container_of(pod)["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (0, "Completed", "message of run 2\n")
    assert ended["startedAt"] <= ended["finishedAt"]
    assert extras.invoke("logs", "always", "-n", "extras", "--previous").stdout == "this is run 2\n"


def test_first_restart_is_immediate_the_second_waits(extras: Lab) -> None:
    """The wait is counted from the end of the run before: 0, then 2 s, the cap that the extras were made with."""
    uid = uid_of(extras.pod("always", "extras"))
    pod = extras.until(uid, lambda found: outcome(found)[1:3] == ("running", 2), "run 3 has not come")
    extras.until_logged(pod, " this is run 3\n", 2)
    # Each run marks when it has come; the log of the first is gone by the third.
    volume = f"{paths.pod_data_dir(extras.name, uid)}/volumes/count"
    began = [os.stat(f"{volume}/run{run}").st_mtime for run in (1, 2, 3)]
    assert began[1] - began[0] < 2
    assert 2 <= began[2] - began[1] < 10


@pytest.mark.parametrize(
    ("pod", "code", "reason"),
    [
        ("never", 3, "Error"),
        ("no-command", 128, "StartError"),
        ("hungry", 137, "OOMKilled"),
        ("short-", 0, "Completed"),
    ],
)
def test_exit_codes_and_reasons(extras: Lab, pod: str, code: int, reason: str) -> None:
    uid = uid_of(extras.pods(pod, "extras")[0])
    after = extras.until(uid, lambda found: "terminated" in container_of(found)["state"], "it has not ended")
    ended = container_of(after)["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (code, reason)
    assert after["status"]["phase"] == ("Succeeded" if code == 0 else "Failed")


def test_command_that_cannot_be_started_is_tried_again_and_again(extras: Lab) -> None:
    """The supervisor outlives every attempt, and says between them what it waits for."""
    uid = uid_of(extras.pod("stubborn", "extras"))

    def waits(pod: dict[str, Any]) -> bool:
        container = container_of(pod)
        return container["restartCount"] >= 2 and "waiting" in container["state"]

    container = container_of(extras.until(uid, waits, "it was not tried again"))
    assert container["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert f"pod=stubborn_extras({uid})" in container["state"]["waiting"]["message"]
    ended = container["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert extras.pod("stubborn", "extras")["alive"]


def test_pods_that_ended_leave_no_process_and_stay_to_be_seen(extras: Lab) -> None:
    names = ("never", "onfailure", "no-command", "hungry")
    for name in names:
        extras.until(uid_of(extras.pod(name, "extras")), lambda pod: not pod["alive"], f"{name} has not ended")
    lines = extras.invoke("get", "pods", "-n", "extras").stdout.splitlines()
    status = {line.split()[0]: line.split()[2] for line in lines[1:]}
    assert [status[name] for name in names] == ["Error", "Completed", "StartError", "OOMKilled"]
    assert not {name: pids for name in names if (pids := pids_in(extras.pod(name, "extras")))}
