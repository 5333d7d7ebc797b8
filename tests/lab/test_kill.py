"""kill -9, at every level of a pod: what comes back, by whom, and with what."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from support import waiting
from support.lab import (
    Lab,
    container_of,
    container_pid,
    ip_of,
    name_of,
    node_of,
    pause_of,
    pids_in,
    running,
    uid_of,
)

pytestmark = pytest.mark.lab


def restarted(pod: dict[str, Any], name: str, count: int) -> bool:
    """The container runs again, for the count-th time."""
    container = container_of(pod, name)
    return container["restartCount"] == count and "running" in container["state"]


@pytest.mark.parametrize(
    ("prefix", "container"), [("two-containers-pod", "hello"), ("web-", "web"), ("practice", "hello2")]
)
def test_killed_container_is_restarted_in_its_pod(lab: Lab, prefix: str, container: str) -> None:
    """OnFailure and Always alike: one restart, address, sandbox and the other containers untouched."""
    before = lab.pods(prefix)[-1]
    count = container_of(before, container)["restartCount"]
    others = {entry["name"]: entry for entry in before["status"]["containerStatuses"] if entry["name"] != container}
    os.kill(container_pid(before, container), signal.SIGKILL)
    after = lab.until(uid_of(before), lambda pod: restarted(pod, container, count + 1), f"{container} is not back")
    ended = container_of(after, container)["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "Error")
    assert ended["containerID"] == container_of(before, container)["containerID"]
    assert container_of(after, container)["containerID"] != ended["containerID"]
    assert ip_of(after) == ip_of(before)
    assert after["status"]["podlab"]["sandbox"] == before["status"]["podlab"]["sandbox"]
    assert after["supervisor"] == before["supervisor"]
    assert {
        entry["name"]: entry for entry in after["status"]["containerStatuses"] if entry["name"] != container
    } == others
    assert lab.exec(name_of(after), "hostname", container=container).strip() == name_of(after)


def test_restart_shows_in_the_table(lab: Lab) -> None:
    restarts = {
        name_of(pod): sum(entry["restartCount"] for entry in pod["status"]["containerStatuses"]) for pod in lab.pods()
    }
    lines = lab.invoke("get", "pods").stdout.splitlines()
    assert lines[0].split()[:4] == ["NAME", "READY", "STATUS", "RESTARTS"]
    assert {line.split()[0]: int(line.split()[3]) for line in lines[1:]} == restarts


@pytest.fixture(scope="module")
def pause_killed(lab: Lab) -> tuple[dict[str, Any], dict[str, Any]]:
    """A pod of the Deployment before its pause was killed and after it has come back."""
    before = lab.pods("web-")[0]
    os.kill(pause_of(before), signal.SIGKILL)
    after = lab.until(
        uid_of(before),
        lambda pod: pod["status"]["podlab"]["attempt"] == before["status"]["podlab"]["attempt"] + 1 and running(pod),
        "the pod is not back",
    )
    return before, after


def test_killed_pause_brings_the_pod_back_whole(lab: Lab, pause_killed: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """PodSandboxChanged: another sandbox with another address; every container was killed and runs again."""
    before, after = pause_killed
    assert ip_of(after) != ip_of(before)
    assert after["status"]["podlab"]["sandbox"] != before["status"]["podlab"]["sandbox"]
    assert (name_of(after), uid_of(after), after["supervisor"]) == (
        name_of(before),
        uid_of(before),
        before["supervisor"],
    )
    assert container_of(after)["restartCount"] == container_of(before)["restartCount"] + 1
    assert container_of(after)["lastState"]["terminated"]["exitCode"] == 137
    hosts = lab.exec(name_of(after), "cat", "/etc/hosts")
    assert hosts.endswith(f"{ip_of(after)}\t{name_of(after)}\n")
    shown = lab.exec(name_of(after), "ip", "-o", "-4", "address", "show", "eth0")
    assert f" {ip_of(after)}/24 " in shown


def test_old_sandbox_leaves_nothing_on_the_node(lab: Lab, pause_killed: tuple[dict[str, Any], dict[str, Any]]) -> None:
    before, after = pause_killed
    node = before["spec"]["nodeName"]
    routes = lab.in_node(node, "ip", "-o", "route").stdout.splitlines()
    assert ip_of(before) not in {route.split()[0] for route in routes}
    # No other pod is on its way: what there is now is there for long.
    there = [pod for pod in lab.every_pod() if node_of(pod) == node and pod["status"]["podlab"]["pause"]]
    links = json.loads(lab.in_node(node, "ip", "-j", "link", "show", "type", "veth").stdout)
    assert sum(link["ifname"].startswith("veth") for link in links) == len(there)


def test_killed_pause_with_shared_processes(lab: Lab) -> None:
    """Every process of the pod's PID namespace dies with its first: the same end, the same way back."""
    before = lab.pod("practice")
    os.kill(pause_of(before), signal.SIGKILL)
    after = lab.until(
        uid_of(before),
        lambda pod: pod["status"]["podlab"]["attempt"] == before["status"]["podlab"]["attempt"] + 1 and running(pod),
        "the pod is not back",
    )
    assert [row.split()[1] for row in lab.exec(name_of(after), "ps", "-o", "pid,args").splitlines()][1] == "/pause"


@pytest.fixture(scope="module")
def supervisor_killed(lab: Lab) -> dict[str, Any]:
    """core-k8s as it was before its supervisor was killed."""
    before = lab.pod("core-k8s")
    os.kill(before["supervisor"]["pid"], signal.SIGKILL)
    return before


def test_killed_supervisor_takes_the_pod_along(lab: Lab, supervisor_killed: dict[str, Any]) -> None:
    """No process of a pod is left without one who looks after it, and nobody says that the pod is ready."""
    waiting.until(lambda: not pids_in(supervisor_killed), "processes of the pod live on")
    (shown,) = lab.get_json("pods", "core-k8s")
    assert (shown["status"]["phase"], shown["status"]["reason"]) == ("Unknown", "NodeLost")
    assert not running(shown)
    assert container_of(shown)["ready"] is False
    done = lab.try_exec("core-k8s", "true")
    assert done.returncode != 0
    assert "core-k8s" in done.stderr


@pytest.fixture(scope="module")
def repaired(lab: Lab, pause_killed: tuple[dict[str, Any], dict[str, Any]], supervisor_killed: dict[str, Any]) -> str:
    """What `up` says after all of it, when Services have followed by themselves what came back by itself."""
    waiting.until(lambda: ip_of(pause_killed[1]) in lab.endpoints(), "the watcher has not followed")
    return lab.invoke("up", "--name", lab.name).stdout


def test_up_brings_the_lost_pod_back(lab: Lab, supervisor_killed: dict[str, Any], repaired: str) -> None:
    pod = lab.pod("core-k8s")
    assert running(pod)
    assert pod["supervisor"] != supervisor_killed["supervisor"]
    assert lab.exec("core-k8s", "echo", "here") == "here\n"
    assert f"lab {lab.name} is up in" in repaired


def test_up_lets_services_follow_the_new_addresses(
    lab: Lab, pause_killed: tuple[dict[str, Any], dict[str, Any]], repaired: str
) -> None:
    before, after = pause_killed
    web = lab.pods("web-")
    (endpoints,) = lab.get_json("endpoints", "web")
    assert {entry["ip"] for entry in endpoints["subsets"][0]["addresses"]} == {ip_of(pod) for pod in web}
    for node in lab.node_names():
        rules = lab.in_node(node, "iptables-save", "-t", "nat").stdout.split()
        assert f"{ip_of(after)}:80" in rules
        assert f"{ip_of(before)}:80" not in rules


def test_up_touches_only_what_was_broken(lab: Lab, repaired: str) -> None:
    """The pods that came back by themselves are left as they are, and Services have followed them already."""
    changed = [line for line in repaired.splitlines() if "changed:" in line]
    assert [line.split("  ")[1] for line in changed] == ["Start and delete pods"]
    assert "1 changed: pod default/core-k8s" in changed[0]
