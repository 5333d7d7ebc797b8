"""Kubernetes' times: RFC 3339 in, "5m30s" out."""

from __future__ import annotations

import calendar
import re
import time

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)$")

MINUTE, HOUR, DAY, YEAR = 60, 3600, 86400, 365 * 86400


def epoch(text: str) -> float:
    """Seconds since the epoch of "2026-11-21T10:00:00Z" (fraction and zone allowed).

    Raises ValueError when the text is no RFC 3339 time.
    """
    match = _RFC3339.match(text)
    if not match:
        raise ValueError(f"{text!r} is not an RFC 3339 time")
    clock, fraction, zone = match.groups()
    seconds = calendar.timegm(time.strptime(clock, "%Y-%m-%dT%H:%M:%S")) + float(fraction or 0)
    if zone != "Z":
        sign = -1 if zone[0] == "+" else 1
        seconds += sign * (int(zone[1:3]) * HOUR + int(zone[4:6]) * MINUTE)
    return seconds


def rfc3339(seconds: float) -> str:
    """The time in UTC to the second, as metav1.Time writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def age(seconds: float) -> str:
    """A duration with at most two units, coarser the longer it is (duration.HumanDuration)."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    for limit, unit, name, minor, minor_name in (
        (2 * MINUTE, 1, "s", 0, ""),
        (10 * MINUTE, MINUTE, "m", 1, "s"),
        (3 * HOUR, MINUTE, "m", 0, ""),
        (8 * HOUR, HOUR, "h", MINUTE, "m"),
        (2 * DAY, HOUR, "h", 0, ""),
        (8 * DAY, DAY, "d", HOUR, "h"),
        (2 * YEAR, DAY, "d", 0, ""),
        (8 * YEAR, YEAR, "y", DAY, "d"),
    ):
        if whole < limit:
            rest = whole % unit // minor if minor else 0
            return f"{max(whole, 0) // unit}{name}" + (f"{rest}{minor_name}" if rest else "")
    return f"{whole // YEAR}y"
