"""Completion indexes of an Indexed Job, as Kubernetes writes sets of them: "1,3-5,7". Pure.

Source: k8s pkg/controller/job/indexed_job_utils.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# The annotation and the label of a pod that say its index.
INDEX = "batch.kubernetes.io/job-completion-index"


def of_pod(pod: Mapping[str, Any]) -> int | None:
    """The completion index of a pod; None when it has none."""
    text = (pod["metadata"].get("annotations") or {}).get(INDEX)
    return int(text) if isinstance(text, str) and text.isdigit() else None


def text(indexes: Iterable[int]) -> str:
    """The set as status.completedIndexes has it: two neighbours as "1,2", more as "1-3"."""
    parts: list[list[int]] = []
    for index in sorted(set(indexes)):
        if parts and index == parts[-1][-1] + 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    return ",".join(_interval(part[0], part[-1]) for part in parts)


def _interval(first: int, last: int) -> str:
    if first == last:
        return str(first)
    return f"{first}{',' if last == first + 1 else '-'}{last}"


def parse(given: str, completions: int) -> set[int]:
    """The indexes below completions of a text of this form. Raises ValueError for another form."""
    found: set[int] = set()
    for part in filter(None, given.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), min(int(last or first), completions - 1) + 1))
    return found
