"""Jobs in a whole lab: what happens to their pods while no command runs, and what a command finds afterwards."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from podlab.cli import objects
from podlab.linux import inotify
from podlab.runtime import paths, state, watcher
from support import waiting
from support.lab import Lab, name_of, running, uid_of

pytestmark = pytest.mark.lab

SECONDS = 60
NAMESPACE = "jobs"

HEAD = "apiVersion: v1\nkind: Namespace\nmetadata: {name: jobs}\n"
JOB = """---
apiVersion: batch/v1
kind: Job
metadata: {name: @name@, namespace: jobs}
spec:
  @spec@
  template:
    spec:
      restartPolicy: @policy@
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: busybox, imagePullPolicy: IfNotPresent, command: [sh, -c, '@command@']}]
"""
WAITS = "mkfifo /end; read code < /end; exit $code"


def manifest(name: str, spec: str, command: str, policy: str = "Never") -> str:
    text = JOB
    for mark, value in {"name": name, "spec": spec, "command": command, "policy": policy}.items():
        text = text.replace(f"@{mark}@", value)
    return text


@pytest.fixture(scope="module")
def own(lab: Lab) -> Iterator[Lab]:
    """The floor's lab with the Jobs of these tests applied, and without them at the end."""
    texts = [
        manifest("chain", "completions: 3", "echo done"),
        manifest("indexed", "completionMode: Indexed\n  completions: 2", "echo $JOB_COMPLETION_INDEX $(hostname)"),
        manifest("fails", "backoffLimit: 0\n  completions: 2\n  parallelism: 2", WAITS),
        manifest("restarts", "backoffLimit: 1", WAITS, "OnFailure"),
        manifest("late", "activeDeadlineSeconds: 1\n  ttlSecondsAfterFinished: 1", "sleep 3600"),
        manifest("held", "suspend: true", "echo never"),
        manifest("slow", "completions: 2", WAITS),
    ]
    lab.apply(HEAD + "".join(texts))
    yield lab
    lab.invoke("delete", "-f", "-", stdin=HEAD)
    until(lab, lambda: not lab.pods(namespace=NAMESPACE) and not jobs(lab), "the namespace's pods are still there")


def jobs(lab: Lab) -> dict[str, dict[str, Any]]:
    """The Jobs of the namespace as `get` has them, by name."""
    found = objects.of_kind("jobs", state.read_state(lab.name))
    return {name_of(job): job for job in found if job["metadata"]["namespace"] == NAMESPACE}


def conditions(lab: Lab, name: str) -> list[str]:
    job = jobs(lab).get(name, {"status": {}})
    return [one["type"] for one in job["status"].get("conditions", []) if one["status"] == "True"]


def until(lab: Lab, condition: Callable[[], object], otherwise: str) -> None:
    """Wait until the condition holds; what the watcher notes of Jobs, pods and their going wakes it."""
    end = time.monotonic() + SECONDS
    with inotify.Inotify() as events:
        events.add(paths.cluster_dir(lab.name), inotify.MOVED_TO)
        events.add(paths.pods_dir(lab.name), inotify.CREATE | inotify.DELETE)
        while not condition():
            assert time.monotonic() < end, f"{otherwise}: {jobs(lab)} {watcher.read(lab.name)}"
            events.wait(1.0)


def pods(lab: Lab, job: str) -> list[dict[str, Any]]:
    return lab.pods(f"{job}-", NAMESPACE)


def end(lab: Lab, pod: dict[str, Any], code: int) -> None:
    """Let a waiting container exit with the code."""
    lab.until(uid_of(pod), running, "the pod does not run")
    # Opened for writing only when somebody reads: the container may not have made it yet.
    lab.exec(name_of(pod), "sh", "-c", f"until [ -p /end ]; do sleep 0; done; echo {code} > /end", namespace=NAMESPACE)


def test_pods_follow_one_another_while_no_command_runs(own: Lab) -> None:
    until(own, lambda: "Complete" in conditions(own, "chain"), "it is not complete")
    assert len(pods(own, "chain")) == 3
    shown = own.invoke("get", "jobs", "chain", "held", "-n", NAMESPACE).stdout.splitlines()
    assert shown[1].split()[:3] == ["chain", "Complete", "3/3"]
    assert shown[2].split()[:3] == ["held", "Suspended", "0/1"]
    assert pods(own, "held") == []


def test_indexed_pods_are_told_their_index(own: Lab) -> None:
    until(own, lambda: "Complete" in conditions(own, "indexed"), "it is not complete")
    said = [own.log_file(pod, 0).read_text().split(" ", 3)[3] for pod in pods(own, "indexed")]
    assert said == ["0 indexed-0\n", "1 indexed-1\n"]
    assert jobs(own)["indexed"]["status"]["completedIndexes"] == "0,1"


def test_beyond_backoff_limit_the_other_pods_go(own: Lab) -> None:
    """restartPolicy Never: with 0 the first pod that fails is one too many."""
    first, other = pods(own, "fails")
    end(own, first, 3)
    until(own, lambda: "Failed" in conditions(own, "fails"), "it has not failed")
    assert [name_of(pod) for pod in pods(own, "fails")] == [name_of(first)]
    status = jobs(own)["fails"]["status"]
    assert (status["failed"], status["conditions"][-1]["reason"]) == (2, "BackoffLimitExceeded")
    assert name_of(other) not in own.invoke("get", "pods", "-n", NAMESPACE).stdout


def test_on_failure_restarts_reach_backoff_limit(own: Lab) -> None:
    """With 1 the first restart is one too many: the pod goes though it runs again."""
    [pod] = pods(own, "restarts")
    end(own, pod, 3)
    until(own, lambda: "Failed" in conditions(own, "restarts"), "it has not failed")
    assert pods(own, "restarts") == []
    assert jobs(own)["restarts"]["status"]["failed"] == 1


def test_past_its_deadline_and_its_time_to_live_a_job_is_gone(own: Lab) -> None:
    until(own, lambda: "late" not in jobs(own), "the Job is still there")
    until(own, lambda: not pods(own, "late"), "its pod is still there")
    assert "late" not in own.invoke("get", "jobs", "-n", NAMESPACE).stdout


def test_without_the_watcher_the_next_command_goes_on(own: Lab) -> None:
    """The second pod is due when the first has ended, and nobody makes it; the command also starts the watcher."""
    [first] = pods(own, "slow")
    record = watcher.read(own.name)
    os.kill(record["pid"], signal.SIGKILL)
    waiting.until(lambda: not watcher.read(own.name)["alive"], "the watcher does not end")
    end(own, first, 0)
    own.until(uid_of(first), lambda pod: pod["status"]["phase"] == "Succeeded", "it has not succeeded")
    own.playbook()
    [second] = [pod for pod in pods(own, "slow") if name_of(pod) != name_of(first)]
    assert watcher.read(own.name)["alive"]
    end(own, second, 0)
    until(own, lambda: "Complete" in conditions(own, "slow"), "it is not complete")
    # Where every Job is where it should be, a command has nothing to do.
    assert re.search(r"changed=0\b", own.playbook("--check").stdout)
    assert watcher.read(own.name)["error"] == ""
