"""What making a pod's volumes is, as the commands a person would type on its node. No content of a file is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import PodlabError
from ..kube import payload
from ..step import Step
from . import volumes
from .rootmounts import RootMount

_SHOWN = {"HostToContainer": "--make-rslave", "Bidirectional": "--make-rshared"}


def steps(config: Mapping[str, Any], name: str, why: str) -> Iterator[Step]:
    """The steps for all volumes. config: with its `sources`."""
    for volume_name, volume in config["volumes"].items():
        path = volumes.path_of(config, volume_name)
        target = f"volume {volume_name} of {name}"
        for argv in _host_path(path, volume) if volume["kind"] == "hostPath" else _own(config, path, volume):
            yield Step("volume.make", target, argv, why)


def _host_path(path: str, volume: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    if volume["type"] == "DirectoryOrCreate":
        yield ("mkdir", "-p", "-m", "755", path)
    elif volume["type"] == "FileOrCreate":
        yield ("touch", path)


def _own(config: Mapping[str, Any], path: str, volume: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    yield ("mkdir", "-p", "-m", "777", path)
    if volume.get("memory") or volume.get("medium") == "Memory":
        yield ("mount", "-t", "tmpfs", "-o", f"mode=1777,size={volume['size']},noswap", "tmpfs", path)
    for file, mode in sorted(_files(config, volume).items()):
        yield ("install", "-D", "-m", f"{mode:o}", "/dev/stdin", f"{path}/..data/{file}")
    if volume["fs_group"] is not None:
        yield ("chgrp", "-R", str(volume["fs_group"]), path)


def _files(config: Mapping[str, Any], volume: Mapping[str, Any]) -> dict[str, int]:
    if volume["kind"] != "projected":
        return {}
    try:
        return {path: file.mode for path, file in payload.files(volume, config.get("sources") or {}).items()}
    except PodlabError:
        # Something is missing: the pod waits for it.
        return {}


def mount(mount: RootMount, root: str, words: list[str]) -> tuple[str, ...]:
    """The command that mounts a volume. words: the options that every bind may have."""
    entry = mount.volume or {}
    below = entry.get("sub_path") or entry.get("sub_path_expr") or ""
    if mount.recursive_read_only in ("Enabled", "IfPossible"):
        words = ["ro=recursive" if word == "ro" else word for word in words]
    options = ("-o", ",".join(words)) if words else ()
    shown = (_SHOWN[mount.propagation],) if mount.propagation in _SHOWN else ()
    source = f"{mount.source}/{below}" if below else mount.source
    return ("mount", "--rbind", *shown, *options, source, f"{root}{mount.target}")
