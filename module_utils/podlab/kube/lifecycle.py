"""What a pod's supervisor does next: which containers are due, and whether the pod is over. Pure.

Source: k8s pkg/kubelet/kuberuntime/kuberuntime_manager.go (computePodActions, computeInitContainerActions),
pkg/api/v1/pod/util.go (ContainerShouldRestart). The pod supervisor imports this file, hence no import that costs
memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

INIT, SIDECAR, MAIN = "init", "sidecar", "main"
# Of these nothing is planned: each is started once, when it is asked for, and ends with the pod.
EPHEMERAL = "ephemeral"
ALWAYS, ON_FAILURE, NEVER = "Always", "OnFailure", "Never"


class View(NamedTuple):
    """One container as it stands.

    kind: INIT, SIDECAR or MAIN. begun: a run of it began in this sandbox. started: it runs, its startup probe has
    succeeded and its postStart hook returned. succeeded: its latest run ended with 0. restarts: it is to be started
    when it does not run; of one that has never run always true.
    """

    name: str
    kind: str = MAIN
    begun: bool = False
    running: bool = False
    started: bool = False
    succeeded: bool = False
    restarts: bool = True


class Container(Protocol):
    """What plan() looks at: a View, or what a supervisor has of it."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def begun(self) -> bool: ...
    @property
    def running(self) -> bool: ...
    @property
    def started(self) -> bool: ...
    @property
    def succeeded(self) -> bool: ...
    @property
    def restarts(self) -> bool: ...


class Plan(NamedTuple):
    """start: names of what is due, in order. over: nothing will be started again, what runs is to be ended."""

    start: tuple[str, ...] = ()
    over: bool = False


def plan(containers: Sequence[Container]) -> Plan:
    """What is to be done now, back-off apart. containers: all of the pod's, in the order of its spec, init first."""
    inits = [each for each in containers if each.kind in (INIT, SIDECAR)]
    mains = [each for each in containers if each.kind == MAIN]
    through, start = _initialize(inits, any(each.begun for each in mains))
    if through is None:
        return Plan(over=True)
    if not through:
        return Plan(tuple(start))
    due = [each.name for each in mains if not each.running and each.restarts]
    if not due and not any(each.running for each in mains):
        return Plan(over=True)
    return Plan((*start, *due))


def _initialize(inits: Sequence[Container], before: bool) -> tuple[bool | None, list[str]]:
    """Whether the main containers' turn has come (None: it never will), and which init containers are due.

    before: a main container has begun in this sandbox, so only sidecars are looked after.
    """
    if before:
        return True, [each.name for each in inits if each.kind == SIDECAR and not each.running]
    latest = max((index for index, each in enumerate(inits) if each.begun), default=-1)
    due = [each.name for each in inits[: max(latest, 0)] if each.kind == SIDECAR and not each.running]
    if latest >= 0:
        last = inits[latest]
        if last.running:
            passed = last.kind == SIDECAR and last.started
        elif last.kind == SIDECAR or (not last.succeeded and last.restarts):
            return False, [*due, last.name]
        elif not last.succeeded:
            return None, []
        else:
            passed = True
        if not passed:
            return False, due
    if latest + 1 < len(inits):
        return False, [*due, inits[latest + 1].name]
    return True, due


def restarts(rule: Mapping[str, Any], code: int) -> bool:
    """Whether a container is started again after this exit code.

    rule: `policy` (its own, else the pod's) and `rules` ({"operator": In or NotIn, "values": codes}; all of them
    restart). The first rule that fits decides, else the policy.
    """
    if any((code in each["values"]) is (each["operator"] == "In") for each in rule["rules"]):
        return True
    return bool(rule["policy"] == ALWAYS or (rule["policy"] == ON_FAILURE and code != 0))


def restartable(rule: Mapping[str, Any]) -> bool:
    """Whether a container may be started again at all: what a failed probe ends comes back then."""
    return bool(rule["rules"]) or rule["policy"] != NEVER


def may_end(kind: str, name: str, running: Sequence[tuple[str, str]]) -> bool:
    """Whether it is a container's turn to be asked to end, while these run: (kind, name) in the order of the spec.

    A sidecar waits for every main container and for the sidecars after it (kuberuntime_termination_order.go).
    """
    if kind != SIDECAR:
        return True
    sidecars = [other for other_kind, other in running if other_kind == SIDECAR]
    return not any(other_kind == MAIN for other_kind, _ in running) and sidecars[-1:] in ([], [name])
