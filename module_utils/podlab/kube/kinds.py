"""The kinds podlab knows: their API versions, schemas and short names."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """One kind.

    schema: name of its definition. names: what a command line may call it.
    template: path to what describes its pods (metadata and spec); None when it has none.
    """

    name: str
    api_version: str
    schema: str
    names: tuple[str, ...]
    template: tuple[str, ...] | None = None
    namespaced: bool = True
    scalable: bool = False


_IN_TEMPLATE = ("spec", "template")
_CORE = "io.k8s.api.core.v1"
_APPS = "io.k8s.api.apps.v1"

_ALL = (
    Kind("Namespace", "v1", f"{_CORE}.Namespace", ("namespace", "namespaces", "ns"), namespaced=False),
    Kind("Service", "v1", f"{_CORE}.Service", ("service", "services", "svc")),
    Kind(
        *("EndpointSlice", "discovery.k8s.io/v1", "io.k8s.api.discovery.v1.EndpointSlice"),
        ("endpointslice", "endpointslices", "endpointslices.discovery.k8s.io"),
    ),
    Kind("ConfigMap", "v1", f"{_CORE}.ConfigMap", ("configmap", "configmaps", "cm")),
    Kind("Secret", "v1", f"{_CORE}.Secret", ("secret", "secrets")),
    Kind("Pod", "v1", f"{_CORE}.Pod", ("pod", "pods", "po"), ()),
    Kind(
        *("Deployment", "apps/v1", f"{_APPS}.Deployment", ("deployment", "deployments", "deploy"), _IN_TEMPLATE),
        scalable=True,
    ),
    Kind(
        *("ReplicaSet", "apps/v1", f"{_APPS}.ReplicaSet", ("replicaset", "replicasets", "rs"), _IN_TEMPLATE),
        scalable=True,
    ),
    Kind("DaemonSet", "apps/v1", f"{_APPS}.DaemonSet", ("daemonset", "daemonsets", "ds"), _IN_TEMPLATE),
    Kind(
        *("StatefulSet", "apps/v1", f"{_APPS}.StatefulSet", ("statefulset", "statefulsets", "sts"), _IN_TEMPLATE),
        scalable=True,
    ),
    Kind("Job", "batch/v1", "io.k8s.api.batch.v1.Job", ("job", "jobs"), _IN_TEMPLATE),
)

KINDS = {kind.name: kind for kind in _ALL}


def find(word: str) -> Kind | None:
    """The kind that a command line names: Deployment, deployments or deploy, in any case; None when there is none."""
    lower = word.lower()
    return next((kind for kind in _ALL if lower in kind.names), None)
