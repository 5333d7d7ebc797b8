"""Init containers, sidecars, hooks, deadlines, restart rules: who starts after whom, and who ends after whom."""

from __future__ import annotations

import os
import pathlib
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from podlab.kube import podcolumns
from podlab.runtime import pods
from support import runtime

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]
SLEEP = {"command": ["sleep", "1000"]}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.used_node(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(autouse=True)
def gone(lab: runtime.Lab) -> Iterator[None]:
    with runtime.nothing_left(lab):
        yield


class Diary:
    """A directory that all containers of a pod share with the test; in its `log` they write what they come to."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        (directory / "log").touch()
        self.volumes = [{"name": "diary", "hostPath": {"path": str(directory)}}]

    def script(self, text: str, **more: Any) -> dict[str, Any]:
        mounts = [{"name": "diary", "mountPath": "/diary"}]
        return {"command": ["sh", "-c", text], "volumeMounts": mounts, **more}

    def brief(self, name: str, then: str = "", code: int = 0) -> dict[str, Any]:
        """One that starts, does something and ends."""
        return self.script(f"{say(name, 'Starting')}; {then or ':'}; {say(name, 'Exiting')}; exit {code}", name=name)

    def lasting(self, name: str, code: int = 0, **more: Any) -> dict[str, Any]:
        """One that runs until it is told to end."""
        end = f"trap '{say(name, 'Exiting')}; exit {code}' TERM"
        text = f"{say(name, 'Starting')}; {end}; {say(name, 'Started')}; while :; do sleep 0.05; done"
        return self.script(text, name=name, **more)

    def lines(self) -> list[str]:
        return (self.directory / "log").read_text().splitlines()

    def until(self, line: str, times: int = 1) -> list[str]:
        """Wait for a line; return all of them."""
        there = lambda: self.lines().count(line) >= times  # noqa: E731
        runtime.watch(str(self.directory), there, runtime.SECONDS, lambda: "\n".join(self.lines()))
        return self.lines()


def say(name: str, what: str) -> str:
    return f'echo "{name} {what}" >> /diary/log'


def until_there(file: str) -> str:
    return f"until [ -e /diary/{file} ]; do sleep 0.05; done"


@pytest.fixture
def diary(tmp_path: pathlib.Path) -> Diary:
    tmp_path.chmod(0o755)
    return Diary(tmp_path)


def conditions(pod: runtime.Pod) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each.get("reason", "")) for each in pod.status()["conditions"]}


def shown(pod: runtime.Pod) -> tuple[str, tuple[int, int]]:
    """STATUS and READY, as `get pods` prints them."""
    thing = {**pod.pod, "status": pod.status()}
    return podcolumns.status_word(thing), podcolumns.ready_count(thing)


class TestInit:
    """Strictly one after another, each to exit 0; then never again in this sandbox."""

    def test_order_state_and_a_new_sandbox(self, lab: runtime.Lab, diary: Diary) -> None:
        inits = [diary.brief("i0", until_there("go")), diary.brief("i1")]
        pod = lab.run_pod(diary.lasting("c0"), initContainers=inits, volumes=diary.volumes)
        diary.until("i0 Starting")
        pod.until(lambda pod: "running" in pod.container("i0")["state"])
        assert pod.status()["phase"] == "Pending" and shown(pod) == ("Init:0/2", (0, 1))
        waiting = {"waiting": {"reason": "PodInitializing"}}
        assert pod.container("c0")["state"] == pod.container("i1")["state"] == waiting
        initialized = next(each for each in pod.status()["conditions"] if each["type"] == "Initialized")
        assert (initialized["status"], initialized["reason"]) == ("False", "ContainersNotInitialized")
        assert initialized["message"] == "containers with incomplete status: [i0 i1]"
        assert pod.sh("echo $$; cat /proc/1/comm", container="i0").split()[1] == "sh"
        (diary.directory / "go").touch()
        diary.until("c0 Started")
        pod.until(lambda pod: "running" in pod.container("c0")["state"])
        expected = ["i0 Starting", "i0 Exiting", "i1 Starting", "i1 Exiting", "c0 Starting", "c0 Started"]
        assert diary.lines() == expected
        assert pod.status()["phase"] == "Running" and shown(pod) == ("Running", (1, 1))
        assert conditions(pod)["Initialized"] == ("True", "")
        ended = [each["state"]["terminated"]["reason"] for each in pod.status()["initContainerStatuses"]]
        assert ended == ["Completed"] * 2
        assert [each["ready"] for each in pod.status()["initContainerStatuses"]] == [True, True]
        # A container that is started again does not run them again ...
        os.kill(pod.pid("c0"), signal.SIGKILL)
        pod.until(lambda pod: pod.container("c0")["restartCount"] == 1 and "running" in pod.container("c0")["state"])
        diary.until("c0 Started", 2)
        assert diary.lines().count("i0 Starting") == 1
        # ... a new sandbox does.
        before = pod.status()["podIP"]
        os.kill(pod.pause(), signal.SIGKILL)
        diary.until("i1 Starting", 2)
        pod.until(lambda pod: pod.status()["podlab"]["attempt"] == 1)
        assert pod.status()["podIP"] != before
        assert pod.container("i0")["restartCount"] == 1

    def test_one_that_fails_under_never_fails_the_pod(self, lab: runtime.Lab, diary: Diary) -> None:
        inits = [diary.lasting("s", restartPolicy="Always"), diary.brief("i", code=3), diary.brief("j")]
        pod = lab.run_pod(SLEEP, initContainers=inits, volumes=diary.volumes, restartPolicy="Never")
        pod.until(lambda pod: pod.status()["phase"] == "Failed")
        assert pod.container("c0")["state"] == {"waiting": {"reason": "PodInitializing"}}
        assert pod.container("i")["state"]["terminated"]["exitCode"] == 3
        assert "terminated" in pod.container("s")["state"]
        assert "j Starting" not in diary.lines()
        assert shown(pod)[0] == "Init:Error"
        runtime.wait_for_end([pod.supervisor()])

    @pytest.mark.parametrize("policy", ["Always", "OnFailure"])
    def test_one_that_fails_is_started_again(self, lab: runtime.Lab, diary: Diary, policy: str) -> None:
        script = f"{say('i', 'Starting')}; [ -e /diary/once ] || {{ touch /diary/once; exit 1; }}"
        inits = [diary.script(script, name="i")]
        pod = lab.run_pod(diary.lasting("c0"), initContainers=inits, volumes=diary.volumes, restartPolicy=policy)
        assert diary.until("c0 Started") == ["i Starting", "i Starting", "c0 Starting", "c0 Started"]
        pod.until(lambda pod: "running" in pod.container("c0")["state"])
        assert pod.container("i")["restartCount"] == 1
        assert pod.container("i")["lastState"]["terminated"]["exitCode"] == 1

    def test_back_off(self, lab: runtime.Lab, diary: Diary) -> None:
        pod = lab.run_pod(SLEEP, initContainers=[diary.brief("i", code=1)], volumes=diary.volumes)
        pod.until(lambda pod: pod.container("i")["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff")
        assert (pod.status()["phase"], shown(pod)[0]) == ("Pending", "Init:CrashLoopBackOff")
        assert pod.container("i")["restartCount"] == 1


class TestSidecars:
    """Init containers that stay."""

    def test_they_start_in_order_and_end_last_and_in_reverse(self, lab: runtime.Lab, diary: Diary) -> None:
        probe = {"exec": {"command": ["test", "-e", "/diary/up"]}, "periodSeconds": 1, "failureThreshold": 100}
        inits = [
            diary.brief("i0"),
            diary.lasting("s1", restartPolicy="Always", startupProbe=probe),
            diary.lasting("s2", restartPolicy="Always"),
            diary.brief("i3"),
        ]
        pod = lab.run_pod(
            diary.lasting("c0"),
            diary.lasting("c1"),
            initContainers=inits,
            volumes=diary.volumes,
            terminationGracePeriodSeconds=60,
        )
        pod.until(lambda pod: "running" in pod.container("s1").get("state", {}))
        assert (pod.status()["phase"], shown(pod)) == ("Pending", ("Init:1/4", (0, 4)))
        assert pod.container("s1")["started"] is False
        diary.until("s1 Started")
        (diary.directory / "up").touch()
        pod.until(lambda pod: conditions(pod)["Ready"][0] == "True")
        diary.until("c0 Started")
        lines = diary.until("c1 Started")
        assert lines[:4] == ["i0 Starting", "i0 Exiting", "s1 Starting", "s1 Started"]
        # Nobody waits for what s2 does after its start.
        order = [line for line in lines if line.endswith(" Starting")]
        assert order[:4] == ["i0 Starting", "s1 Starting", "s2 Starting", "i3 Starting"]
        assert lines.index("i3 Exiting") < min(lines.index("c0 Starting"), lines.index("c1 Starting"))
        assert shown(pod) == ("Running", (4, 4))
        # One that ends comes back, and starts nothing else again.
        os.kill(pod.pid("s2"), signal.SIGKILL)
        pod.until(lambda pod: pod.container("s2")["restartCount"] == 1 and "running" in pod.container("s2")["state"])
        before = len(diary.until("s2 Started", 2))
        pod.delete()
        ends = diary.lines()[before:]
        assert sorted(ends[:2]) == ["c0 Exiting", "c1 Exiting"] and ends[2:] == ["s2 Exiting", "s1 Exiting"]

    def test_they_do_not_decide_the_phase(self, lab: runtime.Lab, diary: Diary) -> None:
        """Restarted whatever the pod's policy; when the main containers are done they are ended, and do not count."""
        inits = [diary.lasting("s", code=3, restartPolicy="Always")]
        main = diary.brief("c0", until_there("go"))
        pod = lab.run_pod(main, initContainers=inits, volumes=diary.volumes, restartPolicy="Never")
        pod.until(lambda pod: "running" in pod.container("c0").get("state", {}))
        os.kill(pod.pid("s"), signal.SIGKILL)
        pod.until(lambda pod: pod.container("s")["restartCount"] == 1 and "running" in pod.container("s")["state"])
        diary.until("s Started", 2)
        (diary.directory / "go").touch()
        pod.until(lambda pod: pod.status()["phase"] == "Succeeded")
        assert pod.container("s")["state"]["terminated"]["exitCode"] == 3
        assert diary.lines()[-2:] == ["c0 Exiting", "s Exiting"]
        assert conditions(pod)["Initialized"] == ("True", "") and conditions(pod)["Ready"] == ("False", "PodCompleted")
        runtime.wait_for_end([pod.supervisor()])

    def test_one_that_does_not_end_in_time_is_killed(self, lab: runtime.Lab, diary: Diary) -> None:
        deaf = {"name": "s", "restartPolicy": "Always", **SLEEP}
        pod = lab.run_pod(diary.lasting("c0"), initContainers=[deaf], volumes=diary.volumes)
        diary.until("c0 Started")
        begun = time.monotonic()
        pod.delete(1)
        assert time.monotonic() - begun >= 2.0, "two seconds are always given"


def command(text: str) -> dict[str, Any]:
    return {"exec": {"command": ["sh", "-c", text]}}


class TestHooks:
    """postStart keeps everything else waiting; preStop comes before the signal."""

    def test_post_start_must_return_before_the_next_is_started(self, lab: runtime.Lab, diary: Diary) -> None:
        hook = {"postStart": command(f"{say('hook', 'Starting')}; {until_there('go')}; {say('hook', 'Exiting')}")}
        ready = {"exec": {"command": ["true"]}, "periodSeconds": 1}
        first = diary.lasting("c0", lifecycle=hook, readinessProbe=ready)
        pod = lab.run_pod(first, diary.lasting("c1"), volumes=diary.volumes)
        diary.until("hook Starting")
        diary.until("c0 Started")
        assert pod.container("c0")["state"] == {"waiting": {"reason": "ContainerCreating"}}
        assert pod.status()["phase"] == "Pending" and "c1 Starting" not in diary.lines()
        (diary.directory / "go").touch()
        diary.until("c1 Starting")
        assert diary.lines().index("hook Exiting") < diary.lines().index("c1 Starting")
        pod.until(lambda pod: conditions(pod)["Ready"][0] == "True")
        assert "running" in pod.container("c0")["state"]

    def test_a_post_start_that_fails_ends_its_container(self, lab: runtime.Lab, diary: Diary) -> None:
        # Deaf to TERM: for the two seconds that it is given the state can be seen.
        hook = {"postStart": command("echo why; exit 7")}
        first = {**SLEEP, "lifecycle": hook}
        pod = lab.run_pod(first, diary.brief("c1"), volumes=diary.volumes, restartPolicy="Never")
        pod.until(lambda pod: pod.container()["state"].get("waiting", {}).get("reason") == "PostStartHookError")
        message = pod.container()["state"]["waiting"]["message"]
        assert message.startswith(
            f'Exec lifecycle hook ([sh -c echo why; exit 7]) for Container "c0" in Pod "{pod.config["name"]}_default'
            f"({pod.uid})\" failed - error: command 'sh -c echo why; exit 7' exited with 7: "
        )
        assert "why" in message
        assert "c1 Starting" not in diary.lines()
        pod.until(lambda pod: pod.status()["phase"] == "Failed")
        ended = pod.container()["state"]["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (137, "Error")
        assert diary.lines() == ["c1 Starting", "c1 Exiting"]

    def test_pre_stop_comes_before_the_signal(self, lab: runtime.Lab, diary: Diary) -> None:
        """Every container's at once, a sidecar's too; not when a container ends by itself."""
        hooks = {name: {"preStop": command(f"{say(name, 'hook')}; {until_there(name)}")} for name in ("c0", "s")}
        pod = lab.run_pod(
            diary.lasting("c0", lifecycle=hooks["c0"]),
            initContainers=[diary.lasting("s", restartPolicy="Always", lifecycle=hooks["s"])],
            volumes=diary.volumes,
            terminationGracePeriodSeconds=600,
        )
        diary.until("c0 Started")
        os.kill(pod.pid("c0"), signal.SIGKILL)
        before = len(diary.until("c0 Started", 2))
        assert "c0 hook" not in diary.lines()
        going = pods.ask_to_go(lab.name, pod.uid, None)
        diary.until("c0 hook")
        diary.until("s hook")
        (diary.directory / "s").touch()
        (diary.directory / "c0").touch()
        pods.await_ends([going], runtime.SECONDS)
        ends = diary.lines()[before:]
        assert sorted(ends[:2]) == ["c0 hook", "s hook"] and ends[2:] == ["c0 Exiting", "s Exiting"]

    def test_whatever_ends_while_a_hook_is_under_way(self, lab: runtime.Lab, diary: Diary) -> None:
        """The container by itself, pause, and the pod: nothing is left of the hook; it runs again with the next run."""
        hook = {"postStart": command(f"{say('hook', 'Starting')}; sleep 1000; {say('hook', 'Exiting')}")}
        pod = lab.run_pod(diary.lasting("c0", lifecycle=hook), volumes=diary.volumes)
        diary.until("hook Starting")
        os.kill(pod.pid("c0"), signal.SIGKILL)
        diary.until("hook Starting", 2)
        os.kill(pod.pause(), signal.SIGKILL)
        pod.until(lambda pod: pod.status()["podlab"]["attempt"] == 1)
        assert pod.container("c0")["restartCount"] >= 1
        pod.delete(1)
        assert "hook Exiting" not in diary.lines()
        again = lab.run_pod(SLEEP, initContainers=[diary.lasting("i")], volumes=diary.volumes)
        diary.until("i Started")
        again.delete()
        assert diary.lines()[-1] == "i Exiting"

    def test_by_http_and_by_sleep(self, lab: runtime.Lab, diary: Diary) -> None:
        """An answer of whatever kind will do; a hook that takes longer than the grace period is left behind."""
        serve = "nc -l -p 8080 > /diary/asked; " + say("c0", "asked") + "; sleep 1000"
        text = f"{say('c0', 'Started')}; {serve}"
        http = {"httpGet": {"path": "/x?y", "port": 8080}}
        listening = f"until grep -q :1F90 /proc/net/tcp6 /proc/net/tcp; do sleep 0.05; done; {say('c0', 'Listening')}"
        pod = lab.run_pod(
            diary.script(text, lifecycle={"preStop": http, "postStart": command(listening)}),
            diary.lasting("c1", lifecycle={"postStart": {"sleep": {"seconds": 0}}, "preStop": command("sleep 500")}),
            volumes=diary.volumes,
        )
        lines = diary.until("c1 Started")
        assert lines.index("c0 Listening") < lines.index("c1 Starting")
        pod.delete(1)
        asked = (diary.directory / "asked").read_bytes()
        assert asked.startswith(b"GET /x?y HTTP/1.1\r\n") and b"User-Agent: kube-lifecycle/" in asked
        assert diary.lines()[-1] == "c1 Exiting"

    def test_a_hook_that_nobody_can_run(self, lab: runtime.Lab) -> None:
        """tcpSocket passes the API server and fails on the node."""
        hook = {"postStart": {"tcpSocket": {"port": 1}}}
        pod = lab.run_pod({**SLEEP, "lifecycle": hook}, restartPolicy="Never")
        pod.until(lambda pod: pod.container()["state"].get("waiting", {}).get("reason") == "PostStartHookError")
        assert pod.container()["state"]["waiting"]["message"] == "Cannot run handler: invalid handler"
        pod.delete(0)

    def test_the_stop_signal_of_the_manifest(self, lab: runtime.Lab, diary: Diary) -> None:
        text = f"trap '{say('c0', 'USR1')}; exit 0' USR1; {say('c0', 'Started')}; while :; do sleep 0.05; done"
        first = diary.script(text, lifecycle={"stopSignal": "SIGUSR1"})
        pod = lab.run_pod(first, volumes=diary.volumes, terminationGracePeriodSeconds=600, os={"name": "linux"})
        diary.until("c0 Started")
        pod.delete()
        assert diary.lines()[-1] == "c0 USR1"


def test_a_deadline_ends_the_pod(lab: runtime.Lab) -> None:
    """It counts from the pod's start: an init container that never ends is no excuse."""
    inits = [{**SLEEP, "restartPolicy": "Always"}, SLEEP]
    pod = lab.run_pod(SLEEP, initContainers=inits, activeDeadlineSeconds=1)
    pod.until(lambda pod: pod.status()["phase"] == "Failed")
    status = pod.status()
    assert status["reason"] == "DeadlineExceeded"
    assert status["message"] == "Pod was active on the node longer than the specified deadline"
    assert shown(pod)[0] == "Init:Error"
    assert ["terminated" in each["state"] for each in status["initContainerStatuses"]] == [True, True]
    runtime.wait_for_end([pod.supervisor()])


def test_restart_rules(lab: runtime.Lab, diary: Diary) -> None:
    """The rule that fits, else the container's policy, else the pod's."""
    text = f"{say('c0', 'Starting')}; [ -e /diary/once ] && exit 5; touch /diary/once; exit 42"
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    first = diary.script(text, restartPolicy="Never", restartPolicyRules=rules)
    second = {"command": ["false"], "restartPolicy": "Never"}
    pod = lab.run_pod(first, second, volumes=diary.volumes, restartPolicy="OnFailure")
    pod.until(lambda pod: pod.status()["phase"] == "Failed")
    assert [pod.container(name)["restartCount"] for name in ("c0", "c1")] == [1, 0]
    assert pod.container()["state"]["terminated"]["exitCode"] == 5
