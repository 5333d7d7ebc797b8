"""Seccomp: the default profile, and the program that a profile becomes, tried call by call in an interpreter."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from podlab.kube import capabilities, seccomp_default
from podlab.linux import seccomp_filter, syscall_table
from support import cbpf

KERNEL = (6, 18)
ALLOW, ENOSYS, EPERM = 0x7FFF0000, 0x00050000 | errno.ENOSYS, 0x00050000 | errno.EPERM
CAPS: Mapping[str, Sequence[str]] = {
    "default": capabilities.DEFAULT,
    "none": (),
    "admin": ("SYS_ADMIN", "SYS_CHROOT"),
    "all": capabilities.ALL,
}
ARGUMENTS = (0, 1, 2, 8, 0x11, 38, 39, 40, 41, 0x20000, 0x20008, 0x10000000, 0x40000000, 0x7E020000, 0xFFFFFFFF)
SAMPLES = [*ARGUMENTS, 1 << 32, (1 << 32) | 8, (1 << 64) - 1, 0x1_0002_0000, 0x1_0000_0026]
COMPARE = {
    "EQ": lambda a, v, _: a == v,
    "NE": lambda a, v, _: a != v,
    "LT": lambda a, v, _: a < v,
    "LE": lambda a, v, _: a <= v,
    "GE": lambda a, v, _: a >= v,
    "GT": lambda a, v, _: a > v,
    "MASKED_EQ": lambda a, v, o: a & v == o,
}
MACHINES = [(machine, abi) for machine, abis in seccomp_filter.ABIS.items() for abi in abis]
# A call for each capability that allows it: in the list of pods.md 1.5 and of containerd.
BY_CAPABILITY = {
    "SYS_ADMIN": (
        "mount",
        "umount2",
        "unshare",
        "setns",
        "bpf",
        "perf_event_open",
        "fsopen",
        "move_mount",
        "open_tree",
    ),
    "DAC_READ_SEARCH": ("open_by_handle_at",),
    "SYS_BOOT": ("reboot",),
    "SYS_CHROOT": ("chroot",),
    "SYS_MODULE": ("init_module", "finit_module", "delete_module"),
    "SYS_PACCT": ("acct",),
    "SYS_PTRACE": ("kcmp", "pidfd_getfd", "process_madvise"),
    "SYS_TIME": ("settimeofday", "clock_settime"),
    "SYS_TTY_CONFIG": ("vhangup",),
    "SYS_NICE": ("mbind", "set_mempolicy"),
    "SYSLOG": ("syslog",),
    "BPF": ("bpf",),
    "PERFMON": ("perf_event_open",),
}
NEVER = "io_uring_setup io_uring_enter io_uring_register userfaultfd keyctl add_key request_key pivot_root kexec_load"


def program(profile: Mapping[str, Any], caps: Sequence[str] = (), machine: str = "x86_64") -> bytes:
    return seccomp_filter.compile_profile(seccomp_filter.read(profile, caps, machine, KERNEL), machine)


def default_program(caps: Sequence[str], machine: str = "x86_64") -> bytes:
    return program(seccomp_default.profile(caps, machine, KERNEL), caps, machine)


class Naive:
    """What a profile says, rule by rule, without ranges or a search."""

    def __init__(self, profile: Mapping[str, Any], table: Mapping[str, int]) -> None:
        self.rules: dict[int, list[Mapping[str, Any]]] = {}
        for each in profile["syscalls"]:
            for name in each["names"]:
                if name in table:
                    self.rules.setdefault(table[name], []).append(each)
        self.newest = max(self.rules)

    def __call__(self, number: int, args: Sequence[int]) -> int:
        for each in sorted(self.rules.get(number, ()), key=lambda each: bool(each.get("args"))):
            if all(
                COMPARE[a["op"][9:]](args[a["index"]], a["value"], a["valueTwo"])  # type: ignore[no-untyped-call]
                for a in each.get("args", ())
            ):
                return ALLOW if each["action"] == "SCMP_ACT_ALLOW" else 0x50000 | int(each.get("errnoRet", 1))
        return EPERM if number <= self.newest else ENOSYS


@pytest.mark.parametrize("caps", CAPS)
@pytest.mark.parametrize(("machine", "abi"), MACHINES, ids=[abi[0] for _, abi in MACHINES])
def test_every_call_of_the_table(machine: str, abi: seccomp_filter.Abi, caps: str) -> None:
    """And some beyond it: each number with many arguments, the program against the profile."""
    profile = seccomp_default.profile(CAPS[caps], machine, KERNEL)
    made = default_program(CAPS[caps], machine)
    table = syscall_table.numbers(abi[0])
    base = syscall_table.X32_BIT if abi[0] == "x32" else 0
    naive = Naive(profile, table)
    special = {table[name] for name in ("clone", "socket", "personality") if name in table}
    for number in {*range(base, base + 600), base + 5000, *table.values()}:
        for sample in SAMPLES if number in special else (0,):
            # The registers of a 32-bit process have no upper half, and of x32 nobody looks at it.
            args = [sample if abi[3] else sample & 0xFFFFFFFF, 7, 0, 0, 0, 0]
            assert cbpf.run(made, abi[2], number, args) == naive(number, args), (number, sample)


@pytest.mark.parametrize("caps", CAPS)
def test_libseccomp_makes_the_same_of_it(caps: str) -> None:
    """What runc would load, but for calls that are newer than this libseccomp."""
    try:
        library = cbpf.LibSeccomp()
    except OSError:
        pytest.skip("this machine has no libseccomp.so.2")
    profile = seccomp_default.profile(CAPS[caps], "x86_64", KERNEL)
    profile["architectures"] = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"]
    theirs, ours = library.compile(profile), program(profile, CAPS[caps])
    for abi in ("x86_64", "x32"):
        table = syscall_table.numbers(abi)
        newest = max(table[name] for rule in profile["syscalls"] for name in rule["names"] if name in table)
        known = [
            (name, number)
            for name, number in table.items()
            if library.number(name, "SCMP_ARCH_X86_64" if abi == "x86_64" else "SCMP_ARCH_X32") == number <= newest
        ]
        assert len(known) > 340
        for name, number in known:
            for sample in SAMPLES if name in ("clone", "socket", "personality") else (0,):
                args = [sample, 7, 0, 0, 0, 0]
                both = [cbpf.run(each, 0xC000003E, number, args) for each in (theirs, ours)]
                assert both[0] == both[1], (name, sample, [hex(each) for each in both])


@pytest.mark.parametrize("machine", seccomp_filter.ABIS)
def test_what_is_never_allowed(machine: str) -> None:
    """pods.md 1.5."""
    table = syscall_table.numbers(machine)
    audit = seccomp_filter.ABIS[machine][0][2]
    made = default_program(capabilities.ALL, machine)
    assert [name for name in NEVER.split() if cbpf.run(made, audit, table[name]) != EPERM] == []
    for family in (0x26, 0x28, 0x1_0000_0026, 0x1_0000_0028, 46):
        assert cbpf.run(made, audit, table["socket"], [family]) == EPERM
    for family in (1, 2, 10, 16, 17, 37, 39, 41, 44):
        assert cbpf.run(made, audit, table["socket"], [family]) == ALLOW


@pytest.mark.parametrize("cap", BY_CAPABILITY)
def test_what_a_capability_allows(cap: str) -> None:
    table = syscall_table.numbers("x86_64")
    without, having = (default_program(caps) for caps in ((), (cap,)))
    for name in BY_CAPABILITY[cap]:
        assert cbpf.run(without, 0xC000003E, table[name]) == EPERM, name
        assert cbpf.run(having, 0xC000003E, table[name]) == ALLOW, name


def test_clone_of_namespaces() -> None:
    """Without SYS_ADMIN clone3 is not there, so that clone is asked, whose flags can be seen."""
    table = syscall_table.numbers("x86_64")
    for caps, clone, clone3 in (((), EPERM, ENOSYS), (("SYS_ADMIN",), ALLOW, ALLOW)):
        made = default_program(caps)
        assert cbpf.run(made, 0xC000003E, table["clone"], [0x11]) == ALLOW
        assert cbpf.run(made, 0xC000003E, table["clone"], [0x10000011]) == clone
        assert cbpf.run(made, 0xC000003E, table["clone3"]) == clone3


def test_tracing_is_for_kernels_that_look_again_after_the_tracer() -> None:
    old = seccomp_default.profile((), "x86_64", (4, 7))
    assert not any("ptrace" in rule["names"] for rule in old["syscalls"])
    assert any("ptrace" in rule["names"] for rule in seccomp_default.profile((), "x86_64", (4, 8))["syscalls"])


def test_an_architecture_that_is_not_named_kills() -> None:
    made = program({"defaultAction": "SCMP_ACT_ALLOW"})
    assert cbpf.run(made, 0xC000003E, 0) == ALLOW
    assert cbpf.run(made, 0x40000003, 0) == cbpf.run(made, 0xC00000B7, 0) == seccomp_filter.KILL_THREAD
    # x32's calls are x86_64's to the kernel.
    assert cbpf.run(made, 0xC000003E, syscall_table.X32_BIT) == seccomp_filter.KILL_THREAD


def rule(*names: str, action: str = "SCMP_ACT_ERRNO", **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": action, **more}


def argument(index: int, op: str, value: int, other: int = 0) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": other}


@pytest.mark.parametrize("op", seccomp_filter.OPERATORS)
@pytest.mark.parametrize("value", [0, 5, 0xFFFFFFFF, 1 << 32, (7 << 32) | 5, (1 << 64) - 1])
def test_comparisons(op: str, value: int) -> None:
    """All 64 bits count, and both conditions of a rule must hold."""
    other = value & 0x0000000F_00000004
    first, second = argument(1, op, value, other), argument(5, "GE", 3)
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("read", args=[first, second], errnoRet=7)]}
    made = program(profile)
    near = {value + step & (1 << 64) - 1 for step in (-1 << 32, -1, 0, 1, 1 << 32)} | {other, 0, 4, 5}
    for given in near:
        for last in (2, 3):
            expected = 0x50007 if COMPARE[op](given, value, other) and last >= 3 else ALLOW  # type: ignore[no-untyped-call]
            assert cbpf.run(made, 0xC000003E, 0, [0, given, 0, 0, 0, last]) == expected, (given, last)


def test_rules_of_one_call() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            rule("read", action="SCMP_ACT_ALLOW", args=[argument(0, "EQ", 1)]),
            rule("read", action="SCMP_ACT_LOG", args=[argument(0, "EQ", 1)]),
            rule("read"),  # says what holds anyway: it does not beat those with conditions
            rule("write", action="SCMP_ACT_ALLOW", args=[argument(0, "EQ", 1), argument(0, "EQ", 2)]),
            rule("open", action="SCMP_ACT_LOG", args=[argument(0, "EQ", 1)]),
            rule("open", action="SCMP_ACT_KILL_PROCESS"),
            rule("close", action="SCMP_ACT_TRAP"),
            rule("stat", action="SCMP_ACT_TRACE"),
            rule("fstat", errnoRet=0),
            rule("no_such_call_yet", action="SCMP_ACT_ALLOW"),
        ],
    }
    made = program(profile)
    said = {
        "read": [EPERM, ALLOW, EPERM],
        "write": [EPERM, ALLOW, ALLOW],
        "open": [0x80000000] * 3,
        "close": [0x30000] * 3,
        "stat": [0x7FF00001] * 3,
        "fstat": [0x50000] * 3,
        "lstat": [ENOSYS] * 3,
    }
    for name, expected in said.items():
        number = syscall_table.numbers("x86_64")[name]
        assert [cbpf.run(made, 0xC000003E, number, [value]) for value in range(3)] == expected, name


NEWER = [("SCMP_ACT_ERRNO", None, ENOSYS), ("SCMP_ACT_ERRNO", 5, ENOSYS), ("SCMP_ACT_KILL", None, ENOSYS)]
NEWER += [("SCMP_ACT_ALLOW", None, ALLOW), ("SCMP_ACT_LOG", None, 0x7FFC0000)]


@pytest.mark.parametrize(("action", "number", "expected"), NEWER)
def test_calls_newer_than_the_profile(action: str, number: int | None, expected: int) -> None:
    """What the profile's author cannot have known is not refused but not there, as runc has it."""
    more = {} if number is None else {"defaultErrnoRet": number}
    made = program({"defaultAction": action, **more, "syscalls": [rule("statx", action="SCMP_ACT_KILL_PROCESS")]})
    assert cbpf.run(made, 0xC000003E, 331) == cbpf.run(program({"defaultAction": action, **more}), 0xC000003E, 500)
    assert cbpf.run(made, 0xC000003E, 450) == expected


def test_dockers_form() -> None:
    """archMap, name, includes and excludes."""
    profile = {
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        ],
        "syscalls": [
            {"name": "read", "action": "SCMP_ACT_ALLOW"},
            rule("write", action="SCMP_ACT_ALLOW", includes={"caps": ["CAP_SYS_ADMIN", "CAP_CHOWN"]}),
            rule("open", action="SCMP_ACT_ALLOW", excludes={"caps": ["CAP_SYS_ADMIN", "CAP_KILL"]}),
            rule("close", action="SCMP_ACT_ALLOW", includes={"arches": ["arm64"]}),
            rule("stat", action="SCMP_ACT_ALLOW", excludes={"arches": ["arm64"]}, includes={"minKernel": "6.18"}),
            rule("fstat", action="SCMP_ACT_ALLOW", includes={"minKernel": "7.0"}),
            rule("lstat", action="SCMP_ACT_ALLOW"),
        ],
    }
    allowed = {
        (): {"read", "open", "stat", "lstat"},
        ("SYS_ADMIN",): {"read", "stat", "lstat"},
        ("SYS_ADMIN", "CHOWN"): {"read", "write", "stat", "lstat"},
        ("KILL",): {"read", "stat", "lstat"},
    }
    for caps, names in allowed.items():
        made = program(profile, caps)
        found = {
            name
            for name in ("read", "write", "open", "close", "stat", "fstat", "lstat")
            if cbpf.run(made, 0xC000003E, syscall_table.numbers("x86_64")[name]) == ALLOW
        }
        assert found == names, caps
    assert cbpf.run(program(profile), 0x40000003, syscall_table.numbers("i386")["read"]) == ALLOW


BAD = [
    ({}, "string None is not a valid action for seccomp"),
    ({"defaultAction": "ALLOW"}, "string ALLOW is not a valid action for seccomp"),
    ({"defaultAction": "SCMP_ACT_NOTIFY"}, "string SCMP_ACT_NOTIFY is not a valid action for seccomp"),
    ({"architectures": ["amd64"]}, "string amd64 is not a valid arch for seccomp"),
    ({"flags": ["FAST"]}, "seccomp flag 'FAST' not known or not supported"),
    ({"syscalls": [rule("read", action="NO")]}, "string NO is not a valid action for seccomp"),
    ({"syscalls": [rule("read", args=[{"index": 0, "op": "=="}])]}, "string == is not a valid operator for seccomp"),
    ({"syscalls": [rule("read", args=[argument(6, "EQ", 0)])]}, "a system call has no argument 6"),
    ({"syscalls": [rule("read", args=[argument(0, "EQ", 1 << 64)])]}, "the values of an argument have 64 bits"),
]


@pytest.mark.parametrize(("more", "message"), BAD, ids=[row[1] for row in BAD])
def test_profiles_that_are_none(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        program({"defaultAction": "SCMP_ACT_ALLOW", **more} if more else {})


def test_a_machine_without_a_table() -> None:
    with pytest.raises(ValueError, match="no table of system calls for riscv64"):
        seccomp_filter.read({"defaultAction": "SCMP_ACT_ALLOW"}, (), "riscv64", KERNEL)


def test_a_filter_that_is_too_long() -> None:
    many = [rule("read", args=[argument(0, "EQ", number)]) for number in range(1000)]
    with pytest.raises(ValueError, match="its filter has [0-9]+ instructions, the kernel takes 4096"):
        program({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": many})
