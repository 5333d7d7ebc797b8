"""A pod's life: restarts, back-off, ends and their reasons, deletion, and what kills what."""

from __future__ import annotations

import contextlib
import os
import pathlib
import select
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from podlab.linux import cgroup, netns, process, syscalls
from podlab.linux.netlink import Netlink
from podlab.runtime import paths, pods, sandbox
from podlab.runtime.state import read_pods
from support import runtime
from support.waiting import until

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]
SLEEP = {"command": ["sleep", "1000"]}
# Fails the first time, ends well the second, stays the third (Kubernetes' test/e2e/common/node/runtime.go).
THREE_RUNS = (
    "n=$(cat /data/n 2>/dev/null || echo 0); n=$((n + 1)); echo $n > /data/n; echo run $n\n"
    "case $n in 1) exit 1 ;; 2) exit 0 ;; *) sleep 1000 ;; esac"
)
DATA = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
GRACEFUL = "trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.1; done"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.used_node(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(autouse=True)
def gone(lab: runtime.Lab) -> Iterator[None]:
    with runtime.nothing_left(lab):
        yield


def script(text: str, **more: Any) -> dict[str, Any]:
    return {"command": ["sh", "-c", text], **more}


ORACLE = [
    ("Always", "Running", "running", 2, True),
    ("OnFailure", "Succeeded", "terminated", 1, False),
    ("Never", "Failed", "terminated", 0, False),
]


@pytest.mark.parametrize(("policy", "phase", "state", "restarts", "ready"), ORACLE, ids=[row[0] for row in ORACLE])
def test_restart_policies(lab: runtime.Lab, policy: str, phase: str, state: str, restarts: int, ready: bool) -> None:
    """Kubernetes' own table."""
    planned = lab.pod(script(THREE_RUNS, **DATA), restartPolicy=policy, volumes=[{"name": "data"}])
    (pod,) = lab.start(planned, max_container_restart_period=1)
    pod.until(lambda pod: state in pod.container()["state"] and pod.container()["restartCount"] == restarts)
    found = pod.container()
    assert (pod.status()["phase"], found["ready"], found["started"]) == (phase, ready, ready)
    pod.until_log(f"run {restarts + 1}\n", run=restarts)
    kept = range(max(restarts - 1, 0), restarts + 1)
    assert [pod.log(run=run) for run in kept] == [f"run {run + 1}\n" for run in kept]
    last = {0: {}, 1: 1, 2: 0}[restarts]
    assert found["lastState"].get("terminated", {}).get("exitCode", {}) == last


class TestBackOff:
    """The first restart is immediate, the second waits."""

    def test_state_and_message(self, lab: runtime.Lab) -> None:
        pod = lab.run_pod(script("echo why > /dev/termination-log; exit 7"))
        pod.until(lambda pod: "waiting" in pod.container()["state"])
        found = pod.container()
        assert found["restartCount"] == 1
        assert found["state"]["waiting"] == {
            "reason": "CrashLoopBackOff",
            "message": f"back-off 10s restarting failed container=c0 pod={pod.config['name']}_default({pod.uid})",
        }
        last = found["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"], last["message"]) == (7, "Error", "why\n")
        assert pod.status()["phase"] == "Running"
        ready = {each["type"]: each["status"] for each in pod.status()["conditions"]}
        assert (ready["Ready"], ready["PodReadyToStartContainers"]) == ("False", "True")

    def test_an_end_with_0_waits_too(self, lab: runtime.Lab) -> None:
        pod = lab.run_pod(script("exit 0"))
        pod.until(lambda pod: "waiting" in pod.container()["state"])
        assert pod.container()["lastState"]["terminated"]["reason"] == "Completed"

    def test_the_wait_is_kept(self, lab: runtime.Lab) -> None:
        planned = lab.pod(script("touch /data/$(ls /data | wc -l); exit 1", **DATA), volumes=[{"name": "data"}])
        (pod,) = lab.start(planned, max_container_restart_period=1)
        pod.until(lambda pod: pod.container()["restartCount"] >= 3)
        data = f"{paths.pod_data_dir(lab.name, pod.uid)}/volumes/data"
        until(lambda: os.path.exists(f"{data}/3"), "the fourth run has not begun")
        times = [os.stat(f"{data}/{run}").st_mtime for run in range(4)]
        waits = [after - before for before, after in zip(times, times[1:])]
        assert waits[0] < 1.0 and all(wait >= 1.0 for wait in waits[1:]), waits
        # Nor more than that: what is waited for is said.
        pod.until(lambda pod: "waiting" in pod.container()["state"])
        assert pod.container()["state"]["waiting"]["message"].startswith("back-off 1s restarting failed container=c0 ")

    def test_others_go_on(self, lab: runtime.Lab) -> None:
        pod = lab.run_pod(script("exit 1"), SLEEP)
        pod.until(lambda pod: "waiting" in pod.container("c0")["state"])
        assert pod.container("c1")["restartCount"] == 0 and "running" in pod.container("c1")["state"]

    def test_deletion_does_not_wait_for_it(self, lab: runtime.Lab) -> None:
        pod = lab.run_pod(script("exit 1"))
        pod.until(lambda pod: "waiting" in pod.container()["state"])
        pod.delete()
        assert not os.path.exists(pod.directory)


def test_one_that_cannot_be_started_again_leaves_no_zombie(lab: runtime.Lab, tmp_path: pathlib.Path) -> None:
    """With a shared PID namespace a zombie would keep pause from ever ending."""
    (tmp_path / "run").write_text("#!/bin/sh\nrm /host/run\n")
    (tmp_path / "run").chmod(0o755)
    volumes = [{"name": "v", "hostPath": {"path": str(tmp_path)}}]
    pod = lab.run_pod(
        {"command": ["/host/run"], "volumeMounts": [{"name": "v", "mountPath": "/host"}]},
        SLEEP,
        volumes=volumes,
        shareProcessNamespace=True,
    )
    pod.until(lambda pod: "waiting" in pod.container().get("state", {}))
    assert pod.container()["lastState"]["terminated"]["reason"] == "StartError"
    kept = sorted([pod.pause(), pod.pid("c1")])
    # What wrote the status is a child too, for a moment.
    until(lambda: sorted(process.children(pod.supervisor())) == kept, "the supervisor keeps a dead child")
    os.kill(pod.pause(), signal.SIGKILL)
    pod.until(lambda pod: pod.status()["podlab"]["attempt"] == 1)


ENDS = [
    ("exit 0", 0, "Completed", None),
    ("exit 42", 42, "Error", None),
    ("exit 255", 255, "Error", 127),
    # PID 1 of its namespace has no default action: a child's death is seen through the shell.
    ("sleep 100 & kill -SEGV $!; wait $!; exit $?", 139, "Error", 11),
]


@pytest.mark.parametrize(("text", "code", "reason", "number"), ENDS, ids=[row[0] for row in ENDS])
def test_exit_codes(lab: runtime.Lab, text: str, code: int, reason: str, number: int | None) -> None:
    ended = lab.run_pod(script(text), restartPolicy="Never").ended()
    assert (ended["exitCode"], ended["reason"], ended.get("signal")) == (code, reason, number)
    assert ended["startedAt"] <= ended["finishedAt"]


def test_killed(lab: runtime.Lab) -> None:
    pod = lab.run_pod(SLEEP, restartPolicy="Never")
    os.kill(pod.pid(), signal.SIGKILL)
    ended = pod.ended()
    assert (ended["exitCode"], ended["reason"], ended["signal"]) == (137, "Error", 9)
    assert pod.status()["phase"] == "Failed"


def test_shared_memory_counts_as_the_containers(lab: runtime.Lab) -> None:
    fill = script("exec dd if=/dev/zero of=/dev/shm/x bs=1M count=60", resources={"limits": {"memory": "16Mi"}})
    assert lab.run_pod(fill, restartPolicy="Never").ended()["reason"] == "OOMKilled"


def test_a_pod_that_is_done_holds_nothing(lab: runtime.Lab) -> None:
    before = runtime.trace(lab.name)
    pod = lab.run_pod(script("echo out; echo err >&2"), restartPolicy="Never")
    pod.ended()
    runtime.wait_for_end([pod.supervisor()])
    after = runtime.trace(lab.name)
    for kind in ("processes", "cgroups", "mounts", "links", "strays"):
        assert after[kind] == before[kind], kind
    assert pod.status()["phase"] == "Succeeded"
    assert pod.status()["podlab"]["pids"] == {}
    conditions = {each["type"]: each["status"] for each in pod.status()["conditions"]}
    assert conditions["PodReadyToStartContainers"] == "False"
    assert sorted(pod.log().splitlines()) == ["err", "out"]
    assert not [path for path in after["files"] if path.endswith("/10.244.0.2") and path not in before["files"]]


def test_output_of_a_container_that_ends_at_once_is_whole(lab: runtime.Lab) -> None:
    pod = lab.run_pod(script("seq 1 20000"), restartPolicy="Never")
    pod.ended()
    assert pod.log() == "".join(f"{number}\n" for number in range(1, 20001))


def test_output_without_newlines_is_split(lab: runtime.Lab) -> None:
    pod = lab.run_pod(script("head -c 100000 /dev/zero | tr '\\0' x; echo; echo end"), restartPolicy="Never")
    pod.ended()
    assert pod.log() == "x" * 100000 + "\nend\n"


def test_what_a_container_leaves_behind_goes_with_it(lab: runtime.Lab) -> None:
    """An orphan keeps the output pipe open: it must not keep the end from being seen."""
    pod = lab.run_pod(script("setsid sleep 1000 & echo started"), shareProcessNamespace=True, restartPolicy="Never")
    assert pod.ended()["exitCode"] == 0
    assert pod.log() == "started\n"


def test_orphans_are_reaped_by_pause_when_the_namespace_is_shared(lab: runtime.Lab) -> None:
    pod = lab.run_pod(SLEEP, SLEEP, shareProcessNamespace=True)
    assert pod.sh("cat /proc/1/comm") == "pause\n"
    pod.sh("(sleep 0.01 &) ; true")
    # Seen from the other container: nothing stays defunct.
    pod.sh("while ps | grep -q '\\[sleep\\]'; do :; done", container="c1")


def test_containers_of_a_shared_namespace_see_each_other(lab: runtime.Lab) -> None:
    shared = lab.run_pod(SLEEP, {"command": ["sleep", "2000"]}, shareProcessNamespace=True)
    assert len(shared.sh("pidof sleep").split()) == 2
    assert shared.sh("ls /proc/1/root/").split()[0] == "pause"
    apart = lab.run_pod(SLEEP, SLEEP)
    assert apart.sh("pidof sleep") == "1\n"


class TestPauseDies:
    """The sandbox is made anew, with a new address; with restartPolicy Never the pod ends."""

    @pytest.mark.parametrize("shared", [False, True])
    def test_the_pod_comes_back(self, lab: runtime.Lab, shared: bool) -> None:
        (pod,) = lab.start(lab.pod(SLEEP, SLEEP, shareProcessNamespace=shared), max_container_restart_period=1)
        before = pod.status()
        os.kill(pod.pause(), signal.SIGKILL)
        pod.until(
            lambda pod: (
                pod.status()["podlab"]["attempt"] == 1
                and all("running" in pod.container(name).get("state", {}) for name in ("c0", "c1"))
            )
        )
        after = pod.status()
        assert after["podIP"] != before["podIP"]
        assert [pod.container(name)["restartCount"] for name in ("c0", "c1")] == [1, 1]
        assert pod.container()["lastState"]["terminated"]["exitCode"] == 137
        assert pod.sh("cat /etc/hosts").splitlines()[-1] == f"{after['podIP']}\t{pod.config['name']}"
        # And it is still supervised.
        os.kill(pod.pid("c0"), signal.SIGKILL)
        pod.until(lambda pod: pod.container("c0")["restartCount"] == 2)
        pod.delete()

    def test_never(self, lab: runtime.Lab) -> None:
        pod = lab.run_pod(SLEEP, restartPolicy="Never")
        os.kill(pod.pause(), signal.SIGKILL)
        pod.until(lambda pod: pod.status()["phase"] == "Failed")
        runtime.wait_for_end([pod.supervisor()])


class TestDeletion:
    """TERM, the grace period, KILL; then nothing is left."""

    def test_one_that_listens(self, lab: runtime.Lab) -> None:
        pod = lab.run_pod(script(GRACEFUL), terminationGracePeriodSeconds=30)
        pod.until_log("ready\n")
        supervisor = pod.supervisor()
        pod.delete()
        assert not os.path.exists(pod.directory) and not process.start_time(supervisor)

    def test_pid_1_without_a_handler_survives_term(self, lab: runtime.Lab) -> None:
        pod = lab.run_pod(SLEEP, terminationGracePeriodSeconds=1)
        inner = syscalls.pidfd_open(pod.pid())
        asked = time.monotonic()
        supervisor = pods.ask_to_go(lab.name, pod.uid, None)
        pod.until(lambda pod: "deletionTimestamp" in pod.status())
        poll = select.poll()
        poll.register(inner, select.POLLIN)
        assert poll.poll(runtime.SECONDS * 1000), "sleep was not killed after the grace period"
        assert time.monotonic() - asked >= 1.0, "sleep died of TERM"
        pods.await_ends([supervisor], runtime.SECONDS)
        os.close(inner)

    def test_everything_goes(self, lab: runtime.Lab) -> None:
        before = runtime.trace(lab.name)
        volumes = [{"name": "data"}, {"name": "memory", "emptyDir": {"medium": "Memory"}}]
        mounted = [{"name": "data", "mountPath": "/data"}, {"name": "memory", "mountPath": "/memory"}]
        pod = lab.run_pod({**SLEEP, "volumeMounts": mounted}, SLEEP, volumes=volumes)
        pod.sh("echo x > /data/x; echo x > /memory/x; mkdir /data/d; ln -s / /data/link; chmod 0 /data/d")
        veth = sandbox.veth_name(pod.status()["podlab"]["sandbox"])
        address = pod.status()["podIP"]
        with netns.entered(paths.node_netns(lab.record["name"])), Netlink() as netlink:
            assert veth in netlink.links()
        assert cgroup.detect().exists(lab.cgroup(pod.config["cgroup_parent"]))
        pod.delete(0)
        runtime.assert_same(before, runtime.trace(lab.name))
        assert not cgroup.detect().exists(lab.cgroup(pod.config["cgroup_parent"]))
        with netns.entered(paths.node_netns(lab.record["name"])), Netlink() as netlink:
            assert veth not in netlink.links()
        assert not os.path.exists(f"{paths.ipam_dir(lab.name, lab.record['name'])}/{address}")

    def test_a_path_of_the_host_stays(self, lab: runtime.Lab, tmp_path: pathlib.Path) -> None:
        (tmp_path / "kept").write_text("kept")
        volumes = [{"name": "v", "hostPath": {"path": str(tmp_path)}}]
        for way in ("deleted", "killed and cleared"):
            pod = lab.run_pod({**SLEEP, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}, volumes=volumes)
            if way != "deleted":
                os.kill(pod.supervisor(), signal.SIGKILL)
                runtime.wait_for_end([pod.supervisor()])
            pod.delete(0)
            assert (tmp_path / "kept").read_text() == "kept", way

    def test_the_grace_may_shrink(self, lab: runtime.Lab) -> None:
        pod = lab.run_pod(SLEEP, terminationGracePeriodSeconds=600)
        first = pods.ask_to_go(lab.name, pod.uid, None)
        pods.await_ends([first, pods.ask_to_go(lab.name, pod.uid, 1)], runtime.SECONDS)

    def test_the_grace_may_not_grow(self, lab: runtime.Lab) -> None:
        pod = lab.run_pod(SLEEP)
        first = pods.ask_to_go(lab.name, pod.uid, 1)
        pods.await_ends([first, pods.ask_to_go(lab.name, pod.uid, 600)], runtime.SECONDS)


class TestSupervisorDies:
    """Its children die with it: a pod is supervised or gone."""

    @pytest.mark.parametrize("shared", [False, True])
    def test_all_processes_go(self, lab: runtime.Lab, shared: bool) -> None:
        pod = lab.run_pod(script("sleep 1001 & sleep 1000"), SLEEP, shareProcessNamespace=shared)
        # Supervisor, pause, the shell (in the end one of its two) with the other one, and the second container.
        until(lambda: len(cgroup.detect().pids(lab.cgroup(pod.config["cgroup_parent"]))) >= 5, "they have not started")
        pids = cgroup.detect().pids(lab.cgroup(pod.config["cgroup_parent"]))
        os.kill(pod.supervisor(), signal.SIGKILL)
        runtime.wait_for_end(pids)
        (found,) = read_pods(lab.name)
        assert (found["alive"], found["status"]["phase"], found["status"]["reason"]) == (False, "Unknown", "NodeLost")
        assert found["status"]["containerStatuses"][0]["ready"] is False

    def test_what_it_leaves_is_cleared(self, lab: runtime.Lab) -> None:
        before = runtime.trace(lab.name)
        pod = lab.run_pod({**SLEEP, **DATA}, volumes=[{"name": "data", "emptyDir": {"medium": "Memory"}}])
        pids = cgroup.detect().pids(lab.cgroup(pod.config["cgroup_parent"]))
        os.kill(pod.supervisor(), signal.SIGKILL)
        runtime.wait_for_end(pids)
        pods.clear(lab.name, pod.uid)
        runtime.assert_same(before, runtime.trace(lab.name))

    def test_it_does_not_hold_the_callers_descriptors(self, lab: runtime.Lab) -> None:
        kept = os.open("/etc/passwd", os.O_RDONLY)
        os.set_inheritable(kept, True)
        try:
            supervisor = lab.run_pod(SLEEP).supervisor()
            found: set[str] = set()

            def nothing_else() -> bool:
                """Its own only; what it writes at the moment it has open, too."""
                found.clear()
                for number in os.listdir(f"/proc/{supervisor}/fd"):
                    with contextlib.suppress(FileNotFoundError):
                        found.add(os.readlink(f"/proc/{supervisor}/fd/{number}"))
                return all(
                    each == "/dev/null" or each.startswith(("pipe:", "anon_inode:", "/var/log/pods/", "socket:"))
                    for each in found
                )

            until(nothing_else, "it holds more than its own")
        finally:
            os.close(kept)


def test_many_at_once(lab: runtime.Lab) -> None:
    started = lab.start(*(lab.pod(SLEEP) for _ in range(10)))
    assert [pod.said for pod in started] == [""] * 10
    assert len({pod.status()["podIP"] for pod in started}) == 10
    assert len({pod.supervisor() for pod in started}) == 10


def test_nothing_leaks_over_thirty_pods(lab: runtime.Lab) -> None:
    def descriptors() -> list[str]:
        return sorted(os.listdir(f"/proc/{lab.record['pid']}/fd"))

    before, open_before = runtime.trace(lab.name), descriptors()
    spaces = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        started = lab.start(*(lab.pod(SLEEP, restartPolicy="Always") for _ in range(10)))
        pods.await_ends([pods.ask_to_go(lab.name, pod.uid, 0) for pod in started], 15)
    runtime.assert_same(before, runtime.trace(lab.name))
    assert descriptors() == open_before
    assert len(os.listdir("/proc/self/fd")) == spaces
    with netns.entered(paths.node_netns(lab.record["name"])), Netlink() as netlink:
        assert list(netlink.links()) == ["lo"]
    store = paths.ipam_dir(lab.name, lab.record["name"])
    assert [name for name in os.listdir(store) if name[0].isdigit()] == []
