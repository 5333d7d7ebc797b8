"""The checks as a table: name, level, for which roles, the test over the facts, the remedy.

Names, numbers and levels of kubeadm's checks are kubeadm's (1.36, cmd/kubeadm/app/preflight/checks.go).
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Mapping
from typing import Callable, NamedTuple

from . import prereq_kernel as kernel
from .prereq_facts import (
    EFFECTS,
    ETCD_DIRECTORY,
    INIT,
    JOIN,
    JOIN_FILES,
    KIND_NODE,
    MACHINE,
    MANIFESTS,
    ROLES,
    Facts,
    Wanted,
)
from .prereq_kernel import ERROR, KUBEADM, OWN, WARNING

# kubeadm's checks that podlab does not make, and why.
NOT_APPLIED: Mapping[str, str] = {
    "KubernetesVersion": "podlab installs no Kubernetes",
    "CRI": "podlab is the container runtime of its nodes",
    "ContainerRuntimeVersion": "podlab is the container runtime of its nodes",
    "KubeletVersion": "there is no kubelet",
    "Service-kubelet": "there is no kubelet",
    "ExternalEtcdVersion": "there is no etcd",
    "ExternalEtcdClientCertificates": "there is no etcd",
    "ImagePull": "it changes the machine; podlab_image pulls",
    "FileExisting-conntrack": "only for Kubernetes before 1.32",
}

_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_CHROOT": 18, "CAP_SYS_ADMIN": 21, "CAP_MKNOD": 27}
_PORTS = {6443: (INIT,), 10259: (INIT,), 10257: (INIT,), 10250: KUBEADM, 2379: (INIT,), 2380: (INIT,)}
_MIN_CPUS, _MIN_MEMORY_MB = 2, 1700
_MIN_FREE_MB, _MIN_FREE_INODES = 256, 10_000
_KERNEL = re.compile(r"(5\.4|5\.10|5\.15|[6-9]|[1-9]\d+)\.")
_HOSTNAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

Test = Callable[[Facts, Wanted], str]


class Check(NamedTuple):
    """One check. test: why it fails, empty text when it does not. group: a name that several checks share."""

    name: str
    level: str
    roles: tuple[str, ...]
    test: Test
    remedy: str
    group: str = ""


def _file_check(kind: str, path: str) -> str:
    return f"{kind}-{path.replace('/', '-')}"


def _port(facts: Facts, _wanted: Wanted, port: int) -> str:
    return f"port {port} is in use" if port in facts.listening else ""


def _absent(facts: Facts, _wanted: Wanted, path: str) -> str:
    if path not in facts.existing:
        return ""
    return f"{path} is not empty" if path == ETCD_DIRECTORY else f"{path} already exists"


def _program(facts: Facts, _wanted: Wanted, name: str) -> str:
    return "" if name in facts.programs else f"{name} is not found in PATH"


def _nft(facts: Facts, wanted: Wanted) -> str:
    return _program(facts, wanted, "nft") if wanted.kube_proxy_mode == "nftables" else ""


def _forwarding(facts: Facts, wanted: Wanted, family: str, name: str) -> str:
    if wanted.ip_family not in (family, "dual") or facts.sysctls.get(name, "")[:1] == "1":
        return ""
    return f"/proc/sys/{name} is {facts.sysctls.get(name) or 'not there'}, not 1"


def _option(facts: Facts, _wanted: Wanted, option: kernel.Option) -> str:
    return kernel.option_missing(option, facts)


def _effect(facts: Facts, _wanted: Wanted, name: str) -> str:
    return f"the kernel refuses it: {facts.effects[name]}" if facts.effects[name] else ""


def _at_least(facts: Facts, _wanted: Wanted, name: str, least: int) -> str:
    value = facts.sysctls.get(name, "")
    return f"{name.replace('/', '.')} is {value}, less than {least}" if value.isdigit() and int(value) < least else ""


def _capabilities(facts: Facts, _wanted: Wanted) -> str:
    missing = [name for name, bit in _CAPABILITIES.items() if not facts.capabilities >> bit & 1]
    return f"root lacks {', '.join(missing)}" if missing and facts.euid == 0 else ""


def _conntrack(facts: Facts, wanted: Wanted) -> str:
    return _at_least(facts, wanted, "net/netfilter/nf_conntrack_max", max(131_072, 32_768 * facts.cpus))


def _disk(facts: Facts, _wanted: Wanted) -> str:
    if facts.free_mb < _MIN_FREE_MB:
        return f"{facts.free_mb} MiB are free for {facts.store}, less than {_MIN_FREE_MB}"
    if facts.free_inodes < _MIN_FREE_INODES:
        return f"{facts.free_inodes} inodes are free for {facts.store}, less than {_MIN_FREE_INODES}"
    return ""


def _swap(facts: Facts, _wanted: Wanted) -> str:
    areas = ", ".join(facts.swaps)
    return f"swap is on ({areas}): a pod's memory can be moved out, past its limit" if areas else ""


def _hostname(facts: Facts, _wanted: Wanted) -> str:
    if len(facts.hostname) > 253 or not _HOSTNAME.fullmatch(facts.hostname):
        return f"the host name {facts.hostname!r} is no lowercase RFC 1123 name"
    return "" if facts.hostname_resolves else f"the host name {facts.hostname!r} has no address"


def proxied(host: str, environment: Mapping[str, str]) -> str:
    """The proxy that an https request to an address or name would take; empty when none (as Go's httpproxy)."""
    lower = {name.lower(): value for name, value in environment.items()}
    proxy = lower.get("https_proxy", "")
    for word in filter(None, (part.strip() for part in lower.get("no_proxy", "").split(","))):
        if word == "*" or host == word or host.endswith("." + word.lstrip(".")):
            return ""
        try:
            if ipaddress.ip_address(host) in ipaddress.ip_network(word, strict=False):
                return ""
        except ValueError:
            continue  # a name is in no network, and a word need not be one
    return proxy


def _api_proxy(facts: Facts, wanted: Wanted) -> str:
    proxy = wanted.api_address and proxied(wanted.api_address, facts.environment)
    return f"https://{wanted.api_address} would go through the proxy {proxy}" if proxy else ""


def _subnet_proxy(facts: Facts, wanted: Wanted) -> str:
    for subnet in filter(None, f"{wanted.service_subnet},{wanted.pod_subnet}".split(",")):
        first = str(ipaddress.ip_network(subnet, strict=False)[1])
        proxy = proxied(first, facts.environment)
        if proxy:
            return f"{subnet} would go through the proxy {proxy}"
    return ""


def _when(good: Callable[[Facts], bool], message: str) -> Test:
    """A test on facts alone: message (its {} filled from the facts) unless good."""
    return lambda facts, _wanted: "" if good(facts) else message.format(f=facts)


CHECKS: tuple[Check, ...] = (
    Check(
        "IsPrivilegedUser",
        ERROR,
        ROLES,
        _when(lambda f: f.euid == 0, "the user is not root"),
        "Run as root (become: true).",
    ),
    Check("Capabilities", ERROR, OWN, _capabilities, "In a container: start that with --privileged.", "podlab"),
    Check(
        "NumCPU",
        ERROR,
        (INIT,),
        _when(lambda f: f.cpus >= _MIN_CPUS, f"the machine has {{f.cpus}} CPUs, less than {_MIN_CPUS}"),
        f"Give it {_MIN_CPUS}.",
    ),
    Check(
        "Mem",
        ERROR,
        (INIT,),
        _when(
            lambda f: f.memory_mb >= _MIN_MEMORY_MB,
            f"the machine has {{f.memory_mb}} MB of memory, less than {_MIN_MEMORY_MB} MB",
        ),
        f"Give it {_MIN_MEMORY_MB} MB.",
    ),
    Check(
        "Firewalld",
        WARNING,
        (INIT,),
        _when(lambda f: not f.firewalld, "firewalld is active"),
        "Open ports 6443 and 10250 in it, or stop it.",
    ),
    *(
        Check(f"Port-{port}", ERROR, roles, functools.partial(_port, port=port), "Stop what listens there (ss -ltnp).")
        for port, roles in _PORTS.items()
    ),
    Check(
        _file_check("DirAvailable", ETCD_DIRECTORY),
        ERROR,
        (INIT,),
        functools.partial(_absent, path=ETCD_DIRECTORY),
        "Move it away: it holds another cluster's state.",
    ),
    *(
        Check(
            _file_check("FileAvailable", path),
            ERROR,
            roles,
            functools.partial(_absent, path=path),
            "Move it away, or run kubeadm reset.",
        )
        for paths, roles in ((MANIFESTS, (INIT,)), (JOIN_FILES, (JOIN,)))
        for path in paths
    ),
    Check("HTTPProxy", WARNING, KUBEADM, _api_proxy, "Add the address to no_proxy."),
    Check("HTTPProxyCIDR", WARNING, (INIT,), _subnet_proxy, "Add the subnet to no_proxy."),
    *(
        Check(
            _file_check("FileContent", f"/proc/sys/{name}"),
            ERROR,
            (MACHINE, *KUBEADM),
            functools.partial(_forwarding, family=family, name=name),
            f"Set it: sysctl -w {name.replace('/', '.')}=1.",
        )
        for family, name in (("ipv4", "net/ipv4/ip_forward"), ("ipv6", "net/ipv6/conf/default/forwarding"))
    ),
    Check("Swap", WARNING, ROLES, _swap, "Switch it off: swapoff -a, or swap: off for podlab_prerequisites."),
    *(
        Check(f"FileExisting-{name}", ERROR, roles, functools.partial(_program, name=name), f"Install {package}.")
        for name, roles, package in (
            ("losetup", ROLES, "mount"),
            ("mount", ROLES, "mount"),
            ("cp", ROLES, "coreutils"),
            ("iptables-restore", OWN, "iptables"),
            ("nsenter", OWN, "util-linux"),
        )
    ),
    Check("FileExisting-nft", ERROR, OWN, _nft, "Install nftables, or use kubeProxyMode: iptables."),
    Check(
        "Hostname",
        WARNING,
        (MACHINE, *KUBEADM),
        _hostname,
        "Set a name with hostnamectl; list it in /etc/hosts or DNS.",
    ),
    Check(
        "SystemVerification-KernelVersion",
        WARNING,
        ROLES,
        _when(lambda f: bool(_KERNEL.match(f.release)), "kernel {f.release} is none of 5.4, 5.10, 5.15, 6 and newer"),
        "Boot a longterm kernel.",
        "SystemVerification",
    ),
    Check(
        "SystemVerification-KernelConfig",
        WARNING,
        (MACHINE, *KUBEADM),
        lambda facts, wanted: kernel.config_unreadable(facts, wanted),
        "Make /boot/config-$(uname -r) readable, or load the module configs.",
        "SystemVerification",
    ),
    *(
        Check(
            f"{option.group}-{option.name}",
            option.level,
            option.roles,
            functools.partial(_option, option=option),
            "Boot a kernel that has it built in or as a module.",
            option.group,
        )
        for option in kernel.OPTIONS
    ),
    Check(
        "SystemVerification-Controllers",
        ERROR,
        ROLES,
        lambda facts, _wanted: kernel.controllers_missing(kernel.CONTROLLERS, facts),
        "Boot with cgroup_enable=NAME, and let nothing above withhold it (cgroup.subtree_control).",
        "SystemVerification",
    ),
    Check(
        "SystemVerification-OptionalControllers",
        WARNING,
        KUBEADM,
        lambda facts, _wanted: kernel.controllers_missing(kernel.OPTIONAL_CONTROLLERS, facts),
        "Only what uses them needs them.",
        "SystemVerification",
    ),
    Check(
        "SystemVerification-CgroupVersion",
        ERROR,
        KUBEADM,
        _when(lambda f: f.cgroup_version == 2, "cgroup v1: the kubelet refuses it since 1.35"),
        "Boot with systemd.unified_cgroup_hierarchy=1.",
        "SystemVerification",
    ),
    Check(
        "CgroupMounts",
        ERROR,
        OWN,
        lambda facts, _wanted: kernel.controllers_unmounted(facts),
        "Mount them: mount -t cgroup -o NAME cgroup /sys/fs/cgroup/NAME.",
        "podlab",
    ),
    *(
        Check(
            f"Effect-{name}",
            level,
            OWN,
            functools.partial(_effect, name=name),
            "Load its module on the machine that the kernel belongs to (modprobe).",
            "podlab",
        )
        for name, level in {**dict.fromkeys(EFFECTS, ERROR), "vxlan": WARNING}.items()
    ),
    *(
        Check(
            f"Sysctl-{name.replace('/', '.')}",
            level,
            roles,
            functools.partial(_at_least, name=name, least=least),
            f"Raise it: sysctl -w {name.replace('/', '.')}={least}.",
            "podlab",
        )
        for name, least, level, roles in (
            # The kernel's own defaults are enough for nodes without a kubelet; kind's known issue is for real ones.
            ("fs/inotify/max_user_instances", 128, WARNING, (KIND_NODE,)),
            ("fs/inotify/max_user_instances", 512, WARNING, (MACHINE, *KUBEADM)),
            ("fs/inotify/max_user_watches", 8_192, WARNING, (KIND_NODE,)),
            ("fs/inotify/max_user_watches", 524_288, WARNING, (MACHINE, *KUBEADM)),
            ("user/max_net_namespaces", 64, ERROR, OWN),
            ("user/max_mnt_namespaces", 64, ERROR, OWN),
            ("user/max_pid_namespaces", 64, ERROR, OWN),
        )
    ),
    Check(
        "Sysctl-net.netfilter.nf_conntrack_max",
        WARNING,
        (MACHINE, *KUBEADM),
        _conntrack,
        "kube-proxy raises it; do so where there is none.",
        "podlab",
    ),
    Check(
        "BridgeNetfilter",
        WARNING,
        (MACHINE, *KUBEADM),
        _when(
            lambda f: f.sysctls.get("net/bridge/bridge-nf-call-iptables") == "1",
            "frames between two ports of a bridge bypass iptables, so Services fail where pods share one",
        ),
        "modprobe br_netfilter; sysctl -w net.bridge.bridge-nf-call-iptables=1.",
        "podlab",
    ),
    Check("FreeDisk", ERROR, OWN, _disk, "Make room, or remove unused images: ./lab down --purge.", "podlab"),
)


def checks_for(role: str) -> list[Check]:
    """The checks that a role has, in their order."""
    return [check for check in CHECKS if role in check.roles]
