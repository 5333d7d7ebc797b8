"""`up`: what it makes, what it prints, and that a second one has nothing to do."""

from __future__ import annotations

import re

import pytest

from support.lab import Lab, name_of, node_of, running

pytestmark = pytest.mark.lab

# k8s.io/apimachinery/pkg/util/rand: no vowels, nothing that looks like something else.
LETTERS = "bcdfghjklmnpqrstvwxz2456789"
NODES = ("control-plane", "worker", "worker2")


def section(text: str, title: str) -> list[list[str]]:
    """The rows of one of the tables that `up` ends with, header first, cells split at two blanks."""
    block = re.search(rf"^{title}\n(.*?)(?:\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
    assert block, f"no table {title} in:\n{text}"
    return [re.split(r" {2,}", line.strip()) for line in block[1].splitlines()]


def test_up_ends_with_the_tables_and_the_time(lab: Lab) -> None:
    assert lab.first_up is not None
    text = lab.first_up.stdout
    nodes = section(text, "NODES")
    assert nodes[0] == ["NAME", "STATUS", "ROLES", "AGE", "INTERNAL-IP", "POD-CIDR"]
    assert [row[:3] for row in nodes[1:]] == [
        [f"{lab.name}-control-plane", "Ready", "control-plane"],
        [f"{lab.name}-worker", "Ready", "<none>"],
        [f"{lab.name}-worker2", "Ready", "<none>"],
    ]
    assert [row[5] for row in nodes[1:]] == ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"]
    pods = section(text, "PODS")
    assert pods[0] == ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]
    assert [row[0] for row in pods[1:]] == ["default"] * 6 + ["kube-system"]
    patterns = ["core-k8s", "practice-S", "two-containers-pod-S", *["web-H-S"] * 3, "kube-dns-H-S"]
    for row, pattern in zip(pods[1:], patterns):
        # The hash of the template, and the suffix, in the letters that Kubernetes uses.
        assert re.fullmatch(pattern.replace("H", "[0-9a-f]{8,10}").replace("S", f"[{LETTERS}]{{5}}"), row[1])
    assert [row[2] for row in pods[1:]] == ["1/1", "2/2", "2/2", "1/1", "1/1", "1/1", "1/1"]
    assert {row[3] for row in pods[1:]} == {"Running"}
    services = section(text, "SERVICES")
    assert services[0] == ["NAMESPACE", "NAME", "TYPE", "CLUSTER-IP", "PORT(S)", "AGE"]
    assert sorted(row[1:3] + row[4:5] for row in services[1:]) == [
        ["kube-dns", "ClusterIP", "53/UDP,53/TCP"],
        ["web", "ClusterIP", "80/TCP"],
    ]
    assert re.search(rf"^lab {lab.name} is up in \d+\.\d s$", text.splitlines()[-1])


def test_pods_run_where_they_may(lab: Lab) -> None:
    """No pod of the user's is on the tainted control plane; the workers share them."""
    pods = lab.pods()
    assert all(running(pod) for pod in pods)
    workers = [node_of(pod) for pod in pods]
    assert set(workers) == {f"{lab.name}-worker", f"{lab.name}-worker2"}
    assert {node_of(pod) for pod in lab.pods("web")} == set(workers)


def test_every_node_answers_ansible_with_its_own_name(lab: Lab) -> None:
    text = lab.run("ansible", "nodes", "-m", "command", "-a", "hostname", ANSIBLE_NOCOLOR="1").stdout
    names = [f"{lab.name}-{node}" for node in NODES]
    # The host as the inventory has it, then the answer from inside.
    assert sorted(re.findall(r"^(\S+) \| CHANGED \| rc=0 >>\n(\S+)$", text, re.MULTILINE)) == sorted(zip(names, names))


def test_status_says_the_same_as_up(lab: Lab) -> None:
    text = lab.invoke("status").stdout
    assert [row[0] for row in section(text, "NODES")[1:]] == [f"{lab.name}-{node}" for node in NODES]
    assert {name_of(pod) for pod in lab.get_json("pods", "-A")} == {row[1] for row in section(text, "PODS")[1:]}
