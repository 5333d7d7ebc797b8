"""The connection plugin against real namespaces: a throw-away process stands for the node."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from podlab.linux import cgroup, process
from podlab.runtime import paths

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLUSTER = "podlab-connection-test"
NODES = ("node-a", "node-b")
UNSHARE = ("unshare", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--pid", "--fork", "--kill-child")


@contextlib.contextmanager
def node(state: pathlib.Path, name: str) -> Iterator[int]:
    """A process that holds a node's namespaces, and its node.json; the pid."""
    script = f"hostname {name}; mount -t proc proc /proc; echo ready; exec cat"
    with subprocess.Popen(
        [*UNSHARE, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == b"ready\n"
        (pid,) = process.children(holder.pid)
        record = {"pid": pid, "start": process.start_time(pid), "name": name, "cluster": CLUSTER}
        directory = state / CLUSTER / "nodes" / name
        directory.mkdir(parents=True)
        (directory / "node.json").write_text(json.dumps(record), encoding="utf-8")
        try:
            yield pid
        finally:
            holder.stdin.close()
            process.kill(pid, record["start"])


@pytest.fixture
def lab(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Two nodes, an inventory of them, and work directories."""
    with contextlib.ExitStack() as stack:
        for name in NODES:
            stack.enter_context(node(tmp_path / "run", name))
            (tmp_path / name).mkdir()
        tmp_path.chmod(0o755)
        inventory = {
            "nodes": {
                "hosts": {name: {"podlab_node": name} for name in NODES},
                "vars": {
                    "ansible_connection": "podlab",
                    "ansible_python_interpreter": sys.executable,
                    "podlab_cluster_name": CLUSTER,
                    "ansible_remote_tmp": str(tmp_path / "remote"),
                    "remote_tmp": str(tmp_path / "remote"),
                    "work": str(tmp_path),
                },
            }
        }
        (tmp_path / "hosts.yml").write_text(json.dumps(inventory), encoding="utf-8")
        yield tmp_path


def ansible(lab: pathlib.Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of Ansible against the lab."""
    env = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "PODLAB_RUN": str(lab / "run"),
        **environment,
    }
    command = [sys.executable, "-m", "ansible", *arguments, "-i", str(lab / "hosts.yml")]
    return subprocess.run(command, env=env, cwd=lab, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("pipelining", ["true", "false"])
def test_the_battery(lab: pathlib.Path, pipelining: str) -> None:
    content = bytes(range(256)) * 4096
    (lab / "源 file.bin").write_bytes(content)
    facts = json.dumps({"pipelining": pipelining == "true", "ansible_pipelining": pipelining == "true"})
    done = ansible(lab, "playbook", str(ROOT / "tests/kernel/connection_battery.yml"), "--extra-vars", facts)
    assert done.returncode == 0, done.stdout + done.stderr
    namespaces = {os.readlink("/proc/self/ns/net")}
    for name in NODES:
        copied = lab / name / "copied 汉语.bin"
        assert copied.read_bytes() == content and copied.stat().st_mode & 0o777 == 0o640
        assert (lab / f"fetched-{name}.bin").read_bytes() == content
        host, user, netns, processes, directory = (lab / f"inside-{name}").read_text(encoding="utf-8").splitlines()
        assert (host, user, directory) == (name, "0", "/")
        assert int(processes) < 12  # of the node's, not the machine's
        namespaces.add(netns)
    assert len(namespaces) == 3


def test_a_dead_node_is_unreachable(lab: pathlib.Path) -> None:
    record = json.loads((lab / "run" / CLUSTER / "nodes" / "node-a" / "node.json").read_text(encoding="utf-8"))
    pidfd = os.pidfd_open(record["pid"])
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert select.select([pidfd], [], [], 10)[0], "the node's process did not end"
    os.close(pidfd)
    done = ansible(lab, "adhoc", "nodes", "-m", "ansible.builtin.command", "-a", "hostname")
    assert done.returncode == 4
    assert "node-a | UNREACHABLE!" in done.stdout
    assert "Node node-a is not running. Start it: ./lab up" in done.stdout
    assert "node-b | CHANGED | rc=0 >>\nnode-b\n" in done.stdout


def test_a_reused_pid_is_not_entered(lab: pathlib.Path) -> None:
    file = lab / "run" / CLUSTER / "nodes" / "node-a" / "node.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**record, "start": record["start"] + 1}), encoding="utf-8")
    done = ansible(lab, "adhoc", "node-a", "-m", "ansible.builtin.raw", "-a", f"touch {lab}/entered")
    assert done.returncode == 4 and "Node node-a is not running" in done.stdout
    assert not (lab / "entered").exists()


def test_a_command_runs_in_the_nodes_cgroup(lab: pathlib.Path) -> None:
    path = f"{paths.node_cgroup(CLUSTER, 'node-a')}/init"
    trees = cgroup.detect()
    trees.create(path)
    try:
        script = f"cat /proc/$$/cgroup; exec 3> {lab}/asked; cat {lab}/answer"
        os.mkfifo(lab / "asked")
        os.mkfifo(lab / "answer")
        env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "PODLAB_RUN": str(lab / "run")}
        command = [
            sys.executable,
            "-m",
            "ansible",
            "adhoc",
            "node-a",
            "-m",
            "raw",
            "-a",
            script,
            "-i",
            str(lab / "hosts.yml"),
        ]
        with subprocess.Popen(command, env=env, cwd=lab, stdout=subprocess.PIPE) as running:
            with open(lab / "asked", "rb"):
                pids = trees.pids(path)
            (lab / "answer").write_bytes(b"done\n")
            output = running.communicate()[0]
        assert pids, output
        assert running.returncode == 0 and b"done" in output
        assert trees.pids(path) == []
    finally:
        trees.remove(paths.cgroup_root(CLUSTER))
        trees.remove_if_empty(os.path.dirname(paths.cgroup_root(CLUSTER)))
