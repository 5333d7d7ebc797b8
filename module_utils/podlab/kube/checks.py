"""The rules for whole objects that the schema does not hold: metadata, selectors, workloads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from . import configs, job_checks, names, pod_checks, service_rules, slice_rules
from .field_checks import at_least, labels, one_of
from .kinds import KINDS
from .schema import Finding, Path, show

_ANNOTATIONS_LIMIT = 262144
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
_MANAGEMENT = ("OrderedReady", "Parallel")
# What the name of each kind becomes part of decides its form.
_NAME_FAULTS = {"Service": names.label_1035_fault, "Namespace": names.label_fault, "StatefulSet": names.label_fault}


def check(thing: Mapping[str, Any]) -> Iterator[Finding]:
    """Every fault of one object of a known kind, its types already checked."""
    kind = KINDS[thing["kind"]]
    spec = thing.get("spec") or {}
    yield from _metadata(thing.get("metadata") or {}, kind.name, kind.namespaced)
    if kind.name == "Service":
        yield from service_rules.check(thing)
    elif kind.name == "EndpointSlice":
        yield from slice_rules.check(thing)
    elif kind.name in configs.KINDS:
        yield from configs.check(thing)
    elif kind.template is not None and "spec" not in thing:
        yield Finding(("spec",), "is required and missing")
    elif kind.name == "Pod":
        yield from pod_checks.pod_spec(spec, ("spec",))
    elif kind.template is not None:
        yield from _workload(thing)


def _metadata(metadata: Mapping[str, Any], kind: str, namespaced: bool) -> Iterator[Finding]:
    path = ("metadata",)
    name = metadata.get("name")
    if not name:
        yield Finding((*path, "name"), "is required and missing")
    else:
        fault = _NAME_FAULTS.get(kind, names.subdomain_fault)(name)
        if fault:
            yield Finding((*path, "name"), f"{fault}; it is {show(name)}")
    if not namespaced and metadata.get("namespace"):
        yield Finding((*path, "namespace"), f"a {kind} is not in a namespace", "Remove it")
    elif metadata.get("namespace"):
        fault = names.label_fault(metadata["namespace"])
        if fault:
            yield Finding((*path, "namespace"), f"{fault}; it is {show(metadata['namespace'])}")
    yield from _marks(metadata, path)


def _marks(metadata: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """Labels and annotations."""
    yield from labels(metadata.get("labels") or {}, (*path, "labels"))
    annotations = metadata.get("annotations") or {}
    for key in annotations:
        fault = names.key_fault(key.lower())
        if fault:
            yield Finding((*path, "annotations", key), f"the key {fault}; it is {show(key)}")
    if sum(len(key) + len(str(value)) for key, value in annotations.items()) > _ANNOTATIONS_LIMIT:
        yield Finding((*path, "annotations"), f"must have at most {_ANNOTATIONS_LIMIT} bytes together")


def _workload(thing: Mapping[str, Any]) -> Iterator[Finding]:
    kind, spec = thing["kind"], thing.get("spec") or {}
    template = spec.get("template") or {}
    here: Path = ("spec", "template")
    yield from at_least(spec, "replicas", 0, ("spec",))
    yield from _marks(template.get("metadata") or {}, (*here, "metadata"))
    pod = template.get("spec")
    if pod is None:
        yield Finding((*here, "spec"), "is required and missing")
    else:
        yield from pod_checks.pod_spec(pod, (*here, "spec"))
    yield from _restart_policy(kind, pod or {}, (*here, "spec", "restartPolicy"))
    if kind == "Job":
        yield from job_checks.job(thing)
        return
    yield from _selector(spec.get("selector") or {}, (template.get("metadata") or {}).get("labels") or {})
    if kind == "StatefulSet":
        yield from _stateful_set(thing)


def _restart_policy(kind: str, pod: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    policy = pod.get("restartPolicy")
    if policy is not None and policy not in pod_checks.RESTART_POLICIES:
        return
    if kind == "Job" and policy not in ("Never", "OnFailure"):
        said = f"not {policy}" if policy else "which it does not say"
        yield Finding(path, f"a Job needs Never or OnFailure, {said}", "Set restartPolicy: OnFailure or Never")
    elif kind != "Job" and policy not in (None, "Always"):
        yield Finding(path, f"must be Always in a {kind}, not {policy}", "Use a Job for what ends")


def _stateful_set(thing: Mapping[str, Any]) -> Iterator[Finding]:
    spec, name = thing.get("spec") or {}, (thing.get("metadata") or {}).get("name") or ""
    replicas = spec.get("replicas", 1)
    longest = f"{name}-{max(replicas - 1, 0)}"
    if len(name) <= names.LABEL_LIMIT < len(longest):
        message = f"leaves no room for the pods' numbers: {longest!r} has {len(longest)} characters, 63 are allowed"
        yield Finding(("metadata", "name"), message)
    if spec.get("serviceName"):
        fault = names.label_fault(spec["serviceName"])
        if fault:
            yield Finding(("spec", "serviceName"), f"{fault}; it is {show(spec['serviceName'])}")
    yield from one_of(spec, "podManagementPolicy", _MANAGEMENT, ("spec",))
    if spec.get("podManagementPolicy") != "Parallel" and replicas > 1:
        message = "podlab starts all pods of a StatefulSet at once, not one after another"
        yield Finding(("spec", "podManagementPolicy"), message, "Say Parallel to confirm it", "warning")


# ---- selectors ----


def matches(selector: Mapping[str, Any], pod_labels: Mapping[str, Any]) -> bool:
    """True when labels satisfy a LabelSelector (matchLabels and matchExpressions)."""
    wanted = selector.get("matchLabels") or {}
    if any(pod_labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_satisfies(rule, pod_labels) for rule in selector.get("matchExpressions") or [])


def _satisfies(rule: Mapping[str, Any], pod_labels: Mapping[str, Any]) -> bool:
    key, values = rule.get("key") or "", rule.get("values") or []
    operator = rule.get("operator")
    if operator == "Exists":
        return key in pod_labels
    if operator == "DoesNotExist":
        return key not in pod_labels
    if operator == "In":
        return key in pod_labels and pod_labels[key] in values
    return key not in pod_labels or pod_labels[key] not in values


def _selector(selector: Mapping[str, Any], template_labels: Mapping[str, Any]) -> Iterator[Finding]:
    path: Path = ("spec", "selector")
    rules = selector.get("matchExpressions") or []
    faults = list(labels(selector.get("matchLabels") or {}, (*path, "matchLabels")))
    for index, rule in enumerate(rules):
        faults += _expression(rule, (*path, "matchExpressions", index))
    yield from faults
    if not rules and not selector.get("matchLabels"):
        yield Finding(path, "must not be empty", "Add matchLabels with a label of the template")
    elif not faults and not matches(selector, template_labels):
        missing = [
            f"{key}: {value}"
            for key, value in (selector.get("matchLabels") or {}).items()
            if template_labels.get(key) != value
        ]
        remedy = f"Add {', '.join(missing)} to spec.template.metadata.labels" if missing else ""
        yield Finding(path, "does not match the labels of the pod template", remedy)


def _expression(rule: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    operator, values = rule.get("operator"), rule.get("values") or []
    yield from one_of(rule, "operator", _OPERATORS, path)
    if operator in ("In", "NotIn") and not values:
        yield Finding((*path, "values"), f"must have at least one value with the operator {operator}")
    if operator in ("Exists", "DoesNotExist") and values:
        yield Finding((*path, "values"), f"must be left out with the operator {operator}")
    fault = names.key_fault(rule.get("key") or "")
    if fault and "key" in rule:
        yield Finding((*path, "key"), f"{fault}; it is {show(rule['key'])}")
    for index, value in enumerate(values):
        if names.label_value_fault(value):
            yield Finding((*path, "values", index), f"{names.label_value_fault(value)}; it is {show(value)}")
