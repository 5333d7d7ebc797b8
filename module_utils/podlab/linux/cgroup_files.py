"""The files and directories of one cgroup tree: written, read, made, handed down to."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from ..errors import PodlabError

# On the root of a v2 tree: the controllers that were switched on there by us, to be switched off at the end.
_MARK = "trusted.podlab.controllers"


def check_path(path: str) -> None:
    """Raise PodlabError unless path is relative and stays below the root."""
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") for part in parts):
        raise PodlabError(f"cgroup path must be relative without empty, '.' or '..' parts, not {path!r}")


def put(file: str, text: str) -> None:
    """Write text to a control file in one write(2). Raises OSError naming the file."""
    fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise OSError(error.errno, f"write {text!r}: {os.strerror(error.errno or 0)}", file) from error
    finally:
        os.close(fd)


_HINTS = {
    errno.EINVAL: "the kernel does not take this value here; it may exceed what the parent cgroup allows",
    errno.EBUSY: "the cgroup is in use: the value is below what its processes hold",
    errno.ENOENT: "this kernel has no such file",
    errno.ENODEV: "there is no such device",
    errno.ERANGE: "the value is out of the kernel's range",
}


def set_file(file: str, text: str) -> None:
    """`put` with a sentence for what the kernel refuses. Raises PodlabError."""
    try:
        put(file, text)
    except OSError as error:
        hint = _HINTS.get(error.errno or 0, os.strerror(error.errno or 0))
        raise PodlabError(f"Cannot write {text!r} to {file}: {hint}", errno=error.errno) from error


def get(file: str) -> str | None:
    """The text of a control file without the last newline; None when there is no such file."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        parts: list[bytes] = []
        while True:
            part = os.read(fd, 65536)
            if not part:
                return b"".join(parts).decode().rstrip("\n")
            parts.append(part)
    except OSError as error:
        if error.errno == errno.ENODEV:  # the cgroup was removed between open and read
            return None
        raise
    finally:
        os.close(fd)


def make(root: str, path: str, *, cpuset: bool) -> None:
    """Make the cgroup and its parents below the root of one tree. cpuset: v1's, where a new one starts without CPUs."""
    directory = os.path.join(root, path)
    try:
        os.mkdir(directory)
    except FileExistsError:
        pass
    except FileNotFoundError:
        parent = os.path.dirname(path)
        if not parent:
            raise
        make(root, parent, cpuset=cpuset)
        make(root, path, cpuset=cpuset)
        return
    if cpuset:
        _inherit_cpuset(root, path)


def _inherit_cpuset(root: str, path: str) -> None:
    """Copy what is empty from the parent, whose maker may have been killed before he came to it."""
    parent = os.path.dirname(path)
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not get(os.path.join(root, path, name)):
            if parent:
                _inherit_cpuset(root, parent)
            put(os.path.join(root, path, name), get(os.path.join(root, parent, name)) or "")


def hand_down(directory: str, wanted: Iterable[str], root: bool) -> None:
    """v2: switch the controllers on for the children of the cgroup. root: remember it there, for take_back."""
    file = os.path.join(directory, "cgroup.subtree_control")
    enabled = (get(file) or "").split()
    offered = (get(os.path.join(directory, "cgroup.controllers")) or "").split()
    new = [name for name in wanted if name in offered and name not in enabled]
    if not new:
        return
    try:
        put(file, " ".join(f"+{name}" for name in new))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise PodlabError(
            f"Cannot hand {', '.join(new)} down from cgroup {directory}: it has processes of its own, and a v2 cgroup "
            f"has either processes or children with controllers. Move its processes to a child (kind uses init.scope)"
        ) from error
    if root:
        try:
            os.setxattr(directory, _MARK, " ".join(sorted({*marks(directory), *new})).encode())
        except OSError:
            return  # without extended attributes (Linux < 5.7) it stays switched on at the end


def marks(directory: str) -> list[str]:
    """The controllers that we switched on at the root of a v2 tree."""
    try:
        return os.getxattr(directory, _MARK).decode().split()
    except OSError:
        return []


def take_back(directory: str) -> None:
    """Switch off at the root what we switched on there, unless another cgroup uses it by now."""
    left = []
    for name in marks(directory):
        try:
            put(os.path.join(directory, "cgroup.subtree_control"), f"-{name}")
        except OSError:
            left.append(name)
    try:
        if left:
            os.setxattr(directory, _MARK, " ".join(left).encode())
        else:
            os.removexattr(directory, _MARK)
    except OSError:
        return  # no mark, or a file system without extended attributes: nothing to forget


def children(directory: str) -> list[str]:
    """The names of the cgroups right below directory."""
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


def tree_below(directory: str) -> list[str]:
    """The directory and all below, parents first."""
    found = [directory]
    for place in found:
        found += [os.path.join(place, name) for name in children(place)]
    return found
