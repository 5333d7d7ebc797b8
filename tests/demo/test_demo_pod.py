"""demo-pod from beginning to end: every claim holds, one whose subject is broken does not, nothing is left."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import signal
import subprocess
from typing import Any, Callable

import pytest
import yaml

from podlab.runtime import pause
from support.machine import BIN, ROOT, Machine, machine

pytestmark = pytest.mark.own_machine

FILES = ROOT / "playbooks" / "demo" / "files" / "pod"
# A lesson that drops a claim should be noticed.
CLAIMS = 36
NAME = "demo-pod"


def test_every_claim_holds(there: Machine) -> None:
    done = there.run(str(BIN / "invoke"), "demo-pod", environment={"KIND_CLUSTER_NAME": "another"})
    assert done.returncode == 0, done.text
    lines = done.stdout.splitlines()
    assert re.fullmatch(rf"{CLAIMS} claims, all hold \([0-9.]+ s\)", lines[-1]), done.stdout
    assert "✗" not in done.stdout
    assert len([line for line in lines if line.startswith("  ✓ ")]) == CLAIMS
    assert [line for line in lines if len(line) > 80] == []
    assert "\x1b" not in done.stdout
    # What it shows was really run: the prompts of both places, and the kernel's own words.
    for shown in ("  worker# kill -9 ", "  machine# ./lab get pods", "Address already in use", "net:[40265"):
        assert shown in done.stdout


def test_without_a_compiler() -> None:
    """pause is another program then: its source is not shown, everything else is as true of it."""
    with machine() as bare:
        for name in pause.COMPILERS:
            program = shutil.which(name)
            if program:
                bare.sh("mount", "--bind", "/dev/null", os.path.realpath(program))
        done = bare.run(str(BIN / "invoke"), "demo-pod")
    assert f"\n{CLAIMS - 1} claims, all hold" in done.stdout, done.text
    assert "Without a C compiler, pause is the program catatonit here." in done.stdout


def without_sharing(job: dict[str, Any]) -> None:
    del job["spec"]["template"]["spec"]["shareProcessNamespace"]


def with_another_program(job: dict[str, Any]) -> None:
    job["spec"]["template"]["spec"]["containers"][1]["command"] = ["sleep", "1000"]


def never_restarted(job: dict[str, Any]) -> None:
    job["spec"]["template"]["spec"]["restartPolicy"] = "Never"


@pytest.mark.parametrize(
    ("name", "break_it", "claim"),
    [
        ("two-containers-pod", with_another_program, "A pod of two containers is three processes"),
        ("two-containers-pod", never_restarted, "hello was restarted, once; the pod is whole again."),
        ("practice", without_sharing, "In practice, process 1 is /pause"),
    ],
    ids=["another-program", "never-restarted", "without-sharing"],
)
def test_a_broken_subject_fails_its_claim(
    there: Machine, tmp_path: pathlib.Path, name: str, break_it: Callable[[dict[str, Any]], None], claim: str
) -> None:
    for path in (FILES / "manifests").iterdir():
        job = yaml.safe_load(path.read_text())
        if path.stem == name:
            break_it(job)
        (tmp_path / path.name).write_text(yaml.safe_dump(job))
    environment = {
        "ANSIBLE_STDOUT_CALLBACK": "lesson",
        "KIND_CLUSTER_NAME": NAME,
        "PODLAB_CONFIG": str(FILES / "cluster.yaml"),
        "PODLAB_MANIFESTS": str(tmp_path),
    }
    done = there.run("ansible-playbook", "playbooks/demo/pod.yml", environment=environment)
    untrue = [line for line in done.stdout.splitlines() if line.startswith("  ✗ ")]
    assert done.returncode == 2, done.stdout + done.stderr
    assert untrue and untrue[0].startswith(f"  ✗ {claim}"), done.stdout
    assert re.search(r"^[0-9]+ claims, [0-9]+ not true", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("moment", ["Make the nodes", "Who shares what", "Kill pause"])
def test_stopped_half_way(there: Machine, moment: str) -> None:
    """Ctrl-C reaches every process of the terminal."""
    with there.popen(
        str(BIN / "invoke"),
        "demo-pod",
        environment={"PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        shown = next((line for line in process.stdout if moment in line), "")
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stdout.read()
    assert shown
    assert process.returncode != 0
    assert "lab demo-pod is down" in rest
    assert "all hold" not in rest


def test_it_takes_down_no_other_lab(there: Machine) -> None:
    """Run without the command that names its lab, the lesson refuses, before it touches anything."""
    done = there.run("ansible-playbook", "playbooks/demo/pod.yml", environment={"KIND_CLUSTER_NAME": "another"})
    assert done.returncode == 2
    assert "Run it by: ./lab demo-pod" in done.text
