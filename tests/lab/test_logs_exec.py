"""logs and exec: what comes out, when it ends, with which code."""

from __future__ import annotations

import re
import subprocess

import pytest

from support import terminal
from support.lab import ROOT, Lab, environment, name_of, uid_of

pytestmark = pytest.mark.lab


# ---- logs ----


def test_logs_of_each_container(lab: Lab) -> None:
    name = name_of(lab.pod("two-containers-pod"))
    assert lab.invoke("logs", name, "-c", "hello").stdout == "Hello from the first container\n"
    assert lab.invoke("logs", name, "-c", "hello2").stdout == "Hello from the second container\n"
    assert lab.invoke("logs", "job/two-containers-pod", "-c", "hello2").stdout == "Hello from the second container\n"


def test_logs_are_followed_until_the_pod_ends(extras: Lab) -> None:
    """-f shows both streams and ends by itself, --tail cuts, the files are in the CRI's form."""
    pod = extras.pod("talk", "extras")
    argv = ["invoke", "logs", "-f", name_of(pod), "-n", "extras"]
    with subprocess.Popen(argv, env=environment(extras.name), cwd=ROOT, stdout=subprocess.PIPE, text=True) as follower:
        try:
            assert follower.stdout is not None
            # Two pipes: which of them is read first is nobody's promise.
            assert sorted(follower.stdout.readline() for _ in range(3)) == ["one\n", "three\n", "two\n"]
            extras.exec(name_of(pod), "sh", "-c", "echo four > /said", namespace="extras")
            # Its container may end, and take it along, before it ends itself.
            last = extras.try_exec(name_of(pod), "sh", "-c", "echo end > /said", namespace="extras")
            assert last.returncode in (0, 137)
            assert follower.communicate(timeout=20)[0] == "four\n"
            assert follower.returncode == 0
        finally:
            follower.kill()
    ended = extras.until(uid_of(pod), lambda found: found["status"]["phase"] == "Succeeded", "the pod has not ended")
    everything = extras.invoke("logs", name_of(pod), "-n", "extras").stdout.splitlines()
    assert extras.invoke("logs", name_of(pod), "-n", "extras", "--tail", "2").stdout.splitlines() == everything[2:]
    stamped = extras.invoke("logs", name_of(pod), "-n", "extras", "--timestamps").stdout.splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z \w+$", line) for line in stamped)
    lines = extras.log_file(ended, 0).read_text(encoding="utf-8").splitlines()
    texts = [line.split(" ", 1)[1] for line in lines]
    assert sorted(texts[:3]) == ["stderr F two", "stdout F one", "stdout F three"]
    assert texts[3:] == ["stdout F four"]


def test_logs_of_the_run_before(extras: Lab) -> None:
    uid = uid_of(extras.pod("onfailure", "extras"))
    extras.until(uid, lambda found: found["status"]["phase"] == "Succeeded", "the pod has not ended")
    assert extras.invoke("logs", "onfailure", "-n", "extras", "--previous").stdout == "this is run 1\n"
    done = extras.invoke("logs", "never", "-n", "extras", "--previous", check=False)
    assert done.returncode == 1
    assert 'previous terminated container "count" in pod "never" not found' in done.stderr


def test_logs_are_where_kubelet_has_them(lab: Lab) -> None:
    """Inside the node: /var/log/pods/<namespace>_<pod>_<uid>/<container>/<restarts>.log"""
    pod = lab.pods("web-")[0]
    node = pod["spec"]["nodeName"]
    text = lab.run("ansible", node, "-m", "command", "-a", "ls /var/log/pods", ANSIBLE_NOCOLOR="1").stdout
    assert f"default_{name_of(pod)}_{uid_of(pod)}" in text.split()


# ---- exec ----


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("sh", "-c", "exit 42"), 42),
        (("true",), 0),
        (("sh", "-c", "kill -9 $$"), 137),
        (("/no/such/binary",), 255),
        (("no-such-binary",), 255),
        (("/etc",), 255),
    ],
)
def test_exit_code_is_the_commands_own(lab: Lab, command: tuple[str, ...], code: int) -> None:
    done = lab.try_exec("core-k8s", *command)
    assert done.returncode == code
    assert bool(done.stderr) == (code == 255)


def test_words_arrive_as_they_were_typed(lab: Lab) -> None:
    words = ("a b", "", "$HOME", "'", "-n", "ä\n")
    done = lab.try_exec("core-k8s", "sh", "-c", 'for word; do printf "%s|" "$word"; done', "sh", *words)
    assert done.stdout == "".join(f"{word}|" for word in words)


def test_streams_are_kept_apart(lab: Lab) -> None:
    done = lab.try_exec("core-k8s", "sh", "-c", "echo out; echo error >&2")
    assert (done.stdout, done.stderr) == ("out\n", "error\n")


def test_input_is_passed_on_only_with_i(lab: Lab) -> None:
    text = "line\n" * 50_000  # more than any pipe holds
    assert lab.try_exec("core-k8s", "cat", stdin=text).stdout == text
    done = lab.invoke("exec", "core-k8s", "--", "cat", stdin="unheard")
    assert done.stdout == ""


def test_terminal_of_its_own(lab: Lab) -> None:
    """exec -it: a pty of the container's own devpts, of our size; what is typed is echoed; the code comes back."""
    script = "tty; stty size; echo TERM=$TERM; read line; echo got $line; exit 7"
    argv = ("invoke", "exec", "-it", "core-k8s", "--", "sh", "-c", script)
    with terminal.process(argv, rows=33, columns=97, cwd=ROOT, env=environment(lab.name, TERM="vt100")) as shell:
        shell.expect("TERM=xterm")
        shell.type("hello\n")
        text = shell.rest()
        assert shell.wait() == 7
    lines = text.split()
    assert "/dev/pts/0" in lines
    assert lines[lines.index("/dev/pts/0") + 1 :][:2] == ["33", "97"]
    assert "got hello" in text
    assert lab.exec("core-k8s", "ls", "/dev/pts").split() == ["ptmx"]


def test_exec_is_in_the_containers_cgroup_and_namespaces(lab: Lab) -> None:
    script = "cat /proc/$1/cgroup; for kind in cgroup ipc mnt net pid uts; do readlink /proc/$1/ns/$kind; done"
    own, first = (lab.try_exec("core-k8s", "sh", "-c", script, "sh", pid, check=True).stdout for pid in ("self", "1"))
    assert own == first
    assert len(re.findall(r"^[a-z]+:\[", own, re.MULTILINE)) == 6


def test_unknown_pod_and_container(lab: Lab) -> None:
    done = lab.try_exec("nobody", "true")
    assert done.returncode != 0
    assert 'pods "nobody" not found' in done.stderr
    done = lab.try_exec(name_of(lab.pod("two-containers-pod")), "true", container="third")
    assert done.returncode != 0
    assert "hello" in done.stderr
