"""The watcher's eye on Jobs, in the test's own process: what it notes, when it looks again, what it says of failure."""

from __future__ import annotations

import os
import pathlib
import select
from typing import Any, Callable

import pytest

from podlab.job_watch import NEVER, RETRY_SECONDS, JobWatch
from podlab.kube import times
from podlab.runtime import files, lock, paths
from support.planned import cluster

NAME = "kind"
CREATED = "2026-11-21T12:00:00Z"
START = times.epoch(CREATED)


class Loop:
    """What JobWatch wants of the watcher, driven by the test, and its clock."""

    def __init__(self) -> None:
        self.handlers: dict[int, Callable[[], None]] = {}
        self.asked = 0
        self.now = START
        self.jobs = JobWatch(NAME, self.handlers.__setitem__, lambda fd: self.handlers.pop(fd), self.soon, self.clock)

    def soon(self) -> None:
        self.asked += 1

    def clock(self) -> float:
        return self.now

    def turn(self) -> None:
        """Serve the next descriptor that is ready."""
        ready, _, _ = select.select(list(self.handlers), [], [], 60)
        self.handlers[ready[0]]()


def write(place: Any = None, **spec: Any) -> None:
    containers = [{"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent"}]
    template = {"spec": {"restartPolicy": "Never", "containers": containers, "nodeSelector": place or {}}}
    metadata = {"name": "job", "namespace": "default"}
    thing = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template, **spec}}
    files.write_json(paths.objects_file(NAME), {"objects": [{"object": thing, "created": CREATED, "source": "apply"}]})


def noted() -> Any:
    return files.read_json(paths.jobs_file(NAME))


@pytest.fixture
def loop(podlab_roots: pathlib.Path) -> Loop:
    os.makedirs(paths.pods_dir(NAME))
    files.write_json(paths.cluster_file(NAME), cluster().to_dict())
    return Loop()


def test_a_lab_without_jobs_is_not_looked_at(loop: Loop) -> None:
    assert loop.jobs.look() == NEVER
    files.write_json(paths.objects_file(NAME), {"objects": []})
    assert loop.jobs.look() == NEVER
    assert noted() is None


def test_what_it_sees_is_noted_and_forgotten_with_the_job(loop: Loop) -> None:
    write(suspend=True)
    assert loop.jobs.look() == NEVER
    [record] = noted().values()
    assert record["created"] == CREATED
    assert record["status"]["conditions"][0]["type"] == "Suspended"
    files.write_json(paths.objects_file(NAME), {"objects": []})
    loop.jobs.look()
    assert noted() == {}


def test_it_leaves_the_lab_to_who_changes_it(loop: Loop) -> None:
    write()
    lock.hold(NAME, os.getpid())
    assert loop.jobs.look() == NEVER and not loop.handlers
    lock.release(NAME, os.getpid())


def test_what_the_runner_cannot_do_is_told_and_tried_again(loop: Loop) -> None:
    """There is no node that the pod may run on."""
    write({"disk": "ssd"})
    assert loop.jobs.look() == NEVER and len(loop.handlers) == 1
    assert loop.jobs.look() == NEVER and len(loop.handlers) == 1, "one runner at a time"
    loop.turn()
    assert loop.jobs.error.startswith("Jobs: ") and "can run the pod" in loop.jobs.error
    assert loop.asked == 1 and not loop.handlers
    assert not os.path.exists(paths.lock_file(NAME))
    loop.now += 1
    assert loop.jobs.look() == pytest.approx(RETRY_SECONDS - 1) and not loop.handlers
    loop.now += RETRY_SECONDS
    loop.jobs.look()
    loop.turn()


def test_a_job_whose_time_is_up_is_taken_away(loop: Loop) -> None:
    write(completions=0, ttlSecondsAfterFinished=0)
    loop.jobs.look()
    # The clock is the test's, the runner's is the machine's: the Job was over long ago.
    loop.jobs.look()
    loop.turn()
    assert loop.jobs.error == ""
    assert files.read_json(paths.objects_file(NAME)) == {"objects": []}
    loop.jobs.look()
    assert noted() == {}
