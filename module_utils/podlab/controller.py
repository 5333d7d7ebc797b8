"""On the controller: manifest files in, the plan of the whole lab out. Reads files, touches nothing."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import platform
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .errors import PodlabError, Problem, refuse
from .kube import cluster as clusters
from .kube import configs, gateway, manifests, objects, plan, schema, topology, workloads
from .kube.cluster import Cluster
from .kube.kind_types import Config
from .kube.manifests import Manifest, Read, Source

_SUFFIXES = (".yaml", ".yml", ".json")
_ANY_SUBNET = "172.16.0.0/12"


class Change(NamedTuple):
    """What a command wants done to the store, in this order.

    manifests_dir: directory to apply, with what is no longer in it pruned; None leaves its objects alone.
    apply, delete: manifest files or directories. scale: {"kind", "name", "namespace", "replicas"}.
    """

    manifests_dir: str | None = None
    apply: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()
    scale: Mapping[str, Any] | None = None


def read_manifests(paths: Iterable[str]) -> Read:
    """Read and check manifest files and directories (their *.yaml, *.yml, *.json, by name, not below)."""
    problems: list[Problem] = []
    read = manifests.read(_sources(paths, problems), definitions())
    return Read(read.manifests, (*problems, *read.problems))


def plan_lab(cluster: Cluster, state: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """Everything the rest of the playbook needs, plain data.

    state: what is there, as runtime.state.read_state gives it (keys cluster, objects, pods and jobs are used).
    Keys of the result: objects (the new store, without the data of Secrets), secrets (that data, sealed), config_maps,
    pods, services, endpoint_slices (complete objects; slices that somebody wrote), images, image_users, topology
    (options of podlab_topology), gateway (whether podlab_gateway has anything to do), said (what apply and delete do, a
    line per object), warnings.
    Raises PodlabError with every problem of every file.
    """
    problems: list[Problem] = []
    before = store = dict(state.get("objects") or objects.empty())
    from_dir = read_manifests([change.manifests_dir]) if change.manifests_dir else Read((), ())
    applied = read_manifests(change.apply) if change.apply else Read((), ())
    problems += [*from_dir.problems, *applied.problems]
    if change.manifests_dir:
        store = objects.merge(store, [manifest.object for manifest in from_dir.manifests])
    store = objects.apply(store, [manifest.object for manifest in applied.manifests])
    read = [*from_dir.manifests, *applied.manifests]
    problems += manifests.missing_namespaces(read, objects.namespaces(store))
    problems += _immutable(before, read)
    store, deleted = _deleted(store, change.delete, problems)
    if change.scale:
        store = _scaled(store, change.scale, problems)
    refuse(problems, "The manifests are not valid")
    past = workloads.Past(state.get("jobs") or {}, time.time())
    made = plan.plan(store, cluster, state.get("pods") or [], _reporter(read), past)
    problems += made.problems
    refuse(problems, "The manifests do not fit the cluster")
    stamped = objects.stamp(made.store, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    created = objects.created(stamped)
    shown, secrets = configs.part(stamped)
    return {
        "objects": shown,
        "secrets": secrets,
        "config_maps": [thing for thing in objects.objects(shown) if thing["kind"] == "ConfigMap"],
        "pods": list(made.pods),
        "services": [_with_age(service, created) for service in made.services],
        "endpoint_slices": [_with_age(piece, created) for piece in made.endpoint_slices],
        "images": list(made.images),
        "image_users": made.image_users,
        "topology": topology.node_network(cluster),
        "gateway": gateway.needed(cluster) or gateway.was_needed(state.get("cluster") or {}),
        "said": objects.said(before, [manifest.object for manifest in applied.manifests], deleted),
        "warnings": [str(problem) for problem in problems if problem.level == "warning"],
    }


def _immutable(before: Mapping[str, Any], read: Iterable[Manifest]) -> list[Problem]:
    """What ConfigMaps and Secrets change that may not change."""
    there = configs.by_name(configs.of_store(before))
    return [
        manifest.problem(finding)
        for manifest in read
        for old in [there.get(manifests.key(manifest.object))]
        if old is not None
        for finding in configs.changes(old, manifest.object)
    ]


def _with_age(thing: Mapping[str, Any], created: Mapping[manifests.Key, str]) -> dict[str, Any]:
    metadata = {**thing["metadata"], "creationTimestamp": created[manifests.key(thing)]}
    return {**thing, "metadata": metadata}


def unfit(config: Config, read: Iterable[Manifest]) -> list[Problem]:
    """What of sound manifests does not fit a new lab of a sound config: everything that plan_lab would say of it."""
    machine = platform.machine()
    arch = clusters.ARCHITECTURES.get(machine, machine)
    # Nothing is placed by the nodes' addresses.
    cluster = clusters.build(config, config.name, _ANY_SUBNET, arch=arch)
    known = list(read)
    store = objects.merge(objects.empty(), [manifest.object for manifest in known])
    return list(plan.plan(store, cluster, (), _reporter(known)).problems)


def _reporter(read: Iterable[Manifest]) -> plan.Report:
    """Says a finding with file and line when the object was read in this run."""
    known = {manifests.key(manifest.object): manifest for manifest in read}

    def say(thing: Mapping[str, Any], finding: schema.Finding) -> Problem:
        manifest = known.get(manifests.key(thing))
        return manifest.problem(finding) if manifest else plan.report(thing, finding)

    return say


def _deleted(
    store: dict[str, Any], paths: Iterable[str], problems: list[Problem]
) -> tuple[dict[str, Any], list[manifests.Key]]:
    keys, faults = manifests.identify(_sources(paths, problems))
    problems += faults
    left, missing = objects.delete(store, keys)
    level = "error" if keys and len(missing) == len(set(keys)) else "warning"
    for kind, namespace, name in missing:
        thing = {"kind": kind, "metadata": {"name": name, "namespace": namespace}}
        problems.append(Problem(manifests.title(thing), "is not in the lab, so it cannot be deleted", level=level))
    return left, [key for key in dict.fromkeys(keys) if key not in missing]


def _scaled(store: dict[str, Any], scale: Mapping[str, Any], problems: list[Problem]) -> dict[str, Any]:
    try:
        return objects.scale(
            store, scale["kind"], scale["name"], scale.get("namespace") or "default", scale["replicas"]
        )
    except PodlabError as error:
        problems.append(Problem("", error.message))
        return store


def _sources(paths: Iterable[str], problems: list[Problem]) -> list[Source]:
    """The files' texts. A path that cannot be read is a problem."""
    found = []
    for path in paths:
        try:
            for file in _files(path):
                with open(file, encoding="utf-8-sig") as stream:
                    found.append(Source(_shown(file), stream.read()))
        except OSError as error:
            reason = error.strerror or str(error)
            problems.append(Problem(_shown(path), f"cannot be read: {reason}", "Give a manifest file or a directory"))
        except UnicodeDecodeError as error:
            problems.append(Problem(_shown(path), f"is not UTF-8 text: {error.reason} at byte {error.start}"))
    return found


def _files(path: str) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    names = sorted(os.listdir(path))
    files = [os.path.join(path, name) for name in names if name.endswith(_SUFFIXES) and not name.startswith(".")]
    return [file for file in files if os.path.isfile(file)]


def _shown(path: str) -> str:
    """A path as messages show it: relative when it is below the current directory."""
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative


@functools.lru_cache(maxsize=1)
def definitions() -> Mapping[str, Any]:
    """The definitions of Kubernetes' strict schemas, from the kubernetes-validate package.

    The package is found, not imported: its import alone costs more than all the checking here.
    """
    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or not spec.submodule_search_locations:
        raise PodlabError("Cannot check manifests: the Python package kubernetes-validate is missing. Run ./lab once")
    root = spec.submodule_search_locations[0]
    file = f"kubernetes-json-schema/v{schema.KUBERNETES_VERSION}-local-strict/_definitions.json"
    try:
        with open(os.path.join(root, file), encoding="utf-8") as stream:
            loaded: Mapping[str, Any] = json.load(stream)["$defs"]
    except FileNotFoundError as error:
        raise PodlabError(
            f"Cannot check manifests: kubernetes-validate has no schemas of Kubernetes {schema.KUBERNETES_VERSION}. "
            "Install the version of the lock file: ./lab does it"
        ) from error
    return loaded
