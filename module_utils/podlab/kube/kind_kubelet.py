"""What podlab takes of a kind config's KubeletConfiguration, which is among its kubeadmConfigPatches.

Controller only: it reads YAML. Source: kubelet.config.k8s.io/v1beta1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import PodlabError
from . import quantity
from .kind_types import Config
from .yamltree import load_documents

_KIND = "KubeletConfiguration"
FIELD = "allowedUnsafeSysctls"
LOG_SIZE, LOG_FILES = "containerLogMaxSize", "containerLogMaxFiles"
SECCOMP = "seccompDefault"
_USED = {"apiVersion", "kind", FIELD, LOG_SIZE, LOG_FILES, SECCOMP}


def allowed_unsafe_sysctls(config: Config) -> tuple[str, ...]:
    """The names, and the beginnings of names with a * behind, that pods may set beside the safe ones."""
    return tuple(str(name) for patch in _patches(config) for name in _names(patch))


def seccomp_default(config: Config) -> bool:
    """Whether containers that name no seccomp profile have RuntimeDefault; the last patch that says so decides."""
    said = [patch.get(SECCOMP) for patch in _kubelet(config)]
    return [word for word in (False, *said) if isinstance(word, bool)][-1]


def container_logs(config: Config) -> tuple[int, int]:
    """The limits of a container's log: bytes, and files. What faults() refuses is left out."""
    size, files = 10 * 1024 * 1024, 5
    for patch in _kubelet(config):
        if patch.get(LOG_SIZE) is not None and not _size_fault(patch[LOG_SIZE]):
            size = quantity.whole(patch[LOG_SIZE])
        if patch.get(LOG_FILES) is not None and not _files_fault(patch[LOG_FILES]):
            files = patch[LOG_FILES]
    return size, files


def faults(config: Config) -> Iterator[tuple[str, str]]:
    """Values that the kubelet would not start with, and a way out (its NewContainerLogManager)."""
    for patch in _kubelet(config):
        for key, fault, remedy in ((LOG_SIZE, _size_fault, "such as 10Mi"), (LOG_FILES, _files_fault, "such as 5")):
            if patch.get(key) is not None and fault(patch[key]):
                yield f"{key} {fault(patch[key])}", f"Give one {remedy}"


def _size_fault(value: Any) -> str:
    try:
        quantity.whole(value)
    except ValueError as error:
        return str(error)
    return ""


def _files_fault(value: Any) -> str:
    fits = isinstance(value, int) and not isinstance(value, bool) and value > 1
    return "" if fits else f"must be a number above 1, not {value!r}"


def every_word_counts(config: Config) -> bool:
    """True when the patches say nothing but what podlab takes of them."""
    patches = list(_patches(config))
    documents = sum(1 for patch in patches if set(patch) <= _USED and patch.get("kind") == _KIND)
    return bool(patches) and documents == len(patches) >= len(config.kubeadm_config_patches)


def _names(patch: Mapping[str, Any]) -> list[Any]:
    given = patch.get(FIELD)
    return given if patch.get("kind") == _KIND and isinstance(given, list) else []


def _kubelet(config: Config) -> list[Mapping[str, Any]]:
    return [patch for patch in _patches(config) if patch.get("kind") == _KIND]


def _patches(config: Config) -> Iterator[Mapping[str, Any]]:
    for text in config.kubeadm_config_patches:
        try:
            documents = load_documents(text, "")
        except PodlabError:
            continue
        for document in documents:
            if isinstance(document.data, Mapping):
                yield document.data
