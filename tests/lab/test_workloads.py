"""Kinds, places, volumes: what the extras asked for is what is there."""

from __future__ import annotations

import os
import pathlib

import pytest

from support.lab import Lab, name_of, node_of, running, uid_of

pytestmark = pytest.mark.lab


def on_nodes(lab: Lab, prefix: str) -> list[str]:
    """The nodes of the pods whose name begins so, in the order of the nodes."""
    return sorted((node_of(pod) for pod in lab.pods(prefix, "extras")), key=lab.node_names().index)


def test_daemonset_has_a_pod_on_every_worker(extras: Lab) -> None:
    assert on_nodes(extras, "agent-") == extras.node_names()[1:]


def test_replicaset_has_its_number_of_pods(extras: Lab) -> None:
    pods = extras.pods("copies-", "extras")
    assert len(pods) == 2
    assert all(running(pod) for pod in pods)
    (owner,) = pods[0]["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("ReplicaSet", "copies", True)


def test_deployments_pods_are_a_replicasets(extras: Lab) -> None:
    """web-<hash>-<suffix>: the hash is that of the template, as a label and in the ReplicaSet's name."""
    for pod in extras.pods("web-"):
        template_hash = pod["metadata"]["labels"]["pod-template-hash"]
        (owner,) = pod["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"]) == ("ReplicaSet", f"web-{template_hash}")
        assert name_of(pod).rpartition("-")[0] == owner["name"]


def test_statefulset_numbers_its_pods(extras: Lab) -> None:
    assert [name_of(pod) for pod in extras.pods("db-", "extras")] == ["db-0", "db-1"]
    assert extras.exec("db-1", "hostname", "-f", namespace="extras").strip() == "db-1.db.extras.svc.cluster.local"


def test_job_runs_all_its_completions(extras: Lab) -> None:
    pods = extras.pods("short-", "extras")
    assert len(pods) == 2
    for pod in pods:
        extras.until(uid_of(pod), lambda one: one["status"]["phase"] == "Succeeded", "it has not succeeded")


@pytest.mark.parametrize(("pod", "node"), [("pinned", 0), ("tolerant", 0), ("selecting", 2)])
def test_place_is_what_the_manifest_asks_for(extras: Lab, pod: str, node: int) -> None:
    """nodeName; a toleration with the control plane's label; nodeSelector by hostname."""
    assert node_of(extras.pod(pod, "extras")) == extras.node_names()[node]


def test_emptydir_is_shared_by_the_containers(extras: Lab) -> None:
    extras.exec("volumes", "sh", "-c", "echo here > /shared/file", container="writer", namespace="extras")
    assert extras.exec("volumes", "cat", "/data/shared/file", container="reader", namespace="extras") == "here\n"
    refused = extras.try_exec("volumes", "rm", "/data/shared/file", container="reader", namespace="extras")
    assert "Read-only file system" in refused.stderr
    # 0777, so that containers of different users share it.
    shown = extras.exec("volumes", "stat", "-c", "%a", "/shared", container="writer", namespace="extras")
    assert shown == "777\n"


def test_emptydir_in_memory_has_its_limit(extras: Lab) -> None:
    mounts = extras.exec("volumes", "cat", "/proc/mounts", container="writer", namespace="extras").splitlines()
    (memory,) = [line.split() for line in mounts if " /memory " in line]
    assert memory[2] == "tmpfs"
    assert "size=1024k" in memory[3].split(",")
    full = extras.try_exec(
        "volumes", "dd", "if=/dev/zero", "of=/memory/file", "bs=64k", "count=32", container="writer", namespace="extras"
    )
    assert "No space left on device" in full.stderr


def test_hostpath_goes_both_ways(extras: Lab, host_directory: pathlib.Path) -> None:
    (host_directory / "from-machine").write_text("machine", encoding="utf-8")
    assert extras.exec("volumes", "cat", "/host/from-machine", container="reader", namespace="extras") == "machine"
    extras.exec("volumes", "sh", "-c", "echo pod > /host/from-pod", container="writer", namespace="extras")
    assert (host_directory / "from-pod").read_text(encoding="utf-8") == "pod\n"
    refused = extras.try_exec("volumes", "touch", "/host/x", container="reader", namespace="extras")
    assert "Read-only file system" in refused.stderr
    assert sorted(os.listdir(host_directory)) == ["from-machine", "from-pod"]


def test_layers_of_a_container_are_its_own(extras: Lab) -> None:
    """What one container writes to its root is not in the other one's, though both have one image."""
    extras.exec("volumes", "touch", "/mine", container="writer", namespace="extras")
    assert extras.try_exec("volumes", "ls", "/mine", container="reader", namespace="extras").returncode == 1
