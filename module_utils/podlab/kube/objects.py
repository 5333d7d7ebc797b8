"""The store: the objects as applied, what etcd is to a cluster. Pure functions from store to store.

{"objects": [{"object": ..., "source": "manifests" | "apply", "created": when it came, RFC 3339,
"clusterIP", "nodePorts", "healthCheckNodePort": what a Service was once given}]}
source says whether an object came with the manifests directory (and goes when it is no longer there) or by `apply -f`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import PodlabError
from .kinds import KINDS, find
from .manifests import Key, key, title
from .node_ports import NodePorts

MANIFESTS = "manifests"
APPLY = "apply"
_GIVEN = ("clusterIP", "nodePorts", "healthCheckNodePort")
Store = Mapping[str, Any]


def empty() -> dict[str, Any]:
    """A store without objects."""
    return {"objects": []}


def objects(store: Store) -> list[Mapping[str, Any]]:
    """The objects, in the order in which they came."""
    return [entry["object"] for entry in store["objects"]]


def merge(store: Store, things: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The store after the manifests directory was applied: what came from it and is no longer in it goes."""
    wanted = list(things)
    there = {key(thing) for thing in wanted}
    kept = [e for e in store["objects"] if e["source"] != MANIFESTS or key(e["object"]) in there]
    return _put({"objects": kept}, wanted, MANIFESTS)


def apply(store: Store, things: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The store after `apply -f`: new and changed objects. One that came with the directory still belongs to it."""
    return _put(store, things, None)


def _put(store: Store, things: Iterable[Mapping[str, Any]], source: str | None) -> dict[str, Any]:
    entries = {key(entry["object"]): dict(entry) for entry in store["objects"]}
    for thing in things:
        entry = entries.setdefault(key(thing), {"source": APPLY})
        entry["object"] = dict(thing)
        entry["source"] = source or entry["source"]
    return {"objects": list(entries.values())}


def delete(store: Store, keys: Iterable[Key]) -> tuple[dict[str, Any], list[Key]]:
    """The store without the objects; a Namespace takes what is in it along. Also the keys that were not there."""
    gone = set(keys)
    there = {key(entry["object"]) for entry in store["objects"]}
    namespaces = {name for kind, _, name in gone if kind == "Namespace"}
    left = [
        entry
        for entry in store["objects"]
        if key(entry["object"]) not in gone and key(entry["object"])[1] not in namespaces
    ]
    return {"objects": left}, sorted(gone - there)


def said(before: Store, applied: Iterable[Mapping[str, Any]], deleted: Iterable[Key]) -> list[str]:
    """What apply and delete do to the store, a line per object in kubectl's words: "service/web configured"."""
    there = {key(entry["object"]): entry["object"] for entry in before["objects"]}
    lines = []
    for thing in applied:
        old = there.get(key(thing))
        verb = "created" if old is None else "unchanged" if old == thing else "configured"
        lines.append(f"{KINDS[thing['kind']].names[0]}/{thing['metadata']['name']} {verb}")
    return lines + [f"{KINDS[kind].names[0]}/{name} deleted" for kind, _, name in deleted]


def scale(store: Store, word: str, name: str, namespace: str, replicas: int) -> dict[str, Any]:
    """The store with another number of replicas. word: the kind as a command line writes it.

    Raises PodlabError when the kind cannot be scaled, the number is negative or there is no such object.
    """
    kind = find(word)
    scalable = [known.name for known in KINDS.values() if known.scalable]
    if kind is None or not kind.scalable:
        raise PodlabError(f"Cannot scale {word}/{name}: only {', '.join(scalable)} have replicas")
    if replicas < 0:
        raise PodlabError(f"Cannot scale {word}/{name}: replicas must be 0 or more, not {replicas}")
    wanted = (kind.name, namespace, name)
    entries = [dict(entry) for entry in store["objects"]]
    entry = next((entry for entry in entries if key(entry["object"]) == wanted), None)
    if entry is None:
        others = [title(e["object"]) for e in entries if e["object"]["kind"] == kind.name]
        hint = f"there are {', '.join(others)}" if others else f"the lab has no {kind.name}"
        raise PodlabError(f"Cannot scale {kind.name}/{name} in namespace {namespace}: there is none; {hint}")
    thing = entry["object"]
    entry["object"] = {**thing, "spec": {**thing["spec"], "replicas": replicas}}
    return {"objects": entries}


def namespaces(store: Store) -> list[str]:
    """The namespaces that the store's objects declare."""
    return [thing["metadata"]["name"] for thing in objects(store) if thing["kind"] == "Namespace"]


def addresses(store: Store) -> dict[str, str]:
    """The remembered ClusterIPs by namespace/name."""
    return {
        "/".join(key(entry["object"])[1:]): entry["clusterIP"] for entry in store["objects"] if entry.get("clusterIP")
    }


def node_ports(store: Store) -> dict[str, NodePorts]:
    """The remembered node ports of Services by namespace/name."""
    return {
        "/".join(key(entry["object"])[1:]): NodePorts(
            entry.get("nodePorts") or {}, entry.get("healthCheckNodePort") or 0
        )
        for entry in store["objects"]
        if entry["object"]["kind"] == "Service"
    }


def remember(store: Store, addresses: Mapping[str, str], ports: Mapping[str, NodePorts]) -> dict[str, Any]:
    """The store with what its Services were given written beside them: addresses and node ports by namespace/name.

    What a Service no longer has is free again.
    """
    entries = []
    for entry in store["objects"]:
        plain = {name: value for name, value in entry.items() if name not in _GIVEN}
        if entry["object"]["kind"] == "Service":
            name = "/".join(key(entry["object"])[1:])
            own = ports.get(name, NodePorts())
            given = (addresses.get(name), dict(own.ports), own.health_check)
            plain.update({field: value for field, value in zip(_GIVEN, given) if value})
        entries.append(plain)
    return {"objects": entries}


def stamp(store: Store, now: str) -> dict[str, Any]:
    """The store with the time beside the objects that are new. now: RFC 3339, UTC."""
    return {"objects": [{"created": now, **entry} for entry in store["objects"]]}


def created(store: Store) -> dict[Key, str]:
    """When each object came."""
    return {key(entry["object"]): entry["created"] for entry in store["objects"] if "created" in entry}
