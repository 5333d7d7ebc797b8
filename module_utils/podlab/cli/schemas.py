"""Kubernetes' own schemas, from the kubernetes-validate package."""

from __future__ import annotations

import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import kubernetes_validate

from ..kube.schema import KUBERNETES_VERSION


@functools.cache
def definitions() -> Mapping[str, Any]:
    """The `$defs` of the strict schemas of KUBERNETES_VERSION."""
    package = pathlib.Path(kubernetes_validate.__file__).parent
    file = package / "kubernetes-json-schema" / f"v{KUBERNETES_VERSION}-local-strict" / "_definitions.json"
    found: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))["$defs"]
    return found
