"""What a supervisor lets others see: status.json, and one word to the module that waits for the pod's start."""

from __future__ import annotations

from typing import Any, Callable

from ..kube import lifecycle, podstatus
from .crilog import timestamp
from .files import read_json, write_json
from .podstate import PodState
from .starter import borrow


class Reporter:
    """Writes when something has changed. ready: told, once, that every container was started or why not."""

    __slots__ = ("_announced", "_pod", "_ready")

    def __init__(self, pod: PodState, ready: Callable[[str], None]) -> None:
        self._pod = pod
        self._ready = ready
        self._announced = False

    def write(self) -> None:
        """status.json, if anything has changed; of a pod that is deleted and over there is none any more."""
        pod = self._pod
        if pod.changed and not (pod.ended and pod.deletion):
            pod.changed = False
            borrow(lambda _: self._write())

    def _write(self) -> None:
        """In a starter: status.json as things stand now."""
        pod = self._pod
        file = f"{pod.directory}/status.json"
        old = read_json(file, {}).get("conditions", [])
        inits = [run.view() for run in pod.runs if run.kind in (lifecycle.INIT, lifecycle.SIDECAR)]
        mains = [run.view() for run in pod.runs if run.kind == lifecycle.MAIN]
        failure = None if any(run.pid for run in pod.runs) else pod.failure
        status = podstatus.pod_status(
            pod.config, mains, pod.address, pod.started, timestamp(), old, inits=inits, failure=failure
        )
        added = [run.view() for run in pod.runs if run.kind == lifecycle.EPHEMERAL]
        if added:
            status["ephemeralContainerStatuses"] = [podstatus.ephemeral_status(view) for view in added]
        if not pod.sandbox:
            status["conditions"][0]["status"] = "False"
        if pod.deletion:
            status["deletionTimestamp"] = pod.deletion
        status["podlab"] = self._own()
        write_json(file, status)

    def _own(self) -> dict[str, Any]:
        """What podlab itself wants to know of the pod, beside what Kubernetes shows."""
        pod = self._pod
        return {
            "probes": {run.name: said for run in pod.runs for said in [" ".join(run.said.values())] if said},
            "sandbox": pod.sandbox.id if pod.sandbox else "",
            "attempt": pod.attempt,
            "pause": pod.sandbox.pid if pod.sandbox else 0,
            "pids": {run.name: run.pid for run in pod.runs if run.pid},
        }

    def announce(self) -> None:
        """Tell the module, once, that every container was started or failed to be."""
        if not self._announced:
            self._announced = True
            self._ready("; ".join(text for run in self._pod.runs for text in run.complaints()))
