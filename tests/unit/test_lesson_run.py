"""The action podlab_lesson and the callback lesson, run by ansible-playbook on this machine without root."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any, Callable

import pytest
import yaml

# Playbook after playbook.
pytestmark = pytest.mark.own_machine

ROOT = pathlib.Path(__file__).resolve().parents[2]

Play = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def play(tmp_path: pathlib.Path) -> Play:
    """play(*steps, **environment): a playbook with these podlab_lesson tasks."""

    def run(*steps: dict[str, Any], words: tuple[str, ...] = (), **more: str) -> subprocess.CompletedProcess[str]:
        tasks = [
            {"name": f"Step {number}", "podlab_lesson": {"why": "Because.", **step}, "register": f"step{number}"}
            for number, step in enumerate(steps, 1)
        ]
        book = tmp_path / "book.yml"
        play = {"name": "Lesson", "hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
        book.write_text(yaml.safe_dump([play], sort_keys=False))
        given = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PODLAB_"))}
        own = {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": "lesson",
            "ANSIBLE_HOME": str(tmp_path),
        }
        return subprocess.run(
            [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", str(book), *words],
            env={**given, **own, **more},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def proves(*conditions: str, claim: str = "It is so.") -> dict[str, Any]:
    return {"claim": claim, "that": list(conditions)}


def test_a_lesson_that_is_true(play: Play) -> None:
    done = play(
        {
            "commands": [{"command": "echo one"}, {"command": "echo two >&2; exit 3", "exit_code": 3}],
            "claims": [proves("outputs == ['one', 'two']", "output == 'two'")],
            "remember": "Numbers.",
        },
        # A later step knows what an earlier one has found.
        {"commands": [{"command": "echo {{ step1.outputs[0] }}"}], "claims": [proves("output == step1.outputs[0]")]},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("──")] == [
        "── 1. Step 1 " + "─" * 67,
        "── 2. Step 2 " + "─" * 67,
    ]
    for line in ("Because.", "  machine# echo one", "  one", "  two", "  ✓ It is so.", "  → Numbers."):
        assert line in lines
    assert lines[-1].startswith("2 claims, all hold (")
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"commands": [{"command": "echo a"}], "claims": [proves("output == 'b'")]}, "not true: output == 'b'"),
        # All conditions count, not only the first.
        ({"commands": [{"command": "echo a"}], "claims": [proves("true", "output == 'b'")]}, "not true: output == 'b'"),
        ({"claims": [proves("nowhere.x == 1")]}, "not true: nowhere.x == 1"),
        ({"commands": [{"command": "exit 3"}], "claims": [proves("true")]}, "✗ exit code 3, not 0"),
        ({"commands": [{"command": "true", "exit_code": 3}], "claims": [proves("true")]}, "✗ exit code 0, not 3"),
    ],
)
def test_a_lesson_that_lies_stops(play: Play, step: dict[str, Any], said: str) -> None:
    done = play(step, {"commands": [{"command": "echo never"}], "claims": [proves("true")]})
    assert done.returncode == 2
    assert said in done.stdout
    assert "never" not in done.stdout
    assert done.stdout.count("── ") == 1


def test_a_claim_that_is_not_true_is_counted(play: Play) -> None:
    done = play({"claims": [proves("true"), proves("false", claim="It is not.")]})
    lines = done.stdout.splitlines()
    assert "  ✓ It is so." in lines
    assert "  ✗ It is not." in lines
    assert any(line.startswith("2 claims, 1 not true (") for line in lines)


def test_what_takes_its_time_is_looked_at_again(play: Play, tmp_path: pathlib.Path) -> None:
    count = f"echo x >> {tmp_path}/count; wc -l < {tmp_path}/count"
    step = {"commands": [{"command": count}], "claims": [proves("output | int == 3")]}
    assert play({**step, "within": 30}).returncode == 0
    assert (tmp_path / "count").read_text() == "x\n" * 3


def test_output_is_data(play: Play) -> None:
    """Nothing that a command prints is evaluated as a template, in no later step."""
    printed = "{% raw %}{{ 6 * 7 }}{% endraw %}"
    done = play(
        {"commands": [{"command": f"echo '{printed}'"}], "claims": [proves("output | length == 11")]},
        {"commands": [{"command": "echo '{{ step1.output }}'"}], "claims": [proves("output == step1.output")]},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "42" not in done.stdout.partition("claims,")[0]


def test_check_mode_does_nothing(play: Play, tmp_path: pathlib.Path) -> None:
    done = play({"commands": [{"command": f"touch {tmp_path}/made"}]}, words=("--check",))
    assert (done.returncode, (tmp_path / "made").exists()) == (0, False)


def test_colours_on_a_terminal(play: Play) -> None:
    done = play({"commands": [{"command": "echo a"}], "claims": [proves("true")]}, ANSIBLE_FORCE_COLOR="1")
    assert "\x1b[0;32m  ✓ It is so.\x1b[0m" in done.stdout


def test_the_result_as_data(play: Play) -> None:
    done = play(
        {"commands": [{"command": "echo a"}], "claims": [proves("true")]},
        ANSIBLE_STDOUT_CALLBACK="default",
        ANSIBLE_CALLBACK_RESULT_FORMAT="json",
        ANSIBLE_DISPLAY_OK_HOSTS="true",
        words=("-v",),
    )
    text = done.stdout.partition("=> ")[2]
    result = json.JSONDecoder().raw_decode(text)[0]
    assert result["lesson"] == {
        "title": "Step 1",
        "why": "Because.",
        "where": "machine",
        "commands": [{"command": "echo a", "exit_code": 0, "lines": 12, "output": "a", "ended": 0}],
        "claims": [{"claim": "It is so.", "problem": ""}],
        "remember": "",
    }
    assert (result["outputs"], result["output"], result["changed"]) == (["a"], "a", False)
