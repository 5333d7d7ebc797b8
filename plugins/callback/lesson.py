# SPDX-License-Identifier: Apache-2.0
"""What `./lab demo-…` shows: a page to read, with commands, their output and what they prove."""

from __future__ import annotations

DOCUMENTATION = """
name: lesson
type: stdout
short_description: A narrated lesson
description:
  - Shows the tasks of M(podlab_lesson) as the steps of a lesson, readable at 80 columns, coloured on a terminal only.
  - Of other tasks it shows those that change something or fail, on one line each.
  - Ends with the number of claims, and whether all hold.
  - With C(-v) it shows what the default callback shows.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
author: podlab
"""

import sys
import time
from pathlib import Path

from ansible.executor.stats import AggregateStats
from ansible.executor.task_result import CallbackTaskResult
from ansible.plugins.loader import callback_loader
from ansible.utils.color import stringc

try:
    import podlab  # noqa: F401
except ImportError:
    sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from podlab.cli import lesson

COLORS = {
    "title": "bright blue",
    "prompt": "dark gray",
    "command": "white",
    "good": "green",
    "bad": "red",
    "remember": "cyan",
}


def paint(text: str, style: str) -> str:
    """Colour it when Ansible colours its output: on a terminal, unless told not to."""
    return str(stringc(text, COLORS[style])) if text else text


class CallbackModule(callback_loader.get("podlab", class_only=True)):  # type: ignore[misc]
    """See DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "lesson"

    def __init__(self) -> None:
        super().__init__()
        self._steps = 0
        self._after_step = False
        self._claims: list[dict[str, str]] = []
        self._began = time.monotonic()

    def _line(self, result: CallbackTaskResult, outcome: str, color: str | None = None) -> None:
        """Only what a lesson's reader should know of other tasks: what they changed, and failures."""
        self._clear()
        if outcome == "ok" or outcome.endswith(", ignored"):
            return
        name = result.task.get_name().rpartition(" : ")[2].strip()
        if self._after_step:
            self._display.display("")
            self._after_step = False
        self._display.display(lesson.cut(f"  {name:<32} {outcome.partition(chr(10))[0]}", lesson.WIDTH), color=color)

    def _step(self, result: CallbackTaskResult) -> bool:
        """Show the task as a step; False when it is none."""
        step = result.result.get("lesson")
        if not isinstance(step, dict) or self._display.verbosity:
            return False
        self._clear()
        self._steps += 1
        self._after_step = True
        self._claims += step["claims"]
        self._display.display("\n".join(lesson.step_lines(self._steps, step, paint)))
        return True

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """A step, or another task's line."""
        if not self._step(result):
            super().v2_runner_on_ok(result)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """A step that is not true says so itself."""
        if not self._step(result):
            super().v2_runner_on_failed(result, ignore_errors)

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """The lesson's last line."""
        super().v2_playbook_on_stats(stats)
        if self._claims:
            untrue = any(claim["problem"] for claim in self._claims)
            line = lesson.summary(self._claims, time.monotonic() - self._began)
            self._display.display("\n" + paint(line, "bad" if untrue else "good"))
