"""Where pods go."""

from __future__ import annotations

import pytest

from podlab.kube import plan, scheduler
from podlab.kube.cluster import CONTROL_PLANE_TAINT
from support.lab_objects import cluster, deployment, node, pod, running, store

# Kubernetes' ToleratesTaint.
TAINT = {"key": "foo", "value": "bar", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "foo", "operator": "Exists"}, True),
        ({"key": "foo", "operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "foo", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "foo", "value": "bar"}, True),
        ({"key": "foo", "value": "bar", "operator": "Equal", "effect": "NoSchedule"}, True),
        ({"key": "foo", "value": "other"}, False),
        ({"key": "foo"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_tolerates(toleration, tolerated):
    assert scheduler.tolerates([toleration], TAINT) is tolerated


def test_no_toleration():
    assert not scheduler.tolerates([], TAINT)


def nodes_of(*things, there=(), on=None):
    made = plan.plan(store(*things), on or cluster(), there)
    assert made.problems == ()
    return [item["spec"]["nodeName"] for item in made.pods]


def complaints(*things, on=None):
    return [str(problem) for problem in plan.plan(store(*things), on or cluster(), ()).problems]


def test_spread_over_the_workers():
    assert nodes_of(deployment(4)) == ["w1", "w2", "w1", "w2"]


def test_fewest_of_the_same_owner_then_fewest_then_order():
    assert nodes_of(pod("a"), pod("b"), pod("c")) == ["w1", "w2", "w1"]
    assert nodes_of(pod("a"), deployment(2)) == ["w1", "w2", "w1"]


def test_what_stays_counts():
    first = plan.plan(store(deployment(1)), cluster(), ()).pods
    assert nodes_of(deployment(2), there=running(first)) == ["w1", "w2"]
    ended = plan.plan(store(pod("a")), cluster(), ()).pods
    assert nodes_of(pod("a"), pod("b"), there=running(ended, "Succeeded")) == ["w1", "w1"]


def test_node_name_passes_taints():
    assert nodes_of(pod(nodeName="cp")) == ["cp"]


def test_toleration_opens_the_control_plane():
    toleration = {"key": CONTROL_PLANE_TAINT["key"], "operator": "Exists", "effect": "NoSchedule"}
    assert nodes_of(pod(tolerations=[toleration])) == ["cp"]


def test_a_wish_is_no_bar():
    soft = node(0, "n", taints=[{"key": "a", "effect": "PreferNoSchedule"}])
    assert scheduler.why_not({}, soft) == ""


def test_node_selector():
    assert nodes_of(pod(nodeSelector={"disk": "ssd"}), on=cluster(w2={"disk": "ssd"})) == ["w2"]


def test_unschedulable_says_why_for_each_node():
    made = deployment(3)
    made["spec"]["template"]["spec"]["nodeSelector"] = {"disk": "ssd"}
    made["spec"]["template"]["spec"]["tolerations"] = [{"operator": "Exists"}]
    assert complaints(made, on=cluster(w2={"disk": "hdd"})) == [
        "Deployment/web: spec.template.spec.nodeSelector: no node of 3 can run the pod: "
        "cp has no label disk (nodeSelector disk=ssd); w1 has no label disk (nodeSelector disk=ssd); "
        "w2 has disk=hdd, not ssd (nodeSelector). "
        "Change nodeSelector or tolerations, or the labels of a node in the cluster config"
    ]


def test_unschedulable_by_taint():
    assert complaints(pod(), on=cluster(workers=0)) == [
        "Pod/web: spec: no node of 1 can run the pod: cp has the taint "
        "node-role.kubernetes.io/control-plane:NoSchedule, which the pod does not tolerate. "
        "Change nodeSelector or tolerations, or the labels of a node in the cluster config"
    ]


def test_unknown_node_name():
    assert complaints(pod(nodeName="w9")) == ["Pod/web: spec.nodeName: there is no node w9. The nodes are cp, w1, w2"]


def test_node_name_must_fit_the_selector():
    assert "w1 has no label disk" in complaints(pod(nodeName="w1", nodeSelector={"disk": "ssd"}))[0]
