"""Run podlab's own modules on this machine without packing them, in a fork of Ansible's worker.

Packing, unpacking, compiling and importing cost a quarter of a second per call, as much as a hundred pods; the module
itself some milliseconds. Behind any connection but `local`, or with become, the module travels as every module does.
"""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import select
import signal
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import ansible.module_utils
from ansible.module_utils import basic
from ansible.module_utils.common.json import Direction, get_module_encoder
from ansible.plugins.action import ActionBase

from ..linux import syscalls
from . import handover

ROOT = Path(__file__).resolve().parents[3]
PROFILE = "legacy"


class ActionModule(ActionBase):
    """The action of a podlab module: here when the machine is this one, else as usual."""

    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's result."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        args = handover.taken(self._task.args)
        if self._connection.transport != "local" or self._task.become or self._task.async_val:
            there: dict[str, Any] = self._execute_module(module_args=args, task_vars=variables)
            return there
        self._update_module_args(self._task.action, args, variables)
        encoder = get_module_encoder(PROFILE, Direction.CONTROLLER_TO_MODULE)
        data = json.dumps({"ANSIBLE_MODULE_ARGS": args}, cls=encoder).encode()
        result: dict[str, Any] = self._parse_returned_data(_run(self._task.action, data), PROFILE)
        result.pop("_ansible_parsed", None)
        return result


def _run(name: str, data: bytes) -> dict[str, Any]:
    """Run the module in a child; return its rc, stdout and stderr, as a connection would."""
    # With ansible-playbook gone nobody holds the lab: worker and module end with it, and the next run repairs.
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    out, err = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        _become_module(name, data, out[1], err[1])
    os.close(out[1])
    os.close(err[1])
    said = _read_both(out[0], err[0])
    status = os.waitpid(child, 0)[1]
    return {"rc": os.waitstatus_to_exitcode(status), "stdout": said[out[0]].decode(), "stderr": said[err[0]].decode()}


def _read_both(*fds: int) -> dict[int, bytes]:
    said = dict.fromkeys(fds, b"")
    open_fds = set(fds)
    while open_fds:
        for fd in select.select(list(open_fds), [], [])[0]:
            data = os.read(fd, 1 << 16)
            said[fd] += data
            if not data:
                open_fds.discard(fd)
                os.close(fd)
    return said


def _become_module(name: str, data: bytes, out: int, err: int) -> NoReturn:
    code = 1
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (out, 1), (err, 2)):
            os.dup2(source, target)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115 - the process's own
        importable()
        basic._ANSIBLE_ARGS = data
        basic._ANSIBLE_PROFILE = PROFILE
        runpy.run_path(str(ROOT / "library" / f"{name}.py"), run_name="__main__")
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def importable() -> ModuleType:
    """Make this very package importable under the name that modules use; return it."""
    here = str(ROOT / "module_utils")
    if here not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(here)
    spec = importlib.util.find_spec("ansible.module_utils.podlab")
    assert spec is not None and spec.loader is not None
    return sys.modules.get(spec.name) or importlib.import_module(spec.name)
