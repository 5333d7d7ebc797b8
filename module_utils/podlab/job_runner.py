"""What the watcher has done for the lab's Jobs: pods made and deleted, Jobs whose time is up removed.

A process for one turn: it holds the lab, plans as `up` does, takes what concerns Jobs, and has podlab_pod's own plan do
it. What it says and its exit code are for the watcher to read.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import PodlabError, refuse
from .kube import configs, objects, plan
from .kube.cluster import Cluster
from .kube.manifests import key
from .kube.removal import Existing
from .kube.workloads import Past, known, owner_of, turn
from .pod_plan import Pods, Request
from .runtime import lock, paths
from .runtime.files import read_json, write_json
from .runtime.state import read_state

Object = Mapping[str, Any]


def act(cluster: str, now: float) -> None:
    """One turn for every Job of the lab. Raises PodlabError with all that cannot be done."""
    state = read_state(cluster)
    if not state["cluster"]:
        return
    past = Past(state["jobs"], now)
    store = _without_expired(cluster, state, past)
    made = plan.plan(store, Cluster.from_dict(state["cluster"]), state["pods"], past=past)
    shown, secrets = configs.part(store)
    there = {entry["pod"]["metadata"]["uid"]: entry["pod"] for entry in state["pods"]}
    wanted = {pod["metadata"]["uid"]: pod for pod in _of_jobs(made.pods)}
    given = {
        "cluster": state["cluster"],
        "services": list(made.services),
        "config_maps": [thing for thing in objects.objects(shown) if thing["kind"] == "ConfigMap"],
        "secrets": secrets,
        "exclusive": False,
        "grace_period": None,
        "wait": False,
        **read_json(paths.launch_file(cluster), {"images": {}, "max_container_restart_period": 300}),
    }
    unwanted = [pod for pod in _of_jobs(there.values()) if pod["metadata"]["uid"] not in wanted]
    new = [pod for uid, pod in wanted.items() if uid not in there]
    for state_word, pods in (("absent", unwanted), ("present", new)):
        if pods:
            pods_plan = Pods(Request({**given, "pods": pods, "state": state_word}))
            pods_plan.apply(pods_plan.items())
    refuse(problem for problem in made.problems if problem.level == "error")


def _of_jobs(pods: Iterable[Any]) -> list[dict[str, Any]]:
    return [pod for pod in pods for owner in pod["metadata"].get("ownerReferences") or [] if owner["kind"] == "Job"]


def _without_expired(cluster: str, state: Object, past: Past) -> Object:
    """The store without the Jobs whose ttlSecondsAfterFinished is over; it is written down before their pods go."""
    store: Object = state["objects"]
    gone = set()
    for thing in map(known, store["objects"]):
        owner = owner_of(thing, Cluster.from_dict(state["cluster"])) if thing["kind"] == "Job" else None
        if owner:
            every = (Existing(entry["pod"], entry["status"]) for entry in state["pods"])
            if turn(owner, [item for item in every if item.owner == owner.uid], past).expired:
                gone.add(key(thing))
    if gone:
        # The data of Secrets is in a file of its own.
        write_json(paths.objects_file(cluster), objects.delete(read_json(paths.objects_file(cluster)), gone)[0])
    return objects.delete(store, gone)[0]


def main(cluster: str) -> None:
    """Act when nobody else changes the lab. Exits with 1 after saying what went wrong."""
    try:
        with lock.alone(cluster) as free:
            if free:
                act(cluster, time.time())
    except (OSError, PodlabError) as fault:
        print(str(fault) or repr(fault))
        sys.exit(1)
