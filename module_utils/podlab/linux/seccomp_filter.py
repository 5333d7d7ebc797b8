"""A seccomp profile as a program for the kernel: classic BPF over struct seccomp_data (seccomp(2)).

What a profile means is what runc and libseccomp make of it: a rule without conditions beats those with conditions,
calls newer than any that the profile names give ENOSYS, an architecture that it does not name kills.
Sources: OCI runtime-spec config-linux.md, Docker's profile format, runc libcontainer/seccomp/patchbpf.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from . import syscall_table

KILL_THREAD = 0x00000000
KILL_PROCESS = 0x80000000
ERRNO = 0x00050000
TRACE = 0x7FF00000
LOG = 0x7FFC0000
ALLOW = 0x7FFF0000
_ENOSYS = ERRNO | errno.ENOSYS
# Name in a profile -> what the kernel is told, without the number that ERRNO and TRACE carry.
ACTIONS = {
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_ALLOW": ALLOW,
}
_NUMBERED = (ERRNO, TRACE)
_PERMISSIVE = (ALLOW, LOG, TRACE)
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
}
# runc's own when a profile names none.
_DEFAULT_FLAGS = ("SECCOMP_FILTER_FLAG_SPEC_ALLOW",)
OPERATORS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")

# A machine's architecture and its 32-bit kin: (our table, the profile's name, AUDIT_ARCH_*, whether all 64 bits count).
Abi = tuple[str, str, int, bool]
ABIS: Mapping[str, tuple[Abi, ...]] = {
    "x86_64": (
        ("x86_64", "SCMP_ARCH_X86_64", 0xC000003E, True),
        ("i386", "SCMP_ARCH_X86", 0x40000003, False),
        ("x32", "SCMP_ARCH_X32", 0xC000003E, False),
    ),
    "aarch64": (
        ("aarch64", "SCMP_ARCH_AARCH64", 0xC00000B7, True),
        ("arm", "SCMP_ARCH_ARM", 0x40000028, False),
    ),
}
# Go's names of them, in Docker's profiles.
_GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}

_LOAD, _JUMP, _JEQ, _JGT, _JGE, _AND, _RETURN = 0x20, 0x05, 0x15, 0x25, 0x35, 0x54, 0x06
_NR, _ARCH, _ARGS = 0, 4, 16
_MAX_INSTRUCTIONS = 4096

Instruction = tuple[int, int, int, int]
Code = tuple[Instruction, ...]


class Condition(NamedTuple):
    """One comparison of an argument; "MASKED_EQ" compares the bits of value with other."""

    argument: int
    op: str
    value: int
    other: int


class Rule(NamedTuple):
    """What happens to one system call when all conditions hold."""

    name: str
    conditions: tuple[Condition, ...]
    action: int


class Profile(NamedTuple):
    """A profile, read and checked: for one machine and one set of capabilities."""

    default: int
    architectures: tuple[str, ...]
    flags: int
    rules: tuple[Rule, ...]


def read(profile: Mapping[str, Any], caps: Iterable[str], machine: str, kernel: tuple[int, int]) -> Profile:
    """A profile in the OCI's or Docker's JSON form. Raises ValueError naming what is wrong in it.

    caps: names without CAP_ of the container's bounding set. machine: as uname says. kernel: its version.
    """
    if machine not in ABIS:
        raise ValueError(f"no table of system calls for {machine}")
    default = _action(profile, "defaultAction", profile.get("defaultErrnoRet"))
    names = list(profile.get("architectures") or ())
    for entry in profile.get("archMap") or ():
        if entry.get("architecture") == ABIS[machine][0][1]:
            names += [entry["architecture"], *(entry.get("subArchitectures") or ())]
    for name in names:
        if not str(name).startswith("SCMP_ARCH_"):
            raise ValueError(f"string {name} is not a valid arch for seccomp")
    flags = 0
    for name in profile.get("flags") or _DEFAULT_FLAGS:
        if name not in FLAGS:
            raise ValueError(f"seccomp flag {name!r} not known or not supported")
        flags |= FLAGS[name]
    about = (frozenset(f"CAP_{name}" for name in caps), _GO_NAMES[machine], kernel)
    rules: list[Rule] = []
    for entry in profile.get("syscalls") or ():
        if _applies(entry, *about):
            rules += _rules(entry)
    return Profile(default, tuple(names), flags, tuple(rules))


def _action(thing: Mapping[str, Any], key: str, number: Any) -> int:
    name = thing.get(key)
    if name not in ACTIONS:
        raise ValueError(f"string {name} is not a valid action for seccomp")
    action = ACTIONS[name]
    if action not in _NUMBERED:
        return action
    return action | (errno.EPERM if number is None else int(number) & 0xFFFF)


def _applies(entry: Mapping[str, Any], caps: frozenset[str], go_name: str, kernel: tuple[int, int]) -> bool:
    """Docker's includes and excludes: for which capabilities, architectures and kernels a rule is."""
    for key, wanted in (("includes", True), ("excludes", False)):
        filter_ = entry.get(key) or {}
        if filter_.get("arches") and (go_name in filter_["arches"]) is not wanted:
            return False
        if filter_.get("minKernel") and (kernel >= _version(filter_["minKernel"])) is not wanted:
            return False
        given = set(filter_.get("caps") or ())
        # All of them to include, any of them to exclude.
        if given and (given <= caps if wanted else bool(given & caps)) is not wanted:
            return False
    return True


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def _rules(entry: Mapping[str, Any]) -> list[Rule]:
    action = _action(entry, "action", entry.get("errnoRet"))
    conditions = [_condition(argument) for argument in entry.get("args") or ()]
    indexes = [condition.argument for condition in conditions]
    # runc: where one argument is compared twice, each comparison is a rule of its own.
    twice = len(set(indexes)) < len(indexes)
    groups = [(condition,) for condition in conditions] if twice else [tuple(conditions)]
    names = entry.get("names") or ([entry["name"]] if entry.get("name") else [])
    return [Rule(name, group, action) for name in names for group in groups]


def _condition(argument: Mapping[str, Any]) -> Condition:
    op = str(argument.get("op", "")).replace("SCMP_CMP_", "", 1)
    if op not in OPERATORS:
        raise ValueError(f"string {argument.get('op')} is not a valid operator for seccomp")
    index = argument.get("index", 0)
    if not isinstance(index, int) or not 0 <= index <= 5:
        raise ValueError(f"a system call has no argument {index}")
    value, other = int(argument.get("value", 0)), int(argument.get("valueTwo", 0))
    if not (0 <= value < 1 << 64 and 0 <= other < 1 << 64):
        raise ValueError(f"the values of an argument have 64 bits, which {value} and {other} do not fit")
    return Condition(index, op, value, other)


def compile_profile(profile: Profile, machine: str) -> bytes:
    """The program: an array of struct sock_filter. Raises ValueError when it is more than the kernel takes."""
    native = ABIS[machine][0]
    wanted = [abi for abi in ABIS[machine] if abi is native or abi[1] in profile.architectures]
    code: Code = _returning(KILL_THREAD)
    for audit in dict.fromkeys(abi[2] for abi in reversed(wanted)):
        ranges: list[tuple[int, Code]] = []
        for abi in wanted:
            if abi[2] == audit:
                ranges += _ranges(profile, abi)
        if audit == native[2] and machine == "x86_64" and ranges[-1][0] < syscall_table.X32_BIT:
            ranges.append((syscall_table.X32_BIT, _returning(KILL_THREAD)))
        code = _if_equal(audit, ((_LOAD, 0, 0, _NR), *_search(ranges)), code)
    code = ((_LOAD, 0, 0, _ARCH), *code)
    if len(code) > _MAX_INSTRUCTIONS:
        raise ValueError(f"its filter has {len(code)} instructions, the kernel takes {_MAX_INSTRUCTIONS}")
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def _if_equal(value: int, then: Code, otherwise: Code) -> Code:
    # A conditional jump reaches 255 instructions, another one as far as it likes.
    return ((_JEQ, 1, 0, value), (_JUMP, 0, 0, len(then)), *then, *otherwise)


def _returning(action: int) -> Code:
    return ((_RETURN, 0, 0, action),)


def _ranges(profile: Profile, abi: Abi) -> list[tuple[int, Code]]:
    """(first number, code) of each range of one architecture's calls that are treated alike."""
    table = syscall_table.numbers(abi[0])
    by_number: dict[int, list[Rule]] = {}
    for rule in profile.rules:
        if rule.name in table:
            by_number.setdefault(table[rule.name], []).append(rule)
    base = syscall_table.X32_BIT if abi[0] == "x32" else 0
    plain = _returning(profile.default)
    found = [(base, plain)]
    for number in sorted(by_number):
        found.append((number, _call(by_number[number], profile.default, abi[3])))
        found.append((number + 1, plain))
    if by_number and profile.default & 0xFFFF0000 not in _PERMISSIVE and profile.default != _ENOSYS:
        found.append((max(by_number) + 1, _returning(_ENOSYS)))
    # The last that is said of a number holds; neighbours that are treated alike are one range.
    merged: list[tuple[int, Code]] = []
    for first, code in dict(found).items():
        if not merged or merged[-1][1] != code:
            merged.append((first, code))
    return merged


def _call(rules: Sequence[Rule], default: int, wide: bool) -> Code:
    """The code for one call, by its rules; those that say what holds anyway are none."""
    rules = [rule for rule in rules if rule.action != default]
    always = next((rule.action for rule in rules if not rule.conditions), None)
    if always is not None:
        return _returning(always)
    code: list[Instruction] = []
    for rule in rules:
        code += _conditional(rule, wide)
    return (*code, *_returning(default))


def _conditional(rule: Rule, wide: bool) -> list[Instruction]:
    """One rule: it returns when all its conditions hold, and goes on behind its code when one does not."""
    code: list[Instruction] = [*_returning(rule.action)]
    for condition in reversed(rule.conditions):
        code = [*_compare(condition, len(code), wide), *code]
    return code


def _compare(condition: Condition, rest: int, wide: bool) -> list[Instruction]:
    """A comparison that falls through to the rest when it holds, and jumps over it when not.

    rest: the number of instructions behind it. wide: 64 bits are compared, upper half first.
    """
    argument, op, value, other = condition
    low = _ARGS + 8 * argument
    high = low + 4
    if op == "MASKED_EQ":
        parts = [(low, value & 0xFFFFFFFF, other & 0xFFFFFFFF), (high, value >> 32, other >> 32)][: 2 if wide else 1]
        code: list[Instruction] = []
        for place, mask, wanted in parts:
            # Jumps over what of this comparison comes behind it, too.
            code = [(_LOAD, 0, 0, place), (_AND, 0, 0, mask), (_JEQ, 0, len(code) + rest, wanted), *code]
        return code
    # Each is one of these three, or its opposite.
    jump, holds = {
        "EQ": (_JEQ, True),
        "NE": (_JEQ, False),
        "GT": (_JGT, True),
        "LE": (_JGT, False),
        "GE": (_JGE, True),
        "LT": (_JGE, False),
    }[op]
    yes, no = (0, rest) if holds else (rest, 0)
    lower = [(_LOAD, 0, 0, low), (jump, yes, no, value & 0xFFFFFFFF)]
    if not wide:
        return lower
    upper: list[Instruction] = [(_LOAD, 0, 0, high)]
    if jump != _JEQ:
        upper.append((_JGT, 3 + yes, 0, value >> 32))
    upper.append((_JEQ, 0, 2 + no, value >> 32))
    return [*upper, *lower]


def _search(ranges: Sequence[tuple[int, Code]]) -> Code:
    """A binary search for the range that the number is in."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    left, right = _search(ranges[:middle]), _search(ranges[middle:])
    if len(left) <= 0xFF:
        return ((_JGE, len(left), 0, ranges[middle][0]), *left, *right)
    return ((_JGE, 0, 1, ranges[middle][0]), (_JUMP, 0, 0, len(left)), *left, *right)
