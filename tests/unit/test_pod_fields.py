"""The table of a pod's fields (docs/pod-fields.md) against Kubernetes' schema, and against what podlab says."""

from __future__ import annotations

import pytest

from podlab import controller
from podlab.kube import supported
from support import pod_fields

ROWS = pod_fields.rows()
_CONTAINERS = ("spec.initContainers[]", "spec.ephemeralContainers[]")


def schema_paths(name, path, above=()):
    """Every field of a definition and below, walked apart from the table; a type inside of itself is not walked."""
    for field, shape in controller.definitions()[name]["properties"].items():
        text = str(shape)
        here = f"{path}.{field}" + ("[]" if "items" in shape and "$ref" in shape["items"] else "")
        yield here
        inner = text.partition("#/$defs/")[2].partition("'")[0]
        if inner and inner not in above and "properties" in controller.definitions()[inner]:
            yield from schema_paths(inner, here, (*above, inner))


def is_told(path):
    """Whether the table has the field, one that it is a part of, or parts of it."""
    others = [path.replace(kind, "spec.containers[]", 1) for kind in _CONTAINERS if path.startswith(kind)]
    return any(
        row.path == one
        or one.startswith((f"{row.path}.", f"{row.path}[]"))
        or row.path.startswith((f"{one}.", f"{one}[]"))
        for row in ROWS
        for one in (path, *others)
    )


def test_no_field_of_the_schema_is_outside_of_the_table():
    paths = list(schema_paths(pod_fields.POD_SPEC, "spec"))
    assert len(paths) > 1000
    assert [path for path in paths if not is_told(path)] == []


def test_every_refusal_says_why():
    assert [row.path for row in ROWS if not row.decided] == []


def pod_with(path, value):
    """A pod that sets the field at a path, nothing else."""
    for part in reversed(path.split(".")):
        name = part.removesuffix("[]")
        value = {name: [value] if part != name else value}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, **value}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.path)
def test_what_the_table_says_of_a_field_is_what_a_manifest_is_told(row):
    found = list(supported.unsupported(pod_with(row.path, "value")))
    said = [f"refused: {finding.message}. {finding.remedy}" for finding in found]
    if row.said == pod_fields.ANY:
        assert said == []
    elif row.said.startswith("only "):
        assert len(said) == 1 and "podlab does not support" in said[0]
    else:
        assert said == [row.said]
