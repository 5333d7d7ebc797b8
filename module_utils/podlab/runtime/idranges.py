"""Which IDs of the machine the pods with `hostUsers: false` have: 65536 each, disjoint over all labs.

What is given is noted in the pod's own directory, as the kubelet does it (<poddir>/userns): it is given for as long as
that is there, whoever restarts meanwhile, and goes with it. Runs on the machine. Source: k8s pkg/kubelet/userns.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import PodlabError
from ..linux.usernamespace import SIZE
from . import paths
from .files import read_json, write_json

# The machine's own IDs are never given; the last range has no ID that means "none".
FIRST, LAST = 1, (1 << 32) // SIZE - 2
FILE = "userns"


def given(config: Mapping[str, Any]) -> dict[str, Any]:
    """The runtime config with its `id_base`, when it wants a user namespace. The pod's directory is there."""
    if config["host_users"]:
        return dict(config)
    return {**config, "id_base": _reserve(paths.pod_dir(config["cluster"], config["uid"]))}


def _reserve(directory: str) -> int:
    fd = os.open(paths.run_root(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        there = _range_of(directory)
        if there:
            return there * SIZE
        taken = set(_taken())
        number = next((number for number in range(FIRST, LAST + 1) if number not in taken), 0)
        if not number:
            raise PodlabError(f"All {LAST} ranges of user IDs are taken by pods with hostUsers: false. Delete some")
        mapping = [{"hostId": number * SIZE, "containerId": 0, "length": SIZE}]
        write_json(f"{directory}/{FILE}", {"uidMappings": mapping, "gidMappings": mapping})
        return number * SIZE
    finally:
        os.close(fd)


def _taken() -> Iterator[int]:
    """The numbers of the ranges of every pod of every lab."""
    for cluster in os.listdir(paths.run_root()):
        pods = paths.pods_dir(cluster)
        for uid in os.listdir(pods) if os.path.isdir(pods) else ():
            number = _range_of(f"{pods}/{uid}")
            if number:
                yield number


def _range_of(directory: str) -> int:
    noted = read_json(f"{directory}/{FILE}", {})
    return int(noted["uidMappings"][0]["hostId"]) // SIZE if noted else 0
