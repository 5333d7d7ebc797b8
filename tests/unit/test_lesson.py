"""How a step of a lesson looks: pure text."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.cli import lesson


def command(**more: Any) -> dict[str, Any]:
    return {"command": "true", "exit_code": 0, "ended": 0, "lines": 12, "output": "", **more}


def step(**more: Any) -> dict[str, Any]:
    return {"title": "T", "why": "Why.", "where": "worker", "commands": [], "claims": [], "remember": "", **more}


def claim(problem: str = "", text: str = "It is so.") -> dict[str, str]:
    return {"claim": text, "problem": problem}


def test_a_whole_step() -> None:
    found = lesson.step_lines(
        3,
        step(
            title="Who shares what",
            why="First.\n\nSecond.",
            commands=[command(command="echo a\necho b", output="a\nb"), command(command="false", ended=1)],
            claims=[claim(), claim("not true: 1 == 2", "One is two.")],
            remember="Read twice.",
        ),
        width=40,
    )
    assert found == [
        "",
        "── 3. Who shares what ──────────────────",
        "First.",
        "",
        "Second.",
        "",
        "  worker# echo a",
        "  > echo b",
        "  a",
        "  b",
        "",
        "  worker# false",
        "  ✗ exit code 1, not 0",
        "",
        "  ✓ It is so.",
        "  ✗ One is two.",
        "      not true: 1 == 2",
        "  → Read twice.",
    ]


def test_what_is_emphasised() -> None:
    def paint(text: str, style: str) -> str:
        return f"<{style}>{text}</>"

    found = lesson.step_lines(
        1, step(commands=[command(ended=2)], claims=[claim(), claim("no")], remember="R"), paint=paint
    )
    text = "\n".join(found)
    assert "<prompt>worker# </><command>true</>" in text
    assert "<good>  ✓ It is so.</>" in text
    assert "<bad>  ✗ It is so.</>" in text
    assert "<bad>✗ exit code 2, not 0</>" in text
    assert "<remember>  → R</>" in text


def test_everything_but_commands_fits_the_page() -> None:
    long = "word " * 60
    found = lesson.step_lines(
        1,
        step(
            title=long,
            why=long,
            commands=[command(output="x" * 300)],
            claims=[claim(long, long)],
            remember=long,
        ),
    )
    assert max(map(len, found)) <= lesson.WIDTH
    assert len(lesson.heading(1, "short")) == lesson.WIDTH


@pytest.mark.parametrize(
    ("output", "lines", "expected"),
    [
        ("", 3, []),
        ("\n\na\n", 3, ["a"]),
        ("a\nb\nc", 3, ["a", "b", "c"]),
        ("a\nb\nc\nd", 3, ["a", "b", "… 2 more lines"]),
        ("abcdefghijk", 3, ["abcdefghi…"]),
        ("a\tb", 3, ["a       b"]),
        ("a   ", 3, ["a"]),
        # What a container prints cannot move the reader's cursor.
        ("\x1b[2Jx\x07", 3, [" [2Jx"]),
    ],
)
def test_output_is_shortened(output: str, lines: int, expected: list[str]) -> None:
    assert lesson.shortened(output, lines, 10) == expected


@pytest.mark.parametrize(
    ("problems", "line"),
    [
        (["", ""], "2 claims, all hold (1.5 s)"),
        ([""], "1 claim, all hold (1.5 s)"),
        (["", "x", "y"], "3 claims, 2 not true (1.5 s)"),
    ],
)
def test_summary(problems: list[str], line: str) -> None:
    assert lesson.summary([claim(problem) for problem in problems], 1.5) == line
