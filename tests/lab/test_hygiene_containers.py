"""What a container must not have or reach, asked from inside: the classes of escapes that runtimes have had."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator

import pytest

from podlab.runtime import requests
from support import snapshot
from support.machine import Machine, machine
from support.small_lab import SmallLab, pod, yaml_of

pytestmark = pytest.mark.own_machine

# From where a process starts, or is executed, to where it ends up: all that must not differ between the two.
SAME = (
    "for field in Uid Gid Groups CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp; do"
    ' grep "^$field:" /proc/self/status; done;'
    " for kind in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$kind; done;"
    " cat /proc/self/oom_score_adj /proc/self/cgroup /proc/self/limits; pwd; umask; env | grep -v ^SHLVL | sort"
)
# name -> what of the container or pod
KEPT = {
    "plain": {},
    "user": {
        "securityContext": {"runAsUser": 1000, "runAsGroup": 2000, "supplementalGroups": [3000, 3001]},
        "env": [{"name": "MODE", "value": "dev"}, {"name": "LINES", "value": "a b"}],
        "workingDir": "/etc",
    },
    "limited": {
        "resources": {"limits": {"cpu": "200m", "memory": "64Mi"}},
        "env": [{"name": "HOME", "value": "/elsewhere"}],
    },
}
FDS = range(3, 24)


def manifests() -> str:
    """Pods that write down how they are at the start, and pods that want to start in a descriptor of ours."""
    keeping = [
        pod(name, "sh", "-c", f"({SAME}) > /dev/shm/start; exec sleep 10000", **more) for name, more in KEPT.items()
    ]
    astray = [pod(f"fd{number}", workingDir=f"/proc/self/fd/{number}") for number in FDS]
    return yaml_of([*keeping, *astray])


@pytest.fixture(scope="module")
def host() -> Iterator[Machine]:
    with machine() as made:
        yield made


@pytest.fixture(scope="module")
def lab(host: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallLab]:
    """Made by a driver that has the root directory and a listening socket open, for whoever inherits them."""
    before = host.snapshot()
    lab = SmallLab(host, tmp_path_factory.mktemp("lab"), "caged", manifests=manifests())
    root, server = os.open("/", os.O_RDONLY | os.O_DIRECTORY), socket.create_server(("127.0.0.1", 0))
    leaked = {"pass_fds": (root, server.fileno()), "stdout": None}
    process = host.popen("ansible-playbook", "playbooks/lab.yml", environment=lab.environment, **leaked)
    assert process.wait(180) == 0
    os.close(root)
    server.close()
    yield lab
    lab.down()
    snapshot.assert_same(before, host.snapshot())


@pytest.mark.parametrize("name", KEPT)
def test_exec_is_never_weaker_than_start(lab: SmallLab, name: str) -> None:
    executed = lab.exec(name, "sh", "-c", SAME)
    assert executed == lab.exec(name, "cat", "/dev/shm/start")
    assert "NoNewPrivs" in executed and "MODE=dev" in executed or name != "user"


def test_what_the_user_gets(lab: SmallLab) -> None:
    said = lab.exec("user", "sh", "-c", "id -u; id -g; id -G; pwd; grep CapEff /proc/self/status").split("\n")
    assert said[:4] == ["1000", "2000", "2000 3000 3001", "/etc"]
    assert said[4].split() == ["CapEff:", "0000000000000000"]


@pytest.mark.parametrize("name", KEPT)
def test_no_descriptor_leaks(lab: SmallLab, name: str) -> None:
    """Of PID 1 and of a command: 0, 1, 2, and what ls itself has open."""
    first = [line.split()[-3:] for line in lab.exec(name, "ls", "-l", "/proc/1/fd").splitlines() if "->" in line]
    assert [number for number, _, _ in first] == ["0", "1", "2"]
    assert first[0][2] == "/dev/null"
    assert all(target.startswith("pipe:") for _, _, target in first[1:])
    second = [line.split()[-3:] for line in lab.exec(name, "ls", "-l", "/proc/self/fd").splitlines() if "->" in line]
    assert {number for number, _, _ in second} <= {"0", "1", "2", "3"}
    assert all(target.startswith(("/proc/", "pipe:")) for _, _, target in second), second


def test_supervisors_and_pauses_hold_nothing_of_the_drivers(lab: SmallLab) -> None:
    """They outlive the run that made them: a leaked root directory would too."""
    output = lab.machine.sh("sh", "-c", "ls -l /proc/[0-9]*/fd | grep -- '->'")
    targets = {line.partition("-> ")[2] for line in output.splitlines()}
    assert "/" not in targets
    # But for the one that each supervisor listens at, in its pod's directory.
    bound = lab.machine.sh("sh", "-c", "cat /proc/[0-9]*/net/unix").splitlines()
    own = {f"socket:[{line.split()[6]}]" for line in bound if line.endswith(f"/{requests.NAME}")}
    assert own
    assert {target for target in targets if target.startswith("socket:")} <= own


def test_a_working_directory_in_a_descriptor_is_refused(lab: SmallLab) -> None:
    """CVE-2024-21626: of the runtime's own descriptors, too, none leads out."""
    found = lab.pods()
    for number in FDS:
        state = found[f"fd{number}"]["status"]["containerStatuses"][0]
        last = state.get("lastState", {}).get("terminated") or state["state"].get("terminated", {})
        assert "running" not in state["state"], f"fd {number}: {lab.try_exec(f'fd{number}', 'pwd').text}"
        assert last["reason"] in ("CreateContainerError", "StartError"), state
        assert last["message"], state


def test_user_namespaces_can_be_made(lab: SmallLab) -> None:
    """The kernel refuses them in a chroot: the cheapest sign that the root is really one."""
    assert lab.exec("plain", "unshare", "-Ur", "id", "-u") == "0\n"


@pytest.mark.parametrize(
    ("command", "refused"),
    [
        ("umount /proc/timer_list", "Operation not permitted"),
        ("mount -o remount,rw /proc/sys", "ermission denied|not permitted"),
        ("unshare -Urm umount /proc/timer_list", "Invalid argument"),
        ("unshare -Urmpf mount -t proc none /proc", "ermission denied|not permitted"),
        ("mknod /tmp/k c 1 11; head -c1 /tmp/k", "Operation not permitted"),
        ("echo 1 > /proc/sys/kernel/panic", "Read-only file system"),
        ("nsenter --mount=/proc/self/ns/mnt ls /", "not permitted"),
        ("mkdir -p /tmp/c; mount -t cgroup -o memory x /tmp/c", "ermission denied|not permitted"),
        ("for file in /sys/fs/cgroup/*/cgroup.procs; do echo 0 > $file; done", "Read-only file system"),
        ("mkdir -p /tmp/c; unshare -UrmC mount -t cgroup -o memory x /tmp/c", "nvalid|denied|not permitted"),
    ],
)
def test_what_is_refused(lab: SmallLab, command: str, refused: str) -> None:
    done = lab.try_exec("plain", "sh", "-c", f"mkdir -p /tmp; {command}")
    assert done.returncode and re.search(refused, done.stderr), f"exit {done.returncode}: {done.text}"


def test_masks_are_what_they_should_be(lab: SmallLab) -> None:
    said = lab.exec(
        "plain", "sh", "-c", "stat -c %t:%T /proc/timer_list; cat /proc/kcore /proc/keys | wc -c; ls /proc/acpi | wc -l"
    )
    assert said.split() == ["1:3", "0", "0"]


def test_nothing_of_the_host_is_mounted(lab: SmallLab) -> None:
    """mountinfo names the image's overlay, the pod's files and volumes, and no other place of the machine."""
    lines = lab.exec("plain", "cat", "/proc/self/mountinfo").splitlines()
    fields = [line.split() for line in lines]
    binds = {entry[4]: entry[3] for entry in fields if entry[entry.index("-") + 1] in ("ext4", "xfs", "btrfs", "tmpfs")}
    roots = {root for place, root in binds.items() if not place.startswith(("/proc/", "/sys/", "/dev"))}
    assert all("/pods/" in root or root.startswith("/podlab/") for root in roots), binds
    assert not any(entry[4] in ("/.old", "/old_root") for entry in fields)
