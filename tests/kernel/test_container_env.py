"""Where a container's environment comes from, by the rows of Kubernetes' precedence, and what it waits for."""

from __future__ import annotations

import base64
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from podlab.runtime import pods
from support import runtime

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]
SLEEP = {"command": ["sleep", "1000"]}
SOURCES = {
    "ConfigMap/web": {"data": {"A": "map", "B": "map", "C": "$(A)", "un.usual-key": "x"}},
    "Secret/key": {"data": {"B": base64.b64encode(b"secret").decode(), "RAW": base64.b64encode(b"\xff$(A)").decode()}},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.one_node(tmp_path_factory.mktemp("lab")) as made:
        yield made


def key(kind: str, name: str, of: str, **more: Any) -> dict[str, Any]:
    return {"valueFrom": {f"{kind}KeyRef": {"name": name, "key": of, **more}}}


def resource(name: str, **more: Any) -> dict[str, Any]:
    return {"valueFrom": {"resourceFieldRef": {"resource": name, **more}}}


@pytest.fixture(scope="module")
def pod(lab: runtime.Lab) -> runtime.Pod:
    """c0: everything of envFrom, key references and the downward API. c1, c2, c3: each waits for something."""
    everything = {
        "command": ["sleep", "$(SECONDS_OF)"],
        "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "16Mi"}},
        "envFrom": [
            {"configMapRef": {"name": "web"}},
            {"secretRef": {"name": "key"}},
            {"prefix": "P_", "configMapRef": {"name": "web"}},
            {"configMapRef": {"name": "none", "optional": True}},
        ],
        "env": [
            {"name": "A", "value": "own"},
            {"name": "SEES", "value": "$(A) $(B) $(P_A) $(LATER) $$(A)"},
            {"name": "LATER", "value": "later"},
            {"name": "FROM_MAP", **key("configMap", "web", "C")},
            {"name": "FROM_SECRET", **key("secret", "key", "RAW")},
            {"name": "NO_KEY", **key("configMap", "web", "none", optional=True)},
            {"name": "NO_SECRET", **key("secret", "none", "x", optional=True)},
            {"name": "TWICE", "value": "first"},
            {"name": "TWICE", **key("configMap", "web", "A")},
            {"name": "SECONDS_OF", "value": "1000"},
            {"name": "CPU", **resource("limits.cpu")},
            {"name": "MILLI", **resource("limits.cpu", divisor="1m")},
            {"name": "MEMORY", **resource("requests.memory", divisor="1Mi")},
            {"name": "OTHER", **resource("limits.memory", containerName="c1")},
            {"name": "HUGE", **resource("limits.hugepages-2Mi")},
            {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
        ],
    }
    waits = [
        {**SLEEP, "env": [{"name": "X", **key("configMap", "late", "k")}]},
        {**SLEEP, "env": [{"name": "X", **key("secret", "key", "none")}]},
        {**SLEEP, "envFrom": [{"secretRef": {"name": "late"}}]},
    ]
    return lab.start(lab.pod(everything, *waits), sources=SOURCES)[0]


def environ(pod: runtime.Pod, name: str = "c0") -> dict[str, str]:
    raw = pathlib.Path(f"/proc/{pod.pid(name)}/environ").read_bytes()
    return dict(os.fsdecode(pair).partition("=")[::2] for pair in raw.split(b"\0") if pair)


class TestEnvironment:
    """pods.md 1.8: envFrom < env in declared order; $(VAR) sees what came before."""

    WANTED = {
        "env replaces envFrom": ("A", "own"),
        "a later envFrom replaces an earlier one": ("B", "secret"),
        "values of objects are not expanded": ("C", "$(A)"),
        "prefix": ("P_B", "map"),
        "any key is a name": ("un.usual-key", "x"),
        "expansion sees envFrom and earlier env": ("SEES", "own secret map $(LATER) $(A)"),
        "a key of a ConfigMap": ("FROM_MAP", "$(A)"),
        "the bytes of a Secret": ("FROM_SECRET", "\udcff$(A)"),
        "duplicates: last wins": ("TWICE", "map"),
        "a limit in whole cores is rounded up": ("CPU", "2"),
        "divisor 1m": ("MILLI", "1500"),
        "divisor 1Mi": ("MEMORY", "16"),
        "no limit: what the node has": ("OTHER", str(runtime.MEMORY)),
        "no huge pages": ("HUGE", "0"),
    }

    @pytest.mark.parametrize("row", WANTED, ids=str)
    def test_row(self, pod: runtime.Pod, row: str) -> None:
        name, value = self.WANTED[row]
        assert environ(pod)[name] == value

    @pytest.mark.parametrize("name", ["NO_KEY", "NO_SECRET"])
    def test_what_is_optional_and_missing_is_not_set(self, pod: runtime.Pod, name: str) -> None:
        assert name not in environ(pod)

    def test_exec_sees_what_the_first_process_sees(self, pod: runtime.Pod) -> None:
        first, joined = (pod.exec("base64", f"/proc/{who}/environ").out for who in ("1", "self"))
        assert first == joined != ""

    def test_what_is_missing_is_named_as_the_kubelet_names_it(self, pod: runtime.Pod) -> None:
        said = {name: pod.container(name)["state"]["waiting"] for name in ("c1", "c2", "c3")}
        assert {entry["reason"] for entry in said.values()} == {"CreateContainerConfigError"}
        assert [entry["message"] for entry in said.values()] == [
            'configmap "late" not found',
            "couldn't find key none in Secret default/key",
            'secret "late" not found',
        ]
        assert pod.status()["phase"] == "Pending"

    def test_nothing_of_a_secret_is_in_the_configuration(self, pod: runtime.Pod) -> None:
        config = pathlib.Path(f"{pod.directory}/config.json").read_text(encoding="utf-8")
        assert SOURCES["Secret/key"]["data"]["B"] not in config and '"secret"' not in config
        for name in ("sources.json", "env-c0.json"):
            assert os.stat(f"{pod.directory}/{name}").st_mode & 0o777 == 0o600, name
        assert os.stat(pod.directory).st_mode & 0o777 == 0o700


def test_a_container_starts_when_what_it_waits_for_is_there(lab: runtime.Lab) -> None:
    """Of three that wait one gets what it needs, at once and without a restart; what runs keeps its environment."""
    label = {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['l']"}}}
    runs = {**SLEEP, "env": [{"name": "X", **key("configMap", "web", "A")}, label]}
    late = {**SLEEP, "env": [{"name": "X", **key("configMap", "late", "k")}]}
    pod = lab.start(lab.pod(runs, late), sources={**SOURCES, "metadata": {"labels": {"l": "old"}}})[0]
    assert "running" not in pod.container("c1")["state"]
    changed = {"ConfigMap/web": {"data": {"A": "new"}}, "metadata": {"labels": {"l": "new"}}}
    pods.update(lab.name, pod.uid, {**changed, "ConfigMap/late": {"data": {"k": "v"}}})
    pod.until(lambda pod: "running" in pod.container("c1")["state"])
    assert pod.container("c1")["restartCount"] == 0
    assert (environ(pod, "c1")["X"], environ(pod)["X"], environ(pod)["L"]) == ("v", "map", "old")
    assert pod.exec("sh", "-c", "echo $X").out == "map\n"
    os.kill(pod.pid(), 9)
    pod.until(lambda pod: pod.container("c0")["restartCount"] == 1 and "running" in pod.container("c0")["state"])
    assert (environ(pod)["X"], environ(pod)["L"]) == ("new", "new")
    pod.delete()
