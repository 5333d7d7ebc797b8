"""top: what is used between two looks, in kubectl's units and columns."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.cli import top, top_screen, top_units
from podlab.errors import PodlabError


@pytest.mark.parametrize(
    ("microseconds", "seconds", "text"),
    [(0, 1, "0m"), (1, 1, "1m"), (12_000, 1, "12m"), (12_001, 1, "13m"), (2_000_000, 1, "2000m"), (50_000, 0.5, "100m"),
     (5, 0, "0m")],
)  # fmt: skip
def test_cpu_in_thousandths(microseconds: int, seconds: float, text: str) -> None:
    assert top_units.cores(top_units.millicores(microseconds, seconds)) == text


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [(0, "0s"), (999, "0s"), (12_345, "12ms"), (3_400_000, "3.4s"), (59_940_000, "59.9s"), (312_000_000, "5m12s")],
)
def test_times_of_waiting(microseconds: int, text: str) -> None:
    assert top_units.duration(microseconds) == text


def test_memory_is_cut_off_to_mebibytes() -> None:
    assert [top_units.mebibytes(size) for size in (0, (1 << 20) - 1, 34 << 20, 3 << 30)] == [
        "0Mi",
        "0Mi",
        "34Mi",
        "3072Mi",
    ]


def sample(key: tuple[str, ...], seconds: float, cpu: int, memory: int = 0, **more: int) -> top.Sample:
    counters = {"nr_periods": 0, "nr_throttled": 0, "throttled_us": 0, "pids": 1}
    return top.Sample(key, seconds, {**counters, "cpu_usage_us": cpu, "memory_working_set": memory, **more})


BEFORE = [sample(("ns", "a", "one"), 10.0, 1_000_000), sample(("ns", "a", "two"), 10.0, 0)]
AFTER = [
    sample(("ns", "a", "one"), 12.0, 1_100_000, 3 << 20, nr_periods=8, nr_throttled=2, throttled_us=40_000),
    sample(("ns", "a", "two"), 12.0, 20_000, 1 << 20, pids=4),
    sample(("ns", "b", "new"), 12.0, 900_000, 9 << 20),
]


def asked(*words: str, **options: Any) -> top.Asked:
    known = {"namespace": "ns", "everywhere": False, "selector": "", "containers": False, "sort": ""}
    return top.asked(words, **{**known, **options})


def test_a_pod_is_the_sum_of_its_containers() -> None:
    rows = top.usage(BEFORE, AFTER, asked())
    assert top.table(rows, asked()) == [
        ["NAME", "CPU(cores)", "MEMORY(bytes)", "PIDS", "THROTTLED", "FOR"],
        ["a", "60m", "4Mi", "5", "2/8", "40ms"],
        ["b", "0m", "9Mi", "1", "0/0", "0s"],
    ]


def test_each_container_and_each_namespace() -> None:
    wanted = asked(everywhere=True, namespace="", containers=True)
    rows = top.table(top.usage(BEFORE, AFTER, wanted), wanted)
    assert rows[0][:3] == ["NAMESPACE", "POD", "NAME"]
    assert [row[:5] for row in rows[1:]] == [
        ["ns", "a", "one", "50m", "3Mi"],
        ["ns", "a", "two", "10m", "1Mi"],
        ["ns", "b", "new", "0m", "9Mi"],
    ]


def test_a_counter_that_began_anew_is_not_negative() -> None:
    """A container that was restarted under the same name has another cgroup."""
    [row] = top.usage([sample(("ns", "a", "c"), 1.0, 500)], [sample(("ns", "a", "c"), 2.0, 100)], asked())
    assert row["cpuMillicores"] == 0


def test_order() -> None:
    assert [row["pod"] for row in top.usage(BEFORE, AFTER, asked(sort="memory"))] == ["b", "a"]
    assert [row["pod"] for row in top.usage(BEFORE, AFTER, asked(sort="cpu"))] == ["a", "b"]


def test_nodes_have_the_whole_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(top.procfs, "read", lambda path: "MemTotal:       102400 kB\n")
    wanted = asked("nodes", namespace="")
    rows = top.usage([sample(("n",), 0.0, 0)], [sample(("n",), 1.0, 500_000, 20 << 20, pids=7)], wanted)
    assert top.table(rows, wanted) == [
        ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)", "PIDS"],
        ["n", "500m", "25%", "20Mi", "20%", "7"],
    ]


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (["services"], {}, "top services: there is nothing of that name to measure. Use top pods or top nodes"),
        (["pods"], {"sort": "age"}, "--sort-by age: unable to sort by that. Use cpu or memory"),
        (["nodes"], {"containers": True}, "top nodes: -n, -A, -l and --containers are for pods"),
        (["pods", "a"], {"everywhere": True}, "a resource cannot be retrieved by name across all namespaces"),
    ],
)
def test_words_that_mean_nothing(words: list[str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(PodlabError) as caught:
        asked(*words, **{"namespace": "", **options})
    assert message in caught.value.message


def test_the_screen_shows_as_many_rows_as_it_has_lines() -> None:
    rows = [["NAME", "PIDS"], *([f"p{number}", "1"] for number in range(50))]
    assert top_screen.drawn(rows, 12).row_count == 10
    assert top_screen.drawn(rows, 100).row_count == 50
