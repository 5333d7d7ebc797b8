"""/proc/PID/mountinfo as data (proc_pid_mountinfo(5)). Parsers take text; only `mounts` opens a file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class MountInfo(NamedTuple):
    """One line of mountinfo, escapes (\\040 and so on) undone.

    device: "major:minor". root: the directory of the file system that is mounted. options: of this mount ("rw",
    "nosuid"). tags: the optional fields ("shared:1", "master:2", "unbindable"). super_options: of the file system.
    """

    mount_id: int
    parent_id: int
    device: str
    root: str
    mount_point: str
    options: tuple[str, ...]
    tags: tuple[str, ...]
    fstype: str
    source: str
    super_options: tuple[str, ...]

    @property
    def propagation(self) -> str:
        """ "private", "shared", "slave", "slave,shared" or "unbindable"."""
        kinds = [tag.partition(":")[0] for tag in self.tags]
        if "unbindable" in kinds:
            return "unbindable"
        names = [name for tag, name in (("master", "slave"), ("shared", "shared")) if tag in kinds]
        return ",".join(names) or "private"


def unescape(text: str) -> str:
    """Undo mountinfo's octal escapes of space, tab, newline, backslash and hash."""
    if "\\" not in text:
        return text
    parts = text.split("\\")
    found = [parts[0]]
    for part in parts[1:]:
        digits = part[:3]
        if len(digits) == 3 and all(digit in "01234567" for digit in digits):
            found.append(chr(int(digits, 8)) + part[3:])
        else:
            found.append("\\" + part)
    return "".join(found)


def split_options(text: str) -> tuple[str, ...]:
    """The super options of a mountinfo line at their commas, escapes undone.

    A comma inside an overlay directory is shown as \\134\\054 by newer kernels and as \\134, by older ones: in both
    it belongs to the option, and comes out as it was typed, behind a backslash.
    """
    found: list[str] = []
    for part in text.split(","):
        if found and _ends_quoted(found[-1]):
            found[-1] += "," + part
        else:
            found.append(part)
    return tuple(unescape(option) for option in found if option)


def _ends_quoted(text: str) -> bool:
    count = 0
    while text.endswith("\\134"):
        text = text[:-4]
        count += 1
    return count % 2 == 1


def parse(text: str) -> list[MountInfo]:
    """The entries of a mountinfo text, in its order. Lines that are not of its form are passed over."""
    found = []
    for line in text.split("\n"):
        left, dash, right = line.partition(" - ")
        words, rest = left.split(" "), right.split(" ")
        if not dash or len(words) < 6 or len(rest) < 3:
            continue
        found.append(
            MountInfo(
                int(words[0]),
                int(words[1]),
                words[2],
                unescape(words[3]),
                unescape(words[4]),
                tuple(words[5].split(",")),
                tuple(word for word in words[6:] if word),
                rest[0],
                unescape(rest[1]),
                split_options(" ".join(rest[2:])),
            )
        )
    return found


def mounts(pid: int | str = "self") -> list[MountInfo]:
    """The mount table that process pid sees. Raises OSError."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return parse(file.read())


def _below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def visible(table: Iterable[MountInfo], path: str) -> MountInfo | None:
    """The mount in which an absolute, symlink-free path is found: the way of the kernel's path walk.

    From the root down, the first mount point met on the way wins, and of mounts stacked on it the last; so a mount
    that is hidden beneath another is never returned.
    """
    entries = list(table)
    ids = {entry.mount_id for entry in entries}
    children: dict[int, list[MountInfo]] = {}
    starts = []
    for entry in entries:
        if entry.parent_id in ids and entry.parent_id != entry.mount_id:
            children.setdefault(entry.parent_id, []).append(entry)
        else:
            starts.append(entry)
    found: MountInfo | None = None
    candidates = starts
    while True:
        onward = [entry for entry in candidates if _below(path, entry.mount_point)]
        if not onward:
            return found
        found = min(onward, key=lambda entry: len(entry.mount_point))
        candidates = children.get(found.mount_id, [])


def at(table: Iterable[MountInfo], path: str) -> MountInfo | None:
    """The topmost visible mount whose mount point is path; None when path is no mount point."""
    entry = visible(table, path)
    return entry if entry is not None and entry.mount_point == path else None


def stack(table: Iterable[MountInfo], path: str) -> list[MountInfo]:
    """The mounts one over the other at path that can be reached, topmost first."""
    entries = list(table)
    by_id = {entry.mount_id: entry for entry in entries}
    found = []
    entry = at(entries, path)
    while entry is not None and entry.mount_point == path and entry not in found:
        found.append(entry)
        entry = by_id.get(entry.parent_id)
    return found


def under(table: Iterable[MountInfo], path: str) -> list[MountInfo]:
    """The mounts at path and below it, topmost first: an order in which they can be unmounted."""
    entries = list(table)
    parents = {entry.mount_id: entry.parent_id for entry in entries}

    def depth(entry: MountInfo) -> int:
        count, seen, here = 0, set(), entry.mount_id
        while here in parents and here not in seen:
            seen.add(here)
            here = parents[here]
            count += 1
        return count

    return sorted((entry for entry in entries if _below(entry.mount_point, path)), key=depth, reverse=True)
