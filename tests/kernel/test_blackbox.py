"""What scripts find inside of containers: as Kubernetes' documents have it, and as runc gives it to the same pod."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from podlab.linux import cgroup
from support import runtime
from support.blackbox import bench, oracle
from support.blackbox.cases import CASES
from support.blackbox.model import Case, Cell, Facts, Row
from support.blackbox.plain import NAIVE
from support.naive import Naive

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]
ROWS = [(case, cell, place) for case in CASES for cell in case.cells for place in range(len(cell.rows))]
Results = dict[str, dict[tuple[str, int], bench.Found]]
# Tests of one case share one run; what went wrong with it is told once.


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bench.Bench]:
    """The node on which all cases run."""
    if oracle.RUNC is None:
        pytest.skip("there is no runc on this machine (package runc), which the rows are held against")
    directory = tmp_path_factory.mktemp("rows")
    directory.chmod(0o755)
    with runtime.one_node(tmp_path_factory.mktemp("lab")) as lab:
        yield bench.Bench(lab, directory)


@pytest.fixture(scope="module")
def results() -> Results:
    """What each case gave; run when its first row is asked for."""
    return {}


def identity(value: object) -> str:
    if isinstance(value, Case):
        return value.name[:12]
    return value.name if isinstance(value, Cell) else str(value)


@pytest.mark.parametrize(("case", "cell", "place"), ROWS, ids=identity)
def test_row(table: bench.Bench, results: Results, case: Case, cell: Cell, place: int) -> None:
    if case.name not in results:
        results[case.name] = {}
        results[case.name] = table.run(case)
    assert results[case.name], "its pod could not be run: see the first test of this pod"
    row: Row = cell.rows[place]
    if "/tools/euid" in row.script and not table.compiler:
        pytest.skip("needs a C compiler: the script runs a setuid program")
    wrong = bench.differences(row, results[case.name][cell.name, place], table.marks)
    assert not wrong, f"row {row.number} ({row.source})\n" + "\n".join(wrong)


ALLOWED = [(case, cell, place) for case, cell, place in ROWS if cell.rows[place].allowed]


@pytest.mark.parametrize(("case", "cell", "place"), ALLOWED, ids=identity)
def test_what_may_differ_does(table: bench.Bench, results: Results, case: Case, cell: Cell, place: int) -> None:
    """An allowance that nothing needs would hide the next difference. On pure cgroup v2 there is none of v1's."""
    if not cgroup.detect().v1:
        pytest.skip("what may differ is of cgroup v1")
    if case.name not in results:
        results[case.name] = table.run(case)
    found = results[case.name][cell.name, place]
    assert found.runc is not None
    assert [key for key in cell.rows[place].allowed if found.podlab.get(key) == found.runc.get(key)] == []


@pytest.fixture(scope="module")
def naive(table: bench.Bench) -> Iterator[dict[str, list[Facts]]]:
    """What the rows of two containers find under the naive runtime."""
    made = Naive(table.directory / "naive", table.lab.images["busybox"]["layers"])
    try:
        yield {by: bench.run_naive(table, made, cell, by) for by, cell in NAIVE.items()}
    finally:
        made.close()


@pytest.mark.parametrize(
    ("by", "place"), [(by, place) for by, cell in NAIVE.items() for place in range(len(cell.rows))]
)
def test_naive(table: bench.Bench, naive: dict[str, list[Facts]], by: str, place: int) -> None:
    """What a naive runtime gets wrong; a row that it passes says so."""
    row = NAIVE[by].rows[place]
    wrong = bench.differences(row, bench.Found(naive[by][place], None), table.marks)
    assert bool(wrong) == row.naive, f"row {row.number} ({row.source})\n" + "\n".join(wrong)
