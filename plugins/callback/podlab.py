# SPDX-License-Identifier: Apache-2.0
"""What `./lab up` shows: one line per task, with what it changed and how long it took."""

from __future__ import annotations

DOCUMENTATION = """
name: podlab
type: stdout
short_description: One line per task, with what changed
description:
  - Shows for each task whether it changed something, which objects, and how long it took.
  - With C(-v) it shows what the default callback shows.
  - Writes how the run ended, as JSON, to the file that E(PODLAB_RESULT_FILE) names, with the
    lines that tasks return as RV(said).
  - With E(PODLAB_SHOW) set to V(changes), tasks that change nothing leave no line.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
author: podlab
"""

import functools
import json
import os
import signal
import sys
import time
from typing import Any, Callable

from ansible import constants as C
from ansible.executor.stats import AggregateStats
from ansible.executor.task_result import CallbackTaskResult
from ansible.playbook.play import Play
from ansible.playbook.task import Task
from ansible.plugins.callback.default import CallbackModule as Default

# Names that a line has room for; --check shows all, -v whole results.
SHOWN = 4
NAME_WIDTH = 40
SLOW_SECONDS = 0.1
# Tasks that are none to a person: they move values, or keep others away.
SILENT = frozenset(
    [
        "set_fact",
        "include_vars",
        "include_tasks",
        "import_tasks",
        "include_role",
        "meta",
        "add_host",
        "group_by",
        "podlab_lock",
        "validate_argument_spec",
    ]
)


def quiet(method: Callable[..., None]) -> Callable[..., None]:
    """Use the method; with -v what the default callback has under its name."""

    @functools.wraps(method)
    def call(self: CallbackModule, *args: Any, **kwargs: Any) -> None:
        if self._display.verbosity:
            getattr(Default, method.__name__)(self, *args, **kwargs)
        else:
            method(self, *args, **kwargs)

    return call


def interruptible(method: Callable[..., None]) -> Callable[..., None]:
    """Use the method, unless Ctrl-C has come before and was lost.

    Python throws away a KeyboardInterrupt that comes in a destructor or beside a fork, and Ansible forks for each task.
    Its handler (TaskQueueManager) has then given way to the default one already: that is how one knows.
    """

    @functools.wraps(method)
    def call(self: CallbackModule, *args: Any, **kwargs: Any) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            raise KeyboardInterrupt
        method(self, *args, **kwargs)

    return call


class CallbackModule(Default):
    """See DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "podlab"

    def __init__(self) -> None:
        super().__init__()
        self._started = 0.0
        self._partial = False
        self._diffs: list[str] = []
        self._said: list[str] = []

    # What is shown

    def _clear(self) -> None:
        if self._partial:
            self._display.display("\r\x1b[K", newline=False, screen_only=True)
            self._partial = False

    def _line(self, result: CallbackTaskResult, outcome: str, color: str | None = None) -> None:
        self._clear()
        host = result.host.get_name()
        name = result.task.get_name().rpartition(" : ")[2].strip()
        name = name if host == "localhost" else f"{name} ({host})"
        seconds = time.monotonic() - self._started
        took = f"  {seconds:.1f} s" if seconds >= SLOW_SECONDS else ""
        first, *rest = outcome.split("\n")
        self._display.display("\n".join([f"  {name:<{NAME_WIDTH}}  {first}{took}", *rest]), color=color)

    def _failed(self, result: CallbackTaskResult, word: str, ignored: bool) -> None:
        self._line(result, f"{word}, ignored" if ignored else word, C.COLOR_SKIP if ignored else C.COLOR_ERROR)
        texts = [str(result.result.get("msg", "")).strip()]
        texts += [str(item["msg"]).strip() for item in _entries(result) if item.get("failed") and item.get("msg")]
        texts += [str(result.result.get(key, "")).strip() for key in ("module_stderr", "stderr")]
        for text in dict.fromkeys(text for text in texts if text):
            self._display.display(text, color=None if ignored else C.COLOR_ERROR, stderr=not ignored)

    # Events, in the order they come

    @quiet
    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Nothing to say yet."""

    @quiet
    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Remember the play: the default's other methods need it."""
        self._play = play

    @interruptible
    @quiet
    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:
        """Show on a terminal what is being done now."""
        self._started = time.monotonic()
        self._diffs = []
        if sys.stdout.isatty() and _action(task) not in SILENT:
            self._clear()
            name = task.get_name().rpartition(" : ")[2].strip()
            self._display.display(f"  {name:<{NAME_WIDTH}}  ...", newline=False, screen_only=True)
            self._partial = True

    @interruptible
    @quiet
    def v2_playbook_on_handler_task_start(self, task: Task) -> None:
        """A handler is a task."""
        self.v2_playbook_on_task_start(task, False)

    @quiet
    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Its tasks will speak for themselves."""

    @quiet
    def v2_playbook_on_no_hosts_matched(self) -> None:
        """There is nothing to work on: that is worth a line."""
        self._display.display("no host matched", color=C.COLOR_SKIP, stderr=True)

    @quiet
    def v2_playbook_on_no_hosts_remaining(self) -> None:
        """The failure was shown."""

    @quiet
    def v2_on_file_diff(self, result: CallbackTaskResult) -> None:
        """Keep the difference until the task's line is printed."""
        for entry in (result.result, *_entries(result)):
            if entry.get("diff") and entry.get("changed"):
                self._diffs.append(self._get_diff(entry["diff"]))

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """The task's line."""
        self._said += [str(line) for line in result.result.get("said") or ()]
        if self._display.verbosity:
            super().v2_runner_on_ok(result)
            return
        self._clear()
        self._handle_warnings(result.result)
        if _action(result.task) == "debug":
            self._display.display(f"  {result.result.get('msg', '')}")
        elif _action(result.task) not in SILENT:
            changed = bool(result.result.get("changed"))
            outcome = what_changed(result.result, result.task.check_mode) if changed else "ok"
            if changed or os.environ.get("PODLAB_SHOW") != "changes":
                self._line(result, outcome, C.COLOR_CHANGED if changed else C.COLOR_OK)
        for diff in self._diffs:
            self._display.display(diff)
        self._diffs = []

    @quiet
    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """The task's line and the module's message."""
        self._clear()
        self._handle_warnings(result.result)
        self._failed(result, "FAILED", ignore_errors)

    @quiet
    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        """The task's line and why."""
        self._failed(result, "UNREACHABLE", bool(result.task.ignore_unreachable))

    @quiet
    def v2_runner_on_skipped(self, result: CallbackTaskResult) -> None:
        """Nothing was done: nothing to say."""
        self._clear()

    @quiet
    def v2_runner_item_on_ok(self, result: CallbackTaskResult) -> None:
        """The task's line counts its items."""

    @quiet
    def v2_runner_item_on_failed(self, result: CallbackTaskResult) -> None:
        """The task's failure names its items."""

    @quiet
    def v2_runner_item_on_skipped(self, result: CallbackTaskResult) -> None:
        """Nothing was done: nothing to say."""

    @quiet
    def v2_runner_retry(self, result: CallbackTaskResult) -> None:
        """A task that waits is shown when it ends."""

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """Write how it ended for the command that started us."""
        self._clear()
        path = os.environ.get("PODLAB_RESULT_FILE")
        if path:
            hosts = {host: stats.summarize(host) for host in sorted(stats.processed)}
            found = {"changed": sum(item["changed"] for item in hosts.values()), "hosts": hosts, "said": self._said}
            with open(path, "w", encoding="utf-8") as file:
                json.dump(found, file)
        if self._display.verbosity:
            super().v2_playbook_on_stats(stats)


def _action(task: Task) -> str:
    return str(task.action).rpartition(".")[2]


def _entries(result: CallbackTaskResult) -> list[dict[str, Any]]:
    """Per-object results: those of a podlab module, or of a loop's items."""
    return [entry for entry in result.result.get("results") or () if isinstance(entry, dict)]


def what_changed(result: dict[str, Any], check: bool) -> str:
    """ "3 changed: a, b, c" from a module's result; "changed" when it names nothing.

    In check mode "3 would change" and all the names, each on a line.
    """
    word = "would change" if check else "changed"
    entries = [entry for entry in result.get("results") or () if isinstance(entry, dict) and entry.get("changed")]
    names = [str(entry.get("name") or entry.get("item") or "") for entry in entries]
    names = [name for name in names if name]
    if not names:
        return word
    if check:
        return "\n".join([f"{len(entries)} {word}", *(f"    {name}" for name in names)])
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(entries)} {word}: {', '.join(names[:SHOWN])}{more}"
