"""Probes' schedule and counters, as the kubelet's prober has them. Every table is a story told in seconds."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.kube.probes import CHANGED, ERROR, FAILURE, KILL, LIVENESS, NOTHING, NOTICED, READINESS, STARTUP, SUCCESS
from podlab.kube.probes import Probes as Machine


def spec(**changed: int) -> dict[str, Any]:
    return {"initial_delay": 0, "period": 10, "success": 1, "failure": 3, **changed}


def running(**specs: dict[str, Any]) -> Machine:
    machine = Machine(specs)
    machine.begin(0.0)
    return machine


def told(machine: Machine, kind: str, *outcomes: str) -> list[str]:
    """Answer the probe's next runs, each at once when it is due; what was to be done about each."""
    decisions = []
    for outcome in outcomes:
        at = machine.next_at()
        assert at is not None and kind in machine.due(at)
        decisions.append(machine.answer(kind, outcome, at))
    return decisions


def state(machine: Machine) -> tuple[bool, bool]:
    return machine.started, machine.ready


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        ({}, (True, True)),
        ({READINESS: spec()}, (True, False)),
        ({LIVENESS: spec()}, (True, True)),
        ({STARTUP: spec()}, (False, False)),
        ({STARTUP: spec(), READINESS: spec()}, (False, False)),
    ],
)
def test_before_the_first_answer(specs: dict[str, Any], expected: tuple[bool, bool]) -> None:
    machine = Machine(specs)
    assert state(machine) == (False, False)
    assert machine.next_at() is None
    machine.begin(0.0)
    assert state(machine) == expected
    machine.end()
    assert state(machine) == (False, False)
    assert machine.next_at() is None


S, F, E = SUCCESS, FAILURE, ERROR
THRESHOLDS = [
    ("readiness becomes true", READINESS, spec(), [S], [CHANGED], (True, True)),
    ("readiness at its second success", READINESS, spec(success=2), [S, S], [NOTHING, CHANGED], (True, True)),
    ("not when one fails between", READINESS, spec(success=2), [S, F, S], [NOTHING] * 3, (True, False)),
    (
        "readiness stays true below the threshold",
        READINESS,
        spec(),
        [S, F, F],
        [CHANGED, NOTHING, NOTHING],
        (True, True),
    ),
    ("and is lost at it", READINESS, spec(), [S, F, F, F], [CHANGED, NOTHING, NOTHING, CHANGED], (True, False)),
    ("a success begins the count anew", READINESS, spec(), [S, F, F, S, F, F], [CHANGED, *[NOTHING] * 5], (True, True)),
    ("failing on changes nothing", READINESS, spec(failure=1), [F, F], [NOTHING] * 2, (True, False)),
    (
        "what cannot be run says nothing",
        READINESS,
        spec(failure=1),
        [S, E, E, E],
        [CHANGED, *[NOTHING] * 3],
        (True, True),
    ),
    (
        "nor does it break a count",
        READINESS,
        spec(failure=2),
        [S, F, E, F],
        [CHANGED, NOTHING, NOTHING, CHANGED],
        (True, False),
    ),
    ("liveness is true from the start", LIVENESS, spec(), [S, F, F, S], [NOTHING] * 4, (True, True)),
    ("liveness kills at its threshold", LIVENESS, spec(), [F, F, F], [NOTHING, NOTHING, KILL], (True, True)),
    ("startup opens", STARTUP, spec(), [F, F, S], [NOTHING, NOTHING, CHANGED], (True, True)),
    ("startup kills", STARTUP, spec(failure=1), [F], [KILL], (False, False)),
]


@pytest.mark.parametrize(
    ("_case", "kind", "given", "outcomes", "decisions", "after"), THRESHOLDS, ids=[r[0] for r in THRESHOLDS]
)
def test_thresholds(
    _case: str, kind: str, given: Any, outcomes: list[str], decisions: list[str], after: tuple[bool, bool]
) -> None:
    machine = running(**{kind: given})
    assert told(machine, kind, *outcomes) == decisions
    assert state(machine) == after


DUE = [
    ("soon, as the kubelet notices", spec(), NOTICED),
    ("after its initial delay", spec(initial_delay=7), 7.0),
]


@pytest.mark.parametrize(("_case", "given", "first"), DUE, ids=[row[0] for row in DUE])
def test_the_first_time_and_the_period(_case: str, given: Any, first: float) -> None:
    machine = running(readiness=given)
    for number in range(4):
        at = first + 10 * number
        assert machine.next_at() == at
        assert machine.due(at - 0.001) == []
        assert machine.due(at) == [READINESS]
        assert machine.due(at) == [] and machine.next_at() is None, "it is on its way"
        machine.answer(READINESS, FAILURE, at + 0.3)


def test_one_that_takes_longer_than_its_period_is_asked_again_at_once() -> None:
    machine = running(readiness=spec(period=1))
    assert machine.due(0.5) == [READINESS]
    machine.answer(READINESS, FAILURE, 4.1)
    assert machine.next_at() == 3.5 and machine.due(4.1) == [READINESS], "the ticks meanwhile count as one"
    machine.answer(READINESS, FAILURE, 4.2)
    assert machine.next_at() == 4.5


class TestStartup:
    """Until it has succeeded no other runs."""

    def machine(self, **changed: int) -> Machine:
        return running(startup=spec(period=2, failure=30), liveness=spec(period=4), readiness=spec(**changed))

    def test_only_startup_is_asked(self) -> None:
        machine = self.machine()
        for at in (0.5, 2.5, 4.5):
            assert machine.due(at) == [STARTUP]
            machine.answer(STARTUP, FAILURE, at)
        assert state(machine) == (False, False)

    def test_then_the_others(self) -> None:
        machine = self.machine()
        told(machine, STARTUP, F, F)
        assert machine.due(4.5) == [STARTUP]
        assert machine.answer(STARTUP, SUCCESS, 5.0) == CHANGED
        assert state(machine) == (True, False)
        assert machine.due(5.0) == [READINESS], "at once"
        machine.answer(READINESS, SUCCESS, 5.1)
        assert machine.ready
        assert machine.next_at() == 8.5, "liveness at its own next tick"
        assert machine.due(8.5) == [LIVENESS]
        machine.answer(LIVENESS, SUCCESS, 8.6)
        assert machine.next_at() == 12.5 and machine.due(15.0) == [LIVENESS, READINESS]

    def test_readiness_keeps_its_initial_delay(self) -> None:
        machine = self.machine(initial_delay=60)
        told(machine, STARTUP, S)
        machine.due(8.0)
        assert machine.due(59.0) == [] and machine.due(60.0) == [READINESS]


class TestTheNextRun:
    """Another run of the container begins from nothing."""

    def test_what_failed_waits_for_it(self) -> None:
        machine = running(liveness=spec(failure=1), readiness=spec(period=5))
        told(machine, READINESS, S)
        assert machine.answer(LIVENESS, FAILURE, 0.6) == KILL
        assert machine.due(100.0) == [READINESS], "it still runs, and may still be asked"
        machine.end()
        assert machine.next_at() is None and not machine.ready
        machine.begin(200.0)
        assert state(machine) == (True, False)
        assert machine.due(200.5) == [LIVENESS, READINESS]

    def test_counts_begin_anew(self) -> None:
        machine = running(liveness=spec())
        told(machine, LIVENESS, F, F)
        machine.end()
        machine.begin(100.0)
        assert told(machine, LIVENESS, F, F, F) == [NOTHING, NOTHING, KILL]

    def test_startup_is_asked_again(self) -> None:
        machine = running(startup=spec())
        told(machine, STARTUP, S)
        assert machine.next_at() is None
        machine.end()
        machine.begin(100.0)
        assert state(machine) == (False, False) and machine.due(100.5) == [STARTUP]


class TestDeletion:
    """Liveness and startup stop, readiness goes on."""

    def test_liveness_stops(self) -> None:
        machine = running(liveness=spec(failure=1), readiness=spec())
        assert machine.due(0.5) == [LIVENESS, READINESS]
        machine.answer(READINESS, SUCCESS, 0.6)
        machine.delete(1.0)
        assert machine.answer(LIVENESS, FAILURE, 1.1) == NOTHING, "one that was on its way does not kill any more"
        assert machine.ready
        assert machine.due(50.0) == [READINESS]
        machine.answer(READINESS, FAILURE, 50.0)

    def test_one_that_is_starting_counts_as_started(self) -> None:
        machine = running(startup=spec(), readiness=spec())
        assert machine.due(0.5) == [STARTUP]
        machine.delete(3.0)
        assert machine.started and not machine.ready
        assert machine.answer(STARTUP, FAILURE, 3.1) == NOTHING
        assert machine.due(3.1) == [READINESS]
        assert machine.answer(READINESS, SUCCESS, 3.2) == CHANGED
