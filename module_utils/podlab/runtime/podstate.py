"""What the parts of a supervisor share: its pod as it stands. Each part changes what is its own and says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from . import paths
from .crilog import timestamp
from .loop import Loop
from .run import Run
from .sandbox import Sandbox


class PodState:
    """One pod, as its supervisor knows it. now: the clock that everything but timestamps goes by."""

    __slots__ = (
        "address",
        "attempt",
        "changed",
        "config",
        "deletion",
        "directory",
        "ended",
        "loop",
        "now",
        "runs",
        "sandbox",
        "started",
    )

    def __init__(self, config: Mapping[str, Any], now: Callable[[], float]) -> None:
        self.config = config
        self.now = now
        self.loop = Loop(now)
        self.directory = paths.pod_dir(config["cluster"], config["uid"])
        self.runs = [Run(entry) for entry in config["containers"]]
        self.sandbox: Sandbox | None = None
        # How many sandboxes there were before this one.
        self.attempt = 0
        self.address = ""
        self.started = timestamp()
        # When it was asked to go; "" while nobody has.
        self.deletion = ""
        # status.json is to be written.
        self.changed = True
        # No container will run again, and nothing of it is left.
        self.ended = False

    def at(self, delay: float, action: Callable[[], None]) -> None:
        """Call action after so many seconds, unless the pod has ended by then; what it does changes the status."""

        def act() -> None:
            if not self.ended:
                self.changed = True
                action()

        self.loop.at(delay, act)

    def touch(self) -> None:
        """The status is to be written."""
        self.changed = True

    def children(self) -> set[int]:
        """Pids of the supervisor's children that live as long as the pod does."""
        pids = {run.pid for run in self.runs if run.pid}
        return pids | {self.sandbox.pid} if self.sandbox else pids
