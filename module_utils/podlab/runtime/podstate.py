"""What the parts of a supervisor share: its pod as it stands. Each part changes what is its own and says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from ..kube import lifecycle
from . import command, containerenv, paths
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
        "failure",
        "helpers",
        "loop",
        "now",
        "over",
        "runs",
        "sandbox",
        "started",
    )

    def __init__(self, config: Mapping[str, Any], now: Callable[[], float]) -> None:
        self.config = config
        self.now = now
        self.loop = Loop(now)
        self.directory = paths.pod_dir(config["cluster"], config["uid"])
        self.runs = _runs(config)
        self.sandbox: Sandbox | None = None
        # How many sandboxes there were before this one.
        self.attempt = 0
        self.address = ""
        self.started = timestamp()
        # When it was asked to go; "" while nobody has.
        self.deletion = ""
        # Nothing is started any more; what runs is being ended.
        self.over = False
        # Why it has failed as a whole: reason and message.
        self.failure: tuple[str, str] | None = None
        # Pids of the hooks that are under way.
        self.helpers: set[int] = set()
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

    def every(self) -> list[Run]:
        """The pod's containers of every kind."""
        return [*self.runs]

    def touch(self) -> None:
        """The status is to be written."""
        self.changed = True

    def children(self) -> set[int]:
        """Pids of the supervisor's children that it knows of, its probes apart."""
        pids = {run.pid for run in self.runs if run.pid} | self.helpers
        return pids | {self.sandbox.pid} if self.sandbox else pids

    def target(self, run: Run) -> command.Target:
        """A running container, for a command in it."""
        facts = {"status.podIP": self.address, "status.podIPs": self.address}
        environment = containerenv.pairs(self.config, run.config, facts)
        return command.Target(run.config, f"{self.config['cgroup_parent']}/{run.id}", run.pid, environment)


def _runs(config: Mapping[str, Any]) -> list[Run]:
    """All containers in the order of the spec, init containers first."""
    inits = config.get("init_containers") or []
    waiting = "PodInitializing" if inits else "ContainerCreating"
    made = [Run(entry, lifecycle.SIDECAR if entry["sidecar"] else lifecycle.INIT, waiting) for entry in inits]
    return made + [Run(entry, lifecycle.MAIN, waiting) for entry in config["containers"]]
