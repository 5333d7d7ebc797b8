"""Where a pod's containers are on this machine: their cgroups, and their first processes by the machine's numbers."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import PodlabError
from ..linux import cgroup, process
from ..runtime import paths
from ..runtime.files import read_json
from . import pick

PAUSE = "pause"
SCHEME = "podlab://"


class Inside(NamedTuple):
    """A container of a pod, or its pause. pid: its first process; 0 when it does not run. cgroup: its path."""

    name: str
    pid: int
    cgroup: str


class Placed(NamedTuple):
    """A pod's cgroup, its pause and its containers, in the order of its spec."""

    cgroup: str
    pause: Inside
    containers: tuple[Inside, ...]


def placed(lab: str, picked: pick.Picked, trees: cgroup.Hierarchies | None = None) -> Placed:
    """Where the pod is. Raises PodlabError when its runtime config is gone."""
    own = _own(lab, picked)
    known = (trees or cgroup.detect()).single()
    # In the node's numbers, which are what the supervisor has written down.
    numbers = {pid: process.ns_pids(pid) for pid in known.pids(own)}
    by_inner = {inner[1]: pid for pid, inner in numbers.items() if len(inner) > 1}
    noted = picked.status.get("podlab") or {}
    first = noted.get("pids") or {}
    pause = Inside(PAUSE, by_inner.get(noted.get("pause", 0), 0), f"{own}/{noted.get('sandbox', '')}".rstrip("/"))
    return Placed(
        own, pause, tuple(each._replace(pid=by_inner.get(first.get(each.name, 0), 0)) for each in cgroups(lab, picked))
    )


def cgroups(lab: str, picked: pick.Picked) -> list[Inside]:
    """The pod's containers that have been started, without their pids. Raises PodlabError as placed."""
    own = _own(lab, picked)
    statuses = [each for key in pick.STATUSES for each in picked.status.get(key) or []]
    return [
        Inside(each["name"], 0, f"{own}/{each['containerID'].replace(SCHEME, '', 1)}")
        for each in statuses
        if each.get("containerID")
    ]


def _own(lab: str, picked: pick.Picked) -> str:
    """The pod's cgroup."""
    config = read_json(f"{paths.pod_dir(lab, picked.uid)}/config.json", {})
    if not config:
        raise PodlabError(f"pod {picked.name} has just gone. See ./lab get pods -A")
    return f"{paths.node_cgroup(lab, config['node'])}/{config['cgroup_parent']}"
