"""An image as the runtime sees it: a name, layer directories, and the few words of configuration that count."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import PodlabError, Problem
from . import image_store


class Image(NamedTuple):
    """reference: normalised. id: "sha256:..." of its configuration. layers: absolute directories, bottom first.

    config: Env, Entrypoint, Cmd (lists of str), User, WorkingDir, StopSignal (str), ExposedPorts (list of "80/tcp").
    """

    reference: str
    id: str
    layers: tuple[str, ...]
    config: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"reference": self.reference, "id": self.id, "layers": list(self.layers), "config": dict(self.config)}


# github.com/distribution/reference, reference.go. The whole name has at most 255 characters.
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}")

# What is kept of an image's configuration. It comes from outside: anything else (Labels, Volumes, OnBuild, Healthcheck
# ...) steers nothing here, whatever it is called. Key -> the kind of its value.
_CONFIG_KEYS: dict[str, type] = {
    "Env": list,
    "Entrypoint": list,
    "Cmd": list,
    "User": str,
    "WorkingDir": str,
    "StopSignal": str,
    "ExposedPorts": dict,
}


def split(reference: str) -> tuple[str, str, str]:
    """(repository with its registry, tag, digest) of a reference, defaults filled in; tag or digest is empty.

    A digest beats a tag, as in Kubernetes. Raises PodlabError in kubelet's words (InvalidImageName).
    """
    name, _, digest = reference.partition("@")
    slash = name.rfind("/")
    colon = name.find(":", slash + 1)
    name, tag = (name, "") if colon < 0 else (name[:colon], name[colon + 1 :])
    domain, separator, path = name.partition("/")
    if not separator or not ("." in domain or ":" in domain or domain == "localhost" or domain != domain.lower()):
        domain, path = "docker.io", name
    domain = "docker.io" if domain == "index.docker.io" else domain
    if domain == "docker.io" and "/" not in path:
        path = f"library/{path}"
    valid = (
        _DOMAIN.fullmatch(domain)
        and _PATH.fullmatch(path)
        and len(f"{domain}/{path}") <= 255
        and (colon < 0 or _TAG.fullmatch(tag))
        and ("@" not in reference or _DIGEST.fullmatch(digest))
    )
    if not valid:
        message = f'InvalidImageName: couldn\'t parse image name "{reference}": invalid reference format'
        remedy = "Write [registry/]name[:tag] or [registry/]name@sha256:<64 hex digits>, in lower case."
        raise PodlabError(f"{message}. {remedy}", [Problem("image", message, remedy)])
    return f"{domain}/{path}", "" if digest else tag or "latest", digest


def normalise(reference: str) -> str:
    """The one spelling of a reference: busybox -> docker.io/library/busybox:latest."""
    repository, tag, digest = split(reference)
    return f"{repository}@{digest}" if digest else f"{repository}:{tag}"


def find(reference: str) -> Image | None:
    """The image when it is in the store, complete."""
    name = normalise(reference)
    record = image_store.read(name)
    return None if record is None else from_record(name, record)


def from_record(name: str, record: Mapping[str, Any]) -> Image:
    """The image that a record of the store describes."""
    layers = tuple(image_store.layer_dir(layer) for layer in record["layers"])
    return Image(name, record["id"], layers, record["config"])


def clean_config(config: Any, reference: str) -> dict[str, Any]:
    """The keys that count of an image's `config`, checked: it is untrusted input.

    Raises PodlabError naming the reference, the key and the value.
    """
    kept: dict[str, Any] = {}
    problems = []
    if not isinstance(config, (dict, type(None))):
        raise PodlabError(f"image {reference}: config is not an object: {config!r:.200}")
    for key, kind in _CONFIG_KEYS.items():
        value = (config or {}).get(key)
        if value in (None, "", [], {}):
            continue
        words = list(value) if isinstance(value, (list, dict)) else [value]
        if not isinstance(value, kind) or not all(isinstance(word, str) and "\0" not in word for word in words):
            problems.append(
                Problem(f"image {reference}: config.{key}", f"is not what an image may say: {value!r:.200}")
            )
        elif key == "Env" and not all(word.partition("=")[0] and "=" in word for word in words):
            problems.append(Problem(f"image {reference}: config.Env", f"must be NAME=value, not {value!r:.200}"))
        else:
            kept[key] = sorted(words) if kind is dict else value
    if problems:
        raise PodlabError("; ".join(str(problem) for problem in problems), problems)
    return kept
