"""Which namespaces the containers of a pod share: by the links in /proc, by what crosses and what does not."""

from __future__ import annotations

import os

import pytest

from podlab.linux import process
from support import waiting
from support.lab import Lab, container_pid, ip_of, name_of, pause_of

pytestmark = pytest.mark.lab

KINDS = ("net", "ipc", "uts", "mnt", "pid")


def links(lab: Lab, pod: str, container: str) -> dict[str, str]:
    """Kind -> the link of a container's first process, read inside."""
    text = lab.exec(
        pod, "sh", "-c", f"for kind in {' '.join(KINDS)}; do readlink /proc/self/ns/$kind; done", container=container
    )
    return dict(zip(KINDS, text.split()))


def test_containers_share_network_ipc_and_name_only(lab: Lab) -> None:
    name = name_of(lab.pod("two-containers-pod"))
    hello, hello2 = links(lab, name, "hello"), links(lab, name, "hello2")
    assert {kind for kind in KINDS if hello[kind] == hello2[kind]} == {"net", "ipc", "uts"}


def test_the_shared_ones_are_those_of_pause(lab: Lab) -> None:
    pod = lab.pod("two-containers-pod")
    pause, hello = pause_of(pod), container_pid(pod, "hello")
    same = {
        kind for kind in KINDS if os.readlink(f"/proc/{pause}/ns/{kind}") == os.readlink(f"/proc/{hello}/ns/{kind}")
    }
    assert same == {"net", "ipc", "uts"}
    # And none of them is the machine's or the node's.
    node = next(record["pid"] for record in lab.nodes() if record["name"] == pod["spec"]["nodeName"])
    for kind in (*KINDS, "cgroup"):
        here = os.readlink(f"/proc/self/ns/{kind}")
        assert os.readlink(f"/proc/{node}/ns/{kind}") != here
        assert os.readlink(f"/proc/{hello}/ns/{kind}") != here


def test_pods_share_nothing_with_each_other(lab: Lab) -> None:
    pods = [pod for pod in lab.pods() if name_of(pod) != name_of(lab.pod("practice"))]
    for kind in KINDS:
        assert len({os.readlink(f"/proc/{container_pid(pod)}/ns/{kind}") for pod in pods}) == len(pods)


def test_shared_memory_crosses_files_do_not(lab: Lab) -> None:
    name = name_of(lab.pod("two-containers-pod"))
    lab.exec(name, "sh", "-c", "echo segment > /dev/shm/segment; echo file > /tmp-file", container="hello")
    assert lab.exec(name, "cat", "/dev/shm/segment", container="hello2") == "segment\n"
    assert lab.try_exec(name, "cat", "/tmp-file", container="hello2").returncode == 1
    other = name_of(lab.pod("core-k8s"))
    assert lab.try_exec(other, "cat", "/dev/shm/segment").returncode == 1
    lab.exec(name, "rm", "/dev/shm/segment", container="hello2")


def test_system_v_segments_are_the_pods(lab: Lab) -> None:
    """Made in the pod's IPC namespace with this machine's ipcmk, seen by a process of each container."""
    pod = lab.pod("two-containers-pod")
    made = lab.run("nsenter", "--target", str(pause_of(pod)), "--ipc", "ipcmk", "--shmem", "4096").stdout
    identity = made.split()[-1]
    for container in ("hello", "hello2"):
        rows = lab.exec(name_of(pod), "cat", "/proc/sysvipc/shm", container=container).splitlines()[1:]
        assert [row.split()[1] for row in rows] == [identity]
    assert lab.exec("core-k8s", "cat", "/proc/sysvipc/shm").splitlines()[1:] == []
    lab.run("nsenter", "--target", str(pause_of(pod)), "--ipc", "ipcrm", "--shmem-id", identity)


def test_one_address_and_one_loopback_for_all_containers(lab: Lab) -> None:
    pod = lab.pod("two-containers-pod")
    for container in ("hello", "hello2"):
        fields = lab.exec(name_of(pod), "ip", "-o", "-4", "address", "show", "eth0", container=container).split()
        assert fields[3] == f"{ip_of(pod)}/24"
    # It leaves for the background once it listens.
    lab.exec(name_of(pod), "httpd", "-p", "127.0.0.1:7777", "-h", "/etc", container="hello")
    answer = lab.exec(name_of(pod), "wget", "-qO-", "http://127.0.0.1:7777/hostname", container="hello2")
    assert answer.strip() == name_of(pod)
    lab.exec(name_of(pod), "killall", "httpd", container="hello")


def test_each_container_is_its_own_first_process(lab: Lab) -> None:
    name = name_of(lab.pod("two-containers-pod"))
    for container in ("hello", "hello2"):
        processes = lab.exec(name, "ps", "-o", "pid,args", container=container)
        assert "1 sleep 3600" in " ".join(processes.split())
        assert processes.count("sleep 3600") == 1
        assert "/pause" not in processes


def test_with_shared_processes_pause_is_the_first(lab: Lab) -> None:
    name = name_of(lab.pod("practice"))
    for container in ("hello", "hello2"):
        rows = [
            line.split(None, 1) for line in lab.exec(name, "ps", "-o", "pid,args", container=container).splitlines()
        ]
        assert ["1", "/pause"] in rows
        # Both containers' processes are to be seen from each.
        assert [row[1] for row in rows].count("sleep 3600") == 2
    hello, hello2 = links(lab, name, "hello"), links(lab, name, "hello2")
    assert {kind for kind in KINDS if hello[kind] == hello2[kind]} == {"net", "ipc", "uts", "pid"}


def test_pause_reaps_orphans_and_sleep_does_not(lab: Lab) -> None:
    """A process whose parent has ended becomes PID 1's child: pause takes it away, sleep leaves a zombie."""
    orphan = ("sh", "-c", "sh -c 'sleep 0.01 & echo'")
    shared, alone = lab.pod("practice"), lab.pod("core-k8s")
    for pod, first in ((shared, pause_of(shared)), (alone, container_pid(alone))):
        before = set(process.children(first))
        lab.exec(name_of(pod), *orphan)
        if pod is alone:
            waiting.until(lambda: "Z" in states(set(process.children(first)) - before), "no zombie below sleep")  # noqa: B023
        else:
            waiting.until(lambda: set(process.children(first)) <= before, "pause has not reaped")  # noqa: B023


def states(pids: set[int]) -> str:
    """The state letters of processes."""
    found = ""
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            found += file.read().rpartition(")")[2].split()[0]
    return found
