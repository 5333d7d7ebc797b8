"""A supervisor's back-off and order of starts, with a clock that the test turns on and a runner that starts nothing."""

from __future__ import annotations

import os
from typing import Any, Callable

import pytest

from podlab.kube import lifecycle
from podlab.runtime.run import Run
from podlab.runtime.sandbox import Sandbox
from podlab.runtime.supervisor import Supervisor

NEVER_ENDS = 10**9


class Clock:
    """Monotonic seconds."""

    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Runner:
    """Notes who was started when; how long each runs and how it ends is the test's."""

    def __init__(self, clock: Clock, began: Callable[[Run], None]) -> None:
        self.clock = clock
        self.began = began
        self.started: list[tuple[str, float]] = []

    def start(self, runs: list[Run], _made: Any) -> None:
        for run in runs:
            run.begun, run.began, run.pid = True, self.clock.seconds, os.getpid()
            run.restart_count += 1
            run.id = f"{run.name}/{run.restart_count}"
            self.started.append((run.name, self.clock.seconds))
        for run in runs:
            self.began(run)

    def signal(self, run: Run, number: int) -> None:
        raise AssertionError(f"{run.name} got signal {number}")


class Pod:
    """One pod of a supervisor that has a sandbox and no kernel below."""

    def __init__(self, *containers: dict[str, Any], inits: tuple[dict[str, Any], ...] = (), **more: Any) -> None:
        self.clock = Clock()
        config = {"cluster": "c", "uid": "u-1", "name": "p", "namespace": "default", "restart_policy": "Always"}
        lists = {"containers": list(containers), "init_containers": list(inits)}
        self.supervisor = Supervisor({**config, **lists, "grace": 30, **more}, [], lambda _: None, self.clock)
        self.runner = self.supervisor.runner = Runner(self.clock, self.supervisor._began)  # type: ignore[assignment]
        self.state = self.supervisor.pod
        self.state.sandbox = Sandbox("s", 0, os.getpid(), -1, "10.0.0.1")
        self.supervisor._advance()

    def run(self, name: str) -> Run:
        return next(run for run in self.state.runs if run.name == name)

    def ends(self, name: str, code: int, after: float = 1.0) -> float:
        """The container ends so; how long it waits to be started again (NEVER_ENDS: it is not)."""
        run = self.run(name)
        self.clock.seconds += after
        ended, run.pid = self.clock.seconds, 0
        before = len(self.runner.started)
        self.supervisor._ended(run, code, "", "")
        while len(self.runner.started) == before:
            if not self.state.loop._timers:
                return NEVER_ENDS
            self.clock.seconds = max(self.clock.seconds, self.state.loop._timers[0][0])
            self.state.loop.step()
        assert [started for started, _ in self.runner.started[before:]] == [name]
        return self.clock.seconds - ended


def container(name: str = "c", policy: str = "Always", **more: Any) -> dict[str, Any]:
    return {"name": name, "restart": {"policy": policy, "rules": []}, "sidecar": False, **more}


CURVE = [0, 10, 20, 40, 80, 160, 300, 300, 300]
ROWS: list[tuple[str, dict[str, Any], list[int], list[float], list[float]]] = [
    ("every exit counts", {}, [1] * 9, [1] * 9, CURVE),
    ("exit 0 under Always, too", {}, [0] * 9, [1] * 9, CURVE),
    ("an exit after exactly ten minutes", {}, [1, 1, 1], [1, 1, 600], [0, 10, 20]),
    ("a run of more than ten minutes resets", {}, [1] * 5, [1, 1, 601, 1, 1], [0, 10, 0, 10, 20]),
    ("a lower cap", {"max_container_restart_period": 15}, [1] * 4, [1] * 4, [0, 10, 15, 15]),
    ("a cap below the first wait", {"max_container_restart_period": 2}, [1] * 3, [1] * 3, [0, 2, 2]),
]


@pytest.mark.parametrize(("_case", "more", "codes", "lasted", "waits"), ROWS, ids=[row[0] for row in ROWS])
def test_back_off(_case: str, more: dict[str, Any], codes: list[int], lasted: list[float], waits: list[float]) -> None:
    pod = Pod(container(), **more)
    assert [pod.ends("c", code, after) for code, after in zip(codes, lasted)] == waits


def test_init_containers_and_sidecars_back_off_too() -> None:
    inits = (container("s", sidecar=True), container("i", "OnFailure"))
    pod = Pod(container(), inits=inits)
    assert [pod.ends("i", 1) for _ in range(4)] == [0, 10, 20, 40]
    assert [pod.ends("s", 0) for _ in range(4)] == [0, 10, 20, 40]
    assert [name for name, _ in pod.runner.started if name == "c"] == []


def test_each_container_has_a_back_off_of_its_own() -> None:
    pod = Pod(container("a"), container("b"))
    assert [pod.ends("a", 1) for _ in range(3)] == [0, 10, 20]
    assert [pod.ends("b", 1) for _ in range(3)] == [0, 10, 20]


def test_what_it_says_meanwhile() -> None:
    pod = Pod(container("web"))
    assert [pod.ends("web", 1) for _ in range(3)] == [0, 10, 20]
    run = pod.run("web")
    run.pid = 0
    pod.supervisor._ended(run, 7, "", "why")
    said = "back-off 40s restarting failed container=web pod=p_default(u-1)"
    assert run.state == {"waiting": {"reason": "CrashLoopBackOff", "message": said}}
    assert run.last_state["terminated"]["exitCode"] == 7


def test_on_failure_an_end_with_0_is_the_end() -> None:
    pod = Pod(container("a", "OnFailure"), container("b", "OnFailure"))
    assert pod.ends("a", 0) == NEVER_ENDS
    assert pod.ends("b", 3) == 0
    assert [name for name, _ in pod.runner.started] == ["a", "b", "b"]


def test_a_hook_holds_up_whoever_is_due() -> None:
    hook = {"hooks": {"post_start": {"kind": "sleep", "seconds": 5}}}
    pod = Pod(container("a", **hook), container("b"), container("c"))
    assert pod.run("a").post_start and pod.runner.started == [("a", 1000.0)]
    for at in (1000.0, 1005.0):
        pod.clock.seconds = at
        pod.state.loop.step()
    assert pod.runner.started == [("a", 1000.0), ("b", 1005.0), ("c", 1005.0)]
    assert "running" in pod.run("a").state and pod.run("a").kind == lifecycle.MAIN
