"""The prerequisites' table: on a good machine every check passes; each row fails on its own, with its own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from podlab import prereq, prereq_checks, prereq_kernel
from podlab.errors import PodlabError
from podlab.linux.kernelconfig import KernelConfig
from podlab.prereq_facts import (
    EFFECTS,
    INIT,
    JOIN,
    KIND_NODE,
    MACHINE,
    PROGRAMS,
    ROLES,
    SYSCTLS,
    TRACES,
    Facts,
    Wanted,
)

OPTIONS = {option.name: "y" for option in prereq_kernel.OPTIONS}

GOOD = Facts(
    euid=0,
    capabilities=(1 << 41) - 1,
    cpus=4,
    memory_mb=8000,
    release="6.12.9-amd64",
    hostname="node1",
    hostname_resolves=True,
    programs=frozenset(PROGRAMS),
    config=KernelConfig("/proc/config.gz", OPTIONS),
    traces=frozenset(),
    effects=dict.fromkeys(EFFECTS, ""),
    cgroup_version=2,
    controllers=dict.fromkeys(["cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids", "hugetlb", "io"], 1),
    swaps=(),
    sysctls={**dict.fromkeys(SYSCTLS, "1"), "net/netfilter/nf_conntrack_max": "262144"}
    | {f"fs/inotify/max_user_{name}": "524288" for name in ("instances", "watches")}
    | {f"user/max_{name}_namespaces": "96000" for name in ("net", "mnt", "pid")},
    listening=frozenset({22}),
    existing=frozenset(),
    firewalld=False,
    environment={},
    store="/var/lib/podlab",
    free_mb=9000,
    free_inodes=900_000,
)
PROXY = {"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "localhost,10.96.0.0/12"}
V1 = {
    "cgroup_version": 1,
    "controllers": dict.fromkeys(["cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids"], 3),
}


def sysctl(name: str, value: str) -> dict[str, Any]:
    return {"sysctls": {**GOOD.sysctls, name: value}}


def without(option: str) -> KernelConfig:
    return KernelConfig("/boot/config", {name: "m" for name in OPTIONS if name != option})


# name of the check -> role, what is different about the machine, what is wanted, the message
ROWS: dict[str, tuple[str, dict[str, Any], dict[str, str], str]] = {
    "IsPrivilegedUser": (KIND_NODE, {"euid": 1000}, {}, "the user is not root"),
    "Capabilities": (
        KIND_NODE,
        {"capabilities": ~(1 << 21 | 1 << 12)},
        {},
        "root lacks CAP_NET_ADMIN, CAP_SYS_ADMIN",
    ),
    "NumCPU": (INIT, {"cpus": 1}, {}, "the machine has 1 CPUs, less than 2"),
    "Mem": (INIT, {"memory_mb": 1699}, {}, "the machine has 1699 MB of memory, less than 1700 MB"),
    "Firewalld": (INIT, {"firewalld": True}, {}, "firewalld is active"),
    **{
        f"Port-{port}": (INIT, {"listening": frozenset({port})}, {}, f"port {port} is in use")
        for port in (6443, 10259, 10257, 10250, 2379, 2380)
    },
    "DirAvailable--var-lib-etcd": (INIT, {"existing": frozenset({"/var/lib/etcd"})}, {}, "/var/lib/etcd is not empty"),
    **{
        f"FileAvailable--etc-kubernetes-{name.replace('/', '-')}": (
            role,
            {"existing": frozenset({f"/etc/kubernetes/{name}"})},
            {},
            f"/etc/kubernetes/{name} already exists",
        )
        for role, names in {
            INIT: ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"],
            JOIN: ["kubelet.conf", "bootstrap-kubelet.conf", "pki/ca.crt"],
        }.items()
        for name in (names if role == JOIN else [f"manifests/{name}.yaml" for name in names])
    },
    "HTTPProxy": (
        JOIN,
        {"environment": PROXY},
        {"api_address": "192.0.2.7"},
        "https://192.0.2.7 would go through the proxy http://proxy:3128",
    ),
    "HTTPProxyCIDR": (
        INIT,
        {"environment": PROXY},
        {"service_subnet": "10.96.0.0/16", "pod_subnet": "10.244.0.0/16"},
        "10.244.0.0/16 would go through the proxy http://proxy:3128",
    ),
    "FileContent--proc-sys-net-ipv4-ip_forward": (
        MACHINE,
        sysctl("net/ipv4/ip_forward", "0"),
        {},
        "/proc/sys/net/ipv4/ip_forward is 0, not 1",
    ),
    "FileContent--proc-sys-net-ipv6-conf-default-forwarding": (
        INIT,
        sysctl("net/ipv6/conf/default/forwarding", ""),
        {"ip_family": "dual"},
        "/proc/sys/net/ipv6/conf/default/forwarding is not there, not 1",
    ),
    "Swap": (
        KIND_NODE,
        {"swaps": ("/dev/sda2", "/swap file")},
        {},
        "swap is on (/dev/sda2, /swap file): a pod's memory can be moved out, past its limit",
    ),
    **{
        f"FileExisting-{name}": (
            KIND_NODE,
            {"programs": frozenset(PROGRAMS) - {name}},
            {},
            f"{name} is not found in PATH",
        )
        for name in PROGRAMS
    },
    "Hostname": (JOIN, {"hostname_resolves": False}, {}, "the host name 'node1' has no address"),
    "SystemVerification-KernelVersion": (
        KIND_NODE,
        {"release": "5.3.18"},
        {},
        "kernel 5.3.18 is none of 5.4, 5.10, 5.15, 6 and newer",
    ),
    "SystemVerification-Controllers": (
        KIND_NODE,
        {"controllers": {"cpu": 1, "cpuset": 1, "devices": 1, "freezer": 1, "pids": 1}},
        {},
        "cgroup v2 has no controller memory",
    ),
    "SystemVerification-OptionalControllers": (
        INIT,
        {"controllers": {name: 1 for name in GOOD.controllers if name not in ("io", "hugetlb")}},
        {},
        "cgroup v2 has no controller hugetlb, io",
    ),
    "SystemVerification-CgroupVersion": (
        JOIN,
        {**V1, "controllers": {**V1["controllers"], "hugetlb": 1, "blkio": 1}},
        {},
        "cgroup v1: the kubelet refuses it since 1.35",
    ),
    "CgroupMounts": (
        KIND_NODE,
        {**V1, "controllers": {**V1["controllers"], "cpu": 0, "pids": 0}},
        {},
        "the controllers cpu, pids are enabled but mounted nowhere",
    ),
    **{
        f"Effect-{name}": (
            KIND_NODE,
            {"effects": {**GOOD.effects, name: "Operation not supported"}},
            {},
            "the kernel refuses it: Operation not supported",
        )
        for name in EFFECTS
    },
    "Sysctl-fs.inotify.max_user_instances": (
        MACHINE,
        sysctl("fs/inotify/max_user_instances", "511"),
        {},
        "fs.inotify.max_user_instances is 511, less than 512",
    ),
    "Sysctl-fs.inotify.max_user_watches": (
        KIND_NODE,
        sysctl("fs/inotify/max_user_watches", "8191"),
        {},
        "fs.inotify.max_user_watches is 8191, less than 8192",
    ),
    **{
        f"Sysctl-user.max_{name}_namespaces": (
            KIND_NODE,
            sysctl(f"user/max_{name}_namespaces", "0"),
            {},
            f"user.max_{name}_namespaces is 0, less than 64",
        )
        for name in ("net", "mnt", "pid")
    },
    "Sysctl-net.netfilter.nf_conntrack_max": (
        INIT,
        {**sysctl("net/netfilter/nf_conntrack_max", "262143"), "cpus": 8},
        {},
        "net.netfilter.nf_conntrack_max is 262143, less than 262144",
    ),
    "BridgeNetfilter": (
        MACHINE,
        sysctl("net/bridge/bridge-nf-call-iptables", ""),
        {},
        "frames between two ports of a bridge bypass iptables, so Services fail where pods share one",
    ),
    "FreeDisk": (KIND_NODE, {"free_mb": 255}, {}, "255 MiB are free for /var/lib/podlab, less than 256"),
    **{
        f"{option.group}-{option.name}": (
            option.roles[0],
            {"config": without(option.name), **(V1 if option.cgroup == 1 else {})},
            {},
            f"CONFIG_{option.name} is not set in /boot/config",
        )
        for option in prereq_kernel.OPTIONS
    },
}


def failed(facts: Facts, wanted: Wanted, **more: Any) -> list[prereq.Outcome]:
    return [outcome for outcome in prereq.judge(facts, wanted, **more) if not outcome.ok]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("more", [{}, V1], ids=["v2", "v1"])
def test_good_machine_passes(role: str, more: Mapping[str, Any]) -> None:
    if role in (INIT, JOIN) and more:
        more = {**more, "controllers": {**more["controllers"], "hugetlb": 1, "blkio": 1}}
    bad = failed(GOOD._replace(**more), Wanted(role))
    assert [each.name for each in bad] == (
        ["SystemVerification-CgroupVersion"] if more and role in (INIT, JOIN) else []
    )


@pytest.mark.parametrize("name", ROWS)
def test_each_row_fails_alone_with_its_words(name: str) -> None:
    role, different, wanted, message = ROWS[name]
    (outcome,) = failed(GOOD._replace(**different), Wanted(role, **wanted))
    assert (outcome.name, outcome.message) == (name, message)
    assert outcome.remedy.endswith("."), "a failed check says what to do"


def test_every_check_has_a_row_and_a_name_of_its_own() -> None:
    assert {check.name for check in prereq_checks.CHECKS} - {"SystemVerification-KernelConfig"} == set(ROWS)
    for role in ROLES:
        names = [check.name for check in prereq_checks.checks_for(role)]
        assert len(names) == len(set(names))


KUBEADM_CHECKS = """
    IsPrivilegedUser NumCPU Mem KubernetesVersion Firewalld Port-6443 Port-10259 Port-10257 Port-10250 Port-2379
    Port-2380 DirAvailable--var-lib-etcd HTTPProxy HTTPProxyCIDR FileContent--proc-sys-net-ipv4-ip_forward
    FileContent--proc-sys-net-ipv6-conf-default-forwarding CRI ContainerRuntimeVersion Swap FileExisting-losetup
    FileExisting-mount FileExisting-cp FileExisting-conntrack SystemVerification Hostname KubeletVersion
    Service-kubelet ExternalEtcdVersion ExternalEtcdClientCertificates ImagePull
"""


def test_all_of_kubeadms_checks_are_made_or_refused_with_a_reason() -> None:
    kubeadm = KUBEADM_CHECKS.split()
    kubeadm += [name for name in ROWS if name.startswith("FileAvailable-")]
    made = {name for check in prereq_checks.CHECKS for name in (check.name, check.group)}
    assert set(kubeadm) - made == set(prereq_checks.NOT_APPLIED)


LEVELS = {
    "error": """IsPrivilegedUser NumCPU Mem Port-6443 Port-10250 DirAvailable--var-lib-etcd FileExisting-mount
        FileContent--proc-sys-net-ipv4-ip_forward SystemVerification-MEMCG SystemVerification-Controllers
        SystemVerification-CgroupVersion Effect-veth Effect-overlay Effect-iptables CgroupMounts FreeDisk""",
    "warning": """Firewalld HTTPProxy HTTPProxyCIDR Swap Hostname SystemVerification-KernelVersion
        SystemVerification-AUFS_FS SystemVerification-OptionalControllers Effect-vxlan BridgeNetfilter""",
}


@pytest.mark.parametrize("level", LEVELS)
def test_levels_are_kubeadms(level: str) -> None:
    levels = {check.name: check.level for check in prereq_checks.CHECKS}
    assert {name: levels[name] for name in LEVELS[level].split()} == dict.fromkeys(LEVELS[level].split(), level)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("NumCPU", JOIN),
        ("NumCPU", KIND_NODE),
        ("Port-6443", JOIN),
        ("Port-10250", KIND_NODE),
        ("FileContent--proc-sys-net-ipv4-ip_forward", KIND_NODE),
        ("BridgeNetfilter", KIND_NODE),
        ("SystemVerification-CgroupVersion", KIND_NODE),
    ],
)
def test_rows_that_a_role_does_not_have(name: str, role: str) -> None:
    assert name not in {check.name for check in prereq_checks.checks_for(role)}


def test_who_is_not_root_is_told_only_that() -> None:
    outcomes = prereq.judge(GOOD._replace(euid=1, cpus=1), Wanted(INIT), ["all"])
    assert [(each.name, each.ignored) for each in outcomes] == [("IsPrivilegedUser", False)]


BAD = GOOD._replace(cpus=1, memory_mb=100, swaps=("/dev/sda2",))


@pytest.mark.parametrize(
    ("ignore", "errors", "warnings"),
    [
        ([], ["NumCPU", "Mem"], ["Swap"]),
        (["numcpu"], ["Mem"], ["NumCPU", "Swap"]),
        (["ALL"], [], ["NumCPU", "Mem"]),
        (["Swap"], ["NumCPU", "Mem"], []),
    ],
)
def test_ignored_errors_warn_and_ignored_warnings_are_silent(
    ignore: list[str], errors: list[str], warnings: list[str]
) -> None:
    outcomes = prereq.judge(BAD, Wanted(INIT), ignore)
    assert [problem.place for problem in prereq.errors(outcomes)] == errors
    assert [text.partition(":")[0] for text in prereq.warnings(outcomes)] == warnings


def test_a_group_ignores_all_of_its_checks() -> None:
    facts = GOOD._replace(config=KernelConfig("/proc/config.gz", {}))
    outcomes = prereq.judge(facts, Wanted(KIND_NODE), ["systemverification"])
    assert {each.place for each in prereq.errors(outcomes)} == {"Kernel-POSIX_MQUEUE", "Kernel-NF_CONNTRACK"}


def test_all_errors_are_named_at_once() -> None:
    with pytest.raises(PodlabError) as caught:
        prereq.demand(prereq.judge(BAD, Wanted(INIT)), INIT)
    assert str(caught.value) == (
        "This machine cannot be used as init, 2 problems:\n"
        "  NumCPU: the machine has 1 CPUs, less than 2. Give it 2.\n"
        "  Mem: the machine has 100 MB of memory, less than 1700 MB. Give it 1700 MB."
    )
    assert [check["name"] for check in caught.value.details["checks"]] == ["NumCPU", "Mem", "Swap"]


def test_unknown_names_are_refused() -> None:
    (problem,) = prereq.unknown_names(["Swap", "CRI", "Kernel", "all", "swop"])
    assert str(problem) == "ignore[4]: no check is called 'swop'. See the result's checks for the names."


def test_bad_subnets_are_refused() -> None:
    wanted = Wanted(pod_subnet="10.244.0.0/16,fd00::/56", service_subnet="10.96.0.1/16")
    assert [problem.place for problem in prereq.bad_subnets(wanted)] == ["service_subnet"]


def test_swap_that_goes_off_does_not_count() -> None:
    assert not failed(BAD._replace(cpus=2, memory_mb=8000), Wanted(INIT), swap_goes_off=True)
    (step,) = prereq.swap_steps(BAD)
    assert (step.typed(), step.args) == ("swapoff /dev/sda2", {"path": "/dev/sda2"})


@pytest.mark.parametrize(
    ("host", "no_proxy", "expected"),
    [
        ("10.96.0.1", "", "p"),
        ("10.96.0.1", "10.96.0.0/12", ""),
        ("10.96.0.1", "10.96.0.1", ""),
        ("10.96.0.1", "fd00::/8, 10.0.0.0/8", ""),
        ("api.example.org", "example.org", ""),
        ("api.example.org", ".example.org", ""),
        ("apiexample.org", "example.org", "p"),
        ("anything", "*", ""),
    ],
)
def test_proxied(host: str, no_proxy: str, expected: str) -> None:
    assert prereq_checks.proxied(host, {"https_proxy": "p", "NO_PROXY": no_proxy}) == expected


@pytest.mark.parametrize("release", ["5.4.0-150", "5.10.1", "5.15.0-91-generic", "6.1.0-18-amd64", "7.2", "10.0.1"])
def test_kernel_releases_that_are_validated(release: str) -> None:
    assert not failed(GOOD._replace(release=release), Wanted())


@pytest.mark.parametrize("hostname", ["Node1", "node_1", "-a", "a..b", ""])
def test_host_names_that_are_none(hostname: str) -> None:
    (outcome,) = failed(GOOD._replace(hostname=hostname), Wanted(MACHINE))
    assert outcome.message == f"the host name {hostname!r} is no lowercase RFC 1123 name"


def test_unreadable_kernel_configuration_is_a_warning_that_names_what_is_unknown() -> None:
    facts = GOOD._replace(config=None, traces=frozenset(TRACES))
    assert not failed(facts, Wanted(KIND_NODE))
    (outcome,) = failed(facts, Wanted(MACHINE))
    assert (outcome.name, outcome.level) == ("SystemVerification-KernelConfig", "warning")
    assert "MEMCG" in outcome.message
    assert "NET_NS" not in outcome.message, "its effect is there"


def test_alias_of_a_kernel_option_counts() -> None:
    options = {name: "y" for name in OPTIONS if name != "NETFILTER_XT_TARGET_REDIRECT"}
    assert not failed(GOOD._replace(config=KernelConfig("x", {**options, "IP_NF_TARGET_REDIRECT": "m"})), Wanted())
