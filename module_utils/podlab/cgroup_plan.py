"""From cgroups wanted and what there is to the steps between them. Pure: the steps are data."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from .cgroup_compare import same, shown
from .cgroup_want import Wanted
from .errors import Problem
from .linux.cgroup import V2_CONTROLLERS, Hierarchies, lacking
from .linux.cgroup_files import set_file, take_back
from .linux.cgroup_values import Write, asked, controller_of, missing, ordered, writes
from .step import Item, Step


class Look(NamedTuple):
    """What is there.

    trees: the hierarchies. text: file -> its text, None when missing. is_dir: path -> is it there.
    pids: cgroup -> processes in it and below. alive: pid -> is there such a process. name: pid -> how to call it.
    below: directory -> the cgroup directories under it, deepest first, itself last.
    page_sizes: of huge pages, as the hugetlb controller names them.
    handed_down: controllers that podlab switched on at the root of the v2 tree.
    """

    trees: Hierarchies
    text: Callable[[str], str | None]
    is_dir: Callable[[str], bool]
    pids: Callable[[str], list[int]]
    below: Callable[[str], list[str]]
    alive: Callable[[int], bool]
    name: Callable[[int], str]
    page_sizes: Sequence[str]
    handed_down: Sequence[str] = ()


def plan(wants: Sequence[Wanted], parent: str, look: Look) -> tuple[list[Item], list[Problem]]:
    """The steps for every cgroup in the order given, and what stands in their way."""
    items, problems = [], []
    model = _Model(look)
    for want in wants:
        one = _Plan(want, model)
        items.append(one.absent() if want.state == "absent" else one.present())
        problems += one.problems
    if items and all(want.state == "absent" for want in wants):
        items[-1] = _with_parent(items[-1], wants, parent, model)
    return items, problems


class _Model:
    """What is there, with what is planned so far: directories made and gone, texts written."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.made: set[str] = set()
        self.gone: set[str] = set()
        self.texts: dict[str, str] = {}

    def is_dir(self, path: str) -> bool:
        return path in self.made or (path not in self.gone and self.look.is_dir(path))

    def text(self, file: str) -> str | None:
        """The file's text; of a file in a cgroup that is only planned, what the kernel starts it with."""
        if file in self.texts:
            return self.texts[file]
        return None if os.path.dirname(file) in self.made else self.look.text(file)


class _Plan:
    """The plan for one cgroup while it grows."""

    def __init__(self, want: Wanted, model: _Model) -> None:
        self.want, self.model, self.trees = want, model, model.look.trees
        self.steps: list[Step] = []
        self.problems: list[Problem] = []

    def present(self) -> Item:
        """Make the directories, hand controllers down, write what differs, attach the processes."""
        want = self.want
        self._check()
        if self.problems:
            return Item(want.path, [], {}, {})
        there = self.trees.directories(want.path)
        existed = all(self.model.is_dir(directory) for directory in there)
        before: dict[str, Any] = {"state": "present" if existed else "absent"}
        after: dict[str, Any] = {"state": "present"}
        self._directories()
        self._hand_down()
        for file, write in self._writes():
            key = write.file if write.file not in after else f"{write.file} {write.text.split()[0]}"
            have = self.model.text(file)
            if existed:
                before[key] = shown(write.file, write.text, have)
            after[key] = write.text
            if not same(write.file, write.text, have):
                why = "missing" if have is None else f"{' '.join(have.split()) or 'empty'} -> {write.text}"
                self._write(file, write.text, why)
        self._attach(before, after, existed)
        return Item(want.path, self.steps, before, after)

    def absent(self) -> Item:
        """Kill when allowed, then remove every directory, deepest first."""
        want = self.want
        found = [path for top in self.trees.directories(want.path) for path in self.model.look.below(top)]
        found = [path for path in found if path not in self.model.gone]
        if not found:
            return Item(want.path, [], {"state": "absent"}, {"state": "absent"})
        pids = self.model.look.pids(want.path)
        if pids and not want.kill:
            text = f"{want.path} has processes: {', '.join(self.model.look.name(pid) for pid in pids[:10])}"
            self.problems.append(Problem(f"{want.place}.kill", text, "End them, or set kill: true"))
        if pids and want.kill:
            self._step(
                "cgroup.kill",
                ("kill", "-KILL", *(str(pid) for pid in pids if pid)),
                "not wanted",
                self.trees.kill,
                path=want.path,
            )
        self._step("cgroup.remove", ("rmdir", *found), "not wanted", self.trees.remove, path=want.path)
        self.model.gone.update(found)
        before = {"state": "present", "processes": pids} if pids else {"state": "present"}
        return Item(want.path, self.steps, before, {"state": "absent"})

    def _check(self) -> None:
        want, look = self.want, self.model.look
        for field, controller in missing(want.values, self.trees.versions()):
            option = {"memory_limit": "memory_max"}.get(field, field)
            text = lacking(controller, want.path, self.trees.mode, field)
            self.problems.append(Problem(f"{want.place}.{option}", text))
        for size in want.values.hugetlb:
            if size not in look.page_sizes:
                text = f"this machine has no huge pages of {size}"
                remedy = f"It has {', '.join(look.page_sizes) or 'none'}"
                self.problems.append(Problem(f"{want.place}.hugetlb.{size}", text, remedy))
        for pid in want.pids:
            if not look.alive(pid):
                self.problems.append(Problem(f"{want.place}.pids", f"there is no process {pid}", "Start it first"))

    def _directories(self) -> None:
        new = [path for path in self.trees.directories(self.want.path) if not self.model.is_dir(path)]
        if not new:
            return
        self._step("cgroup.add", ("mkdir", "-p", *new), "missing", self.trees.create, path=self.want.path)
        for tree in self.trees.every:
            cpuset = tree.version == 1 and "cpuset" in tree.controllers
            for directory in self._way(tree.directory):
                if self.model.is_dir(directory):
                    continue
                self.model.made.add(directory)
                if cpuset:
                    self._inherit(directory)

    def _way(self, root: str) -> list[str]:
        """The directories from the one right below the root to the cgroup's own."""
        found = []
        for part in self.want.path.split("/"):
            root = os.path.join(root, part)
            found.append(root)
        return found

    def _inherit(self, directory: str) -> None:
        """v1: a new cpuset has no CPUs and no memory, so that nothing could be attached; give it its parent's."""
        for name in ("cpuset.cpus", "cpuset.mems"):
            text = self.model.text(os.path.join(os.path.dirname(directory), name)) or ""
            self._write(os.path.join(directory, name), text, "a new v1 cpuset is empty")

    def _hand_down(self) -> None:
        """v2: what the settings need, and in a pure v2 tree every controller, for the children of every parent."""
        tree = self.trees.v2
        if tree is None:
            return
        needed = {controller_of(field, 2) for field in asked(self.want.values)}
        wanted = [name for name in V2_CONTROLLERS if name in tree.controllers and (not self.trees.v1 or name in needed)]
        for directory in [tree.directory, *self._way(tree.directory)[:-1]]:
            file = os.path.join(directory, "cgroup.subtree_control")
            enabled = (self.model.text(file) or "").split()
            new = [name for name in wanted if name not in enabled]
            if new:
                text = " ".join(f"+{name}" for name in new)
                self._step("cgroup.enable", _echo(text, file), "not handed down", self._enable, controllers=new)
                self.model.texts[file] = " ".join([*enabled, *new])

    def _enable(self, controllers: Sequence[str]) -> None:
        self.trees.enable(self.want.path, controllers)

    def _writes(self) -> list[tuple[str, Write]]:
        """(file, write) in the order the kernel takes them from the texts that are there."""
        found = writes(self.want.values, self.trees.versions(), self.want.level)
        files = {write.file: self.trees.file(write, self.want.path) for write in found}
        current = {name: self.model.text(file) or "" for name, file in files.items()}
        kept = [write for write in found if not write.optional or self._has(files[write.file])]
        return [(files[write.file], write) for write in ordered(kept, current)]

    def _has(self, file: str) -> bool:
        """Whether an optional file is there, or will be once its controller is handed down."""
        plain = file.replace(".rsvd", "")
        return self.model.text(plain) is None or self.model.text(file) is not None

    def _write(self, file: str, text: str, why: str) -> None:
        self._step("cgroup.write", _echo(text, file), why, set_file, target=file, file=file, text=text)
        self.model.texts[file] = text

    def _attach(self, before: dict[str, Any], after: dict[str, Any], existed: bool) -> None:
        want = self.want
        if not want.pids:
            return
        inside: list[int] = []
        files = [os.path.join(directory, "cgroup.procs") for directory in self.trees.directories(want.path)]
        for pid in want.pids:
            outside = [file for file in files if str(pid) not in (self.model.text(file) or "").split()]
            if not outside:
                inside.append(pid)
                continue
            argv = ("sh", "-c", f"echo {pid} | tee {shlex.join(outside)} > /dev/null")
            self._step("cgroup.attach", argv, f"process {pid} is elsewhere", self.trees.attach, path=want.path, pid=pid)
        if existed:
            before["processes"] = inside
        after["processes"] = list(want.pids)

    def _step(
        self, kind: str, argv: Sequence[str], why: str, call: Callable[..., Any], target: str = "", **args: Any
    ) -> None:
        self.steps.append(Step(kind, target or self.want.path, tuple(argv), why, call, args))


def _echo(text: str, file: str) -> tuple[str, ...]:
    return ("sh", "-c", f"echo {shlex.quote(text)} > {shlex.quote(file)}")


def _with_parent(item: Item, wants: Sequence[Wanted], parent: str, model: _Model) -> Item:
    """Take the parent away with the last cgroup in it: what we made goes when nothing is left."""
    look = model.look
    there = [path for path in look.trees.directories(parent) if look.is_dir(path)]
    left = [path for top in there for path in look.below(top) if path != top and path not in model.gone]
    gone = {want.path for want in wants if want.kill}
    pids = set(look.pids(parent)) - {pid for path in gone for pid in look.pids(path)}
    if not there or left or pids:
        return item
    why = "nothing is left in it"
    steps = [
        *item.steps,
        Step("cgroup.remove", parent, ("rmdir", *there), why, look.trees.remove_if_empty, {"path": parent}),
    ]
    if look.handed_down and look.trees.v2:
        root = look.trees.v2.directory
        argv = _echo(" ".join(f"-{name}" for name in look.handed_down), f"{root}/cgroup.subtree_control")
        steps.append(Step("cgroup.disable", root, argv, "switched on by podlab", take_back, {"directory": root}))
    before, after = _with(item.before, parent, "present"), _with(item.after, parent, "absent")
    return item._replace(steps=steps, before=before, after=after)


def _with(state: Mapping[str, Any], parent: str, value: str) -> dict[str, Any]:
    return {**state, f"parent {parent}": value}
