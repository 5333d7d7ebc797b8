"""The numbers and files of cgroup settings, v1 and v2, as the kubelet and the runtimes write them."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.cgroup_compare import numbers, page_bytes, same, shown
from podlab.linux import cgroup_values as rules
from podlab.linux.cgroup_values import Values

V1 = dict.fromkeys(("cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "blkio", "pids", "hugetlb"), 1)
V2 = dict.fromkeys(("cpuset", "cpu", "io", "memory", "hugetlb", "pids"), 2)
HYBRID = {**V1, "hugetlb": 2}


@pytest.mark.parametrize(
    ("shares", "linear", "runtime"),
    [
        (2, 1, 1), (10, 1, 4), (51, 2, 11), (102, 4, 17), (204, 8, 29), (256, 10, 35), (512, 20, 59), (1024, 39, 100),
        (1536, 59, 138), (2048, 79, 174), (4096, 157, 303), (8192, 313, 532), (262144, 10000, 10000),
        (0, 1, 1), (1, 1, 1), (300000, 10000, 10000),
    ],
)  # fmt: skip
def test_shares_to_weight(shares: int, linear: int, runtime: int) -> None:
    assert rules.shares_to_weight_linear(shares) == linear
    assert rules.shares_to_weight_runtime(shares) == runtime


@pytest.mark.parametrize(("level", "weight"), [("kubepods", 39), ("qos", 39), ("pod", 39), ("container", 100)])
def test_each_level_has_its_formula(level: str, weight: int) -> None:
    assert rules.writes(Values(cpu_shares=1024), V2, level)[0].text == str(weight)


@pytest.mark.parametrize(("weight", "shares"), [(100, 1024), (1, 10), (10000, 102400), (39, 399)])
def test_weight_to_shares_on_the_kernels_scale(weight: int, shares: int) -> None:
    assert rules.weight_to_shares(weight) == shares


@pytest.mark.parametrize(("blkio", "io"), [(10, 1), (100, 910), (500, 4950), (1000, 10000)])
def test_blkio_weight_there_and_back(blkio: int, io: int) -> None:
    assert rules.blkio_to_io_weight(blkio) == io
    assert rules.io_to_blkio_weight(io) == blkio


FULL = Values(
    cpu_shares=102, cpu_quota_us=10000, memory_limit=64 << 20, memory_swap_max=0, memory_oom_group=True, pids_max=100,
    cpuset_cpus="0-1", cpuset_mems="0", hugetlb={"2MB": 4 << 20}, io_weight=910,
    io_max={"8:0": {"rbps": 1000, "wiops": -1}},
)  # fmt: skip


@pytest.mark.parametrize(
    ("versions", "wanted"),
    [
        (
            V1,
            [
                "cpuset.cpus 0-1", "cpuset.mems 0", "cpu.shares 102", "cpu.cfs_period_us 100000",
                "cpu.cfs_quota_us 10000", f"memory.limit_in_bytes {64 << 20}",
                f"memory.memsw.limit_in_bytes {64 << 20}", "pids.max 100", f"hugetlb.2MB.limit_in_bytes {4 << 20}",
                f"hugetlb.2MB.rsvd.limit_in_bytes {4 << 20}", "blkio.bfq.weight 100",
                "blkio.throttle.read_bps_device 8:0 1000", "blkio.throttle.write_iops_device 8:0 0",
            ],
        ),
        (
            V2,
            [
                "cpuset.cpus 0-1", "cpuset.mems 0", "cpu.weight 17", "cpu.max 10000 100000", f"memory.max {64 << 20}",
                "memory.swap.max 0", "memory.oom.group 1", "pids.max 100", f"hugetlb.2MB.max {4 << 20}",
                f"hugetlb.2MB.rsvd.max {4 << 20}", "io.weight default 910", "io.max 8:0 rbps=1000 wiops=max",
            ],
        ),
    ],
    ids=["v1", "v2"],
)  # fmt: skip
def test_which_files_get_which_texts(versions: dict[str, int], wanted: list[str]) -> None:
    found = rules.writes(FULL, versions, "container")
    assert [f"{write.file} {write.text}" for write in found] == wanted
    assert [write.file for write in found if write.optional] == [file.split()[0] for file in wanted if "rsvd" in file]


def test_hybrid_takes_each_controller_where_it_is() -> None:
    found = {write.file: write.controller for write in rules.writes(FULL, HYBRID)}
    assert "hugetlb.2MB.max" in found and "memory.limit_in_bytes" in found
    assert "hugetlb.2MB.limit_in_bytes" not in found and "memory.max" not in found


@pytest.mark.parametrize(
    ("values", "versions", "wanted"),
    [
        (Values(cpu_quota_us=-1), V2, ["cpu.max max 100000"]),
        (Values(cpu_quota_us=-1), V1, ["cpu.cfs_period_us 100000", "cpu.cfs_quota_us -1"]),
        (Values(cpu_quota_us=1), V2, ["cpu.max 1000 100000"]),
        (Values(memory_limit=-1, memory_swap_max=-1), V2, ["memory.max max", "memory.swap.max max"]),
        (
            Values(memory_limit=-1, memory_swap_max=0),
            V1,
            ["memory.limit_in_bytes -1", "memory.memsw.limit_in_bytes -1"],
        ),
        (
            Values(memory_limit=100, memory_swap_max=50),
            V1,
            ["memory.limit_in_bytes 100", "memory.memsw.limit_in_bytes 150"],
        ),
        (Values(pids_max=-1), V1, ["pids.max max"]),
        (Values(cpu_weight=100), V1, ["cpu.shares 1024"]),
        (Values(cpu_shares=1, cpu_weight=100), V1, ["cpu.shares 2"]),
        (Values(), V1, []),
    ],
)  # fmt: skip
def test_no_limit_least_quota_and_swap(values: Values, versions: dict[str, int], wanted: list[str]) -> None:
    assert [f"{write.file} {write.text}" for write in rules.writes(values, versions)] == wanted


@pytest.mark.parametrize(
    ("values", "current", "order"),
    [
        (dict(memory_limit=50, memory_swap_max=0), {"memory.memsw.limit_in_bytes": "100"}, "limit memsw"),
        (dict(memory_limit=200, memory_swap_max=0), {"memory.memsw.limit_in_bytes": "100"}, "memsw limit"),
        (dict(memory_limit=-1, memory_swap_max=-1), {"memory.memsw.limit_in_bytes": "100"}, "memsw limit"),
        (
            dict(memory_limit=200, memory_swap_max=0),
            {"memory.memsw.limit_in_bytes": "9223372036854771712"},
            "limit memsw",
        ),
        (dict(memory_limit=200, memory_swap_max=0), {}, "limit memsw"),
        (dict(cpu_quota_us=5000, cpu_period_us=50000), {"cpu.cfs_period_us": "100000"}, "quota period"),
        (dict(cpu_quota_us=5000, cpu_period_us=100000), {"cpu.cfs_period_us": "50000"}, "period quota"),
    ],
)
def test_order_that_the_kernel_takes_at_every_moment(values: Any, current: dict[str, str], order: str) -> None:
    names = {"memory.limit_in_bytes": "limit", "memory.memsw.limit_in_bytes": "memsw", "cpu.cfs_period_us": "period",
             "cpu.cfs_quota_us": "quota"}  # fmt: skip
    found = rules.ordered(rules.writes(Values(**values), V1), current)
    assert " ".join(names[write.file] for write in found) == order


def test_missing_controllers_are_named_by_field() -> None:
    assert rules.missing(FULL, {"cpu": 1}) == [
        ("cpuset_cpus", "cpuset"), ("cpuset_mems", "cpuset"), ("memory_limit", "memory"),
        ("memory_swap_max", "memory"), ("memory_oom_group", "memory"), ("pids_max", "pids"), ("hugetlb", "hugetlb"),
        ("io_weight", "blkio"), ("io_max", "blkio"),
    ]  # fmt: skip
    assert rules.missing(Values(io_weight=1), {"cpu": 2}) == [("io_weight", "io")]
    assert rules.missing(FULL, V1) == rules.missing(FULL, V2) == rules.missing(Values(), {}) == []


@pytest.mark.parametrize(
    ("file", "wanted", "have", "equal"),
    [
        ("cpuset.cpus", "0-3", "0,1,2-3", True),
        ("cpuset.cpus", "0-3", "0-2", False),
        ("cpuset.cpus", "0", "", False),
        ("memory.max", "max", "max", True),
        ("memory.limit_in_bytes", "1000000", "999424", True),
        ("memory.limit_in_bytes", "1000000", "995328", False),
        ("memory.limit_in_bytes", "-1", "9223372036854771712", True),
        ("memory.oom.group", "1", "0", False),
        ("memory.oom.group", "1", "1", True),
        ("hugetlb.2MB.max", "5000000", "4194304", True),
        ("hugetlb.2MB.max", "max", "max", True),
        ("hugetlb.2MB.limit_in_bytes", "-1", "9223372036852678656", True),
        ("cpu.max", "max 100000", "max 100000", True),
        ("cpu.max", "10000 100000", "10000 50000", False),
        ("io.weight", "default 100", "default 100\n8:0 50", True),
        ("io.weight", "default 100", "default 200", False),
        ("io.max", "8:0 rbps=1000", "8:16 rbps=1\n8:0 rbps=1000 wbps=max riops=max wiops=max", True),
        ("io.max", "8:0 rbps=1000", "8:16 rbps=1000 wbps=max riops=max wiops=max", False),
        ("io.max", "8:0 rbps=max", "", True),
        ("blkio.throttle.read_bps_device", "8:0 1000", "8:0 1000", True),
        ("blkio.throttle.read_bps_device", "8:0 1000", "8:0 999", False),
        ("blkio.throttle.read_bps_device", "8:0 0", "", True),
        ("pids.max", "5", None, False),
    ],
)
def test_texts_are_compared_by_value(file: str, wanted: str, have: str | None, equal: bool) -> None:
    assert same(file, wanted, have) is equal


def test_text_for_the_diff() -> None:
    assert shown("cpuset.cpus", "0-3", "0,1,2,3") == "0-3"
    assert shown("pids.max", "5", "7") == "7"
    assert shown("io.max", "8:0 rbps=1", "8:16 rbps=9\n8:0 rbps=2 wbps=max") == "8:0 rbps=2 wbps=max"
    assert shown("pids.max", "5", None) is None


def test_lists_and_page_sizes() -> None:
    assert numbers("0-2,4\n") == {0, 1, 2, 4}
    assert numbers("") == set()
    assert [page_bytes(size) for size in ("64KB", "2MB", "1GB")] == [65536, 2 << 20, 1 << 30]
