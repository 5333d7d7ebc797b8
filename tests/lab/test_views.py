"""inspect, tree and top of a running lab say what the kernel says when it is asked another way."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from podlab.linux import cgroup
from support import terminal
from support.lab import ROOT, Lab, container_pid, environment, name_of, pause_of, uid_of

pytestmark = pytest.mark.lab


def test_inspect_is_what_the_container_sees_of_itself(lab: Lab) -> None:
    """Each figure compared with what the same process reads in its own /proc, from inside."""
    pod = lab.pod("core-k8s")
    found = json.loads(lab.invoke("inspect", "core-k8s", "-o", "json").stdout)
    assert (found["pod"]["uid"], found["pod"]["node"]) == (uid_of(pod), pod["spec"]["nodeName"])
    assert found["supervisor"]["pid"] == pod["supervisor"]["pid"]
    assert found["pause"]["pid"] == pause_of(pod)
    [one] = found["containers"]
    assert (one["pid"], one["pids"][-1], one["state"]) == (container_pid(pod), 1, "running")
    script = (
        "cat /proc/1/status; for kind in net uts ipc pid mnt; do readlink /proc/1/ns/$kind; done; "
        "cat /proc/1/mountinfo /proc/1/oom_score_adj"
    )
    said = lab.exec("core-k8s", "sh", "-c", script)
    status = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    held = {"bounding": "CapBnd", "permitted": "CapPrm", "effective": "CapEff", "inheritable": "CapInh"}
    for name, key in held.items():
        assert len(one["capabilities"][name]) == int(status[key], 16).bit_count(), name
    assert one["noNewPrivs"] == (status["NoNewPrivs"] == "1")
    assert one["seccomp"]["mode"] == ("disabled", "strict", "filter")[int(status["Seccomp"])]
    assert one["user"]["uid"] == [int(word) for word in status["Uid"].split()]
    inodes = {f"{each['type']}:[{each['inode']}]" for each in one["namespaces"]}
    assert {line for line in said.splitlines() if line.endswith("]") and ":[40" in line} <= inodes
    assert [each["target"] for each in one["mounts"]] == [
        line.split()[4] for line in said.splitlines() if " - " in line and len(line.split()) > 8
    ]
    assert str(one["oomScoreAdj"]) == said.splitlines()[-1]
    shared = {each["type"]: each["sharedWith"] for each in one["namespaces"]}
    assert shared["net"] == ["pause"]
    assert shared["mnt"] == []
    assert one["cgroup"]["settings"]["cpuQuotaUs"] == 10000


def test_inspect_for_a_person(lab: Lab) -> None:
    """Both containers under their pod, no line wider than 100 but for paths; -c takes one of them."""
    name = name_of(lab.pod("two-containers-pod"))
    text = lab.invoke("inspect", name).stdout
    assert [line.split(":")[0] for line in text.splitlines() if line and line[0] != " "][-3:] == [
        "pause", "Container hello", "Container hello2"
    ]  # fmt: skip
    assert "    uts       " in text
    assert [line for line in text.splitlines() if len(line) > 100 and "/" not in line] == []
    one = lab.invoke("inspect", name, "-c", "hello2").stdout
    assert "Container hello2: pid " in one
    assert "Container hello:" not in one
    done = lab.invoke("inspect", name, "-c", "third", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "container third is not valid for pod" in done.stderr


def test_tree_has_every_process_of_the_lab_once(lab: Lab) -> None:
    trees = cgroup.detect().single()
    before = set(trees.pids(f"podlab/{lab.name}"))
    text = lab.invoke("tree").stdout
    after = set(trees.pids(f"podlab/{lab.name}"))
    pids = [int(line.split()[0]) for line in text.splitlines()[1:]]
    assert len(pids) == len(set(pids))
    assert before & after <= set(pids) <= before | after
    assert text.count(" node ") == len(lab.nodes())
    pod = lab.pod("core-k8s")
    [line] = [line for line in text.splitlines() if line.split()[0] == str(container_pid(pod))]
    assert line.split()[1:3] == ["1", "ipc,mnt,net,pid,uts"]
    assert "container core-k8s: sleep 10000" in line


def test_tree_of_one_pod(lab: Lab) -> None:
    pod = lab.pod("core-k8s")
    [root] = json.loads(lab.invoke("tree", "core-k8s", "-o", "json").stdout)["items"]
    assert (root["pid"], root["role"]) == (pod["supervisor"]["pid"], "supervisor of default/core-k8s")
    assert {child["pid"]: child["role"] for child in root["children"]} == {
        pause_of(pod): "pause",
        container_pid(pod): "container core-k8s",
    }


def full_name(pod: dict[str, Any]) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


def at_work(lab: Lab) -> set[tuple[tuple[str, str], str]]:
    """The pods all of whose containers run, each with the IDs of these."""
    statuses = {full_name(pod): pod["status"].get("containerStatuses") or [{"state": {}}] for pod in lab.every_pod()}
    running = {name: each for name, each in statuses.items() if all("running" in one["state"] for one in each)}
    return {(name, " ".join(one["containerID"] for one in each)) for name, each in running.items()}


def test_top_once(lab: Lab) -> None:
    """The CPU that a container uses shows; no more than the tenth that it may, and its waiting is counted."""
    busy = "end=$(($(date +%s) + 60)); while [ -e /busy ] && [ $(date +%s) -lt $end ]; do :; done"
    lab.exec("core-k8s", "sh", "-c", f"touch /busy; ({busy}) >/dev/null 2>&1 &")
    try:
        found = json.loads(lab.invoke("top", "pods", "core-k8s", "--containers", "-o", "json").stdout)
    finally:
        lab.exec("core-k8s", "rm", "/busy")
    [row] = found["items"]
    assert (row["pod"], row["container"]) == ("core-k8s", "core-k8s")
    assert 0 < row["cpuMillicores"] <= 250  # a burst of two periods' quota counts within one second of looking
    assert 0 < row["throttledPeriods"] <= row["periods"]
    assert row["throttledUs"] > 0
    assert row["pids"] >= 2
    before = at_work(lab)
    lines = lab.invoke("top", "-A").stdout.splitlines()
    assert lines[0].split() == ["NAMESPACE", "NAME", "CPU(cores)", "MEMORY(bytes)", "PIDS", "THROTTLED", "FOR"]
    shown = {tuple(line.split()[:2]) for line in lines[1:]}
    # Pods that have ended, or wait to be started again, use nothing.
    steady = {name for name, _ in before & at_work(lab)}
    assert steady <= shown <= {full_name(pod) for pod in lab.every_pod()}
    nodes = lab.invoke("top", "nodes", "--no-headers").stdout.splitlines()
    assert [line.split()[0] for line in nodes] == lab.node_names()


def test_top_on_a_terminal_ends_with_q(lab: Lab) -> None:
    """Drawn until q; the terminal is as it was, no key is lost to it."""
    argv = ("invoke", "top", "pods", "-A")
    settings = {**environment(lab.name, TERM="xterm"), "COLUMNS": "100"}
    with terminal.process(argv, rows=30, columns=100, cwd=ROOT, env=settings) as screen:
        screen.expect("core-k8s")
        screen.expect("q ends")
        screen.type("q")
        text = screen.rest()
        assert screen.wait() == 0
    assert text.endswith("\x1b[?25h\x1b[?1049l"), text[-80:]


def test_what_there_is_not(lab: Lab) -> None:
    for words in (("inspect", "nobody"), ("tree", "nobody"), ("top", "pods", "nobody")):
        done = lab.invoke(*words, check=False)
        assert (done.returncode, done.stdout) == (1, ""), words
        assert 'pods "nobody" not found' in done.stderr


def test_reading_changes_nothing(lab: Lab) -> None:
    state = pathlib.Path("/run/podlab", lab.name)
    before = sorted(str(path) for path in state.rglob("*"))
    lab.invoke("inspect", "core-k8s")
    assert sorted(str(path) for path in state.rglob("*")) == before
