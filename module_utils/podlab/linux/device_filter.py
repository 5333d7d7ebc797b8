"""Which devices the processes of a v2 cgroup may make and open: a program of eBPF, for there is no file for it.

Takes the rules of v1's devices.allow. Sources: bpf(2), kernel Documentation/admin-guide/cgroup-v2.rst ("Device
controller"), include/uapi/linux/bpf.h (struct bpf_cgroup_dev_ctx).
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

from . import syscalls

_PROG_LOAD, _PROG_ATTACH = 5, 8
_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
# runc's, too: programs of parents run as well, and each can refuse.
_ALLOW_MULTI = 2
_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_LOAD, _MOVE, _MOVE_REGISTER, _AND, _SHIFT_RIGHT, _JUMP_UNEQUAL, _EXIT = 0x61, 0xB7, 0xBF, 0x57, 0x77, 0x55, 0x95
# Registers: what is returned (and on entry, the context), scratch, access, type, major, minor.
_RESULT, _SCRATCH, _WANTED, _KIND, _MAJOR, _MINOR = 0, 1, 2, 3, 4, 5


def program(rules: Iterable[str]) -> bytes:
    """The program that allows what one of the rules ("c 1:3 rwm", "b *:* m") does, and nothing else."""
    code = [
        _instruction(_LOAD, _WANTED, source=_SCRATCH, offset=0),
        _instruction(_MOVE_REGISTER, _KIND, source=_WANTED),
        _instruction(_AND, _KIND, value=0xFFFF),
        _instruction(_SHIFT_RIGHT, _WANTED, value=16),
        _instruction(_LOAD, _MAJOR, source=_SCRATCH, offset=4),
        _instruction(_LOAD, _MINOR, source=_SCRATCH, offset=8),
    ]
    for rule in rules:
        code += _rule(rule)
    return b"".join([*code, *_returning(0)])


def _rule(rule: str) -> list[bytes]:
    kind, numbers, access = rule.split()
    major, minor = numbers.split(":")
    allowed = sum(_ACCESS[letter] for letter in access)
    tests = [(_KIND, _TYPES[kind]), *((_MAJOR, int(major)) for _ in [0] if major != "*")]
    tests += [(_MINOR, int(minor)) for _ in [0] if minor != "*"]
    beyond = 7 & ~allowed
    if beyond:
        tests.append((_SCRATCH, 0))
    code = _returning(1)
    for register, value in reversed(tests):
        code = [_instruction(_JUMP_UNEQUAL, register, offset=len(code), value=value), *code]
        if register == _SCRATCH:
            masked = [
                _instruction(_MOVE_REGISTER, _SCRATCH, source=_WANTED),
                _instruction(_AND, _SCRATCH, value=beyond),
            ]
            code = [*masked, *code]
    return code


def _returning(value: int) -> list[bytes]:
    return [_instruction(_MOVE, _RESULT, value=value), _instruction(_EXIT, 0)]


def _instruction(code: int, register: int, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", code, source << 4 | register, offset, value)


def attach(directory: str, code: bytes) -> None:
    """Put the program on the cgroup: it goes with it. Raises OSError where the kernel has no such thing."""
    text, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"")
    head = (_TYPE_CGROUP_DEVICE, len(code) // 8, ctypes.addressof(text), ctypes.addressof(licence))
    loaded = syscalls.bpf(_PROG_LOAD, struct.pack("<IIQQ44xI", *head, _ATTACH_CGROUP_DEVICE))
    try:
        cgroup = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syscalls.bpf(_PROG_ATTACH, struct.pack("<IIII", cgroup, loaded, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI))
        finally:
            os.close(cgroup)
    finally:
        os.close(loaded)
