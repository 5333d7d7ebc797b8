"""Classic BPF as the kernel runs it over struct seccomp_data, and libseccomp as another maker of such programs."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Mapping, Sequence
from typing import Any

_COMPARISONS = {0x10: int.__eq__, 0x20: int.__gt__, 0x30: int.__ge__, 0x40: lambda a, k: bool(a & k)}


def run(program: bytes, arch: int, number: int, args: Sequence[int] = ()) -> int:
    """What the filter returns for a call. Fails on what the kernel's checker refuses."""
    data = struct.pack("<IIQ6Q", number, arch, 0, *args, *[0] * (6 - len(args)))
    code = list(struct.iter_unpack("<HBBI", program))
    accumulator = place = 0
    while True:
        op, yes, no, k = code[place]
        place += 1
        if op == 0x20:  # ld [k]
            assert k % 4 == 0 and k < len(data)
            accumulator = struct.unpack_from("<I", data, k)[0]
        elif op == 0x54:  # and #k
            accumulator &= k
        elif op == 0x06:  # ret #k
            return int(k)
        elif op == 0x05:  # ja
            place += k
        elif op & 0x0F == 0x05:  # jeq, jgt, jge, jset
            place += yes if _COMPARISONS[op & 0xF0](accumulator, k) else no
        else:
            raise AssertionError(f"no such instruction: {op:#x}")


class Argument(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


class LibSeccomp:
    """libseccomp.so.2, which runc compiles with."""

    OPERATORS = ("", "NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")
    ARCHITECTURES: Mapping[str, int] = {
        "SCMP_ARCH_X86_64": 0xC000003E,
        "SCMP_ARCH_X86": 0x40000003,
        "SCMP_ARCH_X32": 0x4000003E,
        "SCMP_ARCH_AARCH64": 0xC00000B7,
        "SCMP_ARCH_ARM": 0x40000028,
    }

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libseccomp.so.2")
        self.library.seccomp_init.restype = ctypes.c_void_p

    def number(self, name: str, arch: str) -> int:
        """Number of a call; negative when this version does not know it."""
        token = ctypes.c_uint32(self.ARCHITECTURES[arch])
        return int(self.library.seccomp_syscall_resolve_name_arch(token, name.encode()))

    def compile(self, profile: Mapping[str, Any]) -> bytes:
        """The program that it makes of a profile in the OCI's form."""
        code = {"SCMP_ACT_ERRNO": 0x00050001, "SCMP_ACT_ALLOW": 0x7FFF0000}
        default = code[profile["defaultAction"]]
        context = ctypes.c_void_p(self.library.seccomp_init(ctypes.c_uint32(default)))
        for name in profile["architectures"]:
            self.library.seccomp_arch_add(context, ctypes.c_uint32(self.ARCHITECTURES[name]))
        for rule in profile["syscalls"]:
            action = code[rule["action"]] & 0xFFFF0000 | rule.get("errnoRet", code[rule["action"]] & 0xFFFF)
            for name in rule["names"]:
                self._add(context, action, name, rule.get("args", ()))
        file = os.memfd_create("program")
        try:
            assert self.library.seccomp_export_bpf(context, file) == 0
            return os.pread(file, 1 << 20, 0)
        finally:
            os.close(file)
            self.library.seccomp_release(context)

    def _add(self, context: ctypes.c_void_p, action: int, name: str, args: Sequence[Mapping[str, Any]]) -> None:
        number = self.library.seccomp_syscall_resolve_name(name.encode())
        array = (Argument * len(args))(
            *[Argument(a["index"], self.OPERATORS.index(a["op"][9:]), a["value"], a["valueTwo"]) for a in args]
        )
        call = self.library.seccomp_rule_add_array
        if number != -1:
            call(context, ctypes.c_uint32(action), number, len(args), array)
