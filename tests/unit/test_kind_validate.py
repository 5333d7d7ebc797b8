"""kind-config: what kind's own validation says, bullet by bullet, and in its order."""

from __future__ import annotations

import pytest

from podlab.kube.kind_parse import parse
from podlab.kube.kind_validate import validate

HEAD = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n"


def errors(text: str) -> list[str]:
    """Place and message of every error of reading and of kind's validation, no lint."""
    config, report = parse(HEAD + text, "f")
    assert report.problems == []
    validate(config, report)
    return [f"{problem.place}: {problem.message}" for problem in report.problems]


@pytest.mark.parametrize("name", ["a", "kind-2", "a.b", "0", "-", ".", "a..b", "-a-"])
def test_names_that_kind_accepts(name: str) -> None:
    assert errors(f"name: '{name}'") == []


@pytest.mark.parametrize("name", ["A", "a_b", "a b", "ä", "a/b", "a\\n"])
def test_names_that_kind_refuses(name: str) -> None:
    assert errors(f'name: "{name}"')[0].startswith("name: must be lower case letters")


@pytest.mark.parametrize("port", [0, -1, 1, 65535])
def test_api_server_port(port: int) -> None:
    assert errors(f"networking: {{apiServerPort: {port}}}") == []


@pytest.mark.parametrize("port", [-2, 65536])
def test_api_server_port_out_of_range(port: int) -> None:
    found = errors(f"networking: {{apiServerPort: {port}}}")
    assert found == [f"networking.apiServerPort: must be from -1 to 65535, not {port}"]


@pytest.mark.parametrize("family", ["IPv4", "v4", "ipv5"])
def test_an_unknown_family_is_one_error(family: str) -> None:
    assert errors(f"networking: {{ipFamily: {family}}}") == [
        f"networking.ipFamily: must be ipv4, ipv6 or dual, not {family!r}"
    ]
    more = f"networking: {{ipFamily: {family}, podSubnet: 'fd00::/56,10.0.0.0/16,10.1.0.0/16'}}"
    assert len(errors(more)) == 1


ACCEPTED = [
    ("ipv4", "10.1.2.3/16"),
    ("ipv4", "::ffff:10.0.0.0/112"),
    ("ipv4", "0.0.0.0/0"),
    ("ipv4", "10.0.0.0/016"),
    ("ipv6", "fd00::1/64"),
    ("ipv6", "::ffff:10.0.0.0/90"),
    ("dual", "10.0.0.0/16"),
    ("dual", "fd00::/56"),
    ("dual", "fd00::/56,10.0.0.0/16"),
    ("dual", "10.0.0.0/16,fd00::/56"),
]
REFUSED = [
    ("ipv4", "010.0.0.0/16", "leading zeros"),
    ("ipv4", "10.0.0.0", "has no /BITS"),
    ("ipv4", "10.0.0.0/16,", "empty CIDR"),
    ("ipv4", "10.0.0.0/33", "bits from 0 to 32"),
    ("ipv4", "10.0.0.0/255.255.0.0", "bits from 0 to 32"),
    ("ipv4", "10.0.0.0/", "bits from 0 to 32"),
    ("ipv4", "10.0.0.0/+8", "bits from 0 to 32"),
    ("ipv4", "10.0.0.0/16, 10.1.0.0/16", "blanks around it"),
    ("ipv4", "10.0.0/16", "does not begin with an IP address"),
    ("ipv4", "fe80::1%eth0/64", "does not begin with an IP address"),
    ("ipv4", "10.0.0.0/16,10.1.0.0/16", "must be one CIDR when ipFamily is ipv4, not 2"),
    ("ipv4", "fd00::/56", "must be an IPv4 CIDR when ipFamily is ipv4"),
    ("ipv6", "10.0.0.0/16", "must be an IPv6 CIDR when ipFamily is ipv6"),
    ("ipv6", "::ffff:10.0.0.0/112", "must be an IPv6 CIDR when ipFamily is ipv6"),
    ("dual", "10.0.0.0/16,10.1.0.0/16", "not two of IPv4"),
    ("dual", "fd00::/56,fd01::/56", "not two of IPv6"),
    ("dual", "10.0.0.0/16,fd00::/56,fd01::/56", "at most one IPv4 and one IPv6 CIDR, not 3"),
]


@pytest.mark.parametrize("field", ["podSubnet", "serviceSubnet"])
@pytest.mark.parametrize(("family", "subnet"), ACCEPTED)
def test_subnets_that_kind_accepts(field: str, family: str, subnet: str) -> None:
    assert errors(f"networking: {{ipFamily: {family}, {field}: '{subnet}'}}") == []


@pytest.mark.parametrize("field", ["podSubnet", "serviceSubnet"])
@pytest.mark.parametrize(("family", "subnet", "words"), REFUSED)
def test_subnets_that_kind_refuses(field: str, family: str, subnet: str, words: str) -> None:
    found = errors(f"networking: {{ipFamily: {family}, {field}: '{subnet}'}}")
    assert len(found) == 1
    assert found[0].startswith(f"networking.{field}: ") and words in found[0]


def test_the_first_bad_piece_ends_the_check_of_a_subnet() -> None:
    found = errors("networking: {podSubnet: 'x,y,10.0.0.0/16'}")
    assert len(found) == 1 and "'x'" in found[0]


@pytest.mark.parametrize("mode", ["iptables", "ipvs", "nftables", "none"])
def test_proxy_modes(mode: str) -> None:
    assert errors(f"networking: {{kubeProxyMode: {mode}}}") == []


@pytest.mark.parametrize("mode", ["IPTables", "userspace", "None"])
def test_unknown_proxy_modes(mode: str) -> None:
    assert errors(f"networking: {{kubeProxyMode: {mode}}}") == [
        f"networking.kubeProxyMode: must be iptables, ipvs, nftables or none, not {mode!r}"
    ]


@pytest.mark.parametrize("role", ["master", "Worker", "control_plane"])
def test_roles(role: str) -> None:
    assert errors(f"nodes: [{{}}, {{role: {role}}}]") == [
        f"nodes[1].role: must be control-plane or worker, not {role!r}"
    ]


def test_there_must_be_a_control_plane() -> None:
    assert errors("nodes: [{role: worker}]") == ["nodes: must have at least one control-plane node"]


def mappings(*items: str) -> list[str]:
    """The errors of one node with these port mappings."""
    return errors("nodes: [{extraPortMappings: [" + ", ".join(f"{{{item}}}" for item in items) + "]}]")


def test_ports_are_checked_host_port_first() -> None:
    assert mappings("hostPort: 70000, containerPort: -2") == [
        "nodes[0].extraPortMappings[0].hostPort: must be from -1 to 65535, not 70000",
        "nodes[0].extraPortMappings[0].containerPort: must be from -1 to 65535, not -2",
    ]
    assert mappings("hostPort: 0, containerPort: 0", "hostPort: -1, containerPort: -1") == []


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ("hostPort: 80", "hostPort: 80", True),
        ("hostPort: 80", "hostPort: 81", False),
        ("hostPort: 0", "hostPort: 0", False),
        ("hostPort: -1, listenAddress: rubbish", "hostPort: -1", False),
        ("hostPort: 80, protocol: TCP", "hostPort: 80, protocol: tcp", True),
        ("hostPort: 80, protocol: TCP", "hostPort: 80, protocol: UDP", False),
        ("hostPort: 80, protocol: TCP", "hostPort: 80", False),
        ("hostPort: 80, listenAddress: 127.0.0.1", "hostPort: 80, listenAddress: 127.0.0.2", False),
        ("hostPort: 80, listenAddress: 127.0.0.1", "hostPort: 80, listenAddress: 127.0.0.1", True),
        ("hostPort: 80, listenAddress: 127.0.0.1", "hostPort: 80, listenAddress: '::ffff:127.0.0.1'", True),
        ("hostPort: 80, listenAddress: 127.0.0.1", "hostPort: 80", True),
        ("hostPort: 80, listenAddress: 0.0.0.0", "hostPort: 80, listenAddress: 127.0.0.1", True),
        ("hostPort: 80, listenAddress: '::'", "hostPort: 80, listenAddress: 127.0.0.1", True),
        ("hostPort: 80, listenAddress: '::1'", "hostPort: 80, listenAddress: 127.0.0.1", False),
        ("hostPort: 80, listenAddress: '::1'", "hostPort: 80, listenAddress: '0:0:0:0:0:0:0:1'", True),
    ],
)
def test_duplicate_ports_of_a_node(first: str, second: str, clash: bool) -> None:
    assert bool(mappings(first, second)) is clash


def test_the_first_clash_of_a_node_is_the_last_word() -> None:
    found = mappings("hostPort: 1", "hostPort: 1", "hostPort: 1", "hostPort: 2, listenAddress: x")
    assert found == ["nodes[0].extraPortMappings[1].hostPort: 0.0.0.0:1 is mapped twice on this node"]


def test_a_listen_address_must_parse() -> None:
    for address in ("localhost", "010.0.0.1", "fe80::1%eth0"):
        found = mappings(f"hostPort: 80, listenAddress: '{address}'")
        assert found == [f"nodes[0].extraPortMappings[0].listenAddress: must be an IP address, not {address!r}"]


def test_nodes_do_not_clash_with_each_other_for_kind() -> None:
    assert errors("nodes: [{extraPortMappings: [{hostPort: 80}]}, {extraPortMappings: [{hostPort: 80}]}]") == []


def test_everything_is_said_at_once_in_kinds_order() -> None:
    found = errors(
        """
name: A
nodes: [{role: x, extraPortMappings: [{hostPort: 99999}]}]
networking: {apiServerPort: 99999, ipFamily: x, podSubnet: x, serviceSubnet: x, kubeProxyMode: x}
"""
    )
    assert [error.split(":")[0] for error in found] == [
        "name",
        "networking.apiServerPort",
        "networking.ipFamily",
        "networking.podSubnet",
        "networking.serviceSubnet",
        "networking.kubeProxyMode",
        "nodes[0].role",
        "nodes[0].extraPortMappings[0].hostPort",
        "nodes",
    ]
