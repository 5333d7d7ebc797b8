"""Probes through the front door: what `get` shows, which endpoints there are, and that both follow by themselves."""

from __future__ import annotations

import json
import pathlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from podlab.linux import inotify
from podlab.runtime import paths, state
from support.lab import Lab, container_of, ip_of, name_of, running, uid_of

pytestmark = pytest.mark.lab

# What the project promises from a change of readiness to the rules of every node.
PROMISED_SECONDS = 2.0
HANG_SECONDS = 60.0
MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: gated}
spec:
  replicas: 2
  selector: {matchLabels: {app: gated}}
  template:
    metadata: {labels: {app: gated}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: busybox
          command: [sh, -c, 'mkdir /www; exec httpd -f -p 8080 -h /www']
          ports: [{name: http, containerPort: 8080}]
          # Both have long to answer: a machine that is busy is no pod that is not ready.
          readinessProbe:
            httpGet: {port: http, path: /ready}
            periodSeconds: 1
            timeoutSeconds: 30
            failureThreshold: 1
          livenessProbe:
            exec: {command: [sh, -c, '! test -e /www/sick']}
            periodSeconds: 1
            timeoutSeconds: 30
            failureThreshold: 1
---
apiVersion: v1
kind: Service
metadata: {name: gated}
spec: {selector: {app: gated}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: gated-early}
spec: {selector: {app: gated}, ports: [{port: 80, targetPort: http}], publishNotReadyAddresses: true}
"""


@pytest.fixture(scope="module")
def gated(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The lab with two pods that are not ready: `apply` waits until they have started, as kubectl's does."""
    path: pathlib.Path = tmp_path_factory.mktemp("probes") / "gated.yaml"
    path.write_text(MANIFEST)
    lab.invoke("apply", "-f", str(path))
    yield lab
    lab.invoke("delete", "-f", str(path))


def column(lab: Lab) -> list[tuple[str, str, str]]:
    """READY, STATUS and RESTARTS of the pods, as a person sees them."""
    table = lab.invoke("get", "pods", "-l", "app=gated").stdout
    return [tuple(re.split(r"\s{2,}", line)[1:4]) for line in table.splitlines()[1:]]  # type: ignore[misc]


def rules(lab: Lab, service: str = "gated") -> set[str]:
    """The addresses that every node's rules have for the Service."""
    found = []
    for node in lab.node_names():
        text = lab.in_node(node, "iptables-save", "-t", "nat").stdout
        found.append(frozenset(re.findall(rf'-A KUBE-SVC-\S+ .*"default/{service}(?::\S+)? -> ([0-9.]+):\d+"', text)))
    return set(found[0]) if len(set(found)) == 1 else {"nodes differ"}


def conditions(lab: Lab, service: str) -> dict[str, dict[str, bool]]:
    """The conditions of the Service's endpoints by address."""
    found = {}
    for item in state.read_state(lab.name)["services"]["endpointslices"]:
        if item["metadata"]["labels"]["kubernetes.io/service-name"] == service:
            found.update({each["addresses"][0]: each["conditions"] for each in item["endpoints"]})
    return found


def until(lab: Lab, condition: Callable[[], bool], otherwise: str) -> None:
    """Wait until the condition holds, asked again when the lab's state is written."""
    began = time.monotonic()
    with inotify.Inotify() as events:
        events.add(paths.cluster_dir(lab.name), inotify.MOVED_TO)
        while not condition():
            assert time.monotonic() - began < HANG_SECONDS, otherwise
            events.wait(0.05)


def followed(lab: Lab, pod: dict[str, Any], ready: bool) -> float:
    """Wait until every node's rules have the pod, or have it no more, and it is noted; the seconds that it took."""
    address = ip_of(pod)

    def programmed() -> bool:
        return conditions(lab, "gated")[address]["ready"] is ready is (address in rules(lab))

    until(lab, programmed, f"{address}: the rules do not say ready={ready}")
    return lab.services_written() - lab.status_written(pod)


def set_ready(lab: Lab, pod: dict[str, Any], ready: bool) -> None:
    """Make the pod ready, or not, and wait until its status says so."""
    lab.exec(name_of(pod), *(("touch",) if ready else ("rm", "-f")), "/www/ready")
    lab.until(uid_of(pod), lambda found: running(found) is ready, f"readiness does not become {ready}")


def test_readiness_is_in_the_table_the_endpoints_and_the_rules(gated: Lab) -> None:
    one, other = gated.pods("gated-")
    both = {ip_of(one), ip_of(other)}
    for pod in (one, other):
        gated.until(uid_of(pod), lambda found: found["status"]["podlab"]["probes"], "nothing was asked")
    assert column(gated) == [("0/1", "Running", "0")] * 2
    until(
        gated,
        lambda: rules(gated, "gated-early") == set(conditions(gated, "gated-early")) == both,
        "the early Service has no endpoints",
    )
    unready = {"ready": False, "serving": False, "terminating": False}
    assert (conditions(gated, "gated"), rules(gated)) == (dict.fromkeys(both, unready), set())
    assert conditions(gated, "gated-early") == dict.fromkeys(both, {**unready, "ready": True})

    set_ready(gated, one, True)
    assert followed(gated, one, True) < PROMISED_SECONDS
    assert rules(gated) == {ip_of(one)}
    assert sorted(column(gated)) == [("0/1", "Running", "0"), ("1/1", "Running", "0")]
    endpoints = {name_of(item): item for item in gated.get_json("endpoints")}["gated"]["subsets"][0]
    assert [each["ip"] for each in endpoints["addresses"]] == [ip_of(one)]
    assert [each["ip"] for each in endpoints["notReadyAddresses"]] == [ip_of(other)]

    set_ready(gated, one, False)
    assert followed(gated, one, False) < PROMISED_SECONDS
    assert rules(gated) == set()


def test_why_it_is_not_ready_is_in_its_status(gated: Lab) -> None:
    pod = gated.pods("gated-")[0]
    shown = json.loads(gated.invoke("get", f"pod/{name_of(pod)}", "-o", "json").stdout)["status"]
    assert shown["podlab"]["probes"] == {"web": "Readiness probe failed: HTTP probe failed with statuscode: 404"}
    ready = next(each for each in shown["conditions"] if each["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ContainersNotReady")
    assert ready["message"] == "containers with unready status: [web]"


def test_a_container_that_fails_its_liveness_probe_is_started_again_where_it_is(gated: Lab) -> None:
    before = gated.pods("gated-")[0]
    gated.exec(name_of(before), "touch", "/www/sick")
    after = gated.until(
        uid_of(before),
        lambda pod: container_of(pod)["restartCount"] == 1 and "running" in container_of(pod)["state"],
        "it was not started again",
    )
    assert ip_of(after) == ip_of(before)
    assert after["status"]["podlab"]["pause"] == before["status"]["podlab"]["pause"]
    assert container_of(after)["lastState"]["terminated"]["reason"] == "Error"
    assert any(row[2].startswith("1") for row in column(gated))
