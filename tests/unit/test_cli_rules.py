"""`rules`: objects as kubectl prints them, one node's point of view, kube-proxy's own configuration."""

from __future__ import annotations

import io
import json
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from podlab.cli import rules
from podlab.cli.rules import Asked
from podlab.errors import PodlabError
from podlab.kube.iptables_save import parse_save
from podlab.kube.proxy_normal import normal_form
from podlab.runtime import paths
from support.planned import cluster

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "rules"


def objects() -> dict[str, Any]:
    """The golden List, parsed."""
    return yaml.safe_load((GOLDEN / "kubectl.yaml").read_text())  # type: ignore[no-any-return]


@pytest.fixture
def here(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("PODLAB_CWD", str(tmp_path))
    return tmp_path


class Run:
    """Runs the command in a directory and returns what it prints; keeps what it warned of."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.err = ""

    def __call__(self, *files: Any, **flags: Any) -> str:
        rules.rules(Asked([str(file) for file in files], **flags))
        out, self.err = self.capsys.readouterr()
        return out


@pytest.fixture
def run(here: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


def fault(*files: Any, **flags: Any) -> str:
    """The message of a command that fails."""
    with pytest.raises(PodlabError) as caught:
        rules.rules(Asked([str(file) for file in files], **flags))
    return caught.value.message


def write(place: pathlib.Path, name: str, *things: Any) -> str:
    (place / name).write_text(
        "\n---\n".join(thing if isinstance(thing, str) else yaml.safe_dump(thing) for thing in things)
    )
    return name


# ---- objects ----


@pytest.mark.parametrize(
    ("golden", "flags"),
    [
        ("kubectl.worker.txt", {"node": "worker"}),
        ("kubectl.worker2.txt", {"node": "worker2"}),
        ("kubectl.config.txt", {"node": "worker", "config": str(GOLDEN / "config.yaml")}),
        ("kubectl.config.ipv6.txt", {"node": "worker", "config": str(GOLDEN / "config.yaml"), "family": "ipv6"}),
        ("kubectl.features.txt", {"node": "worker", "features": ["random-fully", "nfacct"]}),
        ("kubectl.saved.txt", {"node": "worker", "save_form": True}),
    ],
)
def test_a_list_as_kubectl_prints_it(run: Run, golden: str, flags: dict[str, Any]) -> None:
    assert normal_form(run(GOLDEN / "kubectl.yaml", **flags)) == (GOLDEN / golden).read_text()
    assert (
        run.err == "warning: left out: 1 Endpoints, 1 Pod. kube-proxy reads Service, EndpointSlice, Node, ServiceCIDR\n"
    )


@pytest.mark.parametrize("features", [["nfacct", "random-fully"], ["random-fully,nfacct"], ["random-fully", "more"]])
def test_features_in_any_way_they_may_be_typed(run: Run, features: list[str]) -> None:
    words = ["nfacct"] if "more" in features else []
    given = [name for name in features if name != "more"]
    text = run(GOLDEN / "kubectl.yaml", *words, node="worker", features=given)
    assert normal_form(text) == (GOLDEN / "kubectl.features.txt").read_text()


def test_the_same_objects_in_other_wrappings(run: Run, here: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(GOLDEN / "kubectl.yaml", node="worker")
    items = objects()["items"]
    assert run(write(here, "many.yaml", "---", *items, "---\n# nothing\n"), node="worker") == whole
    (here / "list.json").write_text(json.dumps(objects(), indent="\t"))
    assert run("list.json", node="worker") == whole
    (here / "parts").mkdir()
    for number, item in enumerate(items):
        (here / "parts" / f"{number:02}.json").write_text(json.dumps(item))
    assert run("parts", node="worker") == whole
    assert run(*(f"parts/{number:02}.json" for number in range(len(items))), node="worker") == whole
    typed = [
        {
            "apiVersion": version,
            "kind": f"{kind}List",
            "items": [
                {key: value for key, value in item.items() if key not in ("apiVersion", "kind")}
                for item in items
                if item["kind"] == kind
            ],
        }
        for kind, version in (("Service", "v1"), ("EndpointSlice", "discovery.k8s.io/v1"), ("Node", "v1"))
    ]
    assert run(write(here, "typed.yaml", *typed), node="worker") == whole
    assert run.err == ""
    nested = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [objects(), {"apiVersion": "v1", "kind": "PodList", "items": None}],
    }
    assert run(write(here, "nested.yaml", nested), node="worker") == whole
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(objects())))
    assert run("-", node="worker") == whole


def test_an_empty_list_has_the_rules_that_are_always_there(run: Run, here: pathlib.Path) -> None:
    text = run(write(here, "none.yaml", {"apiVersion": "v1", "kind": "List", "items": []}))
    assert "-A KUBE-MARK-MASQ -j MARK --or-mark 0x00004000" in text and "--random-fully" not in text
    assert run.err == ""


def test_a_service_that_was_never_in_a_cluster_is_a_warning(run: Run, here: pathlib.Path) -> None:
    new = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "new"}, "spec": {"ports": [{"port": 80}]}}
    assert "default/new" not in run(write(here, "new.yaml", new))
    assert run.err == (
        "warning: new.yaml:5: Service/new: spec.clusterIP: is missing, so kube-proxy writes no rule for this Service. "
        "Take the Service from a cluster (kubectl get service -o yaml), or give it an address\n"
    )


def test_every_error_at_once_with_its_place(here: pathlib.Path) -> None:
    (here / "bad.yaml").write_text((GOLDEN / "bad.yaml").read_text())
    (here / "syntax.yaml").write_text("a: [\n")
    (here / "empty.yaml").write_text("# nothing\n")
    assert f"{fault('bad.yaml', 'syntax.yaml', 'empty.yaml')}\n" == (GOLDEN / "bad.txt").read_text()


@pytest.mark.parametrize(
    ("metadata", "ports", "said"),
    [
        ({"name": 'a" -j ACCEPT'}, [{"port": 80}], "metadata.name: must be lower case letters, digits and '-'"),
        ({"name": "a", "namespace": "b\nCOMMIT"}, [{"port": 80}], "metadata.namespace: must be lower case"),
        ({"name": "a"}, [{"port": 80, "name": "x y"}], "spec.ports[0].name: must be lower case letters, digits"),
        ({"name": "a"}, [{"port": 1}, {"port": 2, "name": "x"}], "spec.ports[0].name: is required when a Service has"),
        ({"name": "a"}, [{"port": p, "name": "x"} for p in (1, 2)], "the port name 'x' is there twice, first at ports"),
        (
            {"name": "a"},
            [{"port": 1, "name": name} for name in "xy"],
            "spec.ports[1].port: port 1/TCP clashes with ports[0] of this Service",
        ),
    ],
)  # fmt: skip
def test_names_that_would_break_the_rules(
    here: pathlib.Path, metadata: dict[str, str], ports: list[dict[str, Any]], said: str
) -> None:
    spec = {"clusterIP": "10.96.0.9", "ports": ports}
    new = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    assert said in fault(write(here, "new.yaml", new))


# ---- nodes ----


def test_which_node(run: Run, here: pathlib.Path) -> None:
    listed = "Nodes in the files: worker, worker2"
    assert fault(GOLDEN / "kubectl.yaml") == f"The rules differ from node to node. Say which with --node. {listed}"
    assert fault(GOLDEN / "kubectl.yaml", node="w").startswith(
        f"--node w: no Node object has that name. {listed}. Add it"
    )
    items = objects()["items"]
    only = [item for item in items if item["metadata"]["name"] != "worker2" or item["kind"] != "Node"]
    assert run(write(here, "one.yaml", *only)) == run(GOLDEN / "kubectl.yaml", node="worker")
    nobody = [item for item in items if item["kind"] != "Node"]
    text = run(write(here, "none.yaml", *nobody))
    assert "default/web:http has no local endpoints" in text and "KUBE-SVL-" not in text


def test_the_family_is_that_of_the_nodes_first_address(run: Run, here: pathlib.Path) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "six"}}
    node["status"] = {
        "addresses": [{"type": "ExternalIP", "address": "192.0.2.1"}, {"type": "InternalIP", "address": "fd00::2"}]
    }
    assert "! -d ::1/128" in run(write(here, "node.yaml", node))
    assert "::1" not in run("node.yaml", family="ipv4")


# ---- config ----

HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("clusterCIDR: 10.244.0.0/16\n", ["! -s 10.244.0.0/16"]),
        ("clusterCIDR: fd00:10::/56,10.244.0.0/16\n", ["! -s 10.244.0.0/16"]),
        ("clusterCIDR: fd00:10::/56\n", []),
        ("clusterCIDR: 10.244.0.0/16\niptables: {masqueradeAll: true}\n", ["http cluster IP.*80 -j KUBE-MARK-MASQ"]),
        ("detectLocalMode: NodeCIDR\n", ["! -s 10.244.1.0/24"]),
        ("detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cbr0}\n", ["! -i cbr0 "]),
        ("detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}\n", [r"! -i veth\+ "]),
        ("nodePortAddresses: [primary]\n", ["chain\" -d 172.18.0.3 -j KUBE-NODEPORTS"]),
        ("nodePortAddresses: [primary]\nbindAddress: 203.0.113.7\n", ["chain\" -d 203.0.113.7 -j KUBE-NODEPORTS"]),
        ("nodePortAddresses: [203.0.113.0/24]\n", ["chain\" -d 203.0.113.7 -j KUBE-NODEPORTS"]),
        ("iptables: {masqueradeBit: 5}\n", ["--or-mark 0x00000020"]),
        ("iptables: {localhostNodePorts: false}\n", ["! -d 127.0.0.0/8 -j KUBE-NODEPORTS"]),
        ("mode: iptables\nfeatureGates: {X: true}\nipvs: {syncPeriod: 30s}\nwinkernel: {anything: 1}\n", []),
        (
            "bindAddress: 0.0.0.0\nclusterCIDR: ''\ndetectLocal: {bridgeInterface: '', interfaceNamePrefix: ''}\n"
            "detectLocalMode: ''\nmode: ''\nnodePortAddresses: null\noomScoreAdj: null\nportRange: ''\n"
            "conntrack: {maxPerCore: null, min: null, tcpCloseWaitTimeout: null}\nconfigSyncPeriod: 0s\n"
            "iptables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}\n",
            [],
        ),
    ],
)  # fmt: skip
def test_config(run: Run, here: pathlib.Path, text: str, words: list[str]) -> None:
    plain = run(GOLDEN / "kubectl.yaml", node="worker")
    made = run(GOLDEN / "kubectl.yaml", node="worker", config=write(here, "proxy.yaml", HEAD + text))
    for word in words:
        assert re.search(word, made) and not re.search(word, plain), word
    assert words or made == plain


def test_liberal_conntrack_lets_invalid_packets_pass(run: Run, here: pathlib.Path) -> None:
    config = write(here, "proxy.yaml", HEAD + "conntrack: {tcpBeLiberal: true}\n")
    assert "INVALID" in run(GOLDEN / "kubectl.yaml", node="worker")
    assert "INVALID" not in run(GOLDEN / "kubectl.yaml", node="worker", config=config)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + "clusterCidr: a\n", ["proxy.yaml:3: clusterCidr: unknown field. Did you mean clusterCIDR?"]),
        (
            HEAD
            + "clusterCIDR: 10.244.0.0\niptables: {masqueradeBit: 32, masqueradeAll: all, masquerade: 1}\nmode: ebpf\n",
            [
                "proxy.yaml:3: clusterCIDR: must be an address range like 10.244.0.0/16, or one of each family with a "
                "comma, not '10.244.0.0'",
                "proxy.yaml:4: iptables.masqueradeAll: must be true or false, not 'all'",
                "proxy.yaml:4: iptables.masquerade: unknown field. Did you mean masqueradeBit?",
                "proxy.yaml:4: iptables.masqueradeBit: must be from 0 to 31, not 32",
                "proxy.yaml:5: mode: must be one of iptables, nftables, ipvs, not 'ebpf'",
            ],
        ),
        (HEAD + "clusterCIDR: 10.0.0.0/8,10.1.0.0/16\n", ["clusterCIDR: must have one range of each family at most"]),
        (
            HEAD + "nodePortAddresses: [primary, 10.0.0.0]\n",
            ["nodePortAddresses[0]: primary must be the only entry", "nodePortAddresses[1]: must be an address range"],
        ),
        (HEAD + "detectLocalMode: bridge\n", ["detectLocalMode: must be one of ClusterCIDR, NodeCIDR, "]),
        (
            HEAD + "bindAddress: a%b\ndetectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: 'b{r}'}\n",
            [
                "proxy.yaml:3: bindAddress: must be an IP address, not 'a%b'",
                "proxy.yaml:5: detectLocal.bridgeInterface: must be part of an interface's name, at most 15 characters",
            ],
        ),
        (HEAD + "detectLocalMode: BridgeInterface\n", ["detectLocal.bridgeInterface: is missing. detect"]),
        (
            HEAD + "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: fifteen-letters}\n",
            ["detectLocal.interfaceNamePrefix: must be part of an interface's name, at most 14 characters"],
        ),
        ("apiVersion: v1\nkind: ConfigMap\n", ["kind: must be one of KubeProxyConfiguration, not 'ConfigMap'. Take"]),
        ("kind: KubeProxyConfiguration\n", ["apiVersion: is required and missing. --config takes a "]),
        (HEAD.replace("alpha1", "alpha2"), ["apiVersion: must be one of kubeproxy.config.k8s.io/v1alpha1, not"]),
        ("- 1\n", ["must be one KubeProxyConfiguration, not a list"]),
        ("", ["must be one KubeProxyConfiguration, not 0 documents"]),
        (HEAD + "---\n" + HEAD, ["must be one KubeProxyConfiguration, not 2 documents"]),
    ],
)  # fmt: skip
def test_bad_config(here: pathlib.Path, text: str, said: list[str]) -> None:
    message = fault(GOLDEN / "kubectl.yaml", node="worker", config=write(here, "proxy.yaml", text))
    for words in said:
        assert words in message
    assert len(re.findall(r"proxy\.yaml\b", message)) >= len(said)


def test_node_cidr_needs_a_node(here: pathlib.Path) -> None:
    config = write(here, "proxy.yaml", HEAD + "detectLocalMode: NodeCIDR\n")
    empty = write(here, "none.yaml", {"apiVersion": "v1", "kind": "List", "items": []})
    assert fault(empty, config=config).startswith("detectLocalMode NodeCIDR: there is no Node with spec.podCIDRs")


# ---- flags ----


def test_bad_flags_all_at_once(here: pathlib.Path) -> None:
    message = fault("none.yaml", family="ipv5", mode="bpf", features=["nfacct", "magic"], name="kind")
    assert message.splitlines() == [
        "--ip-family ipv5: must be one of ipv4, ipv6",
        "--mode bpf: must be one of iptables, nftables",
        "--kernel-feature magic: must be one of random-fully, nfacct",
        "--name: is for the rules of a running lab, and with -f no lab is looked at. Leave one of them out",
    ]
    assert fault("x", mode="ipvs").startswith("--mode ipvs: podlab has no ipvs mode: ")
    assert fault("x", mode="nftables", save_form=True).startswith("--save-form: is for mode iptables")


def test_ipvs_of_the_config_is_refused_unless_the_flag_says_otherwise(run: Run, here: pathlib.Path) -> None:
    config = write(here, "proxy.yaml", HEAD + "mode: ipvs\n")
    assert fault(GOLDEN / "kubectl.yaml", node="worker", config=config).startswith("mode ipvs: podlab has no ipvs mode")
    assert run(GOLDEN / "kubectl.yaml", node="worker", config=config, mode="iptables").startswith("*filter\n")


def test_nftables(run: Run, here: pathlib.Path) -> None:
    cidr = {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"}}
    cidr["spec"] = {"cidrs": ["10.96.0.0/16", "fd00:10:96::/112"]}
    config = write(here, "proxy.yaml", HEAD + "mode: nftables\nnftables: {masqueradeAll: true, masqueradeBit: 3}\n")
    made = run(GOLDEN / "kubectl.yaml", write(here, "cidr.yaml", cidr), node="worker", config=config)
    assert "service-" in made and "mark or 0x00000008" in made.replace("0x8", "0x00000008")
    assert "10.96.0.0/16" in made and "fd00" not in made
    assert "10.96.0.0/16" not in run(GOLDEN / "kubectl.yaml", node="worker", mode="nftables")
    assert fault(GOLDEN / "kubectl.yaml", node="worker", config=config, save_form=True).startswith(
        "--save-form: is for"
    )


def test_files_that_are_not_there(here: pathlib.Path) -> None:
    assert fault("none.yaml").startswith("none.yaml: no such file or directory")
    write(here, "empty.yaml", "")
    assert "none.yaml: no such file or directory" in fault("empty.yaml", config="none.yaml")


def test_without_files_a_lab_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert fault() == "Reading a lab needs root: run it with sudo. Without a lab: give files with -f"


def test_what_is_made_from_files_needs_little() -> None:
    code = (
        "import sys; from podlab.cli import rules; rules.rules(rules.Asked([sys.argv[1]], 'worker'));"
        "print([name for name in ('ansible', 'rich', 'podlab.service_plan') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(GOLDEN / "kubectl.yaml")], capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == "[]"
    assert set(parse_save(done.stdout)) == {"filter", "nat"}


def test_a_lab_that_is_half_made_is_no_traceback(monkeypatch: pytest.MonkeyPatch, podlab_roots: pathlib.Path) -> None:
    """Without its record the nodes are not known; without programmed Services there is nothing but the fixed chains."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    record = pathlib.Path(paths.cluster_file("kind"))
    record.parent.mkdir(parents=True)
    monkeypatch.setattr("podlab.runtime.state.labs", lambda: ["kind"])
    with pytest.raises(PodlabError, match="The lab kind is half made. Finish it with ./lab up"):
        rules.rules(Asked())
    record.write_text(json.dumps(cluster().to_dict()))
    [view] = rules._from_lab(Asked(features=["random-fully"]))
    assert not view.services and not view.slices
