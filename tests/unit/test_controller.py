"""From files and state to the plan of a lab, as the action plugin uses it."""

from __future__ import annotations

import json
import pathlib

import pytest

from podlab import controller
from podlab.errors import PodlabError
from podlab.kube import configs
from support.lab_objects import cluster, running

ROOT = pathlib.Path(__file__).resolve().parents[2]

POD = "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: c, image: busybox}}]}}}}\n"
WEB = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: busybox, imagePullPolicy: Always}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
"""


@pytest.fixture
def manifests_dir(tmp_path):
    directory = tmp_path / "manifests"
    directory.mkdir()
    (directory / "web.yaml").write_text(WEB)
    (directory / "notes.txt").write_text("not a manifest")
    (directory / ".hidden.yaml").write_text("[")
    return directory


def planned(state=None, **change):
    made = controller.plan_lab(cluster(), state or {}, controller.Change(**change))
    assert json.loads(json.dumps(made)) == made
    return made


def state_of(made):
    return {"objects": made["objects"], "pods": running(made["pods"])}


def names(made):
    return [item["metadata"]["name"] for item in made["pods"]]


def refusal(state=None, **change):
    with pytest.raises(PodlabError) as caught:
        planned(state, **change)
    return caught.value.message


def test_a_virgin_machine(manifests_dir):
    made = planned(manifests_dir=str(manifests_dir))
    assert len(made["pods"]) == 3
    assert [service["metadata"]["name"] for service in made["services"]] == ["web"]
    assert made["images"] == [{"reference": "busybox", "policy": "Always"}]
    assert sorted(made["image_users"]["busybox"]["nodes"]) == ["w1", "w2"]
    assert len(made["image_users"]["busybox"]["pods"]) == 3
    assert made["warnings"] == []
    assert [space["name"] for space in made["topology"]["namespaces"]][0] == "podlab-kind-network"


def test_a_second_run_is_the_same_and_asks_no_registry(manifests_dir):
    first = planned(manifests_dir=str(manifests_dir))
    second = planned(state_of(first), manifests_dir=str(manifests_dir))
    assert second["images"] == [{"reference": "busybox", "policy": "IfNotPresent"}]
    assert {**second, "images": first["images"]} == first


def test_scale_up_and_down_touches_no_survivor(manifests_dir):
    first = planned(manifests_dir=str(manifests_dir))
    scale = {"kind": "deploy", "name": "web", "namespace": "default"}
    more = planned(state_of(first), scale={**scale, "replicas": 5})
    assert [item for item in more["pods"] if item in first["pods"]] == first["pods"]
    assert len(more["pods"]) == 5
    less = planned(state_of(more), scale={**scale, "replicas": 2})
    assert len(less["pods"]) == 2
    assert all(item in more["pods"] for item in less["pods"])
    assert less["services"] == first["services"]


def test_apply_delete_and_prune(manifests_dir, tmp_path):
    first = planned(manifests_dir=str(manifests_dir))
    extra = tmp_path / "extra.yaml"
    extra.write_text(POD.format(name="extra"))
    more = planned(state_of(first), apply=(str(extra),))
    assert names(more) == [*names(first), "extra"]
    (manifests_dir / "web.yaml").unlink()
    assert names(planned(state_of(more), manifests_dir=str(manifests_dir))) == ["extra"]
    assert names(planned(state_of(more), delete=(str(extra),))) == names(first)


def test_apply_and_delete_say_what_they_do(manifests_dir, tmp_path):
    first = planned(manifests_dir=str(manifests_dir))
    assert first["said"] == []
    extra = tmp_path / "extra.yaml"
    extra.write_text(POD.format(name="extra") + "---\n" + WEB)
    made = planned(state_of(first), apply=(str(extra),))
    assert made["said"] == ["pod/extra created", "deployment/web unchanged", "service/web unchanged"]
    extra.write_text(POD.format(name="extra") + "---\n" + WEB.replace("port: 80", "port: 81"))
    changed = planned(state_of(made), apply=(str(extra),))
    assert changed["said"] == ["pod/extra unchanged", "deployment/web unchanged", "service/web configured"]
    assert planned(state_of(changed), delete=(str(extra),))["said"] == [
        "pod/extra deleted",
        "deployment/web deleted",
        "service/web deleted",
    ]


def test_what_is_not_there_cannot_be_deleted(manifests_dir, tmp_path):
    extra = tmp_path / "extra.yaml"
    extra.write_text(POD.format(name="extra"))
    assert refusal(delete=(str(extra),)).endswith("Pod/extra: is not in the lab, so it cannot be deleted")
    extra.write_text(POD.format(name="extra") + "---\n" + WEB)
    first = planned(manifests_dir=str(manifests_dir))
    after = planned(state_of(first), delete=(str(extra),))
    assert after["pods"] == []
    assert after["said"] == ["deployment/web deleted", "service/web deleted"]
    assert after["warnings"] == ["Pod/extra: is not in the lab, so it cannot be deleted"]


def test_all_problems_of_all_files_at_once(manifests_dir, tmp_path):
    (manifests_dir / "bad.yaml").write_text("{apiVersion: v1, kind: Podd, metadata: {name: a}}")
    other = tmp_path / "other.yaml"
    other.write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: b}\nspec: {containers: []}\n")
    message = refusal(
        manifests_dir=str(manifests_dir),
        apply=(str(other), str(tmp_path / "absent.yaml")),
        scale={"kind": "job", "name": "x", "namespace": "default", "replicas": 1},
    )
    lines = message.splitlines()
    assert lines[0] == "The manifests are not valid, 4 problems:"
    for text in ("bad.yaml:1: Podd/a: kind:", "absent.yaml: cannot be read", "spec.containers: must have at least one"):
        assert text in message
    assert "Cannot scale job/x" in message


def test_a_misfit_is_said_with_its_line(manifests_dir):
    (manifests_dir / "pod.yaml").write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: b}\nspec:\n  nodeName: nowhere\n"
        "  containers: [{name: c, image: busybox}]\n"
    )
    message = refusal(manifests_dir=str(manifests_dir))
    assert message.endswith("pod.yaml:5: Pod/b: spec.nodeName: there is no node nowhere. The nodes are cp, w1, w2")


def test_two_objects_want_one_pod(manifests_dir):
    (manifests_dir / "a.yaml").write_text(
        POD.format(name="db-0") + "---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n"
        "  selector: {matchLabels: {app: db}}\n  serviceName: db\n  template:\n    metadata: {labels: {app: db}}\n"
        "    spec: {containers: [{name: c, image: busybox}]}\n"
    )
    assert "StatefulSet/db: metadata.name: wants a pod db-0, as Pod/db-0 does" in refusal(
        manifests_dir=str(manifests_dir)
    )


def test_a_directory_that_is_not_there(tmp_path):
    assert "cannot be read: No such file or directory" in refusal(manifests_dir=str(tmp_path / "none"))


def test_text_that_is_not_utf_8(tmp_path):
    file = tmp_path / "latin.yaml"
    file.write_bytes(b"a: \xe9\n")
    assert "is not UTF-8 text" in refusal(apply=(str(file),))


def test_the_default_lab():
    made = planned(manifests_dir=str(ROOT / "clusters" / "default" / "manifests"))
    kinds = [item["metadata"].get("ownerReferences", [{"kind": "Pod"}])[0]["kind"] for item in made["pods"]]
    assert sorted(kinds) == ["Job", "Job", "Pod", "ReplicaSet", "ReplicaSet", "ReplicaSet", "ReplicaSet"]
    dns = next(item for item in made["services"] if item["metadata"]["name"] == "kube-dns")
    assert dns["spec"]["clusterIP"] == "10.96.0.10"
    assert made["warnings"] == []
    assert {image["reference"] for image in made["images"]} == {"busybox", "docker.io/podlab/dns:latest"}


SLICE = """
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: NodePort, ports: [{port: 80, nodePort: 30080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: outside-1, labels: {kubernetes.io/service-name: outside}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.1]}]
ports: [{port: 8080}]
"""


def test_endpoint_slices_are_planned_kept_and_deleted(manifests_dir, tmp_path):
    file = tmp_path / "slice.yaml"
    file.write_text(SLICE)
    made = planned(manifests_dir=str(manifests_dir), apply=(str(file),))
    (piece,) = made["endpoint_slices"]
    assert piece["ports"] == [{"name": "", "protocol": "TCP", "port": 8080}]
    assert piece["metadata"]["creationTimestamp"]
    assert made["warnings"] == []
    assert planned(state_of(made), manifests_dir=str(manifests_dir))["endpoint_slices"] == [piece]
    gone = tmp_path / "gone.yaml"
    gone.write_text(SLICE.partition("---")[2])
    assert planned(state_of(made), delete=(str(gone),))["endpoint_slices"] == []


def test_a_node_port_that_the_lab_has_given_names_its_owner(manifests_dir, tmp_path):
    file, other = tmp_path / "slice.yaml", tmp_path / "other.yaml"
    file.write_text(SLICE)
    made = planned(apply=(str(file),))
    other.write_text(SLICE.partition("---")[0].replace("outside", "late"))
    assert refusal(state_of(made), apply=(str(other),)).endswith(
        "other.yaml:5: Service/late: spec.ports[0].nodePort: node port 30080 is taken by the Service default/outside. "
        "Choose another, or leave it out to be given one"
    )


def test_an_immutable_config_map_is_refused_when_it_changes(tmp_path):
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fixed}\ndata: {a: '1'}\nimmutable: true\n"
    (tmp_path / "x.yaml").write_text(text)
    made = planned(apply=(str(tmp_path),))
    assert planned({"objects": made["objects"]}, apply=(str(tmp_path),))["said"] == ["configmap/fixed unchanged"]
    (tmp_path / "x.yaml").write_text(text.replace("'1'", "'2'"))
    with pytest.raises(PodlabError) as caught:
        planned({"objects": made["objects"]}, apply=(str(tmp_path),))
    assert "ConfigMap/fixed: data: field is immutable when `immutable` is set" in str(caught.value)


def test_the_plan_carries_the_data_of_secrets_apart(tmp_path):
    (tmp_path / "x.yaml").write_text("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: value}\n")
    made = planned(apply=(str(tmp_path),))
    sealed = made.pop("secrets")
    assert configs.unseal(sealed) == {"default/s": {"a": "dmFsdWU="}}
    assert "dmFsdWU=" not in str(made) and "value" not in str(made["objects"])
