"""Run an Ansible module in this process, as the target would."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import pathlib
import sys
import types
from typing import Any
from unittest import mock

import ansible.module_utils._internal as ansible_internal
from ansible.module_utils.common import warnings as module_warnings
from ansible.module_utils.testing import patch_module_args


def load(path: pathlib.Path) -> types.ModuleType:
    """Import a module file afresh, under its own name."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def run(path: pathlib.Path, args: dict[str, Any], *, check: bool, diff: bool, tmp: str) -> dict[str, Any]:
    """The module's JSON result; warnings and deprecations are plain texts."""
    internal = {"_ansible_check_mode": check, "_ansible_diff": diff, "_ansible_remote_tmp": tmp}
    output = io.StringIO()
    module = load(path)
    with contextlib.ExitStack() as stack:
        stack.enter_context(patch_module_args({**args, **internal}))
        # Without these, warnings go to the controller's display, and those of an earlier run come again.
        stack.enter_context(mock.patch.object(ansible_internal, "is_controller", False))
        stack.enter_context(mock.patch.object(module_warnings, "_global_warnings", {}))
        stack.enter_context(mock.patch.object(module_warnings, "_global_deprecations", {}))
        stack.enter_context(contextlib.redirect_stdout(output))
        try:
            module.main()
        except SystemExit:
            pass
        else:
            raise AssertionError(f"{path.name}: main() returned without exit_json or fail_json")
    result: dict[str, Any] = json.loads(output.getvalue())
    for key in ("warnings", "deprecations"):
        if key in result:
            result[key] = [_text(entry) for entry in result[key]]
    return result


def _text(entry: Any) -> str:
    """The message of a warning, whichever shape ansible-core's profile gives it."""
    return entry if isinstance(entry, str) else str(entry.get("event", entry).get("msg", entry))
