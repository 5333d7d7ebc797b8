"""kind-config: what is read, as kind's own decoder reads it."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.kube.kind_types import JSON6902, Config, NodeConfig
from podlab.kube.kindconfig import load

HEAD = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n"


def config(text: str) -> Config:
    """The config of the text, which has no error."""
    found, problems = load(HEAD + text, "cluster.yaml")
    assert [str(problem) for problem in problems if problem.level == "error"] == []
    return found


def errors(text: str, head: str = HEAD) -> list[str]:
    """The errors of the text, without the file's name."""
    problems = load(head + text, "f")[1]
    return [str(problem)[2:] for problem in problems if problem.level == "error"]


def reads(text: str) -> bool:
    """True when nothing is wrong with types and fields."""
    return not any("must be" in error or "unknown field" in error for error in errors(text))


def test_defaults() -> None:
    found = config("")
    assert found == Config()
    assert found.name == "kind"
    assert [node.role for node in found.nodes] == ["control-plane"]
    networking = found.networking
    assert (networking.pod_subnet, networking.service_subnet) == ("10.244.0.0/16", "10.96.0.0/16")
    assert (networking.ip_family, networking.api_server_port, networking.api_server_address) == ("ipv4", 0, "127.0.0.1")
    assert (networking.kube_proxy_mode, networking.disable_default_cni, networking.dns_search) == (
        "iptables",
        False,
        None,
    )


@pytest.mark.parametrize(
    ("family", "pods", "services", "api"),
    [
        ("ipv6", "fd00:10:244::/56", "fd00:10:96::/112", "::1"),
        ("dual", "10.244.0.0/16,fd00:10:244::/56", "10.96.0.0/16,fd00:10:96::/112", "127.0.0.1"),
        ("IPv4", "10.244.0.0/16", "10.96.0.0/16", "127.0.0.1"),
    ],
)
def test_defaults_of_a_family(family: str, pods: str, services: str, api: str) -> None:
    networking = load(f"{HEAD}networking: {{ipFamily: {family}}}", "f")[0].networking
    assert (networking.pod_subnet, networking.service_subnet, networking.api_server_address) == (pods, services, api)


def test_a_default_that_is_written_is_not_changed_to_the_familys() -> None:
    networking = load(f"{HEAD}networking: {{ipFamily: ipv6, podSubnet: 10.244.0.0/16}}", "f")[0].networking
    assert networking.pod_subnet == "10.244.0.0/16"


@pytest.mark.parametrize(
    "text", ["nodes: []\n", "nodes: ~\n", "nodes:\n", "nodes: [~]\n", "networking: ~\n", "name: ''\n"]
)
def test_empty_and_null_are_the_default(text: str) -> None:
    assert config(text) == Config()


def test_empty_fields_are_defaults() -> None:
    assert (
        config("nodes: [{role: '', image: ''}]\nnetworking: {ipFamily: '', kubeProxyMode: '', podSubnet: ~}\n")
        == Config()
    )


def test_every_field_is_read() -> None:
    patch = "[{group: kubeadm.k8s.io, version: v1beta3, kind: ClusterConfiguration, patch: p}]"
    found, problems = load(
        HEAD
        + f"""
name: lab
featureGates: {{A: true, B: false}}
runtimeConfig: {{api/alpha: "false"}}
kubeadmConfigPatches: [a, b]
kubeadmConfigPatchesJSON6902: {patch}
containerdConfigPatches: [c]
containerdConfigPatchesJSON6902: {patch}
networking:
  ipFamily: ipv4
  apiServerPort: 6443
  apiServerAddress: 127.0.0.2
  podSubnet: 10.1.0.0/16
  serviceSubnet: 10.2.0.0/16
  disableDefaultCNI: true
  kubeProxyMode: none
  dnsSearch: [a.example, b.example]
nodes:
- role: control-plane
  image: kindest/node:v1
  labels: {{tier: front, n: 1}}
  kubeadmConfigPatches: [x]
  kubeadmConfigPatchesJSON6902: {patch}
  extraMounts:
  - {{containerPath: /c, hostPath: /h, readOnly: true, selinuxRelabel: true, propagation: HostToContainer}}
  extraPortMappings:
  - {{containerPort: 80, hostPort: 8080, listenAddress: 127.0.0.1, protocol: udp}}
- role: worker
""",
        "f",
    )
    assert {problem.place for problem in problems if problem.level == "error"} == {
        "networking.disableDefaultCNI",
    }
    json_patch = (JSON6902("kubeadm.k8s.io", "v1beta3", "ClusterConfiguration", "p"),)
    assert found.name == "lab"
    assert (found.feature_gates, found.runtime_config) == ({"A": True, "B": False}, {"api/alpha": "false"})
    assert found.kubeadm_config_patches == ("a", "b")
    assert found.kubeadm_config_patches_json6902 == found.containerd_config_patches_json6902 == json_patch
    assert found.containerd_config_patches == ("c",)
    assert found.networking == (
        "ipv4",
        6443,
        "127.0.0.2",
        "10.1.0.0/16",
        "10.2.0.0/16",
        True,
        "none",
        ("a.example", "b.example"),
    )
    node = found.nodes[0]
    assert (node.role, node.image, node.labels) == ("control-plane", "kindest/node:v1", {"tier": "front", "n": "1"})
    assert node.extra_mounts == (("/c", "/h", True, True, "HostToContainer"),)
    assert node.extra_port_mappings == ((80, 8080, "127.0.0.1", "UDP"),)
    assert (node.kubeadm_config_patches, node.kubeadm_config_patches_json6902) == (("x",), json_patch)
    assert found.nodes[1] == NodeConfig(role="worker")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nmae: x", "3: nmae: unknown field. Did you mean name?"),
        ("nodes:\n- roel: worker", "4: nodes[0].roel: unknown field. Did you mean role?"),
        (
            "networking:\n  podsubnet: x",
            "4: networking.podsubnet: unknown field. Write podSubnet: upper and lower case matter",
        ),
        ("Name: x", "3: Name: unknown field. Write name: upper and lower case matter"),
        ("podSubnet: x", "3: podSubnet: unknown field. It belongs in networking"),
        (
            "nodes:\n- extraMounts:\n  - zzz: 1",
            "5: nodes[0].extraMounts[0].zzz: unknown field. Known here: "
            "containerPath, hostPath, readOnly, selinuxRelabel, propagation",
        ),
        ("name: a\nname: b", "4: name: the key is there twice, first in line 3. Remove one of them"),
    ],
)
def test_unknown_and_double_fields(text: str, expected: str) -> None:
    assert any(error.startswith(expected) for error in errors(text)), errors(text)


def test_json6902_has_no_name_and_namespace() -> None:
    found = errors("containerdConfigPatchesJSON6902: [{name: a, namespace: b}]")
    assert len(found) == 2 and all("unknown field" in error for error in found)


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "---\n---\nkind: Cluster\n"])
def test_an_empty_document_has_no_api_version(text: str) -> None:
    assert errors(text, head="")[0].startswith(" apiVersion: must be kind.x-k8s.io/v1alpha4, not empty")


def test_wrong_kind_names_both_and_nothing_else_is_said() -> None:
    assert errors("kind: Clusters\napiVersion: kind.x-k8s.io/v1alpha4\nspec: {}\n", head="") == [
        "1: kind: must be Cluster for kind.x-k8s.io/v1alpha4, not 'Clusters'. Write kind: Cluster"
    ]


@pytest.mark.parametrize("version", ["kind.x-k8s.io/v1alpha3", "v1", "Kind.x-k8s.io/v1alpha4"])
def test_wrong_api_version(version: str) -> None:
    found = errors(f"kind: Cluster\napiVersion: {version}\n", head="")
    assert len(found) == 1 and repr(version) in found[0]


@pytest.mark.parametrize("text", ["- a\n", "text\n", "[]\n"])
def test_a_document_that_is_no_mapping(text: str) -> None:
    assert "must be a mapping, not" in errors(text, head="")[0]


@pytest.mark.parametrize("rest", ["---\n:::: [\n", "...\n\x01\n", "---\nkind: Pod\n", "--- {a: \n"])
def test_only_the_first_document_is_read(rest: str) -> None:
    found, problems = load(f"{HEAD}name: one\n{rest}", "f")
    assert found.name == "one"
    assert [problem.level for problem in problems] == ["warning"]


def test_a_lone_separator_is_no_second_document() -> None:
    assert load(f"---\n{HEAD}---\n", "f")[1] == []


def test_comments_before_the_separator_are_no_document() -> None:
    assert load(f"# about\n\n---\n{HEAD}", "f")[1] == []


def test_json_anchors_and_merge_keys_are_accepted() -> None:
    assert config("").nodes == load('{"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4"}', "f")[0].nodes
    found = config("nodes:\n- &first\n  role: control-plane\n  labels: {a: b}\n- <<: *first\n  role: worker\n")
    assert [(node.role, node.labels) for node in found.nodes] == [("control-plane", {"a": "b"}), ("worker", {"a": "b"})]


def test_null_items_are_dropped_and_null_keys_vanish() -> None:
    assert errors("nodes: [~, {role: worker}]\n") == [
        "3: nodes: must have at least one control-plane node. Add an item: role: control-plane"
    ]
    assert config("nodes: [{labels: {~: a, b: c}}]").nodes[0].labels == {"b": "c"}
    assert config("networking: {dnsSearch: [~, a]}").networking.dns_search == ("a",)


def port(written: str) -> Any:
    """hostPort as it was read."""
    return (
        load(f"{HEAD}nodes: [{{extraPortMappings: [{{containerPort: 1, hostPort: {written}}}]}}]", "f")[0]
        .nodes[0]
        .extra_port_mappings[0][1]
    )


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("6443", 6443),
        ("6443.0", 6443),
        ("6443.5", 6443),
        ("0x10", 16),
        ("0o17", 15),
        ("017", 15),
        ("0b11", 3),
        ("1_000", 1000),
        ("-1", -1),
        ("+7", 7),
        ("1e3", 1000),
        ("~", 0),
    ],
)
def test_int32(written: str, number: int) -> None:
    assert port(written) == number
    assert reads(f"nodes: [{{extraPortMappings: [{{containerPort: 1, hostPort: {written}}}]}}]")


@pytest.mark.parametrize(
    "written",
    ["'6443'", '"80"', "2147483648", "-2147483649", "99999999999999999999", "x", "yes", "[1]", ".inf", "1:30"],
)
def test_not_int32(written: str) -> None:
    assert (
        not reads(f"networking: {{apiServerPort: {written}}}")
        or "32 bits" in errors(f"networking: {{apiServerPort: {written}}}")[0]
    )


TRUE_WORDS = ["true", "True", "TRUE", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "'yes'", '"on"', "'y'"]
FALSE_WORDS = ["false", "False", "FALSE", "n", "N", "no", "No", "NO", "off", "Off", "OFF", "'no'", '"off"', "~"]


@pytest.mark.parametrize(
    ("written", "value"), [*((word, True) for word in TRUE_WORDS), *((word, False) for word in FALSE_WORDS)]
)
def test_bool(written: str, value: bool) -> None:
    assert config(f"featureGates: {{A: {written}}}").feature_gates == {"A": value}


@pytest.mark.parametrize("written", ['"true"', "'false'", "1", "0", "tRUE", "yEs", "x", "[]", "{}"])
def test_not_bool(written: str) -> None:
    assert not reads(f"featureGates: {{A: {written}}}")


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("1", "1"),
        ("true", "true"),
        ("yes", "yes"),
        ("1.50", "1.50"),
        ("2001-01-01", "2001-01-01"),
        ("0x10", "0x10"),
        ("~", ""),
        ("null", ""),
        ("", ""),
        ("'~'", "~"),
        ("'null'", "null"),
    ],
)
def test_text_stays_as_written(written: str, text: str) -> None:
    found = load(f"{HEAD}runtimeConfig: {{a: {written}}}\nnodes:\n- labels:\n    k: {written}\n", "f")[0]
    assert found.runtime_config == {"a": text}
    assert found.nodes[0].labels == {"k": text}


@pytest.mark.parametrize("written", ["[a]", "{a: b}"])
def test_not_text(written: str) -> None:
    assert not reads(f"name: {written}")


@pytest.mark.parametrize(
    "text",
    [
        "nodes: {role: worker}",
        "nodes: worker",
        "nodes: [worker]",
        "networking: []",
        "networking: x",
        "featureGates: [A]",
        "networking: {dnsSearch: foo}",
        "kubeadmConfigPatches: x",
        "nodes: [{labels: [a]}]",
    ],
)
def test_wrong_shapes(text: str) -> None:
    assert not reads(text)


def test_dns_search_absent_and_empty_differ() -> None:
    assert config("networking: {}").networking.dns_search is None
    assert config("networking: {dnsSearch: ~}").networking.dns_search is None
    assert config("networking: {dnsSearch: []}").networking.dns_search == ()


@pytest.mark.parametrize(
    "text",
    [
        "%YAML 1.2\n---\n" + HEAD,
        HEAD + 'name: "a\\/b"\n',
        HEAD + "\tname: x\n",
        HEAD + "name: !!python/object:os.system x\n",
        HEAD + "name: [\n",
        "[" * 100_000,
        HEAD + "name: *gone\n",
    ],
)
def test_what_go_yaml_refuses(text: str) -> None:
    assert errors(text, head="")


@pytest.mark.parametrize("word", ["none", "bidirectional", "hosttocontainer", "rshared"])
def test_propagation_is_case_sensitive(word: str) -> None:
    found = errors(f"nodes: [{{extraMounts: [{{containerPath: /a, hostPath: /b, propagation: {word}}}]}}]")
    assert found == [
        f"3: nodes[0].extraMounts[0].propagation: must be None, HostToContainer or Bidirectional, not {word!r}"
    ]


@pytest.mark.parametrize(("word", "stored"), [("tcp", "TCP"), ("Udp", "UDP"), ("SCTP", "SCTP"), ("''", ""), ("~", "")])
def test_protocol_in_any_case_is_stored_upper(word: str, stored: str) -> None:
    found = load(f"{HEAD}nodes: [{{extraPortMappings: [{{protocol: {word}}}]}}]", "f")[0]
    assert found.nodes[0].extra_port_mappings[0].protocol == stored


def test_a_wrong_protocol_is_an_error_of_reading() -> None:
    assert "must be TCP, UDP or SCTP, not 'icmp'" in errors("nodes: [{extraPortMappings: [{protocol: icmp}]}]")[0]


def test_the_name_given_from_outside_wins_and_is_not_blamed_on_the_file() -> None:
    found, problems = load(f"{HEAD}name: file\n", "f", name="env")
    assert (found.name, problems) == ("env", [])
    problem = load(f"{HEAD}name: file\n", "f", name="E N V")[1][0]
    assert (problem.place, problem.file, problem.line) == ("name", "", 0)
