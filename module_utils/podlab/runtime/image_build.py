"""Build podlab's own images from their recipes, and tell whether what was built is still what would be built."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from ..errors import PodlabError
from ..linux import elf
from . import image_store, packages, tree
from .image_python import put_program, source_text
from .image_recipes import Recipe, by_repository
from .pause import pause_binary

# Libraries that glibc before 2.34 loads by name (dlopen) to look up users and hosts: no ELF header names them.
_LOADED_BY_NAME = ("libnss_files.so.2", "libnss_dns.so.2")
# A package's dependencies may have dependencies that have the library.
_ROUNDS = 3


def recipe_mark(recipe: Recipe) -> str:
    """Changes when the recipe does, and when a program of ours does that is in it."""
    words: list[Any] = [recipe._asdict(), _LOADED_BY_NAME]
    if recipe.program:
        words += [source_text(path) for path in recipe.program.sources]
    return hashlib.sha256(repr(tuple(words)).encode()).hexdigest()[:16]


def stale(record: Mapping[str, Any], recipe: Recipe, ask_apt: bool = False) -> str:
    """Why a built image is no longer what its recipe would make; empty when it is.

    ask_apt: also ask which versions a download would get, when apt has heard anything since the build.
    Otherwise an image out of downloaded packages stays as it is: a lab that is there must not need the mirror.
    """
    source = record.get("source", {})
    if source.get("recipe") != recipe_mark(recipe):
        return "recipe changed"
    if source.get("packages") and not ask_apt:
        return ""
    marks = source.get("files", {})
    now = tree.stat_marks(marks)
    changed = [path for path in marks if marks[path] != now[path]]
    if changed:
        return f"{changed[0]} changed"
    if source.get("packages") and source.get("apt") != tree.stat_marks(packages.APT_STATE):
        new = packages.candidate_versions(list(source["packages"]))
        for name, version in source["packages"].items():
            if new[name] and new[name] != version:
                return f"package {name} {version} -> {new[name]}"
    base = by_repository(recipe.base)
    if base is not None:
        below = image_store.read(f"{base.repository}:latest")
        reason = "not built" if below is None else stale(below, base, ask_apt)
        if reason or below is None or below["layers"] != record["layers"][: len(below["layers"])]:
            return f"base image {base.repository}: {reason or 'rebuilt'}"
    return ""


def build(recipe: Recipe, reference: str) -> dict[str, Any]:
    """Make the image and put it in the store. Needs the store's lock. Returns its record."""
    layers: list[str] = []
    base = by_repository(recipe.base)
    if base is not None:
        name = f"{base.repository}:latest"
        below = image_store.read(name)
        if below is None or stale(below, base):
            below = build(base, name)
        layers.extend(below["layers"])
    with image_store.scratch() as work:
        top = f"{work}/tree"
        os.mkdir(top, 0o755)
        os.chmod(top, 0o755)
        source = _fill(recipe, top, f"{work}/packages")
        digest = image_store.tree_digest(top)
        image_store.adopt(top, image_store.layer_dir(digest))
    layers.append(digest)
    config = dict(recipe.config)
    words = json.dumps({"config": config, "layers": layers}, sort_keys=True)
    record = {
        "reference": reference,
        "id": f"sha256:{hashlib.sha256(words.encode()).hexdigest()}",
        "layers": layers,
        "config": config,
        "source": {"recipe": recipe_mark(recipe), **source},
    }
    image_store.write(reference, record)
    return record


def _fill(recipe: Recipe, top: str, download: str) -> dict[str, Any]:
    """Put the recipe's files into top. Returns where they came from: files of this machine, versions of packages."""
    placed: dict[str, str] = {}
    versions: dict[str, str] = {}
    roots = ["/"]
    if recipe.pause:
        placed["/pause"] = pause_binary()
        tree.put_file(top, "/pause", placed["/pause"])
    evidence = (*recipe.binaries, *(recipe.program.evidence if recipe.program else ()))
    here = recipe.from_machine and all(elf.located(path, roots) for path in evidence)
    if recipe.packages and not here:
        roots = [download, "/"]
        versions = packages.unpack(recipe.packages, download)
        versions.update(_missing_libraries(recipe, roots, download))
    if recipe.binaries:
        placed.update(tree.put_binaries(top, recipe.binaries, roots))
        placed.update(_put_loaded_by_name(top, roots, placed))
    if recipe.program:
        placed.update(put_program(top, recipe.program, roots))
    for path in recipe.copies:
        tree.put_copy(top, path, f"{download}{path}")
    if recipe.applets:
        tree.put_applets(top, placed["/bin/busybox"])
    tree.fill(top, recipe.directories, recipe.files, recipe.links)
    ours = [path for path in placed.values() if not path.startswith(os.path.dirname(download))]
    apt = tree.stat_marks(packages.APT_STATE) if versions else {}
    return {"files": tree.stat_marks(ours), "packages": versions, "apt": apt}


def _missing_libraries(recipe: Recipe, roots: list[str], download: str) -> dict[str, str]:
    """Download what the binaries need and neither the packages nor this machine have."""
    versions: dict[str, str] = {}
    asked = set(recipe.packages)
    level = download
    for number in range(_ROUNDS):
        if not elf.closure(recipe.binaries, roots).missing:
            break
        names = [name for name in packages.dependencies(level) if name not in asked]
        known = [name for name, version in packages.candidate_versions(names).items() if version] if names else []
        if not known:
            break
        asked.update(known)
        level = f"{download}{number}"
        versions.update(packages.unpack(known, level))
        roots.insert(-1, level)
    return versions


def _put_loaded_by_name(top: str, roots: list[str], placed: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in placed:
        if os.path.basename(path) == "libc.so.6":
            for name in _LOADED_BY_NAME:
                source = elf.located(f"{os.path.dirname(path)}/{name}", roots)
                if source:
                    found[f"{os.path.dirname(path)}/{name}"] = source
    for path, source in found.items():
        tree.put_file(top, path, source)
    return found


def built_in_error(recipe: Recipe, error: PodlabError) -> PodlabError:
    """The failure of a build, said as kubelet says that an image cannot be had."""
    return PodlabError(f'ErrImagePull: cannot make image "{recipe.repository}": {error.message}', **error.details)
