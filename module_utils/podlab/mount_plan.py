"""From mounts wanted and a mount table to the steps between them. Pure: the steps are data."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import Problem
from .linux.mount import FLAGS, flags_of, overlay_options
from .linux.mountinfo import MountInfo
from .mount_calls import perform
from .mount_compare import (
    FIXED,
    change_words,
    data_changes,
    flag_change,
    flag_words,
    layer_changes,
    layers,
    normal,
    settled,
    shown,
)
from .mount_model import Model
from .mount_want import Wanted
from .step import Item, Step


def plan(wants: Sequence[Wanted], models: Mapping[str, Model]) -> tuple[list[Item], list[Problem]]:
    """The steps for every mount, and what stands in their way.

    models: one per namespace named in wants; they follow what is planned. Absent ones come first, deepest first,
    then the present ones in the order given: a mount may use what an earlier one brings.
    """
    items, problems = {}, []
    absent = sorted((want for want in wants if want.state == "absent"), key=lambda want: -want.path.count("/"))
    present = [want for want in wants if want.state == "present"]
    for want in [*absent, *present]:
        one = _Plan(want, models[want.namespace])
        items[want.place] = one.absent() if want.state == "absent" else one.present()
        problems += one.problems
    ordered = [items[want.place] for want in [*absent, *present]]
    return ordered, problems


class _Plan:
    """The plan for one mount while it grows."""

    def __init__(self, want: Wanted, model: Model) -> None:
        self.want = want._replace(path=model.look.real(want.path))
        if want.binds and want.source:
            self.want = self.want._replace(source=model.look.real(want.source))
        self.model = model
        self.steps: list[Step] = []
        self.problems: list[Problem] = []

    def absent(self) -> Item:
        """Unmount everything on the path, then remove the mountpoints we made."""
        want, there = self.want, self.model.stack(self.want.path)
        before = {"state": "present", "type": there[0].fstype} if there else {"state": "absent"}
        for entry in there:
            if want.type and not want.binds and entry.fstype != want.type and not want.force:
                self._foreign(entry)
            else:
                self._unmount(entry, "not wanted")
            if self.problems:
                break
        for path in [] if self.problems else self.model.made_mountpoints(want.path):
            directory = self.model.look.kind(path) != "file"
            self._step("mountpoint.remove", ("rmdir" if directory else "rm", path), "made for a mount", path, path=path)
            self.model.gone.add(path)
        return Item(self._name(), self.steps, before, {"state": "absent"})

    def present(self) -> Item:
        """Mount it, change it, or mount it anew."""
        before: dict[str, Any] = {"state": "absent"}
        entry = self._clear_foreign()
        if entry is not None:
            before = self._describe(entry)
            reasons = self._replaces(entry)
            if reasons and not self.problems:
                self._unmount(entry, "; ".join(reasons))
                self._mount("; ".join(reasons))
            elif not self.problems:
                self._adjust(entry)
        elif not self.problems:
            self._mount("missing")
        return Item(self._name(), self.steps, before, self._wish() if self.steps else before)

    def _name(self) -> str:
        return self.want.path + (f" in {self.want.namespace}" if self.want.namespace else "")

    # What is in the way, and what has to give way.

    def _clear_foreign(self) -> MountInfo | None:
        """The mount that is ours to change; a foreign one above is unmounted when forced, else a problem."""
        for entry in self.model.stack(self.want.path):
            if self._same_kind(entry):
                return entry
            if not self.want.force:
                self._foreign(entry)
                return None
            self._unmount(entry, f"a foreign {entry.fstype} in the way")
        return None

    def _same_kind(self, entry: MountInfo) -> bool:
        """Whether a mount may be one that this item made earlier, perhaps with other options."""
        want = self.want
        if want.binds:
            return (entry.device, entry.root) == self.model.shows(want.source) or entry.root != "/"
        if entry.fstype != want.type:
            return False
        return not want.source or entry.source == want.source

    def _foreign(self, entry: MountInfo) -> None:
        wish = f"{self.want.type} {self.want.source}".strip()
        self.problems.append(
            Problem(
                f"{self.want.place}.path",
                f"{self.want.path} has a {entry.fstype} ({entry.source}) mounted on it, not {wish}",
                "Unmount it, or set force: true to have it unmounted",
            )
        )

    def _replaces(self, entry: MountInfo) -> list[str]:
        """Why the mount has to be made anew; empty when it is the right one, or can be changed in place."""
        want = self.want
        if want.binds:
            device, root = self.model.shows(want.source)
            return [] if (entry.device, entry.root) == (device, root) else [f"source {entry.root} -> {want.source}"]
        if want.type == "overlay":  # the kernel ignores a remount that names other layers or options
            return [*layer_changes(want, entry), *data_changes(want, entry).values()]
        fixed = [text for key, text in data_changes(want, entry).items() if key in FIXED.get(entry.fstype, ())]
        if fixed and not want.force:
            text = f"{want.path}: {'; '.join(fixed)} cannot be changed while it is mounted"
            remedy = "Unmount it, or set force: true to have it mounted anew (what is in it is lost)"
            self.problems.append(Problem(f"{want.place}.options", text, remedy))
        return fixed

    def _unmount(self, entry: MountInfo, why: str) -> None:
        above = self.model.above(entry)
        if above and not self.want.force:
            names = ", ".join(child.mount_point for child in above)
            self.problems.append(
                Problem(
                    f"{self.want.place}.path",
                    f"{self.want.path} cannot be unmounted: mounted on it are {names}",
                    "List them as absent too, or set force: true",
                )
            )
            return
        for mounted in [*above, entry]:
            reason = why if mounted is entry else f"on {self.want.path}"
            path = mounted.mount_point
            self._step("mount.remove", ("umount", path), reason, path, path=path)
            self.model.will_unmount(mounted)

    # What is made or changed.

    def _mount(self, why: str) -> None:
        self._check_layers()
        if self.problems or not self._mountpoint():
            return
        want = self.want
        if want.binds:
            how = "--rbind" if want.type == "rbind" else "--bind"
            self._step("mount.add", ("mount", how, want.source, want.path), why, want.path, want=want)
            entry = self.model.will_mount(want)
            if want.options is not None or want.read_only is not None:
                have = self.model.flags(want.source)
                self._remount(want.flags(have), have, [], "a bind takes its options afterwards", whole=False)
        else:
            overlay = want.type == "overlay"
            data = overlay_options(want.lowerdirs, want.upperdir or None, want.workdir) if overlay else ""
            words = ",".join(filter(None, [data, *want.words]))
            argv = ["mount", "-t", want.type, *(["-o", words] if words else []), want.device, want.path]
            self._step("mount.add", tuple(argv), why, want.path, want=want)
            entry = self.model.will_mount(want)
        self._propagation([entry])

    def _mountpoint(self) -> bool:
        want, kind = self.want, self.model.kind(self.want.path)
        needed = self.model.kind(want.source) if want.binds else "dir"
        if kind and kind != needed:
            self.problems.append(
                Problem(
                    f"{want.place}.path", f"{want.path} is a {kind}, the mount needs a {needed}", "Use another path"
                )
            )
            return False
        if not kind and not want.create:
            text = f"{want.path} is not there, and a mount needs something to sit on"
            self.problems.append(Problem(f"{want.place}.path", text, f"Make the {needed}, or set create: true"))
            return False
        if not kind:
            argv = ("mkdir", "-p", want.path) if needed == "dir" else ("install", "-D", "/dev/null", want.path)
            self._step("mountpoint.add", argv, "missing", want.path, path=want.path, directory=needed == "dir")
            self._note_made(want.path)
        return True

    def _note_made(self, path: str) -> None:
        while path != "/" and not self.model.kind(path):
            self.model.made.add(path)
            path = os.path.dirname(path)

    def _check_layers(self) -> None:
        want = self.want
        places = [("source", want.source)] if want.binds else []
        if want.type == "overlay":
            places = [(f"lowerdirs[{number}]", path) for number, path in enumerate(want.lowerdirs)]
            places += [(key, getattr(want, key)) for key in ("upperdir", "workdir") if getattr(want, key)]
        for key, path in places:
            kind = self.model.kind(path)
            if not kind:
                self.problems.append(Problem(f"{want.place}.{key}", f"{path} is not there", "Make it first"))
            elif kind == "file" and not want.binds:
                self.problems.append(Problem(f"{want.place}.{key}", f"{path} is not a directory", "Name a directory"))
        if want.upperdir and want.workdir and self.model.shows(want.upperdir)[0] != self.model.shows(want.workdir)[0]:
            text = f"{want.workdir} is not on the file system of upperdir {want.upperdir}"
            self.problems.append(Problem(f"{want.place}.workdir", text, "Use a directory beside the upperdir"))

    def _adjust(self, entry: MountInfo) -> None:
        want = self.want
        flags = flag_change(want, entry)
        data = [] if want.binds or want.type == "overlay" else list(data_changes(want, entry).values())
        have, wish = flags or (flags_of(entry), want.flags(flags_of(entry)))
        frozen = "ro" in entry.super_options
        thaw = not want.binds and frozen and bool(flags) and not wish & FLAGS["ro"]
        if data or thaw:
            # Changes the file system for everyone who sees it: so only what needs it, never read-only by the way.
            base = have & ~FLAGS["ro"] | (FLAGS["ro"] if frozen and not thaw else 0)
            why = "; ".join(data) or "the file system is read-only"
            self._remount(base, have, data, why, whole=True)
            have = base
        self._remount(wish, have, [], f"{','.join(flag_words(have))} -> {','.join(flag_words(wish))}", whole=False)
        self._propagation([entry, *self.model.above(entry)])

    def _remount(self, wish: int, have: int, data: Sequence[str], why: str, *, whole: bool) -> None:
        if not data and not whole and wish == have:
            return
        words = change_words(have, wish)
        words += [f"{key}={value}" if value else key for key, value in self.want.data().items()] if data else []
        mode = "remount" if whole else "remount,bind"
        argv = ("mount", "-o", ",".join([mode, *words]), self.want.path)
        self._step("mount.remount", argv, why, self.want.path, path=self.want.path, words=words, whole=whole)

    def _propagation(self, entries: Sequence[MountInfo]) -> None:
        kind = self.want.propagation
        judged = entries if kind.startswith("r") else entries[:1]
        wrong = sorted({entry.propagation for entry in judged if kind and not settled(kind, entry.propagation)})
        if wrong:
            argv = ("mount", f"--make-{kind}", self.want.path)
            why = f"propagation {' and '.join(wrong)} -> {kind}"
            self._step("mount.propagation", argv, why, self.want.path, path=self.want.path, kind=kind)

    def _step(self, what: str, argv: Sequence[str], why: str, target: str, **args: Any) -> None:
        space = self.want.namespace
        typed = tuple(argv)
        if space:
            place = f"/proc/{space}/ns/mnt" if space.isdigit() else space
            typed = ("nsenter", f"--mount={place}", "--", *typed)
            target = f"{target} in {space}"
        self.steps.append(Step(what, target, typed, why, perform, {"what": what, "namespace": space, "args": args}))

    # The managed properties, for the diff.

    def _describe(self, entry: MountInfo) -> dict[str, Any]:
        want, found = self.want, self._wish()
        have = shown(entry)
        found["type"] = want.type if want.binds else entry.fstype
        if "source" in found:
            same = want.binds and (entry.device, entry.root) == self.model.shows(want.source)
            found["source"] = want.source if same else entry.root if want.binds else entry.source
        if "options" in found:
            equal = {
                key: want.data()[key]
                if normal(entry.fstype, key, have.get(key, "")) == normal(entry.fstype, key, want.data()[key])
                else have.get(key)
                for key in want.data()
            }
            found["options"] = self._option_list(flags_of(entry), equal)
        if want.type == "overlay":
            found.update(_layer_texts(want, entry))
        if want.propagation:
            found["propagation"] = _propagation_text(want.propagation, [entry, *self.model.above(entry)])
        return found

    def _wish(self) -> dict[str, Any]:
        want = self.want
        found: dict[str, Any] = {"state": "present", "type": want.type}
        if want.source:
            found["source"] = want.source
        if want.options is not None or want.read_only is not None:
            found["options"] = self._option_list(want.flags(0), want.data())
        if want.type == "overlay":
            found.update(lowerdirs=list(want.lowerdirs), upperdir=want.upperdir, workdir=want.workdir)
        if want.propagation:
            found["propagation"] = want.propagation
        return found

    def _option_list(self, flags: int, data: Mapping[str, str | None]) -> list[str]:
        words = [f"{key}={value}" if value else key for key, value in sorted(data.items()) if value is not None]
        return [*flag_words(flags if self.want.options is not None else flags & FLAGS["ro"]), *words]


def _propagation_text(kind: str, entries: Sequence[MountInfo]) -> str:
    judged = entries if kind.startswith("r") else entries[:1]
    return kind if all(settled(kind, entry.propagation) for entry in judged) else entries[0].propagation


def _layer_texts(want: Wanted, entry: MountInfo) -> dict[str, Any]:
    lower, upper, work = layers(entry)
    same = not layer_changes(want, entry)
    return {"lowerdirs": list(want.lowerdirs) if same else lower, "upperdir": upper, "workdir": work}
