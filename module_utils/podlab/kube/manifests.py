"""Manifests: text in, checked objects with their places out. Every fault of every file at once.

Controller only (it reads YAML). Manifest text is data: nothing in it is a template.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import PodlabError, Problem
from . import checks, configs, node_ports, schema, service_rules, supported
from .kinds import KINDS
from .schema import Finding, Path
from .services import REMEDY, clashes, full_name
from .yamltree import Document, load_documents, path_text

# Those that a new cluster has.
NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
Key = tuple[str, str, str]
_TITLE_LIMIT = 100
_REPLACED = {
    "Endpoints": (
        "EndpointSlice took its place",
        "Write an EndpointSlice (discovery.k8s.io/v1) with the label kubernetes.io/service-name",
    ),
}


class Source(NamedTuple):
    """A manifest file: its name as messages show it, and its text."""

    file: str
    text: str


class Manifest(NamedTuple):
    """One object with the place where it is written. start: path to it in its document (an item of a List)."""

    object: dict[str, Any]
    document: Document
    start: Path = ()

    def problem(self, finding: Finding) -> Problem:
        """The finding as a Problem: file, line, kind/name and path."""
        place = f"{title(self.object)}: {path_text(finding.path)}" if finding.path else title(self.object)
        line = self.document.line((*self.start, *finding.path))
        return Problem(place, finding.message, finding.remedy, self.document.file, line, finding.level)

    def where(self) -> str:
        """File and line."""
        return f"{self.document.file}:{self.document.line(self.start)}"


class Read(NamedTuple):
    """The objects that are understood, clean, with namespaces; and everything that is wrong with the input."""

    manifests: tuple[Manifest, ...]
    problems: tuple[Problem, ...]


def title(thing: Mapping[str, Any]) -> str:
    """How messages call an object: Pod/web, Pod/shop/web outside the namespace default."""
    metadata = thing.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    namespace = metadata.get("namespace")
    middle = f"{namespace}/" if namespace not in (None, "", "default") else ""
    text = f"{thing.get('kind', '')}/{middle}{metadata.get('name', '')}".rstrip("/")
    # A name that is not checked yet may hold anything, a line break too.
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= _TITLE_LIMIT else f"{text[: _TITLE_LIMIT - 3]}..."


def key(thing: Mapping[str, Any]) -> Key:
    """What tells one object from another: kind, namespace ("" for a kind without), name."""
    metadata = thing["metadata"]
    return thing["kind"], metadata.get("namespace") or "", metadata["name"]


def read(sources: Iterable[Source], definitions: Mapping[str, Any]) -> Read:
    """Read and check manifests.

    definitions: the `$defs` of Kubernetes' strict schemas. A fault of YAML in one file hides nothing of the others.
    """
    made: list[Manifest] = []
    problems: list[Problem] = []
    for source in sources:
        try:
            documents = load_documents(source.text, source.file)
        except PodlabError as error:
            problems.extend(error.problems)
            continue
        for document in documents:
            for manifest in _flat(document, document.data, (), problems):
                made.extend(_checked(manifest, definitions, problems))
    problems.extend(_twice(made))
    problems.extend(_service_clashes(made))
    return Read(tuple(made), tuple(problems))


def _flat(document: Document, data: Any, start: Path, problems: list[Problem]) -> Iterator[Manifest]:
    """The objects of a document: itself, or the items of a List."""
    if not isinstance(data, dict):
        message = f"must be a Kubernetes object, not {schema.show(data)}"
        problems.append(Problem(path_text(start), message, "", document.file, document.line(start)))
        return
    if data.get("kind") != "List":
        yield Manifest(data, document, start)
        return
    items = data.get("items")
    if not isinstance(items, list):
        message = "must be a list of objects"
        problems.append(Problem("List: items", message, "", document.file, document.line((*start, "items"))))
        return
    for index, item in enumerate(items):
        yield from _flat(document, item, (*start, "items", index), problems)


def _checked(manifest: Manifest, definitions: Mapping[str, Any], problems: list[Problem]) -> Iterator[Manifest]:
    """The object, clean, when its kind is known; its faults go to problems."""
    fault = _kind_fault(manifest.object)
    if fault is not None:
        problems.append(manifest.problem(fault))
        return
    kind = KINDS[manifest.object["kind"]]
    result = schema.check(_written(manifest.object), kind.schema, definitions)
    findings = [configs.redacted(each) if kind.name == "Secret" else each for each in result.findings]
    seen = {finding.path for finding in findings}
    later = [*supported.unsupported(result.object), *checks.check(result.object)]
    findings += [finding for finding in later if finding.path not in seen]
    problems.extend(sorted((manifest.problem(finding) for finding in findings), key=lambda problem: problem.line))
    thing = {name: value for name, value in result.object.items() if name != "status"}
    balancer = service_rules.ingress(result.object) if kind.name == "Service" else []
    if balancer:
        thing["status"] = {"loadBalancer": {"ingress": balancer}}
    metadata = dict(thing.get("metadata") or {})
    if not metadata.get("name"):
        return
    if kind.namespaced:
        metadata["namespace"] = metadata.get("namespace") or "default"
    yield manifest._replace(object=_kept({**thing, "metadata": metadata}))


def _kept(thing: dict[str, Any]) -> dict[str, Any]:
    """The object in the form in which it is kept and compared; one at fault, which nobody keeps, as it is."""
    try:
        return configs.normal(thing) if thing["kind"] in configs.KINDS else thing
    except (AttributeError, TypeError):
        return thing


def _written(thing: Mapping[str, Any]) -> dict[str, Any]:
    """The object without what the API server alone says of it; of status there is left what Services are made of."""
    kept = {name: value for name, value in thing.items() if name != "status" or thing["kind"] == "Service"}
    metadata = kept.get("metadata")
    if isinstance(metadata, dict):
        kept["metadata"] = {name: value for name, value in metadata.items() if name not in supported.SERVER_SET}
    return kept


def _kind_fault(thing: Mapping[str, Any]) -> Finding | None:
    """What is wrong with apiVersion and kind, when they do not name something podlab builds."""
    version, kind = thing.get("apiVersion"), thing.get("kind")
    for name, value in (("apiVersion", version), ("kind", kind)):
        if value is None:
            return Finding((name,), "is required and missing")
        if not isinstance(value, str):
            return Finding((name,), f"must be text, not {schema.show(value)}")
    if kind not in KINDS:
        if kind in _REPLACED:
            message, remedy = _REPLACED[str(kind)]
            return Finding(("kind",), f"podlab does not support the kind {kind}: {message}", remedy)
        near = difflib.get_close_matches(str(kind), list(KINDS), 1, 0.75)
        remedy = f"Did you mean {near[0]}?" if near else f"It builds {', '.join(sorted(KINDS))}"
        return Finding(("kind",), f"podlab does not support the kind {kind} yet", remedy)
    right = KINDS[str(kind)].api_version
    if version != right:
        return Finding(("apiVersion",), f"must be {right} for a {kind}, not {schema.show(version)}", f"Write {right}")
    return None


def _twice(made: Sequence[Manifest]) -> Iterator[Problem]:
    first: dict[Key, Manifest] = {}
    for manifest in made:
        other = first.setdefault(key(manifest.object), manifest)
        if other is not manifest:
            message = f"the object is there twice, first at {other.where()}"
            yield manifest.problem(Finding((), message, "Remove or rename one of them"))


def _service_clashes(made: Sequence[Manifest]) -> Iterator[Problem]:
    """Addresses and node ports that two Services of the same files name."""
    services = {full_name(manifest.object): manifest for manifest in made if manifest.object["kind"] == "Service"}
    for name, message in clashes(manifest.object for manifest in services.values()).items():
        yield services[name].problem(Finding(("spec", "clusterIP"), message, REMEDY))
    for fault in node_ports.clashes(manifest.object for manifest in services.values()):
        yield services[fault.service].problem(fault.finding)


def missing_namespaces(made: Sequence[Manifest], known: Iterable[str]) -> Iterator[Problem]:
    """Objects in a namespace that neither the cluster nor the manifests have. known: those of the store."""
    there = {*NAMESPACES, *known, *(key(m.object)[2] for m in made if m.object["kind"] == "Namespace")}
    for manifest in made:
        namespace = manifest.object["metadata"].get("namespace")
        if namespace and namespace not in there:
            near = difflib.get_close_matches(namespace, there, 1, 0.75)
            hint = f"Did you mean {near[0]}? Else add" if near else "Add"
            finding = Finding(
                ("metadata", "namespace"), f"there is no namespace {namespace}", f"{hint} a Namespace object for it"
            )
            yield manifest.problem(finding)


def identify(sources: Iterable[Source]) -> tuple[list[Key], list[Problem]]:
    """The keys of the objects of manifests, whatever else they say: enough to delete them, as kubectl does."""
    keys: list[Key] = []
    problems: list[Problem] = []
    for source in sources:
        try:
            documents = load_documents(source.text, source.file)
        except PodlabError as error:
            problems.extend(error.problems)
            continue
        for document in documents:
            for manifest in _flat(document, document.data, (), problems):
                fault = _kind_fault(manifest.object) or _name_fault(manifest.object)
                if fault:
                    problems.append(manifest.problem(fault))
                    continue
                thing = manifest.object
                namespace = thing["metadata"].get("namespace") or "default"
                namespaced = KINDS[thing["kind"]].namespaced
                keys.append((thing["kind"], namespace if namespaced else "", thing["metadata"]["name"]))
    return keys, problems


def _name_fault(thing: Mapping[str, Any]) -> Finding | None:
    metadata = thing.get("metadata")
    for name in ("name", "namespace"):
        value = metadata.get(name) if isinstance(metadata, Mapping) else None
        if not isinstance(value, str) and (value is not None or name == "name"):
            return Finding(("metadata", name), "is required and must be text")
    return None
