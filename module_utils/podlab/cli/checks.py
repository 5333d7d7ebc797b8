"""`test` and `lint`: the tools a change has to pass, as tables."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..errors import PodlabError
from . import lab
from .playbook import wait

FLOORS = ("unit", "kernel", "lab", "demo")


def tests(floor: str, words: Sequence[str]) -> int:
    """Run pytest on one floor or all of them, with more arguments; return pytest's code.

    Raises PodlabError for a floor there is not, or one that needs root when there is none.
    """
    if floor not in (*FLOORS, "all"):
        raise PodlabError(f"--floor {floor}: there is none of that name. Use {', '.join(FLOORS)} or all")
    if floor != "unit" and os.geteuid() != 0:
        raise PodlabError(
            f"podlab needs root for `test --floor {floor}`: run it with sudo, or take --floor unit, which needs none"
        )
    marker = [] if floor == "all" else ["-m", floor]
    return wait([sys.executable, "-m", "pytest", *marker, *words], os.environ)


class Check(NamedTuple):
    """One tool: its name and its command lines."""

    name: str
    commands: Callable[[pathlib.Path], list[list[str]]]


def tool(name: str) -> str:
    """A command of the venv."""
    return str(pathlib.Path(sys.executable).with_name(name))


def _files(root: pathlib.Path, pattern: str) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.glob(pattern))


def _documented(root: pathlib.Path) -> list[list[str]]:
    """ansible-doc for each kind of plugin that there is."""
    kinds = {"module": "library/podlab_*.py", **{kind: f"plugins/{kind}/*.py" for kind in
             ("inventory", "connection", "callback")}}  # fmt: skip
    found = []
    for kind, pattern in kinds.items():
        names = [pathlib.Path(path).stem for path in _files(root, pattern) if "__init__" not in path]
        if names:
            found.append([tool("ansible-doc"), "-t", kind, *names])
    return found


def _syntax(root: pathlib.Path) -> list[list[str]]:
    parts = ("/tasks/", "/vars/")
    playbooks = [path for path in _files(root, "playbooks/**/*.yml") if not any(part in path for part in parts)]
    return [[tool("ansible-playbook"), "--syntax-check", *playbooks]] if playbooks else []


CHECKS = (
    Check("ruff check", lambda root: [[tool("ruff"), "check", "."]]),
    Check("ruff format", lambda root: [[tool("ruff"), "format", "--check", "."]]),
    Check("mypy", lambda root: [[tool("mypy")]]),
    Check("yamllint", lambda root: [[tool("yamllint"), "--strict", "."]]),
    Check("ansible-doc", _documented),
    Check("playbook syntax", _syntax),
    Check("ansible-lint", lambda root: [[tool("ansible-lint"), "--offline"]]),
)


def lint(only: str = "") -> int:
    """Run every tool (or one), show what those that fail say, return how many failed.

    Raises PodlabError when there is no tool of that name.
    """
    chosen = [check for check in CHECKS if only in ("", check.name)]
    if not chosen:
        raise PodlabError(f"--only {only}: there is none of that name. Use {', '.join(check.name for check in CHECKS)}")
    failed = [check.name for check in chosen if not _passes(check)]
    print(f"{len(failed)} of {len(chosen)} failed: {', '.join(failed)}" if failed else f"{len(chosen)} passed")
    return len(failed)


def _passes(check: Check) -> bool:
    started = time.monotonic()
    said = []
    for argv in check.commands(lab.ROOT):
        done = subprocess.run(argv, cwd=lab.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            said.append(done.stdout)
    print(f"{check.name:<16} {'FAILED' if said else 'ok':<7} {time.monotonic() - started:.1f} s", flush=True)
    for text in said:
        print(text.rstrip(), flush=True)
    return not said
