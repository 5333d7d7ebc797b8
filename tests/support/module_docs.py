"""What a module says about itself, and what its argument spec says, in one shape that can be compared."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from support import module_runner

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MODULES = sorted((ROOT / "library").glob("podlab_*.py"))

# What DOCUMENTATION and the argument spec both say of an option.
COMPARED = ("type", "elements", "default", "choices", "required", "aliases", "options")


class Module:
    """One module file: its documents parsed, its argument spec asked for."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.code = module_runner.load(path)
        self.documentation: dict[str, Any] = yaml.safe_load(self.code.DOCUMENTATION)
        self.examples: list[dict[str, Any]] = yaml.safe_load(self.code.EXAMPLES)
        self.returns: dict[str, Any] = yaml.safe_load(self.code.RETURN)

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def spec(self) -> dict[str, Any]:
        """The options as AnsibleModule gets them."""
        spec: dict[str, Any] = self.code.argument_spec()
        return spec

    def calls(self) -> Iterator[dict[str, Any]]:
        """The options of every task of EXAMPLES that calls this module."""
        for task in self.examples:
            for key in task.keys() & {self.name}:
                yield task[key] or {}


def normal(option: Mapping[str, Any]) -> dict[str, Any]:
    """One option as both sides mean it: what is not said is Ansible's default."""
    shape = {key: option[key] for key in COMPARED if key in option}
    if "suboptions" in option:  # what DOCUMENTATION calls them
        shape["options"] = option["suboptions"]
    shape.setdefault("type", "str")
    shape.setdefault("required", False)
    if "choices" in shape:
        shape["choices"] = sorted(shape["choices"], key=str)
    return shape


def differences(said: Mapping[str, Any], meant: Mapping[str, Any], place: str = "") -> list[str]:
    """One line per option, and per property of it, where document and spec differ."""
    lines = []
    for name in sorted(said.keys() | meant.keys()):
        where = f"{place}{name}"
        if name not in said:
            lines.append(f"{where}: not documented")
        elif name not in meant:
            lines.append(f"{where}: documented, but the module has no such option")
        else:
            lines += _option_differences(normal(said[name]), normal(meant[name]), where)
    return lines


def _option_differences(said: dict[str, Any], meant: dict[str, Any], where: str) -> list[str]:
    lines = []
    for key in COMPARED:
        if key == "options":
            lines += differences(said.get(key, {}), meant.get(key, {}), f"{where}.")
        elif said.get(key) != meant.get(key):
            lines.append(f"{where}.{key}: documented {said.get(key)!r}, in the spec {meant.get(key)!r}")
    return lines
