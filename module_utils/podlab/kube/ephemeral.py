"""Ephemeral containers: added to a pod that runs, to look into it; never restarted, never part of its resources. Pure.

Source: k8s pkg/apis/core/v1/validation (validateEphemeralContainers), kubectl pkg/cmd/debug (names and profiles).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from . import container_checks, containerspec, defaults, lifecycle, names
from .schema import Finding, Path, show

# apimachinery's util/rand: letters and digits that make no words.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX = 5
# kubectl debug --profile: the securityContext that it gives an ephemeral container.
PROFILES: Mapping[str, Mapping[str, Any]] = {
    "general": {"capabilities": {"add": ["SYS_PTRACE"]}},
    "baseline": {},
    "restricted": {
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "allowPrivilegeEscalation": False,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "netadmin": {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}},
    "sysadmin": {"privileged": True},
}
KEYS = ("initContainers", "containers", "ephemeralContainers")
NEVER: Mapping[str, Any] = {"policy": lifecycle.NEVER, "rules": []}


class Asked(NamedTuple):
    """What `debug` was asked for. name: "" for one that is made up. target: whose processes it sees."""

    image: str
    command: Sequence[str] = ()
    name: str = ""
    target: str = ""
    profile: str = "general"
    stdin: bool = False
    tty: bool = False


def taken(pod: Mapping[str, Any]) -> list[str]:
    """Names of the pod's containers of every kind."""
    return [each["name"] for key in KEYS for each in pod["spec"].get(key) or []]


def made_up(known: Iterable[str]) -> str:
    """debugger- and five characters: a name that the pod does not have yet."""
    while True:
        name = "debugger-" + "".join(random.choices(_ALPHABET, k=_SUFFIX))
        if name not in known:
            return name


def container(asked: Asked, pod: Mapping[str, Any]) -> dict[str, Any]:
    """The complete v1 EphemeralContainer. asked.name and asked.profile are real ones."""
    made: dict[str, Any] = {"name": asked.name, "image": asked.image}
    optional = {
        "command": list(asked.command),
        "stdin": asked.stdin,
        "tty": asked.tty,
        "targetContainerName": asked.target,
        "securityContext": dict(PROFILES[asked.profile]),
    }
    made.update({key: value for key, value in optional.items() if value})
    return defaults.container(made, bool(pod["spec"].get("hostNetwork")))


def check(new: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterator[Finding]:
    """Every fault of an ephemeral container that is to be added to the pod."""
    path: Path = ("spec", "ephemeralContainers", len(pod["spec"].get("ephemeralContainers") or []))
    fault = names.label_fault(new["name"])
    if fault:
        yield Finding((*path, "name"), f"{fault}; it is {show(new['name'])}")
    elif new["name"] in taken(pod):
        yield Finding((*path, "name"), f"the pod has a container {show(new['name'])} already", "Give it another name")
    target = new.get("targetContainerName")
    there = [each["name"] for each in pod["spec"]["containers"]]
    if target and target not in there:
        yield Finding((*path, "targetContainerName"), f"{show(target)} not found. The pod has: {', '.join(there)}")
    yield from container_checks.container(new, (), path)


def config(new: Mapping[str, Any], around: containerspec.Surroundings) -> dict[str, Any]:
    """Its runtime configuration: a container's, with `target`, whose PID namespace it joins ("" for its own)."""
    return {
        **containerspec.container(new, around),
        "restart": dict(NEVER),
        "target": new.get("targetContainerName") or "",
    }
