"""Checks of single values of a topology: each returns the value in the kernel's form or raises ValueError."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Callable

from .linux import sysctl

# linux/if.h: IFNAMSIZ 16, ALTIFNAMSIZ 128, both with the final zero.
LINK_NAME_BYTES = 15
ALTNAME_BYTES = 127
NETNS_NAME_BYTES = 255
# What makes a link in the machine's own namespace ours.
MARK = "podlab-"

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def _name(value: str, limit: int, forbidden: str) -> str:
    size = len(value.encode("utf-8", "surrogateescape"))
    if not 1 <= size <= limit:
        raise ValueError(f"must have 1 to {limit} bytes, not {size}: {value!r}")
    if value in (".", "..") or value.startswith("-"):
        raise ValueError(f"must not be . or .. or begin with a dash, as {value!r} does")
    bad = next((letter for letter in value if letter in forbidden or letter.isspace() or not letter.isprintable()), "")
    if bad:
        raise ValueError(f"must not contain {bad!r}, as {value!r} does")
    return value


def link_name(value: str) -> str:
    """A device name: dev_valid_name() of net/core/dev.c, and no % (a template there) or comma (several masters)."""
    return _name(value, LINK_NAME_BYTES, "/:%\0")


def altname(value: str) -> str:
    """A further name of a device."""
    return _name(value, ALTNAME_BYTES, "/:%\0")


def netns_name(value: str) -> str:
    """A file name in /run/netns."""
    return _name(value, NETNS_NAME_BYTES, "/\0")


def sysctl_name(value: str) -> str:
    """A setting that belongs to a network namespace."""
    found = sysctl.path(value)  # raises ValueError
    if not found.startswith(f"{sysctl.ROOT}/net/"):
        raise ValueError(f"must begin with net., not {value!r}: no other setting belongs to a network namespace")
    return found[len(sysctl.ROOT) + 1 :].replace(".", "\0").replace("/", ".").replace("\0", "/")


def mac(value: str) -> str:
    """A unicast link-layer address, lower case."""
    text = value.lower()
    if not _MAC.fullmatch(text) or int(text[:2], 16) & 1 or not text.strip("0:"):
        raise ValueError(f"must be a unicast MAC address such as 02:00:00:00:00:01, not {value!r}")
    return text


def fdb_mac(value: str) -> str:
    """A unicast link-layer address, or all zero: where a VXLAN sends what it has no entry for."""
    return value if value == "00:00:00:00:00:00" else mac(value)


def between(low: int, high: int) -> Callable[[int], int]:
    """A check for a number from low to high."""

    def check(value: int) -> int:
        if not low <= value <= high:
            raise ValueError(f"must be between {low} and {high}, not {value}")
        return value

    return check


def one_ip(value: str) -> str:
    """An IP address without a prefix length."""
    return _parse(ipaddress.ip_address, value, "an IP address such as 10.0.0.1")


def interface(value: str) -> str:
    """An IP address with prefix length."""
    if "/" not in value:
        raise ValueError(f"must have a prefix length, as 10.0.0.1/24 has, not {value!r}")
    text = _parse(ipaddress.ip_interface, value, "an address with prefix length such as 10.0.0.1/24")
    if text.partition("/")[2] == value.partition("/")[2]:
        return text
    raise ValueError(f"must have a prefix length in bits, as 10.0.0.1/24 has, not {value!r}")


def destination(value: str, via: str | None = None) -> str:
    """Where a route leads: a network, an address (a host route), or "default" (of via's family)."""
    if value == "default":
        return "::/0" if via and ":" in via else "0.0.0.0/0"
    return _parse(ipaddress.ip_network, value, "default or a network such as 10.0.0.0/24")


def _parse(form: Callable[[Any], Any], value: str, what: str) -> str:
    try:
        return str(form(value))
    except ValueError as error:
        reason = " (host bits set)" if "host bits" in str(error) else ""
        raise ValueError(f"must be {what}, not {value!r}{reason}") from error


mtu = between(68, 65535)
