# SPDX-License-Identifier: Apache-2.0
"""Hold a lab for the length of a play. Its documentation is library/podlab_lock.py."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

try:
    import podlab  # noqa: F401
except ImportError:
    sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from podlab.errors import PodlabError
from podlab.runtime import lock


class ActionModule(ActionBase):
    """The holder is the ansible-playbook process itself: when it is killed, the lock is nobody's."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The task's result; nothing is written in check mode."""
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(
            {
                "name": {"type": "str", "required": True},
                "state": {"type": "str", "choices": ["held", "released"], "default": "held"},
            }
        )
        if os.geteuid():
            return {"failed": True, "msg": "podlab needs root: namespaces, mounts and links are made. Use sudo"}
        if self._task.check_mode:
            return {"changed": False}
        try:
            (lock.hold if options["state"] == "held" else lock.release)(options["name"], _playbook())
        except PodlabError as error:
            return {"failed": True, "msg": error.message}
        return {"changed": False}


def _playbook() -> int:
    """Pid of ansible-playbook, which forked the worker that this runs in. It may be dead by now: not getppid(2)."""
    parent = multiprocessing.parent_process()
    return os.getppid() if parent is None or parent.pid is None else parent.pid
