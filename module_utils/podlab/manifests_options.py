"""The options of podlab_manifests, for the action plugin that does the work and the module that documents it."""

from __future__ import annotations

from typing import Any


def argument_spec() -> dict[str, Any]:
    """The options, as DOCUMENTATION describes them."""
    files = {"type": "list", "elements": "path", "default": []}
    return {
        "cluster": {"type": "dict", "required": True},
        "manifests_dir": {"type": "path"},
        "apply": files,
        "delete": files,
        "scale": {
            "type": "dict",
            "options": {
                "kind": {"type": "str", "required": True},
                "name": {"type": "str", "required": True},
                "namespace": {"type": "str", "default": "default"},
                "replicas": {"type": "int", "required": True},
            },
        },
    }
