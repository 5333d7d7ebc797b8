"""The documentation says what the code says: tables, commands, modules, links, quoted messages, printed output."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

from podlab.kube import kind_parse, kind_support
from podlab.runtime import image_recipes
from support import docs

PAGES = sorted([*docs.ROOT.glob("*.md"), *docs.DOCS.rglob("*.md")])
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
DECISIONS = docs.DOCS / "decisions"


def named(page: pathlib.Path) -> str:
    return str(page.relative_to(docs.ROOT))


@pytest.mark.parametrize(
    ("page", "part"), [(page, part) for page, renderers in docs.RENDERED.items() for part in renderers], ids=str
)
def test_what_follows_from_the_code_is_up_to_date(page: pathlib.Path, part: str) -> None:
    assert docs.parts(page)[part] == docs.RENDERED[page][part](), "run: python tests/support/docs.py"


# -- links ------------------------------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """What a link may name after #, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: pathlib.Path) -> list[str]:
    text = re.sub(r"^```.*?^```$", "", TEXTS[page], flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: pathlib.Path) -> None:
    wrong = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        if re.match(r"https?://", link):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            wrong.append(link)
    assert wrong == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set(), [docs.ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page not in TEXTS:
            continue
        reached.add(page)
        waiting += [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if "://" not in link]
    assert {named(page) for page in PAGES} - {named(page) for page in reached} == set()


# -- cluster config ---------------------------------------------------------------------------------------------------


def config_rows() -> dict[str, str]:
    """Field -> what the table of the cluster config says of it."""
    text = TEXTS[docs.DOCS / "cluster-config.md"]
    return dict(re.findall(r"^\| `([\w.\[\]]+)` \| (\w+) \|", text, re.MULTILINE))


def config_fields() -> set[str]:
    """Every field of kind's format, as the table writes it."""
    found = {"kind", "apiVersion"}
    records = {
        "": kind_parse.CONFIG, "nodes[].": kind_parse.NODE, "networking.": kind_parse.NETWORKING,
        "nodes[].extraMounts[].": kind_parse.MOUNT, "nodes[].extraPortMappings[].": kind_parse.PORT,
    }  # fmt: skip
    for prefix, record in records.items():
        found |= {f"{prefix}{name}" for name in record.fields}
    return found - {"nodes", "networking", "nodes[].extraMounts", "nodes[].extraPortMappings"}


def test_every_field_of_the_cluster_config_is_in_the_table() -> None:
    assert set(config_rows()) == config_fields()


def test_fields_without_effect_are_called_so() -> None:
    ignored = {
        *kind_support.MEANINGLESS_AT_TOP,
        *(f"networking.{name}" for name in kind_support.MEANINGLESS_IN_NETWORKING),
        *(f"nodes[].{name}" for name in kind_support.MEANINGLESS_IN_NODE),
        "nodes[].extraMounts[].selinuxRelabel",
    }
    assert {field for field, state in config_rows().items() if state == "ignored"} == ignored


def test_fields_that_cannot_be_built_are_called_so() -> None:
    refused = {field for field, state in config_rows().items() if state == "refused"}
    assert refused == {"networking.disableDefaultCNI"}


# -- images, decisions, messages --------------------------------------------------------------------------------------


def test_every_built_in_image_is_in_its_page() -> None:
    text = TEXTS[docs.DOCS / "images.md"]
    for recipe in image_recipes.RECIPES:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{recipe.repository}`"))
        assert re.findall(r"`([^`]+)`", row)[1:] == list(recipe.tags)


def test_every_decision_is_in_the_list_and_has_its_three_parts() -> None:
    listed = TEXTS[DECISIONS / "README.md"]
    for page in sorted(DECISIONS.glob("*.md")):
        if page.name != "README.md":
            assert f"]({page.name})" in listed
            for part in ("**Context.**", "**Choice.**", "**Consequence.**"):
                assert part in TEXTS[page], page.name


def test_messages_that_are_explained_are_messages_of_the_code() -> None:
    source = "".join(
        path.read_text(encoding="utf-8")
        for directory in ("module_utils", "plugins", "library")
        for path in (docs.ROOT / directory).rglob("*.py")
    )
    quoted = re.findall(r"^### `(.+)`$", TEXTS[docs.DOCS / "troubleshooting.md"], re.MULTILINE)
    assert len(quoted) > 10
    assert [message for message in quoted if message not in source] == []


def test_every_test_that_the_security_page_names_is_there() -> None:
    named = re.findall(r"\[`(test_\w+)`\]\(\.\./(tests/[\w/]+\.py)\)", TEXTS[docs.DOCS / "security.md"])
    assert len(named) > 15
    assert [test for test, file in named if f"def {test}(" not in (docs.ROOT / file).read_text(encoding="utf-8")] == []


# -- printed output ---------------------------------------------------------------------------------------------------


BLOCKS = [(page, block) for page in PAGES for block in docs.console(page, "unit")]


def test_some_blocks_are_run() -> None:
    assert len(BLOCKS) > 2


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_output_is_what_the_commands_print(
    page: pathlib.Path, block: list[docs.Command], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "clusters").symlink_to(docs.ROOT / "clusters")
    for name, text in docs.files(page).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    mine = {name: text for name, text in os.environ.items() if not name.startswith(("PODLAB_", "KIND_", "ANSIBLE_"))}
    path = f"{pathlib.Path(sys.executable).parent}:{mine['PATH']}"
    environment = {**mine, "PATH": path, "COLUMNS": "80", "PODLAB_CWD": str(tmp_path)}
    for command in block:
        done = subprocess.run(
            command.line.replace("./lab ", "invoke "),
            shell=True,
            cwd=docs.ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.stdout.strip() == command.output.strip(), command.line
