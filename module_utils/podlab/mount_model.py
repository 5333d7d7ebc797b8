"""The mount table as it will be after the steps planned so far, so that a list of mounts is planned exactly.

Nothing is touched: what the kernel would answer is asked of a `Look`, and of the mounts that are only planned.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence, Set
from typing import NamedTuple

from .linux.mount import flags_of
from .linux.mountinfo import MountInfo, at, stack, visible
from .mount_want import Wanted


class Look(NamedTuple):
    """What is there in one mount namespace.

    table: its mount table. kind: path -> "dir", "file" or "" when missing. real: path -> without symbolic links.
    made: (path, paths that will be gone) -> mountpoints made by us that go with it, deepest first.
    """

    table: Sequence[MountInfo]
    kind: Callable[[str], str]
    real: Callable[[str], str]
    made: Callable[[str, Set[str]], list[str]]


class Model:
    """A Look and the changes planned on it."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.table = list(look.table)
        self.planned: dict[int, Wanted] = {}
        self.made: set[str] = set()
        self.gone: set[str] = set()
        self.bare: dict[str, str] = {}  # path -> kind, of mountpoints whose mount goes away: they stay behind

    def top(self, path: str) -> MountInfo | None:
        """The mount on path that one sees."""
        return at(self.table, path)

    def stack(self, path: str) -> list[MountInfo]:
        """All mounts on path, topmost first."""
        return stack(self.table, path)

    def above(self, entry: MountInfo) -> list[MountInfo]:
        """The mounts that sit on a mount, directly or not, in an order in which they can be unmounted."""
        found = [entry]
        for place in found:
            found += [child for child in self.table if child.parent_id == place.mount_id and child not in found]
        return found[:0:-1]

    def kind(self, path: str) -> str:
        """What there will be at path: "dir", "file" or ""."""
        if path in self.bare:
            return self.bare[path]
        if path in self.made:
            return "dir"
        entry = visible(self.table, path)
        want = self.planned.get(entry.mount_id) if entry else None
        if want is None:
            return self.look.kind(path)
        rest = os.path.relpath(path, want.path)
        if want.binds:
            return self.kind(os.path.normpath(os.path.join(want.source, rest)))
        if rest == ".":
            return "dir"
        if want.type == "overlay":
            places = [want.upperdir, *want.lowerdirs] if want.upperdir else list(want.lowerdirs)
            return next(filter(None, (self.kind(os.path.join(place, rest)) for place in places)), "")
        return "" if want.type == "tmpfs" else "dir"  # proc, sysfs and their like bring their own directories

    def shows(self, source: str) -> tuple[str, str]:
        """(device, root) that a bind mount of source has in mountinfo."""
        entry = visible(self.table, source)
        if entry is None:
            return "", source
        rest = os.path.relpath(source, entry.mount_point)
        return entry.device, os.path.normpath(os.path.join(entry.root, rest)) if rest != "." else entry.root

    def flags(self, source: str) -> int:
        """The per-mount flags that a bind mount of source takes over."""
        entry = visible(self.table, source)
        return flags_of(entry) if entry else 0

    def made_mountpoints(self, path: str) -> list[str]:
        """What can be removed once path has no mount: our mountpoints up to the first that is mounted on itself."""
        found = []
        for place in self.look.made(path, self.gone):
            if self.top(place) is not None:
                break
            found.append(place)
        return found

    def parent_propagation(self, path: str) -> str:
        """The propagation of the mount in which path lies: shared is inherited by what is mounted there."""
        entry = visible(self.table, os.path.dirname(path))
        return entry.propagation if entry else "private"

    def will_mount(self, want: Wanted) -> MountInfo:
        """Note a mount as made; returns its entry as far as it can be known."""
        number = max((entry.mount_id for entry in self.table), default=0) + 1
        under = visible(self.table, want.path)
        device, root = self.shows(want.source) if want.binds else (f"planned:{number}", "/")
        tags = ("shared:0",) if "shared" in self._inherited(want) else ()
        entry = MountInfo(
            number, under.mount_id if under else 0, device, root, want.path, (), tags, want.type, want.device, ()
        )
        self.table.append(entry)
        self.planned[number] = want
        self.bare.pop(want.path, None)
        return entry

    def _inherited(self, want: Wanted) -> str:
        shown = visible(self.table, want.source) if want.binds else None
        return ",".join((self.parent_propagation(want.path), shown.propagation if shown else ""))

    def will_unmount(self, entry: MountInfo) -> None:
        """Note a mount as gone."""
        self.bare[entry.mount_point] = self.kind(entry.mount_point)
        self.table.remove(entry)
