"""podFailurePolicy and successPolicy of a Job: what they say about its pods. Pure.

Source: k8s pkg/controller/job/{pod_failure_policy,success_policy}.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any, NamedTuple

from . import job_indexes

Object = Mapping[str, Any]


class Match(NamedTuple):
    """What the first matching rule makes of a failed pod. action: "" when none matches; message: of FailJob."""

    action: str = ""
    message: str = ""

    @property
    def counts(self) -> bool:
        """Whether the failure counts towards backoffLimit."""
        return self.action != "Ignore"


def judge(spec: Object, pod: Object, status: Object) -> Match:
    """The podFailurePolicy's word about a pod that has failed."""
    where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    for number, rule in enumerate((spec.get("podFailurePolicy") or {}).get("rules") or []):
        action = rule["action"]
        if rule.get("onExitCodes"):
            found = _by_exit_code(status, rule["onExitCodes"])
            what = f"Container {found[0]} for pod {where} failed with exit code {found[1]}" if found else ""
        else:
            kind = _by_condition(status, rule.get("onPodConditions") or [])
            what = f"Pod {where} has condition {kind}" if kind else ""
        if what:
            return Match(action, f"{what} matching {action} rule at index {number}" if action == "FailJob" else "")
    return Match()


def _by_exit_code(status: Object, wanted: Object) -> tuple[str, int] | None:
    """Name and exit code of the first container that matches; one that has ended well never does."""
    for key in ("containerStatuses", "initContainerStatuses"):
        for container in status.get(key) or []:
            code = (container["state"].get("terminated") or {}).get("exitCode") or 0
            named = wanted.get("containerName") in (None, container["name"])
            if code and named and (code in wanted["values"]) is (wanted["operator"] == "In"):
                return str(container["name"]), int(code)
    return None


def _by_condition(status: Object, patterns: Iterable[Object]) -> str:
    wanted = {(pattern["type"], pattern.get("status") or "True") for pattern in patterns}
    found = (c["type"] for c in status.get("conditions") or [] if (c["type"], c["status"]) in wanted)
    return str(next(found, ""))


def success(spec: Object, succeeded: Set[int]) -> str:
    """Why the successPolicy says that the Job has succeeded; empty while it does not."""
    for number, rule in enumerate((spec.get("successPolicy") or {}).get("rules") or []):
        asked = rule.get("succeededIndexes")
        required = job_indexes.parse(asked, spec["completions"]) if asked else succeeded
        enough = rule.get("succeededCount") or len(required)
        if succeeded and required and len(required & succeeded) >= enough:
            return f"Matched rules at index {number}"
    return ""
