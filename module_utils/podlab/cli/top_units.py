"""Amounts of CPU and memory as `kubectl top` writes them."""

from __future__ import annotations


def millicores(microseconds: float, seconds: float) -> int:
    """Thousandths of a CPU: so much CPU time used in so much time, rounded up as Quantity.MilliValue does."""
    return -int(-microseconds // (seconds * 1000)) if seconds > 0 else 0


def cores(milli: int) -> str:
    """12 -> "12m"."""
    return f"{milli}m"


def mebibytes(size: int) -> str:
    """Bytes in whole MiB, rounded down: "34Mi"."""
    return f"{size >> 20}Mi"


def percent(part: float, whole: float) -> str:
    """ "12%", cut off as kubectl does; "<unknown>" of nothing."""
    return f"{int(part * 100 / whole)}%" if whole else "<unknown>"


def duration(microseconds: int) -> str:
    """A time of waiting: "0s", "12ms", "3.4s", "5m12s"."""
    if microseconds < 1_000_000:
        return f"{microseconds // 1000}ms" if microseconds >= 1000 else "0s"
    seconds = microseconds / 1_000_000
    return f"{seconds:.1f}s" if seconds < 60 else f"{int(seconds) // 60}m{int(seconds) % 60}s"
