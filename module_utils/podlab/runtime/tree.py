"""Put together a file tree out of this machine's binaries, with what they need, and extras.

Every name is resolved inside the tree: it may have begun as an archive from outside, with links to anywhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..errors import PodlabError
from ..linux import elf, inside


def put_directory(tree: str, path: str, mode: int = 0o755) -> None:
    """A directory with exactly this mode, and its parents with 0755."""
    with inside.place(tree, f"{path}/x") as within:
        os.chmod(os.path.dirname(within), mode)


def put_text(tree: str, path: str, text: str, mode: int = 0o644) -> None:
    """A file with this text and mode; another file of that name gives way."""
    with _free_place(tree, path) as target:
        with open(target, "x", encoding="utf-8") as file:
            file.write(text)
        os.chmod(target, mode)


def put_link(tree: str, path: str, target: str) -> None:
    """A symbolic link; another file of that name gives way."""
    with _free_place(tree, path) as place:
        os.symlink(target, place)


def put_file(tree: str, path: str, source: str, mode: int | None = None) -> None:
    """A copy of a regular file, owned by root, with its own mode or this one; another of that name gives way."""
    with _free_place(tree, path) as target:
        shutil.copy(source, target)
        if mode is not None:
            os.chmod(target, mode)


def put_copy(tree: str, path: str, source: str) -> None:
    """A copy of a file or of a whole tree, links as links."""
    if not os.path.isdir(source) or os.path.islink(source):
        put_file(tree, path, source)
        return
    with inside.place(tree, path) as target:
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)


def put_binaries(tree: str, binaries: Sequence[str], roots: Sequence[str] = ("/",)) -> dict[str, str]:
    """The binaries with loader and libraries. Returns path in the tree -> file it came from.

    roots: where to look, first that has it. Raises PodlabError naming every binary and library that is not there.
    """
    absent = [binary for binary in binaries if elf.located(binary, roots) is None]
    if absent:
        raise PodlabError(f"Cannot find {', '.join(absent)} on this machine. Install the packages that have them.")
    needs = elf.closure(binaries, roots)
    if needs.missing:
        names = ", ".join(f"{name} (needed by {path})" for name, path in needs.missing)
        raise PodlabError(f"Cannot find these libraries: {names}. Install the packages that have them.")
    placed = {binary: elf.located(binary, roots) or binary for binary in binaries}
    placed.update(needs.files)
    for path, source in placed.items():
        put_file(tree, path, source)
    return placed


def put_applets(tree: str, busybox: str) -> None:
    """A link /bin/NAME for every applet of this busybox (a file of the machine), where the name is free."""
    for name in applets(busybox):
        with inside.place(tree, f"/bin/{name}") as place:
            if not os.path.lexists(place):
                os.symlink("busybox", place)


def applets(busybox: str) -> list[str]:
    """What this busybox can be called as. Raises PodlabError when it does not say."""
    done = subprocess.run([busybox, "--list"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode or "sh" not in done.stdout.split():
        raise PodlabError(f"{busybox} --list names no applets. Install the package busybox-static.")
    return done.stdout.split()


def fill(
    tree: str,
    directories: Mapping[str, int],
    files: Mapping[str, str],
    links: Mapping[str, str],
) -> None:
    """Directories (path -> mode), files (path -> text) and links (path -> target)."""
    for path, mode in directories.items():
        put_directory(tree, path, mode)
    for path, text in files.items():
        put_text(tree, path, text, 0o600 if path == "/etc/shadow" else 0o644)
    for path, target in links.items():
        put_link(tree, path, target)


def stat_marks(paths: Iterable[str]) -> dict[str, list[int]]:
    """Path -> [size, mtime in ns]: cheap evidence that a file is still the one it was; [] for one that is gone."""
    marks: dict[str, list[int]] = {}
    for path in paths:
        try:
            info = os.stat(path)
            marks[path] = [info.st_size, info.st_mtime_ns]
        except OSError:
            marks[path] = []
    return marks


@contextlib.contextmanager
def _free_place(tree: str, path: str) -> Iterator[str]:
    with inside.place(tree, path) as place:
        if os.path.lexists(place):
            os.unlink(place)
        yield place
