"""Manifests: what is said about bad ones (golden transcripts), and what becomes of good ones."""

from __future__ import annotations

import json
import pathlib

import kubernetes_validate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab import controller
from podlab.kube import manifests, schema, supported
from podlab.kube.kinds import KINDS, find
from podlab.kube.manifests import Source

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "manifests"
LAB = ROOT / "clusters" / "default" / "manifests"


def read(*texts):
    return manifests.read([Source(f"{n}.yaml", text) for n, text in enumerate(texts)], controller.definitions())


def transcript(directory):
    """What a person sees for a directory of bad manifests, one problem on a line."""
    result = manifests.read(
        [Source(path.name, path.read_text(encoding="utf-8")) for path in sorted(directory.glob("*.yaml"))],
        controller.definitions(),
    )
    problems = [*result.problems, *manifests.missing_namespaces(result.manifests, ())]
    return "".join(f"{'' if problem.level == 'error' else 'warning: '}{problem}\n" for problem in problems)


@pytest.mark.parametrize("case", sorted(path.name for path in GOLDEN.iterdir()))
def test_transcript(case):
    expected = (GOLDEN / case / "expected.txt").read_text(encoding="utf-8")
    assert transcript(GOLDEN / case) == expected


def test_the_default_lab_is_sound():
    result = controller.read_manifests([str(LAB)])
    assert [str(problem) for problem in result.problems] == []
    assert sorted(manifests.title(m.object) for m in result.manifests) == [
        *("Deployment/kube-system/kube-dns", "Deployment/web", "Job/practice", "Job/two-containers-pod"),
        *("Pod/core-k8s", "Service/kube-system/kube-dns", "Service/web"),
    ]


def test_template_text_stays_literal():
    text = """
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {a: b}
  annotations: {note: "{{ lookup('pipe', 'id') }}"}
spec:
  containers:
    - {name: c, image: busybox, args: ["{{ 1 + 1 }}", "$(id)"], env: [{name: A, value: "{% raw %}"}]}
"""
    result = read(text)
    assert result.problems == ()
    thing = result.manifests[0].object
    assert thing["metadata"]["annotations"]["note"] == "{{ lookup('pipe', 'id') }}"
    assert thing["spec"]["containers"][0]["args"] == ["{{ 1 + 1 }}", "$(id)"]


def test_a_template_in_a_label_is_refused_and_never_run():
    result = read("{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {x: \"{{ lookup('pipe','id') }}\"}}}")
    assert [problem.place for problem in result.problems] == ["Namespace/a: metadata.labels.x"]


def test_json_lists_nulls_and_status():
    thing = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "creationTimestamp": None},
        "spec": {"containers": [{"name": "c", "image": "busybox", "args": None}], "nodeName": None},
        "status": {"phase": "Running"},
    }
    result = read(json.dumps({"apiVersion": "v1", "kind": "List", "items": [thing]}))
    assert result.problems == ()
    assert result.manifests[0].object == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "busybox"}]},
    }


OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u"}


def test_what_the_api_server_sets_itself_is_ignored_as_there():
    """So what kubectl, or podlab's own get, prints of an object can be applied."""
    told = {
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "generation": 3,
        "managedFields": [{"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {}}}],
        "resourceVersion": "99",
        "selfLink": "/api",
        "uid": "6f4d9a5c-0000-4000-8000-000000000002",
    }
    plain = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "busybox"}]},
    }
    status = {"phase": "Running", "podlab": {"pause": 7}}
    result = read(json.dumps({**plain, "metadata": {**plain["metadata"], **told}, "status": status}))
    assert result.problems == ()
    assert result.manifests[0].object == plain
    owned = {**plain, "metadata": {**plain["metadata"], "finalizers": ["a/b"], "ownerReferences": [OWNER]}}
    assert [problem.place for problem in read(json.dumps(owned)).problems] == [
        "Pod/web: metadata.finalizers",
        "Pod/web: metadata.ownerReferences",
    ]


def test_a_fault_of_one_file_hides_nothing_of_another():
    result = read("a: [", "{apiVersion: v1, kind: Podd}", "{apiVersion: v1, kind: Namespace, metadata: {name: x}}")
    assert [problem.file for problem in result.problems] == ["0.yaml", "1.yaml"]
    assert len(result.manifests) == 1


def test_namespaces_of_the_store_count():
    result = read("{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop}, spec: {containers: []}}")
    assert list(manifests.missing_namespaces(result.manifests, ["shop"])) == []
    assert len(list(manifests.missing_namespaces(result.manifests, []))) == 1


def test_identify_needs_no_more_than_a_name():
    sources = [Source("a.yaml", "{apiVersion: v1, kind: Pod, metadata: {name: a}, nonsense: 1}\n---\n{kind: Pod}\n")]
    keys, problems = manifests.identify(sources)
    assert keys == [("Pod", "default", "a")]
    assert [problem.line for problem in problems] == [3]


@pytest.mark.parametrize(
    ("word", "name"),
    [("deploy", "Deployment"), ("RS", "ReplicaSet"), ("sts", "StatefulSet"), ("po", "Pod"), ("svc", "Service")]
    + [("jobs", "Job"), ("ds", "DaemonSet"), ("ns", "Namespace"), ("Deployment", "Deployment")],
)
def test_short_names(word, name):
    assert find(word).name == name


def test_unknown_word():
    assert find("cronjob") is None


# ---- the table of supported fields names only fields that exist ----


def table_paths(table, path=()):
    if isinstance(table, list):
        yield from table_paths(table[0], (*path, 0))
    elif isinstance(table, dict):
        for key, inner in table.items():
            yield (*path, key)
            yield from table_paths(inner, (*path, key))


@pytest.mark.parametrize("kind", sorted({**supported.SPECS, **supported.FIELDS}))
def test_every_supported_field_exists(kind):
    definitions = controller.definitions()
    table = {"spec": supported.SPECS[kind]} if kind in supported.SPECS else supported.FIELDS[kind]
    for path in table_paths(table):
        node = definitions[KINDS[kind].schema]
        for step in path:
            while "$ref" in node:
                node = definitions[node["$ref"].rpartition("/")[2]]
            if isinstance(step, int):
                node = node["items"]
            elif "properties" in node:
                assert step in node["properties"], path
                node = node["properties"][step]
            else:
                assert "additionalProperties" in node, path
                node = node["additionalProperties"]


# ---- the package's own validator is the oracle of the schema walk ----


def oracle_accepts(thing):
    try:
        kubernetes_validate.validate(thing, schema.KUBERNETES_VERSION, strict=True)
    except kubernetes_validate.ValidationError:
        return False
    return True


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-3, 2**31 - 1), st.text(max_size=3), st.just("100m"))
LIMITS = st.dictionaries(st.text(max_size=2), SCALARS)
CONTAINERS = st.fixed_dictionaries(
    {},
    optional={
        "name": SCALARS,
        "image": SCALARS,
        "args": st.one_of(SCALARS, st.lists(st.one_of(st.text(max_size=2), st.integers()), max_size=2)),
        "ports": st.lists(st.dictionaries(st.sampled_from(["containerPort", "name", "portt"]), SCALARS), max_size=2),
        "resources": st.one_of(
            SCALARS, st.fixed_dictionaries({"limits": st.dictionaries(st.text(max_size=2), SCALARS)})
        ),
        "tty": SCALARS,
        "imagee": SCALARS,
    },
)
PODS = st.fixed_dictionaries(
    {"apiVersion": st.just("v1"), "kind": st.just("Pod"), "metadata": st.fixed_dictionaries({"name": st.just("a")})},
    optional={
        "spec": st.one_of(
            SCALARS,
            st.fixed_dictionaries(
                {},
                optional={
                    "containers": st.lists(CONTAINERS, max_size=2),
                    "nodeSelector": st.one_of(SCALARS, st.dictionaries(st.text(max_size=2), SCALARS, max_size=2)),
                    "hostNetwork": SCALARS,
                },
            ),
        )
    },
)


def without_nulls(thing):
    """Null is the absence of a value for podlab as for the API server; the schemas are not of one mind about it."""
    if isinstance(thing, dict):
        return {key: without_nulls(value) for key, value in thing.items() if value is not None}
    return [without_nulls(item) for item in thing] if isinstance(thing, list) else thing


@given(PODS)
def test_schema_agrees_with_its_oracle(thing):
    ours = not schema.check(thing, KINDS["Pod"].schema, controller.definitions()).findings
    assert ours == oracle_accepts(without_nulls(thing))


@pytest.mark.parametrize(
    ("number", "fits"), [(2**31 - 1, True), (2**31, False), (-(2**31), True), (-(2**31) - 1, False)]
)
def test_numbers_must_fit_their_format(number, fits):
    thing = {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": number}]}]}}
    findings = schema.check(thing, KINDS["Pod"].schema, controller.definitions()).findings
    expected = [] if fits else [f"must fit into int32, which {number} does not"]
    assert [finding.message for finding in findings] == expected


@given(PODS)
def test_what_is_left_after_a_check_has_the_right_types(thing):
    clean = schema.check(thing, KINDS["Pod"].schema, controller.definitions()).object
    again = schema.check(clean, KINDS["Pod"].schema, controller.definitions())
    assert all("is required" in finding.message for finding in again.findings)
