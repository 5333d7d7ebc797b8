"""A command in a running container: as its first process is, never less confined; its codes, streams and terminal."""

from __future__ import annotations

import os
import pathlib
import re
import signal
from collections.abc import Iterator

import pytest

from podlab.errors import PodlabError
from podlab.runtime import exec as podlab_exec
from support import runtime

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]
SLEEP = {"command": ["sleep", "1000"]}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.one_node(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="module")
def pod(lab: runtime.Lab) -> runtime.Pod:
    """c0 as root with an environment, c1 restricted, c2 of another user."""
    env = [{"name": "A", "value": "b"}, {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    restricted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    made = lab.run_pod(
        {**SLEEP, "env": env, "workingDir": "/tmp"},
        {**SLEEP, "securityContext": restricted},
        {**SLEEP, "securityContext": {"runAsUser": 1000, "runAsGroup": 2000}},
        securityContext={"supplementalGroups": [3000]},
    )
    assert made.said == ""
    return made


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["true"], 0),
        (["false"], 1),
        (["sh", "-c", "exit 42"], 42),
        (["sh", "-c", "exit 255"], 255),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["/no/such"], 255),
        (["no-such"], 255),
        (["/etc"], 255),
    ],
    ids=str,
)
def test_exit_codes(pod: runtime.Pod, argv: list[str], code: int) -> None:
    assert pod.exec(*argv).code == code


def test_what_cannot_be_run_is_said_in_one_line(pod: runtime.Pod) -> None:
    assert pod.exec("no-such").err == "error: no-such: executable file not found in $PATH\n"
    assert pod.exec("/no/such").err == "error: /no/such: No such file or directory\n"
    assert len(pod.exec("/etc").err.splitlines()) == 1


class TestStreams:
    """Standard input, output and error, byte for byte."""

    def test_apart(self, pod: runtime.Pod) -> None:
        assert pod.exec("sh", "-c", "echo out; echo err >&2") == runtime.Ran(0, "out\n", "err\n")

    def test_input(self, pod: runtime.Pod) -> None:
        text = "".join(f"line {number}\n" for number in range(50000))
        assert pod.exec("cat", stdin=text).out == text
        assert pod.exec("wc", "-c", stdin=text).out.strip() == str(len(text))

    def test_no_input(self, pod: runtime.Pod) -> None:
        assert pod.exec("cat") == runtime.Ran(0, "", "")

    def test_input_that_nobody_reads(self, pod: runtime.Pod) -> None:
        assert pod.exec("true", stdin="x" * 1000000).code == 0

    def test_output_in_bulk(self, pod: runtime.Pod) -> None:
        ran = pod.exec("sh", "-c", "seq 1 100000")
        assert ran.code == 0 and ran.out == "".join(f"{number}\n" for number in range(1, 100001))

    def test_they_are_pipes_without_a_terminal(self, pod: runtime.Pod) -> None:
        assert pod.exec("tty").out == "not a tty\n"


class TestTerminal:
    """One of the container's own."""

    def test_it_is_the_containers(self, pod: runtime.Pod) -> None:
        ran = pod.exec("sh", "-c", "tty; ls /dev/pts; test -t 0 -a -t 1 -a -t 2 && echo all", stdin="", terminal=True)
        assert ran.code == 0
        assert ran.out.split() == ["/dev/pts/0", "0", "ptmx", "all"]

    def test_it_is_gone_afterwards(self, pod: runtime.Pod) -> None:
        assert pod.sh("ls /dev/pts") == "ptmx\n"

    def test_it_leads_a_session_of_its_own(self, pod: runtime.Pod) -> None:
        ran = pod.exec("sh", "-c", "cut -d' ' -f5,6,7 /proc/$$/stat; echo $$", stdin="", terminal=True)
        group, session, device, pid = ran.out.split()
        assert group == session == pid and device != "0"

    def test_term_and_code(self, pod: runtime.Pod) -> None:
        ran = pod.exec("sh", "-c", "echo ${TERM:+set}; exit 5", stdin="", terminal=True)
        assert (ran.code, ran.out.strip()) == (5, "set")

    def test_what_cannot_be_run(self, pod: runtime.Pod) -> None:
        assert pod.exec("no-such", stdin="", terminal=True).code == 255


SAME = "CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Uid Gid Seccomp Umask SigIgn SigBlk".split()


class TestAsTheFirstProcess:
    """What the start gives, exec gives (CVE-2022-29162 and its kin)."""

    @pytest.mark.parametrize("name", ["c0", "c1", "c2"])
    def test_status(self, pod: runtime.Pod, name: str) -> None:
        def rows(text: str) -> dict[str, str]:
            return {line.partition(":")[0]: line.partition(":")[2].strip() for line in text.splitlines()}

        first = rows(pathlib.Path(f"/proc/{pod.pid(name)}/status").read_text())
        ours = rows(pod.exec("cat", "/proc/self/status", container=name).out)
        assert {key: ours[key] for key in SAME} == {key: first[key] for key in SAME}
        assert sorted(ours["Groups"].split()) == sorted(first["Groups"].split())

    @pytest.mark.parametrize("name", ["c0", "c2"])
    def test_namespaces(self, pod: runtime.Pod, name: str) -> None:
        kinds = "cgroup ipc mnt net pid user uts".split()
        found = pod.exec("sh", "-c", f"for k in {' '.join(kinds)}; do readlink /proc/self/ns/$k; done", container=name)
        assert found.out.split() == [os.readlink(f"/proc/{pod.pid(name)}/ns/{kind}") for kind in kinds]

    def test_cgroup_and_oom_score(self, pod: runtime.Pod) -> None:
        first = pathlib.Path(f"/proc/{pod.pid()}/cgroup").read_text()
        pid, cgroup = 0, ""
        with runtime.background(pod, "sleep", "777"):
            pid = runtime.find_command(pod, "sleep 777")
            cgroup = pathlib.Path(f"/proc/{pid}/cgroup").read_text()
            score = pathlib.Path(f"/proc/{pid}/oom_score_adj").read_text()
        assert cgroup == first
        assert score == pathlib.Path(f"/proc/{pod.pid()}/oom_score_adj").read_text()

    def test_limits(self, pod: runtime.Pod) -> None:
        assert pod.sh("cat /proc/self/limits") == pathlib.Path(f"/proc/{pod.pid()}/limits").read_text()

    def test_environment_and_directory(self, pod: runtime.Pod) -> None:
        first = pathlib.Path(f"/proc/{pod.pid()}/environ").read_bytes().decode().split("\0")[:-1]
        ours = pod.exec("cat", "/proc/self/environ").out.split("\0")[:-1]
        assert sorted(ours) == sorted(first)
        assert "A=b" in ours and f"IP={pod.status()['podIP']}" in ours
        assert not any("SECRET_OF_THE_CALLER" in entry for entry in ours)
        assert pod.exec("pwd").out == "/tmp\n"

    def test_descriptors(self, pod: runtime.Pod) -> None:
        found = dict(re.findall(r"(\d+) -> (.*)", pod.exec("ls", "-l", "/proc/self/fd").out))
        # ls itself opens the directory.
        assert {number for number, path in found.items() if not path.startswith("/proc/")} == {"0", "1", "2"}
        assert all(found[number].startswith("pipe:") for number in "012")

    def test_masks_cannot_be_taken_away(self, pod: runtime.Pod) -> None:
        assert "not permitted" in pod.exec("umount", "/proc/timer_list").err or not os.path.exists("/proc/timer_list")
        assert "Read-only file system" in pod.exec("touch", "/x", container="c1").err


def test_what_a_shell_makes_of_its_background_is_not_the_containers(lab: runtime.Lab) -> None:
    """Ignored signals and a nice value, of whoever starts the pod or runs the command."""
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, nice + 1)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGQUIT, signal.SIGUSR1)}
    try:
        pod = lab.run_pod(SLEEP)
        # Not by a shell: busybox' own ignores one.
        inside = pod.exec("cat", "/proc/self/stat", "/proc/self/status").out
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        for number, handler in before.items():
            signal.signal(number, handler)
    assert inside.split()[18] == "0" and f"SigIgn:\t{0:016x}\n" in inside
    for pid in (pod.pid(), pod.pause()):
        assert os.getpriority(os.PRIO_PROCESS, pid) == 0
        assert f"SigIgn:\t{0:016x}\n" in pathlib.Path(f"/proc/{pid}/status").read_text()
    pod.delete()


def test_it_ends_with_its_container(lab: runtime.Lab) -> None:
    pod = lab.run_pod(SLEEP, restartPolicy="Never")
    with runtime.background(pod, "sleep", "888") as running:
        pid = runtime.find_command(pod, "sleep 888")
        os.kill(pod.pid(), 9)
        runtime.wait_for_end([pid])
        assert running.wait() == 137
    pod.delete()


def test_nothing_is_left_of_it(pod: runtime.Pod) -> None:
    before = runtime.trace(pod.lab.name)
    for _ in range(5):
        pod.exec("true")
        pod.exec("no-such")
        pod.exec("cat", stdin="x", terminal=False)
    runtime.assert_same(before, runtime.trace(pod.lab.name))


class TestRefused:
    """What is not there is named."""

    def refusal(self, lab: runtime.Lab, uid: str, name: str = "") -> str:
        with pytest.raises(PodlabError) as caught:
            podlab_exec.exec_in(lab.name, uid, name, ["true"])
        return str(caught.value)

    def test_no_pod(self, lab: runtime.Lab) -> None:
        assert self.refusal(lab, "no-such-uid") == "pod no-such-uid is not there. See: ./lab get pods -A"

    def test_no_container(self, lab: runtime.Lab, pod: runtime.Pod) -> None:
        name = pod.config["name"]
        assert self.refusal(lab, pod.uid, "web") == f"pod {name} has no container web. It has: c0, c1, c2"

    def test_one_that_has_ended(self, lab: runtime.Lab) -> None:
        done = lab.run_pod({"command": ["true"]}, restartPolicy="Never")
        done.ended()
        name = done.config["name"]
        assert self.refusal(lab, done.uid) == f"container c0 of pod {name} is not running. See: ./lab get pods"
