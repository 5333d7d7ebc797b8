"""validate: any mix of files, every error with its place, nothing touched."""

from __future__ import annotations

import io
import pathlib

import pytest

from podlab.cli import validate
from podlab.errors import PodlabError

CONFIG = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n- role: worker\n"
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers: [{name: c, image: busybox}]\n"


@pytest.fixture
def here(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("PODLAB_CWD", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CONFIG, "ok, 1 cluster config"),
        (POD, "ok, 1 object"),
        (POD + "---\n" + POD.replace("name: a", "name: b"), "ok, 2 objects"),
        (f"# all of it\n---\n{CONFIG}---\n{POD}", "ok, 1 cluster config, 1 object"),
        ("---\n---\n" + POD + "---\n", "ok, 1 object"),
    ],
)
def test_sound_files(here: pathlib.Path, capsys: pytest.CaptureFixture[str], text: str, said: str) -> None:
    (here / "a.yaml").write_text(text)
    assert validate.validate(["a.yaml"]) == 0
    assert capsys.readouterr() == (f"a.yaml: {said}\n", "")


def test_every_error_of_every_file(here: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "lab").mkdir()
    (here / "good.yaml").write_text(POD.replace("name: a", "name: good"))
    (here / "lab" / "mix.yaml").write_text(
        f"{POD.replace('spec', 'spex', 1)}---\n{CONFIG.replace('role: worker', 'rolle: worker')}---\n{POD}"
    )
    (here / "lab" / "other.json").write_text(POD)
    (here / "lab" / "README").write_text("no manifest")
    assert validate.validate(["lab", "good.yaml", "none.yaml"]) == 1
    out, err = capsys.readouterr()
    assert out == "good.yaml: ok, 1 object\n"
    lines = err.splitlines()
    starts = (
        "none.yaml: no such file or directory",
        "lab/mix.yaml:4: Pod/a: spex: unknown field",
        "lab/mix.yaml:11: nodes[1].rolle: unknown field",
        "lab/other.json:1: Pod/a: the object is there twice, first at lab/mix.yaml:",
    )
    for start in starts:
        assert any(line.startswith(start) for line in lines), (start, lines)
    assert lines[-1] == f"{len(lines) - 1} errors"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is nothing in it"),
        ("# only words\n", "there is no object in it"),
        ("--- \n", "there is no object in it"),
        ("a: [", "a.yaml:2: not valid YAML"),
        ("kind: Cluster\nnodes: []\n", "a.yaml: apiVersion: must be kind.x-k8s.io"),
        (CONFIG.replace("nodes", "nodes: [") + "x", "a.yaml:"),
        ("just text\n", "must be a Kubernetes object"),
    ],
)
def test_files_that_are_neither(
    here: pathlib.Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    (here / "a.yaml").write_text(text)
    assert validate.validate(["a.yaml"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("a.yaml")


SERVICES = """apiVersion: v1
kind: Service
metadata: {name: far}
spec: {clusterIP: 10.96.1.1, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: dns}
spec: {clusterIP: 10.0.0.10, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: out}
spec: {type: NodePort, ports: [{port: 80, nodePort: 30080}]}
"""


def test_with_a_cluster_config_manifests_have_to_fit_it(here: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "services.yaml").write_text(f"{SERVICES}---\n{POD}  nodeSelector: {{disk: ssd}}\n")
    (here / "cluster.yaml").write_text(f"{CONFIG}networking: {{serviceSubnet: 10.0.0.0/24}}\n")
    assert validate.validate(["services.yaml", "cluster.yaml"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "services.yaml:4: Service/far: spec.clusterIP: must be in the service subnet 10.0.0.0/24, which 10.96.1.1 is "
        "not. Choose another, or leave it out to be given one",
        "services.yaml:9: Service/dns: spec.clusterIP: 10.0.0.10 is taken by the Service kube-system/kube-dns. "
        "Choose another, or leave it out to be given one",
        "services.yaml:21: Pod/a: spec.nodeSelector: no node of 2 can run the pod: kind-control-plane has no label "
        "disk (nodeSelector disk=ssd); kind-worker has no label disk (nodeSelector disk=ssd). "
        "Change nodeSelector or tolerations, or the labels of a node in the cluster config",
        "3 errors",
    ]
    # Of two configs nobody knows which one is meant; without one the subnet is not known.
    (here / "other.yaml").write_text(CONFIG)
    assert validate.validate(["services.yaml", "cluster.yaml", "other.yaml"]) == 0
    assert validate.validate(["services.yaml"]) == 0


def test_what_does_not_fit_is_said_when_the_rest_is_sound(
    here: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "all.yaml").write_text(f"{CONFIG}---\n{SERVICES.replace('10.0.0.10', '10.96.1.1')}")
    assert validate.validate(["all.yaml"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "all.yaml:15: Service/dns: spec.clusterIP: 10.96.1.1 is taken by the Service default/far. "
        "Choose another, or leave it out to be given one",
        "1 error",
    ]


def test_bytes_that_are_no_text(here: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a.yaml").write_bytes(b"\xff\xfe\x00")
    assert validate.validate(["a.yaml"]) == 1
    assert capsys.readouterr().err.startswith("a.yaml: cannot be read: 'utf-8' codec can't decode byte 0xff")


def test_a_directory_without_manifests(here: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate.validate(["."]) == 1
    assert ".: the directory has no file that ends in .yaml, .yml, .json" in capsys.readouterr().err


def test_standard_input(
    here: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(POD))
    assert validate.validate(["-"]) == 0
    assert capsys.readouterr().out == "<stdin>: ok, 1 object\n"


def test_a_warning_is_no_error(here: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a.yaml").write_text(POD.replace("name: a", "name: a, namespace: shop"))
    assert validate.validate(["a.yaml"]) == 0
    out, err = capsys.readouterr()
    assert out == "a.yaml: ok, 1 object\n"
    assert err.startswith("warning: a.yaml:3: Pod/shop/a: metadata.namespace: there is no namespace shop")


def test_nothing_to_validate() -> None:
    with pytest.raises(PodlabError, match="validate what"):
        validate.validate([])


def test_lines_keep_their_numbers_when_a_stream_is_split() -> None:
    configs, rest = validate.split(f"# one\n{POD}---\n{CONFIG}---\n{POD}")
    assert [text.count("\n") for text in (configs[0], rest)] == [12, 18]
    assert configs[0].splitlines()[7] == "kind: Cluster"
    assert rest.splitlines()[12:14] == ["---", "apiVersion: v1"]
