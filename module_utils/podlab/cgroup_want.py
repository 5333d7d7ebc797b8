"""What podlab_cgroup is asked for, as data, with every problem that the text alone shows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .errors import Problem
from .linux.cgroup_values import MAX_SHARES, MIN_QUOTA_US, MIN_SHARES, PERIOD_US, UNLIMITED, Values

_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_BYTES = re.compile(r"(\d+)(Ki|Mi|Gi|Ti|)")
_LIST = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
_DEVICE = re.compile(r"\d+:\d+")


class Wanted(NamedTuple):
    """One cgroup. place: where it stands in the options. path: from the root of the hierarchies, below the parent.

    level: whose formula turns CPU shares into weight. pids: processes that should be in it.
    """

    place: str
    path: str
    values: Values = Values()
    level: str = "container"
    pids: tuple[int, ...] = ()
    state: str = "present"
    kill: bool = False


def wanted(cgroups: Sequence[Mapping[str, Any]], parent: str) -> tuple[list[Wanted], list[Problem]]:
    """The module's `cgroups` option as data, and every problem in it."""
    problems = _path_problems("parent", parent, "")
    found = []
    for number, given in enumerate(cgroups):
        place = f"cgroups[{number}]"
        path = given["path"].strip("/")
        problems += _path_problems(f"{place}.path", path, parent)
        reader = _Reader(place, given)
        values = reader.values() if given.get("state") != "absent" else Values()
        problems += reader.problems
        found.append(
            Wanted(
                place,
                path,
                values,
                given.get("level") or "container",
                tuple(given.get("pids") or ()),
                given.get("state") or "present",
                bool(given.get("kill")),
            )
        )
    return found, [*problems, *_conflicts(found)]


def _path_problems(place: str, path: str, parent: str) -> list[Problem]:
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") for part in parts):
        text = f"must be a path from the root of the hierarchy without empty, '.' or '..' parts, not {path!r}"
        return [Problem(place, text, "Say podlab/NAME")]
    if any(len(part.encode()) > 255 for part in parts) or "\n" in path:
        return [Problem(place, "must have parts of at most 255 bytes and no newline", "Shorten it")]
    if parent and not path.startswith(parent + "/"):
        text = f"must be below {parent}, which is what podlab owns, not {path!r}"
        return [Problem(place, text, "Use a path below it, or set parent")]
    return []


def _conflicts(found: Sequence[Wanted]) -> list[Problem]:
    first: dict[str, str] = {}
    problems = []
    for want in found:
        if want.path in first:
            text = f"{want.path} is in {first[want.path]} already"
            problems.append(Problem(f"{want.place}.path", text, "Name it once"))
        first.setdefault(want.path, want.place)
    gone = [want for want in found if want.state == "absent"]
    for want in found:
        above = [one for one in gone if want.state == "present" and want.path.startswith(one.path + "/")]
        for one in above:
            text = f"{want.path} cannot be present: {one.path}, above it, is to be absent ({one.place})"
            problems.append(Problem(f"{want.place}.state", text, "Drop one of the two"))
    return problems


class _Reader:
    """The settings of one cgroup, read from the module's options."""

    def __init__(self, place: str, given: Mapping[str, Any]) -> None:
        self.place, self.given = place, given
        self.problems: list[Problem] = []

    def values(self) -> Values:
        """The settings as Values; what is wrong goes to `problems`."""
        given = self.given
        self._one_of("cpu_shares", "cpu_weight")
        self._one_of("cpu_max", "cpu_quota_us")
        self._one_of("cpu_max", "cpu_period_us")
        quota, period = self._cpu_max()
        values = Values(
            cpu_shares=self._between("cpu_shares", MIN_SHARES, MAX_SHARES),
            cpu_weight=self._between("cpu_weight", 1, 10000),
            cpu_quota_us=quota,
            cpu_period_us=period,
            memory_limit=self._bytes("memory_max", given.get("memory_max")),
            memory_swap_max=self._bytes("memory_swap_max", given.get("memory_swap_max")),
            memory_oom_group=given.get("memory_oom_group"),
            pids_max=self._limit("pids_max"),
            cpuset_cpus=self._list("cpuset_cpus"),
            cpuset_mems=self._list("cpuset_mems"),
            hugetlb={
                size: number
                for size, text in (given.get("hugetlb") or {}).items()
                for number in [self._bytes(f"hugetlb.{size}", text)]
                if number is not None
            },
            io_weight=self._between("io_weight", 1, 10000),
            io_max=self._io_max(),
        )
        if values.memory_swap_max not in (None, UNLIMITED) and values.memory_limit in (None, UNLIMITED):
            self._problem("memory_swap_max", "needs memory_max: v1 counts memory and swap together", "Set memory_max")
        return values

    def _problem(self, key: str, text: str, remedy: str = "") -> None:
        self.problems.append(Problem(f"{self.place}.{key}", text, remedy))

    def _one_of(self, one: str, other: str) -> None:
        if self.given.get(one) is not None and self.given.get(other) is not None:
            self._problem(one, f"and {other} say the same thing", "Use one of the two")

    def _between(self, key: str, low: int, high: int) -> int | None:
        number: int | None = self.given.get(key)
        if number is not None and not low <= number <= high:
            self._problem(key, f"must be between {low} and {high}, not {number}")
        return number

    def _limit(self, key: str) -> int | None:
        text = self.given.get(key)
        if text is None:
            return None
        if text == "max":
            return UNLIMITED
        if not str(text).isdigit():
            self._problem(key, f"must be a number or max, not {text!r}")
            return None
        return int(text)

    def _bytes(self, key: str, text: Any) -> int | None:
        if text is None or text == "max":
            return None if text is None else UNLIMITED
        match = _BYTES.fullmatch(str(text))
        if match is None:
            self._problem(key, f"must be bytes (67108864, 64Mi) or max, not {text!r}", "Units are Ki, Mi, Gi, Ti")
            return None
        return int(match[1]) * _UNITS[match[2]]

    def _list(self, key: str) -> str | None:
        text: str | None = self.given.get(key)
        if text is not None and not _LIST.fullmatch(text):
            self._problem(key, f"must be a list like 0-2,4, not {text!r}")
        return text

    def _cpu_max(self) -> tuple[int | None, int]:
        given = self.given
        quota, period = given.get("cpu_quota_us"), given.get("cpu_period_us")
        if quota is None and period is not None:
            self._problem("cpu_period_us", "needs cpu_quota_us", "Give the quota too, -1 for none")
        words = str(given["cpu_max"]).split() if given.get("cpu_max") is not None else []
        key = "cpu_max" if words else "cpu_quota_us"
        if words:
            if len(words) > 2 or not all(word.isdigit() or (word == "max" and not n) for n, word in enumerate(words)):
                self._problem(key, f"must be 'QUOTA PERIOD' in us or max, not {given['cpu_max']!r}")
                return None, PERIOD_US
            quota = UNLIMITED if words[0] == "max" else int(words[0])
            period = int(words[1]) if len(words) == 2 else None
        if quota is not None and quota != UNLIMITED and quota < MIN_QUOTA_US:
            self._problem(key, f"must allow at least {MIN_QUOTA_US} us, not {quota}", "-1 is no limit")
        if period is not None and not 1000 <= period <= 1000000:
            self._problem(
                "cpu_max" if words else "cpu_period_us", f"must have a period of 1000 to 1000000 us, not {period}"
            )
        return quota, period or PERIOD_US

    def _io_max(self) -> dict[str, dict[str, int]]:
        found = {}
        for number, limits in enumerate(self.given.get("io_max") or []):
            device = limits["device"]
            if not _DEVICE.fullmatch(device):
                self._problem(f"io_max[{number}].device", f"must be MAJOR:MINOR, not {device!r}", "See lsblk")
            keys = [key for key in ("rbps", "wbps", "riops", "wiops") if limits.get(key) is not None]
            if not keys:
                self._problem(f"io_max[{number}]", "sets no limit", "Give rbps, wbps, riops or wiops; -1 is no limit")
            found[device] = {key: int(limits[key]) for key in keys}
        return found
