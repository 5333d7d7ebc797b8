"""The capabilities of a container: containerd's default set, with the manifest's add and drop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# containerd's and Docker's default: CapBnd 00000000a80425fb.
DEFAULT = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
)

# linux/capability.h, in the order of their numbers, 0 to 40.
ALL = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER"),
    *("SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE"),
    *("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP"),
    *("MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF"),
    "CHECKPOINT_RESTORE",
)


def effective(wanted: Mapping[str, Any]) -> list[str]:
    """The names, without CAP_, after a securityContext's `capabilities`: ALL first, then each add, then each drop.

    Source: containerd internal/cri/server/container_create_linux.go. Names the kernel does not know are left out.
    """
    add = [name.upper() for name in wanted.get("add") or ()]
    drop = [name.upper() for name in wanted.get("drop") or ()]
    names: list[str] = list(DEFAULT)
    if "ALL" in add:
        names = list(ALL)
    if "ALL" in drop:
        names = []
    names += [name for name in add if name in ALL and name not in names]
    return [name for name in names if name not in drop]
