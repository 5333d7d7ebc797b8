"""What every test has: podlab and the modules importable, the floors in order, modules run in-process."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import Any, Callable

import ansible.module_utils
import pytest
import testinfra.backend
from hypothesis import HealthCheck, settings

from support import lanes, module_runner, snapshot

ROOT = pathlib.Path(__file__).resolve().parent.parent

# The package under its target-side name too: modules import ansible.module_utils.podlab.
ansible.module_utils.__path__.append(str(ROOT / "module_utils"))

os.environ[snapshot.MARK] = str(os.getpid())

# podlab://NODE or podlab://CLUSTER@NODE, for testinfra.get_host.
testinfra.backend.BACKENDS["podlab"] = "support.testinfra_backend.PodlabBackend"

# A loaded machine makes examples slowly: that is no fault of what is tested.
settings.register_profile("podlab", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("podlab")

# A failing lower floor explains a failing upper one, so it runs first.
FLOORS = ("unit", "kernel", "lab", "demo")
NEEDS_ROOT = FLOORS[1:]


def floor_of(item: pytest.Item) -> str:
    """The highest floor whose marker the test carries; without one, the directory's (tests/kernel, tests/lab)."""
    marked = [floor for floor in FLOORS if item.get_closest_marker(floor)]
    if marked:
        return marked[-1]
    directory = item.path.parent.name
    return directory if directory in FLOORS else "unit"


def pytest_configure(config: pytest.Config) -> None:
    lanes.register(config)


# First: `-m unit` must see the markers that are added here.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with its floor, put the floors in order, skip what needs root when there is none."""
    floors = {item: floor_of(item) for item in items}
    for item, floor in floors.items():
        item.add_marker(getattr(pytest.mark, floor))
        if floor in NEEDS_ROOT and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason=f"{floor} tests need root: namespaces, mounts, cgroups"))
    # What runs beside others comes last in its floor: one block of it is the least to wait for.
    items.sort(key=lambda item: (FLOORS.index(floors[item]), lanes.marked(item)))
    items[:] = lanes.in_turn(items)


@pytest.fixture
def run_module(tmp_path: pathlib.Path) -> Callable[..., dict[str, Any]]:
    """run_module(name, args, check=False, diff=False): run library/NAME.py in this process, return its result.

    A module that fails returns a result with failed=True, as Ansible shows it.
    """

    def run(name: str, args: dict[str, Any], check: bool = False, diff: bool = False) -> dict[str, Any]:
        return module_runner.run(ROOT / "library" / f"{name}.py", args, check=check, diff=diff, tmp=str(tmp_path))

    return run


@pytest.fixture
def podlab_roots(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Podlab's state in a directory of the test: run/ for /run/podlab, lib/ for /var/lib/podlab. Returns it."""
    monkeypatch.setenv("PODLAB_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("PODLAB_LIB", str(tmp_path / "lib"))
    return tmp_path


@pytest.fixture
def host_snapshot() -> Callable[[], snapshot.Snapshot]:
    """host_snapshot() records the machine; compare two of them with support.snapshot.assert_same."""
    return snapshot.take


@pytest.fixture
def unchanged_host() -> Iterator[snapshot.Snapshot]:
    """The machine after the test must be as it was before."""
    before = snapshot.take()
    yield before
    snapshot.assert_same(before, snapshot.take())
