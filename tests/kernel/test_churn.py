"""Many pods, made and taken away again and again, leave nothing: no process, mount, namespace, link, cgroup or file."""

from __future__ import annotations

import collections
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from podlab.linux import cgroup
from podlab.runtime import pods
from support import runtime

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]

# Raise it by hand: PODLAB_CHURN_PODS=200 ./lab test --floor kernel -k churn
PODS = int(os.environ.get("PODLAB_CHURN_PODS", "20"))
ROUNDS = 10
SLEEP: dict[str, Any] = {"command": ["sleep", "1000"]}
RUN = {"image": "busybox", "command": ["true"]}
SIDE = {"image": "busybox", "command": ["sleep", "1000"], "restartPolicy": "Always"}
MEMORY = {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
DISK = {"name": "disk", "emptyDir": {}}
MOUNTED = {"volumeMounts": [{"name": "memory", "mountPath": "/memory"}, {"name": "disk", "mountPath": "/disk"}]}
Shape = tuple[tuple[dict[str, Any], ...], dict[str, Any]]
# What pods are made of in turn.
SHAPES: tuple[Shape, ...] = (
    ((SLEEP,), {}),
    (({**SLEEP, **MOUNTED}, SLEEP), {"volumes": [MEMORY, DISK]}),
    ((SLEEP, SLEEP), {"shareProcessNamespace": True}),
    (({"command": ["sh", "-c", "trap '' TERM; sleep 1000 & wait"]},), {"terminationGracePeriodSeconds": 0}),
    (({**SLEEP, "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1}},), {}),
    ((SLEEP,), {"hostUsers": False}),
    ((SLEEP,), {"hostNetwork": True, "hostPID": True, "hostIPC": True}),
    (
        ({**SLEEP, "tty": True, "stdin": True},),
        {"initContainers": [{"name": "first", **RUN}, {"name": "side", **SIDE}]},
    ),
    (({**SLEEP, "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}},), {}),
)


def shape(place: int) -> Shape:
    """What the pod of this place is made of; every fifth has a port of the node, too."""
    containers, spec = SHAPES[place % len(SHAPES)]
    if place % 5 == 0 and "hostNetwork" not in spec:
        ports = [{"containerPort": 80, "hostPort": 20000 + place}]
        containers = ({**containers[0], "ports": ports}, *containers[1:])
    return containers, spec


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.used_node(tmp_path_factory.mktemp("lab")) as made:
        # Each once, for what stays of the first of a kind: the chains of host ports, as the CNI plugin's, and filters.
        for containers, spec in map(shape, range(len(SHAPES))):
            made.run_pod(*containers, **spec).delete(0)
        yield made


def kernel_namespaces(lab: runtime.Lab) -> dict[str, list[str]]:
    """Every namespace that a process of the lab is in, by kind."""
    found = collections.defaultdict(set)
    for pid in cgroup.detect().pids(lab.cgroup("")[:-1]):
        for entry in _entries(f"/proc/{pid}/ns"):
            found[entry.partition(":")[0]].add(entry)
    return {f"namespaces of kind {kind}": sorted(names) for kind, names in found.items()}


def _entries(directory: str) -> list[str]:
    try:
        return [os.readlink(f"{directory}/{kind}") for kind in os.listdir(directory)]
    except OSError:
        return []  # it has just ended


def everything(lab: runtime.Lab) -> dict[str, list[str]]:
    """What pods could leave, on the machine and inside of the node."""
    inside = {
        "links of the node": "ip -o link",
        "addresses of the node": "ip -o address",
        "routes of the node": "ip route show table all",
        "addresses given": "ls /run/cni-ipam-state/kindnet | grep -v -e last_reserved -e lock; true",
        "logs of the node": "find /var/log/pods",
        "mounts of the node": "cat /proc/self/mountinfo",
        "rules of the node": "nft --stateless list ruleset; true",
    }
    lines = {what: sorted(lab.in_node("sh", "-c", script).splitlines()) for what, script in inside.items()}
    return {**runtime.trace(lab.name), **kernel_namespaces(lab), **lines}


def descriptors(lab: runtime.Lab) -> dict[str, int]:
    """How many descriptors the processes have that stay: the node's pause and this one."""
    return {str(pid): len(os.listdir(f"/proc/{pid}/fd")) for pid in (lab.record["pid"], os.getpid())}


def test_ten_rounds_of_many_pods_leave_nothing(lab: runtime.Lab) -> None:
    before, held = everything(lab), descriptors(lab)
    for number in range(ROUNDS):
        shapes = enumerate(map(shape, range(PODS)))
        planned = [lab.pod(*made, name=f"r{number}-{place}", **spec) for place, (made, spec) in shapes]
        started = lab.start(*planned)
        assert [pod.said for pod in started] == [""] * PODS
        ends = [pods.ask_to_go(lab.name, pod.uid, 0) for pod in started]
        pods.await_ends(ends, runtime.SECONDS)
        for pod in started:
            pods.clear(lab.name, pod.uid)
        runtime.assert_same(before, everything(lab))
        assert descriptors(lab) == held


def test_the_check_sees_what_is_left(lab: runtime.Lab, tmp_path: pathlib.Path) -> None:
    before = everything(lab)
    (pod,) = lab.start(lab.pod(SLEEP))
    with pytest.raises(AssertionError) as seen:
        runtime.assert_same(before, everything(lab))
    said = str(seen.value)
    for kind in ("processes", "cgroups", "files", "links of the node", "routes of the node", "addresses given"):
        assert f"{kind}: appeared" in said, kind
    for kind in ("net", "ipc", "uts", "pid", "mnt"):
        assert f"namespaces of kind {kind}: appeared" in said, kind
    pod.delete(0)
    runtime.assert_same(before, everything(lab))
