"""What every lesson keeps to, so that a new one need not be tested for it."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import pytest
import tasks
import yaml

from podlab.cli import lesson

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEMOS = ROOT / "playbooks" / "demo"

TEMPLATE = re.compile(r"{{.*?}}")


def usual(found: re.Match[str]) -> str:
    """Something as long as what a template in a command stands for: a name of an object, an address or a number."""
    return "n" * next((length for word, length in LENGTHS.items() if word in found[0]), 5)


LENGTHS = {"cluster_name": 8, "name": 24, "podIP": 12}


def lists(path: pathlib.Path) -> list[Any]:
    found = yaml.safe_load(path.read_text())
    assert isinstance(found, list)
    return found


def steps() -> list[Any]:
    """Every podlab_lesson task below playbooks/demo, by file and title."""
    return [
        pytest.param(task, id=f"{path.relative_to(DEMOS)}: {task['name']}")
        for path in sorted(DEMOS.glob("tasks/**/*.yml"))
        for task in lists(path)
        if "podlab_lesson" in task
    ]


def test_there_are_steps() -> None:
    assert len(steps()) >= 19


@pytest.mark.parametrize("task", steps())
def test_step(task: dict[str, Any]) -> None:
    step = task["podlab_lesson"]
    assert step["why"].strip()
    assert step["commands"], "a step shows what one would type"
    for claim in step.get("claims", []):
        assert claim["claim"].endswith("."), "a claim is a sentence"
        assert claim["that"], f"nothing proves: {claim['claim']}"
        assert not [condition for condition in claim["that"] if condition in (True, "true")]
    if not step.get("claims"):
        # What is only done is proved by the step after it, which waits for it.
        assert "within" not in step
    if step.get("within"):
        assert not any(word in one["command"] for one in step["commands"] for word in ("kill", "sleep", "ipcmk"))


@pytest.mark.parametrize("task", steps())
def test_commands_fit_the_page(task: dict[str, Any]) -> None:
    where = "worker# " if "delegate_to" in task else "machine# "
    for command in task["podlab_lesson"]["commands"]:
        for line in TEMPLATE.sub(usual, command["command"]).splitlines():
            assert len(f"  {where}{line}") <= lesson.WIDTH, line


@pytest.mark.parametrize("path", sorted(DEMOS.glob("*.yml")), ids=lambda path: path.stem)
def test_lesson_has_a_task_and_a_lab_of_its_own(path: pathlib.Path) -> None:
    _, files_of = tasks.LESSONS[path.stem]
    assert f"demo-{path.stem}" in tasks.ns.task_names
    assert (DEMOS / "files" / (files_of or path.stem)).is_dir()
    config = DEMOS / "files" / path.stem / "cluster.yaml"
    if config.exists():
        assert yaml.safe_load(config.read_text())["name"] == f"demo-{path.stem}"
