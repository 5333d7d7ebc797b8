"""Runs a pod by runc inside a lab's node, where a node's containerd would run it: what podlab is held against."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from podlab.linux import cgroup
from podlab.runtime import pause
from support.blackbox import oci
from support.runtime import MEMORY, SECONDS, Lab

RUNC = shutil.which("runc")
# What this process may have at all: containerd, too, gives no more than it has.
BOUNDING = next(
    int(line.split()[1], 16)
    for line in pathlib.Path("/proc/self/status").read_text().splitlines()
    if line.startswith("CapBnd:")
)
_HOME = "/run/oracle"
_STATE = "/run/oracle-state"


class Ran(NamedTuple):
    """What a container, or a command in it, gave."""

    code: int
    out: str
    err: str


class Oracle:
    """runc in the node of a lab. It goes with the node: all that it makes is in the node's own /run and cgroup."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.outside = pathlib.Path(f"/proc/{lab.record['pid']}/root")
        self.layers = list(reversed(lab.images["busybox"]["layers"]))
        self.accounts = accounts(pathlib.Path(self.layers[0]) / "etc")
        self.hierarchies = cgroup.detect()

    def in_node(self, *argv: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command in the node: all of its namespaces, and its cgroup."""
        # A caller that leaks a descriptor: it must not be seen inside.
        flags = ["--mount", "--net", "--uts", "--ipc", "--pid", "--cgroup"]
        enter = ["nsenter", "--target", str(self.lab.record["pid"]), *flags, "--", *argv]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(enter, text=True, preexec_fn=self._join, **{**streams, **options})

    def _join(self) -> None:
        # Where the node's own processes are: on v2 none may be beside a pod's cgroup.
        self.hierarchies.attach(self.lab.cgroup("init"), 0)

    def sh(self, *argv: str) -> str:
        """The output of a command in the node that must succeed."""
        ran = finish(self.in_node(*argv))
        assert ran.code == 0, ran
        return ran.out

    def runc(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start runc."""
        return self.in_node(RUNC or "runc", "--root", _STATE, *words, **options)

    @contextlib.contextmanager
    def pod(self, pod: Mapping[str, Any]) -> Iterator[Pod]:
        """The pod's sandbox with its files and volumes; its containers are removed at the end."""
        made = Pod(self, pod)
        try:
            made.start_sandbox()
            yield made
        finally:
            made.remove()


class Pod:
    """One pod under runc."""

    def __init__(self, oracle: Oracle, pod: Mapping[str, Any]) -> None:
        self.oracle, self.pod = oracle, pod
        self.uid = pod["metadata"]["uid"]
        self.place = f"{_HOME}/{self.uid}"
        of_quality = {"BestEffort": "besteffort/", "Burstable": "burstable/", "Guaranteed": ""}
        self.cgroup = f"/kubelet/kubepods/{of_quality[oci.quality(pod)]}pod{self.uid}"
        self.pause = 0
        self.made: list[str] = []
        self.kept: list[subprocess.Popen[str]] = []

    def start_sandbox(self) -> None:
        """What the kubelet and containerd have ready before the first container: files, volumes, pause."""
        files = {"hosts": "127.0.0.1\tlocalhost\n", "hostname": oci.hostname(self.pod) + "\n", "resolv.conf": ""}
        (self._outside(self.place) / "volumes").mkdir(parents=True)
        for name, text in files.items():
            (self._outside(self.place) / name).write_text(text)
        self._tmpfs("shm", "mode=1777,size=65536k", "nosuid,nodev,noexec")
        for volume in self.pod["spec"].get("volumes") or []:
            self._volume(volume)
        root = self._root("pause", {"pause": pause.pause_binary()})
        config = oci.sandbox(self.pod, f"{self.cgroup}/{'0' * 64}", root, bool(self.oracle.hierarchies.v1))
        self._bundle("pause", config)
        words = f"run -d --pid-file {self.place}/pid -b {self.place}/pause {self._id('pause')}"
        self.oracle.sh("sh", "-c", f"exec {RUNC} --root {_STATE} {words} >/dev/null 2>&1")
        self.made.append("pause")
        self.pause = int((self._outside(self.place) / "pid").read_text())

    def _outside(self, path: str) -> pathlib.Path:
        return self.oracle.outside / path[1:]

    def _tmpfs(self, name: str, data: str, options: str) -> None:
        (self._outside(self.place) / name).mkdir(parents=True, exist_ok=True)
        self.oracle.sh("mount", "-t", "tmpfs", "-o", f"{data},{options}", "tmpfs", f"{self.place}/{name}")

    def _volume(self, volume: Mapping[str, Any]) -> None:
        if "hostPath" in volume:
            return
        made = self._outside(self.place) / "volumes" / volume["name"]
        made.mkdir()
        made.chmod(0o777)
        group = (self.pod["spec"].get("securityContext") or {}).get("fsGroup")
        if group is not None:
            os.chown(made, -1, group)
            made.chmod(0o2777)
        memory = volume.get("emptyDir") or {}
        if memory.get("medium") == "Memory":
            size = oci.octets(memory.get("sizeLimit") or oci.octets(MEMORY))
            self._tmpfs(f"volumes/{volume['name']}", f"mode=1777,size={size}", "rw")

    def _root(self, name: str, files: Mapping[str, str] | None = None) -> str:
        """An overlay of the image's layers, as a snapshotter prepares it; or a directory of these files alone."""
        base = f"{self.place}/{name}"
        for part in ("upper", "work", "root"):
            (self._outside(base) / part).mkdir(parents=True)
        if files is not None:
            for target, source in files.items():
                shutil.copy(source, self._outside(base) / "root" / target)
            for target in ("proc", "dev", "sys"):
                (self._outside(base) / "root" / target).mkdir()
        else:
            options = f"lowerdir={':'.join(self.oracle.layers)},upperdir={base}/upper,workdir={base}/work"
            self.oracle.sh("mount", "-t", "overlay", "-o", options, "overlay", f"{base}/root")
        return f"{base}/root"

    def _bundle(self, name: str, config: Mapping[str, Any]) -> None:
        (self._outside(self.place) / name / "config.json").write_text(json.dumps(config))

    def _id(self, name: str) -> str:
        return f"{self.uid[:8]}-{name}"

    def prepare(self, spec: Mapping[str, Any]) -> None:
        """Root, termination log and config.json of one container."""
        name = spec["name"]
        root = self._root(name)
        log = self._outside(self.place) / name / "termination-log"
        log.touch()
        log.chmod(0o666)
        number = f"{len(self.made):064x}"
        around = oci.Around(
            cgroup=f"{self.cgroup}/{number}",
            root=root,
            place=self.place,
            v1=bool(self.oracle.hierarchies.v1),
            pause=self.pause,
            memory=MEMORY,
            accounts=self.oracle.accounts,
            bounding=BOUNDING,
        )
        self._bundle(name, oci.container(self.pod, spec, around))
        self.made.append(name)

    def run(self, specs: Sequence[Mapping[str, Any]], waited: Sequence[str] = ()) -> dict[str, Ran]:
        """Run these containers beside each other to their end, which is the end of their output.

        Detached, as containerd does it, so that input and output are what we give. waited: whose code is asked for.
        """
        running = {}
        for spec in specs:
            self.prepare(spec)
            how = [] if spec["name"] in waited else ["--detach"]
            words = ("run", *how, "-b", f"{self.place}/{spec['name']}", self._id(spec["name"]))
            running[spec["name"]] = self.oracle.runc(*words)
        return {name: finish(each) for name, each in running.items()}

    def start(self, spec: Mapping[str, Any]) -> None:
        """Start one container and leave it running."""
        self.prepare(spec)
        words = ("run", "--detach", "-b", f"{self.place}/{spec['name']}", self._id(spec["name"]))
        # The container keeps these pipes: whoever waits for their end would wait for its.
        running = self.oracle.runc(*words)
        self.kept.append(running)
        if running.wait(SECONDS):
            raise AssertionError(finish(running))

    def exec(self, name: str, *argv: str) -> Ran:
        """Run a command in a container, as containerd asks runc to: with the container's own process as the pattern."""
        config = json.loads((self._outside(self.place) / name / "config.json").read_text())
        process = {**config["process"], "args": list(argv)}
        (self._outside(self.place) / name / "process.json").write_text(json.dumps(process))
        return finish(self.oracle.runc("exec", "-p", f"{self.place}/{name}/process.json", self._id(name)))

    def remove(self) -> None:
        """End what runs. The mounts go with the node."""
        for name in reversed(self.made):
            finish(self.oracle.runc("delete", "--force", self._id(name)))
        for each in self.kept:
            finish(each)


def finish(running: subprocess.Popen[str]) -> Ran:
    """Wait for the end of a command."""
    with running:
        out, err = running.communicate(timeout=SECONDS)
    return Ran(running.returncode, out, err)


def accounts(etc: pathlib.Path) -> dict[int, tuple[int, list[int]]]:
    """uid -> primary group and memberships, by an image's passwd and group (passwd(5), group(5))."""
    users = [line.split(":") for line in (etc / "passwd").read_text().splitlines()]
    groups = [line.split(":") for line in (etc / "group").read_text().splitlines()]
    return {
        int(user[2]): (int(user[3]), [int(group[2]) for group in groups if user[0] in group[3].split(",")])
        for user in users
    }


def version() -> str:
    """What runc says of itself, in one line."""
    said = subprocess.run([RUNC or "runc", "--version"], capture_output=True, text=True, check=True).stdout
    return os.linesep.join(said.splitlines()[:1])
