"""Put a seccomp filter on this process (seccomp(2)). Light to import: every supervisor carries it."""

from __future__ import annotations

import ctypes
import struct

from . import syscalls

_SET_MODE_FILTER = 1
_INSTRUCTION = 8


def pack(flags: int, program: bytes) -> bytes:
    """One value of a program and the SECCOMP_FILTER_FLAG_* that it is to be installed with."""
    return struct.pack("<I", flags) + program


def install(packed: bytes) -> None:
    """Put the filter on this process and what comes of it, for good.

    Needs CAP_SYS_ADMIN or no_new_privs. Raises OSError.
    """
    flags, program = struct.unpack_from("<I", packed)[0], packed[4:]
    code = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HxxxxxxP", len(program) // _INSTRUCTION, ctypes.addressof(code))
    syscalls.seccomp(_SET_MODE_FILTER, flags, described)
