"""A pod's sysctls: names, safety, namespaces, and the kubelet's allowedUnsafeSysctls of a kind config."""

from __future__ import annotations

import pytest

from podlab.kube import cluster as clusters
from podlab.kube import kindconfig, plan, pod_checks, sysctls
from support.lab_objects import cluster, deployment, pod, store


def spec(*entries, **more):
    given = [{"name": name, "value": value} for name, value in entries]
    return {"containers": [{"name": "c", "image": "busybox"}], "securityContext": {"sysctls": given}, **more}


def faults(*entries, **more):
    found = pod_checks.pod_spec(spec(*entries, **more), ("spec",))
    return [f"{'.'.join(map(str, each.path))}: {each.message}" for each in found]


@pytest.mark.parametrize(
    ("name", "dotted", "kind"),
    [
        ("net.ipv4.tcp_syncookies", "net.ipv4.tcp_syncookies", "net"),
        ("net/ipv4/tcp_syncookies", "net.ipv4.tcp_syncookies", "net"),
        ("net/ipv4/conf/eno2.100/rp_filter", "net.ipv4.conf.eno2/100.rp_filter", "net"),
        ("net.ipv4.conf.eno2/100.rp_filter", "net.ipv4.conf.eno2/100.rp_filter", "net"),
        ("kernel.shm_rmid_forced", "kernel.shm_rmid_forced", "ipc"),
        ("kernel/shmmax", "kernel.shmmax", "ipc"),
        ("kernel.msgmax", "kernel.msgmax", "ipc"),
        ("kernel.sem", "kernel.sem", "ipc"),
        ("fs.mqueue.msg_max", "fs.mqueue.msg_max", "ipc"),
        ("kernel.semi", "kernel.semi", ""),
        ("kernel.core_pattern", "kernel.core_pattern", ""),
        ("vm.swappiness", "vm.swappiness", ""),
        ("network.x", "network.x", ""),
    ],
)
def test_1_6_names(name, dotted, kind):
    assert (sysctls.normal(name), sysctls.namespace(name)) == (dotted, kind)


def test_1_6_where_each_is_written():
    made = sysctls.settings(spec(("net/ipv4/conf/eth0.1/rp_filter", "1"), ("kernel.shmmax", "5")))
    assert made == {
        "net": {
            "net/ipv4/ip_unprivileged_port_start": "0",
            "net/ipv4/ping_group_range": "0 2147483647",
            "net/ipv4/conf/eth0.1/rp_filter": "1",
        },
        "ipc": {"kernel/shmmax": "5"},
    }


def test_1_6_what_every_pod_has_and_what_wins():
    start = "net/ipv4/ip_unprivileged_port_start"
    assert sysctls.settings(spec(("net.ipv4.ip_unprivileged_port_start", "81")))["net"][start] == "81"
    assert sysctls.settings(spec(hostNetwork=True)) == {"net": {}, "ipc": {}}
    assert sysctls.settings(spec(hostUsers=False)) == {"net": {start: "0"}, "ipc": {}}


@pytest.mark.parametrize(
    "name",
    [
        "net/../../kernel/core_pattern",
        "net.ipv4..tcp_syncookies",
        "/net/ipv4/tcp_syncookies",
        "net.ipv4.tcp_syncookies\n",
        "net.ipv4.tcp_syncookies=1",
        "Net.ipv4.tcp_syncookies",
        "net. ipv4",
        "",
        "net." + "x" * 250,
        "kernel.shm_rmid_forced+kernel.core_pattern",
    ],
)
def test_row_23_hostile_names(name):
    (fault,) = faults((name, "1"))
    assert fault.startswith("spec.securityContext.sysctls.0.name: must have at most 253 characters and match regex")


@pytest.mark.parametrize("value", ["1\n2", "1\0", "1\r", "\x1b[2J", "1" * 4096])
def test_row_23_hostile_values(value):
    (fault,) = faults(("kernel.shm_rmid_forced", value))
    assert fault.startswith("spec.securityContext.sysctls.0.value: must be one line of at most 4095 printable")


def test_values_with_blanks_are_the_kernels_own():
    assert faults(("net.ipv4.tcp_rmem", "4096\t131072 6291456")) == []


def test_twice_and_beside_host_namespaces():
    assert faults(("kernel.shmmax", "1"), ("kernel.shmmax", "2")) == [
        "spec.securityContext.sysctls.1.name: 'kernel.shmmax' is there twice"
    ]
    entries = (("net/ipv4/tcp_syncookies", "1"), ("kernel.shmmax", "1"))
    path = "spec.securityContext.sysctls"
    assert faults(*entries, hostNetwork=True, hostIPC=True) == [
        f"{path}.0.name: 'net/ipv4/tcp_syncookies' may not be specified if 'hostNetwork' is true",
        f"{path}.1.name: 'kernel.shmmax' may not be specified if 'hostIPC' is true",
    ]


def problems(*entries, allowed=()):
    made = pod()
    made["spec"].update(spec(*entries))
    planned = plan.plan(store(made), cluster()._replace(allowed_unsafe_sysctls=allowed), ())
    return [str(problem) for problem in planned.problems]


def test_1_6_safe_ones_need_no_permission():
    assert problems(*((name, "1") for name in sysctls.SAFE)) == []
    assert problems(("net/ipv4/tcp_syncookies", "1")) == []


def test_1_6_unsafe_ones_are_refused_in_the_kubelets_words():
    assert problems(("net.core.somaxconn", "1024")) == [
        "Pod/web: spec.securityContext.sysctls[0].name: SysctlForbidden: forbidden sysctl: "
        '"net.core.somaxconn" not allowlisted. Allow it in the cluster config: a KubeletConfiguration with '
        "allowedUnsafeSysctls"
    ]
    assert problems(("net.core.somaxconn", "1024"), allowed=("net.core.*",)) == []
    assert problems(("net.core.somaxconn", "1024"), allowed=("net/core/somaxconn",)) == []
    assert len(problems(("net.core.somaxconn", "1024"), allowed=("net.core.some*", "net.core"))) == 1


@pytest.mark.parametrize("name", ["kernel.core_pattern", "vm.swappiness", "kernel.hostname"])
def test_1_6_what_is_in_no_namespace_can_never_be_allowed(name):
    (problem,) = problems((name, "x"), allowed=("*", name))
    assert problem.endswith("It belongs to no namespace of a pod: it can never be allowed")


def test_a_deployment_says_it_once():
    made = deployment(3)
    made["spec"]["template"]["spec"].update(spec(("net.core.somaxconn", "1")))
    (problem,) = plan.plan(store(made), cluster(), ()).problems
    assert "spec.template.spec.securityContext.sysctls[0].name" in str(problem)


CONFIG = """
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
kubeadmConfigPatches:
- |
  apiVersion: kubelet.config.k8s.io/v1beta1
  kind: KubeletConfiguration
  allowedUnsafeSysctls: [net.core.*, kernel.msg*]
"""


def test_the_cluster_config_says_what_is_allowed():
    config, found = kindconfig.load(CONFIG, "cluster.yaml")
    assert found == []
    made = clusters.build(config, "kind", "172.18.0.0/16")
    assert made.allowed_unsafe_sysctls == ("net.core.*", "kernel.msg*")
    assert clusters.Cluster.from_dict(made.to_dict()) == made


@pytest.mark.parametrize(
    "more",
    [
        "  failSwapOn: false\n",
        "- |\n  kind: InitConfiguration\n",
        "- 'not: [yaml'\n",
        "- text\n",
    ],
)
def test_what_else_a_patch_says_has_no_effect_and_that_is_said(more):
    config, found = kindconfig.load(CONFIG + more, "cluster.yaml")
    assert [problem.level for problem in found] == ["warning"]
    assert clusters.build(config, "kind", "172.18.0.0/16").allowed_unsafe_sysctls == ("net.core.*", "kernel.msg*")
