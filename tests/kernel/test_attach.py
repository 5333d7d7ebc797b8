"""Containers with a terminal or an open standard input, and attaching to them."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from podlab.errors import PodlabError
from podlab.runtime import requests
from support import runtime, terminal
from support.waiting import until

pytestmark = pytest.mark.kernel

# Says what it reads, and when it can read no more; lives on.
ECHO = 'while read line; do echo "got $line"; done; echo over; exec sleep 1000'
CALL = (
    "import sys, json; from podlab.runtime.attach import attach; from podlab.errors import PodlabError; "
    "a, b = json.loads(sys.argv[1])\n"
    "try: attach(*a, **b)\n"
    "except PodlabError as error: sys.exit(f'refused: {error}')"
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.one_node(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="module")
def pod(lab: runtime.Lab) -> runtime.Pod:
    """c0 a shell on a terminal; c1 reads for ever, c2 once; c3 a user's, with a volume at /dev/pts; c4 plain."""
    shared = [{"name": "pts", "mountPath": "/dev/pts"}]
    made = lab.run_pod(
        {"command": ["sh"], "stdin": True, "tty": True},
        {"command": ["sh", "-c", ECHO], "stdin": True},
        {"command": ["sh", "-c", ECHO], "stdin": True, "stdinOnce": True},
        {"command": ["sleep", "1000"], "tty": True, "securityContext": {"runAsUser": 1000}, "volumeMounts": shared},
        {"command": ["sh", "-c", "while sleep 0.1; do echo out; echo err >&2; done"]},
        volumes=[{"name": "pts", "emptyDir": {}}],
    )
    assert made.said == ""
    return made


def call(pod: runtime.Pod, name: str, **flags: bool) -> dict[str, Any]:
    """Popen's arguments for an attach."""
    known = {"stdin": False, "terminal": False, "once": False, **flags}
    path = str(pathlib.Path(__file__).resolve().parents[2] / "module_utils")
    argv = [sys.executable, "-c", CALL, json.dumps([[pod.lab.name, pod.uid, name], known])]
    return {"args": argv, "env": {**os.environ, "PYTHONPATH": path}}


@contextlib.contextmanager
def attached(pod: runtime.Pod, name: str, **flags: bool) -> Iterator[subprocess.Popen[str]]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(**call(pod, name, **flags), **pipes) as running:
        try:
            yield running
        finally:
            running.kill()


class TestTerminalOfAContainer:
    """pods.md 1.3: console only with a terminal; security.md row 14: a pty of the container's own devpts."""

    def test_it_is_its_console_and_its_controlling_terminal(self, pod: runtime.Pod) -> None:
        first = pod.pid()
        assert {os.readlink(f"/proc/{first}/fd/{number}") for number in range(3)} == {"/dev/pts/0"}
        session, device = pathlib.Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[3:5]
        assert (session, os.major(int(device)), os.minor(int(device))) == (str(first), 136, 0)
        numbers = pod.sh("stat -c %t:%T:%d /dev/console; stat -c %t:%T:%d /dev/pts/0; ls /dev/pts").split()
        assert numbers == ["88:0:" + numbers[0].split(":")[2], numbers[0], "0", "ptmx"]
        assert "console" in pod.sh("ls /dev").split()
        assert " /dev/console " in pathlib.Path(f"/proc/{first}/mountinfo").read_text()

    def test_without_one_there_is_no_console(self, pod: runtime.Pod) -> None:
        assert "console" not in pod.sh("ls /dev", "c4").split()
        assert pod.sh("tty < /proc/1/fd/0; readlink /proc/1/fd/0; ls /dev/pts", "c4").split()[-2:] == [
            "/dev/null",
            "ptmx",
        ]

    def test_row_14_a_volume_at_dev_pts_does_not_lead_astray(self, pod: runtime.Pod) -> None:
        """The shared volume hides the terminal's name; the console is the pty of the container's own devpts."""
        root = f"/proc/{pod.pid('c3')}/root"
        console, stdin = os.stat(f"{root}/dev/console"), os.stat(f"/proc/{pod.pid('c3')}/fd/0")
        assert stat.S_ISCHR(console.st_mode)
        assert (console.st_dev, console.st_rdev, console.st_uid) == (stdin.st_dev, stdin.st_rdev, 1000)
        assert os.listdir(f"{root}/dev/pts") == []
        others = {os.stat(f"/proc/{pid}/root/dev/pts").st_dev for pid in (pod.pid("c0"), pod.pid("c4"), "self")}
        assert console.st_dev not in others
        # exec -t finds no multiplexer of the container's, and takes no other.
        ran = pod.exec("tty", container="c3", stdin="", terminal=True)
        assert ran.code == 255

    def test_term_is_xterm(self, pod: runtime.Pod) -> None:
        environments = {
            name: pathlib.Path(f"/proc/{pod.pid(name)}/environ").read_text().split("\0") for name in ("c0", "c4")
        }
        assert "TERM=xterm" in environments["c0"]
        assert not any(entry.startswith("TERM=") for entry in environments["c4"])
        assert "TERM=xterm" in pod.exec("env", container="c4", stdin="", terminal=True).out.split()

    @pytest.mark.parametrize(
        "spec", [{"hostUsers": False}, {"hostPID": True}, {"shareProcessNamespace": True}], ids=str
    )
    def test_in_every_kind_of_pod(self, lab: runtime.Lab, spec: dict[str, Any]) -> None:
        """The terminal is the container's user's, whoever he is on the machine; exec -t finds a second one."""
        user = {"runAsUser": 1000}
        other = lab.run_pod({"command": ["sleep", "1000"], "tty": True, "stdin": True, "securityContext": user}, **spec)
        assert other.said == ""
        assert other.sh("stat -c %t:%T:%u /dev/console") == "88:0:1000\n"
        ran = other.exec("sh", "-c", "tty; ls /dev/pts", stdin="", terminal=True)
        assert (ran.code, ran.out.split()) == (0, ["/dev/pts/1", "0", "1", "ptmx"])
        other.delete(0)

    def test_privileged(self, lab: runtime.Lab) -> None:
        """/dev has the node's devices, but its own terminals."""
        context = {"privileged": True}
        other = lab.run_pod({"command": ["sleep", "1000"], "tty": True, "securityContext": context})
        assert other.said == ""
        assert other.sh("stat -c %t:%T /dev/console; ls /dev/pts").split() == ["88:0", "0", "ptmx"]
        other.delete(0)

    def test_its_log_is_one_stream(self, pod: runtime.Pod) -> None:
        pod.exec("sh", "-c", "echo error >/proc/1/fd/2; echo output >/proc/1/fd/1")
        pod.until_log("output")
        lines = (pod.logs / "c0" / "0.log").read_bytes().decode().split("\n")[:-1]
        assert {line.split()[1] for line in lines} == {"stdout"}
        assert any(line.endswith("error") for line in lines)


class TestStreamsAreTheUsers:
    """runc's fixStdioPermissions: whoever a container runs as may open its /dev/stdout anew."""

    def test_of_exec(self, pod: runtime.Pod) -> None:
        ran = pod.exec("sh", "-c", "echo out > /dev/stdout; echo err > /dev/stderr", container="c3")
        assert ran == runtime.Ran(0, "out\n", "err\n")

    def test_of_a_container(self, lab: runtime.Lab) -> None:
        script = "echo out > /dev/stdout; cat /dev/stdin; exec sleep 1000"
        other = lab.run_pod({"command": ["sh", "-c", script], "securityContext": {"runAsUser": 1000}})
        other.until_log("out")
        other.delete(0)


class TestAttach:
    """As kubectl attach."""

    def test_both_streams_from_now_on(self, pod: runtime.Pod) -> None:
        with attached(pod, "c4") as running:
            assert running.stdout and running.stderr
            assert (running.stdout.readline(), running.stderr.readline()) == ("out\n", "err\n")
        # The container goes on, and so does its log.
        lines = len(pod.log("c4").splitlines())
        runtime.watch(
            str(pod.logs / "c4"), lambda: len(pod.log("c4").splitlines()) > lines, 60, lambda: "no more lines"
        )

    def test_input_stays_open(self, pod: runtime.Pod) -> None:
        """stdin without stdinOnce: whoever comes next may go on; the end of our input is not the container's."""
        for word in ("one", "two"):
            with attached(pod, "c1", stdin=True) as running:
                assert running.stdin and running.stdout
                print(word, file=running.stdin, flush=True)
                assert running.stdout.readline() == f"got {word}\n"
                running.stdin.close()
                assert running.wait(runtime.SECONDS) == 0
        assert pod.log("c1") == "got one\ngot two\n"

    def test_stdin_once_ends_with_the_first(self, pod: runtime.Pod) -> None:
        with attached(pod, "c2", stdin=True, once=True) as running:
            assert running.stdin and running.stdout
            print("last words", file=running.stdin, flush=True)
            assert running.stdout.readline() == "got last words\n"
            running.stdin.close()
            assert running.stdout.readline() == "over\n"
        with pytest.raises(
            PodlabError, match="container c2 reads no standard input: it has no stdin, or it was closed"
        ):
            self.ask(pod, "c2", "i")

    def test_two_at_once(self, pod: runtime.Pod) -> None:
        with attached(pod, "c1") as listener, attached(pod, "c1", stdin=True) as running:
            assert running.stdin and listener.stdout and running.stdout
            until(lambda: sockets(pod) == 3, "not both are attached")
            print("to both", file=running.stdin, flush=True)
            assert running.stdout.readline() == listener.stdout.readline() == "got to both\n"

    def test_a_terminal(self, pod: runtime.Pod) -> None:
        """What is typed is echoed; the size is ours; Ctrl-P Ctrl-Q leaves the shell as it is."""
        options = call(pod, "c0", stdin=True, terminal=True)
        for size in ((33, 97), (20, 60)):
            with terminal.process(options["args"], *size, env=options["env"]) as screen:
                screen.expect("try pressing enter")
                screen.type("stty size; echo PID=$$.\n")
                screen.expect("{} {}".format(*size))
                screen.expect("PID=1.")
                screen.type("\x10\x11")
                assert screen.wait() == 0
        assert pod.container()["restartCount"] == 0

    def test_one_who_does_not_read_stops_the_container_only(self, lab: runtime.Lab) -> None:
        """The pod's other container is restarted meanwhile; when he has gone, all is written."""
        script = "read line; seq 1 400000; echo done; exec sleep 1000"
        other = lab.run_pod({"command": ["sh", "-c", script], "stdin": True}, {"command": ["sleep", "1000"]})
        read, write = os.pipe()
        with open(os.devnull, "wb") as null:
            connection, given = requests.ask(other.directory, ["attach", "c0", "i"], [write, null.fileno()])
        os.write(given[0], b"\n")
        os.kill(other.pid("c1"), 9)
        other.until(lambda pod: pod.container("c1").get("restartCount") == 1)
        assert "done" not in other.log()
        connection.close()
        other.until_log("done")
        for fd in (read, write, *given):
            os.close(fd)
        other.delete(0)

    def test_it_ends_with_the_container(self, lab: runtime.Lab) -> None:
        """Everything that was written before comes, also when the container is gone at once."""
        other = lab.run_pod({"command": ["sh", "-c", "read line; seq 1 20000"], "stdin": True}, restartPolicy="Never")
        with attached(other, "c0", stdin=True, once=True) as running:
            out, err = running.communicate("go\n", timeout=runtime.SECONDS)
        assert (out, err) == ("".join(f"{number}\n" for number in range(1, 20001)), "")
        other.ended()
        other.delete(0)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("nobody", "container nobody is not running"),
            ("c4", "container c4 reads no standard input: it has no stdin"),
        ],
    )
    def test_refused(self, pod: runtime.Pod, name: str, message: str) -> None:
        with pytest.raises(PodlabError, match=message):
            self.ask(pod, name, "i")

    def ask(self, pod: runtime.Pod, name: str, flags: str) -> None:
        with open(os.devnull, "wb") as one, open(os.devnull, "wb") as two:
            requests.ask(pod.directory, ["attach", name, flags], [one.fileno(), two.fileno()])


def sockets(pod: runtime.Pod) -> int:
    """How many its supervisor has open."""
    fds, found = f"/proc/{pod.supervisor()}/fd", []
    for number in os.listdir(fds):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"{fds}/{number}"))
    return sum(each.startswith("socket:") for each in found)


class TestTheDoor:
    """security.md row 31: a path socket of root's alone, never abstract."""

    def test_mode_and_kind(self, pod: runtime.Pod) -> None:
        status = os.stat(f"{pod.directory}/{requests.NAME}")
        assert stat.S_ISSOCK(status.st_mode)
        assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, 0)
        assert "@" not in pod.sh("cat /proc/net/unix", "c4")

    def test_what_it_does_not_know_is_refused(self, pod: runtime.Pod) -> None:
        with pytest.raises(PodlabError, match="there is no request 'reboot'"):
            requests.ask(pod.directory, ["reboot"], [])

    def test_one_who_says_nothing_costs_nothing(self, pod: runtime.Pod) -> None:
        for _ in range(20):
            mute = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            mute.connect(f"{pod.directory}/{requests.NAME}")
            mute.close()
        until(lambda: sockets(pod) == 1, "connections are left open")

    def test_one_who_goes_before_the_answer(self, pod: runtime.Pod) -> None:
        """What he gave is closed again: the end of his pipe comes, after some of the container's lines or none."""
        read, write = os.pipe()
        gone = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        gone.connect(f"{pod.directory}/{requests.NAME}")
        with open(os.devnull, "wb") as null:
            socket.send_fds(gone, [b"attach\0c4\0"], [write, null.fileno()])
        gone.close()
        os.close(write)
        with os.fdopen(read, "rb") as file:
            assert set(file.read().split()) <= {b"out"}
        until(lambda: sockets(pod) == 1, "his connection is left open")

    def test_nobody_there(self, tmp_path: pathlib.Path) -> None:
        with pytest.raises(PodlabError, match="the pod's supervisor does not answer: No such file or directory"):
            requests.ask(str(tmp_path), ["attach"], [])
