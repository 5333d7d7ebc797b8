"""Probes of real containers: who is asked what from where, what follows from the answers, and nothing left over."""

from __future__ import annotations

import os
import pathlib
import select
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from podlab.linux import cgroup, process, syscalls
from podlab.runtime import pods
from podlab.runtime.state import read_pods
from support import runtime
from support.waiting import until

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]
SLEEP = {"command": ["sleep", "1000"]}
# A web server whose /health can be taken away; sleep is PID 1, which no TERM ends.
WEB = "mkdir /www; echo ok > /www/health; httpd -p 8080 -h /www; exec sleep 1000"
WEBLESS = {"tcpSocket": {"port": 1}, "failureThreshold": 1000000}
# Once a second, and long to answer: what a busy machine makes late has not failed.
OFTEN = {"periodSeconds": 1, "timeoutSeconds": 30, "failureThreshold": 1}
READY = {"exec": {"command": ["cat", "/tmp/ready"]}, **OFTEN}


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


def ready(pod: runtime.Pod) -> bool:
    return bool(pod.container()["ready"])


def unready(pod: runtime.Pod) -> bool:
    return not pod.container()["ready"]


def conditions(pod: runtime.Pod) -> dict[str, str]:
    return {each["type"]: each["status"] for each in pod.status()["conditions"]}


def said(pod: runtime.Pod) -> str:
    return str(pod.status()["podlab"]["probes"].get("c0", ""))


def restarted(pod: runtime.Pod) -> bool:
    return pod.container()["restartCount"] == 1 and "running" in pod.container()["state"]


def test_readiness_follows_a_file(lab: runtime.Lab) -> None:
    pod = lab.run_pod(script("exec sleep 1000", readinessProbe=READY), SLEEP)
    pod.until(said)
    assert (pod.container()["ready"], pod.container()["started"]) == (False, True)
    assert pod.container("c1")["ready"] is True
    assert (conditions(pod)["Ready"], conditions(pod)["ContainersReady"]) == ("False", "False")
    assert said(pod).startswith("Readiness probe failed: cat: can't open '/tmp/ready'")
    pod.sh("touch /tmp/ready", container="c0")
    pod.until(ready)
    assert (conditions(pod)["Ready"], conditions(pod)["ContainersReady"], said(pod)) == ("True", "True", "")
    pod.sh("rm /tmp/ready", container="c0")
    pod.until(unready)
    assert conditions(pod)["Ready"] == "False" and pod.container()["restartCount"] == 0


def test_a_container_without_probes_is_ready_while_it_runs(lab: runtime.Lab) -> None:
    pod = lab.run_pod(SLEEP)
    assert (pod.container()["ready"], pod.container()["started"], conditions(pod)["Ready"]) == (True, True, "True")


NETWORK = [
    ({"httpGet": {"port": 8080, "path": "/health"}}, "rm /www/health", "HTTP probe failed with statuscode: 404"),
    ({"tcpSocket": {"port": 8080}}, "killall httpd", "dial tcp {}:8080: connect: connection refused"),
]


@pytest.mark.parametrize(("asked", "ending", "text"), NETWORK, ids=["http", "tcp"])
def test_the_network(lab: runtime.Lab, asked: dict[str, Any], ending: str, text: str) -> None:
    pod = lab.run_pod(script(WEB, readinessProbe={**asked, **OFTEN}))
    pod.until(ready)
    pod.sh(ending)
    pod.until(unready)
    assert said(pod) == "Readiness probe failed: " + text.format(pod.status()["podIP"])


def test_it_is_probed_from_the_node(lab: runtime.Lab) -> None:
    """The pod sees the node's address; another host is not asked inside of the pod either."""
    ports = [{"name": "web", "containerPort": 8080}]
    fine = {"httpGet": {"port": "web"}, "periodSeconds": 1}
    pod = lab.run_pod(script("exec httpd -f -v -p 8080 -h /etc 2>&1", ports=ports, readinessProbe=fine))
    pod.until_log(f"{pod.config['network']['gateway']}]:")
    here = {"tcpSocket": {"port": "web", "host": "127.0.0.1"}, "periodSeconds": 1}
    other = lab.run_pod(script(WEB, ports=ports, readinessProbe=here))
    other.until(said)
    assert said(other).startswith("Readiness probe failed: dial tcp 127.0.0.1:8080: connect: ")


class TestLiveness:
    """A container that fails is stopped and, by policy, started again where it is."""

    def test_restart(self, lab: runtime.Lab) -> None:
        probe = {"exec": {"command": ["test", "!", "-e", "/tmp/sick"]}, **OFTEN, "failureThreshold": 2}
        pod = lab.run_pod(script("trap 'exit 7' TERM; while :; do sleep 0.1; done", livenessProbe=probe))
        before = pod.status()
        pod.sh("touch /tmp/sick")
        pod.until(restarted)
        last = pod.container()["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"]) == (7, "Error")
        assert pod.status()["podIP"] == before["podIP"]
        assert pod.status()["podlab"]["pause"] == before["podlab"]["pause"]
        assert said(pod) == "Container c0 failed liveness probe, will be restarted"

    def test_its_own_grace_period(self, lab: runtime.Lab) -> None:
        """Two seconds are the least that a container has; the pod's own ten minutes are not waited for."""
        failing = {"exec": {"command": ["false"]}, **OFTEN}
        pod = lab.run_pod(
            script("exec sleep 1000", livenessProbe={**failing, "terminationGracePeriodSeconds": 1}),
            terminationGracePeriodSeconds=600,
        )
        fd = syscalls.pidfd_open(pod.pid())
        pod.until(lambda pod: said(pod).startswith("Container"))
        asked = os.stat(f"{pod.directory}/status.json").st_mtime
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(runtime.SECONDS * 1000), "it was not killed after its probe's grace period"
        assert time.time() - asked >= 1.5, "it had less than two seconds"
        os.close(fd)
        pod.until(restarted)
        assert pod.container()["lastState"]["terminated"]["exitCode"] == 137

    @pytest.mark.parametrize(("policy", "phase"), [("Never", "Succeeded"), ("OnFailure", "Running")])
    def test_policies(self, lab: runtime.Lab, policy: str, phase: str) -> None:
        """One that ends well because it was asked to is started again all the same, unless the policy is Never."""
        failing = {"exec": {"command": ["false"]}, **OFTEN}
        pod = lab.run_pod(
            script("trap 'exit 0' TERM; while :; do sleep 0.1; done", livenessProbe=failing), restartPolicy=policy
        )
        again = policy == "OnFailure"
        pod.until(restarted if again else lambda pod: "terminated" in pod.container()["state"])
        assert pod.status()["phase"] == phase

    def test_one_that_cannot_be_run_says_nothing_of_the_container(self, lab: runtime.Lab) -> None:
        absent = {"exec": {"command": ["/no/such"]}, **OFTEN}
        pod = lab.run_pod(script("exec sleep 1000", livenessProbe=absent))
        pod.until(said)
        assert said(pod) == "Liveness probe errored: /no/such: No such file or directory"
        assert pod.container()["ready"] is True and pod.container()["restartCount"] == 0


class TestStartup:
    """Until it has succeeded nothing else is asked."""

    def test_it_holds_back_the_others(self, lab: runtime.Lab) -> None:
        mark = "echo {} >> /tmp/asked; test -e /tmp/up"
        spec = {
            kind: {"exec": {"command": ["sh", "-c", mark.format(kind)]}, **OFTEN}
            for kind in ("startupProbe", "livenessProbe", "readinessProbe")
        }
        spec["startupProbe"]["failureThreshold"] = 60
        pod = lab.run_pod(script("exec sleep 1000", **spec))
        pod.sh("while [ $(cat /tmp/asked 2>/dev/null | wc -l) -lt 3 ]; do sleep 0.1; done")
        assert (pod.container()["started"], pod.container()["ready"]) == (False, False)
        assert pod.sh("sort -u /tmp/asked") == "startupProbe\n"
        pod.sh("touch /tmp/up")
        pod.until(ready)
        pod.sh("until grep -q livenessProbe /tmp/asked; do sleep 0.1; done")
        assert pod.container()["started"] is True and pod.container()["restartCount"] == 0

    def test_its_failure_restarts(self, lab: runtime.Lab) -> None:
        failing = {"exec": {"command": ["false"]}, **OFTEN, "failureThreshold": 2}
        pod = lab.run_pod(script("trap 'exit 1' TERM; while :; do sleep 0.1; done", startupProbe=failing))
        pod.until(restarted)
        assert said(pod) == "Container c0 failed startup probe, will be restarted"
        assert pod.container()["started"] is False


def test_one_that_takes_too_long_has_failed_and_is_ended(lab: runtime.Lab) -> None:
    slow = {"exec": {"command": ["sleep", "1234"]}, "periodSeconds": 1, "failureThreshold": 1}
    pod = lab.run_pod(script("exec sleep 1000", readinessProbe=slow))
    runtime.find_command(pod, "sleep 1234")
    pod.until(said)
    assert said(pod) == 'Readiness probe failed: command "sleep 1234" timed out'
    # One at a time: the next one may be there already.
    assert pod.sh("pidof sleep").count(" ") <= 1


def test_a_server_that_does_not_answer_has_failed(lab: runtime.Lab) -> None:
    probe = {"httpGet": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 1}
    # The first one may come before it listens.
    pod = lab.run_pod(script("nc -l -p 8080 -e sleep 100", readinessProbe=probe))
    pod.until(lambda pod: said(pod).endswith('/": context deadline exceeded (Client.Timeout exceeded)'))
    assert unready(pod)


def test_an_exec_probe_is_confined_like_exec(lab: runtime.Lab) -> None:
    seen = "grep -E '^(Cap|NoNewPrivs|Uid|Gid|Groups|Seccomp:)' /proc/self/status; pwd; env | sort; ls /proc/self/fd"
    probe = {"exec": {"command": ["sh", "-c", f"({seen}) > /tmp/probe 2>&1"]}, "periodSeconds": 1}
    context = {"runAsUser": 1000, "runAsGroup": 2000, "allowPrivilegeEscalation": False}
    env = [{"name": "A", "value": "b"}, {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    pod = lab.run_pod(
        script("exec sleep 1000", readinessProbe=probe, securityContext=context, env=env, workingDir="/tmp")
    )
    pod.until(ready)
    assert pod.sh("cat /tmp/probe") == pod.sh(f"({seen}) > /tmp/exec 2>&1; cat /tmp/exec")


class TestDeletion:
    """Liveness and startup stop, readiness goes on."""

    def test_readiness_goes_on(self, lab: runtime.Lab) -> None:
        failing = {"exec": {"command": ["sh", "-c", "! test -e /tmp/going"]}, **OFTEN}
        pod = lab.run_pod(
            script("exec sleep 1000", readinessProbe={**READY}, livenessProbe=failing),
            terminationGracePeriodSeconds=600,
        )
        pod.sh("touch /tmp/ready")
        pod.until(ready)
        fd = pods.ask_to_go(lab.name, pod.uid, None)
        pod.until(lambda pod: "deletionTimestamp" in pod.status())
        assert ready(pod)
        pod.sh("touch /tmp/going; rm /tmp/ready")
        pod.until(unready)
        pod.sh("touch /tmp/ready")
        pod.until(ready)
        assert pod.container()["restartCount"] == 0 and "running" in pod.container()["state"]
        (found,) = read_pods(lab.name)
        assert found["pod"]["metadata"]["deletionTimestamp"]
        pods.await_ends([fd, pods.ask_to_go(lab.name, pod.uid, 1)], runtime.SECONDS)

    def test_one_on_its_way_does_not_hold_it_up(self, lab: runtime.Lab) -> None:
        slow = {"exec": {"command": ["sleep", "1234"]}, "timeoutSeconds": 600}
        for shared in (False, True):
            pod = lab.run_pod(script("exec sleep 1000", readinessProbe=slow), shareProcessNamespace=shared)
            runtime.find_command(pod, "sleep 1234")
            pod.delete(1)
            assert not os.path.exists(pod.directory)


class TestNothingIsLeft:
    """Of two hundred probes, and of those that were killed on their way."""

    def test_of_many(self, lab: runtime.Lab) -> None:
        """Not even memory: what a probe touches goes with its process."""
        count = {"exec": {"command": ["sh", "-c", "echo x >> /tmp/n"]}}
        planned = lab.pod(*(script("exec sleep 1000", readinessProbe=count, livenessProbe=WEBLESS) for _ in range(2)))
        config = lab.config(planned)
        for container in config["containers"]:
            # Faster than a manifest may ask for.
            container["probes"]["readiness"]["period"] = container["probes"]["liveness"]["period"] = 0.05
        pod = lab.start_config(planned, config)
        pod.sh("while [ $(cat /tmp/n 2>/dev/null | wc -l) -lt 20 ]; do sleep 0.1; done")
        before = self.size(pod)
        pod.sh("while [ $(cat /tmp/n | wc -l) -lt 120 ]; do sleep 0.1; done")
        after = self.size(pod)
        assert after <= before + 64, f"it grew from {before} to {after} KiB"
        # Each probe of the four holds two descriptors and is one child, besides pause and the containers.
        descriptors, children = self.held(pod)
        assert children <= 3 + 4 + 1 and descriptors <= 3 + 2 + 1 + 2 * 4 + 2 * 4 + 2
        assert {name: pod.container(name)["ready"] for name in ("c0", "c1")} == {"c0": True, "c1": True}

    @staticmethod
    def size(pod: runtime.Pod) -> int:
        """KiB of the supervisor's own memory, whether or not a child shares them at the moment."""
        text = pathlib.Path(f"/proc/{pod.supervisor()}/status").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("RssAnon:"))

    @staticmethod
    def held(pod: runtime.Pod) -> tuple[int, int]:
        supervisor = pod.supervisor()
        return len(os.listdir(f"/proc/{supervisor}/fd")), len(process.children(supervisor))

    @pytest.mark.parametrize("shared", [False, True])
    def test_when_the_prober_is_killed(self, lab: runtime.Lab, shared: bool) -> None:
        slow = {"exec": {"command": ["sleep", "1234"]}, "timeoutSeconds": 600, "periodSeconds": 1}
        pod = lab.run_pod(script("exec sleep 1000", readinessProbe=slow), shareProcessNamespace=shared)
        command = runtime.find_command(pod, "sleep 1234")
        own = {pod.pause(), pod.pid()}
        # What wrote the status is a child too, for a moment.
        until(lambda: len(set(process.children(pod.supervisor())) - own) == 1, "there is more than the prober")
        (prober,) = set(process.children(pod.supervisor())) - own
        os.kill(prober, signal.SIGKILL)
        runtime.wait_for_end([command])
        pod.until(said)
        assert said(pod) == "Readiness probe errored: it ended without a word"
        again = runtime.find_command(pod, "sleep 1234")
        assert again != command
        pod.delete(0)

    def test_when_the_container_ends_meanwhile(self, lab: runtime.Lab) -> None:
        slow = {"exec": {"command": ["sleep", "1234"]}, "timeoutSeconds": 600}
        pod = lab.run_pod(script("exec sleep 1000", readinessProbe=slow))
        runtime.find_command(pod, "sleep 1234")
        os.kill(pod.pid(), signal.SIGKILL)
        pod.until(restarted)
        own = {pod.pause(), pod.pid()}

        def tidy() -> bool:
            """Besides its own there are living ones only: the next probe."""
            children = set(process.children(pod.supervisor()))
            return own <= children and all(process.start_time(pid) for pid in children)

        until(tidy, "the supervisor keeps a dead child")

    def test_when_the_supervisor_is_killed(self, lab: runtime.Lab) -> None:
        slow = {"exec": {"command": ["sleep", "1234"]}, "timeoutSeconds": 600}
        pod = lab.run_pod(script("exec sleep 1000", readinessProbe=slow))
        runtime.find_command(pod, "sleep 1234")
        pids = cgroup.detect().pids(lab.cgroup(pod.config["cgroup_parent"]))
        os.kill(pod.supervisor(), signal.SIGKILL)
        runtime.wait_for_end(pids)
        pods.clear(lab.name, pod.uid)


def test_gates_keep_a_pod_unready(lab: runtime.Lab) -> None:
    pod = lab.run_pod(SLEEP, readinessGates=[{"conditionType": "example.com/ready"}])
    assert (conditions(pod)["ContainersReady"], conditions(pod)["Ready"]) == ("True", "False")
    assert pathlib.Path(pod.directory).is_dir()
