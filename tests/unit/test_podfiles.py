"""/etc/hosts, /etc/resolv.conf and the hostname, byte for byte."""

from __future__ import annotations

import pytest

from podlab.kube import podfiles

HEAD = (
    "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
)


def test_hosts():
    assert podfiles.hosts_file(["10.244.1.2"], "web") == HEAD + "10.244.1.2\tweb\n"


def test_hosts_with_subdomain_and_aliases():
    domain = podfiles.pod_domain("db", "default", "cluster.local")
    aliases = [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]
    assert podfiles.hosts_file(["10.244.1.2"], "db-0", domain, aliases) == (
        HEAD + "10.244.1.2\tdb-0.db.default.svc.cluster.local\tdb-0\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"
    )


def test_no_subdomain_no_domain():
    assert podfiles.pod_domain("", "default", "cluster.local") == ""


@pytest.mark.parametrize(
    ("name", "host"), [("web", "web"), ("a" * 62 + "-b", "a" * 62), ("a" * 61 + ".-b", "a" * 61), ("a" * 70, "a" * 63)]
)
def test_hostname(name, host):
    assert podfiles.hostname(name) == host


NODE = "# a comment\nnameserver 9.9.9.9\nnameserver 8.8.8.8\nsearch corp.example. lan\noptions edns0 trust-ad\n"


def resolv(policy, config=None, node=NODE):
    return podfiles.resolv_conf(policy, config, "default", "cluster.local", "10.96.0.10", node)


def test_cluster_first():
    assert resolv("ClusterFirst") == (
        "search default.svc.cluster.local svc.cluster.local cluster.local corp.example lan\n"
        "nameserver 10.96.0.10\noptions ndots:5\n"
    )


def test_default_is_the_nodes():
    assert resolv("Default") == (
        "search corp.example lan\nnameserver 9.9.9.9\nnameserver 8.8.8.8\noptions edns0 trust-ad\n"
    )


def test_cluster_first_with_host_net_is_cluster_first_without_it():
    assert resolv("ClusterFirstWithHostNet") == resolv("ClusterFirst")


def test_a_nodes_file_is_read_as_kubelet_reads_it():
    node = (
        "domain ignored.example\n; nothing\nsearch first.example\nsearch a.example. a.example b.example\n"
        "nameserver\nnameserver 9.9.9.9\nnameserver 9.9.9.9\n"
        "options ndots:1 rotate\noptions ndots:2\noptions timeout:3 timeout:4\n"
    )
    assert resolv("Default", node=node) == (
        "search a.example b.example\nnameserver 9.9.9.9\noptions ndots:2 rotate timeout:4\n"
    )
    assert resolv("Default", {"options": [{"name": "ndots"}, {"name": "edns0"}]}, node=node).endswith(
        "options ndots rotate timeout:4 edns0\n"
    )


def test_what_the_policy_gives_comes_first_and_the_limits_cut_what_is_added():
    config = {
        "nameservers": ["10.0.0.1", "10.0.0.2", "10.0.0.3"],
        "searches": [f"d{number}" for number in range(32)],
    }
    first, *rest = resolv("ClusterFirst", config).splitlines()
    assert first.split()[1:6] == [
        "default.svc.cluster.local",
        "svc.cluster.local",
        "cluster.local",
        "corp.example",
        "lan",
    ]
    assert len(first.split()) == 1 + 32
    assert rest == ["nameserver 10.96.0.10", "nameserver 10.0.0.1", "nameserver 10.0.0.2", "options ndots:5"]


def test_none_is_only_the_config():
    config = {
        "nameservers": ["1.1.1.1"],
        "searches": ["x"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}],
    }
    assert resolv("None", config) == "search x\nnameserver 1.1.1.1\noptions ndots:2 rotate\n"


def test_config_is_added_once_and_options_merge_by_name():
    config = {
        "nameservers": ["10.96.0.10", "1.1.1.1"],
        "searches": ["lan"],
        "options": [{"name": "ndots", "value": "1"}],
    }
    assert resolv("ClusterFirst", config) == (
        "search default.svc.cluster.local svc.cluster.local cluster.local corp.example lan\n"
        "nameserver 10.96.0.10\nnameserver 1.1.1.1\noptions ndots:1\n"
    )


def test_limits():
    node = "".join(f"nameserver 10.0.0.{n}\n" for n in range(5)) + "search " + " ".join(f"d{n}" for n in range(40))
    text = resolv("Default", node=node)
    assert text.count("nameserver") == 3
    assert len(text.splitlines()[0].split()) == 33
    long = resolv("Default", node="search " + " ".join(["x" * 1000, "y" * 1000, "z" * 100]))
    assert long == f"search {'x' * 1000} {'y' * 1000}\n"
