"""podlab_cgroup and linux/cgroup on the kernel, below a parent of the test's own.

What only a pure v2 machine shows is in tests/unit/test_cgroup_v2_tree.py, on a tree of plain files.
"""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from podlab.errors import PodlabError
from podlab.linux.cgroup import DEFAULT_DEVICES, Hierarchies, Values, detect
from podlab.linux.cgroup_files import get, marks

pytestmark = pytest.mark.kernel

Run = Callable[..., dict[str, Any]]
TREES = detect()
V1 = {name for tree in TREES.v1 for name in tree.controllers}
# Those that this machine lets us use.
CPUS = [str(cpu) for cpu in sorted(os.sched_getaffinity(0))]


def v1(*controllers: str) -> pytest.MarkDecorator:
    lacks = set(controllers) - V1
    return pytest.mark.skipif(bool(lacks), reason=f"no v1 hierarchy with {', '.join(sorted(lacks))} here")


@pytest.fixture
def parent() -> Iterator[str]:
    """The name of a cgroup below which the test may do what it likes; nothing of it is left, nor at the v2 root."""
    name = f"podlab-test-{os.getpid()}"
    root = TREES.v2.directory if TREES.v2 else ""
    before = (get(f"{root}/cgroup.subtree_control"), marks(root)) if root else ()
    yield name
    if TREES.exists(name):
        TREES.kill(name)
        TREES.remove(name)
        left = [tree.directory for tree in TREES.every if os.path.isdir(os.path.join(tree.directory, name))]
        assert not left, f"{name} is left in {left}"
    assert not root or (get(f"{root}/cgroup.subtree_control"), marks(root)) == before


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def every(run_module: Run, parent: str, *items: dict[str, Any]) -> dict[str, Any]:
    """Check mode, the real run and a second run; the first two must say the same, the last nothing."""
    args = {"cgroups": list(items), "parent": parent}
    checked = run_module("podlab_cgroup", args, check=True, diff=True)
    assert not checked.get("failed"), checked
    real = run_module("podlab_cgroup", args, diff=True)
    assert not real.get("failed"), real
    said = ("changed", "commands", "diff", "results")
    assert {key: checked[key] for key in said} == {key: real[key] for key in said}
    again = run_module("podlab_cgroup", args, diff=True)
    assert (again["changed"], again["commands"], again["diff"]) == (False, [], [])
    return real


def text(controller: str, path: str, file: str) -> str:
    found = get(os.path.join(TREES.directory(controller, path), file))
    assert found is not None
    return found


def inside(pid: int) -> set[str]:
    """The paths of a process in the hierarchies that podlab works with."""
    lines = pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    fields = [line.split(":", 2) for line in lines]
    return {path for _, names, path in fields if not names or set(names.split(",")) & V1}


def test_present_again_changed_absent(run_module: Run, parent: str) -> None:
    item = {"path": f"{parent}/demo", "cpu_shares": 102, "cpu_max": "10000 100000", "memory_max": "64Mi",
            "memory_swap_max": "0", "pids_max": "100"}  # fmt: skip
    made = every(run_module, parent, item)
    assert made["commands"][0] == ["mkdir", "-p", *TREES.directories(f"{parent}/demo")]
    assert made["cgroups"][0]["values"]["memory_limit"] == 64 << 20
    assert made["cgroups"][0]["values"]["memory_swap_max"] == 0
    assert made["cgroups"][0]["values"]["cpu_quota_us"] == 10000
    for bytes_ in ("128Mi", "32Mi"):  # memory + swap may never be below memory: the order turns round
        changed = every(run_module, parent, {**item, "memory_max": bytes_})
        assert changed["changed"] and changed["diff"][0]["before"] != changed["diff"][0]["after"]
    gone = every(run_module, parent, {"path": f"{parent}/demo", "state": "absent"})
    assert gone["commands"][-1] == ["rmdir", *TREES.directories(parent)]
    assert not TREES.exists(parent)


@v1("cpu", "memory", "pids", "blkio")
def test_v1_files_and_the_commands_for_them(run_module: Run, parent: str) -> None:
    path = f"{parent}/demo"
    made = every(
        run_module, parent,
        {"path": path, "cpu_weight": 100, "cpu_quota_us": 50000, "cpu_period_us": 50000, "memory_max": "1000000",
         "memory_swap_max": "4096", "pids_max": "max", "io_weight": 100, "cpuset_cpus": CPUS[0], "cpuset_mems": "0"},
    )  # fmt: skip
    assert text("cpu", path, "cpu.shares") == "1024"
    assert (text("cpu", path, "cpu.cfs_quota_us"), text("cpu", path, "cpu.cfs_period_us")) == ("50000", "50000")
    assert text("memory", path, "memory.limit_in_bytes") == "999424", "rounded down to a page"
    assert text("cpuset", path, "cpuset.cpus") == CPUS[0]
    file = os.path.join(TREES.directory("cpu", path), "cpu.cfs_quota_us")
    assert ["sh", "-c", f"echo 50000 > {file}"] in made["commands"]
    cpus = ",".join(CPUS[:2])
    shorter = every(
        run_module, parent, {"path": path, "cpu_quota_us": 10000, "cpu_period_us": 10000, "cpuset_cpus": cpus}
    )
    files = [argv[-1].rsplit("/", 1)[-1] for argv in shorter["commands"]]
    wanted = ["cpuset.cpus"] * (len(CPUS) > 1) + ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
    assert files == wanted, "a shorter period after its quota"


def test_commands_typed_in_a_shell_leave_the_same(run_module: Run, parent: str) -> None:
    items = [
        {"path": f"{parent}/a/b", "cpu_shares": 512, "cpu_max": "20000 50000", "memory_max": "32Mi", "pids_max": "9"},
        {"path": f"{parent}/a/c d", "cpu_shares": 2, "pids_max": "max"},
    ]
    args = {"cgroups": items, "parent": parent}
    planned = run_module("podlab_cgroup", args, check=True)
    for argv in planned["commands"]:
        subprocess.run(argv, check=True)
    assert run_module("podlab_cgroup", args)["changed"] is False


def test_processes_are_attached_and_are_an_error_in_the_way(
    run_module: Run, parent: str, sleeper: subprocess.Popen[bytes]
) -> None:
    item = {"path": f"{parent}/demo", "pids": [sleeper.pid]}
    made = every(run_module, parent, item)
    assert made["commands"][-1][2].startswith(f"echo {sleeper.pid} | tee ")
    assert inside(sleeper.pid) == {f"/{parent}/demo"}
    refused = run_module("podlab_cgroup", {"parent": parent, "cgroups": [{**item, "state": "absent"}]})
    assert refused["failed"] and f"{sleeper.pid} (cat)" in refused["msg"] and "kill: true" in refused["msg"]
    assert sleeper.poll() is None
    gone = every(run_module, parent, {"path": f"{parent}/demo", "state": "absent", "kill": True})
    assert gone["commands"][0] == ["kill", "-KILL", str(sleeper.pid)]
    assert sleeper.wait() == -signal.SIGKILL
    assert not TREES.exists(parent)


def test_absent_takes_what_is_below_along_and_leaves_a_parent_in_use(run_module: Run, parent: str) -> None:
    TREES.create(f"{parent}/a/b/c")
    TREES.create(f"{parent}/other")
    every(run_module, parent, {"path": f"{parent}/a/b", "state": "absent"}, {"path": f"{parent}/a", "state": "absent"})
    assert TREES.complete(f"{parent}/other") and not TREES.exists(f"{parent}/a")
    half = TREES.directories(f"{parent}/other")[0]
    os.rmdir(half)
    assert every(run_module, parent, {"path": f"{parent}/other"})["commands"][0] == ["mkdir", "-p", half]
    os.rmdir(half)
    every(run_module, parent, {"path": f"{parent}/other", "state": "absent"})
    assert not TREES.exists(parent)


def test_hugetlb_is_handed_down_and_taken_back(run_module: Run, parent: str) -> None:
    if TREES.versions().get("hugetlb") != 2:
        pytest.skip("hugetlb is not in the v2 hierarchy here")
    root = TREES.v2.directory if TREES.v2 else ""
    if "hugetlb" in (get(f"{root}/cgroup.subtree_control") or ""):
        pytest.skip("somebody else hands hugetlb down here")
    made = every(run_module, parent, {"path": f"{parent}/demo", "hugetlb": {"2MB": "4Mi"}})
    assert ["sh", "-c", f"echo +hugetlb > {root}/cgroup.subtree_control"] in made["commands"]
    assert text("hugetlb", f"{parent}/demo", "hugetlb.2MB.max") == str(4 << 20)
    gone = every(run_module, parent, {"path": f"{parent}/demo", "state": "absent"})
    assert gone["commands"][-1] == ["sh", "-c", f"echo -hugetlb > {root}/cgroup.subtree_control"]
    assert "hugetlb" not in (get(f"{root}/cgroup.subtree_control") or "")


def test_a_parent_with_processes_cannot_hand_down(parent: str, sleeper: subprocess.Popen[bytes]) -> None:
    if TREES.versions().get("hugetlb") != 2:
        pytest.skip("no controller in the v2 hierarchy to hand down here")
    TREES.create(f"{parent}/demo")
    TREES.attach(parent, sleeper.pid)
    with pytest.raises(PodlabError, match=r"has processes of its own.*Move its processes to a child"):
        TREES.write(f"{parent}/demo", Values(hugetlb={"2MB": 2 << 20}))


def test_every_problem_at_once_and_nothing_touched(run_module: Run, parent: str) -> None:
    failed = run_module(
        "podlab_cgroup",
        {
            "parent": parent,
            "cgroups": [
                {"path": "system.slice/x"},
                {"path": f"{parent}/../x"},
                {"path": f"{parent}/a", "cpu_shares": 1, "cpu_weight": 0, "cpu_max": "500", "memory_max": "64M"},
                {
                    "path": f"{parent}/b",
                    "cpu_period_us": 5,
                    "cpuset_cpus": "0-",
                    "pids_max": "-4",
                    "memory_swap_max": "0",
                },
                {"path": f"{parent}/b", "io_max": [{"device": "sda"}], "hugetlb": {"2MB": "x"}},
                {"path": f"{parent}/c", "state": "absent"},
                {"path": f"{parent}/c/d", "io_weight": 10001},
            ],
        },
    )
    assert [problem["place"] for problem in failed["problems"]] == [
        "cgroups[0].path", "cgroups[1].path",
        "cgroups[2].cpu_shares", "cgroups[2].cpu_max", "cgroups[2].cpu_shares", "cgroups[2].cpu_weight",
        "cgroups[2].memory_max",
        "cgroups[3].cpu_period_us", "cgroups[3].cpu_period_us", "cgroups[3].pids_max", "cgroups[3].cpuset_cpus",
        "cgroups[3].memory_swap_max",
        "cgroups[4].hugetlb.2MB", "cgroups[4].io_max[0].device", "cgroups[4].io_max[0]",
        "cgroups[6].io_weight", "cgroups[4].path", "cgroups[6].state",
    ]  # fmt: skip
    assert not TREES.exists(parent)


def test_what_the_machine_lacks_is_named_before_anything_is_touched(run_module: Run, parent: str) -> None:
    failed = run_module(
        "podlab_cgroup",
        {"parent": parent, "cgroups": [{"path": f"{parent}/a", "hugetlb": {"3MB": "1Mi"}, "pids": [2**22 + 1]}]},
    )
    said = [problem["message"] for problem in failed["problems"]]
    # Not every machine has the controller either.
    without = "hugetlb" not in TREES.versions()
    assert ["needs the hugetlb controller" in message for message in said[:without]] == [True] * without
    assert said[without:] == ["this machine has no huge pages of 3MB", f"there is no process {2**22 + 1}"]
    assert not TREES.exists(parent)


def test_a_value_the_kernel_refuses_says_which_file(run_module: Run, parent: str) -> None:
    failed = run_module(
        "podlab_cgroup", {"parent": parent, "cgroups": [{"path": f"{parent}/a", "cpuset_cpus": "4000"}]}
    )
    assert failed["failed"] and "cpuset.cpus" in failed["msg"] and "Cannot do cgroup.write" in failed["msg"]
    assert failed["completed"] and failed["failed"]


# The facade, as the runtime uses it.


def test_create_is_idempotent_and_cpusets_can_be_used_at_once(parent: str, sleeper: subprocess.Popen[bytes]) -> None:
    TREES.create(f"{parent}/pod/container")
    TREES.create(f"{parent}/pod/container")
    TREES.attach(f"{parent}/pod/container", sleeper.pid)
    assert TREES.pids(parent) == [sleeper.pid]
    assert TREES.pids(parent, recursive=False) == []
    assert TREES.children(parent) == ["pod"]


@v1("cpuset")
def test_what_was_half_made_is_completed(parent: str, sleeper: subprocess.Popen[bytes]) -> None:
    """Killed between mkdir and the copy of the CPUs: such a cpuset takes no process (ENOSPC)."""
    os.makedirs(TREES.directory("cpuset", f"{parent}/half/made"))
    TREES.create(f"{parent}/half/made/now")
    TREES.attach(f"{parent}/half/made", sleeper.pid)
    assert text("cpuset", f"{parent}/half/made", "cpuset.mems") == text("cpuset", "", "cpuset.mems")


def test_a_process_moves_itself(parent: str) -> None:
    TREES.create(f"{parent}/self")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        TREES.attach(f"{parent}/self")
        os.write(writer, "\n".join(sorted(inside(os.getpid()))).encode())
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 4096).decode() == f"/{parent}/self"
    os.close(reader)
    assert os.waitpid(pid, 0)[1] == 0


def test_values_read_back(parent: str) -> None:
    path = f"{parent}/v"
    TREES.create(path)
    TREES.write(path, Values(cpu_quota_us=10, memory_limit=16 << 20, memory_swap_max=0, pids_max=7), level="container")
    have = TREES.read(path)
    assert (have.cpu_quota_us, have.memory_limit, have.memory_swap_max, have.pids_max) == (1000, 16 << 20, 0, 7)
    TREES.write(path, Values(cpu_quota_us=-1, memory_limit=-1, memory_swap_max=-1, pids_max=-1))
    have = TREES.read(path)
    assert (have.cpu_quota_us, have.memory_limit, have.memory_swap_max, have.pids_max) == (-1, -1, -1, -1)
    with pytest.raises(FileNotFoundError):
        TREES.read(f"{parent}/none")


@v1("devices")
def test_only_a_pods_devices_can_be_opened(parent: str) -> None:
    path = f"{parent}/dev"
    TREES.create(path)
    assert TREES.set_devices(path) is True
    assert text("devices", path, "devices.list").split("\n") == list(DEFAULT_DEVICES)
    script = "head -c1 /dev/zero > /dev/null && ! head -c0 /dev/kmsg 2>/dev/null"
    assert subprocess.run(["sh", "-c", script], preexec_fn=lambda: TREES.attach(path), check=False).returncode == 0
    assert subprocess.run(["sh", "-c", "head -c0 /dev/kmsg"], check=False).returncode == 0, "outside it opens"


def test_stat_counts(parent: str, sleeper: subprocess.Popen[bytes]) -> None:
    path = f"{parent}/s"
    TREES.create(path)
    TREES.attach(path, sleeper.pid)
    found = TREES.stat(path)
    assert found["pids"] == 1
    assert {"cpu_usage_us", "nr_throttled", "throttled_us", "memory_bytes", "oom_kill"} <= set(found)


def test_kill_reaches_every_level_and_one_that_forks(parent: str) -> None:
    TREES.create(f"{parent}/k/deep")
    shell = "while :; do cat < /dev/zero > /dev/null & wait; done"
    processes = [
        subprocess.Popen(["sh", "-c", shell], preexec_fn=lambda path=path: TREES.attach(path))  # type: ignore[misc]
        for path in (f"{parent}/k", f"{parent}/k/deep")
    ]
    TREES.kill(f"{parent}/k")
    assert [process.wait() for process in processes] == [-signal.SIGKILL] * 2
    assert TREES.pids(parent) == []
    TREES.kill(f"{parent}/k")  # nothing to do is fine
    TREES.kill(f"{parent}/none")
    TREES.remove(f"{parent}/k")
    TREES.remove(f"{parent}/k")
    assert TREES.remove_if_empty(parent) is True


def test_kill_will_not_end_itself(parent: str) -> None:
    TREES.create(f"{parent}/me")
    pid = os.fork()
    if pid == 0:
        TREES.attach(f"{parent}/me")
        try:
            TREES.kill(f"{parent}/me")
        except PodlabError as error:
            os._exit(0 if "this process" in str(error) else 1)
        os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0


def test_remove_waits_for_the_ending_and_names_who_stays(parent: str, sleeper: subprocess.Popen[bytes]) -> None:
    TREES.create(f"{parent}/r/x")
    TREES.attach(f"{parent}/r/x", sleeper.pid)
    with pytest.raises(PodlabError, match=rf"processes are in it: {sleeper.pid} \(cat\)") as caught:
        TREES.remove(f"{parent}/r", timeout=0.05)
    assert caught.value.details["pids"] == [sleeper.pid]
    assert TREES.remove_if_empty(f"{parent}/r/x") is False
    sleeper.kill()  # it is ending now, and nobody waits for it here
    TREES.remove(f"{parent}/r")
    assert not TREES.exists(f"{parent}/r")


@pytest.mark.parametrize("path", ["", "/abs", "a//b", "a/../b", ".", "a/"])
def test_paths_stay_below_the_root(path: str) -> None:
    with pytest.raises(PodlabError, match="must be relative"):
        TREES.directories(path)


def test_a_machine_without_cgroups_is_explained() -> None:
    with pytest.raises(PodlabError, match="No cgroup tree is mounted"):
        detect([])
    with pytest.raises(PodlabError, match="memory controller.*cgroup_enable=memory"):
        Hierarchies((), None).directory("memory", "x")
