"""What podlab_mount is asked for, as data, with every problem that the text alone shows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .errors import Problem
from .linux.mount import ATIMES, CLEARS, FLAGS, PER_MOUNT, PROPAGATIONS, parse_options

BINDS = ("bind", "rbind")


class Wanted(NamedTuple):
    """One mount. place: where it stands in the options ("mounts[0]").

    options: the words that apply, or None to leave them alone. read_only: True or False to set just that.
    namespace: a pid, the path of a mount namespace, or empty for the present one.
    """

    place: str
    path: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] | None = None
    lowerdirs: tuple[str, ...] = ()
    upperdir: str = ""
    workdir: str = ""
    propagation: str = ""
    read_only: bool | None = None
    state: str = "present"
    create: bool = True
    force: bool = False
    namespace: str = ""

    @property
    def binds(self) -> bool:
        """Whether it shows a part of another mount instead of mounting a file system."""
        return self.type in BINDS

    @property
    def device(self) -> str:
        """The source as mount(2) gets it: without one, the type's name."""
        return self.source or self.type

    @property
    def words(self) -> tuple[str, ...]:
        """Options and read_only together."""
        extra = {True: ("ro",), False: ("rw",), None: ()}[self.read_only]
        return (*(self.options or ()), *extra)

    def data(self) -> dict[str, str]:
        """The options meant for the file system, key to value ("" for a bare word)."""
        parts = parse_options(self.words).data.split(",")
        return {key: value for key, _, value in (part.partition("=") for part in parts) if key}

    def flags(self, have: int) -> int:
        """The per-mount flags it should have, given those it has (0 for a new mount)."""
        base = have if self.options is None else 0
        for word in self.words:
            if FLAGS.get(word, 0) & ATIMES:
                base &= ~ATIMES
            base = (base & ~CLEARS.get(word, 0)) | FLAGS.get(word, 0)
        return base & PER_MOUNT if self.options is None else normal_flags(base)


def normal_flags(flags: int) -> int:
    """Per-mount flags as the kernel shows them: relatime unless something else was said, strictatime as nothing."""
    flags &= PER_MOUNT
    if not flags & ATIMES:
        flags |= FLAGS["relatime"]
    return flags & ~FLAGS["strictatime"]


def wanted(mounts: Sequence[Mapping[str, Any]]) -> tuple[list[Wanted], list[Problem]]:
    """The module's `mounts` option as data, and every problem in it."""
    found, problems = [], []
    for number, given in enumerate(mounts):
        want = _one(f"mounts[{number}]", given)
        found.append(want)
        problems += _problems(want)
    return found, [*problems, *_conflicts(found)]


def _one(place: str, given: Mapping[str, Any]) -> Wanted:
    options = given.get("options")
    words = None if options is None else tuple(_split(options))
    kinds = [word for word in words or () if word in PROPAGATIONS]
    return Wanted(
        place=place,
        path=_path(given["path"]),
        type=given.get("type") or "",
        source=given.get("source") or "",
        options=None if words is None else tuple(word for word in words if word not in PROPAGATIONS),
        lowerdirs=tuple(_path(path) for path in given.get("lowerdirs") or ()),
        upperdir=_path(given.get("upperdir")),
        workdir=_path(given.get("workdir")),
        propagation=given.get("propagation") or (kinds[-1] if kinds else ""),
        read_only=given.get("read_only"),
        state=given.get("state") or "present",
        create=given.get("create") is not False,
        force=bool(given.get("force")),
        namespace=str(given.get("namespace") or ""),
    )


def _path(text: str | None) -> str:
    path = os.path.normpath(text) if text else ""
    return path[1:] if path.startswith("//") else path  # normpath keeps two leading slashes


def _split(words: Iterable[str]) -> list[str]:
    return [part for word in words for part in word.split(",") if part]


def _problems(want: Wanted) -> list[Problem]:
    """What is wrong with one mount, looked at alone."""
    checks = [*_path_checks(want)]
    if want.state == "present":
        checks += [*_type_checks(want), *_overlay_checks(want), *_option_checks(want)]
    return [
        Problem(f"{want.place}.{key}" if key else want.place, text, remedy) for bad, key, text, remedy in checks if bad
    ]


Check = tuple[bool, str, str, str]


def _path_checks(want: Wanted) -> list[Check]:
    paths = [("path", want.path), *(("lowerdirs", path) for path in want.lowerdirs)]
    paths += [("upperdir", want.upperdir), ("workdir", want.workdir)]
    relative: list[Check] = [
        (bool(path) and not path.startswith("/"), key, f"must be an absolute path, not {path!r}", "")
        for key, path in paths
    ]
    return [
        *relative,
        (not want.path, "path", "must not be empty", ""),
        (want.path == "/", "path", "must not be /: this module does not replace the root", "Use podlab_node"),
    ]


def _type_checks(want: Wanted) -> list[Check]:
    return [
        (
            not want.type,
            "type",
            "is missing",
            "Say overlay, bind, rbind, tmpfs, proc, sysfs, devpts, mqueue, cgroup2 or another",
        ),
        (want.binds and not want.source, "source", f"is missing: a {want.type} mount shows another directory", ""),
        (
            want.binds and bool(want.source) and not want.source.startswith("/"),
            "source",
            f"must be an absolute path, not {want.source!r}",
            "",
        ),
        (
            want.binds and bool(want.data()),
            "options",
            f"{', '.join(want.data())}: a bind mount takes no file system option",
            "Set it on the file system that is shown",
        ),
    ]


def _overlay_checks(want: Wanted) -> list[Check]:
    overlay = want.type == "overlay"
    layers = [key for key in ("lowerdirs", "upperdir", "workdir") if getattr(want, key)]
    hidden = [key for key in ("lowerdir", "upperdir", "workdir", "lowerdir+") if key in want.data()]
    return [
        (bool(hidden), "options", f"must not carry {', '.join(hidden)}", "Use lowerdirs, upperdir and workdir"),
        (not overlay and bool(layers), layers[0] if layers else "", f"belongs to type overlay, not {want.type!r}", ""),
        (overlay and not want.lowerdirs, "lowerdirs", "is missing: an overlay has at least one lower directory", ""),
        (
            overlay and len(want.lowerdirs) == 1 and not want.upperdir,
            "lowerdirs",
            "must name two directories or more when there is no upperdir",
            "Give upperdir and workdir, or use type bind",
        ),
        (
            overlay and bool(want.upperdir) != bool(want.workdir),
            "workdir" if want.upperdir else "upperdir",
            "is missing: upperdir and workdir go together",
            "Give an empty directory on the same file system",
        ),
        (
            bool(want.upperdir) and bool(want.workdir) and _nested(want.upperdir, want.workdir),
            "workdir",
            f"{want.workdir} and upperdir {want.upperdir} must not contain one another",
            "",
        ),
    ]


def _nested(one: str, other: str) -> bool:
    return os.path.commonpath([one, other]) in (one, other) if one[:1] == other[:1] == "/" else False


def _option_checks(want: Wanted) -> list[Check]:
    calls = [word for word in want.options or () if word in ("bind", "rbind", "remount", "move")]
    both = want.read_only is not None and {"ro", "rw"} & set(want.options or ())
    return [
        (bool(calls), "options", f"must not carry {', '.join(calls)}", "Use type bind or rbind; remounts are planned"),
        (bool(both), "read_only", "says what options say already", "Use one of the two"),
    ]


def _conflicts(found: Sequence[Wanted]) -> list[Problem]:
    first: dict[tuple[str, str], str] = {}
    problems = []
    for want in found:
        key = (want.namespace, want.path)
        if key in first:
            problems.append(Problem(f"{want.place}.path", f"{want.path} is in {first[key]} already", "Name it once"))
        first.setdefault(key, want.place)
    return problems
