"""Capability names and the sets of a process (capabilities(7), linux/capability.h)."""

from __future__ import annotations

from collections.abc import Iterable

from . import syscalls

NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
NUMBERS = {name: number for number, name in enumerate(NAMES)}


def mask(names: Iterable[str]) -> int:
    """Bit mask of the named capabilities (without CAP_); unknown names are ignored, as the OCI specification says."""
    bits = 0
    for name in names:
        if name in NUMBERS:
            bits |= 1 << NUMBERS[name]
    return bits


def own_bounding() -> int:
    """This process's bounding set."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("CapBnd:"):
                return int(line.split()[1], 16)
    return 0


def limit_bounding(wanted: int, bounding: int) -> None:
    """Drop from the bounding set what is not wanted; needs CAP_SETPCAP."""
    for number in range(bounding.bit_length()):
        if bounding >> number & 1 and not wanted >> number & 1:
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)


def set_all(wanted: int) -> None:
    """Effective and permitted become wanted, inheritable and ambient empty (CVE-2022-24769 and its kin)."""
    syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
    syscalls.capset(wanted, wanted, 0)
