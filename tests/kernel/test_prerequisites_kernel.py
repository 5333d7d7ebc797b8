"""The prerequisites on a real kernel: what is tried leaves nothing, and swap is switched off."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from podlab import prereq, prereq_facts, prereq_probe
from podlab.linux import procfs, swap
from support.snapshot import Snapshot, assert_same

pytestmark = pytest.mark.kernel
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def test_everything_podlab_makes_works_and_leaves_nothing(host_snapshot: Callable[[], Snapshot]) -> None:
    before = host_snapshot()
    assert prereq_probe.probe(list(prereq_facts.EFFECTS)) == dict.fromkeys(prereq_facts.EFFECTS, "")
    after = host_snapshot()
    for section in ("link", "mount", "rules", "cgroup"):
        assert_same({section: before[section]}, {section: after[section]})


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        ("sys_admin", dict.fromkeys(("veth", "overlay"), "no new namespaces: Operation not permitted")),
        ("net_admin", {"veth": "Operation not permitted", "overlay": ""}),
    ],
)
def test_what_does_not_work_says_why(lost: str, expected: dict[str, str]) -> None:
    code = "import json; from podlab.prereq_probe import probe; print(json.dumps(probe(['veth', 'overlay'])))"
    env = {"PYTHONPATH": str(ROOT / "module_utils"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    command = ["setpriv", f"--bounding-set=-{lost}", sys.executable, "-c", code]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout)
    assert found.keys() == expected.keys()
    for name, reason in expected.items():
        assert found[name].endswith(reason), found
        assert bool(found[name]) is bool(reason)


def test_observed_facts_agree_with_the_programs_that_show_them() -> None:
    facts = prereq_facts.observe(prereq_facts.Wanted())

    def shown(*command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert facts.release == shown("uname", "-r")
    assert facts.hostname == shown("hostname")
    assert str(facts.cpus) == shown("nproc")
    assert facts.sysctls["net/ipv4/ip_forward"] == shown("sysctl", "-n", "net.ipv4.ip_forward")
    assert facts.swaps == tuple(shown("swapon", "--noheadings", "--show=NAME").split())


def test_a_look_at_the_machine_is_quick() -> None:
    prereq_facts.observe(prereq_facts.Wanted())
    started = sum(os.times()[:4])
    prereq.judge(prereq_facts.observe(prereq_facts.Wanted()), prereq_facts.Wanted())
    # Some 5 ms of a processor, its own and that of its children; it runs at every `up`.
    assert sum(os.times()[:4]) - started < 0.06


def test_this_machine_can_carry_a_lab(run_module: Callable[..., dict[str, Any]]) -> None:
    result = run_module("podlab_prerequisites", {})
    assert result.get("msg") is None
    assert (result["changed"], result["commands"]) == (False, [])
    assert all(check["ok"] for check in result["checks"] if check["level"] == "error")


def test_every_error_comes_at_once_with_the_checks(run_module: Callable[..., dict[str, Any]]) -> None:
    result = run_module("podlab_prerequisites", {"ignore": ["swop"], "pod_subnet": "10.244.0.0/99"})
    assert result["failed"] is True
    assert [problem["place"] for problem in result["problems"]] == ["ignore[0]", "pod_subnet"]


@pytest.fixture
def swap_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A swap area of one mebibyte, switched on; the module sees it and no other one of this machine."""
    import ansible.module_utils.podlab.linux.swap as module_swap

    path = tmp_path / "swap file"
    path.write_bytes(bytes(1 << 20))
    path.chmod(0o600)
    for command in (["mkswap", "--quiet", str(path)], ["swapon", str(path)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"this kernel or file system takes no swap file: {done.stderr.strip()}")
    original = module_swap.parse
    monkeypatch.setattr(module_swap, "parse", lambda text: tuple(each for each in original(text) if each == str(path)))
    yield str(path)
    if str(path) in swap.parse(procfs.read("/proc/swaps")):
        swap.off(str(path))


def test_swap_is_a_warning_until_it_is_to_go_off(run_module: Callable[..., dict[str, Any]], swap_file: str) -> None:
    result = run_module("podlab_prerequisites", {})
    assert result["changed"] is False
    assert f"Swap: swap is on ({swap_file})" in result["warnings"][0]


def test_swap_goes_off_once(run_module: Callable[..., dict[str, Any]], swap_file: str) -> None:
    wanted = {"swap": "off"}
    predicted = run_module("podlab_prerequisites", wanted, check=True, diff=True)
    assert swap_file in swap.parse(procfs.read("/proc/swaps")), "check mode changes nothing"
    result = run_module("podlab_prerequisites", wanted, diff=True)
    assert swap_file not in swap.parse(procfs.read("/proc/swaps"))
    for key in ("changed", "commands", "results", "diff"):
        assert predicted[key] == result[key], key
    assert (result["changed"], result["commands"]) == (True, [["swapoff", swap_file]])
    assert [(entry["before"], entry["after"]) for entry in result["diff"]] == [({"swap": [swap_file]}, {"swap": []})]
    again = run_module("podlab_prerequisites", wanted, diff=True)
    assert (again["changed"], again["commands"], again["diff"]) == (False, [], [])
    assert "warnings" not in again


def test_swap_that_cannot_go_off_is_told(
    run_module: Callable[..., dict[str, Any]], swap_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ansible.module_utils.podlab.linux.swap as module_swap

    def full(path: str) -> None:
        raise OSError(12, f"swapoff {path}: Cannot allocate memory")

    monkeypatch.setattr(module_swap, "off", full)
    result = run_module("podlab_prerequisites", {"swap": "off"})
    assert result["failed"] is True
    assert "swap.off" in result["msg"]
    assert "Cannot allocate memory" in result["msg"]
