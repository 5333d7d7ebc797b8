"""What an ELF file needs to run: its loader and its libraries, found as ld.so(8) finds them, without running it.

ldd(1) runs the loader of the file it is asked about; this only reads. Source: elf(5), ld.so(8), ldconfig(8).
"""

from __future__ import annotations

import glob
import os
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 1, 5, 14, 15, 29
_SYSTEM_DIRECTORIES = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
# e_machine -> the directory name of Debian's multiarch, which is also what $PLATFORM-less paths use.
_MULTIARCH = {62: "x86_64-linux-gnu", 183: "aarch64-linux-gnu", 3: "i386-linux-gnu", 40: "arm-linux-gnueabihf"}
# Program header and dynamic entry by class: (format of the header, its fields offset, vaddr, filesz), dynamic format.
_LAYOUT = {1: ("IIIIIIII", (1, 2, 4), "iI"), 2: ("IIQQQQQQ", (2, 3, 5), "qQ")}


class Elf(NamedTuple):
    """machine: e_machine. bits: 32 or 64. interpreter: PT_INTERP, empty when static. The rest: the DT_ entries."""

    machine: int
    bits: int
    interpreter: str
    needed: tuple[str, ...]
    soname: str
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]


class Closure(NamedTuple):
    """files: path as the loader will open it -> file that has the content. missing: (needed name, by which file)."""

    files: dict[str, str]
    missing: tuple[tuple[str, str], ...]


def read(path: str) -> Elf | None:
    """The headers of an ELF executable or library; None when the file is something else or damaged."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        return _parse(data)
    except (struct.error, IndexError, ValueError, KeyError):
        return None


def closure(binaries: Iterable[str], roots: Sequence[str] = ("/",)) -> Closure:
    """Every file that these binaries need: loader and libraries, theirs too; not the binaries themselves.

    binaries: absolute paths as seen inside the roots. roots: trees to look into, the first that has a file wins.
    A binary that is a script or static needs nothing. Raises FileNotFoundError for a binary that is not there.
    """
    files: dict[str, str] = {}
    missing: list[tuple[str, str]] = []
    configured = search_directories(roots)
    for binary in binaries:
        _load(binary, roots, configured, files, missing)
    return Closure(files, tuple(dict.fromkeys(missing)))


def _load(
    binary: str,
    roots: Sequence[str],
    configured: tuple[str, ...],
    files: dict[str, str],
    missing: list[tuple[str, str]],
) -> None:
    """Walk one binary's libraries breadth first, as ld.so does: a name that is loaded already is not searched again."""
    loaded: set[str] = set()
    queue: list[tuple[str, tuple[str, ...]]] = [(binary, ())]
    while queue:
        path, inherited = queue.pop(0)
        source = located(path, roots)
        if source is None:
            raise FileNotFoundError(2, "No such file in any of the trees", path)
        elf = read(source)
        if elf is None:
            continue
        if elf.interpreter and path == binary:
            loader = located(elf.interpreter, roots)
            loaded.add(os.path.basename(elf.interpreter))
            if loader is None:
                missing.append((elf.interpreter, path))
            else:
                files[elf.interpreter] = loader
        # DT_RPATH is inherited by what a file loads; DT_RUNPATH is not, and switches the file's DT_RPATH off.
        rpath = () if elf.runpath else _expanded(elf.rpath, path, elf)
        passed_on = (*rpath, *inherited)
        before = () if elf.runpath else passed_on
        directories = (*before, *_expanded(elf.runpath, path, elf), *configured, *_default_directories(elf))
        for name in elf.needed:
            if name in loaded:
                continue
            loaded.add(name)
            place = _find(name, elf, directories, roots)
            if place is None:
                missing.append((name, path))
            else:
                files[place] = located(place, roots) or place
                queue.append((place, passed_on))


def located(path: str, roots: Sequence[str]) -> str | None:
    """The real file behind an absolute path in the first of the roots that has it."""
    for root in roots:
        candidate = os.path.join(root, path.lstrip("/"))
        if os.path.isfile(candidate):
            return os.path.realpath(candidate)
    return None


def search_directories(roots: Sequence[str] = ("/",)) -> tuple[str, ...]:
    """The directories of /etc/ld.so.conf and what it includes: what ldconfig(8) makes ld.so.cache from."""
    found: list[str] = []
    for root in roots:
        _read_conf(root, "/etc/ld.so.conf", found)
    return tuple(dict.fromkeys(found))


def _read_conf(root: str, path: str, found: list[str]) -> None:
    try:
        with open(os.path.join(root, path.lstrip("/")), encoding="utf-8", errors="replace") as file:
            lines = [line.partition("#")[0].split() for line in file]
    except OSError:
        return
    for words in filter(None, lines):
        if words[0] == "include":
            for pattern in words[1:]:
                pattern = os.path.join(os.path.dirname(path), pattern)
                for name in sorted(glob.glob(os.path.join(root, pattern.lstrip("/")))):
                    _read_conf(root, "/" + os.path.relpath(name, root), found)
        elif words[0] != "hwcap":
            found.append(words[0].rstrip("/") or "/")


def _default_directories(elf: Elf) -> tuple[str, ...]:
    multiarch = _MULTIARCH.get(elf.machine, "")
    wide = _SYSTEM_DIRECTORIES if elf.bits == 64 else _SYSTEM_DIRECTORIES[2:]
    return (f"/lib/{multiarch}", f"/usr/lib/{multiarch}", *wide) if multiarch else wide


def _find(name: str, wanted: Elf, directories: Iterable[str], roots: Sequence[str]) -> str | None:
    candidates = [name] if "/" in name else [f"{directory}/{name}" for directory in directories]
    for candidate in candidates:
        source = located(candidate, roots)
        elf = read(source) if source else None
        if elf is not None and (elf.machine, elf.bits) == (wanted.machine, wanted.bits):
            return candidate
    return None


def _expanded(directories: Iterable[str], path: str, elf: Elf) -> tuple[str, ...]:
    words = {"ORIGIN": os.path.dirname(path), "LIB": "lib64" if elf.bits == 64 else "lib", "PLATFORM": ""}
    if elf.machine in _MULTIARCH and os.path.isdir(f"/usr/lib/{_MULTIARCH[elf.machine]}"):
        words["LIB"] = f"lib/{_MULTIARCH[elf.machine]}"
    expanded = []
    for directory in directories:
        for word, value in words.items():
            directory = directory.replace(f"${{{word}}}", value).replace(f"${word}", value)
        expanded.append(os.path.normpath(directory))
    return tuple(expanded)


def _parse(data: bytes) -> Elf | None:
    if data[:4] != b"\x7fELF":
        return None
    kind, order = data[4], {1: "<", 2: ">"}[data[5]]
    header_format, (at_offset, at_address, at_size), entry_format = _LAYOUT[kind]
    (machine,) = struct.unpack_from(order + "H", data, 18)
    table_format, table_at = (order + "Q", 32) if kind == 2 else (order + "I", 28)
    (table,) = struct.unpack_from(table_format, data, table_at)
    size, count = struct.unpack_from(order + "HH", data, 54 if kind == 2 else 42)
    headers = [struct.unpack_from(order + header_format, data, table + size * number) for number in range(count)]

    def part(header: tuple[int, ...]) -> bytes:
        return data[header[at_offset] : header[at_offset] + header[at_size]]

    interpreter = next((part(header) for header in headers if header[0] == _PT_INTERP), b"")
    entries = []
    for header in headers:
        if header[0] == _PT_DYNAMIC:
            body = part(header)
            step = struct.calcsize(order + entry_format)
            entries = [
                struct.unpack_from(order + entry_format, body, at) for at in range(0, len(body) - step + 1, step)
            ]
    ends = [number for number, (tag, _) in enumerate(entries) if tag == 0]
    entries = entries[: ends[0]] if ends else entries
    address = next((value for tag, value in entries if tag == _DT_STRTAB), 0)
    base = 0
    for header in headers:
        if header[0] == _PT_LOAD and header[at_address] <= address < header[at_address] + header[at_size]:
            base = header[at_offset] + address - header[at_address]

    def texts(wanted: int) -> tuple[str, ...]:
        places = [base + value for tag, value in entries if tag == wanted]
        return tuple(os.fsdecode(data[place : data.index(b"\0", place)]) for place in places)

    paths = {
        tag: tuple(path for text in texts(tag) for path in text.split(":") if path) for tag in (_DT_RPATH, _DT_RUNPATH)
    }
    return Elf(
        machine,
        64 if kind == 2 else 32,
        os.fsdecode(interpreter.rstrip(b"\0")),
        texts(_DT_NEEDED),
        next(iter(texts(_DT_SONAME)), ""),
        paths[_DT_RPATH],
        paths[_DT_RUNPATH],
    )
