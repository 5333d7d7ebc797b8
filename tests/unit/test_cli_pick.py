"""One pod, and one container of it, by the words that a person uses."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.cli import pick
from podlab.errors import PodlabError
from support import cli_state


@pytest.fixture
def state() -> dict[str, Any]:
    return cli_state.state()


def owned(name: str, kind: str, owner: str, template: str = "") -> dict[str, Any]:
    labels = {"pod-template-hash": template} if template else {}
    metadata = {"name": name, "namespace": "default", "uid": name, "labels": labels,
                "ownerReferences": [{"kind": kind, "name": owner}]}  # fmt: skip
    return {"pod": {"metadata": metadata, "spec": {"containers": [{"name": "c"}]}}, "alive": True,
            "status": {"phase": "Running"}}  # fmt: skip


@pytest.mark.parametrize(
    ("word", "namespace", "expected"),
    [
        ("core-k8s", "", "core-k8s"),
        ("pod/core-k8s", "", "core-k8s"),
        ("core", "", "core-k8s"),
        ("web-7d4b9c6f5-a", "", "web-7d4b9c6f5-abcde"),
        ("dns", "kube-system", "dnsmasq-5c8d7"),
        ("deployment/front", "", "front-aa-1"),
        ("deploy/front-aa", "", "front-aa-bb-1"),
        ("rs/front-aa", "", "front-aa-1"),
        ("job/once", "", "once-x"),
        ("sts/db", "", "db-0"),
        ("svc/web", "", "web-7d4b9c6f5-abcde"),
    ],
)
def test_picking_a_pod(state: dict[str, Any], word: str, namespace: str, expected: str) -> None:
    stopped = owned("front-aa-0", "ReplicaSet", "front-aa", "aa")
    stopped["status"] = {"phase": "Pending"}
    state["pods"] += [
        stopped,
        owned("front-aa-1", "ReplicaSet", "front-aa", "aa"),
        owned("front-aa-bb-1", "ReplicaSet", "front-aa-bb", "bb"),
        owned("once-x", "Job", "once"),
        owned("db-0", "StatefulSet", "db"),
    ]
    assert pick.pod(state, word, namespace).name == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("nothing", 'pods "nothing" not found in namespace default (there are pods in kube-system too: -n)'),
        ("cor-k8s", ": -n). Did you mean core-k8s? See them with ./lab get pods -A"),
        ("svc/wep", 'services "wep" not found in namespace default. Did you mean web? See them with ./lab get svc -A'),
        ("pod/", 'pods "" not found in namespace default'),
        ("web-", "'web-' is the beginning of 3 pods: web-7d4b9c6f5-abcde, web-7d4b9c6f5-fghij, web-7d4b9c6f5-klmno"),
        ("deployment/nothing", "deployment/nothing has no pods in namespace default"),
        ("secret/x", "secret/x: 'secret' has no pods to choose from. Use one of: pod, deployment, replicaset"),
    ],
)
def test_picking_no_pod(state: dict[str, Any], word: str, message: str) -> None:
    with pytest.raises(PodlabError) as caught:
        pick.pod(state, word)
    assert message in caught.value.message


def test_picking_a_container(state: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    several = pick.pod(state, "practice-2tmpn")
    assert pick.container(several, "world") == "world"
    assert capsys.readouterr().err == ""
    assert pick.container(several) == "hello"
    assert capsys.readouterr().err == 'Defaulted container "hello" out of: hello, world\n'
    several.pod["metadata"]["annotations"] = {pick.DEFAULT_CONTAINER: "world"}
    assert pick.container(several) == "world"
    with pytest.raises(PodlabError, match="container x is not valid for pod practice-2tmpn. It has: hello, world"):
        pick.container(several, "x")


@pytest.mark.parametrize(
    ("word", "container", "message"),
    [
        ("two-containers-pod", "hello", "cannot exec into a container in a completed pod; current phase is Succeeded"),
        ("web-7d4b9c6f5-fghij", "web", 'container "web" of pod web-7d4b9c6f5-fghij is not running (CrashLoopBackOff)'),
        ("practice", "hello", 'container "hello" of pod practice-2tmpn is not running (Completed)'),
    ],
)
def test_exec_needs_a_running_container(state: dict[str, Any], word: str, container: str, message: str) -> None:
    with pytest.raises(PodlabError) as caught:
        pick.running(pick.pod(state, word), container)
    assert message in caught.value.message


def test_exec_needs_a_supervisor(state: dict[str, Any]) -> None:
    picked = pick.pod(state, "core-k8s")
    pick.running(picked, "core-k8s")
    with pytest.raises(PodlabError, match="its supervisor is gone. Bring it back with ./lab up"):
        pick.running(picked._replace(alive=False), "core-k8s")
