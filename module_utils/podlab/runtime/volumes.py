"""A pod's volumes on the node: made, filled, brought up to date, taken away. Runs inside the node, in a starter.

Sources: k8s pkg/volume/{emptydir,hostpath,configmap,secret,downwardapi,projected}. Volumes of memory are mounted in the
supervisor's own mount namespace and go with it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from typing import Any

from ..errors import PodlabError
from ..kube import payload
from ..linux import syscalls
from . import atomicwriter, fsgroup, paths
from .files import read_json

HOST_PATH_TESTS = {
    "Directory": stat.S_ISDIR,
    "File": stat.S_ISREG,
    "Socket": stat.S_ISSOCK,
    "CharDevice": stat.S_ISCHR,
    "BlockDevice": stat.S_ISBLK,
}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def prepare(config: Mapping[str, Any]) -> None:
    """Make the pod's volumes. Raises PodlabError naming the volume, with the reason FailedMount."""
    sources = read_json(paths.sources_file(config["cluster"], config["uid"]), {})
    for name, volume in config["volumes"].items():
        try:
            _SET_UP[volume["kind"]](path_of(config, name), volume, sources)
        except (OSError, PodlabError) as error:
            text = f'MountVolume.SetUp failed for volume "{name}" : {error}'
            raise PodlabError(text, reason="FailedMount") from error


def refresh(config: Mapping[str, Any]) -> None:
    """Bring the pod's volumes to what sources.json says now; one that cannot be stays as it is.

    Raises PodlabError with what could not be.
    """
    sources = read_json(paths.sources_file(config["cluster"], config["uid"]), {})
    faults = []
    for name, volume in config["volumes"].items():
        if volume["kind"] == "projected":
            try:
                _set_up_projected(path_of(config, name), volume, sources)
            except (OSError, PodlabError) as error:
                faults.append(f'MountVolume.SetUp failed for volume "{name}" : {error}')
    if faults:
        raise PodlabError("; ".join(faults))


def path_of(config: Mapping[str, Any], name: str) -> str:
    """Where the volume is on the node."""
    volume = config["volumes"][name]
    if volume["kind"] == "hostPath":
        return str(volume["path"])
    return f"{paths.pod_data_dir(config['cluster'], config['uid'])}/volumes/{name}"


def _set_up_empty_dir(path: str, volume: Mapping[str, Any], sources: Mapping[str, Any]) -> None:
    if _make_directory(path, in_memory(volume), volume["size"]):
        _with_directory(path, lambda fd: fsgroup.give(fd, volume["fs_group"]))


def _set_up_projected(path: str, volume: Mapping[str, Any], sources: Mapping[str, Any]) -> None:
    files = payload.files(volume, sources)
    _make_directory(path, volume["memory"], volume["size"])

    def own(fd: int) -> None:
        fsgroup.give(fd, volume["fs_group"], read_only=True)

    _with_directory(path, lambda fd: atomicwriter.write(fd, files, own))


def _make_directory(path: str, memory: bool, size: int | None) -> bool:
    """The directory of a volume, mode 0777; False when it is there already."""
    if os.path.isdir(path) and (not memory or os.path.ismount(path)):
        return False
    os.makedirs(path, exist_ok=True)
    os.chmod(path, 0o777)
    if memory:
        mount_memory(path, f"mode=1777,size={size}" if size else "mode=1777")
        # As on a node, where everything is shared: what one container mounts in it can reach another.
        syscalls.mount(None, path, None, syscalls.MS_SHARED)
    return True


def in_memory(volume: Mapping[str, Any]) -> bool:
    """Whether the volume is a mount of the supervisor's."""
    return bool(volume.get("memory")) or volume.get("medium") == "Memory"


def mount_memory(path: str, options: str) -> None:
    """A tmpfs that is never swapped out, where the kernel can promise that (Linux 6.4)."""
    try:
        syscalls.mount("tmpfs", path, "tmpfs", 0, f"{options},noswap")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        syscalls.mount("tmpfs", path, "tmpfs", 0, options)


def _with_directory(path: str, work: Any) -> None:
    fd = os.open(path, _DIRECTORY)
    try:
        work(fd)
    finally:
        os.close(fd)


def _set_up_host_path(path: str, volume: Mapping[str, Any], sources: Mapping[str, Any]) -> None:
    kind = volume["type"]
    if kind in ("DirectoryOrCreate", "") and not os.path.exists(path):
        # Type "" checks nothing; like a runtime's bind of a missing path it becomes a directory.
        os.makedirs(path, 0o755, exist_ok=True)
    if kind == "FileOrCreate" and not os.path.exists(path):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    os.close(open_host_path(path, kind))


def open_host_path(path: str, kind: str) -> int:
    """An O_PATH descriptor of a hostPath that is of its type, links followed as the kubelet does (HostPathType)."""
    expected = kind.replace("OrCreate", "")
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        raise PodlabError(f"hostPath type check failed: {path} is not a {expected or 'file'}") from None
    if expected and not HOST_PATH_TESTS[expected](os.fstat(fd).st_mode):
        os.close(fd)
        raise PodlabError(f"hostPath type check failed: {path} is not a {expected}")
    return fd


_SET_UP = {"emptyDir": _set_up_empty_dir, "hostPath": _set_up_host_path, "projected": _set_up_projected}
