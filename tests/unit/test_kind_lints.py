"""What kind leaves unsaid, and what podlab cannot do: every text that a user sees is in golden/kind."""

from __future__ import annotations

import pathlib

import pytest

from podlab.kube.kind_lints import label_key_fault, label_value_fault
from podlab.kube.kindconfig import load

HEAD = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n"
GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "kind"


def problems(text: str, level: str = "error") -> dict[str, str]:
    """Place -> message of the problems of that level."""
    return {problem.place: problem.message for problem in load(HEAD + text, "f")[1] if problem.level == level}


@pytest.mark.parametrize("case", sorted(path.stem for path in GOLDEN.glob("*.yaml")))
def test_golden_messages(case: str) -> None:
    found = load((GOLDEN / f"{case}.yaml").read_text(encoding="utf-8"), f"{case}.yaml")[1]
    said = "".join(f"{problem.level}: {problem}\n" for problem in found)
    assert said == (GOLDEN / f"{case}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["-", ".", "..", "a..b", "-a", ".a", "a.", "a-.b"])
def test_names_that_make_no_host_name(name: str) -> None:
    assert "makes no host name" in problems(f"name: '{name}'")["name"]


def test_a_name_that_makes_host_names_too_long() -> None:
    assert problems(f"name: {'a' * 49}") == {}
    assert "64 characters; a host name has at most 63" in problems(f"name: {'a' * 50}")["name"]


@pytest.mark.parametrize(
    ("pods", "services", "clash"),
    [
        ("10.96.0.0/12", "10.96.0.0/16", True),
        ("10.96.0.0/16", "10.96.128.0/17", True),
        ("10.96.0.0/17", "10.96.128.0/17", False),
    ],
)
def test_pod_and_service_overlap(pods: str, services: str, clash: bool) -> None:
    found = problems(f"networking: {{podSubnet: {pods}, serviceSubnet: {services}}}")
    assert ("networking.serviceSubnet" in found) is clash


def test_the_overlap_with_a_default_is_told_of_the_field_that_is_written() -> None:
    assert list(problems("networking: {podSubnet: 10.96.0.0/16}")) == ["networking.podSubnet"]


@pytest.mark.parametrize(
    ("subnet", "nodes", "words"),
    [
        ("10.0.0.0/24", 1, ""),
        ("10.0.0.0/25", 1, "smaller than the /24"),
        ("10.0.0.0/24", 2, "has room for 1 nodes of /24 each, the config has 2"),
        ("10.0.0.0/23", 2, ""),
        ("10.0.0.0/23", 3, "has room for 2 nodes of /24 each, the config has 3"),
        ("10.0.0.0/22", 4, ""),
        ("128.0.0.0/7", 1, "is too large"),
        ("128.0.0.0/8", 1, ""),
    ],
)
def test_pod_subnet_and_node_count(subnet: str, nodes: int, words: str) -> None:
    roles = ", ".join(["{role: control-plane}"] * nodes)
    found = problems(f"nodes: [{roles}]\nnetworking: {{podSubnet: {subnet}, serviceSubnet: 172.30.0.0/16}}")
    assert (words in found["networking.podSubnet"]) if words else found == {}


@pytest.mark.parametrize(
    ("subnet", "words"),
    [("10.0.0.0/28", ""), ("10.0.0.0/29", "no tenth address"), ("10.16.0.0/12", ""), ("10.0.0.0/11", "is too large")],
)
def test_service_subnet_size(subnet: str, words: str) -> None:
    found = problems(f"networking: {{podSubnet: 192.168.0.0/16, serviceSubnet: {subnet}}}")
    assert (words in found["networking.serviceSubnet"]) if words else found == {}


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ("hostPort: 80", "hostPort: 80", True),
        ("hostPort: 80, protocol: tcp", "hostPort: 80", True),
        ("hostPort: 80, protocol: udp", "hostPort: 80", False),
        ("hostPort: 0", "hostPort: 0", False),
        ("hostPort: 80, listenAddress: 127.0.0.1", "hostPort: 80, listenAddress: 127.0.0.2", False),
        ("hostPort: 80, listenAddress: '::'", "hostPort: 80, listenAddress: 127.0.0.2", True),
    ],
)
def test_host_ports_clash_between_nodes(first: str, second: str, clash: bool) -> None:
    found = problems(f"nodes: [{{extraPortMappings: [{{{first}}}]}}, {{extraPortMappings: [{{{second}}}]}}]")
    place = "nodes[1].extraPortMappings[0].hostPort"
    assert (place in found) is clash
    if clash:
        assert "is mapped on nodes[0], too" in found[place]


def test_an_empty_protocol_is_tcp() -> None:
    found = problems("nodes: [{extraPortMappings: [{hostPort: 80}, {hostPort: 80, protocol: TCP}]}]")
    assert "80 TCP is mapped on this node, too" in found["nodes[0].extraPortMappings[1].hostPort"]


@pytest.mark.parametrize("address", ["localhost", "127.0.0", "::1%lo", "01.2.3.4"])
def test_api_server_address(address: str) -> None:
    assert (
        "must be an IP address"
        in problems(f"networking: {{apiServerAddress: '{address}'}}")["networking.apiServerAddress"]
    )


@pytest.mark.parametrize(
    ("mount", "field", "words"),
    [
        ("containerPath: /a, hostPath: ''", "hostPath", "must not be empty"),
        ("hostPath: /a", "containerPath", "must not be empty"),
        ("containerPath: a, hostPath: /a", "containerPath", "must be an absolute path, not 'a'"),
        ("containerPath: /a, hostPath: ./a", "hostPath", "must be an absolute path, not './a'"),
        ("containerPath: /a, hostPath: ~/a", "hostPath", "must be an absolute path, not '~/a'"),
        ("containerPath: //, hostPath: /a", "containerPath", "must not be /"),
        ("containerPath: /x/.., hostPath: /a", "containerPath", "must not be /"),
        ('containerPath: "/a\\nb", hostPath: /a', "containerPath", "must be one line of text"),
    ],
)
def test_mount_paths(mount: str, field: str, words: str) -> None:
    found = problems(f"nodes: [{{extraMounts: [{{{mount}}}]}}]")
    assert list(found) == [f"nodes[0].extraMounts[0].{field}"]
    assert words in found[f"nodes[0].extraMounts[0].{field}"]


def test_the_same_container_path_twice_however_it_is_written() -> None:
    found = problems(
        "nodes:\n- extraMounts:\n  - {containerPath: /a/b, hostPath: /x}\n  - {containerPath: /a/./b/, hostPath: /y}\n"
    )
    assert found == {"nodes[0].extraMounts[1].containerPath": "/a/./b/ is mounted on twice, first in line 5"}
    mounts = "{extraMounts: [{containerPath: /a, hostPath: /x}]}"
    assert problems(f"nodes: [{mounts}, {mounts}]") == {}


@pytest.mark.parametrize("key", ["a", "A.b_c-1", "example.com/a", "a-b.c/" + "x" * 63, "kubernetes.io/hostname"])
def test_label_keys(key: str) -> None:
    assert label_key_fault(key) == ""


@pytest.mark.parametrize(
    "key", ["", "-a", "a-", "a b", "/a", "a/", "A.com/a", "a/b/c", "x" * 64, "-.com/a", "a\n", "a" * 254 + "/b", "ä"]
)
def test_bad_label_keys(key: str) -> None:
    assert label_key_fault(key)


@pytest.mark.parametrize(
    ("value", "fine"),
    [
        ("", True),
        ("a", True),
        ("x" * 63, True),
        ("x" * 64, False),
        ("a b", False),
        ("-a", False),
        ("a\n", False),
        ("{{ 7*7 }}", False),
    ],
)
def test_label_values(value: str, fine: bool) -> None:
    assert (label_value_fault(value) == "") is fine


@pytest.mark.parametrize(
    ("key", "refused"),
    [
        ("tier", False),
        ("example.com/a", False),
        ("node.kubernetes.io/a", False),
        ("x.node.kubernetes.io/a", False),
        ("topology.kubernetes.io/zone", False),
        ("node-role.kubernetes.io/worker", True),
        ("kubernetes.io/role", True),
        ("x.k8s.io/a", True),
        ("notkubernetes.io/a", False),
    ],
)
def test_labels_that_a_kubelet_refuses(key: str, refused: bool) -> None:
    found = problems(f"nodes: [{{labels: {{{key}: ''}}}}]", "warning")
    assert bool(found) is refused
    assert problems(f"nodes: [{{labels: {{{key}: ''}}}}]") == {}


@pytest.mark.parametrize("domain", ["a b", "a\\nnameserver 6.6.6.6", "", "-", "a..b", "x" * 254])
def test_search_domains_cannot_smuggle_lines_into_resolv_conf(domain: str) -> None:
    assert "must be a domain name" in problems(f'networking: {{dnsSearch: ["{domain}"]}}')["networking.dnsSearch[0]"]


@pytest.mark.parametrize("domain", ["example.com", "example.com.", ".", "_tcp.example", "A.b"])
def test_search_domains(domain: str) -> None:
    assert problems(f"networking: {{dnsSearch: ['{domain}']}}") == {}


def test_more_than_one_control_plane_is_fine() -> None:
    assert load(f"{HEAD}nodes: [{{}}, {{}}, {{}}]", "f")[1] == []


def test_proxy_mode_none_is_fine() -> None:
    assert load(f"{HEAD}networking: {{kubeProxyMode: none}}", "f")[1] == []
