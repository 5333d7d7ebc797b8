"""The prober when a probe cannot even begin."""

from __future__ import annotations

import os
from typing import Any

from podlab.runtime.prober import Owner, Prober
from podlab.runtime.run import Run
from support.limits import no_descriptors

TCP = {"kind": "tcp", "host": "127.0.0.1", "port": 1, "timeout": 1}
SPEC = {**TCP, "initial_delay": 0, "period": 10, "success": 1, "failure": 1}


class Loop:
    """A loop whose time the test turns on."""

    def __init__(self) -> None:
        self.time = 0.0
        self.next: Any = None

    def at(self, delay: float, action: Any) -> None:
        self.next = (self.time + delay, action)

    def turn(self) -> None:
        self.time, action = self.next
        action()


def test_a_machine_without_room_for_a_probe_says_nothing_of_the_container() -> None:
    """No verdict, no process or descriptor left, and the next probe in its time: the supervisor must live on."""
    run = Run({"name": "web", "probes": {"liveness": SPEC}})
    loop = Loop()
    failed: list[str] = []
    nothing: Any = lambda *_: None  # noqa: E731
    owner = Owner(nothing, lambda _run, kind: failed.append(kind), lambda: "127.0.0.1", nothing, set, nothing)
    prober = Prober([run], loop, lambda: loop.time, owner)  # type: ignore[arg-type]
    run.pid = os.getpid()
    prober.begin(run)
    with no_descriptors():
        loop.turn()
    first = loop.time
    assert run.said == {"liveness": "Liveness probe errored: [Errno 24] Too many open files"}
    assert not failed and loop.next[0] == first + SPEC["period"]
