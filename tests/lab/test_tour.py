"""The README's tour, typed from beginning to end on a machine of its own, prints what the README prints."""

from __future__ import annotations

import re

import pytest

from podlab.linux import cgroup
from support import docs
from support.machine import Machine, machine
from support.waiting import until

pytestmark = [pytest.mark.lab, pytest.mark.own_machine]

# What may differ: which of three pods answers, which got an address first, how long it took.
_DIFFERENT = (
    (re.compile(r"web-59b6b768c4-\w{5}"), "web-POD"),
    (re.compile(r"KUBE-SEP-\w{16}"), "KUBE-SEP"),
    (re.compile(r"veth[0-9a-f]{8}"), "veth"),
    (re.compile(r"\b10\.244\.(\d)\.\d+(?!/)"), r"10.244.\1.x"),
    (re.compile(r" {2,}\d+\.\d s$", re.MULTILINE), ""),
    (re.compile(r"\b\d+(\.\d+)? ?s\b"), "SECONDS"),
    (re.compile(r"[ \t]+"), " "),
)


def test_no_rule_hides_a_wrong_answer() -> None:
    assert alike("default web-59b6b768c4-4hg2f 1/1 Running 0 2s 10.244.2.3") != alike(
        "default web-59b6b768c4-4hg2f 0/1 Running 0 2s 10.244.2.3"
    )
    assert alike("net:[4026533134]\nnet:[4026533135]") != alike("net:[4026533134]\nnet:[4026533134]")


def alike(text: str) -> list[str]:
    """The lines, sorted, without what may differ; namespaces by the order in which they appear."""
    seen: dict[str, str] = {}
    text = re.sub(r"\b(40\d{8})\b", lambda match: seen.setdefault(match[1], f"namespace {len(seen)}"), text)
    for pattern, replacement in _DIFFERENT:
        text = pattern.sub(replacement, text)
    return sorted(line.strip() for line in text.splitlines() if line.strip())


def typed(there: Machine, line: str) -> str:
    """What the command prints. `./lab` is `invoke` after its preparation, which other tests are about."""
    done = there.run("bash", "-c", line.replace("./lab ", "invoke "), timeout=120)
    return done.text


def test_the_tour_is_as_the_readme_tells_it() -> None:
    readme = docs.ROOT / "README.md"
    marks = "lab(?: v1)?" if cgroup.detect().v1 else "lab"
    blocks = docs.console(readme, marks)
    assert len(blocks) >= 8
    with machine() as there:
        before = there.snapshot()
        for told in (command for block in blocks for command in block):
            check(there, told)
        assert "nothing to do" in typed(there, "./lab down")
        after = there.snapshot()
    assert {name: set(part) - set(before[name]) for name, part in after.items()} == {name: set() for name in after}


def check(there: Machine, told: docs.Command) -> None:
    said = ""

    def same() -> bool:
        nonlocal said
        said = typed(there, told.line)
        return alike(said) == alike(told.output)

    if told.line.startswith("./lab get "):
        # The supervisor restarts what was killed in the command before; that sends no event.
        until(same, f"{told.line}: never {told.output!r}")
    elif not same():
        assert alike(said) == alike(told.output), told.line
