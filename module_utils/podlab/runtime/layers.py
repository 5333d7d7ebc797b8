"""Unpack one layer of an image into a directory of its own, as overlayfs wants it.

The archive is hostile until proved otherwise: every name is resolved by the kernel inside the directory (openat2(2),
RESOLVE_IN_ROOT), nothing is opened through a link, and what cannot be put inside is refused with the entry's name.
Source: OCI image-spec layer.md; Documentation/filesystems/overlayfs.rst ("whiteouts and opaque directories").
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, Callable, cast

from ..errors import PodlabError
from ..linux.inside import open_directory
from .files import remove_tree

MAX_ENTRIES = 1_000_000
MAX_BYTES = 32 << 30

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
# aufs kept notes of its own under this prefix (.wh..wh.plnk); they are no files of the image.
_NOTES = ".wh..wh."
_OPAQUE_XATTR = "trusted.overlay.opaque"
# The only extended attributes that a layer may bring. trusted.overlay.redirect, say, would steer the mount.
_XATTRS = ("security.capability", "user.")
_PAX_XATTR = "SCHILY.xattr."
_LAST_SECOND = 2**33


class Refused(PodlabError):
    """An entry that cannot be put inside the layer's directory."""


def unpack(stream: IO[bytes], directory: str) -> list[str]:
    """Unpack an uncompressed tar stream into an existing, private, empty directory.

    Whiteouts become character devices 0:0, opaque markers the overlay attribute. Modes (setuid too), owners, times
    and file capabilities are kept; device nodes are left out, since the runtime gives each container its own /dev.
    Returns what was left out. Raises Refused for an entry that would land outside or is malformed.
    """
    notes: list[str] = []
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    entries = size = 0
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                cast(Any, archive).members = []  # tarfile remembers every header for ever otherwise
                entries, size = entries + 1, size + max(0, member.size)
                if entries > MAX_ENTRIES or size > MAX_BYTES:
                    raise Refused(f"the layer has more than {MAX_ENTRIES} entries or {MAX_BYTES >> 30} GiB")
                _put(root, archive, member, notes)
    except (tarfile.TarError, EOFError, zlib.error, ValueError, OverflowError, RecursionError) as error:
        raise Refused(f"the layer is not a sound tar archive: {error}") from error
    finally:
        os.close(root)
    return notes


def _put(root: int, archive: tarfile.TarFile, member: tarfile.TarInfo, notes: list[str]) -> None:
    parts = _parts(member.name, member.name)
    try:
        if not parts:
            if member.isdir():
                _set_attributes(root, member)
            return
        with _parent(root, parts, member.name) as parent:
            name = parts[-1]
            if name.startswith(_WHITEOUT):
                _put_whiteout(parent, name, member.name)
                return
            kind = next((put for test, put in _KINDS if test(member)), None)
            if kind is None:
                notes.append(f"{member.name}: left out (device node or unknown kind {member.type!r})")
                return
            kind(root, parent, name, archive, member)
    except OSError as error:
        raise Refused(f"cannot unpack entry {member.name!r}: {error.strerror or error}") from error


def _parts(name: str, entry: str) -> list[str]:
    """The components of a name, a leading slash dropped as tar(1) does. `..` has no business in a layer."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Refused(f"entry {entry!r} has '..' in its path")
    return parts


@contextlib.contextmanager
def _parent(root: int, parts: list[str], entry: str) -> Iterator[int]:
    try:
        fd = open_directory(root, parts[:-1], _make_parent)
    except NotADirectoryError as error:
        raise Refused(f"entry {entry!r} goes through {error.filename!r}, no directory of this layer") from error
    try:
        yield fd
    finally:
        os.close(fd)


def _make_parent(parent: int, name: str) -> bool:
    return _make_directory(parent, name, replace=False)


def _make_directory(parent: int, name: str, replace: bool) -> bool:
    """A directory, opaque when the layer also has a whiteout of that name: lower ones must not show through."""
    info = _lstat(parent, name)
    if info is not None and stat.S_ISDIR(info.st_mode):
        return True
    opaque = info is not None and _is_whiteout(info)
    if info is not None and not opaque and not replace:
        return False
    if info is not None:
        os.unlink(name, dir_fd=parent)
    os.mkdir(name, 0o755, dir_fd=parent)
    if opaque:
        _make_opaque(parent, name)
    return True


def _put_whiteout(parent: int, name: str, entry: str) -> None:
    if name == _OPAQUE:
        os.setxattr(parent, _OPAQUE_XATTR, b"y")
        return
    if name.startswith(_NOTES):
        return
    hidden = name[len(_WHITEOUT) :]
    if hidden in ("", ".", ".."):
        raise Refused(f"entry {entry!r} is a whiteout of nothing")
    info = _lstat(parent, hidden)
    if info is None:
        os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
    elif stat.S_ISDIR(info.st_mode):
        # A whiteout hides what is below; what this very layer has of that name stays.
        _make_opaque(parent, hidden)


def _put_directory(root: int, parent: int, name: str, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    _make_directory(parent, name, replace=True)
    with _opened(parent, name, os.O_RDONLY | os.O_DIRECTORY) as fd:
        _set_attributes(fd, member)


def _put_file(root: int, parent: int, name: str, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    _make_way(parent, name)
    source = archive.extractfile(member)
    with _opened(parent, name, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as fd:
        if source is not None:
            with open(fd, "wb", closefd=False) as target:
                shutil.copyfileobj(source, target, 1 << 20)
        _set_attributes(fd, member)


def _put_symlink(root: int, parent: int, name: str, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    # The target is only text here; it means something inside the container alone.
    _make_way(parent, name)
    os.symlink(member.linkname, name, dir_fd=parent)
    os.chown(name, *_owner(member), dir_fd=parent, follow_symlinks=False)
    os.utime(name, (_time(member), _time(member)), dir_fd=parent, follow_symlinks=False)


def _put_hardlink(root: int, parent: int, name: str, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    target = _parts(member.linkname, member.name)
    if not target:
        raise Refused(f"entry {member.name!r} is a hard link to a directory")
    with _parent(root, target, member.name) as there:
        info = _lstat(there, target[-1])
        if info is None or stat.S_ISDIR(info.st_mode):
            raise Refused(f"entry {member.name!r} is a hard link to {member.linkname!r}, no file of this layer")
        mine = _lstat(parent, name)
        if mine is not None and (mine.st_dev, mine.st_ino) == (info.st_dev, info.st_ino):
            return
        _make_way(parent, name)
        os.link(target[-1], name, src_dir_fd=there, dst_dir_fd=parent, follow_symlinks=False)


def _put_fifo(root: int, parent: int, name: str, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    _make_way(parent, name)
    os.mkfifo(name, 0o600, dir_fd=parent)
    with _opened(parent, name, os.O_RDONLY | os.O_NONBLOCK) as fd:
        _set_attributes(fd, member)


_Put = Callable[[int, int, str, tarfile.TarFile, tarfile.TarInfo], None]
_KINDS: tuple[tuple[Callable[[tarfile.TarInfo], bool], _Put], ...] = (
    (tarfile.TarInfo.isreg, _put_file),
    (tarfile.TarInfo.isdir, _put_directory),
    (tarfile.TarInfo.issym, _put_symlink),
    (tarfile.TarInfo.islnk, _put_hardlink),
    (tarfile.TarInfo.isfifo, _put_fifo),
)


@contextlib.contextmanager
def _opened(parent: int, name: str, flags: int) -> Iterator[int]:
    fd = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)


def _make_way(parent: int, name: str) -> None:
    """Remove what an earlier entry of the same layer put there: the last one wins."""
    info = _lstat(parent, name)
    if info is None:
        return
    if stat.S_ISDIR(info.st_mode):
        remove_tree(f"/proc/self/fd/{parent}/{name}")
    else:
        os.unlink(name, dir_fd=parent)


def _set_attributes(fd: int, member: tarfile.TarInfo) -> None:
    os.fchown(fd, *_owner(member))
    os.fchmod(fd, member.mode & 0o7777)  # after chown, which clears setuid
    for key, value in member.pax_headers.items():
        attribute = key[len(_PAX_XATTR) :] if key.startswith(_PAX_XATTR) else ""
        if attribute.startswith(_XATTRS):
            with contextlib.suppress(OSError):  # user.* is not for every kind of file, nor for every file system
                os.setxattr(fd, attribute, value.encode("utf-8", "surrogateescape"))
    os.utime(fd, (_time(member), _time(member)))


def _owner(member: tarfile.TarInfo) -> tuple[int, int]:
    # 2**32 - 1 means "leave alone" to chown(2): the file would keep our own uid, root.
    if not (0 <= member.uid < 2**32 - 1 and 0 <= member.gid < 2**32 - 1):
        raise Refused(f"entry {member.name!r} has an impossible owner {member.uid}:{member.gid}")
    return member.uid, member.gid


def _time(member: tarfile.TarInfo) -> float:
    return min(max(0.0, float(member.mtime)), _LAST_SECOND)


def _lstat(parent: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_whiteout(info: os.stat_result) -> bool:
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def _make_opaque(parent: int, name: str) -> None:
    with _opened(parent, name, os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.setxattr(fd, _OPAQUE_XATTR, b"y")
