"""The rules for env and envFrom, and what resourceFieldRef is in numbers."""

from __future__ import annotations

import pytest

from podlab.kube import env_checks, envspec


def said(**container):
    return [f"{finding.path[-1]}: {finding.message}" for finding in env_checks.env(container, ())]


def value(**source):
    return {"env": [{"name": "X", "valueFrom": source}]}


RULES = [
    (value(configMapKeyRef={"name": "a", "key": "k"}), []),
    (value(), ["valueFrom: must say where the value comes from"]),
    (
        value(configMapKeyRef={"name": "a", "key": "k"}, secretKeyRef={"name": "a", "key": "k"}),
        ["valueFrom: must be of one kind, not of configMapKeyRef and secretKeyRef"],
    ),
    (value(secretKeyRef={"name": "A_", "key": "a b"}), ["name: must be lower case", "key: must be letters, digits"]),
    (value(configMapKeyRef={"key": "k"}), ["name: is required and missing"]),
    (value(fieldRef={"fieldPath": "status.phase"}), ["fieldPath: must be one of metadata.name"]),
    (value(fieldRef={"fieldPath": "metadata.labels['a_b/c']"}), ["fieldPath: the key has a prefix"]),
    (value(resourceFieldRef={"resource": "limits.cpu", "divisor": "1m"}), []),
    (value(resourceFieldRef={"resource": "limits.cpu", "divisor": "2"}), ["divisor: must be one of 1m, 1 for cpu"]),
    (value(resourceFieldRef={"resource": "requests.memory", "divisor": "1Mi"}), []),
    (value(resourceFieldRef={"resource": "limits.memory", "divisor": "2Mi"}), ["divisor: must be one of 1, 1k, 1M"]),
    (value(resourceFieldRef={"resource": "limits.ephemeral-storage"}), ["resource: must be one of limits.cpu"]),
    ({"env": [{"name": "A=", "value": ""}]}, ["name: must be printable ASCII"]),
    ({"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {}}}]}, ["0: must have value or valueFrom"]),
    ({"envFrom": [{"prefix": "a b", "secretRef": {"name": "x"}}]}, []),
    ({"envFrom": [{"prefix": "a=", "secretRef": {"name": "x"}}]}, ["prefix: must be printable ASCII"]),
    ({"envFrom": [{}]}, ["0: must have one of configMapRef, secretRef"]),
    ({"envFrom": [{"configMapRef": {"optional": True}}]}, ["name: is required and missing"]),
]


@pytest.mark.parametrize(("container", "wanted"), RULES, ids=str)
def test_rules(container, wanted):
    found = said(**container)
    assert len(found) == len(wanted)
    for line, beginning in zip(found, wanted):
        assert line.startswith(beginning)


def test_a_resource_of_a_container_that_is_not_there():
    spec = {
        "containers": [{"name": "c", **value(resourceFieldRef={"resource": "limits.cpu", "containerName": "d"})}],
        "volumes": [
            {"downwardAPI": {"items": [{"resourceFieldRef": {"resource": "limits.cpu", "containerName": "c"}}]}},
            {"downwardAPI": {"items": [{"resourceFieldRef": {"resource": "limits.cpu", "containerName": "e"}}]}},
        ],
    }
    found = list(env_checks.containers_named(spec, ("spec",)))
    assert [finding.message for finding in found] == [
        "there is no container 'd' in the pod",
        "there is no container 'e' in the pod",
    ]


LIMITED = {"limits": {"cpu": "1500m", "memory": "64Mi", "hugepages-2Mi": "4Mi"}, "requests": {"cpu": "100m"}}
NODE = envspec.Capacity(4000, 8 * 2**30)
RESOURCES = [
    ({"resource": "limits.cpu"}, LIMITED, "2"),
    ({"resource": "limits.cpu", "divisor": "1m"}, LIMITED, "1500"),
    ({"resource": "requests.cpu"}, LIMITED, "1"),
    ({"resource": "requests.memory", "divisor": "0"}, LIMITED, str(64 * 2**20)),
    ({"resource": "limits.memory", "divisor": "1Mi"}, LIMITED, "64"),
    ({"resource": "limits.memory", "divisor": "1G"}, LIMITED, "1"),
    ({"resource": "limits.hugepages-2Mi", "divisor": "1Mi"}, LIMITED, "4"),
    ({"resource": "limits.cpu"}, {}, "4"),
    ({"resource": "limits.memory"}, {}, str(8 * 2**30)),
    ({"resource": "requests.cpu"}, {}, "0"),
    ({"resource": "requests.hugepages-2Mi"}, {}, "0"),
]


@pytest.mark.parametrize(("reference", "resources", "wanted"), RESOURCES, ids=str)
def test_resources_in_numbers(reference, resources, wanted):
    own = {"name": "c", "resources": resources}
    assert envspec.resource_value(reference, {"spec": {"containers": [own]}}, own, NODE) == wanted
    named = {**reference, "containerName": "c"}
    assert envspec.resource_value(named, {"spec": {"containers": [own]}}, {"name": "d"}, NODE) == wanted
