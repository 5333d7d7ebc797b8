"""What is left of a container: its log through rotations, its last words, why it ended, the files of runs before."""

from __future__ import annotations

import gzip
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from podlab.linux import cgroup
from podlab.runtime import paths
from support import runtime
from support.waiting import until

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]

MEBIBYTE = 1024 * 1024


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


def anonymous_memory(pid: int) -> int:
    """Bytes that the process has for itself."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(r"RssAnon:\s+(\d+) kB", text)[1]) * 1024  # type: ignore[index]


def test_output_without_end_rotates_and_the_supervisor_does_not_grow(lab: runtime.Lab) -> None:
    """64 MiB without a newline, in files of 4 MiB: 16 KiB parts, at most as many files as asked for."""
    writer = "read x < /go; head -c 67108864 /dev/zero | tr '\\0' x; read x < /go"
    planned = lab.pod(script(f"mkfifo /go; {writer}"))
    (pod,) = lab.start(planned, log_max_size=4 * MEBIBYTE, log_max_files=3)
    until(lambda: pod.exec("test", "-p", "/go").code == 0, "the container has not begun")
    before = anonymous_memory(pod.supervisor())
    pod.sh("echo > /go")
    # It reads again only when all that it wrote has been taken from its pipe, but for what the pipe holds.
    until(lambda: pod.exec("pidof", "tr").code == 1, "it still writes", seconds=120)
    assert anonymous_memory(pod.supervisor()) - before < MEBIBYTE
    names = sorted(os.listdir(pod.logs / "c0"))
    assert 1 < len(names) <= 3 and names[0] == "0.log"
    assert all(re.fullmatch(r"0\.log(\.\d{8}-\d{6}(\.gz)?)?", name) for name in names)
    for name in names:
        data = (pod.logs / "c0" / name).read_bytes()
        entries = (gzip.decompress(data) if name.endswith(".gz") else data).splitlines()
        assert all(re.fullmatch(rb"\S+ stdout P x{16384}", entry) for entry in entries[:-1])


MESSAGES = [
    ("File", "echo why > /dev/termination-log; echo log; exit 1", "why\n"),
    ("File", "echo log; exit 1", None),
    ("FallbackToLogsOnError", "echo why > /dev/termination-log; echo log; exit 1", "why\n"),
    ("FallbackToLogsOnError", "echo out; echo err >&2; exit 1", "out\nerr\n"),
    ("FallbackToLogsOnError", "printf end; exit 1", "end"),
    ("FallbackToLogsOnError", "echo log; exit 0", None),
    ("FallbackToLogsOnError", "seq 1 200; exit 1", "".join(f"{number}\n" for number in range(121, 201))),
    ("FallbackToLogsOnError", "head -c 5000 /dev/zero | tr '\\0' x; exit 1", "x" * 2048),
    ("File", "head -c 5000 /dev/zero | tr '\\0' x > /dev/termination-log; exit 0", "x" * 4096),
]


def test_termination_message_4096_bytes_of_the_file_or_80_lines_2048_bytes_of_the_log(lab: runtime.Lab) -> None:
    """FallbackToLogsOnError: only when the file is empty and the exit code is not 0. One container each."""
    containers = [script(f"sleep 0; {text}", terminationMessagePolicy=policy) for policy, text, _ in MESSAGES]
    pod = lab.run_pod(*containers, restartPolicy="Never")
    found = {number: pod.ended(f"c{number}").get("message") for number in range(len(MESSAGES))}
    assert found == {number: expected for number, (_, _, expected) in enumerate(MESSAGES)}


def test_one_dead_container_of_each_name_is_kept(lab: runtime.Lab) -> None:
    """MaxPerPodContainer=1: its layers and its log, for `logs --previous`; those before it go."""
    (pod,) = lab.start(lab.pod(script("echo run; echo > /mine; exit 1")), max_container_restart_period=1)
    pod.until(lambda pod: pod.container()["restartCount"] == 3 and "waiting" in pod.container()["state"])
    layers = pathlib.Path(paths.pod_data_dir(lab.name, pod.uid), "containers", "c0")
    assert sorted(os.listdir(layers)) == ["2", "3"]
    assert [(layers / run / "upper" / "mine").exists() for run in ("2", "3")] == [True, True]
    assert sorted(os.listdir(pod.logs / "c0")) == ["2.log", "3.log"]
    assert pod.log(run=2) == pod.log(run=3) == "run\n"


LIMIT = {"resources": {"limits": {"memory": "16Mi"}}}


def test_cgroup_oom_is_137_oom_killed(lab: runtime.Lab) -> None:
    """By the event: a KILL by hand has the code, but not the reason (test_supervisor.test_killed)."""
    pod = lab.run_pod({"command": ["tail", "/dev/zero"], **LIMIT}, restartPolicy="Never")
    ended = pod.ended()
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")


def test_cgroup_oom_of_a_child_is_the_containers_reason(lab: runtime.Lab) -> None:
    """containerd notes the event of the container's cgroup, whoever was killed; the exit code is the first process's.

    On v2 the container goes whole (memory.oom.group=1), on v1 the child alone.
    """
    pod = lab.run_pod(script("tail /dev/zero; echo $?; exit 3", **LIMIT), restartPolicy="Never")
    ended = pod.ended()
    alone = cgroup.detect().versions()["memory"] == 1
    assert (ended["exitCode"], ended["reason"]) == (3 if alone else 137, "OOMKilled")
    assert ("137\n" in pod.log()) is alone
