"""The kernel options that a node needs, as rows; and the cgroup controllers.

Source: k8s.io/system-validators, validators/types_unix.go (DefaultSysSpec); the rows of group Kernel are podlab's own.
"""

from __future__ import annotations

from typing import NamedTuple

from .prereq_facts import INIT, JOIN, KIND_NODE, MACHINE, ROLES, Facts, Wanted

KUBEADM = (INIT, JOIN)
OWN = (KIND_NODE, MACHINE)
ERROR, WARNING = "error", "warning"


class Option(NamedTuple):
    """One kernel option. cgroup: 1 or 2 when only that version of cgroups needs it, 0 for both."""

    name: str
    level: str
    roles: tuple[str, ...]
    group: str = "SystemVerification"
    alias: str = ""
    cgroup: int = 0


def _rows(
    names: str, level: str, roles: tuple[str, ...], group: str = "SystemVerification", cgroup: int = 0
) -> list[Option]:
    return [Option(name, level, roles, group, cgroup=cgroup) for name in names.split()]


OPTIONS = (
    *_rows("NAMESPACES NET_NS PID_NS IPC_NS UTS_NS CPUSETS MEMCG INET PROC_FS FAIR_GROUP_SCHED", ERROR, ROLES),
    *_rows("NETFILTER_XT_MATCH_COMMENT", ERROR, ROLES),
    Option("NETFILTER_XT_TARGET_REDIRECT", ERROR, ROLES, alias="IP_NF_TARGET_REDIRECT"),
    *_rows("CGROUPS CGROUP_PIDS CGROUP_SCHED", ERROR, ROLES),
    *_rows("CGROUP_CPUACCT CGROUP_DEVICE CGROUP_FREEZER", ERROR, ROLES, cgroup=1),
    *_rows("CGROUP_BPF", ERROR, ROLES, cgroup=2),
    *_rows("EXT4_FS", ERROR, KUBEADM),
    *_rows("CFS_BANDWIDTH SECCOMP SECCOMP_FILTER", WARNING, ROLES),
    # For podlab's own roles an overlay that works is an error of its own, below.
    Option("OVERLAY_FS", WARNING, KUBEADM, alias="OVERLAYFS_FS"),
    *_rows("AUFS_FS BLK_DEV_DM CGROUP_HUGETLB", WARNING, KUBEADM),
    *_rows("POSIX_MQUEUE NF_CONNTRACK", ERROR, OWN, "Kernel"),
    *_rows(
        "USER_NS TIME_NS BRIDGE_NETFILTER NF_TABLES NFT_NAT NFT_MASQ KEYS TUN MACVLAN", WARNING, (MACHINE,), "Kernel"
    ),
)

# Controllers that a node needs (system-validators, cgroup_validator_linux.go), and those that it can do without.
CONTROLLERS = {1: "cpu cpuacct cpuset devices freezer memory pids", 2: "cpu cpuset devices freezer memory pids"}
OPTIONAL_CONTROLLERS = {1: "hugetlb blkio", 2: "hugetlb io"}
# Those that podlab writes values to must be mounted as well.
WRITTEN_CONTROLLERS = ("cpu", "cpuset", "memory", "pids")


def option_missing(option: Option, facts: Facts) -> str:
    """Why a kernel option is not as wanted; empty when it is, or when nothing tells."""
    if option.cgroup not in (0, facts.cgroup_version) or option.name in facts.traces:
        return ""
    if facts.config is None:
        # What is left is the option's effect; where it leaves none, the check KernelConfig says so.
        return ""
    if facts.config.options.keys() & {option.name, option.alias}:
        return ""
    return f"CONFIG_{option.name} is not set in {facts.config.path}"


def config_unreadable(facts: Facts, wanted: Wanted) -> str:
    """Why the kernel's options could not be read; empty when they could."""
    if facts.config is not None:
        return ""
    checked = [option for option in OPTIONS if wanted.role in option.roles]
    blind = [option.name for option in checked if option.name not in facts.traces]
    return f"no file tells how kernel {facts.release} was configured, so nobody knows about {', '.join(blind)}"


def controllers_missing(table: dict[int, str], facts: Facts) -> str:
    """Which controllers of a table the kernel does not offer; empty when it has all."""
    absent = [name for name in table[facts.cgroup_version].split() if name not in facts.controllers]
    return f"cgroup v{facts.cgroup_version} has no controller {', '.join(absent)}" if absent else ""


def controllers_unmounted(facts: Facts) -> str:
    """Which controllers are enabled but mounted nowhere; empty when none."""
    unmounted = [name for name in WRITTEN_CONTROLLERS if facts.controllers.get(name) == 0]
    return f"the controllers {', '.join(unmounted)} are enabled but mounted nowhere" if unmounted else ""
