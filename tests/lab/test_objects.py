"""apply, delete and get: a round trip of objects through the commands, and every form of output."""

from __future__ import annotations

import base64
import json
import pathlib
import re

import pytest
import yaml

from support.lab import Lab, container_of, ip_of, name_of, node_of, running, uid_of
from support.waiting import until

pytestmark = pytest.mark.lab

POD = """
apiVersion: v1
kind: Pod
metadata: {name: passing, labels: {app: passing}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "10000"]}]
"""
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: visitor}
spec:
  replicas: 2
  selector: {matchLabels: {app: visitor}}
  template:
    metadata: {labels: {app: visitor}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: c, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "10000"]}]
---
apiVersion: v1
kind: Service
metadata: {name: visitor}
spec: {selector: {app: visitor}, ports: [{port: 80}]}
"""


def test_round_trip_of_objects(lab: Lab, tmp_path: pathlib.Path) -> None:
    """apply adds, the same again changes nothing, delete TYPE/NAME and delete -f take away; the rest is left alone."""
    others = {uid_of(pod): pod["supervisor"] for pod in lab.pods()}
    file = tmp_path / "things.yaml"
    file.write_text(f"{POD}---{DEPLOYMENT}", encoding="utf-8")

    said = lab.invoke("apply", "-f", str(file)).stdout
    assert "\npod/passing created\ndeployment/visitor created\nservice/visitor created\ndone (" in said
    assert running(lab.pod("passing"))
    visitors = lab.pods("visitor-")
    assert len(visitors) == 2
    (deployment,) = lab.get_json("deployments", "visitor")
    assert deployment["status"]["replicas"] == deployment["spec"]["replicas"] == 2
    (endpoints,) = lab.get_json("endpoints", "visitor")
    assert {entry["ip"] for entry in endpoints["subsets"][0]["addresses"]} == {ip_of(pod) for pod in visitors}

    again = lab.invoke("apply", "-f", str(file)).stdout
    assert again.startswith(
        "pod/passing unchanged\ndeployment/visitor unchanged\nservice/visitor unchanged\nnothing to do"
    )
    assert {uid_of(pod) for pod in lab.pods("visitor-")} == {uid_of(pod) for pod in visitors}

    assert "\npod/passing deleted\n" in lab.invoke("delete", "pod/passing").stdout
    assert lab.pods("passing") == []
    assert "\ndeployment/visitor deleted\nservice/visitor deleted\n" in lab.invoke("delete", "-f", str(file)).stdout
    assert lab.pods("visitor-") == []
    assert [name for name in map(name_of, lab.get_json("services")) if name == "visitor"] == []
    rules = lab.in_node(lab.node_names()[1], "iptables-save").stdout
    assert "visitor" not in rules
    now = {uid_of(pod): pod["supervisor"] for pod in lab.pods()}
    assert {uid: now[uid] for uid in others} == others


def test_image_that_may_not_be_pulled_is_an_error_that_names_it(lab: Lab) -> None:
    manifest = POD.replace(
        "image: busybox, imagePullPolicy: IfNotPresent", "image: nowhere/none:1, imagePullPolicy: Never"
    )
    done = lab.apply(manifest, check=False)
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert 'ErrImageNeverPull: Container image "nowhere/none:1" is not present with pull policy of Never' in text
    assert lab.pods("passing") == []
    # And the lab knows nothing of it: what comes next is not in its way.
    assert "nothing to do" in lab.invoke("scale", "deployment/web", "--replicas", "3").stdout


# ---- get ----


def test_wide_table(lab: Lab) -> None:
    lines = lab.invoke("get", "pods", "-o", "wide").stdout.splitlines()
    assert re.split(r" {2,}", lines[0].strip()) == [
        "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES",
    ]  # fmt: skip
    # (1m ago) stands between the restarts and the age of a pod that was restarted.
    rows = {line.split()[0]: re.sub(r" \(\S+ ago\)", "", line).split() for line in lines[1:]}
    for pod in lab.pods():
        assert rows[name_of(pod)][5:7] == [ip_of(pod), node_of(pod)]


def test_plain_table_and_all_namespaces(lab: Lab) -> None:
    assert lab.invoke("get", "pods").stdout.split()[:5] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    lines = lab.invoke("get", "pods", "-A").stdout.splitlines()
    assert lines[0].split()[:2] == ["NAMESPACE", "NAME"]
    assert {"default", "kube-system"} <= {line.split()[0] for line in lines[1:]}


def test_namespace_and_label_choose(lab: Lab) -> None:
    assert [name_of(pod) for pod in lab.get_json("pods", "-n", "kube-system")] == [
        name_of(lab.pod("kube-dns", "kube-system"))
    ]
    chosen = lab.get_json("pods", "-l", "app=web")
    assert {name_of(pod) for pod in chosen} == {name_of(pod) for pod in lab.pods("web-")}
    assert lab.get_json("pods", "-l", "app in (core-k8s)", "-A")[0]["metadata"]["name"] == "core-k8s"
    done = lab.invoke("get", "pods", "-n", "empty")
    assert done.stderr == "No resources found in empty namespace.\n"


def test_json_and_yaml_are_the_same_object(lab: Lab) -> None:
    as_json = json.loads(lab.invoke("get", "pod", "core-k8s", "-o", "json").stdout)
    assert yaml.safe_load(lab.invoke("get", "pod", "core-k8s", "-o", "yaml").stdout) == as_json
    assert (as_json["apiVersion"], as_json["kind"]) == ("v1", "Pod")
    assert as_json["status"]["podIP"] == ip_of(lab.pod("core-k8s"))
    assert container_of(as_json)["ready"] is True


def test_names_and_jsonpath(lab: Lab) -> None:
    names = [name_of(pod) for pod in lab.pods()]
    assert lab.invoke("get", "pods", "-o", "name").stdout.split() == [f"pod/{name}" for name in names]
    assert lab.invoke("get", "pods", "-o", "jsonpath={.items[*].metadata.name}").stdout.split() == names
    assert lab.invoke("get", "nodes", "-o", "name").stdout.split() == [f"node/{name}" for name in lab.node_names()]
    template = "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}"
    assert lab.invoke("get", "service", "web", "-o", template).stdout == f"{lab.service_ip('web')}:80"


def test_unknown_pod_is_an_error(lab: Lab) -> None:
    done = lab.invoke("get", "pod", "nobody", check=False)
    assert done.returncode == 1
    assert 'pods "nobody" not found' in done.stderr


CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {level: @level@}
---
apiVersion: v1
kind: Secret
metadata: {name: login}
stringData: {pin: @pin@}
---
apiVersion: v1
kind: Pod
metadata: {name: configured, labels: {level: @level@}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: c
      image: busybox
      imagePullPolicy: IfNotPresent
      command: [sleep, "10000"]
      envFrom: [{secretRef: {name: login}}]
      volumeMounts: [{name: all, mountPath: /all}]
  volumes:
    - name: all
      projected:
        sources:
          - configMap: {name: settings}
          - secret: {name: login}
          - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
"""


def test_config_maps_and_secrets(lab: Lab, tmp_path: pathlib.Path) -> None:
    """What changes reaches the volumes of a running pod; nothing that is printed tells the value of a Secret."""
    file = tmp_path / "config.yaml"

    def apply(level: str, pin: str, *words: str) -> str:
        file.write_text(CONFIG.replace("@level@", level).replace("@pin@", pin), encoding="utf-8")
        return str(lab.invoke("apply", "-f", str(file), *words).stdout)

    def files() -> str:
        return lab.exec("configured", "sh", "-c", "cat /all/level /all/pin /all/labels")

    said = apply("low", "first-pin")
    assert "configmap/settings created\nsecret/login created\npod/configured created" in said
    assert files() == 'lowfirst-pinlevel="low"'
    before = uid_of(lab.pod("configured")), lab.pod("configured")["supervisor"]

    told = [apply("high", "second-pin", "--check", "--diff"), apply("high", "second-pin", "--diff")]
    until(lambda: files() == 'highsecond-pinlevel="high"', "the volume does not follow")
    assert (uid_of(lab.pod("configured")), lab.pod("configured")["supervisor"]) == before
    assert lab.exec("configured", "sh", "-c", "echo $pin") == "first-pin\n"
    encoded = [base64.b64encode(pin).decode() for pin in (b"first-pin", b"second-pin")]
    for text in told:
        assert "+++ after: pod default/configured" in text and '"Secret/login": "*** (after)"' in text
        assert not [word for word in ("first-pin", "second-pin", *encoded) if word in text]
    assert "nothing to do" in apply("high", "second-pin")

    shown = lab.invoke("get", "cm,secrets", "--no-headers").stdout
    assert re.search(r"^configmap/settings +1 ", shown, re.M) and re.search(r"^secret/login +Opaque +1 ", shown, re.M)
    (secret,) = lab.get_json("secrets", "login")
    assert (secret["data"], secret["type"]) == ({"pin": encoded[1]}, "Opaque")
    lab.invoke("delete", "-f", str(file))
    assert "login" not in lab.invoke("get", "cm,secrets", "-A").stdout
