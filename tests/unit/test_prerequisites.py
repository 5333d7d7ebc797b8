"""The prerequisites' table: on a good machine every check passes; each row fails on its own, with its own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from podlab import prereq, prereq_checks, prereq_kernel
from podlab.errors import PodlabError
from podlab.linux.kernelconfig import KernelConfig
from podlab.prereq_facts import INIT, JOIN, KIND_NODE, MACHINE, ROLES, TRACES, Facts, Wanted
from support.prereq_rows import GOOD, OPTIONS, ROWS, V1


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


# k8s.io/system-validators' list: level and cgroup version -> options.
SYSTEM_OPTIONS = {
    ("error", 0): """NAMESPACES NET_NS PID_NS IPC_NS UTS_NS CPUSETS MEMCG INET EXT4_FS PROC_FS FAIR_GROUP_SCHED
        NETFILTER_XT_MATCH_COMMENT NETFILTER_XT_TARGET_REDIRECT CGROUPS CGROUP_PIDS CGROUP_SCHED""",
    ("error", 1): "CGROUP_CPUACCT CGROUP_DEVICE CGROUP_FREEZER",
    ("error", 2): "CGROUP_BPF",
    ("warning", 0): "OVERLAY_FS AUFS_FS BLK_DEV_DM CFS_BANDWIDTH SECCOMP SECCOMP_FILTER CGROUP_HUGETLB",
}


@pytest.mark.parametrize(("level", "cgroup"), SYSTEM_OPTIONS)
@pytest.mark.parametrize("role", [INIT, JOIN])
def test_kernel_options_are_those_of_system_validators(level: str, cgroup: int, role: str) -> None:
    rows = [option for option in prereq_kernel.OPTIONS if role in option.roles and option.group == "SystemVerification"]
    found = {option.name for option in rows if (option.level, option.cgroup) == (level, cgroup)}
    assert found == set(SYSTEM_OPTIONS[level, cgroup].split())


# kubeadm's checks that one of init and join has and the other has not.
INIT_ONLY = """NumCPU Mem Firewalld Port-6443 Port-10259 Port-10257 Port-2379 Port-2380 DirAvailable--var-lib-etcd
    HTTPProxyCIDR FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml
    FileAvailable--etc-kubernetes-manifests-kube-controller-manager.yaml
    FileAvailable--etc-kubernetes-manifests-kube-scheduler.yaml FileAvailable--etc-kubernetes-manifests-etcd.yaml"""
JOIN_ONLY = """FileAvailable--etc-kubernetes-kubelet.conf FileAvailable--etc-kubernetes-bootstrap-kubelet.conf
    FileAvailable--etc-kubernetes-pki-ca.crt"""


def test_init_and_join_differ_as_kubeadms_do() -> None:
    init, join = ({check.name for check in prereq_checks.checks_for(role)} for role in (INIT, JOIN))
    assert init - join == set(INIT_ONLY.split())
    assert join - init == set(JOIN_ONLY.split())
    assert {"Port-10250", "HTTPProxy", "Swap", "Hostname"} <= init & join


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


@pytest.mark.parametrize(("mode", "names"), [("iptables", []), ("nftables", ["FileExisting-nft"]), ("none", [])])
def test_nft_is_needed_in_nftables_mode_only(mode: str, names: list[str]) -> None:
    without = GOOD._replace(programs=GOOD.programs - {"nft"})
    assert [outcome.name for outcome in failed(without, Wanted(kube_proxy_mode=mode))] == names
