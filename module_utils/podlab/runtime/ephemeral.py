"""The request "ephemeral" on the supervisor's side: containers that come while the pod runs."""

from __future__ import annotations

from typing import Any, Callable

from ..errors import PodlabError
from ..kube import lifecycle
from ..linux import process
from .files import read_json
from .podstate import PodState
from .requests import Answer
from .run import Run
from .runner import Runner
from .starter import borrow

FILE = "ephemeral.json"


def read(directory: str) -> list[dict[str, Any]]:
    """The runtime configurations of the ephemeral containers that the pod was given, in their order."""
    return list(read_json(f"{directory}/{FILE}", {}).get("containers", []))


class Ephemeral:
    """Starts what is new in ephemeral.json. It is never started again, whatever becomes of it.

    report: writes the status, so that who asked finds it there.
    """

    __slots__ = ("_pod", "_report", "_runner")

    def __init__(self, pod: PodState, runner: Runner, report: Callable[[], None]) -> None:
        self._pod = pod
        self._runner = runner
        self._report = report

    def serve(self, _words: list[str], _fds: list[int]) -> Answer:
        """Start them. What cannot be started shows in the status. Raises PodlabError when the pod is ending."""
        pod, held = self._pod, self._pod.sandbox
        if pod.over or held is None or process.exiting(held.pid):
            raise PodlabError("the pod is not running, or not any more")
        known = {run.name for run in pod.runs}
        entries = borrow(lambda _: {"containers": read(pod.directory)})["containers"]
        new = [Run(entry, lifecycle.EPHEMERAL) for entry in entries if entry["name"] not in known]
        pod.runs.extend(new)
        self._runner.start(new, {"pid": held.pid, "address": held.address})
        pod.touch()
        self._report()
        return Answer([])
