"""A good machine, and for each check of the prerequisites what must be different for it to fail, and its words."""

from __future__ import annotations

from typing import Any

from podlab import prereq_kernel
from podlab.linux.kernelconfig import KernelConfig
from podlab.prereq_facts import EFFECTS, INIT, JOIN, KIND_NODE, MACHINE, PROGRAMS, SYSCTLS, Facts

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
            {"kube_proxy_mode": "nftables"},
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
