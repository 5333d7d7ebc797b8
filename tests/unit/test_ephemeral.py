"""Ephemeral containers: what `debug` makes of its words, and what a pod may be given."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.cli import debug
from podlab.cli.pick import Picked
from podlab.controller import read_manifests
from podlab.errors import PodlabError
from podlab.kube import ephemeral, lifecycle, podstatus
from podlab.kube.containerspec import Surroundings
from podlab.kube.ephemeral import Asked
from podlab.runtime import ephemeral as spool
from podlab.runtime import paths
from podlab.runtime.files import read_json
from support import planned
from support.planned import cluster


def pod(**spec: Any) -> dict[str, Any]:
    whole = {"restartPolicy": "Always", "containers": [{"name": "web", "image": "busybox"}], **spec}
    return {"metadata": {"name": "p", "namespace": "default"}, "spec": whole}


def test_a_complete_container() -> None:
    asked = Asked("busybox", ["sh", "-c", "x"], "d", "web", "general", True, True)
    assert ephemeral.container(asked, pod()) == {
        "name": "d",
        "image": "busybox",
        "imagePullPolicy": "Always",
        "command": ["sh", "-c", "x"],
        "stdin": True,
        "tty": True,
        "targetContainerName": "web",
        "securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}},
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }


def test_profiles() -> None:
    def context(profile: str) -> Any:
        return ephemeral.container(Asked("busybox:1", name="d", profile=profile), pod()).get("securityContext")

    assert context("baseline") is None
    assert context("netadmin") == {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}}
    assert context("sysadmin") == {"privileged": True}
    assert context("restricted")["runAsNonRoot"] is True


def test_a_made_up_name_is_as_kubectls_and_free() -> None:
    name = ephemeral.made_up(())
    assert name.startswith("debugger-") and len(name) == len("debugger-") + 5
    assert not set(name[len("debugger-") :]) & set("aeiou013")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked("busybox", name="d", target="web"), []),
        (Asked("busybox", name="web"), ["the pod has a container 'web' already"]),
        (Asked("busybox", name="D_"), ["it is"]),
        (Asked("busybox", name="d", target="db"), ["'db' not found. The pod has: web"]),
        (Asked("Bad Image", name="web", target="db"), ["already", "not found", "Bad Image"]),
    ],
)
def test_what_is_refused(asked: Asked, said: list[str]) -> None:
    found = list(ephemeral.check(ephemeral.container(asked, pod()), pod()))
    assert len(found) == len(said)
    for finding, words in zip(found, said):
        assert words in finding.message
        assert finding.path[:2] == ("spec", "ephemeralContainers")


def test_its_runtime_configuration() -> None:
    """Never restarted, whatever the pod's policy; nothing of it counts for the pod's resources."""
    whole = pod()
    around = Surroundings(whole, cluster().nodes[0], "BestEffort", "p", [], {}, 1 << 30)
    config = ephemeral.config(ephemeral.container(Asked("busybox", name="d", target="web"), whole), around)
    assert (config["target"], config["restart"]) == ("web", {"policy": "Never", "rules": []})
    assert not lifecycle.restarts(config["restart"], 1)
    views = [lifecycle.View("d", lifecycle.EPHEMERAL, begun=True), lifecycle.View("web", running=True, begun=True)]
    assert lifecycle.plan(views) == lifecycle.Plan()
    ended = [views[0]._replace(running=True), lifecycle.View("web", begun=True, succeeded=True, restarts=False)]
    assert lifecycle.plan(ended).over


def test_its_status_makes_nothing_ready() -> None:
    view = {"name": "d", "image": "i", "image_id": "", "id": "1", "state": {"running": {}}, "last_state": {},
            "restart_count": 0, "ready": True, "started": True}  # fmt: skip
    found = podstatus.ephemeral_status(view)
    assert found["ready"] is False and "started" not in found


def test_a_manifest_cannot_have_any(tmp_path: Any) -> None:
    """k8s validation: cannot be set on create."""
    file = tmp_path / "p.yaml"
    file.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers: [{name: a, image: busybox}]\n"
        "  ephemeralContainers: [{name: d, image: busybox}]\n"
    )
    [problem] = read_manifests([str(file)]).problems
    assert problem.place.endswith("spec.ephemeralContainers")
    assert "it cannot be set on create" in problem.message and "./lab debug POD" in problem.remedy


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked(""), "debug: you must specify an image: debug POD --image IMAGE"),
        (Asked("busybox", profile="root"), "--profile root: there is none. Use one of: general, baseline, restricted"),
        (Asked("busybox", tty=True), "-i/--stdin is required for containers with -t/--tty=true"),
    ],
)
def test_words_that_do_not_go_together(asked: Asked, message: str) -> None:
    with pytest.raises(PodlabError) as caught:
        debug.debug("p", asked)
    assert caught.value.message.startswith(message)


def test_what_the_supervisor_refuses_leaves_no_trace(podlab_roots: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens in this pod's directory: its object and its spool are as before."""
    there = {**planned.pod("p"), "metadata": {"name": "p", "namespace": "default", "uid": "u"}}
    directory = paths.pod_dir("kind", "u")
    planned.write(f"{directory}/pod.json", there)
    planned.write(f"{directory}/{spool.FILE}", {"containers": [{"name": "first"}]})
    config = {"containers": [{"name": "first"}, {"name": "d"}]}
    monkeypatch.setattr(debug, "_config", lambda *_: config["containers"][1])
    monkeypatch.setattr(debug.pods, "spool", lambda *_: planned.write(f"{directory}/{spool.FILE}", config))
    new = ephemeral.container(Asked("busybox", name="d"), there)
    with pytest.raises(PodlabError, match="the pod's supervisor does not answer"):
        debug._add({"name": "kind"}, Picked(there, {}, True), new)
    assert read_json(f"{directory}/pod.json") == there
    assert spool.read(directory) == [{"name": "first"}]
