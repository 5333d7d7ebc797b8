"""What a supervisor remembers of one container of its pod, through its runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..kube.backoff import BackOff
from ..kube.probes import Probes
from .crilog import Log


class Run:
    """One container of the pod through its runs."""

    __slots__ = (
        "back_off",
        "began",
        "condemned",
        "config",
        "id",
        "last_state",
        "log",
        "outputs",
        "pid",
        "pidfd",
        "probes",
        "restart_count",
        "restarts",
        "said",
        "started_at",
        "state",
    )

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.state: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}
        self.last_state: dict[str, Any] = {}
        self.restart_count = 0
        self.restarts = True
        self.back_off = BackOff()
        self.id = ""
        self.pid = 0
        self.pidfd = -1
        self.outputs: dict[int, str] = {}
        self.log: Log | None = None
        self.probes = Probes(config.get("probes") or {})
        # What the latest probe of each kind had to say, when it was not that all is well.
        self.said: dict[str, str] = {}
        # It is being stopped because a probe failed: it is started again even if it ends well.
        self.condemned = False
        self.began = 0.0
        self.started_at = ""

    @property
    def name(self) -> str:
        return str(self.config["name"])

    def view(self) -> dict[str, Any]:
        """What kube.podstatus wants to know."""
        return {
            "name": self.name,
            "image": self.config["image"],
            "image_id": self.config["image_id"],
            "id": self.id,
            "state": self.state,
            "last_state": self.last_state,
            "restart_count": self.restart_count,
            "restarts": self.restarts,
            "started": self.probes.started,
            "ready": self.probes.ready,
        }

    def exit_code(self) -> int:
        """How its latest run ended; 1 when it has never run."""
        for state in (self.state, self.last_state):
            if "terminated" in state:
                return int(state["terminated"]["exitCode"])
        return 1

    def complaints(self) -> list[str]:
        """Why it does not run, for a person."""
        states = [state for state in self.state.values() if state.get("message")]
        return [f"{self.name}: {state.get('reason')}: {state['message']}" for state in states]
