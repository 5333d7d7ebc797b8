"""A pod's volumes on the node: emptyDirs made, hostPaths checked. Runs inside the node, in the pod's supervisor."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any

from ..errors import PodlabError
from ..linux import syscalls
from . import paths

HOST_PATH_TESTS = {
    "Directory": stat.S_ISDIR,
    "File": stat.S_ISREG,
    "Socket": stat.S_ISSOCK,
    "CharDevice": stat.S_ISCHR,
    "BlockDevice": stat.S_ISBLK,
}


def prepare(config: Mapping[str, Any]) -> None:
    """Make the pod's emptyDirs and check its hostPaths. Raises PodlabError naming the volume."""
    for name, volume in config["volumes"].items():
        if volume["kind"] == "emptyDir":
            _make_empty_dir(path_of(config, name), volume)
        else:
            _check_host_path(name, volume["path"], volume["type"])


def _make_empty_dir(path: str, volume: Mapping[str, Any]) -> None:
    if os.path.isdir(path):
        return
    os.makedirs(path)
    os.chmod(path, 0o777)
    if volume["medium"] == "Memory":
        size = f",size={volume['size']}" if volume["size"] else ""
        syscalls.mount("tmpfs", path, "tmpfs", 0, f"mode=1777{size}")


def _check_host_path(name: str, path: str, kind: str) -> None:
    if kind == "DirectoryOrCreate" and not os.path.exists(path):
        os.makedirs(path, 0o755)
    if kind == "FileOrCreate" and not os.path.exists(path):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    expected = kind.replace("OrCreate", "")
    if not expected:
        # Type "" checks nothing; like a runtime's bind of a missing path it becomes a directory.
        if not os.path.exists(path):
            os.makedirs(path, 0o755)
        return
    if not os.path.exists(path) or not HOST_PATH_TESTS[expected](os.stat(path).st_mode):
        raise PodlabError(
            f'MountVolume.SetUp failed for volume "{name}": hostPath type check failed: {path} is not a {expected}'
        )


def path_of(config: Mapping[str, Any], name: str) -> str:
    """Where the volume is on the node."""
    volume = config["volumes"][name]
    if volume["kind"] == "hostPath":
        return str(volume["path"])
    return f"{paths.pod_data_dir(config['cluster'], config['uid'])}/volumes/{name}"


def refresh(config: Mapping[str, Any]) -> None:
    """Bring the pod's volumes to what sources.json says now."""
