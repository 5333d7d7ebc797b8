"""State to objects, objects to what `get`, `status` and -o print."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import pytest
import yaml

from podlab.cli import get, lab, objects, output, selector, status
from podlab.errors import PodlabError
from podlab.kube import times
from support import cli_state

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden" / "cli"
NOW = times.epoch("2026-11-21T12:00:00Z")
LINES = 'jsonpath={range .items[*]}{.metadata.name}={.status.podIP}{"\\n"}{end}'


def golden(name: str, text: str) -> None:
    """The text is what the golden file has; PODLAB_UPDATE_GOLDEN=1 writes it instead, to be read in the diff."""
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("PODLAB_UPDATE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()


@pytest.fixture
def state() -> dict[str, Any]:
    return cli_state.state()


@pytest.fixture
def there(state: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(lab, "read", lambda name="": state)
    monkeypatch.setattr("time.time", lambda: NOW)
    state["watcher"] = {"alive": True, "error": ""}
    return state


# Which lab


@pytest.mark.parametrize(
    ("labs", "name", "environment", "expected"),
    [
        (["kind"], "", "", "kind"),
        (["two"], "", "", "two"),
        (["kind", "two"], "", "", "kind"),
        (["kind", "two"], "two", "", "two"),
        (["kind", "two"], "", "two", "two"),
        (["kind", "two"], "kind", "two", "kind"),
    ],
)
def test_which_lab(
    labs: list[str], name: str, environment: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podlab.runtime.state.labs", lambda: labs)
    monkeypatch.setenv("KIND_CLUSTER_NAME", environment)
    assert lab.lab_name(name) == expected


@pytest.mark.parametrize(
    ("labs", "name", "message"),
    [
        ([], "", "There is no lab on this machine. Make one with ./lab up"),
        ([], "two", "There is no lab on this machine."),
        (["a", "b"], "", "There is no lab 'kind' on this machine, only: a, b. Say which with --name"),
        (["a"], "b", "There is no lab 'b' on this machine, only: a."),
    ],
)
def test_no_such_lab(labs: list[str], name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podlab.runtime.state.labs", lambda: labs)
    monkeypatch.delenv("KIND_CLUSTER_NAME", raising=False)
    with pytest.raises(PodlabError) as caught:
        lab.lab_name(name)
    assert caught.value.message.startswith(message)


# Objects


def test_nodes_say_which_of_them_runs(state: dict[str, Any]) -> None:
    nodes = objects.nodes(state)
    ready = {node["metadata"]["name"]: node["status"]["conditions"][0]["status"] for node in nodes}
    assert ready == {"kind-worker": "True", "kind-worker2": "False", "kind-worker3": "False"}
    assert nodes[0]["spec"]["podCIDR"] == "10.244.1.0/24"
    assert times.epoch(nodes[0]["metadata"]["creationTimestamp"]) == int(objects.boot_time() + 1)
    assert "creationTimestamp" not in nodes[2]["metadata"]


def test_endpoints_come_from_slices(state: dict[str, Any]) -> None:
    web, none = objects.endpoints(state)
    assert web["metadata"] == {"name": "web", "namespace": "default"}
    assert web["subsets"] == [
        {
            "addresses": [{"ip": "10.244.1.4", "nodeName": "n"}],
            "notReadyAddresses": [{"ip": "10.244.2.3", "nodeName": "n"}],
            "ports": [{"port": 8080}],
        }
    ]
    assert none["subsets"] == []


LABELS = {"app": "web", "tier": "front"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app=db", False),
        ("app!=db", True),
        ("app!=web", False),
        ("new!=x", True),
        ("app", True),
        ("new", False),
        ("!new", True),
        ("! app", False),
        ("app in (db, web)", True),
        ("app in (db)", False),
        ("app notin (db),tier=front", True),
        ("new notin (x)", True),
        ("app in (db,web),tier in (back)", False),
        ("app=web,tier", True),
        ("app=", False),
        ("kubernetes.io/x=", False),
    ],
)
def test_selectors(text: str, expected: bool) -> None:
    assert selector.matches(selector.parse(text), LABELS) is expected


@pytest.mark.parametrize("text", ["=x", "app=web,", "app in web", "app in (a", "a b", "app>3", "app=we/b"])
def test_bad_selectors_show_the_forms(text: str) -> None:
    with pytest.raises(PodlabError, match="is not a requirement. Write key=value"):
        selector.parse(text)


# get


@pytest.mark.parametrize(
    ("name", "words", "options"),
    [
        ("get-pods", ["pods"], {}),
        ("get-pods-wide", ["po"], {"form": "wide"}),
        ("get-pods-all", ["pod"], {"all_namespaces": True}),
        ("get-pods-selected", ["pods"], {"selector": "app=web", "labels": True}),
        ("get-pod-names", ["pods"], {"form": "name"}),
        ("get-pod-json", ["pods", "core-k8s"], {"form": "json"}),
        ("get-pod-yaml", ["pod/core-k8s"], {"form": "yaml"}),
        ("get-pods-jsonpath", ["pods"], {"form": LINES}),
        ("get-services", ["svc"], {"all_namespaces": True}),
        ("get-endpoints", ["endpoints"], {}),
        ("get-several", ["svc,ep,endpointslices"], {}),
        ("get-several-by-name", ["svc/web", "pod/core-k8s", "ep/web"], {"form": "wide"}),
        ("get-columns", ["pods"], {"form": "custom-columns=NAME:.metadata.name,C:spec.containers[*].name,X:{.x}"}),
        ("get-no-headers", ["all"], {"headers": False}),
    ],
)  # fmt: skip
def test_get_golden(
    there: Any, capsys: pytest.CaptureFixture[str], name: str, words: list[str], options: dict[str, Any]
) -> None:
    get.get(words, **options)
    golden(name, capsys.readouterr().out)


def test_lists_and_single_objects_are_whole(there: Any, capsys: pytest.CaptureFixture[str]) -> None:
    get.get(["pods"], form="json", all_namespaces=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], len(found["items"])) == ("List", 7)
    get.get(["pods", "core-k8s", "practice-2tmpn"], form="yaml")
    assert len(yaml.safe_load(capsys.readouterr().out)["items"]) == 2
    get.get(["pods", "core-k8s"], form="yaml")
    assert yaml.safe_load(capsys.readouterr().out)["status"]["phase"] == "Running"


def test_several_kinds_are_one_list(there: Any, capsys: pytest.CaptureFixture[str]) -> None:
    get.get(["svc,ep", "web"], form="yaml")
    found = yaml.safe_load(capsys.readouterr().out)
    assert [item["kind"] for item in found["items"]] == ["Service", "Endpoints"]
    get.get(["all"], form="name", namespace="kube-system")
    assert capsys.readouterr().out == "pod/dnsmasq-5c8d7\nservice/kube-dns\n"


def test_everything_but_nodes_is_sorted_as_the_api_server_does(there: Any) -> None:
    for found in (there["services"]["services"], there["pods"]):
        found.reverse()
    for kind in ("pods", "services", "endpoints", "endpointslices"):
        names = [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in objects.of_kind(kind, there)]
        assert names == sorted(names) and len(names) > 1


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        ([], {}, "get what? One or more of: pods, nodes, services, endpoints"),
        (["pot"], {}, "get: 'pot' is not a kind that podlab shows"),
        (["pods", "nothing"], {}, 'pods "nothing" not found in namespace default. See what is there with ./lab get'),
        (["pods", "a", "b"], {}, 'pods "a" not found in namespace default\npods "b" not found'),
        (["nodes", "x"], {}, 'nodes "x" not found. See what is there with ./lab get nodes'),
        (["pods", "core-k8s"], {"all_namespaces": True}, "cannot be retrieved by name across all namespaces"),
        (["pods", "core-k8s"], {"selector": "a=b"}, "name cannot be provided when a selector is specified"),
        (
            ["pod/a", "svc/b"],
            {},
            'pods "a" not found in namespace default. See what is there with ./lab get pods -A\ns',
        ),
        (["pod/a", "b"], {}, "get pod/a b: 'b' is not KIND/NAME, as all others have to be then"),
        (["svc,ingresses"], {}, "get: 'ingresses' is not a kind that podlab shows"),
        (["pods", "cor-k8s"], {}, 'pods "cor-k8s" not found in namespace default. Did you mean core-k8s? See what is '),
        (["pods", "practice"], {}, ". Did you mean practice-2tmpn? See what is there with ./lab get pods -A"),
        (
            ["svc", "kube-dns"],
            {},
            'services "kube-dns" not found in namespace default, but in kube-system: -n kube-system. S',
        ),
        (["pods"], {"form": "xml"}, "-o xml: unable to match a printer. Use wide, json, yaml, name, jsonpath="),
        (["pods"], {"form": "custom-columns=A"}, "-o custom-columns=A: each column is TITLE:PATH. Write for example"),
        (["pods"], {"form": "jsonpath=.items"}, "-o jsonpath=.items: template format specified but no expression"),
        (["pods"], {"form": "jsonpath"}, "-o jsonpath: template format specified"),
        (["pods"], {"form": "jsonpath={.items[9]}"}, "array index out of bounds: index 9, length 6"),
    ],
)
def test_get_errors(there: Any, words: list[str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(PodlabError) as caught:
        get.get(words, **options)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("options", "said", "printed"),
    [
        ({"namespace": "empty"}, "No resources found in empty namespace.\n", ""),
        ({"selector": "a=b", "all_namespaces": True}, "No resources found.\n", ""),
    ],
)
def test_nothing_found_is_no_error(
    there: Any, capsys: pytest.CaptureFixture[str], options: dict[str, Any], said: str, printed: str
) -> None:
    get.get(["pods"], **options)
    assert capsys.readouterr() == (printed, said)
    get.get(["pods"], form="json", **options)
    assert json.loads(capsys.readouterr().out)["items"] == []


# status


def test_status_golden(there: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for node in there["nodes"]:
        node["start"] = 0
    status.status()
    golden("status", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("watcher", "said"),
    [
        ({"alive": True, "error": ""}, ""),
        ({"alive": True, "error": "no nat"}, "\nThe watcher could not sync: no nat\n"),
        (
            {"alive": False},
            "\nThe watcher is not running: Services, DNS and Jobs do not follow pods. Start it: ./lab up\n",
        ),
        (
            {"alive": False, "error": "it ended: Boom()"},
            "\nThe watcher is not running (it ended: Boom()): Services, DNS and Jobs do not follow pods. "
            "Start it: ./lab up\n",
        ),
    ],
)
def test_a_watcher_that_is_not_well_shows(watcher: dict[str, Any], said: str) -> None:
    assert status.watcher_line(watcher) == said


def test_status_as_data(there: Any, capsys: pytest.CaptureFixture[str]) -> None:
    status.status(form="json")
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "kind"
    assert {kind: len(found[kind]) for kind in objects.KINDS} == {
        **dict.fromkeys(objects.KINDS, 0),
        "pods": 7, "nodes": 3, "services": 2, "endpoints": 2, "endpointslices": 2, "namespaces": 4,
    }  # fmt: skip
    status.status(form="yaml")
    assert yaml.safe_load(capsys.readouterr().out) == found
    with pytest.raises(PodlabError, match="-o wide: unable to match a printer. Use table, json or yaml"):
        status.status(form="wide")


def test_status_on_a_terminal_has_the_same_words(
    there: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    status.status()
    text = capsys.readouterr().out
    for word in ("NODES", "kind-worker2", "CrashLoopBackOff", "2 (5s ago)", "53/UDP,53/TCP"):
        assert word in text
    assert any(line.split()[:3] == ["default", "web-7d4b9c6f5-abcde", "1/1"] for line in text.splitlines())


def test_output_is_kubectls_json() -> None:
    assert output.as_json({"b": 1, "a": ["é"]}) == '{\n    "a": [\n        "é"\n    ],\n    "b": 1\n}\n'
