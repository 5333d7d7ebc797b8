"""QoS classes, cgroup values, OOM scores: kubelet's tables."""

from __future__ import annotations

import pytest

from podlab.kube import defaults, priorities, qos

GIB = 2**30


def container(requests=None, limits=None):
    return {"name": "c", "resources": {"requests": requests or {}, "limits": limits or {}}}


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        ([{"name": "c"}], "BestEffort"),
        ([container()], "BestEffort"),
        ([container({"cpu": "0"})], "BestEffort"),
        ([container(limits={"hugepages-2Mi": "4Mi"})], "BestEffort"),
        ([container({"cpu": "100m"})], "Burstable"),
        ([container(limits={"cpu": "1"})], "Burstable"),
        ([container(limits={"cpu": "1", "memory": "1Gi"})], "Guaranteed"),
        ([container({"cpu": "1000m", "memory": "1024Mi"}, {"cpu": "1", "memory": "1Gi"})], "Guaranteed"),
        ([container({"cpu": "500m"}, {"cpu": "1", "memory": "1Gi"})], "Burstable"),
        ([container(limits={"cpu": "1", "memory": "1Gi"}), {"name": "d"}], "Burstable"),
        ([container({"cpu": ".1"}, {"cpu": ".1"})], "Burstable"),
    ],
)
def test_class(containers, expected):
    assert qos.qos_class(containers) == expected


# pods.md, table of CPU requests.
@pytest.mark.parametrize(
    ("milli", "shares"),
    [(0, 2), (1, 2), (2, 2), (10, 10), (50, 51), (100, 102), (200, 204), (250, 256), (500, 512), (1000, 1024)]
    + [(1500, 1536), (2000, 2048), (4000, 4096), (8000, 8192), (10**9, 262144)],
)
def test_shares(milli, shares):
    assert qos.cpu_shares(milli) == shares


@pytest.mark.parametrize(
    ("milli", "quota"), [(None, None), (0, None), (1, 1000), (9, 1000), (100, 10000), (1500, 150000)]
)
def test_quota(milli, quota):
    assert qos.cpu_quota_us(milli) == quota


def test_container_values_default_the_request_to_the_limit():
    values = qos.container_values(container(limits={"cpu": ".1", "memory": "64Mi", "hugepages-2Mi": "4Mi"}))
    assert values == {
        "cpu_shares": 102,
        "cpu_quota_us": 10000,
        "memory_limit": 64 * 2**20,
        "hugepages": {"2MB": 4 * 2**20},
    }


def test_pod_limits_hold_only_when_every_container_has_one():
    limited = container(limits={"cpu": "1", "memory": "1Gi"})
    unlimited_memory = container(limits={"cpu": "500m"})
    assert qos.pod_values([limited, limited])["memory_limit"] == 2 * GIB
    mixed = qos.pod_values([limited, unlimited_memory])
    assert mixed == {"cpu_shares": 1536, "cpu_quota_us": 150000, "memory_limit": None, "hugepages": {}}
    assert qos.pod_values([{"name": "c"}]) == {
        "cpu_shares": 2,
        "cpu_quota_us": None,
        "memory_limit": None,
        "hugepages": {},
    }


@pytest.mark.parametrize(
    ("quality", "request_bytes", "score"),
    [
        ("Guaranteed", GIB, -997),
        ("BestEffort", 0, 1000),
        ("Burstable", 0, 999),
        ("Burstable", 4 * GIB, 500),
        ("Burstable", 8 * GIB, 3),
        ("Burstable", 3, 999),
        ("Burstable", GIB + GIB // 2, 813),
    ],
)
def test_oom_score(quality, request_bytes, score):
    assert qos.oom_score_adj(quality, request_bytes, 8 * GIB) == score


@pytest.mark.parametrize(
    ("name", "quality"),
    [
        ("system-node-critical", "Guaranteed"),
        ("system-cluster-critical", "Burstable"),
        ("", "Burstable"),
        (None, "Burstable"),
    ],
)
def test_what_is_critical_to_the_node_is_killed_last(name, quality):
    assert qos.oom_class("Burstable", name) == quality


@pytest.mark.parametrize(
    ("spec", "messages"),
    [
        ({}, []),
        ({"priority": 0}, []),
        ({"priorityClassName": "system-node-critical"}, []),
        ({"priorityClassName": "system-node-critical", "priority": 2000001000}, []),
        (
            {"priority": 7},
            [
                "the integer value of priority (7) must not be provided in pod spec; "
                "computed 0 from the given PriorityClass name"
            ],
        ),
        # That there is no such class is said elsewhere.
        ({"priorityClassName": "mine", "priority": 5}, []),
    ],
)
def test_priorities(spec, messages):
    assert [found.message for found in priorities.check(spec, ("spec",))] == messages


def test_the_priority_of_a_class_is_filled_in():
    made = defaults.pod_spec({"containers": [], "priorityClassName": "system-node-critical"})
    assert made["priority"] == 2000001000


@pytest.mark.parametrize(
    ("quality", "path"),
    [
        ("Guaranteed", "kubelet/kubepods/podU-1"),
        ("Burstable", "kubelet/kubepods/burstable/podU-1"),
        ("BestEffort", "kubelet/kubepods/besteffort/podU-1"),
    ],
)
def test_cgroup_parent(quality, path):
    assert qos.cgroup_parent(quality, "U-1") == path


@pytest.mark.parametrize(
    ("resource", "name"), [("hugepages-2Mi", "2MB"), ("hugepages-1Gi", "1GB"), ("hugepages-64Ki", "64KB")]
)
def test_page_size(resource, name):
    assert qos.page_size(resource) == name


def needs(cpu, memory=None, **more):
    return container(limits={"cpu": cpu, **({"memory": memory} if memory else {})}) | more


SIDECAR = {"restartPolicy": "Always"}


@pytest.mark.parametrize(
    ("inits", "milli"),
    [
        ([], 300),
        ([needs("200m")], 300),
        ([needs("400m"), needs("350m")], 400),
        ([needs("100m", **SIDECAR)], 400),
        ([needs("100m", **SIDECAR), needs("350m")], 450),
        ([needs("350m"), needs("100m", **SIDECAR)], 400),
        ([needs("100m", **SIDECAR), needs("400m"), needs("50m", **SIDECAR)], 500),
    ],
)
def test_a_pod_needs_what_it_needs_at_its_largest_moment(inits, milli):
    values = qos.pod_values([needs("100m"), needs("200m")], inits)
    assert (values["cpu_shares"], values["cpu_quota_us"]) == (milli * 1024 // 1000, milli * 100)


def test_an_init_container_without_a_limit_leaves_the_pod_without_one():
    mains = [needs("100m", "64Mi")]
    assert qos.pod_values(mains, [needs("50m", "96Mi")])["memory_limit"] == 96 * 2**20
    assert qos.pod_values(mains, [needs("50m")])["memory_limit"] is None
    assert qos.pod_values(mains, [container()])["cpu_quota_us"] is None


@pytest.mark.parametrize(
    ("own", "mains", "more", "score"),
    [
        ("64Mi", ["256Mi", "128Mi"], {}, 938),
        ("64Mi", ["256Mi", "128Mi"], SIDECAR, 875),
        ("512Mi", ["256Mi", "128Mi"], SIDECAR, 500),
        ("64Mi", ["256Mi", None], SIDECAR, 938),
    ],
)
def test_a_sidecar_is_not_killed_before_the_smallest_regular_container(own, mains, more, score):
    init = container({"memory": own}) | more
    beside = [container({"memory": size} if size else {}) for size in mains]
    assert qos.container_oom_score_adj("Burstable", init, GIB, beside) == score
