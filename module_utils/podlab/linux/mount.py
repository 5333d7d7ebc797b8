"""Mounts: option text and flags, overlay, bind, propagation, and the calls.

Sources: mount(2), mount(8), mount_namespaces(7).

A target may be a path or "/proc/self/fd/N": whoever resolved it safely stays in control of where the mount lands.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..errors import PodlabError
from . import syscalls
from .mountinfo import MountInfo, at, mounts, stack, under, visible

__all__ = [
    "MountInfo",
    "Options",
    "at",
    "bind",
    "mount",
    "mounts",
    "move",
    "overlay",
    "overlay_options",
    "parse_options",
    "remount",
    "set_propagation",
    "split_lowerdirs",
    "stack",
    "under",
    "unmount",
    "unquote",
    "visible",
]

MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_LAZYTIME = 1 << 25

# Option -> flag that it sets.
FLAGS: Mapping[str, int] = {
    "ro": syscalls.MS_RDONLY,
    "nosuid": syscalls.MS_NOSUID,
    "nodev": syscalls.MS_NODEV,
    "noexec": syscalls.MS_NOEXEC,
    "sync": syscalls.MS_SYNCHRONOUS,
    "dirsync": MS_DIRSYNC,
    "mand": MS_MANDLOCK,
    "nosymfollow": MS_NOSYMFOLLOW,
    "noatime": syscalls.MS_NOATIME,
    "nodiratime": syscalls.MS_NODIRATIME,
    "relatime": syscalls.MS_RELATIME,
    "strictatime": syscalls.MS_STRICTATIME,
    "lazytime": MS_LAZYTIME,
    "silent": syscalls.MS_SILENT,
    "bind": syscalls.MS_BIND,
    "rbind": syscalls.MS_BIND | syscalls.MS_REC,
    "remount": syscalls.MS_REMOUNT,
}
# Option -> flag that it takes away again.
CLEARS: Mapping[str, int] = {
    "rw": syscalls.MS_RDONLY,
    "suid": syscalls.MS_NOSUID,
    "dev": syscalls.MS_NODEV,
    "exec": syscalls.MS_NOEXEC,
    "async": syscalls.MS_SYNCHRONOUS,
    "nomand": MS_MANDLOCK,
    "symfollow": MS_NOSYMFOLLOW,
    "atime": syscalls.MS_NOATIME,
    "diratime": syscalls.MS_NODIRATIME,
    "norelatime": syscalls.MS_RELATIME,
    "nostrictatime": syscalls.MS_STRICTATIME,
    "nolazytime": MS_LAZYTIME,
    "loud": syscalls.MS_SILENT,
    "defaults": syscalls.MS_RDONLY
    | syscalls.MS_NOSUID
    | syscalls.MS_NODEV
    | syscalls.MS_NOEXEC
    | syscalls.MS_SYNCHRONOUS,
}
# One of these takes the place of another.
ATIMES = syscalls.MS_NOATIME | syscalls.MS_RELATIME | syscalls.MS_STRICTATIME
# The flags of a mount itself (not of its file system): what a bind mount can be given by remount.
PER_MOUNT = (
    syscalls.MS_RDONLY
    | syscalls.MS_NOSUID
    | syscalls.MS_NODEV
    | syscalls.MS_NOEXEC
    | MS_NOSYMFOLLOW
    | syscalls.MS_NODIRATIME
    | ATIMES
)
PROPAGATIONS: Mapping[str, int] = {
    "private": syscalls.MS_PRIVATE,
    "slave": syscalls.MS_SLAVE,
    "shared": syscalls.MS_SHARED,
    "unbindable": syscalls.MS_UNBINDABLE,
    "rprivate": syscalls.MS_PRIVATE | syscalls.MS_REC,
    "rslave": syscalls.MS_SLAVE | syscalls.MS_REC,
    "rshared": syscalls.MS_SHARED | syscalls.MS_REC,
    "runbindable": syscalls.MS_UNBINDABLE | syscalls.MS_REC,
}


class Options(NamedTuple):
    """Option words sorted by who reads them.

    flags: MS_* bits for mount(2). propagation: the words of PROPAGATIONS, in order. data: what is left, for the
    file system, comma-separated.
    """

    flags: int
    propagation: tuple[str, ...]
    data: str


def parse_options(words: Iterable[str]) -> Options:
    """Sort option words (each may be a comma-separated list without escapes); the later word wins."""
    flags, propagation, data = 0, [], []
    for word in words:
        for option in [word] if "=" in word else word.split(","):
            if option in FLAGS:
                if FLAGS[option] & ATIMES:
                    flags &= ~ATIMES
                flags |= FLAGS[option]
            elif option in CLEARS:
                flags &= ~CLEARS[option]
            elif option in PROPAGATIONS:
                propagation.append(option)
            elif option:
                data.append(option)
    return Options(flags, tuple(propagation), ",".join(data))


def flags_of(entry: MountInfo) -> int:
    """The per-mount MS_* flags that mountinfo shows for a mount."""
    return parse_options(entry.options).flags & PER_MOUNT


def _escape(path: str, letters: str) -> str:
    return "".join("\\" + letter if letter in letters else letter for letter in path)


def overlay_options(lowerdirs: Sequence[str], upper: str | None = None, work: str | None = None) -> str:
    """The options of an overlay: lowerdirs topmost first, `:` `,` and backslash in a directory's name escaped."""
    words = ["lowerdir=" + ":".join(_escape(path, "\\:,") for path in lowerdirs)]
    if upper is not None:
        words.append("upperdir=" + _escape(upper, "\\,"))
        words.append("workdir=" + _escape(work or "", "\\,"))
    return ",".join(words)


def split_lowerdirs(text: str) -> list[str]:
    """The directories of a lowerdir option, escapes undone (the inverse of overlay_options for that option)."""
    found, word, quoted = [], "", False
    for letter in text:
        if letter == ":" and not quoted:
            found.append(unquote(word))
            word = ""
        else:
            word += letter
        quoted = letter == "\\" and not quoted
    return [*found, unquote(word)]


def unquote(text: str) -> str:
    """A directory of an overlay option without the backslashes that quote its letters."""
    found, quoted = "", False
    for letter in text:
        if letter == "\\" and not quoted:
            quoted = True
            continue
        found, quoted = found + letter, False
    return found


def mount(source: str | None, target: str, fstype: str | None, options: Iterable[str] = ()) -> None:
    """Mount by option words as mount(8) takes them; propagation words become calls of their own. Raises OSError."""
    found = parse_options(options)
    syscalls.mount(source, target, fstype, found.flags, found.data or None)
    for kind in found.propagation:
        set_propagation(target, kind)


def bind(source: str, target: str, *, recursive: bool = False, options: Iterable[str] = ()) -> None:
    """Bind source on target; options (ro, nosuid, ...) by a remount, since the kernel ignores them in the first call.

    What the source's mount has set stays set, as the kernel demands of locked flags. Raises OSError.
    """
    syscalls.mount(source, target, None, syscalls.MS_BIND | (syscalls.MS_REC if recursive else 0))
    words = list(options)
    if words:
        remount(target, words, base=visible_flags(target))


_ST_FLAGS = {
    1: syscalls.MS_RDONLY,
    2: syscalls.MS_NOSUID,
    4: syscalls.MS_NODEV,
    8: syscalls.MS_NOEXEC,
    1024: syscalls.MS_NOATIME,
    2048: syscalls.MS_NODIRATIME,
    4096: syscalls.MS_RELATIME,
    8192: MS_NOSYMFOLLOW,
}


def visible_flags(target: str) -> int:
    """The per-mount MS_* flags of the mount at a path, as statvfs(3) shows them."""
    shown = os.statvfs(target).f_flag
    return sum(flag for bit, flag in _ST_FLAGS.items() if shown & bit)


def remount(target: str, options: Iterable[str], *, base: int = 0, whole: bool = False) -> None:
    """Change the flags of one mount (whole: of its file system, with its data). base: flags to start from.

    Raises OSError.
    """
    flags, data = base, []
    for word in options:
        found = parse_options([word])
        if found.flags & ATIMES:
            flags &= ~ATIMES
        flags = flags & ~CLEARS.get(word, 0) | found.flags
        data += [found.data] if found.data else []
    mode = syscalls.MS_REMOUNT | (0 if whole else syscalls.MS_BIND)
    syscalls.mount(None, target, None, flags | mode, ",".join(data) or None)


def set_propagation(target: str, kind: str) -> None:
    """Set the propagation of the mount at target; kind is a word of PROPAGATIONS. Raises OSError, KeyError."""
    syscalls.mount(None, target, None, PROPAGATIONS[kind])


def move(source: str, target: str) -> None:
    """Move the mount at source to target. Raises OSError."""
    syscalls.mount(source, target, None, syscalls.MS_MOVE)


def unmount(target: str, *, lazy: bool = False) -> None:
    """Unmount the topmost mount at target (lazy: now from sight, later in fact). Raises OSError."""
    syscalls.umount(target, (syscalls.MNT_DETACH if lazy else 0) | syscalls.UMOUNT_NOFOLLOW)


def overlay(
    target: str,
    lowerdirs: Sequence[str],
    upper: str | None = None,
    work: str | None = None,
    options: Iterable[str] = (),
) -> None:
    """Mount an overlay on an absolute target; lowerdirs topmost first.

    The kernel takes one page of options: when they are longer, the directories are given relative to the one they
    have in common. Raises OSError, and PodlabError when even that is too long.
    """
    found = parse_options(options)
    tail = "," + found.data if found.data else ""
    data = overlay_options(lowerdirs, upper, work) + tail
    page = os.sysconf("SC_PAGESIZE")
    if len(os.fsencode(data)) < page:
        syscalls.mount("overlay", target, "overlay", found.flags, data)
    else:
        common = os.path.commonpath(lowerdirs)
        short = [os.path.relpath(path, common) for path in lowerdirs]
        data = overlay_options(short, upper, work) + tail
        if len(os.fsencode(data)) >= page:
            raise PodlabError(
                f"Cannot mount an overlay on {target}: the names of its {len(lowerdirs)} lower directories take "
                f"{len(os.fsencode(data))} bytes, the kernel takes {page - 1}. Use shorter names or fewer layers"
            )
        with _working_directory(common):
            syscalls.mount("overlay", target, "overlay", found.flags, data)
    for kind in found.propagation:
        set_propagation(target, kind)


class _working_directory:
    """`with` the process's working directory set to path, and back."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> None:
        self.back = os.open(".", os.O_PATH | os.O_CLOEXEC)
        os.chdir(self.path)

    def __exit__(self, *error: object) -> None:
        os.fchdir(self.back)
        os.close(self.back)
