"""Which containers are due and whether the pod is over: computePodActions as tables."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.kube.lifecycle import INIT, MAIN, SIDECAR, Plan, View, may_end, plan, restartable, restarts

OVER = Plan(over=True)


def fresh(name: str, kind: str = MAIN) -> View:
    return View(name, kind)


def runs(name: str, kind: str = MAIN, started: bool = True) -> View:
    return View(name, kind, begun=True, running=True, started=started)


def done(name: str, kind: str = MAIN, restarts: bool = False) -> View:
    return View(name, kind, begun=True, succeeded=True, restarts=restarts)


def failed(name: str, kind: str = MAIN, restarts: bool = True) -> View:
    return View(name, kind, begun=True, restarts=restarts)


def start(*names: str) -> Plan:
    return Plan(names)


S = SIDECAR
PLANS = [
    ("a new pod without init containers", [fresh("a"), fresh("b")], start("a", "b")),
    ("all run", [runs("a"), runs("b")], start()),
    ("one waits to be started again", [runs("a"), failed("b")], start("b")),
    ("one is done, the other runs", [runs("a"), done("b")], start()),
    ("all done", [done("a"), done("b")], OVER),
    ("all done, one failed for good", [done("a"), failed("b", restarts=False)], OVER),
    ("a new pod with init containers", [fresh("i", INIT), fresh("j", INIT), fresh("a")], start("i")),
    ("the first init container runs", [runs("i", INIT), fresh("j", INIT), fresh("a")], start()),
    ("the first is done", [done("i", INIT), fresh("j", INIT), fresh("a")], start("j")),
    ("the last is done", [done("i", INIT), done("j", INIT), fresh("a"), fresh("b")], start("a", "b")),
    ("one has failed and comes again", [done("i", INIT), failed("j", INIT), fresh("a")], start("j")),
    ("one has failed for good", [done("i", INIT), failed("j", INIT, restarts=False), fresh("a")], OVER),
    ("a sidecar that has not started", [runs("s", S, started=False), fresh("j", INIT), fresh("a")], start()),
    ("a sidecar that has started", [runs("s", S), fresh("j", INIT), fresh("a")], start("j")),
    ("the last init container is a sidecar", [done("i", INIT), runs("s", S), fresh("a")], start("a")),
    ("the sidecar whose turn it is has ended", [failed("s", S), fresh("j", INIT), fresh("a")], start("s")),
    ("a sidecar ends while a later one initializes", [failed("s", S), runs("j", INIT), fresh("a")], start("s")),
    (
        "a sidecar ended before the next",
        [failed("s", S), done("j", INIT), fresh("k", INIT), fresh("a")],
        start("s", "k"),
    ),
    ("a sidecar ends beside main containers", [done("i", INIT), failed("s", S), runs("a")], start("s")),
    ("nor is an init container run again then", [failed("i", INIT), runs("s", S), runs("a"), failed("b")], start("b")),
    ("sidecars do not keep a pod", [runs("s", S), done("a")], OVER),
    ("nor are they started for nothing", [failed("s", S), done("a")], OVER),
    ("a new sandbox: what is done stays done", [done("i", INIT), View("a", restarts=False), fresh("b")], start("b")),
]


@pytest.mark.parametrize(("_case", "views", "expected"), PLANS, ids=[row[0] for row in PLANS])
def test_plan(_case: str, views: list[View], expected: Plan) -> None:
    assert plan(views) == expected


def rule(policy: str, operator: str = "", *values: int) -> dict[str, Any]:
    return {"policy": policy, "rules": [{"operator": operator, "values": list(values)}] if operator else []}


RULES = [
    (rule("Always"), 0, True, True),
    (rule("OnFailure"), 0, False, True),
    (rule("OnFailure"), 1, True, True),
    (rule("Never"), 1, False, False),
    (rule("Never", "In", 42, 43), 43, True, True),
    (rule("Never", "In", 42), 1, False, True),
    (rule("Never", "NotIn", 42), 1, True, True),
    (rule("Never", "NotIn", 42), 42, False, True),
    (rule("OnFailure", "In", 0), 0, True, True),
    (rule("Always", "In", 1), 2, True, True),
]


@pytest.mark.parametrize(("own", "code", "again", "ever"), RULES, ids=str)
def test_the_rule_that_fits_then_the_policy(own: dict[str, Any], code: int, again: bool, ever: bool) -> None:
    assert (restarts(own, code), restartable(own)) == (again, ever)


RUNNING = [(SIDECAR, "s1"), (SIDECAR, "s2"), (MAIN, "a"), (MAIN, "b")]
TURNS = [
    ("all", RUNNING, ["a", "b"]),
    ("one main container is left", [*RUNNING[:2], RUNNING[3]], ["b"]),
    ("the sidecars are left", RUNNING[:2], ["s2"]),
    ("the last one has gone", RUNNING[:1], ["s1"]),
    ("an init container runs beside a sidecar", [(SIDECAR, "s1"), (INIT, "i")], ["s1", "i"]),
]


@pytest.mark.parametrize(("_case", "running", "expected"), TURNS, ids=[row[0] for row in TURNS])
def test_whose_turn_it_is_to_end(_case: str, running: list[tuple[str, str]], expected: list[str]) -> None:
    assert [name for kind, name in running if may_end(kind, name, running)] == expected
