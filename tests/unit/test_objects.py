"""The store: apply, prune, delete, scale."""

from __future__ import annotations

import pytest

from podlab.errors import PodlabError
from podlab.kube import objects
from support.lab_objects import deployment, job, pod, service, store, thing


def titles(state):
    return [(entry["object"]["metadata"]["name"], entry["source"]) for entry in state["objects"]]


def test_merge_prunes_only_what_came_from_the_directory():
    before = objects.apply(store(pod("old"), pod("kept")), [pod("applied")])
    after = objects.merge(before, [pod("kept"), pod("new")])
    assert titles(after) == [("kept", "manifests"), ("applied", "apply"), ("new", "manifests")]


def test_merge_takes_over_what_was_applied():
    before = objects.apply(objects.empty(), [pod("a")])
    assert titles(objects.merge(before, [pod("a")])) == [("a", "manifests")]


def test_apply_replaces_and_keeps_the_source():
    before = store(pod("a"))
    after = objects.apply(before, [pod("a", hostname="x"), pod("b")])
    assert titles(after) == [("a", "manifests"), ("b", "apply")]
    assert after["objects"][0]["object"]["spec"]["hostname"] == "x"
    assert "hostname" not in before["objects"][0]["object"]["spec"]


def test_same_name_other_kind_or_namespace():
    after = objects.apply(objects.empty(), [pod("a"), deployment(name="a"), pod("a", "other")])
    assert len(after["objects"]) == 3


def test_delete():
    after, missing = objects.delete(store(pod("a"), pod("b")), [("Pod", "default", "a"), ("Pod", "default", "x")])
    assert titles(after) == [("b", "manifests")]
    assert missing == [("Pod", "default", "x")]


def test_a_namespace_takes_its_objects_along():
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    after, missing = objects.delete(store(space, pod("a", "shop"), pod("b")), [("Namespace", "", "shop")])
    assert titles(after) == [("b", "manifests")]
    assert missing == []


@pytest.mark.parametrize("word", ["Deployment", "deployment", "deploy", "deployments"])
def test_scale(word):
    before = store(deployment(3))
    after = objects.scale(before, word, "web", "default", 5)
    assert after["objects"][0]["object"]["spec"]["replicas"] == 5
    assert before["objects"][0]["object"]["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    ("word", "name", "replicas", "message"),
    [
        ("job", "job", 2, "Cannot scale job/job: only Deployment, ReplicaSet, StatefulSet have replicas"),
        ("thing", "x", 2, "Cannot scale thing/x: only Deployment, ReplicaSet, StatefulSet have replicas"),
        ("deploy", "web", -1, "Cannot scale deploy/web: replicas must be 0 or more, not -1"),
        (
            *("deploy", "wbe", 2),
            "Cannot scale Deployment/wbe in namespace default: there is none; there are Deployment/web",
        ),
        ("sts", "db", 2, "Cannot scale StatefulSet/db in namespace default: there is none; the lab has no StatefulSet"),
    ],
)
def test_scale_refusals(word, name, replicas, message):
    with pytest.raises(PodlabError) as caught:
        objects.scale(store(deployment(), job()), word, name, "default", replicas)
    assert caught.value.message == message


def test_addresses_are_remembered():
    state = objects.remember(store(service("web"), pod("web")), {"default/web": "10.96.1.1"}, {})
    assert objects.addresses(state) == {"default/web": "10.96.1.1"}
    assert "clusterIP" not in state["objects"][1]
    again = objects.merge(state, [service("web"), thing("Pod", "web")])
    assert objects.addresses(again) == {"default/web": "10.96.1.1"}


def test_namespaces():
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    assert objects.namespaces(store(space, pod())) == ["shop"]
