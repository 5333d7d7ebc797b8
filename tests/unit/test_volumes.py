"""Volumes: Kubernetes' rules, and the files that they are filled with."""

from __future__ import annotations

import base64

import pytest

from podlab.errors import PodlabError
from podlab.kube import payload, supported, volume_checks, volumespec
from podlab.kube.envspec import Capacity
from podlab.kube.yamltree import load_documents


def item(path="p", **more):
    return {"key": "k", "path": path, **more}


def projected(*sources):
    return {"projected": {"sources": list(sources)}}


# pkg/apis/core/v1/validation: TestValidateVolumes
RULES = [
    ({"configMap": {"name": "a", "items": [item("a/b", mode=0o400)], "defaultMode": 0o777}}, []),
    ({"configMap": {}}, ["name: is required and missing"]),
    ({"configMap": {"name": "a", "defaultMode": 0o1000}}, ["defaultMode: must be between 0 and 0777 (octal), not 512"]),
    ({"configMap": {"name": "a", "items": [item("/a")]}}, ["path: must be a relative path, not '/a'"]),
    ({"configMap": {"name": "a", "items": [item("a/../b")]}}, ["path: must not contain '..'"]),
    ({"configMap": {"name": "a", "items": [item("..data")]}}, ["path: must not begin with '..'"]),
    ({"configMap": {"name": "a", "items": [item("")]}}, ["path: must not be empty"]),
    ({"configMap": {"name": "a", "items": [item(mode=-1)]}}, ["mode: must be between 0 and 0777"]),
    ({"configMap": {"name": "a", "items": [{"key": "a b", "path": "p"}]}}, ["key: must be letters"]),
    ({"secret": {"secretName": "A"}}, ["secretName: must be lower case"]),
    ({"secret": {}}, ["secretName: is required and missing"]),
    ({"configMap": {"name": "a"}, "emptyDir": {}}, ["(): must be of one type"]),
    ({"emptyDir": {"medium": "HugePages-2Mi"}}, ["medium: podlab does not support HugePages-2Mi"]),
    ({"emptyDir": {"medium": "Disk"}}, ["medium: must be one of "]),
    ({"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}, []),
    ({"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels['a']"}}]}}, []),
    (
        {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "status.podIP"}}]}},
        ["fieldPath: must be one"],
    ),
    ({"downwardAPI": {"items": [{"path": "l"}]}}, ["0: must have one of fieldRef, resourceFieldRef"]),
    (
        {"downwardAPI": {"items": [{"path": "l", "resourceFieldRef": {"resource": "limits.cpu"}}]}},
        ["containerName: is required in a volume"],
    ),
    (projected({"configMap": {"name": "a"}}, {"secret": {"name": "a"}}), []),
    (projected({"configMap": {"name": "a"}, "secret": {"name": "a"}}), ["0: must be of one type"]),
    (
        projected({"configMap": {"name": "a", "items": [item()]}}, {"secret": {"name": "b", "items": [item()]}}),
        ["path: conflicting duplicate paths: 'p'"],
    ),
]


@pytest.mark.parametrize(("volume", "wanted"), RULES, ids=str)
def test_rules(volume, wanted):
    found = [
        f"{finding.path[-1] if finding.path else ()}: {finding.message}"
        for finding in volume_checks.volume({"name": "v", **volume}, ())
    ]
    assert len(found) == len(wanted)
    for line, beginning in zip(found, wanted):
        assert line.startswith(beginning)


MOUNTS = [
    ({"subPath": "a/b"}, []),
    ({"subPath": "/a"}, ["subPath: must be a relative path, not '/a'"]),
    ({"subPath": "a/.."}, ["subPath: must not contain '..'"]),
    ({"subPathExpr": "$(A)/.."}, ["subPathExpr: must not contain '..'"]),
    ({"subPath": "a", "subPathExpr": "b"}, ["subPathExpr: subPathExpr and subPath are mutually exclusive"]),
    ({"recursiveReadOnly": "Enabled", "readOnly": True}, []),
    ({"recursiveReadOnly": "Enabled"}, ["recursiveReadOnly: may only be specified when readOnly is true"]),
    (
        {"recursiveReadOnly": "IfPossible", "readOnly": True, "mountPropagation": "HostToContainer"},
        ["recursiveReadOnly: may only be specified when mountPropagation is None or not specified"],
    ),
    ({"recursiveReadOnly": "Disabled"}, []),
    ({"recursiveReadOnly": "Yes"}, ["recursiveReadOnly: must be one of Disabled, IfPossible, Enabled"]),
    ({"mountPath": "/a:b"}, ["mountPath: must not contain ':'"]),
]


@pytest.mark.parametrize(("mount", "wanted"), MOUNTS, ids=str)
def test_rules_of_mounts(mount, wanted):
    container = {"volumeMounts": [{"name": "v", "mountPath": "/v", **mount}]}
    found = [f"{each.path[-1]}: {each.message}" for each in volume_checks.mounts(container, ["v"], ())]
    assert len(found) == len(wanted)
    for line, beginning in zip(found, wanted):
        assert line.startswith(beginning)


def test_modes_are_octal_as_yaml_1_1_has_them():
    (document,) = load_documents("{a: 0644, b: 420, c: 0o600}", "x.yaml")
    assert document.data == {"a": 0o644, "b": 0o644, "c": 0o600}


@pytest.mark.parametrize("name", ["serviceAccountToken", "clusterTrustBundle", "podCertificate"])
def test_what_needs_an_api_server_is_refused_with_the_reason(name):
    pod = {"kind": "Pod", "spec": {"volumes": [{"name": "v", "projected": {"sources": [{name: {"path": "t"}}]}}]}}
    (finding,) = supported.unsupported(pod)
    assert finding.path[-1] == name and "there is no API server" in finding.message


def made(volume, limit=None):
    around = volumespec.Around(
        {"spec": {"containers": [{"name": "c"}], "securityContext": {}}}, limit, Capacity(1, 100)
    )
    return volumespec.volume({"name": "v", **volume}, around)


def test_what_may_be_secret_is_in_memory():
    volumes = [{"configMap": {"name": "a"}}, {"secret": {"secretName": "a"}}, {"downwardAPI": {}}, projected()]
    assert [made(volume)["memory"] for volume in volumes] == [False, True, True, True]
    assert [made(volume, 50)["size"] for volume in volumes] == [None, 50, 50, 50]


SOURCES = {
    "ConfigMap/a": {"data": {"k": "text", "x": "1"}, "binaryData": {"b": base64.b64encode(b"\0").decode()}},
    "Secret/s": {"data": {"k": base64.b64encode(b"\xff").decode()}},
    "metadata": {"name": "p", "labels": {"b": "2", "a": "1"}},
}
FILES = [
    ({"configMap": {"name": "a"}}, {"k": (b"text", 0o644), "x": (b"1", 0o644), "b": (b"\0", 0o644)}),
    ({"configMap": {"name": "a", "items": [item("d/p", mode=1)], "defaultMode": 2}}, {"d/p": (b"text", 1)}),
    (
        {"configMap": {"name": "a", "items": [item("p"), {"key": "z", "path": "z"}], "optional": True}},
        {"p": (b"text", 420)},
    ),
    ({"configMap": {"name": "z", "optional": True}}, {}),
    ({"secret": {"secretName": "s", "defaultMode": 0o400}}, {"k": (b"\xff", 0o400)}),
    (projected({"configMap": {"name": "a"}}, {"secret": {"name": "s"}}), None),
    (
        {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"l": (b'a="1"\nb="2"', 420)},
    ),
    ({"downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "metadata.annotations"}}]}}, {"a": (b"", 420)}),
    ({"downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "metadata.labels['z']"}}]}}, {"a": (b"", 420)}),
]


@pytest.mark.parametrize(("volume", "files"), FILES, ids=str)
def test_files(volume, files):
    found = payload.files(made(volume), SOURCES)
    if files is None:
        assert found["k"].data == b"\xff", "what comes later takes the place of what came before"
    else:
        assert found == files


def test_every_fault_of_a_projected_volume_once():
    volume = made(projected({"secret": {"name": "z"}}, {"secret": {"name": "z"}}, {"configMap": {"name": "z"}}))
    with pytest.raises(PodlabError) as caught:
        payload.files(volume, SOURCES)
    assert caught.value.message == '[secret "z" not found, configmap "z" not found]'


# Go's strconv.Quote
@pytest.mark.parametrize(
    ("text", "quoted"),
    [("a", '"a"'), ('"\\', '"\\"\\\\"'), ("\n\t\x00\x7f", '"\\n\\t\\x00\\x7f"'), ("ä\u200b", '"ä\\u200b"')],
)
def test_quoted(text, quoted):
    assert payload.quoted(text) == quoted
