"""scale: more pods, then fewer; those that stay are left alone, the Service goes along."""

from __future__ import annotations

from typing import Any

import pytest

from support.lab import Lab, ip_of, name_of, uid_of
from support.waiting import until

pytestmark = pytest.mark.lab

Facts = dict[str, tuple[Any, ...]]


def facts(lab: Lab) -> Facts:
    """Pods of the Deployment: what must stay of each, by uid."""
    return {
        uid_of(pod): (name_of(pod), ip_of(pod), pod["status"]["startTime"], pod["supervisor"])
        for pod in lab.pods("web-")
        if not pod["status"].get("deletionTimestamp")
    }


def endpoint_ips(lab: Lab, service: str) -> set[str]:
    (endpoints,) = lab.get_json("endpoints", service)
    return {entry["ip"] for subset in endpoints["subsets"] for entry in subset["addresses"]}


@pytest.fixture(scope="module")
def scaled(extras: Lab) -> tuple[Facts, Facts, dict[str, Any]]:
    """The pods before, and with 5 replicas; what was seen of the Service then."""
    before = facts(extras)
    said = extras.invoke("scale", "deployment/web", "--replicas", "5").stdout
    after = facts(extras)
    seen = {
        "said": said,
        "endpoints": endpoint_ips(extras, "web"),
        "names": names(extras),
        "rules": extras.in_node(extras.node_names()[0], "iptables-save", "-t", "nat").stdout,
    }
    return before, after, seen


def names(lab: Lab) -> set[str]:
    """Addresses of the headless Service, asked in a pod's network."""
    name = "web-each.default.svc.cluster.local"
    text = lab.in_pod_network(lab.pod("core-k8s"), "dig", "@10.96.0.10", "+short", "+time=8", name).stdout
    return set(text.split())


def test_scaling_up_adds_pods_and_leaves_the_others(scaled: tuple[Facts, Facts, dict[str, Any]]) -> None:
    before, after, seen = scaled
    assert len(before) == 3
    assert len(after) == 5
    assert {uid: after[uid] for uid in before} == before
    assert "done" in seen["said"]


def test_service_and_names_have_the_new_pods(scaled: tuple[Facts, Facts, dict[str, Any]]) -> None:
    _, after, seen = scaled
    addresses = {pod[1] for pod in after.values()}
    assert seen["endpoints"] == addresses
    assert seen["names"] == addresses
    assert all(f"--to-destination {address}:80" in seen["rules"] for address in addresses)


def test_scaling_down_takes_pods_their_rules_and_their_names_away(
    extras: Lab, scaled: tuple[Facts, Facts, dict[str, Any]]
) -> None:
    _, five, _ = scaled
    extras.invoke("scale", "deployment/web", "--replicas", "2")
    after = facts(extras)
    assert len(after) == 2
    assert after.items() <= five.items()
    addresses = {pod[1] for pod in after.values()}
    gone = {pod[1] for pod in five.values()} - addresses
    assert endpoint_ips(extras, "web") == addresses
    assert names(extras) == addresses
    for node in extras.node_names():
        rules = extras.in_node(node, "iptables-save", "-t", "nat").stdout
        assert not any(f"--to-destination {address}:" in rules for address in gone)
    # Only those that are left answer.
    script = "for i in $(seq 20); do wget -qO- http://web; done"
    stayed = {pod[0] for pod in after.values()}
    assert (
        set(extras.exec("echo", "sh", "-c", script.replace("web;", "web.default;"), namespace="extras").split())
        == stayed
    )


def test_scaled_away_pods_end_in_their_grace_period(extras: Lab, scaled: tuple[Facts, Facts, dict[str, Any]]) -> None:
    _, five, _ = scaled
    left = set(five) - set(facts(extras))
    for uid in left:
        extras.until_gone(uid)
    assert {uid_of(pod) for pod in extras.pods("web-")} & left == set()
    assert {uid_of(pod) for pod in extras.pods("web-")} == set(facts(extras))


def test_scaled_to_nothing_the_service_refuses(extras: Lab, scaled: tuple[Facts, Facts, dict[str, Any]]) -> None:
    """Its last pods serve until they end (KEP-1669), and who asks one that is just ending waits for it in vain, as in
    Kubernetes. Two seconds after their end no rule leads to them any more, and who asks is told so at once."""
    ends = {uid_of(pod) for pod in extras.pods("web-")}
    extras.invoke("scale", "deployment/web", "--replicas", "0")
    for uid in ends:
        extras.until_gone(uid)
    node = extras.node_names()[1]
    # What is programmed is noted after it is.
    until(lambda: endpoint_ips(extras, "web") == set(), "the watcher has not followed", 2)
    assert "default/web:http -> " not in extras.in_node(node, "iptables-save", "-t", "nat").stdout
    url = f"http://{extras.service_ip('web')}"
    refused = extras.in_node(node, "curl", "--max-time", "20", url, check=False)
    assert refused.returncode == 7  # curl's code for a connection that was refused
    assert names(extras) == set()
    # Back to what the manifests say, for the tests that follow: they take every pod for one that stays.
    extras.invoke("scale", "deployment/web", "--replicas", "3")
    stay = facts(extras)
    assert len(stay) == 3
    for uid in {uid_of(pod) for pod in extras.pods("web-")} - set(stay):
        extras.until_gone(uid)
