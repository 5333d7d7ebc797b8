"""Every module says what it takes and gives, and takes and gives what it says. Every role too."""

from __future__ import annotations

import ast
import pathlib
import re
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from support.module_docs import MODULES, ROOT, Module, differences, normal

ROLES = sorted(path.parent.parent for path in (ROOT / "roles").glob("*/tasks/main.yml"))
ATTRIBUTES = {"check_mode", "diff_mode", "idempotent", "platform"}
# What every module returns (module.run), info modules excepted: they change nothing.
ALWAYS = {"changed", "commands", "results", "diff"}


SPEC = {"links": {"type": "list", "elements": "dict", "options": {"mtu": {"type": "int", "choices": [1500, 9000]}}}}
DOCUMENT = {
    "links": {"type": "list", "elements": "dict", "suboptions": {"mtu": {"type": "int", "choices": [9000, 1500]}}}
}


def test_comparison_accepts_what_is_the_same() -> None:
    assert differences(DOCUMENT, SPEC) == []


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({}, "links: not documented"),
        ({**DOCUMENT, "x": {}}, "x: documented, but the module has no such option"),
        ({"links": {**DOCUMENT["links"], "suboptions": {}}}, "links.mtu: not documented"),
        ({"links": {**DOCUMENT["links"], "required": True}}, "links.required: documented True, in the spec False"),
        ({"links": {**DOCUMENT["links"], "default": []}}, "links.default: documented [], in the spec None"),
        (
            {"links": {**DOCUMENT["links"], "suboptions": {"mtu": {"type": "str", "choices": [1500, 9000]}}}},
            "links.mtu.type: documented 'str', in the spec 'int'",
        ),
    ],
)
def test_comparison_names_each_difference(said: dict[str, Any], line: str) -> None:
    assert differences(said, SPEC) == [line]


@pytest.fixture(scope="module", params=MODULES, ids=lambda path: path.stem)
def module(request: pytest.FixtureRequest) -> Module:
    return Module(request.param)


def test_there_are_modules() -> None:
    assert len(MODULES) >= 8


def test_documentation_names_the_module(module: Module) -> None:
    documentation = module.documentation
    assert documentation["module"] == module.name
    assert not documentation["short_description"].endswith(".")
    assert documentation["description"]
    assert documentation["author"]


def test_options_are_those_of_the_argument_spec(module: Module) -> None:
    assert differences(module.documentation.get("options", {}), module.spec) == []


def test_every_option_is_described(module: Module) -> None:
    def undescribed(options: dict[str, Any], place: str = "") -> list[str]:
        found = []
        for name, option in options.items():
            if not option.get("description"):
                found.append(place + name)
            found += undescribed(option.get("suboptions") or {}, f"{place}{name}.")
        return found

    assert undescribed(module.documentation.get("options", {})) == []


def test_lists_of_dicts_are_typed(module: Module) -> None:
    def untyped(options: dict[str, Any], place: str = "") -> list[str]:
        found = []
        for name, option in options.items():
            if option.get("type") == "list" and not option.get("elements"):
                found.append(place + name)
            found += untyped(option.get("options") or {}, f"{place}{name}.")
        return found

    assert untyped(module.spec) == []


def test_attributes_say_how_the_module_behaves(module: Module) -> None:
    attributes = module.documentation["attributes"]
    assert attributes.keys() >= ATTRIBUTES
    for name, attribute in attributes.items():
        assert attribute["support"] in ("full", "partial", "none", "N/A"), name
        if attribute["support"] == "partial":
            assert attribute.get("details"), f"{name}: partial support without details"


def test_examples_are_tasks_of_this_module(module: Module) -> None:
    assert list(module.calls()), "no example calls the module"
    assert all(task.get("name") for task in module.examples)


def test_examples_fit_the_argument_spec(module: Module) -> None:
    validator = ArgumentSpecValidator(module.spec)
    for call in module.calls():
        # Values that only a play knows cannot be checked here.
        plain = {key: value for key, value in call.items() if "{{" not in str(value)}
        missing = {
            key: _stand_in(module.spec[key]) for key in call.keys() - plain.keys() if module.spec[key].get("required")
        }
        assert validator.validate({**plain, **missing}).error_messages == [], call


def _stand_in(option: dict[str, Any]) -> Any:
    """A value of the option's type, in the place of a template."""
    if option.get("choices"):
        return option["choices"][0]
    return {"list": [], "dict": {}, "int": 1, "bool": True}.get(option.get("type", "str"), "x")


def test_returned_keys_are_documented(module: Module) -> None:
    if re.search(r"^ +(glue\.)?run\(module, ", module.path.read_text(), re.MULTILINE):
        assert ALWAYS - module.returns.keys() == set()
        assert module.returns.keys() - ALWAYS, "no key with the final state"
    for name, value in module.returns.items():
        assert value.get("description"), name
        assert value.get("returned"), name
        assert value.get("type"), name


def test_state_key_of_run_is_documented(module: Module) -> None:
    """The key that run() is called with is one of RETURN."""
    tree = ast.parse(module.path.read_text())
    keys = [
        call.args[1].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and getattr(call.func, "id", getattr(call.func, "attr", "")) == "run"
        and len(call.args) > 2
        and isinstance(call.args[1], ast.Constant)
    ]
    assert set(keys) <= module.returns.keys()


def test_module_is_thin_and_in_order(module: Module) -> None:
    text = module.path.read_text()
    lines = text.splitlines()
    assert lines[0] == "# SPDX-License-Identifier: Apache-2.0"
    parts = ["from __future__", "DOCUMENTATION =", "EXAMPLES =", "RETURN =", "\ndef "]
    order = [text.index(word) for word in parts]
    assert order == sorted(order)
    code = ast.parse(text)
    documents = {"DOCUMENTATION", "EXAMPLES", "RETURN"}
    length = sum(
        node.end_lineno - node.lineno + 1
        for node in code.body
        if node.end_lineno and not (isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in documents)
    )
    assert length <= 150, "logic belongs into module_utils/podlab"


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_role_defaults_are_its_arguments(role: pathlib.Path) -> None:
    file = role / "defaults" / "main.yml"
    defaults = (yaml.safe_load(file.read_text()) if file.exists() else None) or {}
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    options = specs["main"]["options"]
    # A variable of the lab that every role shares (podlab_cluster) has no default here: it is required.
    assert {name for name, option in options.items() if not option.get("required")} == set(defaults)
    for name, value in defaults.items():
        assert name.startswith(f"{role.name}_"), "a role's variables carry its name"
        assert "{{" in str(value) or normal(options[name]).get("default", value) == value, name


TARGET_FILES = sorted(
    path
    for directory in ("module_utils", "library")
    for path in (ROOT / directory).rglob("*.py")
    if "cli" not in path.parts
)


@pytest.mark.parametrize("path", TARGET_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_target_side_is_python_3_9(path: pathlib.Path) -> None:
    text = path.read_text()
    tree = ast.parse(text, feature_version=(3, 9))
    annotated = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AnnAssign))]
    if annotated:
        assert "from __future__ import annotations" in text
    newer = [
        keyword.arg
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if (getattr(call.func, "id", "") or getattr(call.func, "attr", "")) in ("dataclass", "zip")
        and keyword.arg in ("slots", "kw_only", "strict")
    ]
    assert not newer, "Python 3.10 only"
    absolute = [
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "podlab"
    ]
    assert not absolute, "imports inside the package are relative: the target knows it by another name"
