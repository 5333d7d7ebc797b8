"""What has to be done so that root directories hold what is wanted."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .errors import Problem, refuse
from .linux import elf
from .runtime import image_store, rootfs
from .step import Item, Step


class Want(NamedTuple):
    """One root directory. path: absolute. request: None when it shall be absent."""

    path: str
    request: rootfs.Request | None


class Planner:
    """Plans root directories; collects what their archives had and was left out, by path."""

    def __init__(self, wants: Sequence[Want]) -> None:
        self.wants = wants
        self.notes: list[str] = []

    def plan(self) -> list[Item]:
        """One item per root. Raises PodlabError with every problem, before anything is touched."""
        problems = [problem for number, want in enumerate(self.wants) for problem in _problems(number, want)]
        refuse(problems, "The root directories cannot be made")
        items = [self._item(want) for want in self.wants]
        refuse(_problems_of_use(items), "The root directories cannot be made")
        return items

    def state(self) -> dict[str, Any]:
        """Path -> present, and the digest of what it was asked to hold."""
        marks = {want.path: rootfs.read_mark(want.path) for want in self.wants}
        return {
            path: {"path": path, "present": mark is not None, "contents": mark.want if mark else ""}
            for path, mark in marks.items()
        }

    def _item(self, want: Want) -> Item:
        mark = rootfs.read_mark(want.path)
        before = (
            {} if mark is None else {"contents": mark.want, "changed_by_hand": not rootfs.untouched(want.path, mark)}
        )
        if want.request is None:
            step = Step(
                "rootfs.remove", want.path, ("rm", "-r", want.path), "not wanted", rootfs.remove, {"path": want.path}
            )
            return Item(want.path, [step] if mark else [], before, {})
        placed = _placed(want.request)
        after = {"contents": digest(want.request, placed), "changed_by_hand": False}
        if before == after:
            return Item(want.path, [], before, before)
        return Item(want.path, self._steps(want.path, want.request, placed, before, after), before, after)

    def _steps(
        self,
        path: str,
        request: rootfs.Request,
        placed: Mapping[str, str],
        before: Mapping[str, Any],
        after: Mapping[str, Any],
    ) -> list[Step]:
        why = "missing"
        if before:
            why = "other contents wanted" if before["contents"] != after["contents"] else "changed by hand"
        steps = [Step("rootfs.fill", path, argv, why) for argv in _commands(path, request, placed)]
        mark = ("setfattr", "-n", rootfs.MARK, "-v", str(after["contents"]), path)
        return [
            *steps,
            Step("rootfs.build", path, mark, why, self._build, {"path": path, "request": request, "after": after}),
        ]

    def _build(self, path: str, request: rootfs.Request, after: Mapping[str, Any]) -> None:
        notes = rootfs.build(path, request, after["contents"])
        self.notes.extend(f"{path}: {note}" for note in notes)


def digest(request: rootfs.Request, placed: Mapping[str, str]) -> str:
    """sha256 over the request and over the content of every file of this machine that it takes."""
    taken = {*placed.values(), *(file.source for file in request.files), request.tar, request.busybox} - {""}
    contents = {path: image_store.file_digest(path) for path in sorted(taken)}
    words = json.dumps([request, dict(placed), contents], sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()


def _placed(request: rootfs.Request) -> dict[str, str]:
    """Path in the root -> file of this machine: the binaries and what they need."""
    found = {binary: elf.located(binary, ("/",)) or binary for binary in request.binaries}
    found.update(elf.closure(request.binaries).files)
    return found


def _commands(path: str, request: rootfs.Request, placed: Mapping[str, str]) -> list[tuple[str, ...]]:
    """What a person would type, in the order of rootfs.build."""
    typed: list[tuple[str, ...]] = [("mkdir", "-p", path)]
    if request.tar:
        typed.append(("tar", "-xf", request.tar, "-C", path))
    if request.busybox:
        typed.append(("install", "-D", request.busybox, f"{path}/bin/busybox"))
        typed.append(("chroot", path, "/bin/busybox", "--install", "-s", "/bin"))
    if placed:
        typed.append(("cp", "--parents", "-L", *placed, path))
    typed.extend(("install", "-d", "-m", f"{mode:04o}", f"{path}{name}") for name, mode in request.directories)
    for file in request.files:
        target = f"{path}{file.path}"
        typed.append(("mkdir", "-p", os.path.dirname(target)))
        if file.source:
            typed.append(("cp", file.source, target))
        else:
            typed.append(("sh", "-c", 'printf %s "$1" >"$2"', "sh", file.content, target))
        if file.mode is not None or not file.source:
            typed.append(("chmod", f"{0o644 if file.mode is None else file.mode:04o}", target))
    typed.extend(("ln", "-sfn", target, f"{path}{name}") for name, target in request.links)
    return typed


def _problems(number: int, want: Want) -> list[Problem]:
    place = f"rootfs[{number}]"
    found = []
    if not want.path.startswith("/") or os.path.normpath(want.path) != want.path or want.path == "/":
        found.append(Problem(f"{place}.path", f"must be an absolute, plain path below /, not {want.path!r}"))
    elif os.path.lexists(want.path):
        found.extend(_problems_of_place(f"{place}.path", want))
    if want.request is not None:
        found.extend(_problems_of_request(place, want.request))
    return found


def _problems_of_use(items: Sequence[Item]) -> list[Problem]:
    """What would be replaced or removed must not be in use."""
    busy = {item.name: rootfs.users(item.name) for item in items if item.steps and os.path.isdir(item.name)}
    return [
        Problem(path, f"is in use by the mounts {', '.join(mounts)}", "Unmount them first.")
        for path, mounts in busy.items()
        if mounts
    ]


def _problems_of_place(place: str, want: Want) -> list[Problem]:
    if os.path.islink(want.path) or not os.path.isdir(want.path):
        return [Problem(place, f"{want.path} is there and no directory", "Move it away, or choose another path.")]
    if rootfs.read_mark(want.path) is None and (os.listdir(want.path) or want.request is None):
        return [Problem(place, f"podlab did not make {want.path}", "Move it away, or choose another path.")]
    return []


def _problems_of_request(place: str, request: rootfs.Request) -> list[Problem]:
    found = []
    wanted = [("binaries", binary) for binary in request.binaries]
    wanted.extend(("files.source", file.source) for file in request.files if file.source)
    wanted.extend((key, path) for key, path in (("tar", request.tar), ("busybox", request.busybox)) if path)
    for key, path in wanted:
        if not path.startswith("/"):
            found.append(Problem(f"{place}.{key}", f"must be an absolute path, not {path!r}"))
        elif not os.path.isfile(path):
            found.append(
                Problem(f"{place}.{key}", f"{path} is not on this machine", "Install the package that has it.")
            )
    names = [name for name, _ in [*request.directories, *request.links]] + [file.path for file in request.files]
    for name in names:
        if not name.startswith("/") or ".." in name.split("/") or name.rstrip("/") == "":
            found.append(Problem(f"{place}", f"must be an absolute path inside the root, not {name!r}"))
    if not found:
        missing = elf.closure(request.binaries).missing
        found.extend(Problem(f"{place}.binaries", f"{path} needs {name}, which is not here") for name, path in missing)
    return found
