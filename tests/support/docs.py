"""The parts of docs/ that follow from the code: rendered here, compared by tests, written by running this file.

A part stands in its page between `<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

from __future__ import annotations

import ast
import importlib
import pathlib
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_PART = re.compile(r"<!-- begin (?P<name>[\w-]+) -->\n(?P<text>.*?)<!-- end (?P=name) -->", re.DOTALL)
_MARKUP = (
    (re.compile(r"\bO\(([^)]*)\)|\bV\(([^)]*)\)|\bC\(([^)]*)\)|\bM\(([^)]*)\)|\bRV\(([^)]*)\)"), "`%s`"),
    (re.compile(r"\bI\(([^)]*)\)|\bB\(([^)]*)\)"), "*%s*"),
)


def parts(page: pathlib.Path) -> dict[str, str]:
    """Name -> text of each rendered part of a page."""
    return {match["name"]: match["text"] for match in _PART.finditer(page.read_text(encoding="utf-8"))}


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


# -- manifests --------------------------------------------------------------------------------------------------------


def fields() -> str:
    """One table per kind: each field and what it may say."""
    from podlab.kube import kinds, supported

    found = []
    for name, spec in supported.SPECS.items():
        if name == "Pod":
            continue
        kind = kinds.KINDS[name]
        rows = list(_field_rows("spec", spec, supported))
        found.append(f"### {name} (`{kind.api_version}`)\n\n{table(('field', 'values'), rows)}")
    for name, known in supported.FIELDS.items():
        rows = [row for key, inner in known.items() for row in _field_rows(key, inner, supported)]
        found.append(f"### {name} (`{kinds.KINDS[name].api_version}`)\n\n{table(('field', 'values'), rows)}")
    return "\n" + "\n".join(found) + "\n"


def _field_rows(path: str, known: Any, supported: Any) -> Iterator[tuple[str, ...]]:
    if known is supported.POD_SPEC and path != "spec":
        yield (f"`{path}`", "as a Pod's `spec`")
    elif known is supported.YES:
        yield (f"`{path}`", "any")
    elif isinstance(known, supported.Only):
        yield (f"`{path}`", "only " + ", ".join(f"`{_value(value)}`" for value in known.values))
    elif isinstance(known, list):
        yield from _field_rows(f"{path}[]", known[0], supported)
    else:
        for key, inner in known.items():
            yield from _field_rows(f"{path}.{key}", inner, supported)
        if known is supported._RESOURCE_NAMES:
            yield (f"`{path}.hugepages-*`", "any")


def pod_fields() -> str:
    """Every field of a Pod's spec that Kubernetes has: supported, or refused with its message."""
    from support.pod_fields import rows

    return "\n" + table(("field", "podlab"), [(f"`{row.path}`", row.said) for row in rows()]) + "\n"


def _value(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True).replace("\n...", "").strip()
    return text


# -- commands ---------------------------------------------------------------------------------------------------------


def commands() -> str:
    """A section per command: its line of the menu, how it is called, its options."""
    sys.path.insert(0, str(ROOT))
    sys.modules.pop("tasks", None)
    try:
        menu = importlib.import_module("tasks").ns
    finally:
        sys.path.remove(str(ROOT))
        del sys.modules["tasks"]
    return "\n" + "\n".join(_command(menu[name].shape()) for name in sorted(menu.task_names)) + "\n"


def _command(shape: Any) -> str:
    from podlab.cli import usage

    rows = [(f"`{usage.word(one)}`", one.help) for one in shape.words]
    rows += [(" ".join(f"`{flag}`" for flag in usage.flags(one)), one.help) for one in shape.options]
    return f"### {shape.name}\n\n{shape.purpose}\n\n    {shape.usage}\n\n{table(('argument', 'meaning'), rows)}"


# -- modules ----------------------------------------------------------------------------------------------------------


def documented(path: pathlib.Path) -> dict[str, Any]:
    """DOCUMENTATION of a module, and EXAMPLES as text under "examples"."""
    found: dict[str, Any] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            name = getattr(node.targets[0], "id", "")
            if name == "DOCUMENTATION":
                found.update(yaml.safe_load(str(node.value.value)))
            elif name == "EXAMPLES":
                found["examples"] = str(node.value.value).strip()
    return found


def modules() -> str:
    """A section per module: what it does, its options, its examples."""
    pages = [documented(path) for path in sorted((ROOT / "library").glob("*.py"))]
    return "\n" + "\n".join(_module(page) for page in pages)


def module_lines() -> str:
    """One line per module."""
    pages = [documented(path) for path in sorted((ROOT / "library").glob("*.py"))]
    rows = [(f"[`{page['module']}`](docs/modules.md#{page['module']})", page["short_description"]) for page in pages]
    return "\n" + table(("module", "what it does"), rows) + "\n"


def _module(page: Mapping[str, Any]) -> str:
    said = page["description"]
    text = "\n".join(f"- {plain(line)}" for line in ([said] if isinstance(said, str) else said))
    rows = [
        (f"`{name}`", option.get("type", "str"), _default(option), plain(_first(option["description"])))
        for name, option in page["options"].items()
    ]
    options = table(("option", "type", "default", "meaning"), rows)
    examples = page["examples"].removeprefix("---\n")
    return f"## {page['module']}\n\n{page['short_description']}.\n\n{text}\n\n{options}\n```yaml\n{examples}\n```\n"


def _default(option: Mapping[str, Any]) -> str:
    if option.get("required"):
        return "required"
    return f"`{option['default']}`" if option.get("default") not in (None, "") else ""


def _first(text: str | list[str]) -> str:
    return text if isinstance(text, str) else " ".join(text)


def plain(text: str) -> str:
    """Ansible's markup as Markdown."""
    for pattern, form in _MARKUP:
        text = pattern.sub(lambda match, form=form: form % next(filter(None, match.groups())), text)  # type: ignore[misc]
    return " ".join(text.split())


def menu_lines() -> str:
    """One line per command."""
    found = [
        (f"[`{name}`](docs/commands.md#{name})", first)
        for name, first in re.findall(r"^### ([\w-]+)\n\n(.*?)\. Needs", commands(), re.MULTILINE)
    ]
    return "\n" + table(("command", "what it does"), found) + "\n"


# -- Services ---------------------------------------------------------------------------------------------------------


def service_rows() -> str:
    """What a client of each kind of Service sees, as tests/kernel/test_service_behaviour.py measures it."""
    from support.service_option_rows import EVERY_KIND

    found = []
    for kind in EVERY_KIND:
        for number, row in enumerate(kind.rows):
            ipv6 = f"; IPv6: {row.ipv6}" if row.ipv6 else ""
            head = ("", "") if number else (kind.name, ", ".join(kind.endpoints) or "none")
            found.append((*head, row.asker, row.target, f"{row.answer}{ipv6}", row.nftables))
    columns = ("Service", "endpoints", "who asks", "for its", "iptables mode", "nftables mode, where it differs")
    return "\n" + table(columns, found) + "\n"


# -- black-box tests --------------------------------------------------------------------------------------------------


def security_rows() -> str:
    """What podlab does about each class of escapes."""
    from support.security_rows import rows

    return "\n" + table(("row", "class", "what podlab does", "tests"), rows()) + "\n"


def black_box_rows() -> str:
    """What each row asks and what answers it."""
    from support.blackbox import coverage

    columns = ("row", "what it asks", "rows here, against runc", "other tests", "")
    return "\n" + table(columns, list(coverage.table())) + "\n"


def black_box_differences() -> str:
    """What runc may say otherwise."""
    from support.blackbox import coverage

    return "\n" + table(("row", "pod and container", "key", "why"), list(coverage.differences())) + "\n"


def black_box_figures() -> str:
    """The sums of both tables."""
    from support.blackbox import coverage

    return "\n" + table(("", "rows"), coverage.figures()) + "\n"


# -- printed output ---------------------------------------------------------------------------------------------------


class Command(NamedTuple):
    """A command of a page and what the page says that it prints."""

    line: str
    output: str


def console(page: pathlib.Path, mark: str) -> list[list[Command]]:
    """The blocks of a page below `<!-- run: MARK -->`, each a list of commands."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(rf"<!-- run: {mark} -->\n```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [_commands(block) for block in blocks]


def files(page: pathlib.Path) -> dict[str, str]:
    """Name -> text of the files that a page shows below `<!-- file: NAME -->`."""
    found = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return dict(found)


def _commands(block: str) -> list[Command]:
    found = []
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        line, _, output = part.partition("\n")
        found.append(Command(line, output))
    return found


# Page -> its parts.
RENDERED = {
    ROOT / "README.md": {"commands": menu_lines, "modules": module_lines},
    DOCS / "manifests.md": {"fields": fields},
    DOCS / "pod-fields.md": {"fields": pod_fields},
    DOCS / "commands.md": {"commands": commands},
    DOCS / "modules.md": {"modules": modules},
    DOCS / "service-behaviour.md": {"rows": service_rows},
    DOCS / "security.md": {"rows": security_rows},
    DOCS / "black-box.md": {
        "figures": black_box_figures,
        "differences": black_box_differences,
        "rows": black_box_rows,
    },
}


def write() -> None:
    """Bring every page to what the code says."""
    for page, renderers in RENDERED.items():
        text = page.read_text(encoding="utf-8")
        for name, render in renderers.items():
            made = f"<!-- begin {name} -->\n{render()}<!-- end {name} -->"
            pattern = re.compile(rf"<!-- begin {name} -->\n.*?<!-- end {name} -->", re.DOTALL)
            text = pattern.sub(lambda _, made=made: made, text)  # type: ignore[misc]
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "module_utils"), str(ROOT / "tests")]
    write()
