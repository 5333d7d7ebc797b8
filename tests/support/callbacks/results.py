"""A callback for tests: every task's whole result, one JSON object per line."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: results
type: stdout
short_description: Results as JSON lines
description: One line per task that ended, with its name and result.
"""


class CallbackModule(CallbackBase):
    """See DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "results"

    def _line(self, result: Any) -> None:
        print(json.dumps({"name": result.task.get_name(), **result.result}, default=str), flush=True)

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task that went well."""
        self._line(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task that did not."""
        self._line(result)
