"""Volumes as containers see them: what the kubelet fills, how it changes, sub-paths, groups, propagation."""

from __future__ import annotations

import base64
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from podlab.linux.mountinfo import MountInfo, mounts
from podlab.runtime import pods
from support import runtime
from support.waiting import until

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]
SLEEP = {"command": ["sleep", "1000"]}
GROUP = 2345
MAP = {"data": {"a": "one\n", "b": "two\n"}, "binaryData": {"raw": base64.b64encode(b"\x00\xff").decode()}}
METADATA = {
    "name": "p",
    "namespace": "default",
    "uid": "u",
    "labels": {"b": 'x"y', "a": "1"},
    "annotations": {"n": "l\n"},
}
SOURCES = {
    "ConfigMap/web": MAP,
    "Secret/key": {"data": {"pin": base64.b64encode(b"1234").decode()}},
    "metadata": METADATA,
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.one_node(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory of the machine for hostPath volumes."""
    return tmp_path_factory.mktemp("shared")


def mounted(**paths: str) -> list[dict[str, Any]]:
    """Each volume of that name at its path."""
    return [{"name": name, "mountPath": path} for name, path in paths.items()]


def table(pod: runtime.Pod, name: str = "c0") -> dict[str, MountInfo]:
    return {each.mount_point: each for each in mounts(pod.pid(name))}


ITEMS = [{"key": "a", "path": "deep/er/a", "mode": 0o400}, {"key": "b", "path": "b"}]
FIELDS = [
    {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
    {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
    {"path": "one", "fieldRef": {"fieldPath": "metadata.labels['b']"}},
    {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}, "mode": 0o600},
    {"path": "cpu", "resourceFieldRef": {"containerName": "c0", "resource": "limits.cpu", "divisor": "1m"}},
]
VOLUMES = [
    {"name": "map", "configMap": {"name": "web"}},
    {"name": "items", "configMap": {"name": "web", "items": ITEMS, "defaultMode": 0o444}},
    {"name": "secret", "secret": {"secretName": "key", "defaultMode": 0o400}},
    {"name": "fields", "downwardAPI": {"items": FIELDS}},
    {"name": "none", "configMap": {"name": "none", "optional": True}},
    {
        "name": "all",
        "projected": {
            "sources": [
                {"configMap": {"name": "web", "items": [{"key": "a", "path": "map/a"}]}},
                {"secret": {"name": "key"}},
                {"secret": {"name": "none", "optional": True}},
                {"downwardAPI": {"items": FIELDS[:1]}},
            ]
        },
    },
    {"name": "empty", "emptyDir": {}},
    {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "3Mi"}},
]
ALL = mounted(map="/map", items="/items", secret="/secret", fields="/fields", none="/none", all="/all")
ALL += mounted(empty="/empty", memory="/memory")


@pytest.fixture(scope="module")
def pod(lab: runtime.Lab) -> runtime.Pod:
    """A pod with a volume of every kind that the kubelet fills."""
    limits = {"resources": {"limits": {"cpu": "250m", "memory": "32Mi"}}}
    made = lab.start(lab.pod({**SLEEP, **limits, "volumeMounts": ALL}, volumes=VOLUMES), sources=SOURCES)[0]
    assert made.said == ""
    return made


class TestFilled:
    """configMap, secret, downwardAPI and projected."""

    CONTENT = {
        "cat /map/a /map/b": "one\ntwo\n",
        "od -An -tx1 /map/raw": " 00 ff\n",
        "ls /items": "b\ndeep\n",
        "cat /items/deep/er/a": "one\n",
        "cat /secret/pin": "1234",
        "cat /fields/name": "p",
        "cat /fields/labels": 'a="1"\nb="x\\"y"',
        "cat /fields/one": 'x"y',
        "cat /fields/annotations": 'n="l\\n"',
        "cat /fields/cpu": "250",
        "ls -A /none": "..data\n",
        "ls /all": "map\nname\npin\n",
        "cat /all/map/a /all/pin /all/name": "one\n1234p",
    }

    @pytest.mark.parametrize("command", CONTENT, ids=str)
    def test_content(self, pod: runtime.Pod, command: str) -> None:
        shown = pod.sh(command)
        if command.startswith("ls -A"):
            shown = "".join(line + "\n" for line in shown.split() if not re.fullmatch(r"\.\.2.*", line))
        assert shown == self.CONTENT[command]

    MODES = {
        "/map/a": "644",
        "/items/deep/er/a": "400",
        "/items/b": "444",
        "/secret/pin": "400",
        "/fields/name": "644",
        "/fields/annotations": "600",
        "/all/pin": "644",
        "/map": "777",
        "/items/deep": "755",
        "/empty": "777",
        "/memory": "1777",
    }

    def test_modes(self, pod: runtime.Pod) -> None:
        shown = pod.sh(f"stat -L -c '%n %a %u:%g' {' '.join(self.MODES)}").splitlines()
        assert shown == [f"{path} {mode} 0:0" for path, mode in self.MODES.items()]

    def test_the_layout_is_the_kubelets(self, pod: runtime.Pod) -> None:
        assert pod.sh("readlink /map/a") == "..data/a\n"
        assert re.fullmatch(r"\.\.\d{4}(_\d\d){5}\.\d*[0-9a-f]+\n", pod.sh("readlink /map/..data"))
        assert pod.sh("readlink /items/deep") == "..data/deep\n"

    def test_what_may_be_secret_is_in_memory_and_none_may_be_written(self, pod: runtime.Pod) -> None:
        found = table(pod)
        kinds = {path: found[path].fstype for path in ("/secret", "/fields", "/all", "/memory")}
        assert set(kinds.values()) == {"tmpfs"} and found["/map"].fstype == found["/empty"].fstype
        for path in ("/map", "/items", "/secret", "/fields", "/none", "/all"):
            assert "ro" in found[path].options, path
            assert "Read-only file system" in pod.exec("touch", f"{path}/x").err
        assert "rw" in found["/empty"].options and "rw" in found["/memory"].options

    def test_sizes_in_memory(self, pod: runtime.Pod) -> None:
        """min(sizeLimit, the pod's memory limit, what the node has), never swapped out."""
        found = table(pod)
        assert "size=3072k" in found["/memory"].super_options
        assert "size=32768k" in found["/secret"].super_options
        if tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 4):
            assert {"noswap"} <= set(found["/memory"].super_options) & set(found["/secret"].super_options)

    def test_nothing_of_it_is_on_the_machine(self, pod: runtime.Pod) -> None:
        """A volume in memory is the supervisor's own mount."""
        places = [each.mount_point for each in mounts() if pod.uid in each.mount_point]
        assert not [place for place in places if "/volumes/" in place]
        root = f"{runtime.paths.pod_data_dir(pod.lab.name, pod.uid)}/volumes"
        assert os.listdir(f"{root}/secret") == []
        assert os.stat(runtime.paths.pod_data_dir(pod.lab.name, pod.uid)).st_mode & 0o77 == 0


MISSING = [
    ({"configMap": {"name": "late"}}, 'configmap "late" not found'),
    ({"secret": {"secretName": "late"}}, 'secret "late" not found'),
    (
        {"configMap": {"name": "web", "items": [{"key": "k", "path": "k"}]}},
        "configmap references non-existent config key: k",
    ),
    (
        {"secret": {"secretName": "key", "items": [{"key": "k", "path": "k"}]}},
        "references non-existent secret key: k",
    ),
    (
        {"projected": {"sources": [{"secret": {"name": "late"}}, {"configMap": {"name": "late"}}]}},
        '[secret "late" not found, configmap "late" not found]',
    ),
]


@pytest.mark.parametrize(("source", "message"), MISSING, ids=[row[1] for row in MISSING])
def test_a_pod_waits_for_what_its_volume_is_made_of(lab: runtime.Lab, source: dict[str, Any], message: str) -> None:
    volumes = [{"name": "x", **source}]
    planned = lab.pod({**SLEEP, "volumeMounts": mounted(x="/x")}, volumes=volumes)
    pod = lab.start(planned, sources=SOURCES)[0]
    state = {"reason": "ContainerCreating", "message": f'MountVolume.SetUp failed for volume "x" : {message}'}
    assert pod.container()["state"] == {"waiting": state}
    later = {"ConfigMap/late": MAP, "Secret/late": {"data": {"k": ""}}}
    more = {"ConfigMap/web": {"data": {"k": ""}}, "Secret/key": {"data": {"k": ""}}}
    pods.update(lab.name, pod.uid, {**later, **more})
    pod.until(lambda pod: "running" in pod.container()["state"])
    assert pod.container()["restartCount"] == 0
    pod.delete(0)


class Updated(NamedTuple):
    """A pod whose objects have changed, and where ..data of /fields and /secret led before."""

    pod: runtime.Pod
    links: list[str]


LINKS = "readlink /fields/..data; readlink /secret/..data"


@pytest.fixture(scope="module")
def updated(lab: runtime.Lab) -> Updated:
    watched = [
        *mounted(map="/map", secret="/secret", fields="/fields"),
        {"name": "map", "mountPath": "/single", "subPath": "a"},
    ]
    made = lab.start(lab.pod({**SLEEP, "volumeMounts": watched}, volumes=VOLUMES), sources=SOURCES)[0]
    assert made.said == ""
    links = made.sh(LINKS).split()
    new = {"data": {"a": "new\n", "c": "three\n"}}
    changed = {**METADATA, "labels": {"a": "2"}}
    pods.update(lab.name, made.uid, {**SOURCES, "ConfigMap/web": new, "metadata": changed})
    until(lambda: made.sh("cat /map/a /fields/labels") == 'new\na="2"', "the volumes do not follow", 60)
    return Updated(made, links)


class TestUpdates:
    """A changed object reaches directories all at once, and sub-paths never."""

    def test_files_come_change_and_go(self, updated: Updated) -> None:
        assert updated.pod.sh("ls /map; cat /map/c; ls -A /map | grep -c '^[.][.]2'") == "a\nc\nthree\n1\n"

    def test_a_sub_path_keeps_what_it_had(self, updated: Updated) -> None:
        assert updated.pod.sh("cat /single") == "one\n"

    def test_what_is_the_same_is_not_written_again(self, updated: Updated) -> None:
        fields, secret = updated.pod.sh(LINKS).split()
        assert secret == updated.links[1] and fields != updated.links[0]

    def test_what_disappears_stays_as_it_was(self, lab: runtime.Lab, updated: Updated) -> None:
        """As with the kubelet: a volume whose ConfigMap was deleted keeps its files."""
        pods.update(lab.name, updated.pod.uid, {"metadata": {**METADATA, "labels": {"a": "3"}}})
        until(lambda: updated.pod.sh("cat /fields/labels") == 'a="3"', "the labels do not follow", 60)
        assert updated.pod.sh("cat /map/a /secret/pin") == "new\n1234"


@pytest.fixture(scope="module")
def grouped(lab: runtime.Lab, shared: pathlib.Path) -> runtime.Pod:
    (shared / "kept").write_text("")
    volumes = [*VOLUMES, {"name": "host", "hostPath": {"path": str(shared)}}]
    user = {"runAsUser": 1000, "runAsGroup": 1000}
    own = {**SLEEP, "securityContext": user, "volumeMounts": [*ALL, *mounted(host="/host")]}
    planned = lab.pod(own, volumes=volumes, securityContext={"fsGroup": GROUP})
    made = lab.start(planned, sources=SOURCES)[0]
    assert made.said == ""
    return made


class TestGroup:
    """fsGroup: pods.md 1.10."""

    MODES = {
        "/empty": "2777",
        "/memory": "3777",
        "/map": "2777",
        "/map/a": "644",
        "/secret": "3777",
        "/secret/pin": "440",
        "/items/deep/er/a": "440",
        "/items/deep": "2755",
        "/fields/annotations": "640",
    }

    def test_modes(self, grouped: runtime.Pod) -> None:
        shown = grouped.sh(f"stat -L -c '%n %a %u:%g' {' '.join(self.MODES)}").splitlines()
        assert shown == [f"{path} {mode} 0:{GROUP}" for path, mode in self.MODES.items()]

    def test_links_are_given_and_not_followed(self, grouped: runtime.Pod) -> None:
        assert grouped.sh("stat -c '%g' /map/a /map/..data") == f"{GROUP}\n{GROUP}\n"

    def test_every_process_is_in_the_group_and_may_read_and_write(self, grouped: runtime.Pod) -> None:
        assert str(GROUP) in grouped.sh("id -G").split()
        assert grouped.sh("cat /secret/pin; touch /empty/new /memory/new; stat -c %g /empty/new") == f"1234{GROUP}\n"

    def test_a_host_path_is_left_alone(self, grouped: runtime.Pod, shared: pathlib.Path) -> None:
        assert {(shared / "kept").stat().st_gid, shared.stat().st_gid} == {0}


def test_in_a_user_namespace_the_files_are_of_the_pods_root(lab: runtime.Lab) -> None:
    """hostUsers: false: volumes of every kind are idmapped mounts, which fsGroup and modes go through."""
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 3):
        pytest.skip("this kernel has no idmapped tmpfs")
    box = {**SLEEP, "securityContext": {"runAsUser": 1000}, "volumeMounts": ALL}
    planned = lab.pod(box, volumes=VOLUMES, hostUsers=False, securityContext={"fsGroup": GROUP})
    pod = lab.start(planned, sources=SOURCES, id_base=131072)[0]
    assert pod.said == ""
    assert pod.sh("stat -L -c '%a %u:%g' /secret/pin /empty") == f"440 0:{GROUP}\n2777 0:{GROUP}\n"
    assert pod.sh("cat /secret/pin /map/a; touch /empty/x /memory/x; stat -c %u /empty/x") == "1234one\n1000\n"
    assert "Read-only file system" in pod.exec("touch", "/map/x").err
    pod.delete(0)
