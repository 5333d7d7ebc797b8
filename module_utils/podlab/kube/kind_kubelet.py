"""What podlab takes of a kind config's KubeletConfiguration, which is among its kubeadmConfigPatches.

Controller only: it reads YAML. Source: kubelet.config.k8s.io/v1beta1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import PodlabError
from .kind_types import Config
from .yamltree import load_documents

FIELD = "allowedUnsafeSysctls"
_USED = {"apiVersion", "kind", FIELD}


def allowed_unsafe_sysctls(config: Config) -> tuple[str, ...]:
    """The names, and the beginnings of names with a * behind, that pods may set beside the safe ones."""
    return tuple(str(name) for patch in _patches(config) for name in _names(patch))


def every_word_counts(config: Config) -> bool:
    """True when the patches say nothing but what podlab takes of them."""
    patches = list(_patches(config))
    documents = sum(1 for patch in patches if set(patch) <= _USED and patch.get("kind") == "KubeletConfiguration")
    return bool(patches) and documents == len(patches) >= len(config.kubeadm_config_patches)


def _names(patch: Mapping[str, Any]) -> list[Any]:
    given = patch.get(FIELD)
    return given if patch.get("kind") == "KubeletConfiguration" and isinstance(given, list) else []


def _patches(config: Config) -> Iterator[Mapping[str, Any]]:
    for text in config.kubeadm_config_patches:
        try:
            documents = load_documents(text, "")
        except PodlabError:
            continue
        for document in documents:
            if isinstance(document.data, Mapping):
                yield document.data
