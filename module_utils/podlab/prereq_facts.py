"""What a machine is like, as far as its prerequisites go. `observe` is the only reader."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from typing import NamedTuple

from .linux import kernelconfig, procfs, swap
from .runtime import paths

# What the machine is to become.
KIND_NODE = "kind-node"  # nodes on it are namespaces
MACHINE = "machine"  # it is a podlab node itself
INIT = "init"  # kubeadm init is to make it a control plane
JOIN = "join"  # kubeadm join is to make it a worker
ROLES = (KIND_NODE, MACHINE, INIT, JOIN)

PROGRAMS = ("losetup", "mount", "cp", "iptables-restore", "nft", "nsenter")
SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv6/conf/default/forwarding",
    "net/bridge/bridge-nf-call-iptables",
    "net/netfilter/nf_conntrack_max",
    "fs/inotify/max_user_instances",
    "fs/inotify/max_user_watches",
    "user/max_net_namespaces",
    "user/max_mnt_namespaces",
    "user/max_pid_namespaces",
)
MANIFESTS = tuple(
    f"/etc/kubernetes/manifests/{name}.yaml"
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd")
)
JOIN_FILES = (
    "/etc/kubernetes/kubelet.conf",
    "/etc/kubernetes/bootstrap-kubelet.conf",
    "/etc/kubernetes/pki/ca.crt",
)
ETCD_DIRECTORY = "/var/lib/etcd"

# What podlab makes -> the kernel options that, when built in, say that it works, and the modules that else must load.
EFFECTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "overlay": (("OVERLAY_FS",), ("overlay",)),
    "veth": (("VETH",), ("veth",)),
    "bridge": (("BRIDGE",), ("bridge",)),
    "vxlan": (("VXLAN",), ("vxlan",)),
    "iptables": (
        (
            "NF_NAT",
            "NF_CONNTRACK",
            "NETFILTER_XT_NAT",
            "NETFILTER_XT_MARK",
            "NETFILTER_XT_MATCH_COMMENT",
            "NETFILTER_XT_MATCH_CONNTRACK",
            "NETFILTER_XT_MATCH_RECENT",
            "NETFILTER_XT_MATCH_STATISTIC",
            "NETFILTER_XT_TARGET_MASQUERADE",
        ),
        ("nf_nat", "xt_comment", "xt_statistic", "xt_MASQUERADE"),
    ),
}

# Kernel option -> a path that is there when it is set: what is left to look at when the configuration is unreadable.
TRACES: Mapping[str, str] = {
    "NAMESPACES": "/proc/self/ns/mnt",
    "NET_NS": "/proc/self/ns/net",
    "PID_NS": "/proc/self/ns/pid",
    "IPC_NS": "/proc/self/ns/ipc",
    "UTS_NS": "/proc/self/ns/uts",
    "USER_NS": "/proc/self/ns/user",
    "TIME_NS": "/proc/self/ns/time",
    "CGROUPS": "/proc/cgroups",
    "INET": "/proc/sys/net/ipv4",
    "PROC_FS": "/proc/self",
    "NF_CONNTRACK": "/proc/sys/net/netfilter/nf_conntrack_max",
    "POSIX_MQUEUE": "/proc/sys/fs/mqueue",
    "KEYS": "/proc/keys",
    "SECCOMP": "/proc/sys/kernel/seccomp",
    "SECCOMP_FILTER": "/proc/sys/kernel/seccomp/actions_avail",
    "BRIDGE_NETFILTER": "/proc/sys/net/bridge",
    "TUN": "/sys/class/misc/tun",
}


class Wanted(NamedTuple):
    """What the checks are for.

    api_address, pod_subnet, service_subnet: empty when not known; then what needs them is not checked.
    """

    role: str = KIND_NODE
    ip_family: str = "ipv4"
    pod_subnet: str = ""
    service_subnet: str = ""
    api_address: str = ""
    kube_proxy_mode: str = "iptables"


class Facts(NamedTuple):
    """One machine. Texts and numbers as the kernel gives them; no judgement."""

    euid: int
    capabilities: int
    cpus: int
    memory_mb: int
    release: str
    hostname: str
    hostname_resolves: bool
    programs: frozenset[str]
    # None when no file with the kernel's configuration can be read.
    config: kernelconfig.KernelConfig | None
    # Kernel options that leave a trace in /proc or /sys.
    traces: frozenset[str]
    # Name in EFFECTS -> why it does not work; empty text when it does.
    effects: Mapping[str, str]
    cgroup_version: int
    # Controller -> hierarchy it is mounted in, 0 for none.
    controllers: Mapping[str, int]
    swaps: tuple[str, ...]
    sysctls: Mapping[str, str]
    listening: frozenset[int]
    # Those of MANIFESTS, JOIN_FILES that exist, and ETCD_DIRECTORY when something is in it.
    existing: frozenset[str]
    firewalld: bool
    environment: Mapping[str, str]
    store: str
    free_mb: int
    free_inodes: int


def observe(wanted: Wanted) -> Facts:
    """Read the machine. Only what the role's checks look at is looked up when that costs more than a file.

    Some 15 ms; where the kernel's configuration does not tell that something works, it is tried in namespaces that
    vanish at once (some 50 ms more).
    """
    release = os.uname().release
    config = kernelconfig.find(release)
    kubeadm = wanted.role in (INIT, JOIN)
    status = procfs.read("/proc/self/status")
    store = paths.lib_root()
    disk = os.statvfs(_existing_parent(store))
    hostname = socket.gethostname()
    version, controllers = _cgroups()
    return Facts(
        euid=os.geteuid(),
        capabilities=procfs.status_mask(status, "CapEff"),
        cpus=len(os.sched_getaffinity(0)),
        memory_mb=procfs.memory_mb(procfs.read("/proc/meminfo")),
        release=release,
        hostname=hostname,
        hostname_resolves=not kubeadm or _resolves(hostname),
        programs=frozenset(name for name in PROGRAMS if _program(name)),
        config=config,
        traces=frozenset(option for option, path in TRACES.items() if os.path.exists(path)),
        effects=_effects(config, release) if os.geteuid() == 0 else dict.fromkeys(EFFECTS, ""),
        cgroup_version=version,
        controllers=controllers,
        swaps=swap.parse(procfs.read("/proc/swaps")),
        sysctls={name: procfs.read(f"/proc/sys/{name}").strip() for name in SYSCTLS},
        listening=_listening() if kubeadm else frozenset(),
        existing=_existing(),
        firewalld=procfs.unit_is_active("firewalld.service"),
        environment={name: os.environ[name] for name in os.environ if name.lower().endswith("_proxy")},
        store=store,
        free_mb=disk.f_bavail * disk.f_frsize // 2**20,
        # A file system without inodes (btrfs) reports none at all.
        free_inodes=disk.f_favail if disk.f_files else 1 << 30,
    )


def _program(name: str) -> bool:
    directories = [*os.environ.get("PATH", "").split(os.pathsep), *SYSTEM_PATH]
    return any(os.access(os.path.join(directory, name), os.X_OK) for directory in directories if directory)


def _existing_parent(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def _existing() -> frozenset[str]:
    found = {path for path in (*MANIFESTS, *JOIN_FILES) if os.path.lexists(path)}
    if os.path.isdir(ETCD_DIRECTORY) and os.listdir(ETCD_DIRECTORY):
        found.add(ETCD_DIRECTORY)
    return frozenset(found)


def _listening() -> frozenset[int]:
    return procfs.listening_ports(procfs.read(path) for path in ("/proc/net/tcp", "/proc/net/tcp6"))


def _resolves(hostname: str) -> bool:
    try:
        return bool(socket.getaddrinfo(hostname, None))
    except OSError:
        return False


def _cgroups() -> tuple[int, Mapping[str, int]]:
    """Version as the kubelet tells it (hybrid counts as v1), and controllers -> hierarchy.

    Version 1 is a tmpfs with a directory `memory` at /sys/fs/cgroup (system-validators, cgroup_validator_linux.go).
    A v2 controller's hierarchy is given as 1; devices and freezer are part of v2 itself (BPF, cgroup.freeze).
    """
    mounts = procfs.read("/proc/self/mountinfo")
    subsystems = dict(procfs.cgroup_subsystems(procfs.read("/proc/cgroups")))
    if os.path.isdir("/sys/fs/cgroup/memory") and re.search(r" /sys/fs/cgroup .* - tmpfs ", mounts):
        unified = procfs.read("/sys/fs/cgroup/unified/cgroup.controllers").split()
        return 1, {**subsystems, **{name: subsystems.get(name, 0) or 1 for name in unified}}
    names = [*procfs.read("/sys/fs/cgroup/cgroup.controllers").split(), "cpuacct", "devices", "freezer"]
    return 2, dict.fromkeys(names, 1)


def _effects(config: kernelconfig.KernelConfig | None, release: str) -> Mapping[str, str]:
    """Each of EFFECTS with why it fails; only what the kernel's configuration leaves open is tried."""
    options = config.options if config else {}
    unsure = []
    for name, (needed, modules) in EFFECTS.items():
        built_in = all(options.get(option) == "y" for option in needed)
        loadable = all(options.get(option) for option in needed) and all(
            kernelconfig.module_available(module, release) for module in modules
        )
        if not built_in and not loadable:
            unsure.append(name)
    works = dict.fromkeys(EFFECTS, "")
    if unsure:
        from . import prereq_probe

        works.update(prereq_probe.probe(unsure))
    return works
