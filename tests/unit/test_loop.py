"""The supervisor's loop, driven by a clock that the test moves."""

from __future__ import annotations

import os

from podlab.runtime.loop import Loop


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_actions_come_in_the_order_of_their_times() -> None:
    clock, said = Clock(), list[str]()
    loop = Loop(clock)
    loop.at(20, lambda: said.append("c"))
    loop.at(10, lambda: said.append("a"))
    loop.at(10, lambda: said.append("b"))
    loop.at(300, lambda: said.append("later"))
    clock.seconds = 20
    loop.step()
    assert said == ["a", "b", "c"]
    clock.seconds = 10_000
    loop.step()
    assert said[3:] == ["later"]


def test_an_action_may_set_another() -> None:
    clock, said = Clock(), list[str]()
    loop = Loop(clock)

    def first() -> None:
        said.append("first")
        loop.at(5, lambda: said.append("second"))

    loop.at(1, first)
    clock.seconds = 3
    loop.step()
    clock.seconds = 8
    loop.step()
    assert said == ["first", "second"]


def test_a_handler_is_called_for_its_descriptor_only_while_it_is_watched() -> None:
    clock, said = Clock(), list[str]()
    loop = Loop(clock)
    (one, to_one), (other, to_other) = os.pipe(), os.pipe()

    def stop_the_other() -> None:
        said.append("one")
        os.read(one, 1)
        loop.unwatch(other)

    loop.watch(one, stop_the_other)
    loop.watch(other, lambda: said.append("other"))
    os.write(to_one, b"x")
    os.write(to_other, b"x")
    loop.step()
    # What is due at once keeps the second step from waiting.
    loop.at(0, lambda: None)
    loop.step()
    for fd in (one, to_one, other, to_other):
        os.close(fd)
    assert said == ["one"]
