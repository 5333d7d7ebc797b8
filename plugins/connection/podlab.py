# SPDX-License-Identifier: Apache-2.0
"""Run tasks inside a node of a lab on this machine."""

from __future__ import annotations

DOCUMENTATION = """
name: podlab
short_description: Run tasks inside a node of a podlab lab
description:
  - Enters the namespaces of a node (mount, network, UTS, IPC, PID, cgroup) and its cgroup, and runs the command there
    as root. What one would type is C(nsenter --target PID --mount --uts --ipc --net --pid --cgroup -- /bin/sh -c CMD).
  - The node is known by the pid and start time of its pause process, so that a pid that was used again is never
    entered.
  - Nodes share the machine's file tree, so files are copied by streaming them through C(cat) in the node.
  - Needs root, and runs on the machine that carries the lab.
options:
  podlab_node:
    description: Name of the node.
    type: str
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: podlab_node
  podlab_cluster_name:
    description: Name of the cluster that the node belongs to.
    type: str
    default: kind
    vars:
      - name: podlab_cluster_name
extends_documentation_fragment:
  - connection_pipelining
notes:
  - The remote user is ignored, commands run as root. Use C(become) with C(become_user) to be somebody else.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

try:
    import podlab  # noqa: F401
except ImportError:  # run from the tree, without `pip install -e .`
    sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from podlab.linux import cgroup
from podlab.runtime import paths

display = Display()

# Name in /proc/PID/ns -> nsenter's option, in the order that its man page has them.
NAMESPACES = {"mnt": "mount", "uts": "uts", "ipc": "ipc", "net": "net", "pid": "pid", "cgroup": "cgroup"}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What a login over ssh would bring along; the rest of the controller's environment is not the node's.
KEPT = ("LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "TERM", "TZ")


class Connection(ConnectionBase):
    """The way into a node."""

    transport = "podlab"
    has_pipelining = True
    has_tty = False
    default_user = "root"

    def _connect(self) -> Connection:
        """Nothing stays open between commands: the node is looked up for each of them."""
        self._connected = True
        return self

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run a command in the node by /bin/sh; return its exit code, output and error output."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return self._run(["/bin/sh", "-c", str(cmd)], in_data)

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file of the controller to the node."""
        super().put_file(in_path, out_path)
        try:
            source = open(in_path, "rb")  # noqa: SIM115 closed below
        except FileNotFoundError as error:
            raise AnsibleFileNotFound(f"Cannot copy {in_path} to node {self._name}: there is no such file") from error
        with source:
            self._stream(["/bin/sh", "-c", 'cat > "$1"', "sh", out_path], out_path, stdin=source)

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file of the node to the controller."""
        super().fetch_file(in_path, out_path)
        with open(out_path, "wb") as target:
            self._stream(["cat", "--", in_path], in_path, stdout=target)

    def close(self) -> None:
        """Nothing to close."""
        self._connected = False

    def reset(self) -> None:
        """Nothing to reset: every command looks the node up anew."""

    @property
    def _name(self) -> str:
        return str(self.get_option("podlab_node"))

    def _stream(self, argv: list[str], path: str, stdin: IO[bytes] | None = None, stdout: Any = None) -> None:
        code, _output, error = self._run(argv, None, stdin=stdin, stdout=stdout)
        if code != 0:
            raise AnsibleError(f"Cannot copy {path} on node {self._name}: {error.decode(errors='replace').strip()}")

    def _run(
        self, argv: list[str], in_data: bytes | None, stdin: IO[bytes] | None = None, stdout: Any = None
    ) -> tuple[int, bytes, bytes]:
        display.vvv(f"EXEC {argv}", host=self._name)
        cluster = str(self.get_option("podlab_cluster_name"))
        record = read_record(cluster, self._name)
        files = cgroup_files(cluster, self._name)
        with opened_namespaces(record, self._name) as fds:
            process = subprocess.Popen(
                [nsenter(), *(f"--{NAMESPACES[name]}=/proc/self/fd/{fd}" for name, fd in fds.items()), "--", *argv],
                stdin=stdin or (subprocess.DEVNULL if in_data is None else subprocess.PIPE),
                stdout=stdout or subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(),
                pass_fds=tuple(fds.values()),
                preexec_fn=lambda: join(files),
            )
            output, error = process.communicate(in_data)
        if process.returncode != 0 and error.startswith(b"nsenter:") and not alive(record):
            raise AnsibleConnectionFailure(gone(self._name))
        return process.returncode, output or b"", error


def gone(node: str) -> str:
    """What to say of a node that is not there."""
    return f"Node {node} is not running. Start it: ./lab up"


def read_record(cluster: str, node: str) -> Mapping[str, Any]:
    """The node's record. Raises AnsibleConnectionFailure when there is none that could be used."""
    for word in (cluster, node):
        if "/" in word or word in ("", ".", ".."):
            raise AnsibleConnectionFailure(f"{word!r} is not a name of a cluster or node")
    path = paths.node_file(cluster, node)
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        return {"pid": int(record["pid"]), "start": int(record["start"])}
    except (FileNotFoundError, NotADirectoryError):
        raise AnsibleConnectionFailure(gone(node)) from None
    except PermissionError:
        message = f"Cannot enter node {node}: {path} can be read by root only. Run it as root, with sudo"
        raise AnsibleConnectionFailure(message) from None
    except (ValueError, KeyError, TypeError):
        raise AnsibleConnectionFailure(f"{path} is damaged. Write it anew: ./lab up") from None


@contextlib.contextmanager
def opened_namespaces(record: Mapping[str, Any], node: str) -> Iterator[dict[str, int]]:
    """Descriptors of the node's namespaces, by name. Raises AnsibleConnectionFailure when the node is not there.

    All are opened through one descriptor of /proc/PID, which goes stale with the process: none can be another's.
    """
    with contextlib.ExitStack() as stack:
        fds: dict[str, int] = {}
        try:
            process = os.open(f"/proc/{record['pid']}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, process)
            if start_time(process) != record["start"]:
                raise ProcessLookupError
            for name in NAMESPACES:
                fds[name] = os.open(f"ns/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
                stack.callback(os.close, fds[name])
        except PermissionError:
            message = f"Cannot enter node {node}: that takes root. Run it as root, with sudo"
            raise AnsibleConnectionFailure(message) from None
        except (FileNotFoundError, ProcessLookupError):
            raise AnsibleConnectionFailure(gone(node)) from None
        yield fds


def start_time(process: int) -> int:
    """Field 22 of stat below an opened /proc/PID (proc(5)); 0 for a zombie. Raises OSError when it is gone."""
    fd = os.open("stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
    try:
        text = os.read(fd, 4096).decode("ascii", "replace")
    finally:
        os.close(fd)
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def alive(record: Mapping[str, Any]) -> bool:
    """True when the node's pause process still runs."""
    try:
        with opened_namespaces(record, ""):
            return True
    except AnsibleConnectionFailure:
        return False


def cgroup_files(cluster: str, node: str) -> list[str]:
    """The files that a process joins the node's cgroup by, so that its limits and its end hold for what we run, too."""
    path = f"{paths.node_cgroup(cluster, node)}/init"
    found = []
    for tree in cgroup.detect().every:
        directory = os.path.join(tree.directory, path)
        if os.path.isdir(directory):
            # tasks spares the kernel-wide lock behind cgroup.procs; we have one thread.
            found.append(f"{directory}/{'tasks' if tree.version == 1 else 'cgroup.procs'}")
    return found


def join(files: list[str]) -> None:
    """Move this process by them."""
    for file in files:
        fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"0")
        os.close(fd)


def environment() -> dict[str, str]:
    """root's environment in the node."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {"PATH": PATH, "HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/sh", **kept}


def nsenter() -> str:
    """Path of nsenter. Raises AnsibleError when the machine has none."""
    found = shutil.which("nsenter", path=f"{os.environ.get('PATH', '')}:{PATH}")
    if not found:
        raise AnsibleError("Cannot enter a node without the command nsenter. Install the package util-linux")
    return found
