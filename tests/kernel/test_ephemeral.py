"""Ephemeral containers in pods that run: through the same door as every other, in the pod's namespaces."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from podlab.errors import PodlabError
from podlab.kube import ephemeral, podspec
from podlab.kube.ephemeral import Asked
from podlab.pod_plan import machine
from podlab.runtime import pods, requests
from support import runtime

pytestmark = pytest.mark.kernel
SLEEP = {"command": ["sleep", "1000"]}
PTRACE = 1 << 19


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.one_node(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="module")
def pod(lab: runtime.Lab) -> runtime.Pod:
    made = lab.run_pod(
        SLEEP,
        {**SLEEP, "securityContext": {"runAsUser": 1000}},
        securityContext={"seccompProfile": {"type": "RuntimeDefault"}},
    )
    assert made.said == ""
    return made


def add(pod: runtime.Pod, name: str, *command: str, **asked: Any) -> Mapping[str, Any]:
    """Add a container as `debug` does; return its status."""
    new = ephemeral.container(Asked("busybox", command or ("sleep", "1000"), name, **asked), pod.pod)
    around = podspec.surroundings(pod.pod, pod.lab.cluster.nodes[0], pod.lab.cluster, (), pod.lab.images, machine())
    pods.spool(pod.lab.name, pod.uid, pod.config["node"], ephemeral.config(new, around))
    requests.ask(pod.directory, ["ephemeral"], [])[0].close()
    return status(pod, name)


def status(pod: runtime.Pod, name: str) -> Mapping[str, Any]:
    found = pod.status().get("ephemeralContainerStatuses", ())
    return next((each for each in found if each["name"] == name), {})


def links(pid: int) -> dict[str, str]:
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("net", "ipc", "uts", "pid", "mnt", "cgroup")}


def test_in_the_pods_namespaces_with_processes_of_its_own(pod: runtime.Pod) -> None:
    assert "running" in add(pod, "own")["state"]
    mine, others = links(pod.pid("own")), links(pod.pid("c0"))
    assert {kind for kind in mine if mine[kind] == others[kind]} >= {"net", "ipc", "uts"}
    assert mine["pid"] != others["pid"] and mine["mnt"] != others["mnt"]
    caps = pathlib.Path(f"/proc/{pod.pid('own')}/status").read_text().partition("CapBnd:\t")[2].split()[0]
    assert int(caps, 16) & PTRACE
    assert "Seccomp:\t2\n" in pathlib.Path(f"/proc/{pod.pid('own')}/status").read_text()
    # exec goes in, too; and what it is, it got by the same door.
    assert pod.exec("cat", "/proc/1/comm", container="own").out == "sleep\n"
    assert pod.container("c0")["restartCount"] == 0


def test_target(pod: runtime.Pod) -> None:
    """It sees the target's processes, and may look into its root: that is what it is for."""
    add(pod, "looker", target="c1", profile="sysadmin")
    assert links(pod.pid("looker"))["pid"] == links(pod.pid("c1"))["pid"]
    seen = pod.sh("cat /proc/1/comm; ls /proc/1/root/bin | grep -c '^sh$'", "looker")
    assert seen.split() == ["sleep", "1"]


def test_a_terminal_to_attach_to(pod: runtime.Pod) -> None:
    add(pod, "shell", "sh", stdin=True, tty=True)
    assert pod.sh("readlink /proc/1/fd/0", "shell") == "/dev/pts/0\n"


def test_it_is_never_started_again(pod: runtime.Pod) -> None:
    add(pod, "short", "sh", "-c", "echo bye; exit 3")
    pod.until(lambda pod: "terminated" in status(pod, "short")["state"])
    ended = status(pod, "short")
    assert (ended["state"]["terminated"]["exitCode"], ended["restartCount"], ended["ready"]) == (3, 0, False)
    assert pod.log("short") == "bye\n"
    assert pod.status()["phase"] == "Running"
    assert all(each["ready"] for each in pod.status()["containerStatuses"])
    # Asked again for what is there, it does nothing.
    requests.ask(pod.directory, ["ephemeral"], [])[0].close()
    assert status(pod, "short")["restartCount"] == 0


def test_what_cannot_start_says_why(pod: runtime.Pod) -> None:
    add(pod, "broken", "/no/such")
    state = status(pod, "broken")["state"]["terminated"]
    assert (state["reason"], state["exitCode"]) == ("StartError", 128)


def test_it_survives_the_restart_of_another_and_goes_with_the_pod(lab: runtime.Lab) -> None:
    other = lab.run_pod(SLEEP)
    before = runtime.trace(lab.name)["descriptors"]
    add(other, "d", target="")
    pid = other.pid("d")
    os.kill(other.pid("c0"), 9)
    other.until(lambda pod: pod.container().get("restartCount") == 1)
    assert other.pid("d") == pid
    other.delete(0)
    runtime.wait_for_end([pid])
    assert not os.path.exists(other.directory)
    assert runtime.trace(lab.name)["descriptors"] == before


def test_a_pod_that_has_finished_takes_it_along(lab: runtime.Lab) -> None:
    """It keeps no pod alive: with the last container it is ended."""
    other = lab.run_pod({"command": ["sh", "-c", "while [ ! -e /go ]; do sleep 0.1; done"]}, restartPolicy="Never")
    add(other, "d")
    other.sh("touch /go")
    supervisor = other.supervisor()
    other.until(lambda pod: pod.status()["phase"] == "Succeeded" and "terminated" in status(pod, "d")["state"])
    runtime.wait_for_end([supervisor])
    with pytest.raises(PodlabError, match="the pod's supervisor does not answer"):
        requests.ask(other.directory, ["ephemeral"], [])


def test_pause_takes_it_along_and_it_does_not_come_back(lab: runtime.Lab) -> None:
    other = lab.run_pod(SLEEP)
    add(other, "d")
    os.kill(other.pause(), 9)
    other.until(lambda pod: pod.container().get("restartCount") == 1 and "terminated" in status(pod, "d")["state"])
    assert set(other.status()["podlab"]["pids"]) == {"c0"}
    other.delete(0)


def test_in_a_user_namespace_of_the_pods(lab: runtime.Lab) -> None:
    other = lab.run_pod(SLEEP, hostUsers=False)
    add(other, "d", target="c0")
    assert os.readlink(f"/proc/{other.pid('d')}/ns/user") == os.readlink(f"/proc/{other.pid()}/ns/user")
    assert links(other.pid("d"))["pid"] == links(other.pid())["pid"]
    assert other.exec("sh", "-c", "echo out > /dev/stdout", container="d").out == "out\n"
    other.delete(0)
