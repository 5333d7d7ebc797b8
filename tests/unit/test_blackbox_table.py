"""The list of black-box rows: every number is answered, every test that it names is there."""

from __future__ import annotations

import pathlib
import re

import pytest

from support.blackbox import coverage, model

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMED = [(number, name) for number, line in coverage.LINES.items() for name in line.tests]


def test_every_row_is_there_and_says_what_answers_it() -> None:
    own = {row.number for _, row in coverage.rows()}
    assert list(coverage.LINES) == list(range(1, 64))
    assert own <= set(coverage.LINES)
    assert [number for number, line in coverage.LINES.items() if not (line.tests or line.note or number in own)] == []


@pytest.mark.parametrize(("number", "name"), NAMED)
def test_the_tests_that_it_names_are_there(number: int, name: str) -> None:
    path, _, function = name.partition("::")
    assert re.search(rf"^ *def {function}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_output_of_a_script() -> None:
    cell = model.Cell("c", [model.Row(1, "", "echo a=b=c", {}), model.Row(2, "", "echo text", {})], code=3)
    assert cell.script.endswith("exit 3\n")
    text = "==== row 0\na=b=c\n==== row 1\ntext\nmore\n"
    assert model.parse(text) == [{"a": "b=c"}, {"?": "text\nmore\n"}]


def test_every_allowance_is_of_a_key_that_is_expected_and_says_why() -> None:
    for place, row in coverage.rows():
        assert set(row.allowed) <= set(row.expected or {}), place
        assert all(row.allowed.values()), place
