"""What a supervisor remembers of one container of its pod, through its runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..kube import lifecycle
from ..kube.backoff import BackOff
from ..kube.probes import Probes
from ..kube.stopping import Stop
from .audience import Audience
from .crilog import Log


class Run:
    """One container of the pod through its runs, as kube.lifecycle wants to see it.

    waiting: the reason while it never ran.
    """

    __slots__ = (
        "audience",
        "back_off",
        "began",
        "begun",
        "condemned",
        "config",
        "hooked",
        "id",
        "kind",
        "last_state",
        "log",
        "not_before",
        "outputs",
        "pid",
        "pidfd",
        "post_start",
        "probes",
        "restart_count",
        "restarts",
        "said",
        "started_at",
        "state",
        "stdin",
        "stop",
    )

    def __init__(
        self, config: Mapping[str, Any], kind: str = lifecycle.MAIN, waiting: str = "ContainerCreating"
    ) -> None:
        self.config = config
        self.kind = kind
        self.state: dict[str, Any] = {"waiting": {"reason": waiting}}
        self.last_state: dict[str, Any] = {}
        self.restart_count = 0
        # A run of it began in the sandbox that there is.
        self.begun = False
        # It is to be started when it does not run, but not before this time.
        self.restarts = True
        self.not_before = 0.0
        self.back_off = BackOff()
        self.id = ""
        self.pid = 0
        self.pidfd = -1
        self.outputs: dict[int, str] = {}
        # Where it reads from, -1 for nothing; of a terminal the same as its output. Who is attached.
        self.stdin = -1
        self.audience: Audience | None = None
        self.log: Log | None = None
        self.probes = Probes(config.get("probes") or {})
        # What the latest probe or hook of each kind had to say, when it was not that all is well.
        self.said: dict[str, str] = {}
        # It is being stopped because a probe failed: it is started again even if it ends well.
        self.condemned = False
        # Its postStart hook has not returned, or has failed: nothing else of the pod is started meanwhile.
        self.post_start = False
        # How it is being ended; hooked: its preStop hook is under way.
        self.stop: Stop | None = None
        self.hooked = False
        self.began = 0.0
        self.started_at = ""

    @property
    def name(self) -> str:
        return str(self.config["name"])

    def hook(self, kind: str) -> Mapping[str, Any] | None:
        """Its hook of a kind (post_start, pre_stop), if it has one."""
        found: Mapping[str, Any] | None = self.config.get("hooks", {}).get(kind)
        return found

    @property
    def running(self) -> bool:
        return self.pid != 0

    @property
    def started(self) -> bool:
        return self.probes.started

    @property
    def succeeded(self) -> bool:
        return self.exit_code() == 0

    def view(self) -> dict[str, Any]:
        """What kube.podstatus wants to know."""
        done = self.kind == lifecycle.INIT and "terminated" in self.state and self.exit_code() == 0
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
            "ready": self.probes.ready if self.kind != lifecycle.INIT else done,
            "sidecar": self.kind == lifecycle.SIDECAR,
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
