"""`up` killed at any moment: the next one repairs, `down` leaves nothing. One run at a time, and only a live one."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from podlab.cli.playbook import PATIENCE_SECONDS
from podlab.kube.cluster import uplink_name
from podlab.linux.process import children
from support import snapshot
from support.machine import Machine, kill_with_children, machine
from support.small_lab import SmallLab
from support.waiting import until

pytestmark = pytest.mark.own_machine

NAME = "killed"
NETNS = "/run/netns"
STATE = f"/run/podlab/{NAME}"
DATA = f"/var/lib/podlab/clusters/{NAME}"

# What has just appeared when the axe falls, in the order of `up`.
MOMENTS: dict[str, Callable[[Machine], Any]] = {
    "the lock": lambda host: host.path(f"/run/podlab/.{NAME}.lock").exists(),
    "the first namespace": lambda host: pinned(host, f"podlab-{NAME}-network"),
    "the node's namespace": lambda host: pinned(host, f"podlab-{NAME}-control-plane"),
    "the uplink": lambda host: has_uplink(host),
    "the lab's record": lambda host: host.path(f"{STATE}/cluster.json").exists(),
    "the node's files": lambda host: host.path(f"{STATE}/nodes/{NAME}-control-plane/hosts").exists(),
    "the node": lambda host: host.path(f"{STATE}/nodes/{NAME}-control-plane/node.json").exists(),
    "an image's layer": lambda host: any(host.path("/var/lib/podlab/images").glob("tmp/*")),
    "the pod's config": lambda host: any(host.path(STATE).glob("pods/*/config.json")),
    "the supervisor": lambda host: any(host.path(STATE).glob("pods/*/supervisor.json")),
    "the container's layers": lambda host: any(host.path(DATA).glob("pods/*/containers/*/*/merged")),
    "the pod's status": lambda host: any(host.path(STATE).glob("pods/*/status.json")),
    "the Services": lambda host: host.path(f"{STATE}/services.json").exists(),
}


# Ten are enough for `up`; a `down` takes away what is half made at these.
ONLY_FOR_DOWN = {"the node's namespace", "the node's files", "the container's layers"}


def has_uplink(host: Machine) -> bool:
    return f"{uplink_name(NAME)}:" in host.path("/proc/1/net/dev").read_text()


def pinned(host: Machine, name: str) -> bool:
    """Whether the namespace is mounted: the file alone is there a moment earlier."""
    return f" {NETNS}/{name} " in host.path("/proc/1/mountinfo").read_text()


@pytest.fixture
def host() -> Iterator[Machine]:
    """A machine of the test's own."""
    with machine() as made:
        yield made


@pytest.fixture
def lab(host: Machine, tmp_path: pathlib.Path) -> Iterator[SmallLab]:
    """A lab on it; after the test, and a `down`, the machine must be as it was."""
    before = host.snapshot()
    lab = SmallLab(host, tmp_path, NAME)
    yield lab
    lab.down()
    snapshot.assert_same(before, host.snapshot())


def start(lab: SmallLab) -> subprocess.Popen[str]:
    """ansible-playbook, and all that it starts."""
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return lab.machine.popen("ansible-playbook", "playbooks/lab.yml", environment=lab.environment, **silent)


def kill_playbook(process: subprocess.Popen[str]) -> None:
    """SIGKILL ansible-playbook alone; the task that it has begun goes on in a worker."""
    for pid in children(process.pid):  # of nsenter
        os.kill(pid, signal.SIGKILL)


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C: SIGINT to the process group. What Ansible does not end of by itself is killed, as the commands do it."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(4 * PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        kill_playbook(process)


def interrupted(
    lab: SmallLab,
    moment: Callable[[Machine], Any],
    end: Callable[[subprocess.Popen[str]], None] = kill_with_children,
) -> None:
    """Start `up`, and end it when the moment has come."""
    with start(lab) as process:
        try:
            until(lambda: moment(lab.machine) or process.poll() is not None, "the moment never came", 90)
            assert process.poll() is None, "`up` had ended before"
        finally:
            end(process)
        process.wait(90)


@pytest.mark.parametrize("moment", [moment for moment in MOMENTS if moment not in ONLY_FOR_DOWN])
def test_up_repairs_after_a_kill(lab: SmallLab, moment: str) -> None:
    interrupted(lab, MOMENTS[moment])
    lab.up()
    lab.assert_works()


@pytest.mark.parametrize("moment", sorted({*ONLY_FOR_DOWN, "the supervisor"}))
def test_down_after_a_kill(lab: SmallLab, moment: str) -> None:
    """Here `down` is the fixture's: it must leave nothing of what is half made."""
    interrupted(lab, MOMENTS[moment])


@pytest.mark.parametrize("moment", ["the node", "the supervisor"])
def test_ctrl_c(lab: SmallLab, moment: str) -> None:
    interrupted(lab, MOMENTS[moment], interrupt)
    lab.up()
    lab.assert_works()


@pytest.mark.parametrize("moment", ["the first namespace", "the pod's config"])
def test_the_playbook_killed_alone(lab: SmallLab, moment: str) -> None:
    """The next `up` comes while the last task of the dead one still goes on."""
    interrupted(lab, MOMENTS[moment], kill_playbook)
    lab.up()
    lab.assert_works()
    assert "nothing to do" in lab.up()


def test_down_killed_half_way(lab: SmallLab) -> None:
    lab.up()
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**lab.environment, "PODLAB_DOWN": "1"}
    with lab.machine.popen("ansible-playbook", "playbooks/teardown.yml", environment=environment, **silent) as process:
        until(lambda: not has_uplink(lab.machine) or process.poll() is not None, "the uplink stays", 90)
        kill_with_children(process)
        process.wait(90)


def test_one_run_at_a_time(lab: SmallLab) -> None:
    """The second run says who holds the lab and since when, at once, and touches nothing."""
    lab.up()
    holder = lab.machine.popen("sleep", "infinity")
    try:
        pid = host_pid_of(lab.machine, "sleep infinity")
        start_time = lab.machine.path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        since = "2026-01-02 03:04:05"
        record = json.dumps({"pid": pid, "start": int(start_time), "since": since})
        lock = lab.machine.path(f"/run/podlab/.{NAME}.lock")
        lock.write_text(record)
        before = lab.machine.snapshot()
        for command, words in (
            ("up", ["--config", str(lab.config)]),
            ("down", []),
        ):
            done = lab.invoke(command, *words)
            assert done.returncode, done.text
            said = [line for line in done.stderr.splitlines() if line.strip()]
            assert said == [
                f"Lab {NAME} is being changed by another run: held by pid {pid} since {since}. Wait for it to end"
            ]
        snapshot.assert_same(before, lab.machine.snapshot())
        assert lock.read_text() == record
        lab.assert_works()
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.wait()
    # Whoever held it is gone: the lock is nobody's.
    assert "nothing to do" in lab.up()
    assert not lock.exists()


def test_two_runs_at_once(lab: SmallLab) -> None:
    """Really at once: the one fails with the message, the other, held up so that it is not faster, is not disturbed."""
    with start(lab) as first:
        until(lambda: MOMENTS["the lock"](lab.machine) or first.poll() is not None, "no lock")
        os.killpg(first.pid, signal.SIGSTOP)
        try:
            second = lab.invoke("up", "--config", str(lab.config))
        finally:
            until(lambda: ended(first), "the first run does not end", 180)
    assert second.returncode
    assert re.search(rf"Lab {NAME} is being changed by another run: held by pid \d+ since 20\d\d-", second.stderr)
    assert first.returncode == 0
    lab.assert_works()
    assert "nothing to do" in lab.up()


def ended(process: subprocess.Popen[str]) -> bool:
    """Whether the run has ended; it goes on, should it be stopped. nsenter stops itself when it sees a child stopped,
    and that may be after both were told to go on."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGCONT)
    return process.poll() is not None


def host_pid_of(host: Machine, command: str) -> int:
    """The pid, on the machine, of the one process with this command line."""
    found: list[int] = []

    def look() -> bool:
        output = host.sh("ps", "-eo", "pid=,args=")
        found[:] = [int(line.split()[0]) for line in output.splitlines() if line.split(None, 1)[1] == command]
        return bool(found)

    until(look, f"no process {command!r}")
    return found[0]
