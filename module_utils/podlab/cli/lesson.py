"""How a step of a lesson looks as text. Pure: the step's data in, lines out; the callback prints them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from typing import Any

WIDTH = 80
INDENT = "  "

# How to emphasise: (text, style) -> text. Styles are the keys of a caller's table of colours.
Paint = Callable[[str, str], str]


def plain(text: str, style: str) -> str:
    """No emphasis at all: for files and pipes."""
    return text


def cut(text: str, width: int) -> str:
    """The text in at most so many columns; an ellipsis where there was more."""
    return text if len(text) <= width else text[: width - 1] + "…"


def shortened(output: str, lines: int, width: int) -> list[str]:
    """An output's first lines, each in so many columns; the last line says how many more there were."""
    # What would move a terminal's cursor would spoil the page, whatever a container prints.
    every = [
        "".join(c if c.isprintable() else " " for c in line.expandtabs()) for line in output.strip("\n").splitlines()
    ]
    kept = every if len(every) <= lines else every[: lines - 1]
    more = [f"… {len(every) - len(kept)} more lines"] if len(kept) < len(every) else []
    return [cut(line.rstrip(), width) for line in kept] + more


def paragraphs(text: str, indent: str, width: int, first: str | None = None) -> list[str]:
    """Text folded at the width. Paragraphs are separated by an empty line. first: what begins the first line."""
    found: list[str] = []
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        begin = first if first is not None and number == 0 else indent
        found += [""] if number else []
        found += textwrap.wrap(
            " ".join(paragraph.split()), width, initial_indent=begin, subsequent_indent=indent, break_on_hyphens=False
        )
    return found


def heading(number: int, title: str, width: int = WIDTH) -> str:
    """A line across the page with the step's number and title."""
    begin = cut(f"── {number}. {title} ", width - 1)
    return begin + "─" * (width - len(begin))


def command_lines(command: Mapping[str, Any], where: str, paint: Paint, width: int) -> list[str]:
    """A command behind its prompt, and what it printed."""
    typed = command["command"].rstrip("\n").split("\n")
    prompts = [f"{where}# ", *["> "] * (len(typed) - 1)]
    found = [INDENT + paint(prompt, "prompt") + paint(line, "command") for prompt, line in zip(prompts, typed)]
    found += [INDENT + line for line in shortened(command["output"], command["lines"], width - len(INDENT))]
    if command["ended"] != command["exit_code"]:
        found.append(INDENT + paint(f"✗ exit code {command['ended']}, not {command['exit_code']}", "bad"))
    return found


def claim_lines(claim: Mapping[str, str], paint: Paint, width: int) -> list[str]:
    """What was to be proved, with its mark; and what was not as it should be."""
    mark, style = ("✗", "bad") if claim["problem"] else ("✓", "good")
    text = paragraphs(claim["claim"], INDENT * 2, width, first=f"{INDENT}{mark} ")
    because = paragraphs(claim["problem"], INDENT * 3, width) if claim["problem"] else []
    return [paint(line, style) for line in text + because]


def step_lines(number: int, lesson: Mapping[str, Any], paint: Paint = plain, width: int = WIDTH) -> list[str]:
    """A whole step: heading, why, commands with their output, claims, what to remember."""
    found = ["", paint(heading(number, lesson["title"], width), "title"), *paragraphs(lesson["why"], "", width), ""]
    for command in lesson["commands"]:
        found += [*command_lines(command, lesson["where"], paint, width), ""]
    for claim in lesson["claims"]:
        found += claim_lines(claim, paint, width)
    if lesson["remember"]:
        remember = paragraphs(lesson["remember"], INDENT * 2, width, first=f"{INDENT}→ ")
        found += [paint(line, "remember") for line in remember]
    return found


def summary(claims: list[Mapping[str, str]], seconds: float) -> str:
    """How the lesson ended, in one line: "12 claims, all hold (8.1 s)"."""
    untrue = sum(1 for claim in claims if claim["problem"])
    many = f"{len(claims)} claim{'' if len(claims) == 1 else 's'}"
    return f"{many}, {f'{untrue} not true' if untrue else 'all hold'} ({seconds:.1f} s)"
