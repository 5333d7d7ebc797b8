"""`debug`: an ephemeral container in a pod that runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from ..errors import PodlabError, Problem, refuse
from ..image_plan import Planner, Want
from ..kube import ephemeral, podspec
from ..kube.cluster import Cluster
from ..kube.ephemeral import Asked
from ..kube.yamltree import path_text
from ..pod_plan import machine
from ..runtime import paths, pods, requests
from ..runtime.files import read_json, write_json
from . import attach, lab, logs, pick

__all__ = ["Asked", "debug"]


def debug(word: str, asked: Asked, *, name: str = "", namespace: str = "") -> None:
    """Add an ephemeral container to a pod; with stdin attach to it, or show what it wrote when it has ended by then.

    word: the pod, as pick.pod takes it. name: the lab.
    Raises PodlabError when there is no such pod, it does not run, or the container is not a valid one.
    """
    if not asked.image:
        raise PodlabError("debug: you must specify an image: debug POD --image IMAGE")
    if asked.profile not in ephemeral.PROFILES:
        raise PodlabError(f"--profile {asked.profile}: there is none. Use one of: {', '.join(ephemeral.PROFILES)}")
    if asked.tty and not asked.stdin:
        raise PodlabError("-i/--stdin is required for containers with -t/--tty=true")
    state = lab.whole(name)
    picked = pick.pod(state, word, namespace)
    _running(picked)
    new = ephemeral.container(_named(asked, picked.pod), picked.pod)
    refuse((Problem(path_text(found.path), found.message, found.remedy) for found in ephemeral.check(new, picked.pod)),
           f"Cannot debug pod {picked.name}")  # fmt: skip
    _add(state, picked, new)
    if asked.stdin:
        _attach(word, new["name"], asked, state["name"], namespace)


def _running(picked: pick.Picked) -> None:
    phase = picked.status.get("phase", "Unknown")
    if not picked.alive or phase != "Running" or picked.status.get("deletionTimestamp"):
        raise PodlabError(
            f"cannot debug pod {picked.name}: it does not run; current phase is {phase}. See ./lab get pods"
        )


def _named(asked: Asked, pod: Mapping[str, Any]) -> Asked:
    if asked.target:
        print(f'Targeting container "{asked.target}".', file=sys.stderr)
    if asked.name:
        return asked
    name = ephemeral.made_up(ephemeral.taken(pod))
    print(f"Defaulting debug container name to {name}.", file=sys.stderr)
    return asked._replace(name=name)


def _add(state: Mapping[str, Any], picked: pick.Picked, new: Mapping[str, Any]) -> None:
    """Have the image, tell the supervisor, and note the container in the pod's object.

    Raises PodlabError when there is no such image, or the supervisor refuses.
    """
    directory = paths.pod_dir(state["name"], picked.uid)
    pods.spool(state["name"], picked.uid, picked.pod["spec"]["nodeName"], _config(state, picked.pod, new))
    there = read_json(f"{directory}/pod.json")
    added = [*(there["spec"].get("ephemeralContainers") or []), dict(new)]
    write_json(f"{directory}/pod.json", {**there, "spec": {**there["spec"], "ephemeralContainers": added}})
    try:
        connection, _ = requests.ask(directory, ["ephemeral"], [])
    except PodlabError:
        write_json(f"{directory}/pod.json", there)
        pods.unspool(state["name"], picked.uid, new["name"])
        raise
    connection.close()


def _config(state: Mapping[str, Any], pod: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    cluster = Cluster.from_dict(state["cluster"])
    node = next(node for node in cluster.nodes if node.name == pod["spec"]["nodeName"])
    services = state["services"].get("services") or []
    images = _image(new["image"], new["imagePullPolicy"])
    return ephemeral.config(new, podspec.surroundings(pod, node, cluster, services, images, machine()))


def _image(reference: str, policy: str) -> dict[str, Any]:
    """What podlab_image would say of it, which is had now. Raises PodlabError when it cannot be had."""
    planner = Planner([Want(reference, policy, "present")])
    planner.apply(planner.plan())
    return planner.state()


def _attach(word: str, container: str, asked: Asked, name: str, namespace: str) -> None:
    try:
        attach.attach(word, name=name, namespace=namespace, container=container, stdin=True, tty=asked.tty)
    except PodlabError:
        state = pick.container_status(pick.pod(lab.read(name), word, namespace), container).get("state") or {}
        told: Mapping[str, Any] = next(iter(state.values()), {})
        if told.get("message"):
            raise PodlabError(f"container {container} does not run: {told['reason']}: {told['message']}") from None
        # As kubectl: of one that has ended, what it wrote.
        logs.logs(word, name=name, namespace=namespace, container=container)
