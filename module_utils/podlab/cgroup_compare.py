"""The text of a cgroup file compared with the one that is wanted: two spellings of one value are equal. Pure."""

from __future__ import annotations

import os

from .linux.cgroup_values import UNLIMITED

# A limit from here on is what v1 shows for none.
_NO_LIMIT = 1 << 62
_PAGE_SIZES = {"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


def same(file: str, wanted: str, have: str | None) -> bool:
    """Whether a control file (its base name) holds what would be written."""
    if have is None:
        return False
    if file in ("cpuset.cpus", "cpuset.mems"):
        return numbers(have) == numbers(wanted)
    if file.startswith("memory.") or file.startswith("hugetlb."):
        step = _step(file)
        return _bytes(have, step) == _bytes(wanted, step)
    if file == "io.max" or file.startswith("blkio.throttle."):
        device, *limits = wanted.split()
        return set(limits) <= set(shown_limits(file, have, device))
    if file == "io.weight":
        return have.split("\n")[0].split()[-1] == wanted.split()[-1]
    return have.split() == wanted.split()


def _step(file: str) -> int:
    """The kernel rounds a limit down to pages, a hugetlb limit to huge pages."""
    if file.startswith("hugetlb."):
        return page_bytes(file.split(".")[1])
    return os.sysconf("SC_PAGESIZE") if "limit" in file or "max" in file else 1


def page_bytes(size: str) -> int:
    """Bytes of a huge page that the kernel names "2MB". Raises KeyError, ValueError for another form."""
    return int(size[:-2]) * _PAGE_SIZES[size[-2:]]


def _bytes(text: str, step: int) -> int:
    number = UNLIMITED if text == "max" else int(text)
    return UNLIMITED if number < 0 or number >= _NO_LIMIT else number // step * step


def numbers(text: str) -> set[int]:
    """The numbers of a kernel list ("0-2,4")."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        if first:
            found.update(range(int(first), int(last if dash else first) + 1))
    return found


def shown_limits(file: str, text: str, device: str) -> list[str]:
    """What io.max or a blkio.throttle file says about a device; without a line there is no limit."""
    for line in text.split("\n"):
        words = line.split()
        if words and words[0] == device:
            return words[1:]
    return ["0"] if file.startswith("blkio.") else [f"{key}=max" for key in ("rbps", "wbps", "riops", "wiops")]


def shown(file: str, wanted: str, have: str | None) -> str | None:
    """The text for the diff: as wanted when it means the same, else as it is, of many devices' lines the one."""
    if same(file, wanted, have):
        return wanted
    if have is not None and (file == "io.max" or file.startswith("blkio.throttle.")):
        device = wanted.split()[0]
        return " ".join([device, *shown_limits(file, have, device)])
    return have
