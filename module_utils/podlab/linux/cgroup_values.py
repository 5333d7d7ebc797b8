"""What is written to which cgroup file: shares, weights, limits, for v1 and v2. Pure: no file is touched here.

Sources: kernel Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst; kubelet pkg/kubelet/cm; opencontainers/cgroups.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Callable, NamedTuple

MIN_SHARES, MAX_SHARES = 2, 262144
MIN_QUOTA_US = 1000
PERIOD_US = 100000
UNLIMITED = -1
# What memory.limit_in_bytes shows for "no limit" is the greatest multiple of a page below 2**63.
_V1_NO_LIMIT = 1 << 62


class Values(NamedTuple):
    """The settings of one cgroup. None (or an empty mapping) means: leave alone. -1 means: no limit.

    cpu_shares: v1 scale, 2..262144. cpu_weight: v2 scale, 1..10000; give one of the two.
    cpu_quota_us: microseconds of CPU time per period of cpu_period_us; at least 1000 is written.
    memory_limit, memory_swap_max: bytes; swap is counted apart from memory, as v2 does.
    memory_oom_group: the OOM killer takes the whole cgroup (v2 only; v1 has no such file and ignores it).
    pids_max: number of tasks. cpuset_cpus, cpuset_mems: kernel list format ("0-2,4").
    hugetlb: page size as the kernel names it ("2MB", "1GB") -> bytes.
    io_weight: v2 scale, 1..10000. io_max: "major:minor" -> {rbps|wbps|riops|wiops: number per second}.
    """

    cpu_shares: int | None = None
    cpu_weight: int | None = None
    cpu_quota_us: int | None = None
    cpu_period_us: int = PERIOD_US
    memory_limit: int | None = None
    memory_swap_max: int | None = None
    memory_oom_group: bool | None = None
    pids_max: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    hugetlb: Mapping[str, int] = {}
    io_weight: int | None = None
    io_max: Mapping[str, Mapping[str, int]] = {}


class Write(NamedTuple):
    """One text for one control file.

    field: the field of Values that asks for it. optional: skipped where the kernel has no such file.
    """

    field: str
    controller: str
    file: str
    text: str
    optional: bool = False


def shares_to_weight_linear(shares: int) -> int:
    """cpu.weight for v1 shares as the kubelet computes it for pods and QoS levels: 1 + (shares-2)*9999/262142."""
    return 1 + (_clamp(shares, MIN_SHARES, MAX_SHARES) - 2) * 9999 // 262142


def shares_to_weight_runtime(shares: int) -> int:
    """cpu.weight for v1 shares as runc >= 1.3.2 and crun >= 1.23 compute it for containers.

    ceil(10^((l^2 + 125 l)/612 - 7/34)) with l = log2(shares): 2 -> 1, 1024 -> 100, 262144 -> 10000.
    """
    if shares <= MIN_SHARES:
        return 1
    if shares >= MAX_SHARES:
        return 10000
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


# Kubernetes uses two formulas at once: the kubelet writes its levels, the runtime the container's.
SHARES_TO_WEIGHT: Mapping[str, Callable[[int], int]] = {
    "kubepods": shares_to_weight_linear,
    "qos": shares_to_weight_linear,
    "pod": shares_to_weight_linear,
    "container": shares_to_weight_runtime,
}


def weight_to_shares(weight: int) -> int:
    """v1 shares for a v2 weight on the kernel's own scale, where weight 100 is 1024 shares."""
    return _clamp((weight * 1024 + 50) // 100, MIN_SHARES, MAX_SHARES)


def blkio_to_io_weight(weight: int) -> int:
    """io.weight (1..10000) for a blkio weight (10..1000), as runc converts it."""
    return 1 + (weight - 10) * 9999 // 990


def io_to_blkio_weight(weight: int) -> int:
    """blkio weight (10..1000) for an io.weight (1..10000): the inverse of blkio_to_io_weight, rounded up."""
    return 10 + -(-(weight - 1) * 990 // 9999)


def _clamp(number: int, low: int, high: int) -> int:
    return max(low, min(high, number))


def quota(quota_us: int) -> int:
    """A CFS quota as the kernel takes it: -1, or at least 1000 us."""
    return UNLIMITED if quota_us < 0 else max(MIN_QUOTA_US, quota_us)


def _or_max(number: int) -> str:
    return "max" if number < 0 else str(number)


Texts = list[tuple[str, str, bool]]  # file, text, optional


def _v1_cpu(values: Values, level: str) -> Texts:
    if values.cpu_shares is not None:
        return [("cpu.shares", str(_clamp(values.cpu_shares, MIN_SHARES, MAX_SHARES)), False)]
    return [("cpu.shares", str(weight_to_shares(values.cpu_weight or 100)), False)]


def _v2_cpu(values: Values, level: str) -> Texts:
    if values.cpu_shares is not None:
        return [("cpu.weight", str(SHARES_TO_WEIGHT[level](values.cpu_shares)), False)]
    return [("cpu.weight", str(values.cpu_weight or 100), False)]


def _v1_quota(values: Values, level: str) -> Texts:
    number = quota(values.cpu_quota_us or 0)
    return [("cpu.cfs_period_us", str(values.cpu_period_us), False), ("cpu.cfs_quota_us", str(number), False)]


def _v2_quota(values: Values, level: str) -> Texts:
    return [("cpu.max", f"{_or_max(quota(values.cpu_quota_us or 0))} {values.cpu_period_us}", False)]


def _v1_swap(values: Values, level: str) -> Texts:
    # memsw counts memory and swap together: without a memory limit there is nothing to add the swap to.
    swap, limit = values.memory_swap_max, values.memory_limit
    total = UNLIMITED if swap is None or swap < 0 or limit is None or limit < 0 else limit + swap
    return [("memory.memsw.limit_in_bytes", str(total), False)]


def _v1_hugetlb(values: Values, level: str) -> Texts:
    return [
        (f"hugetlb.{size}.{kind}limit_in_bytes", str(number), bool(kind))
        for size, number in sorted(values.hugetlb.items())
        for kind in ("", "rsvd.")
    ]


def _v2_hugetlb(values: Values, level: str) -> Texts:
    return [
        (f"hugetlb.{size}.{kind}max", _or_max(number), bool(kind))
        for size, number in sorted(values.hugetlb.items())
        for kind in ("", "rsvd.")
    ]


_V1_IO_MAX = {
    "rbps": "blkio.throttle.read_bps_device",
    "wbps": "blkio.throttle.write_bps_device",
    "riops": "blkio.throttle.read_iops_device",
    "wiops": "blkio.throttle.write_iops_device",
}


def _v1_io_max(values: Values, level: str) -> Texts:
    return [
        (_V1_IO_MAX[key], f"{device} {max(0, number)}", False)  # 0 takes the rule away
        for device, limits in sorted(values.io_max.items())
        for key, number in sorted(limits.items())
    ]


def _v2_io_max(values: Values, level: str) -> Texts:
    return [
        ("io.max", " ".join([device, *(f"{key}={_or_max(number)}" for key, number in sorted(limits.items()))]), False)
        for device, limits in sorted(values.io_max.items())
    ]


Render = Callable[[Values, str], Texts]


class _Knob(NamedTuple):
    """field of Values, controller by version, and how each version is written."""

    field: str
    v1_controller: str
    v1: Render
    v2_controller: str
    v2: Render


def _one(file: str, field: str, convert: Callable[[int], str] = str) -> Render:
    return lambda values, level: [(file, convert(getattr(values, field)), False)]


def _nothing(values: Values, level: str) -> Texts:
    return []


_KNOBS = (
    _Knob("cpuset_cpus", "cpuset", _one("cpuset.cpus", "cpuset_cpus"), "cpuset", _one("cpuset.cpus", "cpuset_cpus")),
    _Knob("cpuset_mems", "cpuset", _one("cpuset.mems", "cpuset_mems"), "cpuset", _one("cpuset.mems", "cpuset_mems")),
    _Knob("cpu_shares", "cpu", _v1_cpu, "cpu", _v2_cpu),
    _Knob("cpu_weight", "cpu", _v1_cpu, "cpu", _v2_cpu),
    _Knob("cpu_quota_us", "cpu", _v1_quota, "cpu", _v2_quota),
    _Knob(
        "memory_limit",
        "memory",
        _one("memory.limit_in_bytes", "memory_limit"),
        "memory",
        _one("memory.max", "memory_limit", _or_max),
    ),
    _Knob(
        "memory_swap_max",
        "memory",
        _v1_swap,
        "memory",
        _one("memory.swap.max", "memory_swap_max", _or_max),
    ),
    _Knob(
        "memory_oom_group",
        "memory",
        _nothing,
        "memory",
        _one("memory.oom.group", "memory_oom_group", lambda value: str(int(value))),
    ),
    _Knob("pids_max", "pids", _one("pids.max", "pids_max", _or_max), "pids", _one("pids.max", "pids_max", _or_max)),
    _Knob("hugetlb", "hugetlb", _v1_hugetlb, "hugetlb", _v2_hugetlb),
    _Knob(
        "io_weight",
        "blkio",
        _one("blkio.bfq.weight", "io_weight", lambda value: str(io_to_blkio_weight(value))),
        "io",
        _one("io.weight", "io_weight", lambda value: f"default {value}"),
    ),
    _Knob("io_max", "blkio", _v1_io_max, "io", _v2_io_max),
)


def asked(values: Values) -> list[str]:
    """The fields of values that ask for something, in the order in which they are written."""
    return [knob.field for knob in _KNOBS if getattr(values, knob.field) not in (None, {})]


def controller_of(field: str, version: int) -> str:
    """The controller that a field of Values needs in cgroup version 1 or 2."""
    knob = next(knob for knob in _KNOBS if knob.field == field)
    return knob.v1_controller if version == 1 else knob.v2_controller


def writes(values: Values, versions: Mapping[str, int], level: str = "pod") -> list[Write]:
    """The texts to write, in an order that suits a new cgroup.

    versions: controller -> 1 or 2, for every controller the machine has; a field whose controller is not among
        them is left out (see `missing`). level: a key of SHARES_TO_WEIGHT.
    """
    found = []
    for knob in _KNOBS:
        if getattr(values, knob.field) in (None, {}):
            continue
        if knob.field == "cpu_weight" and values.cpu_shares is not None:
            continue
        if versions.get(knob.v1_controller) == 1:
            controller, render = knob.v1_controller, knob.v1
        elif versions.get(knob.v2_controller) == 2:
            controller, render = knob.v2_controller, knob.v2
        else:
            continue
        texts = render(values, level)
        found += [Write(knob.field, controller, file, text, optional) for file, text, optional in texts]
    return found


def missing(values: Values, versions: Mapping[str, int]) -> list[tuple[str, str]]:
    """(field, controller) of every setting for which the machine has no controller."""
    lacking = []
    for field in asked(values):
        v1, v2 = controller_of(field, 1), controller_of(field, 2)
        if versions.get(v1) != 1 and versions.get(v2) != 2:
            lacking.append((field, v2 if 2 in versions.values() and 1 not in versions.values() else v1))
    return lacking


def ordered(wanted: Iterable[Write], current: Mapping[str, str]) -> list[Write]:
    """The writes in an order the kernel takes at every moment, from the files' current texts.

    memory + swap may never be below memory, so the sum is raised first and lowered last. quota/period may never
    exceed the parent's ratio, so a shorter period comes after its quota.
    """
    found = list(wanted)
    _swap_if(found, current, "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.memsw.limit_in_bytes", 1)
    _swap_if(found, current, "cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.cfs_period_us", -1)
    return found


def _swap_if(
    found: list[Write], current: Mapping[str, str], first: str, second: str, judged: str, direction: int
) -> None:
    """Exchange two writes when `judged` rises (direction 1) or falls (-1)."""
    places = {write.file: place for place, write in enumerate(found)}
    if first not in places or second not in places or not current.get(judged, "").strip():
        return
    old, new = _bytes(current[judged]), _bytes(found[places[judged]].text)
    if (new - old) * direction > 0 and places[first] < places[second]:
        found[places[first]], found[places[second]] = found[places[second]], found[places[first]]


def _bytes(text: str) -> int:
    number = int(text)
    return _V1_NO_LIMIT if number < 0 else min(number, _V1_NO_LIMIT)
