"""`validate`: cluster configs and manifests, in any mix, checked without touching anything."""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import yaml

from ..controller import definitions, unfit
from ..errors import PodlabError, Problem
from ..kube import kindconfig, manifests
from ..kube.kind_types import Config
from . import lab

SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "<stdin>"

_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_KIND_GROUP = "kind.x-k8s.io"
_LOOKS_LIKE_KIND = re.compile(r"^[{\s]*[\"']?(apiVersion\b.*kind\.x-k8s\.io|kind\W+Cluster\b)", re.MULTILINE)


class Text(NamedTuple):
    """A file as the user named it, and what is in it."""

    file: str
    text: str


class Found(NamedTuple):
    """What a file holds: how many cluster configs, how many objects, and what is wrong."""

    clusters: int
    objects: int
    problems: tuple[Problem, ...]


def validate(names: Sequence[str]) -> int:
    """Check files, directories and "-"; print a line for each sound file, every problem of the others.

    Returns the exit code: 1 when there is an error. Raises PodlabError when nothing is named.
    """
    if not names:
        raise PodlabError("validate what? Name cluster configs, manifests, directories of them, or -")
    texts, problems = texts_of(names)
    found = check(texts)
    problems += [problem for text in texts for problem in found[text.file].problems]
    for text in texts:
        if not any(problem.level == "error" for problem in found[text.file].problems):
            print(f"{text.file}: {summary(found[text.file])}")
    errors = [problem for problem in problems if problem.level == "error"]
    sys.stdout.flush()
    for problem in problems:
        print(f"warning: {problem}" if problem.level == "warning" else problem, file=sys.stderr)
    if errors:
        print(f"{len(errors)} error{'s' if len(errors) > 1 else ''}", file=sys.stderr)
    return 1 if errors else 0


def texts_of(names: Sequence[str]) -> tuple[list[Text], list[Problem]]:
    """The files that the names stand for, and what cannot be read."""
    texts: dict[str, Text] = {}
    problems = []
    for name in names:
        try:
            for file, path in [(STDIN, None)] if name == "-" else _files(name):
                text = path.read_text(encoding="utf-8") if path else sys.stdin.read()
                texts.setdefault(file, Text(file, text))
        except (OSError, UnicodeDecodeError) as error:
            problems.append(Problem("", f"cannot be read: {error}", "", name))
        except PodlabError as error:
            problems.append(Problem("", error.message))
    return list(texts.values()), problems


def _files(name: str) -> list[tuple[str, pathlib.Path | None]]:
    """(name as messages show it, path) of a file, or of the manifests in a directory, as kubectl -f takes them."""
    path = lab.user_path(name)
    if not path.is_dir():
        return [(name, path)]
    found = sorted(entry for entry in path.iterdir() if entry.suffix in SUFFIXES and entry.is_file())
    if not found:
        raise PodlabError(f"{name}: the directory has no file that ends in {', '.join(SUFFIXES)}")
    return [(str(pathlib.Path(name, entry.name)), entry) for entry in found]


def check(texts: Iterable[Text]) -> dict[str, Found]:
    """What each file holds and what is wrong with it, also across files: the same object twice, and when there is one
    config and nothing else is wrong, what of the manifests does not fit a lab of it."""
    clusters: dict[str, int] = {}
    problems: dict[str, list[Problem]] = {}
    sources = []
    loaded: list[Config | None] = []
    for text in texts:
        configs, rest = split(text.text)
        clusters[text.file] = len(configs)
        read_here = [_config(config, text.file) for config in configs]
        loaded += [config for config, _ in read_here]
        problems[text.file] = [problem for _, found in read_here for problem in found]
        if not text.text.strip() or not (configs or rest.strip()):
            problems[text.file].append(Problem("", "there is nothing in it", "", text.file))
        sources.append(manifests.Source(text.file, rest))
    read = manifests.read(sources, definitions())
    objects = dict.fromkeys(clusters, 0)
    for manifest in read.manifests:
        objects[manifest.document.file] += 1
    # A namespace may be there already: that is for `apply` to know.
    absent = (problem._replace(level="warning") for problem in manifests.missing_namespaces(read.manifests, ()))
    for problem in (*read.problems, *absent):
        problems[problem.file].append(problem)
    if len(loaded) == 1 and loaded[0] and not any(p.level == "error" for found in problems.values() for p in found):
        for problem in unfit(loaded[0], read.manifests):
            problems[problem.file].append(problem)
    for file in clusters:
        if not (clusters[file] or objects[file] or problems[file]):
            problems[file].append(Problem("", "there is no object in it", "", file))
    return {
        file: Found(clusters[file], objects[file], tuple(sorted(problems[file], key=lambda problem: problem.line)))
        for file in clusters
    }


def _config(text: str, file: str) -> tuple[Config | None, list[Problem]]:
    try:
        return kindconfig.load(text, file)
    except PodlabError as error:
        return None, list(error.problems) or [Problem("", error.message, "", file)]


def split(text: str) -> tuple[list[str], str]:
    """The kind configs in a stream of documents, one text for each, and the stream without them.

    Lines that are left out stay as empty lines, so that every line keeps its number.
    """
    starts = [0, *(match.start() for match in _SEPARATOR.finditer(text) if match.start()), len(text)]
    configs, rest = [], []
    for start, end in zip(starts, starts[1:]):
        part = text[start:end]
        if is_config(part):
            configs.append("\n" * text.count("\n", 0, start) + _SEPARATOR.sub("", part, count=1))
            rest.append("\n" * part.count("\n"))
        else:
            rest.append(part)
    return configs, "".join(rest)


def is_config(document: str) -> bool:
    """True when the document is a kind config, or means to be one."""
    try:
        data = yaml.load(document, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return bool(_LOOKS_LIKE_KIND.search(document))
    if not isinstance(data, dict):
        return False
    version = str(data.get("apiVersion", ""))
    return version.startswith(_KIND_GROUP) or (data.get("kind") == "Cluster" and "/" not in version)


def summary(found: Found) -> str:
    """ "ok, 1 cluster config, 3 objects" """
    counts: Iterator[tuple[int, str]] = iter(((found.clusters, "cluster config"), (found.objects, "object")))
    return ", ".join(["ok", *(f"{count} {what}{'s' if count > 1 else ''}" for count, what in counts if count)])
