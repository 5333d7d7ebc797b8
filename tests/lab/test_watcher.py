"""The watcher: Services follow pods while no command runs, flushed rules come back, it goes with the lab."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from podlab.linux import inotify
from podlab.runtime import paths, watcher
from podlab.runtime.lab import find
from support import waiting
from support.lab import Lab, container_pid, ip_of, made, pause_of, running, uid_of

pytestmark = pytest.mark.lab

# What the project promises from a pod's end to the last rule that leads there.
PROMISED_SECONDS = 2.0
# Far longer than a sync takes: only a hang reaches it.
HANG_SECONDS = 60.0
SYNC_PERIOD = 1


@pytest.fixture(scope="module")
def own() -> Iterator[Lab]:
    """A lab of these tests' own: they flush and kill. Until `often`, only an event can wake its watcher in time."""
    with made(f"watch{os.getpid()}") as lab:
        yield lab
    assert find(lab.name).names() == []


@pytest.fixture(scope="module")
def often(own: Lab) -> Lab:
    """The lab with a watcher that looks at the rules themselves every second."""
    own.playbook(service_sync_period=SYNC_PERIOD)
    return own


def endpoints(lab: Lab, service: str = "web") -> set[str]:
    """The addresses that every node's rules have for the Service; nodes that differ fail the test's wait."""
    found = []
    for node in lab.node_names():
        text = lab.in_node(node, "iptables-save", "-t", "nat").stdout
        found.append(frozenset(re.findall(rf'-A KUBE-SVC-\S+ .*"default/{service}(?::\S+)? -> ([0-9.]+):\d+"', text)))
    return set(found[0]) if len(set(found)) == 1 else {"nodes differ"}


def until(lab: Lab, condition: Callable[[], bool], otherwise: str) -> float:
    """Wait until the condition holds, asked again whenever the lab's state is written; return the seconds it took.

    They are the test's own: what is promised is measured by the files that are written.
    """
    began = time.monotonic()
    with inotify.Inotify() as events:
        events.add(paths.cluster_dir(lab.name), inotify.MOVED_TO)
        while not condition():
            assert time.monotonic() - began < HANG_SECONDS, otherwise
            # Rules change before services.json says so, and a flush is repaired without a word.
            events.wait(0.05)
    return time.monotonic() - began


def programmed(lab: Lab, service: str = "web") -> set[str]:
    """The addresses that are noted as endpoints of the Service; noted after the rules have them."""
    return {
        address
        for item in stored(lab)
        if item["metadata"]["labels"]["kubernetes.io/service-name"] == service
        for endpoint in item["endpoints"]
        if endpoint["conditions"]["ready"]
        for address in endpoint["addresses"]
    }


def stored(lab: Lab) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(pathlib.Path(paths.services_file(lab.name)).read_text())["endpointslices"]
    return found


def ready_addresses(lab: Lab) -> set[str]:
    return {ip_of(pod) for pod in lab.pods("web-") if running(pod)}


def test_every_endpoint_is_in_the_rules_of_every_node(own: Lab) -> None:
    assert len(ready_addresses(own)) == 3
    until(own, lambda: endpoints(own) == ready_addresses(own), "the rules are not the pods'")


def test_a_pod_that_dies_leaves_the_rules_within_two_seconds(own: Lab) -> None:
    """Its supervisor is killed, and with it pause and the containers: nobody writes a status any more."""
    victim = own.pods("web-")[0]
    others = ready_addresses(own) - {ip_of(victim)}
    killed = time.time()
    os.kill(victim["supervisor"]["pid"], signal.SIGKILL)
    until(own, lambda: endpoints(own) == programmed(own) == others, "the dead pod is still an endpoint")
    assert own.services_written() - killed < PROMISED_SECONDS
    own.playbook()
    until(own, lambda: len(endpoints(own)) == 3, "the pod is not back")


def test_pause_killed_brings_the_new_address_into_the_rules(own: Lab) -> None:
    before = own.pods("web-")[1]
    os.kill(pause_of(before), signal.SIGKILL)
    after = own.until(uid_of(before), lambda pod: running(pod) and ip_of(pod) != ip_of(before), "the pod is not back")
    until(own, lambda: endpoints(own) == programmed(own) == ready_addresses(own), "the rules have not followed")
    assert ip_of(after) in endpoints(own)
    assert own.services_written() - own.status_written(after) < PROMISED_SECONDS


def test_a_pod_on_its_way_out_is_terminating_and_then_gone(own: Lab, tmp_path: pathlib.Path) -> None:
    """It has a grace period of 30 s and a first process without a handler for TERM: it is seen terminating."""
    manifest = tmp_path / "slow.yaml"
    manifest.write_text(SLOW)
    own.playbook(podlab_apply_files=[str(manifest)])
    pod = own.until(uid_of(own.pod("slow")), lambda one: running(one), "the pod does not run")
    until(own, lambda: conditions(own, "slow") == [(True, True, False)], "no endpoint")
    manifest.write_text(SLOW.split("---")[0])
    own.playbook(podlab_delete_files=[str(manifest)], podlab_wait=False)
    until(own, lambda: conditions(own, "slow") == [(False, True, True)], "the endpoint is not terminating")
    assert endpoints(own, "slow") == {ip_of(pod)}, "a terminating endpoint serves while there is no other"
    killed = time.time()
    os.kill(container_pid(pod, "slow"), signal.SIGKILL)
    until(own, lambda: conditions(own, "slow") == [] and endpoints(own, "slow") == set(), "it is still there")
    assert own.services_written() - killed < PROMISED_SECONDS


SLOW = """
apiVersion: v1
kind: Pod
metadata:
  name: slow
  labels: {app: slow}
spec:
  containers:
    - {name: slow, image: busybox, command: [sleep, "3600"]}
---
apiVersion: v1
kind: Service
metadata:
  name: slow
spec:
  selector: {app: slow}
  ports: [{port: 80}]
"""


def conditions(lab: Lab, service: str) -> list[tuple[bool, bool, bool]]:
    """ready, serving, terminating of the Service's endpoints."""
    return [
        tuple(endpoint["conditions"][name] for name in ("ready", "serving", "terminating"))
        for item in stored(lab)
        if item["metadata"]["labels"]["kubernetes.io/service-name"] == service
        for endpoint in item["endpoints"]
    ]


PROBED = """
apiVersion: v1
kind: Pod
metadata:
  name: probed
  labels: {app: probed}
spec:
  containers:
    - name: probed
      image: busybox
      command: [sh, -c, "touch /tmp/ready; exec sleep 3600"]
      readinessProbe: {exec: {command: [cat, /tmp/ready]}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 1}
---
apiVersion: v1
kind: Service
metadata:
  name: probed
spec:
  clusterIP: None
  selector: {app: probed}
  ports: [{name: http, port: 80}]
---
apiVersion: v1
kind: Service
metadata:
  name: rules
spec:
  selector: {app: probed}
  ports: [{port: 80}]
"""


def test_readiness_gone_takes_rules_and_record_along(own: Lab, tmp_path: pathlib.Path) -> None:
    """Two seconds from the probe's verdict, which is in the pod's status, to the last rule and the record."""
    manifest = tmp_path / "probed.yaml"
    manifest.write_text(PROBED)
    own.playbook(podlab_apply_files=[str(manifest)])
    pod = own.until(uid_of(own.pod("probed")), is_ready, "the pod is not ready")
    client = own.pods("web-")[0]

    def record() -> list[str]:
        words = ("+short", "+tries=1", "@10.96.0.10", "probed.default.svc.cluster.local", "A")
        return own.in_pod_network(client, "dig", *words).stdout.split()

    def leads(addresses: set[str]) -> bool:
        return set(record()) == endpoints(own, "rules") == programmed(own, "rules") == addresses

    until(own, lambda: leads({ip_of(pod)}), "there is no record, or no rule")
    own.exec("probed", "rm", "/tmp/ready")
    own.until(uid_of(pod), lambda one: not is_ready(one), "the pod is still ready")
    until(own, lambda: leads(set()), "the record or the rule is still there")
    assert own.services_written() - own.status_written(pod) < PROMISED_SECONDS
    own.exec("probed", "touch", "/tmp/ready")
    own.until(uid_of(pod), is_ready, "the pod is not ready again")
    until(own, lambda: leads({ip_of(pod)}), "the record or the rule is not back")
    assert own.services_written() - own.status_written(pod) < PROMISED_SECONDS


def is_ready(pod: Mapping[str, Any]) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))


@pytest.mark.parametrize("table", ["nat", "filter"])
def test_flushed_rules_come_back_within_the_period(often: Lab, table: str) -> None:
    """On every node at once."""
    nodes = often.node_names()

    def saved(node: str) -> list[str]:
        text = often.in_node(node, "iptables-save", "-t", table).stdout
        return [line for line in text.splitlines() if not line.startswith("#")]

    def plain() -> list[str]:
        return [re.sub(r"\[\d+:\d+\]", "", line) for node in nodes for line in saved(node)]

    def canaries() -> int:
        return sum(line.startswith(":KUBE-PROXY-CANARY") for line in plain())

    until(often, lambda: canaries() == len(nodes) == 3, "there is no canary")
    before = plain()
    # Everything at once, or the watcher comes in between; the chain tells that it has happened.
    flush = f"printf '*{table}\\n:FLUSHED - [0:0]\\nCOMMIT\\n' | iptables-restore"
    for node in nodes:
        often.in_node(node, "sh", "-c", flush)
    took = until(often, lambda: [line for line in plain() if line != ":FLUSHED - "] == before, "the rules are not back")
    # A period and the time of a sync: far from the half minute that it is by default.
    assert took < 10 * SYNC_PERIOD
    for node in nodes:
        often.in_node(node, "iptables", "-t", table, "-X", "FLUSHED")
    assert plain() == before, "they were never flushed"


def test_killed_watcher_shows_in_status_and_up_brings_it_back(own: Lab) -> None:
    record = watcher.read(own.name)
    assert record["alive"] and "watcher is not running" not in own.invoke("status", "--name", own.name).stdout
    os.kill(record["pid"], signal.SIGKILL)
    waiting.until(lambda: not watcher.read(own.name)["alive"], "the watcher does not end")
    said = own.invoke("status", "--name", own.name).stdout
    assert "The watcher is not running: Services, DNS and Jobs do not follow pods. Start it: ./lab up" in said
    planned = own.playbook("--check", service_sync_period=SYNC_PERIOD)
    assert re.search(r"changed=1\b", planned.stdout)
    own.playbook(service_sync_period=SYNC_PERIOD)
    again = watcher.read(own.name)
    assert again["alive"] and again["pid"] != record["pid"]
    assert "watcher" not in own.invoke("status", "--name", own.name).stdout


def test_it_is_idle_when_nothing_happens(often: Lab) -> None:
    """No polling: it wakes once a period, and what it does then takes little of it."""
    until(often, lambda: watcher.read(often.name)["alive"], "no watcher")
    pid = watcher.read(often.name)["pid"]

    def ticks() -> tuple[int, int]:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        switches = re.search(
            r"^voluntary_ctxt_switches:\s*(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M
        )
        assert switches
        return int(fields[11]) + int(fields[12]), int(switches[1])

    before = ticks()
    with inotify.Inotify() as events:
        events.add(paths.cluster_dir(often.name), inotify.MOVED_TO)
        assert not events.wait(3 * SYNC_PERIOD), "it writes though nothing changed"
    used, woken = (new - old for new, old in zip(ticks(), before))
    assert used < 100 and woken < 500, (used, woken)


def test_a_sync_that_fails_is_told_and_tried_again(own: Lab) -> None:
    """A foreign rule into a stale chain: the restore cannot remove it, as with kube-proxy."""
    victim = own.pods("web-")[0]
    node = own.node_names()[2]
    save = own.in_node(node, "iptables-save", "-t", "nat").stdout
    match = re.search(rf"-A (KUBE-SEP-\S+) .*--to-destination {re.escape(ip_of(victim))}:", save)
    assert match
    rule = ("OUTPUT", "-d", "192.0.2.99", "-j", match[1])
    own.in_node(node, "iptables", "-t", "nat", "-A", *rule)
    try:
        os.kill(pause_of(victim), signal.SIGKILL)
        until(own, lambda: "other rules jump to them" in watcher.read(own.name).get("error", ""), "no error is noted")
        assert "The watcher could not sync: " in own.invoke("status", "--name", own.name).stdout
    finally:
        own.in_node(node, "iptables", "-t", "nat", "-D", *rule)
    until(own, lambda: not watcher.read(own.name)["error"], "it was not tried again")
    until(own, lambda: endpoints(own) == ready_addresses(own), "the rules have not followed")


def test_the_watcher_is_in_the_labs_cgroup_and_leaves_no_descriptors(own: Lab) -> None:
    record: dict[str, Any] = watcher.read(own.name)
    assert paths.watcher_cgroup(own.name) in pathlib.Path(f"/proc/{record['pid']}/cgroup").read_text()
    # Standard ones, inotify, the signals' pipe, a pidfd per pod; others only for as long as a sync lasts.
    most = 3 + 1 + 2 + len(own.every_pod())
    waiting.until(lambda: len(os.listdir(f"/proc/{record['pid']}/fd")) <= most, "it keeps descriptors")
