"""`up` on a lab that is as it should be, after other tests have used it: nothing to do, and check mode knows it."""

from __future__ import annotations

import re

import pytest

from support.lab import Lab

pytestmark = pytest.mark.lab


def facts(lab: Lab) -> list[object]:
    """What a second run must not touch: nodes and pods by process."""
    pods = [*lab.pods(), *lab.pods(namespace="kube-system")]
    nodes = [(node["pid"], node["start"]) for node in lab.nodes()]
    return [nodes, [(pod["metadata"]["uid"], pod["supervisor"], pod["status"]) for pod in pods]]


@pytest.fixture(scope="module")
def settled(lab: Lab) -> Lab:
    """The lab after an `up`, whatever was done to it before."""
    lab.invoke("up", "--name", lab.name)
    return lab


def test_second_up_has_nothing_to_do(settled: Lab) -> None:
    before = facts(settled)
    text = settled.invoke("up", "--name", settled.name).stdout
    assert re.fullmatch(r"nothing to do \(\d+\.\d s\)", text.splitlines()[-1])
    assert "changed:" not in text
    assert facts(settled) == before


def test_check_mode_shows_nothing_after_up(settled: Lab) -> None:
    before = facts(settled)
    done = settled.playbook("--check", "--diff")
    assert re.search(r"^localhost +: ok=\d+ +changed=0 +unreachable=0 +failed=0 ", done.stdout, re.MULTILINE)
    assert not re.search(r"^(---|\+\+\+|[+-]|changed:)", done.stdout, re.MULTILINE), done.stdout
    assert facts(settled) == before
