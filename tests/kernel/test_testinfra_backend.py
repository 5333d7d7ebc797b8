"""podlab://NODE: testinfra runs in the node's namespaces, not in the machine's."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Iterator

import pytest
import testinfra

from podlab.linux import process
from podlab.runtime import paths

pytestmark = pytest.mark.kernel


@pytest.fixture
def node(podlab_roots: pathlib.Path) -> Iterator[int]:
    """A stand-in for a node: a process in namespaces of its own, recorded as one. Yields its pid."""
    command = ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--fork", "--mount-proc"]
    script = "hostname inside; echo ready; exec cat"
    with subprocess.Popen(
        [*command, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        (pid,) = process.children(child.pid)
        file = paths.node_file("try", "try-worker")
        os.makedirs(os.path.dirname(file))
        pathlib.Path(file).write_text(json.dumps({"pid": pid, "start": process.start_time(pid)}))
        yield pid
        child.stdin.close()
        child.wait()


@pytest.mark.parametrize("name", ["podlab://try-worker", "podlab://try@try-worker"])
def test_commands_run_in_the_node(node: int, name: str) -> None:
    host = testinfra.get_host(name)
    assert host.check_output("hostname") == "inside"
    assert host.check_output("readlink /proc/self/ns/net") == os.readlink(f"/proc/{node}/ns/net")
    assert host.check_output("cat /proc/1/comm") == "cat"
    assert host.run("exit 7").rc == 7
    assert host.check_output("printf %s", "it's $HOME") == "it's $HOME"
    assert host.interface("lo").exists
    assert not host.interface("eth0").exists


@pytest.mark.parametrize(
    ("record", "name", "message"),
    [
        ({"pid": 1, "start": 1}, "podlab://try-worker", "Node try-worker is down"),
        (None, "podlab://other@try-worker", "0 labs have a node try-worker"),
    ],
)
def test_node_that_is_not_there(
    podlab_roots: pathlib.Path, record: dict[str, int] | None, name: str, message: str
) -> None:
    file = pathlib.Path(paths.node_file("try", "try-worker"))
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(record))
    with pytest.raises(RuntimeError, match=message):
        testinfra.get_host(name).run("true")
