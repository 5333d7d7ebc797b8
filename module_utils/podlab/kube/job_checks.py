"""The rules for a Job that the schema does not hold. Source: k8s pkg/apis/batch/validation/validation.go."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from . import names
from .field_checks import at_least, one_of
from .schema import Finding, Path, show

_SPEC: Path = ("spec",)
_NUMBERS = ("parallelism", "completions", "backoffLimit", "backoffLimitPerIndex", "maxFailedIndexes")
_SECONDS = ("activeDeadlineSeconds", "ttlSecondsAfterFinished")
_MOST = 100000
_MOST_RULES = 20
_MOST_VALUES = 255
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_INDEXES = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


def job(thing: Mapping[str, Any]) -> Iterator[Finding]:
    """Every fault of a Job; its template and its restartPolicy are looked at elsewhere."""
    spec, name = thing.get("spec") or {}, (thing.get("metadata") or {}).get("name") or ""
    if len(name) > names.LABEL_LIMIT:
        message = f"must have at most {names.LABEL_LIMIT} characters in a Job, not {len(name)}: it becomes a label"
        yield Finding(("metadata", "name"), message)
    for key in (*_NUMBERS, *_SECONDS):
        yield from at_least(spec, key, 0, _SPEC)
    yield from one_of(spec, "completionMode", ("NonIndexed", "Indexed"), _SPEC)
    policies = ("Failed",) if spec.get("podFailurePolicy") else ("TerminatingOrFailed", "Failed")
    yield from one_of(spec, "podReplacementPolicy", policies, _SPEC)
    if spec.get("completionMode") == "Indexed":
        yield from _indexed(spec, name)
    else:
        for key in ("backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"):
            if spec.get(key) is not None:
                yield Finding((*_SPEC, key), "requires indexed completion mode", "Set completionMode: Indexed")
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        message = "is required when maxFailedIndexes is specified, and missing"
        yield Finding((*_SPEC, "backoffLimitPerIndex"), message)
    if spec.get("podFailurePolicy"):
        yield from _failure_policy(spec)


def _indexed(spec: Mapping[str, Any], name: str) -> Iterator[Finding]:
    completions = spec.get("completions")
    if completions is None:
        yield Finding((*_SPEC, "completions"), "is required when completion mode is Indexed, and missing")
        return
    if (spec.get("parallelism") or 0) > _MOST:
        message = f"must be {_MOST} or less when completion mode is Indexed, not {spec['parallelism']}"
        yield Finding((*_SPEC, "parallelism"), message)
    if (spec.get("maxFailedIndexes") or 0) > completions:
        message = f"must be completions ({completions}) or less, not {spec['maxFailedIndexes']}"
        yield Finding((*_SPEC, "maxFailedIndexes"), message)
    if spec.get("successPolicy"):
        yield from _success_policy(spec)
    longest = f"{name}-{max(completions - 1, 0)}"
    fault = names.label_fault(longest)
    if name and len(name) <= names.LABEL_LIMIT and fault:
        message = f"becomes part of the pods' hostnames, which {show(longest)} cannot be: it {fault}"
        yield Finding(("metadata", "name"), message)


def _failure_policy(spec: Mapping[str, Any]) -> Iterator[Finding]:
    path: Path = (*_SPEC, "podFailurePolicy", "rules")
    template = (spec.get("template") or {}).get("spec") or {}
    if template.get("restartPolicy") == "OnFailure":
        where = (*_SPEC, "template", "spec", "restartPolicy")
        yield Finding(where, "must be Never when podFailurePolicy is specified, not OnFailure")
    rules = spec["podFailurePolicy"].get("rules") or []
    if len(rules) > _MOST_RULES:
        yield Finding(path, f"must have at most {_MOST_RULES} rules, not {len(rules)}")
    known = [each.get("name") for key in ("initContainers", "containers") for each in template.get(key) or []]
    for number, rule in enumerate(rules):
        here = (*path, number)
        yield from one_of(rule, "action", _ACTIONS, here)
        if rule.get("action") == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
            yield Finding((*here, "action"), "FailIndex requires the backoffLimitPerIndex to be set")
        if bool(rule.get("onExitCodes")) is bool(rule.get("onPodConditions")):
            yield Finding(here, "must have one of onExitCodes and onPodConditions")
        if rule.get("onExitCodes"):
            yield from _exit_codes(rule["onExitCodes"], known, (*here, "onExitCodes"))
        for index, pattern in enumerate(rule.get("onPodConditions") or []):
            yield from one_of(pattern, "status", ("True", "False", "Unknown"), (*here, "onPodConditions", index))


def _exit_codes(wanted: Mapping[str, Any], known: list[Any], path: Path) -> Iterator[Finding]:
    yield from one_of(wanted, "operator", ("In", "NotIn"), path)
    if wanted.get("containerName") is not None and wanted["containerName"] not in known:
        message = f"must be one of the names of the containers, not {show(wanted['containerName'])}"
        yield Finding((*path, "containerName"), message)
    values = wanted.get("values") or []
    if not 1 <= len(values) <= _MOST_VALUES:
        yield Finding((*path, "values"), f"must have 1 to {_MOST_VALUES} values, not {len(values)}")
    if values != sorted(set(values)):
        yield Finding((*path, "values"), f"must be in ascending order, each once, not {show(values)}")
    if wanted.get("operator") == "In" and 0 in values:
        yield Finding(
            (*path, "values"), "must not have 0 with the operator In: a container that ends so has not failed"
        )


def _success_policy(spec: Mapping[str, Any]) -> Iterator[Finding]:
    path: Path = (*_SPEC, "successPolicy", "rules")
    rules, completions = spec["successPolicy"].get("rules") or [], spec.get("completions") or 0
    if not 1 <= len(rules) <= _MOST_RULES:
        yield Finding(path, f"must have 1 to {_MOST_RULES} rules, not {len(rules)}")
    for number, rule in enumerate(rules):
        here = (*path, number)
        asked, count = rule.get("succeededIndexes"), rule.get("succeededCount")
        if asked is None and count is None:
            yield Finding(here, "must have at least one of succeededCount and succeededIndexes")
        if asked is not None:
            yield from _indexes(asked, completions, (*here, "succeededIndexes"))
        yield from at_least(rule, "succeededCount", 1, here)
        if count is not None and count > completions:
            yield Finding((*here, "succeededCount"), f"must be completions ({completions}) or less, not {count}")


def _indexes(asked: str, completions: int, path: Path) -> Iterator[Finding]:
    if not _INDEXES.fullmatch(asked):
        yield Finding(path, f"must be indexes and ranges of them, such as 1,3-5, not {show(asked)}")
        return
    ends = [[int(number) for number in part.split("-")] for part in asked.split(",")]
    flat = [number for part in ends for number in part]
    if flat != sorted(set(flat)):
        yield Finding(path, f"must be in ascending order, not {show(asked)}")
    elif flat[-1] >= completions:
        yield Finding(path, f"must be below completions ({completions}), not {flat[-1]}")
