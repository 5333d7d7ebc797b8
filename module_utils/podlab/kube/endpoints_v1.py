"""v1 Endpoints, as the endpoints controller would have them, from EndpointSlices.

Sources: k8s pkg/controller/endpoint/endpoints_controller.go, pkg/api/v1/endpoints/util.go (RepackSubsets).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .proxy_model import SERVICE_NAME_LABEL

Object = Mapping[str, Any]
_COPIED = ("nodeName", "hostname", "targetRef")


def endpoints(slices: Iterable[Object]) -> list[dict[str, Any]]:
    """One Endpoints for each Service that slices name, in their order."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for piece in slices:
        metadata = piece["metadata"]
        namespace = str(metadata.get("namespace") or "default")
        name = str((metadata.get("labels") or {}).get(SERVICE_NAME_LABEL, metadata["name"]))
        item = found.setdefault((namespace, name), _empty(namespace, name, metadata))
        _add(item["subsets"], piece)
    for item in found.values():
        for subset in item["subsets"]:
            for key in ("addresses", "notReadyAddresses"):
                if key in subset:
                    subset[key].sort(key=lambda entry: str(entry["ip"]))
    return list(found.values())


def _empty(namespace: str, name: str, metadata: Object) -> dict[str, Any]:
    own: dict[str, Any] = {"name": name, "namespace": namespace}
    if metadata.get("creationTimestamp"):
        own["creationTimestamp"] = metadata["creationTimestamp"]
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": own, "subsets": []}


def _add(subsets: list[dict[str, Any]], piece: Object) -> None:
    """Add a slice's endpoints to the subset of its ports. A pod on its way out is in none, unless it is published."""
    given = [port for port in piece.get("ports") or [] if port.get("port")]
    ports = [{key: value for key, value in port.items() if value != ""} for port in given]
    subset = next((own for own in subsets if own.get("ports", []) == ports), None)
    for endpoint in piece.get("endpoints") or []:
        conditions = endpoint.get("conditions") or {}
        # discovery/v1: a condition that is not said counts as ready.
        ready = conditions.get("ready") is not False
        if conditions.get("terminating") and not ready:
            continue
        if subset is None:
            subset = {"ports": ports} if ports else {}
            subsets.append(subset)
        for address in endpoint["addresses"]:
            entry = {"ip": address, **{key: endpoint[key] for key in _COPIED if endpoint.get(key)}}
            subset.setdefault("addresses" if ready else "notReadyAddresses", []).append(entry)
