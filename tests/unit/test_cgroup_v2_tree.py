"""Pure cgroup v2, on a tree of plain files laid out like cgroup2: the CI machine is hybrid and cannot show it.

The stand-in kernel knows what matters here: a new cgroup's files follow the parent's cgroup.subtree_control, and a
cgroup with processes cannot hand controllers down. Limits themselves have no effect.
"""

from __future__ import annotations

import errno
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from podlab.cgroup_plan import Look, plan
from podlab.cgroup_want import Wanted, wanted
from podlab.errors import PodlabError
from podlab.linux import cgroup, cgroup_files
from podlab.linux.cgroup import Hierarchies, Values, detect
from podlab.linux.cgroup_files import get, tree_below
from podlab.linux.mountinfo import parse
from podlab.step import apply

FILES = {
    "cpu": {"cpu.weight": "100", "cpu.max": "max 100000"},
    "memory": {"memory.max": "max", "memory.swap.max": "max", "memory.oom.group": "0", "memory.current": "8192",
               "memory.stat": "file 5000\ninactive_file 4096",
               "memory.events": "oom 1\noom_kill 2"},
    "pids": {"pids.max": "max", "pids.current": "3"},
    "cpuset": {"cpuset.cpus": "", "cpuset.mems": ""},
    "io": {"io.weight": "default 100", "io.max": ""},
    "hugetlb": {"hugetlb.2MB.max": "max", "hugetlb.2MB.rsvd.max": "max"},
}  # fmt: skip
ALL = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")


class Kernel:
    """cgroup2 in a directory of plain files."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.real_mkdir: Callable[..., None] = os.mkdir
        (root / "cgroup.controllers").write_text(" ".join(ALL))
        self._core(root)

    def _core(self, place: pathlib.Path) -> None:
        for name in ("cgroup.subtree_control", "cgroup.procs"):
            (place / name).write_text("")
        (place / "cpu.stat").write_text("usage_usec 5\nnr_periods 7\nnr_throttled 6\nthrottled_usec 9")

    def mkdir(self, path: str, *mode: int) -> None:
        self.real_mkdir(path, *mode)
        place = pathlib.Path(path)
        self._core(place)
        self._offer(place)

    def _offer(self, place: pathlib.Path) -> None:
        offered = (place.parent / "cgroup.subtree_control").read_text()
        (place / "cgroup.controllers").write_text(offered)
        for name in offered.split():
            for file, text in FILES[name].items():
                if not (place / file).exists():
                    (place / file).write_text(text)

    def put(self, file: str, text: str) -> None:
        place = pathlib.Path(file)
        if not place.exists():
            raise FileNotFoundError(errno.ENOENT, "no such file", file)
        if place.name != "cgroup.subtree_control":
            place.write_text(text)
            return
        if place.parent != self.root and (place.parent / "cgroup.procs").read_text():
            raise OSError(errno.EBUSY, "busy", file)
        enabled = dict.fromkeys(place.read_text().split())
        for word in text.split():
            enabled.update({word[1:]: None}) if word[0] == "+" else enabled.pop(word[1:], None)
        place.write_text(" ".join(enabled))
        for child in place.parent.iterdir():
            if child.is_dir():
                self._offer(child)


@pytest.fixture
def trees(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Hierarchies:
    kernel = Kernel(tmp_path)
    monkeypatch.setattr(os, "mkdir", kernel.mkdir)
    for module in (cgroup, cgroup_files):
        monkeypatch.setattr(module, "put", kernel.put)
    line = f"30 1 0:26 / {tmp_path} rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot"
    return detect(parse(line))


def text(trees: Hierarchies, path: str, file: str) -> str:
    assert trees.v2 is not None
    return get(os.path.join(trees.v2.directory, path, file)) or ""


def look(trees: Hierarchies, **more: Any) -> Look:
    def below(directory: str) -> list[str]:
        return tree_below(directory)[::-1] if os.path.isdir(directory) else []

    given: dict[str, Any] = {"pids": lambda path: [], "alive": lambda pid: True, "name": str, "page_sizes": ["2MB"]}
    return Look(trees, get, os.path.isdir, below=below, **{**given, **more})


def test_detected_as_v2(trees: Hierarchies) -> None:
    assert trees.mode == "v2"
    assert trees.versions() == dict.fromkeys(ALL, 2)


def test_create_hands_every_controller_down(trees: Hierarchies) -> None:
    trees.create("podlab/pod/container")
    for path in ("", "podlab", "podlab/pod"):
        assert text(trees, path, "cgroup.subtree_control").split() == list(ALL)
    assert text(trees, "podlab/pod/container", "cgroup.subtree_control") == "", "a leaf hands nothing down"


def test_a_parent_with_processes_is_explained(trees: Hierarchies) -> None:
    trees.create("podlab/pod")
    trees.attach("podlab/pod", 42)
    with pytest.raises(PodlabError, match=r"podlab/pod: it has processes of its own.*kind uses init.scope"):
        trees.create("podlab/pod/container")


def test_values_written_and_read_back(trees: Hierarchies) -> None:
    trees.create("podlab/pod")
    values = Values(
        cpu_shares=1024, cpu_quota_us=10000, memory_limit=1 << 20, memory_swap_max=0, memory_oom_group=True,
        pids_max=9, cpuset_cpus="0", hugetlb={"2MB": 2 << 20}, io_weight=50, io_max={"8:0": {"rbps": 1}},
    )  # fmt: skip
    trees.write("podlab/pod", values, level="pod")
    assert text(trees, "podlab/pod", "cpu.weight") == "39"
    assert text(trees, "podlab/pod", "cpu.max") == "10000 100000"
    assert text(trees, "podlab/pod", "io.weight") == "default 50"
    assert text(trees, "podlab/pod", "hugetlb.2MB.rsvd.max") == str(2 << 20)
    have = trees.read("podlab/pod")
    assert (have.cpu_shares, have.cpu_weight, have.cpu_quota_us, have.cpu_period_us) == (None, 39, 10000, 100000)
    assert (have.memory_limit, have.memory_swap_max, have.memory_oom_group) == (1 << 20, 0, True)
    assert (have.pids_max, have.cpuset_cpus, have.hugetlb) == (9, "0", {"2MB": 2 << 20})
    trees.write("podlab/pod", values, level="container")
    assert text(trees, "podlab/pod", "cpu.weight") == "100"


def test_stat(trees: Hierarchies) -> None:
    trees.create("podlab/pod")
    assert trees.stat("podlab/pod") == {
        "cpu_usage_us": 5, "nr_periods": 7, "nr_throttled": 6, "throttled_us": 9, "memory_bytes": 8192, "pids": 3,
        "memory_working_set": 4096, "oom_kill": 2,
    }  # fmt: skip


def test_no_device_file_on_v2(trees: Hierarchies) -> None:
    trees.create("podlab/pod")
    assert trees.set_devices("podlab/pod") is False


PLANS: dict[str, dict[str, Any]] = {
    "nothing asked": {"path": "podlab/a"},
    "limits": {"path": "podlab/a/b", "cpu_max": "10000 100000", "memory_max": "64Mi", "memory_swap_max": "0"},
    "weights": {"path": "podlab/a", "cpu_shares": 102, "io_weight": 10, "memory_oom_group": True},
    "lists": {"path": "podlab/a", "cpuset_cpus": "0-1", "hugetlb": {"2MB": "2Mi"},
              "io_max": [{"device": "8:0", "rbps": 10}, {"device": "8:16", "wiops": -1}]},
}  # fmt: skip


@pytest.mark.parametrize("given", PLANS.values(), ids=PLANS)
def test_plan_then_the_same_plan_is_empty(trees: Hierarchies, given: dict[str, Any]) -> None:
    wants, problems = wanted([given], "podlab")
    assert problems == []
    items, problems = plan(wants, "podlab", look(trees))
    assert problems == [] and items[0].steps and items[0].before == {"state": "absent"}
    apply(items[0].steps)
    items, problems = plan(wants, "podlab", look(trees))
    assert (items[0].steps, problems) == ([], [])
    assert items[0].before == items[0].after


def test_planned_commands(trees: Hierarchies, tmp_path: pathlib.Path) -> None:
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory pids")
    wants, _ = wanted([{"path": "podlab/a", "cpu_shares": 102, "pids_max": "5"}], "podlab")
    items, _ = plan(wants, "podlab", look(trees))
    assert [" ".join(step.argv).replace(str(tmp_path), "/cg") for step in items[0].steps] == [
        "mkdir -p /cg/podlab/a",
        "sh -c echo '+cpuset +io +hugetlb' > /cg/cgroup.subtree_control",
        "sh -c echo '+cpuset +cpu +io +memory +hugetlb +pids' > /cg/podlab/cgroup.subtree_control",
        "sh -c echo 17 > /cg/podlab/a/cpu.weight",
        "sh -c echo 5 > /cg/podlab/a/pids.max",
    ]
    assert items[0].after == {"state": "present", "cpu.weight": "17", "pids.max": "5"}


def test_plan_of_a_change_shows_only_what_differs(trees: Hierarchies) -> None:
    trees.create("podlab/a")
    trees.write("podlab/a", Values(pids_max=7, cpu_quota_us=10000))
    wants, _ = wanted([{"path": "podlab/a", "pids_max": "5", "cpu_max": "10000"}], "podlab")
    (item,), _ = plan(wants, "podlab", look(trees))
    assert [(step.kind, step.why) for step in item.steps] == [("cgroup.write", "7 -> 5")]
    assert item.before == {"state": "present", "cpu.max": "10000 100000", "pids.max": "7"}
    assert item.after == {"state": "present", "cpu.max": "10000 100000", "pids.max": "5"}


def test_a_missing_controller_names_itself_the_cgroup_and_the_remedy(trees: Hierarchies) -> None:
    assert trees.v2 is not None
    poor = trees._replace(v2=trees.v2._replace(controllers=("cpu",)))
    want = Wanted("cgroups[0]", "podlab/a", Values(memory_limit=1, io_weight=1))
    _, problems = plan([want], "podlab", look(poor))
    assert [str(problem) for problem in problems] == [
        "cgroups[0].memory_max: memory_limit of cgroup podlab/a needs the memory controller, which this machine does "
        "not have (cgroup v2). Start the kernel with cgroup_enable=memory",
        "cgroups[0].io_weight: io_weight of cgroup podlab/a needs the io controller, which this machine does not have "
        "(cgroup v2). Mount it, or use a kernel that has it (see /proc/cgroups, cgroup.controllers)",
    ]
    poor.create("podlab/a")
    with pytest.raises(PodlabError, match="memory_limit of cgroup podlab/a needs the memory controller"):
        poor.write("podlab/a", Values(memory_limit=1))


def test_absent_with_processes_parent_and_what_was_switched_on(trees: Hierarchies, tmp_path: pathlib.Path) -> None:
    trees.create("podlab/a/b")
    want = Wanted("cgroups[0]", "podlab/a", state="absent")
    occupied = look(trees, pids=lambda path: [42, 0])
    _, problems = plan([want], "podlab", occupied)
    assert problems[0].message == "podlab/a has processes: 42, 0"
    (item,), problems = plan([want._replace(kill=True)], "podlab", occupied._replace(handed_down=["io"]))
    assert problems == []
    assert [" ".join(step.argv).replace(str(tmp_path), "/cg") for step in item.steps] == [
        "kill -KILL 42",
        "rmdir /cg/podlab/a/b /cg/podlab/a",
        "rmdir /cg/podlab",
        "sh -c echo -io > /cg/cgroup.subtree_control",
    ]


@pytest.mark.parametrize(
    ("mountinfo", "mode", "directories"),
    [
        (
            "31 1 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
            "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
            "33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
            "34 31 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
            "35 31 0:32 / /sys/fs/cgroup/net_cls rw - cgroup cgroup rw,net_cls",
            "v1",
            ["/sys/fs/cgroup/cpu,cpuacct/x", "/sys/fs/cgroup/memory/x"],
        ),
        (
            "32 31 0:29 / /other/cpu rw - cgroup cgroup rw,cpu\n"
            "33 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
            "34 31 0:29 / /third/cpu rw - cgroup cgroup rw,cpu\n"
            "41 31 0:38 / /no/unified rw - cgroup2 cgroup2 rw",
            "hybrid",
            ["/sys/fs/cgroup/cpu/x", "/no/unified/x"],
        ),
    ],
    ids=["v1 with co-mounted controllers", "hybrid, one tree mounted thrice"],
)
def test_other_layouts_are_detected(mountinfo: str, mode: str, directories: list[str]) -> None:
    found = detect(parse(mountinfo))
    assert found.mode == mode
    assert found.directories("x") == directories
