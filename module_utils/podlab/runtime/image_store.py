"""The image store on disk: refs/<quoted reference>.json, layers/<sha256>/, pause/<sha256>/, tmp/.

Whatever counts is put in place by one rename(2), so a kill at any time leaves nothing half-made: what it leaves is in
tmp/, and the next holder of the lock sweeps that. The whole store is 0700: layers hold setuid files and device
numbers from outside, which must not be reachable except through a container.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

from ..linux.syscalls import syncfs
from .files import remove_tree
from .paths import images_dir

_PROC = "/proc"
_held = False


def layers_dir() -> str:
    """One directory per layer, named by the sha256 of its diffID."""
    return f"{images_dir()}/layers"


def layer_dir(digest: str) -> str:
    """The directory of the layer with this digest (64 hex digits, with or without "sha256:")."""
    return f"{layers_dir()}/{digest.split(':')[-1]}"


def ref_file(reference: str) -> str:
    """Where the record of a normalised reference is."""
    return f"{images_dir()}/refs/{quote(reference, safe='')}.json"


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Make the store if need be, wait to be its only writer, and sweep what a killed writer left.

    Whoever holds the lock may take it again. The umask is 022 meanwhile: what is in an image is for everybody there.
    """
    global _held
    if _held:
        yield
        return
    root = images_dir()
    for name in ("", "refs", "layers", "pause", "tmp"):
        os.makedirs(os.path.join(root, name), mode=0o700, exist_ok=True)
    os.chmod(root, 0o700)
    with open(f"{root}/.lock", "a", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        umask = os.umask(0o022)
        _held = True
        try:
            for name in os.listdir(f"{root}/tmp"):
                _remove_tree(f"{root}/tmp/{name}")
            yield
        finally:
            _held = False
            os.umask(umask)
            # Said, not left to close(2): a process forked meanwhile has the descriptor too.
            fcntl.flock(lock, fcntl.LOCK_UN)


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """A new directory in the store, mode 0755, removed at the end unless it was adopted. Needs the lock."""
    path = tempfile.mkdtemp(dir=f"{images_dir()}/tmp")
    os.chmod(path, 0o755)
    try:
        yield path
    finally:
        _remove_tree(path)


def adopt(tree: str, target: str) -> str:
    """Make a finished tree count under its final path; one that is there already stays. Returns the path."""
    _to_disk(tree)
    try:
        os.rename(tree, target)
    except OSError:
        if not os.path.isdir(target):
            raise
    return target


def records() -> dict[str, dict[str, Any]]:
    """Every record of the store by reference; a damaged one is left out."""
    try:
        names = sorted(os.listdir(f"{images_dir()}/refs"))
    except FileNotFoundError:
        return {}
    found = {}
    for name in names:
        reference = unquote(name[: -len(".json")])
        record = read(reference) if name.endswith(".json") else None
        if record is not None:
            found[reference] = record
    return found


def read(reference: str) -> dict[str, Any] | None:
    """The record of a normalised reference when it and all of its layers are there."""
    try:
        with open(ref_file(reference), encoding="utf-8") as file:
            record = json.load(file)
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(record, dict) or not all(os.path.isdir(layer_dir(layer)) for layer in record.get("layers", [""])):
        return None
    return record


def write(reference: str, record: Mapping[str, Any]) -> None:
    """Put the record of a reference in place. Its layers must be there already. Needs the lock."""
    with scratch() as directory:
        path = f"{directory}/ref"
        with open(path, "w", encoding="utf-8") as file:
            json.dump(dict(record), file, indent=1, sort_keys=True)
        _to_disk(directory)
        os.rename(path, ref_file(reference))


def remove(reference: str) -> None:
    """Forget a reference, then remove the layers that no other image names and no mount uses. Needs the lock."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(ref_file(reference))
    wanted = {layer for record in records().values() for layer in record["layers"]}
    for layer in sorted(set(os.listdir(layers_dir())) - wanted):
        if not _mounted(layer):
            with scratch() as directory:
                # Out of sight first: a layer is whole or not there.
                os.rename(layer_dir(layer), f"{directory}/{layer}")


def tree_digest(tree: str) -> str:
    """sha256 over what a tree holds: names, kinds, modes, owners, contents; not times.

    Same content, same digest, whoever built it and whenever.
    """
    whole = hashlib.sha256()
    for directory, subdirectories, files in os.walk(tree):
        subdirectories.sort()
        for name in sorted([*files, *subdirectories]):
            path = os.path.join(directory, name)
            info = os.lstat(path)
            about = [os.path.relpath(path, tree), oct(info.st_mode), info.st_uid, info.st_gid, info.st_rdev]
            if stat.S_ISLNK(info.st_mode):
                about.append(os.readlink(path))
            elif stat.S_ISREG(info.st_mode):
                about.append(file_digest(path))
            whole.update(json.dumps(about).encode())
    return whole.hexdigest()


def file_digest(path: str) -> str:
    """sha256 of a file's content, hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _to_disk(path: str) -> None:
    """A name must not survive a power cut that its content did not."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        syncfs(fd)
    finally:
        os.close(fd)


def _mounted(layer: str) -> bool:
    """Whether a mount of any mount namespace names the layer."""
    for pid in filter(str.isdigit, os.listdir(_PROC)):
        with contextlib.suppress(OSError), open(f"{_PROC}/{pid}/mountinfo", encoding="utf-8", errors="replace") as file:
            if layer in file.read():
                return True
    return False


def _remove_tree(path: str) -> None:
    with contextlib.suppress(OSError):
        remove_tree(path)
