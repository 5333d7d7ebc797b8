"""inspect and tree: a process out of the texts of /proc, and what a person is shown of it."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.cli import inspect_text, inspection, tree
from podlab.errors import PodlabError
from podlab.linux import procinfo
from podlab.linux.mountinfo import parse

LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max open files            1024                 524288               files
Max nice priority         0                    0
"""


def test_texts_of_proc_become_data() -> None:
    assert procinfo.fields("Name:\tsh\nUid:\t0\t1\t2\t3\nGroups:\t \n") == {
        "Name": "sh",
        "Uid": "0\t1\t2\t3",
        "Groups": "",
    }
    assert procinfo.numbers("0\t1\t2\t3") == (0, 1, 2, 3)
    assert procinfo.named(0b1000000001) == ("CHOWN", "LINUX_IMMUTABLE")
    assert procinfo.named(1 << 60) == ("60",)
    assert procinfo.id_map("         0     231072      65536\n") == (procinfo.IdMap(0, 231072, 65536),)
    assert procinfo.cgroups("2:cpu,cpuacct:/a\n1:name=systemd:/\n0::/b:c\n") == {
        "cpu,cpuacct": "/a",
        "name=systemd": "/",
        "unified": "/b:c",
    }
    assert procinfo.limits(LIMITS) == (
        procinfo.Limit("Max cpu time", -1, -1, "seconds"),
        procinfo.Limit("Max open files", 1024, 524288, "files"),
        procinfo.Limit("Max nice priority", 0, 0, ""),
    )


def test_a_process_that_has_ended_is_none() -> None:
    assert procinfo.status(1 << 30) == {}
    with pytest.raises(ProcessLookupError):
        procinfo.read(1 << 30)


@pytest.mark.parametrize(
    ("line", "guard"),
    [
        ("1 2 0:6 /null /proc/keys rw,nosuid - devtmpfs devtmpfs rw", "masked"),
        ("1 2 0:50 / /sys/firmware ro - tmpfs tmpfs ro", "masked"),
        ("1 2 0:9 /sys /proc/sys ro,nosuid - proc proc rw", "read-only"),
        ("1 2 0:9 / /proc rw - proc proc rw", ""),
        ("1 2 0:9 / /sys ro - sysfs sysfs rw", ""),
        ("1 2 0:50 / /sys/fs/cgroup ro - tmpfs tmpfs ro", ""),
        ("1 2 0:31 /x /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu", ""),
        ("1 2 0:50 / /data rw - tmpfs tmpfs rw", ""),
    ],
)
def test_what_keeps_a_container_from_files_of_the_kernel_is_marked(line: str, guard: str) -> None:
    [entry] = parse(line)
    assert inspection.guard(entry) == guard


def test_who_shares_a_namespace() -> None:
    whose = {"the machine": {"net": 1, "mnt": 5}, "pause": {"net": 2}, "a": {"net": 2}, "b": {"net": 1}}
    assert inspection.sharing("a", "net", 2, whose) == ["pause"]
    assert inspection.sharing("b", "net", 1, whose) == ["the machine"]
    assert inspection.sharing("b", "mnt", 7, whose) == []


def container(**changed: Any) -> dict[str, Any]:
    """One container as inspection.document has it."""
    held = ["CHOWN", "KILL"]
    return {
        "name": "c",
        "image": "busybox",
        "id": "podlab://1",
        "state": "running",
        "pid": 40,
        "pids": [40, 7, 1],
        "command": "sleep 3600",
        "user": {
            "uid": [1000] * 4,
            "gid": [1000, 0, 0, 0],
            "groups": [],
            "uidMap": [{"inside": 0, "outside": 65536, "size": 65536}],
            "gidMap": [{"inside": 0, "outside": 0, "size": 4294967295}],
        },
        "capabilities": {"bounding": held, "permitted": held, "effective": [], "inheritable": [], "ambient": []},
        "noNewPrivs": True,
        "seccomp": {"mode": "filter", "filters": 1},
        "oomScoreAdj": 1000,
        "umask": "0022",
        "limits": [
            {"name": "Max cpu time", "soft": -1, "hard": -1, "unit": "seconds"},
            {"name": "Max open files", "soft": 1024, "hard": 4096, "unit": "files"},
            {"name": "Max core file size", "soft": 0, "hard": -1, "unit": "bytes"},
        ],
        "root": "/",
        "cwd": "/srv",
        "descriptors": [{"fd": 0, "target": "/dev/null"}, {"fd": 1, "target": "pipe:[1]"}],
        "namespaces": [
            {"type": "net", "inode": 4026532000, "sharedWith": ["pause", "d"]},
            {"type": "mnt", "inode": 4026532001, "sharedWith": []},
            {"type": "user", "inode": 4026531837, "sharedWith": ["the machine", "node n", "pause", "d"]},
        ],
        "cgroup": {
            "path": "/podlab/kind/n/pod1/abc",
            "paths": {"cpu": "/podlab/kind/n/pod1/abc", "name=systemd": "/"},
            "settings": {"cpuShares": 102, "cpuQuotaUs": 10000, "cpuPeriodUs": 100000, "memoryLimit": 64 << 20},
            "usage": {"cpuUsageUs": 2_500_000, "nrPeriods": 9, "nrThrottled": 3, "throttledUs": 4000, "pids": 2},
        },
        "mounts": [
            mount("/", "overlay", ["rw", "relatime"]),
            mount("/proc/keys", "devtmpfs", ["rw"], root="/null", guard="masked"),
            mount("/etc/hosts", "tmpfs", ["rw"], root="/podlab/hosts"),
            mount("/sys/fs/cgroup/cpu", "cgroup", ["ro"], root="/podlab/kind/n/pod1/abc"),
            mount("/data", "ext4", ["rw"], root="/srv", propagation="slave"),
        ],
        "processes": [{"pid": 40, "inside": 1, "command": "sleep 3600"}],
        **changed,
    }


def mount(target: str, fstype: str, options: list[str], **changed: Any) -> dict[str, Any]:
    return {"target": target, "type": fstype, "source": fstype, "root": "/", "options": options, "superOptions": [],
            "propagation": "private", "guard": "", **changed}  # fmt: skip


def document(**changed: Any) -> dict[str, Any]:
    pod = {
        "namespace": "default",
        "name": "p",
        "uid": "u",
        "node": "n",
        "phase": "Running",
        "podIP": "",
        "qosClass": "Q",
    }
    own = {"path": "/podlab/kind/n/pod1", "settings": {}, "usage": {}}
    return {"pod": pod, "supervisor": {"pid": 9}, "cgroup": own, "pause": None, "containers": [container(**changed)]}


TEXT = """\
Pod           default/p
Node          n
UID           u
Status        Running, no address, Q
Supervisor    pid 9
Cgroup        /podlab/kind/n/pod1

Container c: pid 40 on this machine, 7 in its node, 1 inside
  Command     sleep 3600
  Image       busybox
  Namespaces
    net       4026532000  pause, d
    mnt       4026532001  nobody else
    user      4026531837  the machine's
  User        uid 1000, gid 1000/0/0/0, groups none, umask 0022
  User map    0 is 65536, 65536 of them
  Group map   the machine's own ids
  Capabilities
    Bnd       CHOWN KILL
    Prm       as Bnd
    Eff       none
    Inh       none
    Amb       none
  NoNewPrivs  yes
  Seccomp     filter, 1 filter
  OOM score   oom_score_adj 1000
  Limits      open files 1024 of 4096, core file size 0 of unlimited
  Directory   /srv, root /
  Cgroup      .../abc
    in name=systemd  /
    Settings  cpu shares 102, cpu quota 10000 of 100000 us, memory 64Mi
    Usage     cpu 2.50 s, throttled 3 of 9 periods, 4 ms, pids 2
  Mounts
    /                           overlay rw
    /proc/keys                  devtmpfs rw masked
    /etc/hosts                  tmpfs rw
      from    /podlab/hosts
    /sys/fs/cgroup/cpu          cgroup ro its own
    /data                       ext4 rw slave
      from    /srv
  Descriptors 0 /dev/null, 1 pipe:[1]
  Processes
    40 = 1    sleep 3600
"""


def test_what_a_person_reads() -> None:
    assert inspect_text.text(document(), 100) == TEXT


def test_lines_are_folded_below_their_values() -> None:
    held = ["CAPABILITY"] * 12
    text = inspect_text.text(document(capabilities={**container()["capabilities"], "bounding": held}), 80)
    lines = text.splitlines()
    [at] = [number for number, line in enumerate(lines) if line.startswith("    Bnd ")]
    assert lines[at + 1].startswith(" " * 14 + "CAPABILITY")
    assert max(map(len, lines)) <= 80


def test_a_container_without_a_process_is_one_line() -> None:
    text = inspect_text.text(document(pid=0, state="waiting"), 100)
    assert text.endswith("\n\nContainer c: waiting, no process\n")


def test_forms_that_there_are_not() -> None:
    for call in (lambda: inspection.inspect("p", form="wide"), lambda: tree.tree((), form="table")):
        with pytest.raises(PodlabError, match="unable to match a printer. Use json or yaml"):
            call()
    with pytest.raises(PodlabError, match="'b' is one word too many. Usage: ./lab tree \\[POD\\]"):
        tree.tree(["a", "b"])


FOUND = {
    each.pid: each
    for each in (
        tree.Node(10, 1, 1, ("net", "pid"), "/pause", "node n"),
        tree.Node(20, 10, 3, ("mnt",), "python -c ...", "supervisor of default/p"),
        tree.Node(30, 20, 1, ("net", "pid"), "/pause", "pause"),
        tree.Node(31, 20, 1, ("pid",), "sh -c x", "container c"),
        tree.Node(32, 31, 2, (), "sleep 1", ""),
        tree.Node(9, 1, 9, (), "python", "watcher"),
    )
}


def test_the_tree() -> None:
    assert tree.text(FOUND, 0) == (
        "PID  INSIDE  OWN NAMESPACES  PROCESS\n"
        " 10       1  net,pid         node n\n"
        " 20       3  mnt             `- supervisor of default/p\n"
        " 30       1  net,pid            |- pause\n"
        " 31       1  pid                `- container c: sh -c x\n"
        " 32       2                        `- sleep 1\n"
        "  9       9                  watcher\n"
    )
    assert max(map(len, tree.text(FOUND, 40).splitlines())) == 40
