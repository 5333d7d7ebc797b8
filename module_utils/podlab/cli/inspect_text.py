"""What `inspect` prints for a person."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import top_units

NARROWEST, WIDEST = 80, 100
TITLE = 14
_UNLIMITED = -1
_SETS = {"bounding": "Bnd", "permitted": "Prm", "effective": "Eff", "inheritable": "Inh", "ambient": "Amb"}
# Where a mount has what everybody expects, it is left out of the line; -o json has all.
_USUAL_OPTIONS = ("relatime",)
# The whole range of ids, mapped to itself: the machine's own user namespace.
_EVERY_ID = (0, 0, 4294967295)


def width() -> int:
    """As wide as the terminal, within what can be read."""
    return min(WIDEST, max(NARROWEST, shutil.get_terminal_size((WIDEST, 24)).columns))


def text(found: Mapping[str, Any], columns: int) -> str:
    """The whole of it, in so many columns."""
    parent = found["cgroup"]["path"]
    insides = [one for one in (found["pause"], *found["containers"]) if one]
    blocks = [_pod(found), *(_container(one, parent) for one in insides)]
    return "\n".join("".join(_wrapped(line, columns) for line in block) for block in blocks)


def _wrapped(line: tuple[str, str], columns: int) -> str:
    """One line: title and value; folded below the value. A title alone is a heading."""
    title, value = line
    if not value:
        return f"{title}\n"
    start = title.ljust(TITLE) if len(title) < TITLE else title + "  "
    room = max(20, columns - len(start))
    parts = textwrap.wrap(value, room, break_long_words=False, break_on_hyphens=False) or [""]
    return "".join(f"{(' ' * len(start) if number else start)}{part}\n" for number, part in enumerate(parts))


def _pod(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    pod = found["pod"]
    return [
        ("Pod", f"{pod['namespace']}/{pod['name']}"),
        ("Node", pod["node"]),
        ("UID", pod["uid"]),
        ("Status", f"{pod['phase']}, {pod['podIP'] or 'no address'}, {pod['qosClass']}"),
        ("Supervisor", f"pid {found['supervisor']['pid']}"),
        *_cgroup(found["cgroup"], ""),
    ]


def _container(one: Mapping[str, Any], parent: str) -> list[tuple[str, str]]:
    """parent: the pod's cgroup."""
    if not one["pid"]:
        return [(f"Container {one['name']}: {one.get('state') or 'waiting'}, no process", "")]
    head = one["name"] if "image" not in one else f"Container {one['name']}"
    lines = [
        (f"{head}: pid {_numbers(one['pids'])}", ""),
        ("  Command", " ".join(one["command"].split())),
        *([("  Image", one["image"])] if one.get("image") else []),
        ("  Namespaces", ""),
        *(_namespace(each) for each in one["namespaces"]),
        *_identity(one),
        *_capabilities(one["capabilities"]),
        ("  NoNewPrivs", "yes" if one["noNewPrivs"] else "no"),
        ("  Seccomp", _seccomp(one["seccomp"])),
        ("  OOM score", f"oom_score_adj {one['oomScoreAdj']}"),
    ]
    if "image" not in one:
        return [*lines, ("  Root", _mount(one["mounts"][0])), *_indented(_cgroup(one["cgroup"], parent))]
    return [
        *lines,
        ("  Limits", ", ".join(_limit(each) for each in one["limits"] if each["soft"] != _UNLIMITED)),
        ("  Directory", f"{one['cwd']}, root {one['root']}"),
        *_indented(_cgroup(one["cgroup"], parent)),
        ("  Mounts", ""),
        *(line for each in one["mounts"] for line in _mounts(each, one["cgroup"]["path"])),
        ("  Descriptors", ", ".join(f"{each['fd']} {each['target']}" for each in one["descriptors"])),
        ("  Processes", ""),
        *((f"    {each['pid']} = {each['inside']}", " ".join(each["command"].split())) for each in one["processes"]),
    ]


def _numbers(pids: Sequence[int]) -> str:
    """The pid in each PID namespace that the process is in."""
    inner = [f"{pid} {where}" for pid, where in zip(pids[1:], ("in its node", "inside"))]
    return ", ".join([f"{pids[0]} on this machine", *inner])


def _indented(lines: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for title, value in lines:
        yield f"  {title}", value


def _namespace(each: Mapping[str, Any]) -> tuple[str, str]:
    shared = each["sharedWith"]
    # Who is in the machine's or the node's is with all others there, too.
    wide = [f"{name}'s" for name in shared if name.startswith(("the machine", "node "))][:1]
    return f"    {each['type']}", f"{each['inode']}  {', '.join(wide or shared) or 'nobody else'}"


def _identity(one: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    user = one["user"]
    groups = " ".join(str(number) for number in user["groups"]) or "none"
    yield "  User", f"uid {_same(user['uid'])}, gid {_same(user['gid'])}, groups {groups}, umask {one['umask']}"
    for title, key in (("  User map", "uidMap"), ("  Group map", "gidMap")):
        yield title, "; ".join(_mapped(row) for row in user[key]) or "unknown"


def _same(numbers: Sequence[int]) -> str:
    """One number when real, effective, saved and the file system's are the same."""
    return str(numbers[0]) if len(set(numbers)) == 1 else "/".join(map(str, numbers))


def _mapped(row: Mapping[str, int]) -> str:
    if tuple(row.values()) == _EVERY_ID:
        return "the machine's own ids"
    return f"{row['inside']} is {row['outside']}, {row['size']} of them"


def _capabilities(sets: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    yield "  Capabilities", ""
    seen: dict[tuple[str, ...], str] = {}
    for name, short in _SETS.items():
        held = tuple(sets[name])
        yield f"    {short}", f"as {seen[held]}" if held in seen else " ".join(held) or "none"
        if held:
            seen.setdefault(held, short)


def _seccomp(seccomp: Mapping[str, Any]) -> str:
    count = seccomp["filters"]
    return f"{seccomp['mode']}, {count} filter{'s' if count > 1 else ''}" if count else seccomp["mode"]


def _limit(each: Mapping[str, Any]) -> str:
    name = each["name"].removeprefix("Max ")
    hard = "unlimited" if each["hard"] == _UNLIMITED else each["hard"]
    return f"{name} {each['soft']}" if each["soft"] == hard else f"{name} {each['soft']} of {hard}"


def _cgroup(found: Mapping[str, Any], parent: str) -> list[tuple[str, str]]:
    """parent: a path that is not said again."""
    settings, usage = found["settings"], found["usage"]
    lines = [("Cgroup", found["path"].replace(f"{parent}/", ".../", 1) if parent else found["path"])]
    odd = {key: path for key, path in (found.get("paths") or {}).items() if path != found["path"]}
    lines += [(f"  in {key}", path) for key, path in odd.items()]
    if settings:
        lines.append(("  Settings", ", ".join(_settings(settings))))
    if usage:
        lines.append(("  Usage", ", ".join(_usage(usage))))
    return lines


def _settings(settings: Mapping[str, Any]) -> Iterator[str]:
    for key, title in (("cpuShares", "cpu shares"), ("cpuWeight", "cpu weight")):
        if key in settings:
            yield f"{title} {settings[key]}"
    quota = settings.get("cpuQuotaUs", _UNLIMITED)
    yield "no cpu quota" if quota < 0 else f"cpu quota {quota} of {settings['cpuPeriodUs']} us"
    for key, title in (("memoryLimit", "memory"), ("memorySwapMax", "swap")):
        if key in settings:
            yield f"{title} {'unlimited' if settings[key] < 0 else top_units.mebibytes(settings[key])}"
    if "pidsMax" in settings:
        yield f"pids {'unlimited' if settings['pidsMax'] < 0 else settings['pidsMax']}"
    if "cpusetCpus" in settings:
        yield f"cpus {settings['cpusetCpus']}"
    for size, limit in (settings.get("hugetlb") or {}).items():
        if limit >= 0:
            yield f"hugepages of {size} {top_units.mebibytes(limit)}"


def _usage(usage: Mapping[str, int]) -> Iterator[str]:
    yield f"cpu {usage['cpuUsageUs'] / 1_000_000:.2f} s"
    yield f"throttled {usage['nrThrottled']} of {usage['nrPeriods']} periods, {usage['throttledUs'] / 1000:.0f} ms"
    if "memoryBytes" in usage:
        used, working = usage["memoryBytes"], usage["memoryWorkingSet"]
        yield f"memory {top_units.mebibytes(used)}, of that working set {top_units.mebibytes(working)}"
    if "pids" in usage:
        yield f"pids {usage['pids']}"
    if usage.get("oomKill"):
        yield f"killed for memory {usage['oomKill']}"


def _mounts(each: Mapping[str, Any], cgroup: str) -> Iterator[tuple[str, str]]:
    """cgroup: the container's own path."""
    own = each["root"] == cgroup
    yield f"    {each['target']:<26}", f"{_mount(each)}{' its own' if own else ''}"
    if each["root"] != "/" and not own and not each["guard"]:
        yield "      from", each["root"]


def _mount(each: Mapping[str, Any]) -> str:
    """Type, options, what is odd about it."""
    options = ",".join(option for option in each["options"] if option not in _USUAL_OPTIONS)
    parts = [each["type"], options]
    if each["guard"]:
        parts.append(each["guard"])
    if each["propagation"] != "private":
        parts.append(each["propagation"])
    return " ".join(parts)
