"""The seccomp filters of pods, made before their supervisors start, so that none of these carries a compiler.

One file of the lab for each program, whoever uses it: containers with the same profile and capabilities share it.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import stat
from collections.abc import Collection, Mapping
from typing import Any

from ..errors import PodlabError
from ..kube import seccomp_default
from ..linux import seccomp, seccomp_filter, syscalls
from . import entry, paths
from .digest import hexdigest
from .starter import borrow

# The kubelet's: <root directory>/seccomp.
PROFILES = "/var/lib/kubelet/seccomp"
_LARGEST = 1 << 20


def prepare(config: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """The runtime config with a filter for every `seccomp` in it that wants one: the sandbox's and the containers'.

    record: node.json of the pod's node, on which profiles of type Localhost are. To each {"type", "profile"} comes
    "filter", the path of the program, or "error", what is wrong with the profile: the container is not created then.
    """
    made = {key: _each(config["cluster"], value, record) for key, value in config.items()}
    sandbox = _filtered(config["cluster"], config["seccomp"], (), record)
    # A machine without seccomp can run pods, if not containers that ask for it.
    made["seccomp"] = sandbox if "filter" in sandbox else {"type": "Unconfined"}
    return made


def container(cluster: str, config: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """The same for one container's config."""
    return {**config, "seccomp": _filtered(cluster, config["seccomp"], config["caps"], record)}


def _each(cluster: str, value: Any, record: Mapping[str, Any]) -> Any:
    """A value of the config; of a list of containers each with its filter."""
    if not isinstance(value, list):
        return value
    confined = [isinstance(entry, Mapping) and "seccomp" in entry for entry in value]
    return [container(cluster, entry, record) if has else entry for has, entry in zip(confined, value)]


def _filtered(
    cluster: str, wanted: Mapping[str, Any], caps: Collection[str], record: Mapping[str, Any]
) -> dict[str, Any]:
    if wanted["type"] == "Unconfined":
        return dict(wanted)
    try:
        return {**wanted, "filter": _file(cluster, _compile(wanted, caps, record))}
    except PodlabError as error:
        return {**wanted, "error": str(error)}


def _compile(wanted: Mapping[str, Any], caps: Collection[str], record: Mapping[str, Any]) -> bytes:
    if not os.path.exists("/proc/sys/kernel/seccomp/actions_avail"):
        raise PodlabError("seccomp is not supported: the kernel has no CONFIG_SECCOMP_FILTER")
    if wanted["type"] == "RuntimeDefault":
        return _runtime_default(tuple(sorted(caps)))
    text = _read(wanted["profile"], record)
    try:
        profile = json.loads(text)
        if not isinstance(profile, dict):
            raise ValueError("it is not a JSON object")
        return _program(profile, caps)
    except (ValueError, TypeError, AttributeError) as error:
        raise PodlabError(f'decoding seccomp profile failed "{PROFILES}/{wanted["profile"]}": {error}') from error


@functools.cache
def _runtime_default(caps: tuple[str, ...]) -> bytes:
    """The same for most containers of a lab."""
    try:
        return _program(seccomp_default.profile(caps, os.uname().machine, _kernel()), caps)
    except ValueError as error:
        raise PodlabError(f"seccomp is not supported: {error}") from error


def _program(profile: Mapping[str, Any], caps: Collection[str]) -> bytes:
    machine = os.uname().machine
    read = seccomp_filter.read(profile, caps, machine, _kernel())
    return seccomp.pack(read.flags, seccomp_filter.compile_profile(read, machine))


def _kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int(minor.split("-")[0])


def _read(profile: str, record: Mapping[str, Any]) -> str:
    """A profile's text, from the node: below its directory, whatever links there are. Raises PodlabError."""
    said = borrow(lambda _: _read_in_node(profile, record))
    if "refused" in said:
        raise PodlabError(f'cannot load seccomp profile "{PROFILES}/{profile}": {said["refused"]}')
    return str(said["text"])


def _read_in_node(profile: str, record: Mapping[str, Any]) -> dict[str, Any]:
    entry.enter(record)
    try:
        root = os.open(PROFILES, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        # Not one that would be waited for, such as a FIFO.
        fd = syscalls.openat2(root, profile, os.O_RDONLY | os.O_NONBLOCK, resolve=syscalls.RESOLVE_BENEATH)
    except OSError as error:
        outside = error.errno == errno.EXDEV
        return {"refused": "it leads out of that directory" if outside else os.strerror(error.errno or 0).lower()}
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
        return {"refused": f"it is not a regular file of at most {_LARGEST} bytes"}
    return {"text": os.read(fd, _LARGEST).decode("utf-8", "replace")}


def _file(cluster: str, packed: bytes) -> str:
    """The file that holds this program; written by rename, for several may make it at once."""
    directory = f"{paths.cluster_dir(cluster)}/seccomp"
    path = f"{directory}/{hexdigest(packed.hex())}"
    if not os.path.exists(path):
        os.makedirs(directory, 0o700, exist_ok=True)
        temporary = f"{path}.{os.getpid()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(packed)
        os.rename(temporary, path)
    return path
