"""security.md row 10: whatever door a process comes in by, it is what the container's first process is.

The doors: start, exec, exec -it, an exec probe, a postStart hook, and for an ephemeral container its start against its
exec. Each container writes down what it finds of itself, by the same script.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from podlab.runtime import volumes
from support import runtime
from support.waiting import until

pytestmark = pytest.mark.kernel

# busybox' shell changes nothing of this for what it runs, but SHLVL.
FACTS = r"""
umask
grep -E '^(Cap|NoNewPrivs|Seccomp|Uid|Gid|Groups|Umask|SigIgn|SigBlk|SigCgt)' /proc/self/status
for kind in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$kind; done
cat /proc/self/cgroup /proc/self/oom_score_adj /proc/self/limits
cat /proc/self/personality 2>/dev/null
cut -d' ' -f19 /proc/self/stat
pwd
env | grep -vE '^(SHLVL|_|TERM)=' | sort
"""
CONTEXTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "restricted": {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "user": {"runAsUser": 1000, "runAsGroup": 2000, "capabilities": {"add": ["NET_ADMIN"], "drop": ["MKNOD"]}},
    "privileged": {"privileged": True},
}
DOORS = ("start", "hook", "probe")


def written(door: str) -> list[str]:
    """A command that writes the facts, whole or not at all."""
    return ["sh", "-c", f"({FACTS}) > /out/.{door} && mv /out/.{door} /out/{door}"]


def container(name: str, context: dict[str, Any]) -> dict[str, Any]:
    start = ["sh", "-c", f"{written('start')[2]}; exec sleep 1000"]
    return {
        "name": name,
        "command": start,
        "workingDir": "/tmp",
        "env": [{"name": "A", "value": "b c"}, {"name": "HOME", "value": "/home"}],
        "securityContext": context,
        "volumeMounts": [{"name": name, "mountPath": "/out"}],
        "lifecycle": {"postStart": {"exec": {"command": written("hook")}}},
        "readinessProbe": {"exec": {"command": written("probe")}, "periodSeconds": 1},
        "resources": {"requests": {"memory": "64Mi"}, "limits": {"cpu": "1"}},
    }


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.one_node(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="module")
def pods(lab: runtime.Lab) -> dict[str, runtime.Pod]:
    """One pod of all contexts, and one with a user namespace."""
    given = {"securityContext": {"supplementalGroups": [3000]}}
    every = [container(name, context) for name, context in CONTEXTS.items()]
    mapped = [container("mapped", {"runAsUser": 1000})]
    made = [
        lab.pod(*every, volumes=[{"name": name, "emptyDir": {}} for name in CONTEXTS], **given),
        lab.pod(*mapped, volumes=[{"name": "mapped", "emptyDir": {}}], hostUsers=False, **given),
    ]
    usual, other = lab.start(*made)
    assert (usual.said, other.said) == ("", "")
    return {**dict.fromkeys(CONTEXTS, usual), "mapped": other}


def facts(pod: runtime.Pod, name: str, door: str) -> list[str]:
    """What was written at one door, when it has been."""
    with contextlib.suppress(FileNotFoundError):
        return pathlib.Path(volumes.path_of(pod.config, name), door).read_text().splitlines()
    return []


@pytest.mark.parametrize("name", [*CONTEXTS, "mapped"])
def test_row_10_every_door_leads_to_the_same(pods: dict[str, runtime.Pod], name: str) -> None:
    pod = pods[name]
    until(lambda: all(facts(pod, name, door) for door in DOORS), "not every door was used")
    first = facts(pod, name, "start")
    assert len(first) > 40 and "A=b c" in first and "/tmp" in first
    assert facts(pod, name, "hook") == first
    assert facts(pod, name, "probe") == first
    assert pod.exec("sh", "-c", FACTS, container=name).out.splitlines() == first
    assert pod.exec("sh", "-c", FACTS, container=name, stdin="", terminal=True).out.splitlines() == first


def test_the_contexts_do_differ(pods: dict[str, runtime.Pod]) -> None:
    """The facts tell one container's rights from another's: the comparison above could fail."""
    kept = [tuple(facts(pods[name], name, "start")[:12]) for name in [*CONTEXTS, "mapped"]]
    assert len(set(kept)) == len(kept)


def test_a_paused_container_is_not_entered(pods: dict[str, runtime.Pod], lab: runtime.Lab) -> None:
    """R exec "refuse a paused container": the command would stop in the middle of its way."""
    pod = pods["mapped"]
    identity = pod.container("mapped")["containerID"].removeprefix("podlab://")
    path = lab.cgroup(f"{pod.config['cgroup_parent']}/{identity}")
    files = [f"/sys/fs/cgroup/freezer/{path}/freezer.state", f"/sys/fs/cgroup/{path}/cgroup.freeze"]
    [file] = [file for file in files if os.path.exists(file)]
    frozen, thawed = ("FROZEN", "THAWED") if file.endswith("state") else ("1", "0")
    pathlib.Path(file).write_text(frozen)
    try:
        ran = pod.exec("true", container="mapped")
    finally:
        pathlib.Path(file).write_text(thawed)
    assert (ran.code, ran.err) == (1, "refused: cannot exec in a paused container: thaw mapped first\n")
    assert pod.exec("true", container="mapped").code == 0
