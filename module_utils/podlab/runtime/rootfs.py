"""A root directory made of this machine's binaries: built beside its place, put there by a rename, marked as ours."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import lzma
import os
import shutil
import tempfile
from typing import IO, Any, NamedTuple, cast

from ..errors import PodlabError
from ..linux import mountinfo
from . import image_store, layers, tree

# On the directory itself, so that nothing of ours is to be seen inside.
MARK = "trusted.podlab.rootfs"
_OPENERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


class File(NamedTuple):
    """One file of a root: its text, or a copy of a file of this machine (source). mode: None keeps the source's."""

    path: str
    content: str
    source: str
    mode: int | None


class Request(NamedTuple):
    """What a root shall hold. directories: (path, mode). links: (path, target). busybox: path of one, or empty."""

    binaries: tuple[str, ...]
    busybox: str
    tar: str
    directories: tuple[tuple[str, int], ...]
    files: tuple[File, ...]
    links: tuple[tuple[str, str], ...]


class Mark(NamedTuple):
    """want: digest of the request and of what it names. have: digest of the tree as it was built."""

    want: str
    have: str


def read_mark(path: str) -> Mark | None:
    """The mark of a directory that podlab made; None for any other."""
    try:
        words = json.loads(os.getxattr(path, MARK, follow_symlinks=False))
        return Mark(str(words["want"]), str(words["have"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def untouched(path: str, mark: Mark) -> bool:
    """Whether the tree still is as it was built."""
    return image_store.tree_digest(path) == mark.have


def users(path: str) -> list[str]:
    """Why the directory must not be replaced or removed: the mounts on it, below it, or made of it."""
    real = os.path.realpath(path)
    table = mountinfo.mounts()
    below = [entry.mount_point for entry in mountinfo.under(table, real)]
    above = [entry.mount_point for entry in table if _made_of(entry, real)]
    return list(dict.fromkeys([*below, *above]))


def _made_of(entry: mountinfo.MountInfo, path: str) -> bool:
    directories = [part for option in entry.super_options for part in option.partition("=")[2].split(":")]
    return entry.fstype == "overlay" and any(part == path or part.startswith(f"{path}/") for part in directories)


def build(path: str, request: Request, want: str) -> list[str]:
    """Make the root and put it at path, in place of one of ours. Returns what the archive had and was left out."""
    parent = os.path.dirname(path)
    os.makedirs(parent, exist_ok=True)
    _sweep(path)
    work = tempfile.mkdtemp(prefix=_prefix(path), dir=parent)
    umask = os.umask(0o022)
    try:
        top = f"{work}/new"
        os.mkdir(top, 0o755)
        notes = _fill(top, request)
        mark = json.dumps({"want": want, "have": image_store.tree_digest(top)})
        os.setxattr(top, MARK, mark.encode())
        if os.path.isdir(path):
            _check_ours(path)
            os.rename(path, f"{work}/old")
        os.rename(top, path)
    finally:
        os.umask(umask)
        shutil.rmtree(work)
    return notes


def remove(path: str) -> None:
    """Remove a root that carries our mark: out of sight first, then file by file."""
    _check_ours(path)
    _sweep(path)
    work = tempfile.mkdtemp(prefix=_prefix(path), dir=os.path.dirname(path))
    os.rename(path, f"{work}/old")
    shutil.rmtree(work)


def _check_ours(path: str) -> None:
    busy = users(path)
    if busy:
        raise PodlabError(f"Cannot change {path}: it is in use by the mounts {', '.join(busy)}. Unmount them first.")
    if read_mark(path) is None and os.listdir(path):
        raise PodlabError(f"Cannot change {path}: podlab did not make it. Move it away, or choose another path.")


def _prefix(path: str) -> str:
    return f".{os.path.basename(path)}.podlab-"


def _sweep(path: str) -> None:
    """What a killed run left beside the place."""
    parent, prefix = os.path.dirname(path), _prefix(path)
    for name in os.listdir(parent):
        if name.startswith(prefix) and not users(f"{parent}/{name}"):
            shutil.rmtree(f"{parent}/{name}")


def _fill(top: str, request: Request) -> list[str]:
    notes = unpack(request.tar, top) if request.tar else []
    if request.busybox:
        tree.put_file(top, "/bin/busybox", request.busybox)
        tree.put_applets(top, request.busybox)
    tree.put_binaries(top, request.binaries)
    for path, mode in request.directories:
        tree.put_directory(top, path, mode)
    for file in request.files:
        if file.source:
            tree.put_file(top, file.path, file.source, file.mode)
        else:
            tree.put_text(top, file.path, file.content, 0o644 if file.mode is None else file.mode)
    for path, target in request.links:
        tree.put_link(top, path, target)
    return notes


def unpack(archive: str, directory: str) -> list[str]:
    """Unpack a tar file (plain, gzip, bzip2 or xz) as confined as an image's layer."""
    with open(archive, "rb") as file:
        head = file.read(6)
    opener = next((opener for magic, opener in _OPENERS.items() if head.startswith(magic)), open)
    try:
        with contextlib.closing(cast("IO[bytes]", opener(archive, "rb"))) as plain:
            return layers.unpack(plain, directory)
    except (layers.Refused, OSError, EOFError, lzma.LZMAError) as error:
        raise PodlabError(f"Cannot unpack {archive}: {error}") from error
