"""Lanes: files side by side, one report of all, whatever becomes of a lane."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from support import lanes

# Pytest after pytest.
pytestmark = pytest.mark.own_machine

CONFTEST = """
from support import lanes

def pytest_configure(config):
    config.addinivalue_line("markers", "own_machine: beside others")
    lanes.register(config, 2)

def pytest_collection_modifyitems(items):
    items[:] = lanes.in_turn(sorted(items, key=lanes.marked))
"""
MARKED = "import os, pytest\npytestmark = pytest.mark.own_machine\n"


@pytest.fixture
def files(tmp_path: pathlib.Path) -> pathlib.Path:
    """A directory for test files, with lanes."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    return tmp_path


def run(files: pathlib.Path, *words: str) -> subprocess.CompletedProcess[str]:
    support = pathlib.Path(lanes.__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": str(support), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "--rootdir", str(files), *words, str(files)]
    return subprocess.run(argv, env=environment, cwd=files, capture_output=True, text=True, timeout=60, check=False)


def meet(files: pathlib.Path) -> None:
    """Two files that wait for each other, and one that is no lane's."""
    for one, other in (("a", "b"), ("b", "a")):
        os.mkfifo(files / one)
        tests = f"def test_{one}():\n    here = os.open({str(files / one)!r}, os.O_RDWR)\n"
        tests += f"    os.write(os.open({str(files / other)!r}, os.O_RDWR), b'{one}')\n"
        tests += f"    assert os.read(here, 1) == b'{other}'\n"
        (files / f"test_{one}.py").write_text(MARKED + tests)
    (files / "test_c.py").write_text("def test_c():\n    pass\n")


def test_two_files_run_at_once_and_are_reported_in_their_order(files: pathlib.Path) -> None:
    meet(files)
    done = run(files)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines() if " PASSED " in line] == [
        "test_c.py::test_c",
        "test_a.py::test_a",
        "test_b.py::test_b",
    ]
    assert "3 passed" in done.stdout.splitlines()[-1]


def test_the_longest_file_is_begun_first(files: pathlib.Path) -> None:
    for name, tests in (("a", 1), ("b", 2), ("c", 3)):
        text = "".join(f"def test_{number}():\n    pass\n" for number in range(tests))
        (files / f"test_{name}.py").write_text((MARKED if name != "c" else "") + text)
    done = run(files)
    shown = [line.split("::")[0] for line in done.stdout.splitlines() if " PASSED " in line]
    assert shown == ["test_c.py"] * 3 + ["test_b.py"] * 2 + ["test_a.py"], done.stdout + done.stderr


def test_what_the_session_made_is_gone_before_a_lane_begins(files: pathlib.Path) -> None:
    made = files / "made"
    (files / "test_a.py").write_text(
        "import pathlib, pytest\n"
        "@pytest.fixture(scope='session')\n"
        f"def made():\n    place = pathlib.Path({str(made)!r})\n    place.mkdir()\n    yield\n    place.rmdir()\n"
        "def test_a(made):\n    pass\n"
    )
    for name in "bc":
        (files / f"test_{name}.py").write_text(
            MARKED + f"def test_{name}():\n    assert not os.path.exists({str(made)!r})\n"
        )
    done = run(files)
    assert "3 passed" in done.stdout.splitlines()[-1], done.stdout + done.stderr


def test_failures_skips_and_errors_are_the_lanes(files: pathlib.Path) -> None:
    body = (
        "@pytest.fixture\ndef bad():\n    yield\n    raise OSError('in teardown')\n"
        "def test_false():\n    print('said before')\n    assert 1 == 2\n"
        "def test_bad(bad):\n    pass\n"
        "@pytest.mark.parametrize('x', ['a::b', 'c[d]', 'ü'])\ndef test_names(x):\n    pytest.skip('not today')\n"
    )
    for name in "ab":
        (files / f"test_{name}.py").write_text(MARKED + body)
    done = run(files, "-rs")
    assert done.returncode == 1
    assert "2 failed, 2 passed, 6 skipped, 2 errors" in done.stdout.splitlines()[-1], done.stdout + done.stderr
    for said in ("assert 1 == 2", "said before", "in teardown", "not today"):
        assert said in done.stdout


def test_tests_of_a_lane_that_dies_have_failed(files: pathlib.Path) -> None:
    (files / "test_a.py").write_text(
        MARKED + "def test_1():\n    pass\n" + "def test_2():\n    os._exit(9)\n" + "def test_3():\n    pass\n"
    )
    (files / "test_b.py").write_text(MARKED + "def test_b():\n    pass\n")
    done = run(files)
    assert done.returncode == 1
    assert "2 failed, 2 passed" in done.stdout.splitlines()[-1], done.stdout + done.stderr
    assert "the pytest of test_a.py ended before this test did:\nexit code 9" in done.stdout


def test_the_first_failure_ends_what_still_runs(files: pathlib.Path) -> None:
    """With -x. What was interrupted takes down what it has made."""
    made = files / "made"
    os.mkfifo(files / "begun")
    (files / "test_a.py").write_text(
        MARKED + f"def test_a():\n    os.open({str(files / 'begun')!r}, os.O_RDONLY)\n    assert False\n"
    )
    (files / "test_b.py").write_text(
        MARKED + "import select, signal\n@pytest.fixture\ndef made():\n"
        f"    os.mkdir({str(made)!r})\n    yield\n    os.rename({str(made)!r}, {str(made)!r} + '.gone')\n"
        # A signal that comes before select(2) does is in the pipe.
        "def test_b(made):\n    read, write = os.pipe()\n    os.set_blocking(write, False)\n"
        "    signal.set_wakeup_fd(write)\n"
        f"    os.open({str(files / 'begun')!r}, os.O_WRONLY)\n    select.select([read], [], [])\n    os.read(read, 1)\n"
    )
    done = run(files, "-x")
    assert done.returncode == 1
    assert "1 failed" in done.stdout.splitlines()[-1], done.stdout + done.stderr
    assert not made.exists() and pathlib.Path(f"{made}.gone").exists()


@pytest.mark.parametrize("words", [("-s",), ("--pdb",), ("test_a.py",)], ids=" ".join)
def test_no_lanes_for_who_looks_on_or_for_one_file(files: pathlib.Path, words: tuple[str, ...]) -> None:
    for name in "ab":
        (files / f"test_{name}.py").write_text(
            MARKED + f"def test_{name}():\n    assert os.getppid() == {os.getpid()}\n"
        )
    deselect = [f"--deselect={words[0][:-3].replace('_a', '_b')}.py"] if words[0].endswith(".py") else list(words)
    done = run(files, *deselect)
    assert " passed" in done.stdout.splitlines()[-1], done.stdout + done.stderr
    assert done.returncode == 0
