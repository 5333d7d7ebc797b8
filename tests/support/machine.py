"""A machine that a test may wreck: namespaces of every kind, a network, /run, /var/lib/podlab and cgroups of its own.

It shares the real machine's other files. What is on it ends with it.
Run as a script, this file is the machine's PID 1.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(sys.executable).parent
# The network that the machine is in, as seen by a lab: a route with an owner.
OUTSIDE = "192.0.2.0/24"
END_SECONDS = 60.0


class Done(subprocess.CompletedProcess[str]):
    """How a command on the machine ended."""

    @property
    def text(self) -> str:
        """Both of its outputs."""
        return self.stdout + self.stderr


class Machine:
    """The running machine."""

    def __init__(self, pid: int, cgroups: Sequence[str], home: str) -> None:
        self.pid = pid
        self.cgroups = cgroups
        self.environment = {
            "PATH": f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": home,
            "LANG": "C.UTF-8",
            "ANSIBLE_NOCOLOR": "1",
        }

    def path(self, path: str) -> pathlib.Path:
        """A path of the machine, as seen from outside."""
        return pathlib.Path(f"/proc/{self.pid}/root{path}")

    def popen(self, *argv: str, environment: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        """Start a command on the machine, in a session of its own: os.killpg(popen.pid) ends all of it."""
        enter = ("nsenter", "-a", "-t", str(self.pid), f"--wdns={ROOT}", "--")
        wanted = {"text": True, "start_new_session": True, "preexec_fn": self._join_cgroups, **options}
        return subprocess.Popen((*enter, *argv), env={**self.environment, **(environment or {})}, **wanted)

    def _join_cgroups(self) -> None:
        for directory in self.cgroups:
            with open(f"{directory}/cgroup.procs", "w", encoding="ascii") as file:
                file.write("0")

    def run(self, *argv: str, stdin: str = "", timeout: float = 180, **options: Any) -> Done:
        """Run a command on the machine to its end. Fails the test when it takes longer than timeout seconds."""
        pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
        with self.popen(*argv, **pipes, **options) as process:
            try:
                out, err = process.communicate(stdin, timeout)
            except subprocess.TimeoutExpired as error:
                os.killpg(process.pid, signal.SIGKILL)
                raise AssertionError(f"{' '.join(argv)} did not end: {process.communicate()}") from error
        return Done(argv, process.returncode, out, err)

    def sh(self, *argv: str, **options: Any) -> str:
        """The output of a command that must succeed."""
        done = self.run(*argv, **options)
        assert done.returncode == 0, f"{' '.join(argv)}: exit {done.returncode}\n{done.text}"
        return done.stdout

    def cgroup_trees(self) -> list[str]:
        """Where the cgroup hierarchies are mounted: several of v1, or the one of v2."""
        lines = self.path("/proc/1/mountinfo").read_text().splitlines()
        return [line.split()[4] for line in lines if line.partition(" - ")[2].startswith("cgroup")]

    def snapshot(self) -> dict[str, dict[str, str]]:
        """support.snapshot.take() on the machine."""
        taken: dict[str, dict[str, str]] = json.loads(
            self.sh(sys.executable, "-m", "support.snapshot", environment=_IMPORTS)
        )
        return taken


_IMPORTS = {"PYTHONPATH": str(ROOT / "tests")}


def kill_with_children(process: subprocess.Popen[str]) -> None:
    """SIGKILL a process and all that come from it, whatever sessions they are in (Ansible's workers have their own).

    All are stopped first: a child whose parent is gone can no longer be found.
    """
    found = [process.pid]
    for pid in found:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            os.kill(pid, signal.SIGSTOP)
            for task in os.listdir(f"/proc/{pid}/task"):
                found += [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def machine() -> Iterator[Machine]:
    """A machine for the length of the block."""
    from podlab.linux import cgroup

    hierarchies = cgroup.detect()
    name = f"podlab-test-{os.getpid()}-{os.urandom(3).hex()}"
    hierarchies.create(name)
    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as stack:
        stack.callback(hierarchies.remove, name)
        directories = hierarchies.directories(name)
        kinds = ("--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup")
        argv = ("unshare", *kinds, "--fork", "--kill-child", sys.executable, "-I", __file__)
        pid_one = Machine(0, directories, home)
        process = stack.enter_context(
            subprocess.Popen(
                argv,
                stdout=subprocess.PIPE,
                preexec_fn=pid_one._join_cgroups,
            )
        )
        stack.callback(process.kill)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        pid_one_ended = os.pidfd_open(int(children))
        stack.callback(os.close, pid_one_ended)
        try:
            yield Machine(int(children), directories, home)
        finally:
            # unshare takes its PID 1 along when it ends, but not at once: that waits for every process of the machine.
            process.kill()
            assert select.select([pid_one_ended], [], [], END_SECONDS)[0], "the machine's PID 1 does not end"


def boot() -> None:
    """Make this process the machine's PID 1."""
    sys.path.insert(0, str(ROOT / "module_utils"))
    from podlab.linux import cgroup
    from podlab.runtime.node import cgroup_mounts

    # A named tree has no controller, and podlab no cgroup in it: it would be the real machine's.
    cgroups = [mount for mount in cgroup_mounts(cgroup.detect()) if "name=" not in mount[2]]
    _mount("proc", "/proc", "proc")
    _forget("/run", "/sys/fs/cgroup")
    _mount("sysfs", "/sys", "sysfs")
    if all(name for name, _, _ in cgroups):
        _mount("cgroups", "/sys/fs/cgroup", "tmpfs", "mode=755")
    for name, kind, options in cgroups:
        os.makedirs(f"/sys/fs/cgroup/{name}", exist_ok=True)
        _mount("cgroup", f"/sys/fs/cgroup/{name}".rstrip("/"), kind, options)
    _mount("run", "/run", "tmpfs", "mode=755")
    os.makedirs("/var/lib/podlab", exist_ok=True)
    _mount("lib", "/var/lib/podlab", "tmpfs", "mode=755")
    for command in (
        "link set lo up",
        "link add eth0 type veth peer outside",
        f"address add {OUTSIDE.replace('.0/', '.10/')} dev eth0",
        # No address that comes by itself, some time later.
        "link set eth0 addrgenmode none up",
        "link set outside addrgenmode none up",
        f"route add default via {OUTSIDE.replace('.0/24', '.1')}",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    print("ready", flush=True)
    _reap()


def _mount(source: str, target: str, kind: str, options: str = "") -> None:
    subprocess.run(["mount", "-t", kind, *(["-o", options] if options else []), source, target], check=True)


def _forget(*places: str) -> None:
    """Unmount what the real machine has mounted below these places."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        points = [line.split()[4] for line in file]
    for point in reversed(points):
        if any(point.startswith(f"{place}/") for place in places):
            subprocess.run(["umount", "--lazy", point], check=True)


def _reap() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        select.select([read], [], [])
        os.read(read, 4096)


if __name__ == "__main__":
    boot()
