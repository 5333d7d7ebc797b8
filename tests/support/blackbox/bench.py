"""Runs a case under podlab and under runc, and gives what each row found."""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from podlab.linux import cgroup
from support import runtime
from support.blackbox import oci
from support.blackbox.model import Case, Cell, Facts, Row, parse, replace_marks
from support.blackbox.oracle import BOUNDING, Oracle, Ran
from support.blackbox.oracle import Pod as OraclePod
from support.naive import Naive, Spec

KINDS = "mnt pid net ipc uts cgroup user time".split()
# The ids of who runs it, as the kernel has them: real, effective.
EUID = '#include <stdio.h>\n#include <unistd.h>\nint main(void){printf("%d\\n",geteuid());return 0;}\n'


class Found(NamedTuple):
    """What a row found: under podlab and, where it has a part in it, under runc."""

    podlab: Facts
    runc: Facts | None


class Bench:
    """A node, a directory of the machine, and what differs from machine to machine."""

    def __init__(self, lab: runtime.Lab, directory: pathlib.Path) -> None:
        self.lab = lab
        self.oracle = Oracle(lab)
        self.directory = directory
        self.compiler = shutil.which("cc") or shutil.which("gcc")
        self._make_files()
        self.marks = self._marks()

    def _make_files(self) -> None:
        for name in ("mounts/below", "links", "tools", "private", "flags", "after"):
            (self.directory / name).mkdir(parents=True)
        (self.directory / "private").chmod(0o700)
        (self.directory / "one-file").write_text("of the host")
        for name, target in {"absolute": "/inside", "dangling": "/nowhere", "up": "../../../up"}.items():
            (self.directory / "links" / name).symlink_to(target)
        self.lab.in_node("mount", "-t", "tmpfs", "tmpfs", str(self.directory / "mounts/below"))
        options = "nosuid,nodev,noexec"
        self.lab.in_node("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.directory / "flags"))
        (self.directory / "tools/plain").write_text("#!/bin/sh\necho run\n")
        if self.compiler:
            program = self.directory / "tools/euid"
            command = [self.compiler, "-static", "-x", "c", "-o", str(program), "-"]
            subprocess.run(command, input=EUID, text=True, check=True)
            program.chmod(0o4755)

    def _marks(self) -> dict[str, str]:
        """What stands for what in scripts and in what is expected."""
        pid = self.lab.record["pid"]
        v1 = bool(cgroup.detect().v1)
        # As somebody who may do no more than a container: what keeps users from it keeps containers, too.
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]
        asked = subprocess.run([*nobody, "unshare", "-mr", "true"], capture_output=True, check=False)
        own = asked.returncode == 0
        named = ":name=systemd:" in pathlib.Path("/proc/self/cgroup").read_text()
        bounding = BOUNDING
        marks = {
            "@NS@": " ".join(os.readlink(f"/proc/{each}/ns/{kind}") for each in (pid, "self") for kind in KINDS),
            "@MASKED@": " ".join(oci.MASKED),
            "@READONLY@": " ".join(oci.READONLY),
            "@NODE@": self.lab.record["name"],
            "@HOST@": str(self.directory),
            "@TOOLS@": str(self.directory / "tools"),
            "@USERNS@": "made" if own else "refused",
            "@LOCKED@": "Invalid argument" if own else "Operation not permitted",
            "@DENIED@": "Operation not permitted" if v1 else "Permission denied",
            "@CGROUP@": "/kubelet/kubepods/besteffort/podUID/ID" if v1 else "/",
            "@SEEN@": "unified " if v1 and os.path.isdir("/sys/fs/cgroup/unified") else "",
            "@SYSTEMD@": "/" if named else "",
            "@DEVICES@": _devices(),
            "@ALL_CAPS@": f"{bounding:016x}",
            "@ALL_BUT_CHOWN@": f"{bounding & ~1:016x}",
            "@SCORE 64Mi@": str(min(max(1000 - 1000 * (64 << 20) // runtime.MEMORY, 3), 999)),
            # Below what the caller has only CAP_SYS_RESOURCE may go.
            "@SCORE -997@": "-997"
            if bounding >> 24 & 1
            else pathlib.Path("/proc/self/oom_score_adj").read_text().strip(),
        }
        for shares in (2, 102, 256, 1024):
            marks[f"@SHARES {shares}@"] = str(shares) if v1 else "untold"
        return marks

    def pod(self, case: Case) -> dict[str, Any]:
        """The case's Pod, complete."""
        pod = replace_marks(case.pod(), self.marks)
        spec = pod["spec"]
        return self.lab.pod(*spec.pop("containers"), name=pod["metadata"]["name"], **spec)

    def run(self, case: Case) -> dict[tuple[str, int], Found]:
        """Run a case under both; by container and place of the row."""
        pod = self.pod(case)
        ours = self._podlab(case, pod)
        theirs = self._runc(case, pod)
        found = {}
        for cell in case.cells:
            for place, row in enumerate(cell.rows):
                mine = _nth(ours[cell.name], place)
                other = None if row.runc else _nth(theirs[cell.name], place)
                found[cell.name, place] = Found(mine, other)
        return found

    def _podlab(self, case: Case, pod: Mapping[str, Any]) -> dict[str, list[Facts]]:
        made = self.lab.start(pod)[0]
        try:
            return {cell.name: self._ours(cell, made) for cell in case.cells}
        finally:
            made.delete(0)

    def _ours(self, cell: Cell, pod: runtime.Pod) -> list[Facts]:
        if cell.by == "refused":
            pod.until(lambda pod: _settled(pod.container(cell.name)))
            state = pod.container(cell.name)["state"]
            return [{"started": "no" if _not_started(state) else "yes"}]
        if cell.by == "exec":
            return executed(cell, self.marks, lambda argv: Ran(*pod.exec(*argv, container=cell.name)))
        code = pod.ended(cell.name)["exitCode"]
        return with_code(cell, parse(pod.log(cell.name)), code)

    def _runc(self, case: Case, pod: Mapping[str, Any]) -> dict[str, list[Facts]]:
        specs = {spec["name"]: spec for spec in pod["spec"]["containers"]}
        with self.oracle.pod(pod) as made:
            return self._theirs(case, specs, made)

    def _theirs(self, case: Case, specs: Mapping[str, Any], pod: OraclePod) -> dict[str, list[Facts]]:
        by: dict[str, list[Cell]] = {"start": [], "exec": [], "refused": []}
        for cell in case.cells:
            by[cell.by].append(cell)
        waited = [cell.name for cell in case.cells if cell.code or cell.by == "refused"]
        ran = pod.run([specs[cell.name] for cell in (*by["start"], *by["refused"])], waited)
        found = {cell.name: with_code(cell, parse(ran[cell.name].out), ran[cell.name].code) for cell in by["start"]}
        for cell in by["refused"]:
            found[cell.name] = [{"started": "no" if ran[cell.name].code else "yes"}]
        for cell in by["exec"]:
            pod.start(specs[cell.name])
            found[cell.name] = executed(cell, self.marks, lambda argv, name=cell.name: pod.exec(name, *argv))
        return found


def run_naive(bench: Bench, runtime: Naive, cell: Cell, by: str) -> list[Facts]:
    """What the rows of a cell find under the naive runtime, begun with the container or executed in it."""
    script = str(replace_marks(cell.script, bench.marks))
    shared = bench.directory / f"naive-{by}"
    shared.mkdir()
    mounts = [(str(shared), "/made/by/me")]
    if by == "start":
        return parse(runtime.start(Spec(["sh", "-c", script], mounts=mounts)).output())
    return parse(runtime.start(Spec(["sleep", "100000"], mounts=mounts)).exec(script).out)


def _devices() -> str:
    """What all devices of the machine are called, in a few digits."""
    # ptmx is a link in every container.
    paths = sorted(each["path"] for each in oci.host_devices() if each["path"] != "/dev/ptmx")
    names = "".join(f"{path}\n" for path in paths)
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def executed(cell: Cell, marks: Mapping[str, str], run: Any) -> list[Facts]:
    """What the rows of a cell find that are executed in a running container."""
    if any(row.argv for row in cell.rows):
        return [_facts_of(run(row.argv)) for row in cell.rows]
    ran = run(("sh", "-c", replace_marks(cell.script, marks)))
    assert ran.code == cell.code, ran
    return parse(ran.out)


def _facts_of(ran: Ran) -> Facts:
    return {"code": str(ran.code), "lines of error": str(len(ran.err.splitlines()))}


def with_code(cell: Cell, found: list[Facts], code: int) -> list[Facts]:
    """The facts, with the exit code as one of the first row's when it is asked for."""
    if cell.code and found:
        found[0]["code"] = str(code)
    return found


def _nth(found: Sequence[Facts], place: int) -> Facts:
    return found[place] if place < len(found) else {}


def _settled(container: Mapping[str, Any]) -> bool:
    state = container.get("state") or {}
    reason = (state.get("waiting") or {}).get("reason")
    return bool(state) and reason not in ("ContainerCreating", "PodInitializing")


def _not_started(state: Mapping[str, Any]) -> bool:
    return "waiting" in state or state.get("terminated", {}).get("reason") in ("StartError", "CreateContainerError")


def differences(row: Row, found: Found, marks: Mapping[str, str]) -> list[str]:
    """What is not as it should be, in lines: podlab against what is expected, then against runc."""
    # Of what is only compared there must be something.
    expected = found.podlab if row.expected is None and found.podlab else replace_marks(dict(row.expected or {}), marks)
    lines = [] if expected else ["the script says nothing"]
    lines += [
        f"{key}: {found.podlab.get(key)!r}, expected {expected.get(key)!r}"
        for key in dict.fromkeys([*expected, *found.podlab])
        if found.podlab.get(key) != expected.get(key)
    ]
    if found.runc is not None:
        for key in dict.fromkeys([*found.podlab, *found.runc]):
            mine, other = found.podlab.get(key), found.runc.get(key)
            if mine != other and key not in row.allowed:
                lines.append(f"{key}: {mine!r}, under runc {other!r}")
    return lines
