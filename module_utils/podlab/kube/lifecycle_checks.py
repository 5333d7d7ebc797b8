"""The rules for init containers, hooks and restart policies that the schema does not hold.

Source: k8s pkg/apis/core/validation/validation.go (validateInitContainers, validateLifecycle,
validateContainerRestartPolicy, validateSleepAction).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import probe_checks, qos
from .field_checks import one_of
from .schema import Finding, Path, show

_POLICIES = ("Always", "OnFailure", "Never")
_NOT_FOR_INIT = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
_HOOKS = ("exec", "httpGet", "tcpSocket", "sleep")
_ACTIONS = ("Restart",)
_MAX_RULES = 20
_MAX_CODES = 255
_GRACE = 30
# core/v1 Signal: what stopSignal may be on Linux.
_SIGNALS = (
    *("SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT", "SIGIO"),
    *("SIGIOT", "SIGKILL", "SIGPIPE", "SIGPOLL", "SIGPROF", "SIGPWR", "SIGQUIT", "SIGSEGV", "SIGSTKFLT", "SIGSTOP"),
    *("SIGSYS", "SIGTERM", "SIGTRAP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGUSR1", "SIGUSR2", "SIGVTALRM"),
    *("SIGWINCH", "SIGXCPU", "SIGXFSZ", "SIGRTMIN", *(f"SIGRTMIN+{number}" for number in range(1, 16))),
    *(*(f"SIGRTMAX-{number}" for number in range(14, 0, -1)), "SIGRTMAX"),
)


def pod(spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """The rules for what belongs to the whole pod: names across the lists, the deadline."""
    mains = {one.get("name"): index for index, one in enumerate(spec.get("containers") or [])}
    for index, init in enumerate(spec.get("initContainers") or []):
        name = init.get("name")
        if name and name in mains:
            message = f"the container name {show(name)} is there twice, first at containers[{mains[name]}]"
            yield Finding((*path, "initContainers", index, "name"), message, "Give each its own name")
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= 2**31 - 1:
        yield Finding((*path, "activeDeadlineSeconds"), f"must be between 1 and {2**31 - 1}, not {deadline}")


def container(thing: Mapping[str, Any], spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    """The rules for one container. spec: the pod's. path: in initContainers or containers."""
    if path[-2] == "initContainers" and not qos.is_sidecar(thing):
        for key in _NOT_FOR_INIT:
            if thing.get(key) is not None:
                message = "may not be set for init containers without restartPolicy=Always"
                yield Finding((*path, key), message, "Remove it, or make it a sidecar: restartPolicy: Always")
    yield from _restart(thing, path)
    yield from _lifecycle(thing, spec, (*path, "lifecycle"))


def _restart(thing: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    yield from one_of(thing, "restartPolicy", _POLICIES, path)
    rules = thing.get("restartPolicyRules") or []
    if rules and thing.get("restartPolicy") is None:
        yield Finding((*path, "restartPolicy"), "must specify restartPolicy when restart rules are used")
    if len(rules) > _MAX_RULES:
        yield Finding((*path, "restartPolicyRules"), f"must have at most {_MAX_RULES} items, not {len(rules)}")
    for index, rule in enumerate(rules):
        here = (*path, "restartPolicyRules", index)
        yield from one_of(rule, "action", _ACTIONS, here)
        codes = rule.get("exitCodes")
        if not codes:
            yield Finding((*here, "exitCodes"), "must be specified")
            continue
        yield from one_of(codes, "operator", ("In", "NotIn"), (*here, "exitCodes"))
        if len(codes.get("values") or []) > _MAX_CODES:
            message = f"must have at most {_MAX_CODES} items, not {len(codes['values'])}"
            yield Finding((*here, "exitCodes", "values"), message)


def _lifecycle(thing: Mapping[str, Any], spec: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    given = thing.get("lifecycle") or {}
    ports = [port["name"] for port in thing.get("ports") or [] if port.get("name")]
    grace = spec.get("terminationGracePeriodSeconds")
    for key in ("postStart", "preStop"):
        if given.get(key) is not None:
            yield from _hook(given[key], ports, _GRACE if grace is None else grace, (*path, key))
    if given.get("stopSignal") is not None:
        if not (spec.get("os") or {}).get("name"):
            message = "may not be set for containers with empty `spec.os.name`"
            yield Finding((*path, "stopSignal"), message, "Add os: {name: linux} to the pod's spec")
        if given["stopSignal"] not in _SIGNALS:
            message = f"must be a signal's name such as SIGTERM or SIGRTMIN+3, not {show(given['stopSignal'])}"
            yield Finding((*path, "stopSignal"), message)


def _hook(hook: Mapping[str, Any], ports: Sequence[str], grace: int, path: Path) -> Iterator[Finding]:
    given = [name for name in _HOOKS if hook.get(name) is not None]
    if not given:
        yield Finding(path, "must say what to do", "Add one of exec, httpGet, sleep")
    elif len(given) > 1:
        yield Finding(path, f"must do one thing, not {' and '.join(given)}")
    yield from probe_checks.action(hook, ports, path)
    if "sleep" in given and not 0 <= hook["sleep"].get("seconds", 0) <= grace:
        message = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
        yield Finding((*path, "sleep"), message)
    if "tcpSocket" in given:
        message = "is not supported as a lifecycle hook: the kubelet fails it when it comes to it"
        yield Finding((*path, "tcpSocket"), message, "Use exec, httpGet or sleep", "warning")
