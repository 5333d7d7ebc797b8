"""The grace period: what a hook and the wait for one's turn take of it, and what is always given. Told in seconds."""

from __future__ import annotations

import pytest

from podlab.kube.stopping import AT_ONCE, KILL, NOTHING, SIGNAL, Stop

NEVER = 10**6


def story(
    grace: float, hook: float = 0, turn: float = 0, shorter: tuple[float, float] | None = None
) -> dict[str, float]:
    """When the signal and when KILL come. hook: how long it takes. turn: when it is. shorter: (when, how much)."""
    stop, said, now = Stop(grace, hook > 0 and grace > 0, 0.0), dict[str, float](), 0.0
    while KILL not in said:
        action = stop.step(now, now < hook, now >= turn)
        if action != NOTHING:
            said[action] = now
            continue
        if shorter and now == shorter[0]:
            stop.shorten(shorter[1], now)
            shorter = None
            continue
        at = stop.next_at()
        assert at is not None
        now = min(time for time in (at, hook, turn, shorter[0] if shorter else NEVER) if time > now)
    assert stop.next_at() is None
    return said


STORIES = [
    ("nothing before it", {"grace": 30}, {SIGNAL: 0, KILL: 30}),
    ("two seconds are always given", {"grace": 1}, {SIGNAL: 0, KILL: 2}),
    ("KILL at once", {"grace": AT_ONCE}, {KILL: 0}),
    ("it waits for no hook", {"grace": AT_ONCE, "hook": 5}, {KILL: 0}),
    ("a pod's own 0", {"grace": 0}, {SIGNAL: 0, KILL: 2}),
    ("has no time for a hook or a turn", {"grace": 0, "hook": 5, "turn": 5}, {SIGNAL: 0, KILL: 2}),
    ("a hook's time is taken off", {"grace": 30, "hook": 10}, {SIGNAL: 10, KILL: 30}),
    ("in whole seconds", {"grace": 30, "hook": 10.75}, {SIGNAL: 10.75, KILL: 30.75}),
    ("a hook that takes all of it", {"grace": 30, "hook": 29.5}, {SIGNAL: 29.5, KILL: 31.5}),
    ("a hook that does not return", {"grace": 30, "hook": NEVER}, {SIGNAL: 30, KILL: 32}),
    ("so does the wait for its turn", {"grace": 30, "turn": 20}, {SIGNAL: 20, KILL: 30}),
    ("a turn that does not come", {"grace": 30, "turn": NEVER}, {SIGNAL: 30, KILL: 32}),
    ("both", {"grace": 30, "hook": 10, "turn": 20}, {SIGNAL: 20, KILL: 30}),
    ("a turn that comes during the hook", {"grace": 30, "hook": 10, "turn": 5}, {SIGNAL: 10, KILL: 30}),
    ("a shorter grace period", {"grace": 30, "shorter": (5, 3)}, {SIGNAL: 0, KILL: 8}),
    ("a longer one counts for nothing", {"grace": 30, "shorter": (5, 60)}, {SIGNAL: 0, KILL: 30}),
    ("shorter during the hook", {"grace": 30, "hook": NEVER, "shorter": (5, 3)}, {SIGNAL: 8, KILL: 10}),
    ("KILL in the middle of it", {"grace": 30, "hook": NEVER, "shorter": (5, AT_ONCE)}, {KILL: 5}),
    ("a shorter one leaves two seconds, too", {"grace": 30, "shorter": (5, 1)}, {SIGNAL: 0, KILL: 7}),
]


@pytest.mark.parametrize(("_case", "given", "expected"), STORIES, ids=[row[0] for row in STORIES])
def test_the_grace_period(_case: str, given: dict[str, float], expected: dict[str, float]) -> None:
    assert story(**given) == expected  # type: ignore[arg-type]


def test_the_signal_comes_once() -> None:
    stop = Stop(30, False, 0.0)
    assert [stop.step(now, False, True) for now in (0.0, 1.0, 29.9, 30.0, 31.0)] == [
        SIGNAL,
        NOTHING,
        NOTHING,
        KILL,
        NOTHING,
    ]
