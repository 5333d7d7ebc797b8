"""The security table: every row is answered, every test that it names is there, every test of a row is named."""

from __future__ import annotations

import pathlib
import re

import pytest

from support.security_rows import ROWS

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMED = [(row.number, name) for row in ROWS for name in row.tests]
FOUND = [
    (int(number), f"{path.relative_to(ROOT)}::test_row_{number}{rest}")
    for path in sorted((ROOT / "tests" / "kernel").glob("test_security_*.py"))
    for number, rest in re.findall(r"^ *def test_row_(\d\d)(\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
]


def test_every_row_is_answered() -> None:
    assert [row.number for row in ROWS] == list(range(1, 39))
    assert [row.number for row in ROWS if not (row.how and row.tests)] == []


@pytest.mark.parametrize(("number", "name"), NAMED)
def test_the_tests_that_it_names_are_there(number: int, name: str) -> None:
    path, _, function = name.partition("::")
    assert re.search(rf"^ *def {function}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_test_of_a_row_is_named_there() -> None:
    assert len(FOUND) > 30
    assert [entry for entry in FOUND if entry not in NAMED] == []
