"""What holds for every file of the project, whoever wrote it."""

from __future__ import annotations

import ast
import configparser
import os
import pathlib
import re
import subprocess
import sys

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def tracked() -> list[pathlib.Path]:
    """The files that land; a tree without git (a release archive) has them all."""
    done = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        names = done.stdout.splitlines()
    else:
        skipped = {".venv", "__pycache__"}
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if not skipped & set(path.parts)]
    return [ROOT / name for name in names if (ROOT / name).is_file()]


FILES = tracked()
TEXTS = {path: path.read_text(errors="replace") for path in FILES if path.name not in ("LICENSE", "requirements.lock")}
PYTHON = {path: text for path, text in TEXTS.items() if path.suffix == ".py"}

# Put together here, so that this file does not hold what it looks for.
_WORDS = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK", "NotImplemented" + "Error")
LEFT_UNDONE = re.compile(rf"\b({'|'.join(_WORDS)})\b")
# Somebody's home, or where this very clone is.
MACHINE_PATHS = re.compile(rf"/(home|Users)/[a-z]+/|(?<![\w/.-]){re.escape(str(ROOT))}\b")


def where(pattern: re.Pattern[str], texts: dict[pathlib.Path, str]) -> list[str]:
    """FILE:LINE of every match."""
    return [
        f"{path.relative_to(ROOT)}:{number}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_nothing_is_left_undone() -> None:
    code = {path: text for path, text in TEXTS.items() if path.suffix in (".py", ".yml", ".yaml", ".sh", "")}
    assert where(LEFT_UNDONE, code) == []


def test_no_path_of_a_developers_machine() -> None:
    assert where(MACHINE_PATHS, TEXTS) == []


def test_tests_wait_for_events() -> None:
    tests = {path: text for path, text in PYTHON.items() if "tests" in path.parts}
    assert where(re.compile(r"\btime" + r"\.sleep\("), tests) == []


def test_skips_say_why() -> None:
    tests = {path: text for path, text in PYTHON.items() if "tests" in path.parts}
    assert where(re.compile(r"mark\.(skip|xfail)\b(?!.*reason=)(?!if)"), tests) == []


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_files_have_one_reason_to_change(path: pathlib.Path) -> None:
    assert len(PYTHON[path].splitlines()) <= 400


# Package -> the packages that its files must not import. Arrows go one way:
# library -> runtime -> linux, library -> kube, runtime -> kube.
FORBIDDEN = {
    "kube": {"linux", "runtime", "cli"},
    "linux": {"kube", "runtime", "cli"},
    "runtime": {"cli"},
}


def imported(path: pathlib.Path) -> set[str]:
    """Packages of podlab (kube, linux, ...) that a file imports from."""
    found = set()
    package = path.parent.relative_to(ROOT / "module_utils" / "podlab").parts
    for node in ast.walk(ast.parse(PYTHON[path])):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - (node.level - 1)]
            target = [*base, *(node.module.split(".") if node.module else [])]
            found.update([target[0]] if target else [alias.name for alias in node.names])
    return found


@pytest.mark.parametrize("package", FORBIDDEN)
def test_arrows_go_one_way(package: str) -> None:
    directory = ROOT / "module_utils" / "podlab" / package
    wrong = {
        f"{path.relative_to(directory)} imports {name}"
        for path in PYTHON
        if directory in path.parents
        for name in imported(path) & FORBIDDEN[package]
    }
    assert not wrong


def test_targets_need_the_standard_library_only() -> None:
    third_party = {"yaml", "rich", "pyroute2", "jsonschema", "invoke", "kubernetes_validate", "jinja2"}
    wrong = []
    for path, text in PYTHON.items():
        parts = path.relative_to(ROOT).parts
        if parts[0] not in ("module_utils", "library") or "cli" in parts:
            continue
        for node in ast.parse(text).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            wrong += [f"{path.relative_to(ROOT)}: {name}" for name in names if name.split(".")[0] in third_party]
    assert wrong == []


def test_gates_are_configured() -> None:
    lint = yaml.safe_load((ROOT / ".ansible-lint").read_text())
    assert (lint["profile"], lint["offline"]) == ("production", True)
    assert yaml.safe_load((ROOT / ".yamllint").read_text())["rules"]["line-length"]["max"] == 120
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert project["ruff"]["target-version"] == "py39"
    assert project["mypy"]["strict"] is True
    assert "--strict-markers" in project["pytest"]["ini_options"]["addopts"]


def test_every_path_of_ansible_cfg_is_there() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "ansible.cfg")
    defaults = config["defaults"]
    for key in ("inventory", "library", "module_utils", "roles_path", "inventory_plugins", "connection_plugins"):
        assert (ROOT / defaults[key]).is_dir(), key


@pytest.mark.parametrize("name", ["lab", ".ci/run"])
def test_scripts_run(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)
    assert (ROOT / name).read_text().startswith("#!")


def test_what_the_labs_playbooks_call_runs_in_a_fork() -> None:
    """docs/decisions/modules-in-a-fork.md: a module of `up` without an action plugin costs an interpreter each time."""
    playbooks = [path for path in FILES if path.match("roles/*/tasks/*.yml") or path.parent == ROOT / "playbooks"]
    called = {name for path in playbooks for name in re.findall(r"^ +(podlab_\w+):$", path.read_text(), re.MULTILINE)}
    assert len(called) > 8
    assert [name for name in sorted(called) if not (ROOT / f"plugins/action/{name}.py").exists()] == []
