"""A container's volumes, opened and copied before its root is built: what is bound is what was looked at.

Runs in a starter, in the supervisor's mount namespace. Sources: k8s makeMounts (kubelet_pods.go), containerd's
internal/cri/opts/spec_linux_opts.go for the propagation.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import PodlabError
from ..kube import env
from ..linux import syscalls
from ..linux.mountinfo import mounts
from . import subpath, volumes
from .rootmounts import RootMount

CONFIG_ERROR = "CreateContainerConfigError"
_NEEDED = {"Bidirectional": (("shared",), "shared"), "HostToContainer": (("shared", "slave"), "shared or slave")}


def opened(
    config: Mapping[str, Any], container: Mapping[str, Any], made: Sequence[RootMount], known: Mapping[str, str]
) -> list[RootMount]:
    """The mounts, those of volumes with a detached copy of what they bind.

    made: of containerroot.container_mounts. known: the variables that subPathExpr may name.
    Raises PodlabError with a reason; the descriptors of a starter go with it.
    """
    found = []
    for mount in made:
        entry = mount.volume
        if entry is None:
            found.append(mount)
            continue
        with _namespace(config, entry):
            fd = _open(config, container, entry, known)
            _check_propagation(fd, mount)
            is_file = not stat.S_ISDIR(os.fstat(fd).st_mode)
            found.append(mount._replace(tree=copy(fd), file=is_file))
            os.close(fd)
    return found


def copy(fd: int) -> int:
    """A detached copy of what is mounted at fd and below: the one place where a volume is bound."""
    return syscalls.copy_mount(fd)


def _open(
    config: Mapping[str, Any], container: Mapping[str, Any], entry: Mapping[str, Any], known: Mapping[str, str]
) -> int:
    """An O_PATH descriptor of what a volume mount shows."""
    volume, path = config["volumes"][entry["volume"]], volumes.path_of(config, entry["volume"])
    sub_path = _sub_path(entry, known)
    if volume["kind"] == "hostPath":
        fd = volumes.open_host_path(path, volume["type"])
    else:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not sub_path:
        return fd
    try:
        return subpath.open_beneath(fd, sub_path)
    except OSError as error:
        # No more of it, as the kubelet: the reason could tell about the node.
        text = f'failed to prepare subPath for volumeMount "{entry["volume"]}" of container "{container["name"]}"'
        raise PodlabError(text, reason=CONFIG_ERROR) from error
    finally:
        os.close(fd)


def _sub_path(entry: Mapping[str, Any], known: Mapping[str, str]) -> str:
    path = str(entry["sub_path"])
    if entry["sub_path_expr"]:
        path, missing = env.expand_known(entry["sub_path_expr"], known)
        if missing:
            raise PodlabError(f"missing value for {', '.join(missing)}", reason=CONFIG_ERROR)
    if path.startswith("/"):
        raise PodlabError(f"error SubPath `{path}` must not be an absolute path", reason=CONFIG_ERROR)
    if ".." in path.split("/"):
        raise PodlabError(f"unable to provision SubPath `{path}`: must not contain '..'", reason=CONFIG_ERROR)
    return path


@contextlib.contextmanager
def _namespace(config: Mapping[str, Any], entry: Mapping[str, Any]) -> Iterator[None]:
    """In it a volume is opened: the node's mount namespace when what is mounted in it is to reach the node.

    The supervisor's own namespace receives from the node's and gives nothing back; it has the volumes in memory.
    """
    volume = config["volumes"][entry["volume"]]
    if entry["propagation"] != "Bidirectional" or volumes.in_memory(volume):
        yield
        return
    home, node = (os.open(f"/proc/{who}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC) for who in ("self", "1"))
    try:
        syscalls.setns(node, syscalls.CLONE_NEWNS)
        yield
    finally:
        syscalls.setns(home, syscalls.CLONE_NEWNS)
        os.close(home)
        os.close(node)


def _check_propagation(fd: int, mount: RootMount) -> None:
    """A volume can pass on only what its own mount passes on (ensureShared, ensureSharedOrSlave)."""
    if mount.propagation not in _NEEDED:
        return
    kinds, words = _NEEDED[mount.propagation]
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        number = next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))
    below = next(each for each in mounts() if each.mount_id == number)
    if not set(kinds) & set(below.propagation.split(",")):
        raise PodlabError(f'path "{mount.source}" is mounted on "{below.mount_point}" but it is not a {words} mount')
