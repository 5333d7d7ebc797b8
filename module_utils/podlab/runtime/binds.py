"""Binding inside a container's root, by descriptors alone: what is bound, and the place where it appears.

Whoever swaps a path meanwhile, as one who shares a volume may (CVE-2021-30465), gets neither the mount elsewhere nor
its flags: after the attachment it is the copy's own descriptor that is worked with.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from ..linux import syscalls as sys
from ..linux.mount import visible_flags

PROPAGATION = {
    "None": sys.MS_PRIVATE | sys.MS_REC,
    "HostToContainer": sys.MS_SLAVE | sys.MS_REC,
    "Bidirectional": sys.MS_SHARED | sys.MS_REC,
}


class Options(NamedTuple):
    """flags: MS_* of the mount itself. recursive_read_only: "Enabled", "IfPossible", else nothing of what is below."""

    flags: int = 0
    propagation: str = ""
    recursive_read_only: str = ""


def copy_path(path: str) -> int:
    """A detached copy of what is mounted at a path of ours, and below it."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return sys.copy_mount(fd)
    finally:
        os.close(fd)


def attach(tree: int, target: int, options: Options) -> None:
    """Attach a detached copy, which is closed, to the place behind another descriptor. Raises OSError."""
    place = f"/proc/self/fd/{tree}"
    try:
        sys.move_mount(tree, target, "")
        if options.flags:
            # What the source's mount has set stays set.
            sys.mount(None, place, None, sys.MS_BIND | sys.MS_REMOUNT | options.flags | visible_flags(place))
        if options.recursive_read_only in ("Enabled", "IfPossible"):
            _make_all_read_only(tree, options)
        # A bind is in the peer group of where it comes from: what is mounted there later must not come in by itself.
        sys.mount(None, place, None, PROPAGATION[options.propagation or "None"])
    finally:
        os.close(tree)


def _make_all_read_only(tree: int, options: Options) -> None:
    try:
        sys.mount_setattr(tree, attr_set=sys.MOUNT_ATTR_RDONLY, recursive=True)
    except OSError as error:
        if error.errno != errno.ENOSYS or options.recursive_read_only == "Enabled":
            raise
