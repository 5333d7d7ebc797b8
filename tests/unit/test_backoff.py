"""CrashLoopBackOff: the waits, their end, the words."""

from __future__ import annotations

import itertools

import pytest

from podlab.kube.backoff import BackOff, message
from podlab.kube.lifecycle import restarts


def waits(runs: list[float], **options: float) -> list[float]:
    """The wait after each run; runs: how long each lasted, in seconds."""
    state, found = BackOff(), []
    for ran in runs:
        delay, state = state.after(ran, **options)
        found.append(delay)
    return found


def test_the_schedule() -> None:
    assert waits([1.0] * 9) == [0, 10, 20, 40, 80, 160, 300, 300, 300]


@pytest.mark.parametrize(
    ("cap", "expected"),
    [(1, [0, 1, 1, 1]), (5, [0, 5, 5, 5]), (10, [0, 10, 10, 10]), (15, [0, 10, 15, 15]), (60, [0, 10, 20, 40, 60, 60])],
)
def test_a_lower_cap_lowers_the_first_wait_too(cap: float, expected: list[float]) -> None:
    assert waits([1.0] * len(expected), cap=cap) == expected


@pytest.mark.parametrize(("ran", "following"), [(599.9, 40), (600.0, 40), (600.1, 0)])
def test_more_than_ten_minutes_forgive_everything(ran: float, following: float) -> None:
    assert waits([1, 1, 1, ran]) == [0, 10, 20, following]


def test_after_that_it_begins_anew() -> None:
    assert waits([1, 1, 1, 601, 1, 1]) == [0, 10, 20, 0, 10, 20]


@pytest.mark.parametrize(
    ("delay", "spelled"),
    [(10, "10s"), (59, "59s"), (60, "1m0s"), (80, "1m20s"), (160, "2m40s"), (300, "5m0s"), (1, "1s")],
)
def test_the_message_is_kubelets(delay: float, spelled: str) -> None:
    assert message(delay, "c", "web", "default", "u-1") == (
        f"back-off {spelled} restarting failed container=c pod=web_default(u-1)"
    )


RESTARTS = {
    ("Always", 0): True,
    ("Always", 1): True,
    ("OnFailure", 0): False,
    ("OnFailure", 137): True,
    ("Never", 0): False,
    ("Never", 1): False,
}


@pytest.mark.parametrize(("case", "expected"), RESTARTS.items(), ids=map(str, RESTARTS))
def test_who_is_started_again(case: tuple[str, int], expected: bool) -> None:
    policy, code = case
    assert restarts({"policy": policy, "rules": []}, code) is expected


def test_the_waits_of_an_hour_of_crashes_never_shrink() -> None:
    found = waits([0.5] * 20)
    assert all(a <= b for a, b in itertools.pairwise(found)) and found[-1] == 300
