"""Which pods an object wants, which stay, and in which order they go."""

from __future__ import annotations

import copy
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podlab.kube import names, plan
from support.lab_objects import cluster, deployment, job, pod, running, store, template, thing

SAFE = "[bcdfghjklmnpqrstvwxz2456789]"


def pods_of(*things, there=(), on=None):
    """The planned pods. there: what is there."""
    made = plan.plan(store(*things), on or cluster(), there)
    assert made.problems == ()
    return list(made.pods)


def named(pods):
    return [item["metadata"]["name"] for item in pods]


def uids(pods):
    return [item["metadata"]["uid"] for item in pods]


# ---- expansion ----


def test_deployment():
    pods = pods_of(deployment(3))
    assert len(set(named(pods))) == len(set(uids(pods))) == 3
    for item in pods:
        metadata = item["metadata"]
        assert re.fullmatch(
            r"web-[bcdfghjklmnpqrstvwxz2456789]{1,10}-[bcdfghjklmnpqrstvwxz2456789]{5}", metadata["name"]
        )
        template_hash = metadata["labels"]["pod-template-hash"]
        assert metadata["labels"] == {"app": "web", "pod-template-hash": template_hash}
        owner = metadata["ownerReferences"][0]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("ReplicaSet", f"web-{template_hash}", True)
        assert metadata["name"].startswith(f"{owner['name']}-")
        assert item["spec"]["nodeName"] in ("w1", "w2")
        assert item["spec"]["restartPolicy"] == "Always"


def test_replicas_default_to_one():
    assert len(pods_of(thing("Deployment", selector={}, template=template()))) == 1
    assert pods_of(deployment(0)) == []


def test_replica_set_names_have_no_hash():
    pods = pods_of(thing("ReplicaSet", replicas=1, selector={}, template=template()))
    assert re.fullmatch(r"web-[a-z0-9]{5}", named(pods)[0])
    assert "pod-template-hash" not in pods[0]["metadata"]["labels"]


def test_daemon_set_runs_on_every_node_it_may():
    made = thing("DaemonSet", "agent", selector={}, template=template())
    assert [item["spec"]["nodeName"] for item in pods_of(made)] == ["w1", "w2"]
    everywhere = thing("DaemonSet", "agent", selector={}, template=template(tolerations=[{"operator": "Exists"}]))
    assert [item["spec"]["nodeName"] for item in pods_of(everywhere)] == ["cp", "w1", "w2"]
    ssd = thing("DaemonSet", "agent", selector={}, template=template(nodeSelector={"disk": "ssd"}))
    assert [item["spec"]["nodeName"] for item in pods_of(ssd, on=cluster(w2={"disk": "ssd"}))] == ["w2"]
    assert pods_of(ssd) == []


def test_daemon_set_pods_stay_when_a_node_comes():
    made = thing("DaemonSet", "agent", selector={}, template=template())
    before = pods_of(made)
    after = pods_of(made, there=running(before), on=cluster(workers=3))
    assert after[:2] == before
    assert after[2]["spec"]["nodeName"] == "w3"


def test_stateful_set():
    made = thing("StatefulSet", "db", replicas=2, serviceName="db-svc", selector={}, template=template())
    pods = pods_of(made)
    assert named(pods) == ["db-0", "db-1"]
    assert pods[1]["spec"]["hostname"] == "db-1"
    assert pods[1]["spec"]["subdomain"] == "db-svc"
    labels = pods[1]["metadata"]["labels"]
    assert labels["statefulset.kubernetes.io/pod-name"] == "db-1"
    assert labels["apps.kubernetes.io/pod-index"] == "1"
    assert labels["controller-revision-hash"].startswith("db-")


def test_stateful_set_scales_from_the_end():
    def made(replicas):
        return thing("StatefulSet", "db", replicas=replicas, selector={}, template=template())

    three = pods_of(made(3))
    assert pods_of(made(1), there=running(three)) == three[:1]
    assert pods_of(made(3), there=running(three[:1]))[:1] == three[:1]


def test_job():
    pods = pods_of(job())
    assert re.fullmatch(r"job-[a-z0-9]{5}", named(pods)[0])
    labels = pods[0]["metadata"]["labels"]
    assert labels["job-name"] == labels["batch.kubernetes.io/job-name"] == "job"
    assert labels["controller-uid"] == labels["batch.kubernetes.io/controller-uid"]
    assert labels["controller-uid"] == pods[0]["metadata"]["ownerReferences"][0]["uid"]
    several = pods_of(job(completions=3, parallelism=2))
    assert len(several) == len(set(named(several))) == 2
    assert len(pods_of(job(completions=3, parallelism=2), there=running(several, "Succeeded"))) == 3
    assert len(pods_of(job(parallelism=2))) == 2


def test_bare_pod():
    pods = pods_of(pod("core-k8s"))
    assert named(pods) == ["core-k8s"]
    assert "ownerReferences" not in pods[0]["metadata"]
    assert "creationTimestamp" not in pods[0]["metadata"]


def test_two_clusters_share_nothing():
    mine = pods_of(deployment(), on=cluster(name="kind"))
    theirs = pods_of(deployment(), on=cluster(name="other"))
    assert not set(uids(mine)) & set(uids(theirs))


# ---- what is there stays ----


@pytest.mark.parametrize(
    "made",
    [
        deployment(),
        job(),
        pod(),
        thing("DaemonSet", selector={}, template=template()),
        thing("StatefulSet", replicas=2, selector={}, template=template()),
    ],
)
def test_a_second_plan_changes_nothing(made):
    first = pods_of(made)
    assert pods_of(made, there=running(first)) == first
    assert pods_of(made, there=running(reversed(first))) in (first, first[::-1])


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_what_ended_is_not_run_again(phase):
    for made in (job(), pod()):
        first = pods_of(made)
        assert pods_of(made, there=running(first, phase)) == first


def test_a_replica_that_ended_is_replaced():
    first = pods_of(deployment(1))
    after = pods_of(deployment(1), there=running(first, "Failed"))
    assert len(after) == 1
    assert named(after) != named(first)


def test_a_changed_template_makes_new_pods():
    first = pods_of(deployment())
    changed = pods_of(deployment(nodeSelector={}, hostname="x"), there=running(first))
    assert not set(named(first)) & set(named(changed))
    assert not set(uids(pods_of(job()))) & set(uids(pods_of(job(labels={"app": "new"}))))
    assert uids(pods_of(pod(hostname="x"))) != uids(pods_of(pod()))


def test_new_labels_of_a_bare_pod_do_not_restart_it():
    first = pods_of(pod(labels={"a": "1"}))
    after = pods_of(pod(labels={"a": "2"}), there=running(first))
    assert uids(after) == uids(first)
    assert after[0]["metadata"]["labels"] == {"a": "2"}
    assert after[0]["spec"] == first[0]["spec"]


def test_pods_of_a_node_that_is_gone_move():
    first = pods_of(deployment(2), on=cluster(workers=2))
    after = pods_of(deployment(2), there=running(first), on=cluster(workers=1))
    assert {item["spec"]["nodeName"] for item in after} == {"w1"}
    assert len(after) == 2
    assert first[0] in after


def test_a_pod_that_is_leaving_does_not_count_and_its_name_is_not_taken():
    first = pods_of(deployment(2))
    there = running(copy.deepcopy(first))
    there[0]["pod"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    after = pods_of(deployment(2), there=there)
    assert first[1] in after
    assert first[0]["metadata"]["name"] not in named(after)


def test_a_leaving_pod_of_the_same_name_comes_back_whole():
    first = pods_of(pod())
    there = running(copy.deepcopy(first))
    there[0]["pod"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert pods_of(pod(), there=there) == first


# ---- the order of removal ----


def survivors(replicas, *changes):
    """Names that are left of five pods; changes: index -> what differs from a ready, old pod."""
    pods = pods_of(deployment(5), on=cluster(workers=1))
    there = [running([item], **(dict(changes).get(n, {})))[0] for n, item in enumerate(pods)]
    left = named(pods_of(deployment(replicas), there=there, on=cluster(workers=1)))
    return [n for n, item in enumerate(pods) if item["metadata"]["name"] in left]


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ([(1, {"phase": "Pending", "ready": False})], [0, 2, 3, 4]),
        ([(2, {"ready": False})], [0, 1, 3, 4]),
        ([(2, {"ready": False}), (3, {"phase": "Unknown", "ready": False})], [0, 1, 2, 4]),
        ([(3, {"phase": "Unknown", "ready": False}), (4, {"phase": "Pending", "ready": False})], [0, 1, 2, 3]),
        ([(3, {"restarts": 7})], [0, 1, 2, 4]),
        ([(0, {"start": "2026-02-01T00:00:00Z"})], [1, 2, 3, 4]),
        ([(0, {"start": "2026-02-01T00:00:00Z"}), (1, {"ready": False})], [0, 2, 3, 4]),
    ],
)
def test_who_goes_first(changes, left):
    assert survivors(4, *changes) == left


@pytest.mark.parametrize("name", ["a", "b", "c", "d", "e", "f", "g", "h"])
def test_the_crowded_node_gives_first(name):
    pods = pods_of(deployment(3, name))
    crowded = max(("w1", "w2"), key=[item["spec"]["nodeName"] for item in pods].count)
    left = pods_of(deployment(2, name), there=running(pods))
    assert sorted(item["spec"]["nodeName"] for item in left) == ["w1", "w2"]
    gone = next(item for item in pods if item not in left)
    assert gone["spec"]["nodeName"] == crowded


def test_deletion_cost():
    pods = pods_of(deployment(3))
    pods[0]["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"] = "-5"
    assert pods[0] not in pods_of(deployment(2), there=running(pods))


# ---- properties ----

COUNTS = st.lists(st.integers(0, 9), min_size=1, max_size=6)


@settings(deadline=None)
@given(COUNTS, st.sampled_from(["Deployment", "ReplicaSet", "StatefulSet"]))
def test_scaling_touches_no_survivor(counts, kind):
    there: list[dict] = []
    for count in counts:
        made = thing(kind, replicas=count, selector={}, template=template())
        pods = pods_of(made, there=running(there))
        assert len(pods) == count == len(set(named(pods))) == len(set(uids(pods)))
        if count <= len(there):
            assert all(item in there for item in pods)
        else:
            assert all(item in pods for item in there)
        there = pods


NAMES = st.from_regex(r"\A[a-z0-9]([-a-z0-9.]{0,60}[a-z0-9])?\Z").filter(lambda name: not names.subdomain_fault(name))


@settings(deadline=None)
@given(NAMES, st.sampled_from(["Deployment", "ReplicaSet", "DaemonSet", "Job"]), st.text(max_size=4))
def test_made_names_are_valid_and_always_the_same(name, kind, image):
    made = thing(kind, name, replicas=2, parallelism=2, selector={}, template=template())
    made["spec"]["template"]["spec"]["containers"][0]["image"] = image
    first = pods_of(made)
    for item in first:
        assert names.subdomain_fault(item["metadata"]["name"]) == ""
        assert len(item["metadata"]["name"]) <= 63
        for value in item["metadata"]["labels"].values():
            assert names.label_value_fault(value) == ""
    assert pods_of(copy.deepcopy(made)) == first


def test_template_hash_ignores_the_order_of_keys():
    assert names.template_hash({"a": 1, "b": 2}) == names.template_hash({"b": 2, "a": 1})
    assert names.template_hash({"a": 1}) != names.template_hash({"a": 2})
