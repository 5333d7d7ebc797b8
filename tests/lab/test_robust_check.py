"""`--check --diff` tells what a run would do, touches nothing, and is right about it."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from support import snapshot
from support.machine import Machine, machine
from support.small_lab import SmallLab

pytestmark = pytest.mark.own_machine

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def lab(tmp_path: pathlib.Path) -> Iterator[SmallLab]:
    """The default config and manifests, not yet made, on a machine that never saw podlab."""
    with machine() as host:
        default = ROOT / "clusters" / "default"
        lab = SmallLab(host, tmp_path, "checked")
        lab.environment["PODLAB_CONFIG"] = str(default / "cluster.yaml")
        lab.config = default / "cluster.yaml"
        yield lab


def play(host: Machine, environment: dict[str, str], *words: str) -> list[dict[str, Any]]:
    """The results of lab.yml's tasks, in order, each with its task's name."""
    callback = {
        "ANSIBLE_STDOUT_CALLBACK": "results",
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests" / "support" / "callbacks"),
    }
    done = host.run("ansible-playbook", "playbooks/lab.yml", *words, environment={**environment, **callback})
    assert done.returncode == 0, done.text
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def shown(tasks: list[dict[str, Any]]) -> list[tuple[str, bool, Any]]:
    """Per task that speaks of the lab: its name, whether it changes something, and what by which steps.

    Of Services only what, not how: the rules have the addresses that the pods will get.
    """
    return [
        (
            task["name"],
            task["changed"],
            [
                (item["name"], item["changed"], [] if task["name"].startswith("service") else item["steps"])
                for item in task["results"]
            ],
        )
        for task in tasks
        if "results" in task
    ]


def test_check_is_right(lab: SmallLab) -> None:
    host = lab.machine
    virgin = host.snapshot()
    checked = play(host, lab.environment, "--check", "--diff")
    snapshot.assert_same(virgin, host.snapshot())
    assert any(task["changed"] for task in checked)
    assert {item["after_header"] for task in checked for item in task.get("diff") or () if "after_header" in item} >= {
        "pod default/core-k8s",
        "node checked-worker2",
        "netns podlab-checked-network",
    }
    real = play(host, lab.environment, "--diff")
    assert shown(checked) == shown(real)
    assert [task["name"] for task in checked] == [task["name"] for task in real]
    # Afterwards there is nothing to show, and nothing to do.
    after = play(host, lab.environment, "--check", "--diff")
    assert [task["name"] for task in after if task["changed"] or task.get("diff")] == []
    again = play(host, lab.environment)
    assert [task["name"] for task in again if task["changed"]] == []
    lab.down()
    snapshot.assert_same(virgin, host.snapshot())


def test_check_of_a_virgin_machine_as_a_person_runs_it(lab: SmallLab) -> None:
    before = lab.machine.snapshot()
    text = lab.up("--check", "--diff")
    assert "pod default/core-k8s" in text and "would change" in text
    assert "nothing to do" in lab.down("--check")
    snapshot.assert_same(before, lab.machine.snapshot())


def test_check_of_down(lab: SmallLab) -> None:
    lab.up()
    before = lab.machine.snapshot()
    assert "would be taken down" in lab.down("--check", "--diff")
    snapshot.assert_same(before, lab.machine.snapshot())
    lab.down()
