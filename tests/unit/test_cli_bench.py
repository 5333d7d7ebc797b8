"""bench: rows against yardsticks, and the yardsticks' own input."""

from __future__ import annotations

import json
from typing import Any

import pytest

from podlab.cli import bench, playbook, yardsticks
from podlab.errors import PodlabError


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(measured: bench.Bench) -> float:
        raise PodlabError("no C compiler on this machine: install gcc")

    monkeypatch.setattr(
        bench,
        "ROWS",
        (
            bench.Row("fast", "ms", lambda b: 3.0, "the same in C", lambda b: 2.0, 1.5),
            bench.Row("slow", "s", lambda b: 4.0, "the same in C", lambda b: 2.0, 1.5),
            bench.Row("blind", "s", lambda b: 4.0, "the same in C", broken, 1.5),
        ),
    )


@pytest.mark.parametrize(("only", "code"), [("fast", 0), ("FA", 0), ("slow", 1), ("blind", 1), ("", 1)])
def test_over_budget_is_a_failure(rows: None, only: str, code: int) -> None:
    assert bench.bench(only, "", 10) == code


def test_the_table(rows: None, capsys: pytest.CaptureFixture[str]) -> None:
    bench.bench("", "", 10)
    out, err = capsys.readouterr()
    assert [line.split() for line in out.splitlines()] == [
        ["WHAT", "MEASURED", "AGAINST", "YARDSTICK", "RATIO", "BUDGET"],
        ["fast", "3.00", "ms", "the", "same", "in", "C", "2.00", "ms", "1.50", "1.50", "ok"],
        ["slow", "4.00", "s", "the", "same", "in", "C", "2.00", "s", "2.00", "1.50", "over"],
        ["blind", "-", "the", "same", "in", "C", "-", "-", "1.50", "not", "measured"],
    ]
    assert err == "blind: no C compiler on this machine: install gcc\n"


def test_as_json(rows: None, capsys: pytest.CaptureFixture[str]) -> None:
    bench.bench("s", "json", 10)
    found = {item["name"]: (item["ratio"], item["verdict"]) for item in json.loads(capsys.readouterr().out)}
    assert found == {"fast": (1.5, "ok"), "slow": (2.0, "over")}


@pytest.mark.parametrize(
    ("only", "form", "message"),
    [("none", "", "--rows none: no row has that in its name: fast; slow"), ("", "xml", "-o xml: unable to match")],
)
def test_wrong_options(rows: None, only: str, form: str, message: str) -> None:
    with pytest.raises(PodlabError, match=message):
        bench.bench(only, form, 10)


def test_a_lab_of_the_same_name_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podlab.runtime.state.labs", lambda: ["bench"])
    monkeypatch.setattr(playbook, "run", lambda *args, **options: pytest.fail("a playbook was run"))
    with pytest.raises(PodlabError, match="there is a lab bench already"):
        bench.lab_times(10)


def test_the_lab_is_taken_away_when_a_playbook_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []

    def run(name: str, **options: Any) -> playbook.Outcome:
        runs.append(name)
        options["output"].write("it said why\n")
        return playbook.Outcome(2 if name == "lab.yml" else 0, 1.0, 0, ())

    monkeypatch.setattr("podlab.runtime.state.labs", list)
    monkeypatch.setattr(playbook, "run", run)
    with pytest.raises(PodlabError, match="lab.yml failed:\nit said why"):
        bench.lab_times(10)
    assert runs == ["lab.yml", "teardown.yml"]


def test_many_services_are_all_different() -> None:
    services, slices = yardsticks.many_services(1000, 3)
    assert len({item["spec"]["clusterIP"] for item in services}) == 1000
    addresses = [endpoint["addresses"][0] for item in slices for endpoint in item["endpoints"]]
    assert len(set(addresses)) == 3000
    assert all(0 < int(part) < 255 for address in addresses for part in address.split(".")[3:])


def test_a_command_that_fails_says_what_it_said() -> None:
    assert yardsticks.command(["printf", "x"]) == "x"
    with pytest.raises(PodlabError, match="sh -c echo no >&2; exit 3: exit 3: no"):
        yardsticks.command(["sh", "-c", "echo no >&2; exit 3"])
