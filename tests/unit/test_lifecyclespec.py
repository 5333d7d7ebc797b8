"""From hooks and restart policies in a manifest to the runtime config, and from there to signals and words."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from podlab.kube import containerspec, defaults, hooks, hookspec
from podlab.runtime.ending import _number

EXEC = {"exec": {"command": ["a", "$(A)", "$(C)"]}}
HTTP = {"httpGet": {"port": "web", "path": "x y"}}
HOOKS = [
    ({}, {}),
    ({"postStart": {"sleep": {"seconds": 0}}}, {"post_start": {"kind": "sleep", "seconds": 0}}),
    ({"preStop": {"tcpSocket": {"port": 1}}}, {"pre_stop": {"kind": "tcp"}}),
    ({"preStop": EXEC}, {"pre_stop": {"kind": "exec", "command": ["a", "b", "$(C)"]}}),
    (
        {"postStart": HTTP, "stopSignal": "SIGUSR1"},
        {
            "post_start": {
                **{"kind": "http", "host": "", "port": 8080, "scheme": "HTTP", "path": "/x%20y"},
                "headers": [{"name": "User-Agent", "value": "kube-lifecycle/1.36"}],
            }
        },
    ),
]


@pytest.mark.parametrize(("lifecycle", "expected"), HOOKS, ids=range(len(HOOKS)))
def test_hooks(lifecycle: dict[str, Any], expected: dict[str, Any]) -> None:
    ports = [{"name": "web", "containerPort": 8080}]
    env = [{"name": "A", "value": "b"}]
    given = {"image": "busybox", "lifecycle": lifecycle, "ports": ports, "env": env}
    complete = defaults.pod_spec({"containers": [given]})["containers"][0]
    found = hookspec.hooks(complete)
    for spec in found.values():
        if spec["kind"] in ("exec", "http"):
            assert spec.pop("hook") is True and spec.pop("timeout") == hookspec.NO_LIMIT
    assert found == expected
    assert complete["lifecycle"].get("stopSignal") == lifecycle.get("stopSignal")


def test_a_hooks_own_user_agent_stays() -> None:
    get = {"port": 1, "path": "/", "scheme": "HTTP", "httpHeaders": [{"name": "user-agent", "value": "mine"}]}
    found = hookspec.hooks({"lifecycle": {"preStop": {"httpGet": get}}})["pre_stop"]
    assert found["headers"] == [{"name": "user-agent", "value": "mine"}]


RESTARTS = [
    ({}, "Always", False, "Always"),
    ({}, "Never", False, "Never"),
    ({"restartPolicy": "Never"}, "Always", False, "Never"),
    ({"restartPolicy": "Always"}, "Never", False, "Always"),
    ({}, "Always", True, "OnFailure"),
    ({}, "OnFailure", True, "OnFailure"),
    ({}, "Never", True, "Never"),
    ({"restartPolicy": "Always"}, "Never", True, "Always"),
    ({"restartPolicy": "OnFailure"}, "Never", True, "OnFailure"),
]


@pytest.mark.parametrize(("container", "pod", "init", "policy"), RESTARTS, ids=str)
def test_the_policy_of_a_container(container: dict[str, Any], pod: str, init: bool, policy: str) -> None:
    assert containerspec.restart(container, pod, init) == {"policy": policy, "rules": []}


def test_the_rules_of_a_container() -> None:
    rules = [{"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [0]}}]
    own = {"restartPolicy": "Never", "restartPolicyRules": rules}
    assert containerspec.restart(own, "Always", False)["rules"] == [{"operator": "NotIn", "values": [0]}]


WORDS = [
    ({"kind": "exec", "command": ["a", "b"]}, "Exec lifecycle hook ([a b]) for Container"),
    ({"kind": "http", "path": "/x"}, "HTTP lifecycle hook (/x) for Container"),
]


@pytest.mark.parametrize(("hook", "begins"), WORDS, ids=["exec", "http"])
def test_what_is_said_of_a_hook_that_fails(hook: dict[str, Any], begins: str) -> None:
    config = {"name": "p", "namespace": "n", "uid": "u"}
    assert hooks.complaint(hook, "why", "c", config) == f'{begins} "c" in Pod "p_n(u)" failed - error: why'


SIGNALS = [
    ("SIGTERM", signal.SIGTERM),
    ("", signal.SIGTERM),
    ("SIGNONE", signal.SIGTERM),
    ("SIG_IGN", signal.SIGTERM),
    ("QUIT", signal.SIGQUIT),
    ("3", signal.SIGQUIT),
    ("SIGRTMIN+3", signal.SIGRTMIN + 3),
    ("SIGRTMAX-14", signal.SIGRTMAX - 14),
]


@pytest.mark.parametrize(("name", "number"), SIGNALS)
def test_the_signal_of_a_name(name: str, number: int) -> None:
    assert _number(name) == number
