"""Swap areas: which are on, and switching them off (swapon(2), proc(5))."""

from __future__ import annotations

import ctypes
import os
import re

_libc = ctypes.CDLL(None, use_errno=True)


def parse(text: str) -> tuple[str, ...]:
    """Paths of the swap areas in use (/proc/swaps). Blanks in a path are written \\040 there."""
    rows = [line.split() for line in text.splitlines()[1:]]
    return tuple(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal.group(1), 8)), row[0]) for row in rows if row)


def off(path: str) -> None:
    """Move everything out of a swap area and stop using it (swapoff(2)). It is on again after a boot.

    Raises OSError: ENOMEM when what is swapped out does not fit into memory, EPERM without CAP_SYS_ADMIN.
    """
    if _libc.swapoff(os.fsencode(path)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"swapoff {path}: {os.strerror(number)}")
