"""A supervisor outlives the temporary files that a module brings: whatever it may need is loaded before."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "module_utils" / "podlab"
# Loaded by a child of the supervisor, from Python's own directory, when it probes by HTTPS or packs a log.
LATE = {"ssl", "zlib"}
HEAVY = {"dataclasses", "inspect", "typing_extensions", "subprocess", "ansible", "yaml", "ipaddress", "logging"}


def loaded() -> set[str]:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import podlab.runtime.zygote; print(*sys.modules)"
    argv = [sys.executable, "-I", "-S", "-c", code, str(PACKAGE.parent)]
    return set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())


def late_imports(path: Path, name: str) -> set[str]:
    """Modules of ours that are imported inside a function of this file."""
    package = name.split(".")[:-1]
    found = set()
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom) and node.level:
                    base = package[: len(package) - node.level + 1]
                    found.add(".".join([*base, *([node.module] if node.module else [])]))
                elif isinstance(node, ast.Import):
                    found.update(alias.name for alias in node.names)
    return found


def test_nothing_is_left_to_import() -> None:
    modules = loaded()
    ours = {name for name in modules if name.startswith("podlab.")}
    assert "podlab.runtime.supervisor" in ours
    for name in ours:
        path = PACKAGE.parent / (name.replace(".", "/") + ".py")
        if path.exists():
            assert late_imports(path, name) <= modules | LATE, f"{name} imports something later"


def test_the_supervisor_stays_small() -> None:
    modules = loaded()
    assert not {name.split(".")[0] for name in modules} & (HEAVY | LATE)
    # What compiles seccomp profiles is for the module that starts it.
    assert not {name for name in modules if name.endswith((".syscall_table", ".seccomp_filter", ".seccomp_default"))}
