"""`logs`: what a container wrote."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ..errors import PodlabError
from ..kube.podcolumns import TERMINAL
from ..runtime import paths, state
from . import crilogs, lab, pick


def logs(
    word: str,
    *,
    name: str = "",
    namespace: str = "",
    container: str = "",
    follow: bool = False,
    previous: bool = False,
    tail: int | None = None,
    timestamps: bool = False,
) -> None:
    """Print the log of a pod's container: this run's, with `previous` that of the run before.

    word: the pod, as pick.pod takes it. name: the lab. tail: so many last lines. follow: go on until the pod ends.
    Raises PodlabError when there is no such pod, container or run.
    """
    there = lab.read(name)
    picked = pick.pod(there, word, namespace)
    inside = pick.container(picked, container)
    metadata = picked.pod["metadata"]
    node = picked.pod["spec"]["nodeName"]
    directory = paths.pod_log_dir(there["name"], node, metadata["namespace"], picked.name, picked.uid) + f"/{inside}"
    if follow and not previous:
        write(crilogs.follow(directory, lambda: ended(there["name"], picked.uid), tail), timestamps)
        return
    write(crilogs.tail(crilogs.read(_files(picked, inside, directory, previous)), tail), timestamps)


def _files(picked: pick.Picked, inside: str, directory: str, previous: bool) -> list[str]:
    there = crilogs.runs(directory)
    status = pick.container_status(picked, inside)
    current = status.get("restartCount", max(there, default=0))
    if previous:
        # One that waits to be started again has no run of its own yet: its last one is the previous one.
        waits = "waiting" in status.get("state", {}) and "terminated" in status.get("lastState", {})
        run = current if waits else current - 1
        if run not in there:
            raise PodlabError(f'previous terminated container "{inside}" in pod "{picked.name}" not found')
        return there[run]
    if not there:
        state = status.get("state", {})
        reason = (state.get("waiting") or {}).get("reason", "ContainerCreating")
        raise PodlabError(
            f'container "{inside}" in pod "{picked.name}" is waiting to start: {reason}. Try again, or use -f'
        )
    # A container that is about to be restarted still shows its last run.
    return there.get(current) or there[max(there)]


def ended(cluster: str, uid: str) -> bool:
    """True when the pod is gone or will write no more."""
    for item in state.read_pods(cluster):
        if item["pod"]["metadata"]["uid"] == uid:
            return item["status"].get("phase") in TERMINAL or not item["alive"]
    return True


def write(lines: Iterable[crilogs.Line], timestamps: bool) -> None:
    """The lines on standard output as they come, as bytes: a container may write what is no UTF-8."""
    sys.stdout.flush()
    out = sys.stdout.buffer
    try:
        for line in lines:
            out.write(line.time + b" " + line.text if timestamps else line.text)
            out.flush()
    except KeyboardInterrupt:
        # The way to end -f.
        return
