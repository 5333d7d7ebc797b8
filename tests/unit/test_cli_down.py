"""Which lab `down` takes away, and what it says when there is none of that name."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.cli import play
from podlab.cli.playbook import Outcome
from podlab.errors import PodlabError


@pytest.mark.parametrize(
    ("labs", "name", "everything", "taken", "said"),
    [
        (["a"], "", False, ["a"], "lab a is down (1.0 s)\n"),
        ([], "", False, ["kind"], "nothing to do (1.0 s)\n"),
        (["a", "kind"], "", False, ["kind"], "lab kind is down (1.0 s)\n"),
        (["a", "b"], "", False, [], "down: which lab? There are a, b. Say it with --name, or all of them with --all"),
        (["a", "b"], "", True, ["a", "b"], "lab a is down (1.0 s)\nlab b is down (1.0 s)\n"),
        (["a"], "b", False, ["b"], "nothing to do (1.0 s): there is no lab b on this machine, only a\n"),
    ],
)
def test_which_lab_goes_down(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    labs: list[str],
    name: str,
    everything: bool,
    taken: list[str],
    said: str,
) -> None:
    there, runs = list(labs), []

    def run(playbook: str, environment: dict[str, str], **options: Any) -> Outcome:
        runs.append(environment["KIND_CLUSTER_NAME"])
        changed = runs[-1] in there
        there[:] = [one for one in there if one != runs[-1]]
        return Outcome(0, 1.0, int(changed), ())

    monkeypatch.delenv("KIND_CLUSTER_NAME", raising=False)
    monkeypatch.setattr("podlab.runtime.state.labs", lambda: list(there))
    monkeypatch.setattr(play, "run", run)
    try:
        play.down(name, purge=False, everything=everything, check=False, diff=False, verbose=0)
        text = capsys.readouterr().out
    except PodlabError as error:
        text = error.message
    assert (runs, text) == (taken, said)
