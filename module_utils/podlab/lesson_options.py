"""Options of podlab_lesson: the action that takes them and the module file that documents them share them."""

from __future__ import annotations

from typing import Any


def argument_spec() -> dict[str, Any]:
    """The options, as library/podlab_lesson.py documents them."""
    command = {
        "command": {"type": "str", "required": True},
        "exit_code": {"type": "int", "default": 0},
        "lines": {"type": "int", "default": 12},
    }
    # Conditions stay as they are written: Ansible evaluates only those that it knows to come from a playbook.
    that = {"type": "list", "elements": "raw", "required": True}
    return {
        "why": {"type": "str", "required": True},
        "commands": {"type": "list", "elements": "dict", "options": command, "default": []},
        "claims": {
            "type": "list",
            "elements": "dict",
            "options": {"claim": {"type": "str", "required": True}, "that": that},
            "default": [],
        },
        "remember": {"type": "str", "default": ""},
        "within": {"type": "int", "default": 0},
    }
