# SPDX-License-Identifier: Apache-2.0
"""One step of a lesson: run what a person would type, prove what it claims. Documented in library/podlab_lesson.py."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

ROOT = Path(__file__).resolve().parents[2]
try:
    import podlab  # noqa: F401
except ImportError:
    sys.path.append(str(ROOT / "module_utils"))

from podlab.lesson_options import argument_spec

# Longer takes nothing that a lesson shows: a command that hangs fails its step.
COMMAND_SECONDS = 30
LOOK_AGAIN_SECONDS = 0.1


class ActionModule(ActionBase):
    """See library/podlab_lesson.py."""

    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The step as data under "lesson", for whatever shows it; failed when a claim is not true."""
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(argument_spec())
        if self._task.check_mode:
            return {"skipped": True, "msg": "a lesson does what it shows: there is no check mode of it"}
        end = time.monotonic() + options["within"]
        while True:
            done = [self._typed(command) for command in options["commands"]]
            claims = self._judge(options["claims"], done, task_vars or {})
            problems = wrong_ends(done) + [entry["problem"] for entry in claims if entry["problem"]]
            if not problems or time.monotonic() >= end:
                break
            time.sleep(LOOK_AGAIN_SECONDS)
        lesson = {
            "title": self._task.get_name(),
            "why": options["why"],
            "where": self._where(task_vars or {}),
            "commands": done,
            "claims": claims,
            "remember": options["remember"],
        }
        outputs = [entry["output"] for entry in done]
        result = {"changed": False, "lesson": lesson, "outputs": outputs, "output": outputs[-1] if outputs else ""}
        return {**result, "failed": True, "msg": "\n".join(problems)} if problems else result

    def _typed(self, command: dict[str, Any]) -> dict[str, Any]:
        """Run one command by /bin/sh on the task's host. Its errors are part of its output, as on a terminal."""
        text = f"timeout --foreground {COMMAND_SECONDS} /bin/sh -c {shlex.quote(command['command'])} 2>&1"
        where = str(ROOT) if self._connection.transport == "local" else None
        done = self._low_level_execute_command(text, sudoable=False, chdir=where)
        return {**command, "output": done["stdout"].rstrip("\n"), "ended": done["rc"]}

    def _judge(
        self, claims: list[dict[str, Any]], done: list[dict[str, Any]], known: dict[str, Any]
    ) -> list[dict[str, Any]]:
        outputs = [entry["output"] for entry in done]
        templar = self._templar.copy_with_new_env(
            available_variables={**known, "outputs": outputs, "output": outputs[-1] if outputs else ""}
        )
        return [{"claim": entry["claim"], "problem": first_untrue(templar, entry["that"])} for entry in claims]

    def _where(self, known: dict[str, Any]) -> str:
        """Whose prompt it is: the node without its lab's name, or the machine."""
        if self._connection.transport == "local":
            return "machine"
        host = str(self._task.delegate_to or known.get("inventory_hostname", ""))
        return host.removeprefix(f"{known.get('podlab_cluster_name', '')}-")


def first_untrue(templar: Any, conditions: list[Any]) -> str:
    """The first condition that is not true, as text; empty when all are."""
    for condition in conditions:
        try:
            if not templar.evaluate_conditional(condition):
                return f"not true: {condition}"
        except AnsibleError as error:
            return f"not true: {condition} ({error})"
    return ""


def wrong_ends(done: list[dict[str, Any]]) -> list[str]:
    """What to say of commands that ended otherwise than the lesson says."""
    return [
        f"exit code {entry['ended']} instead of {entry['exit_code']}: {entry['command']}"
        for entry in done
        if entry["ended"] != entry["exit_code"]
    ]
