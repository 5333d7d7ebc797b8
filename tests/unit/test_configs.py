"""ConfigMaps and Secrets: rules, the form in which they are kept, and the data of Secrets kept apart."""

from __future__ import annotations

import base64
import json

import pytest

from podlab import cluster_plan, controller
from podlab.errors import PodlabError
from podlab.kube import configs, manifests, objects, sources
from podlab.kube.manifests import Source


def b64(text):
    return base64.b64encode(text.encode()).decode()


def thing(kind, name="x", **fields):
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **fields}


def read(*things):
    sources = [Source(f"{number}.yaml", json.dumps(each)) for number, each in enumerate(things)]
    return manifests.read(sources, controller.definitions())


# k8s pkg/apis/core/v1/validation: TestValidateConfigMap, TestValidateSecret
FAULTS = [
    (thing("ConfigMap", data={"a..b": "", ".x": "", "A-_.9": "v"}, binaryData={"y": b64("z")}), []),
    (thing("ConfigMap", data={"..a": ""}), ["data['..a']: the key must not be '.' nor begin with '..'; it is '..a'"]),
    (thing("ConfigMap", data={".": ""}), ["data['.']: the key must not be '.' nor begin with '..'; it is '.'"]),
    (
        thing("ConfigMap", data={"a b": ""}),
        ["data['a b']: the key must be letters, digits, '-', '_' and '.'; it is 'a b'"],
    ),
    (thing("ConfigMap", data={"a" * 254: ""}), ["must have at most 253 characters, not 254"]),
    (thing("ConfigMap", data={"a": ""}, binaryData={"a": ""}), ["binaryData.a: the key 'a' is in data, too"]),
    (thing("ConfigMap", binaryData={"a": "%"}), ["binaryData.a: must be base64. Write plain text in data"]),
    (thing("ConfigMap", data={"a": "x" * 1048577}), ["data: must have at most 1048576 bytes together, not 1048577"]),
    (thing("ConfigMap", data={"a": "x" * 1048576}), []),
    (thing("Secret", data={"a": b64("x" * 1048577)}), ["data: must have at most 1048576 bytes together, not 1048577"]),
    (thing("Secret", data={"a": "plain!"}), ["data.a: must be base64. Write plain text in stringData"]),
    (
        thing("Secret", type="kubernetes.io/tls", stringData={"tls.crt": ""}),
        ["data['tls.key']: is required in a Secret"],
    ),
    (thing("Secret", type="kubernetes.io/basic-auth"), ["data: must have username or password in a Secret of type"]),
    (thing("Secret", type="kubernetes.io/ssh-auth", data={}), ["data.ssh-privatekey: is required in a Secret"]),
    (
        thing("Secret", type="kubernetes.io/dockerconfigjson", stringData={".dockerconfigjson": "nope"}),
        ["data['.dockerconfigjson']: must be JSON in a Secret of type"],
    ),
    (thing("Secret", type="my/own", stringData={"a": "b"}), []),
    (thing("Secret", type="kubernetes.io/service-account-token"), ["is required in a Secret of type"]),
]


@pytest.mark.parametrize(("given", "said"), FAULTS, ids=str)
def test_rules(given, said):
    found = [str(problem) for problem in read(given).problems]
    assert len(found) == len(said)
    for line, wanted in zip(found, said):
        assert wanted in line


def test_a_fault_of_a_secret_does_not_tell_its_value():
    problems = read(thing("Secret", stringData={"pin": 12345}, data={"pin": ["67890"]})).problems
    assert len(problems) == 2
    assert not any("12345" in str(problem) or "67890" in str(problem) for problem in problems)


def test_a_secret_is_kept_as_the_api_server_keeps_it():
    made = read(thing("Secret", data={"a": "eA==\n", "b": b64("old")}, stringData={"b": "new", "c": "ä"})).manifests[0]
    assert made.object["data"] == {"a": "eA==", "b": b64("new"), "c": b64("ä")}
    assert (made.object["type"], "stringData" in made.object) == ("Opaque", False)


IMMUTABLE = [
    ({"data": {"a": "1"}}, {"data": {"a": "2"}}, []),
    ({"data": {"a": "1"}, "immutable": True}, {"data": {"a": "1"}, "immutable": True}, []),
    ({"data": {"a": "1"}, "immutable": True}, {"data": {"a": "2"}, "immutable": True}, ["data"]),
    ({"data": {"a": "1"}, "immutable": True}, {"data": {"a": "1"}}, ["immutable"]),
    ({"immutable": True}, {"binaryData": {"a": ""}, "immutable": False}, ["immutable", "binaryData"]),
]


@pytest.mark.parametrize(("old", "new", "paths"), IMMUTABLE, ids=str)
def test_what_is_immutable(old, new, paths):
    found = list(configs.changes(thing("ConfigMap", **old), thing("ConfigMap", **new)))
    assert [finding.path[0] for finding in found] == paths
    assert all(finding.message == "field is immutable when `immutable` is set" for finding in found)


def test_the_type_of_a_secret_is_immutable():
    found = list(configs.changes(thing("Secret", type="Opaque"), thing("Secret", type="my/own")))
    assert [(finding.path, finding.message) for finding in found] == [(("type",), "field is immutable")]


def stored(*things):
    return objects.merge(objects.empty(), [manifest.object for manifest in read(*things).manifests])


def test_the_data_of_secrets_goes_its_own_way():
    store = stored(thing("Secret", "s", stringData={"a": "value"}), thing("Secret", "none"), thing("ConfigMap", "c"))
    shown, word = configs.part(store)
    assert b64("value") not in json.dumps(shown) and "value" not in word
    data = configs.unseal(word)
    assert data == {"default/s": {"a": b64("value")}, "default/none": {}}
    assert configs.join(shown, data) == store
    assert configs.part(stored(thing("ConfigMap", "c")))[1] == ""


@pytest.mark.parametrize("word", ["%", "e30", b64("[]")])
def test_what_was_not_sealed_is_an_error_that_does_not_show_it(word):
    with pytest.raises(PodlabError) as caught:
        cluster_plan.unsealed(word)
    assert str(caught.value) == "secrets: is not what podlab_manifests returns as secrets"


def test_a_diff_shows_that_a_secret_changes_and_nothing_of_it():
    before, after = configs.hidden({"a": 1, "b": 1, "gone": 1}, {"a": 1, "b": 2, "new": 1})
    assert before == {"a": "***", "b": "*** (before)", "gone": "***"}
    assert after == {"a": "***", "b": "*** (after)", "new": "***"}


SPEC = {
    "initContainers": [{"envFrom": [{"secretRef": {"name": "init"}}]}],
    "containers": [
        {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "env", "key": "k"}}}, {"name": "B"}]},
        {"envFrom": [{"configMapRef": {"name": "from"}}]},
    ],
    "volumes": [
        {"name": "a", "secret": {"secretName": "volume"}},
        {"name": "b", "projected": {"sources": [{"configMap": {"name": "part"}}, {"downwardAPI": {}}]}},
    ],
}


def test_what_a_pod_takes():
    names = [
        ("Secret", "init"),
        ("ConfigMap", "env"),
        ("ConfigMap", "from"),
        ("Secret", "volume"),
        ("ConfigMap", "other"),
    ]
    there = {(kind, "default", name): thing(kind, name, data={"k": "v"}) for kind, name in names}
    there["ConfigMap", "shop", "part"] = thing("ConfigMap", "part")
    metadata = {"name": "p", "namespace": "default", "uid": "u", "labels": {"a": "b"}, "annotations": {}}
    made = sources.of_pod({"metadata": metadata, "spec": SPEC}, there)
    assert set(made) == {"Secret/init", "ConfigMap/env", "ConfigMap/from", "Secret/volume", "metadata"}
    assert made["ConfigMap/env"] == {"data": {"k": "v"}}
    assert made["metadata"] == {"name": "p", "namespace": "default", "uid": "u", "labels": {"a": "b"}}
