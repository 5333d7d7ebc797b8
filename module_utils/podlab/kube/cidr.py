"""IP addresses and CIDRs as Go reads them (net.ParseIP, net.ParseCIDR): stricter than Python in some things."""

from __future__ import annotations

import ipaddress
import re
from typing import Union

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

_MAPPED_BITS = 96
WILDCARD = "0.0.0.0"


def parse_address(text: str) -> Address:
    """The address; no zone, no leading zeros; a v4-mapped IPv6 address is its IPv4 address. Raises ValueError."""
    if "%" in text or re.search(r"(?:^|[.:])0\d+\.", text) or re.search(r"\.0\d+$", text):
        raise ValueError(f"{text!r} is not an IP address")
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def listen_address(text: str) -> str:
    """The address that a port mapping listens on; empty and :: are all of them. Raises ValueError."""
    address = str(parse_address(text or WILDCARD))
    return WILDCARD if address == "::" else address


def parse_cidr(text: str) -> Network:
    """The network of ADDRESS/BITS; host bits are allowed and dropped. Raises ValueError that says what is wrong."""
    if not text:
        raise ValueError("an empty CIDR (a comma too many)")
    address_text, slash, bits_text = text.partition("/")
    if not slash:
        raise ValueError(f"{text!r} has no /BITS")
    if text != text.strip():
        raise ValueError(f"{text!r} has blanks around it")
    try:
        parse_address(address_text)
        address = ipaddress.ip_address(address_text)
    except ValueError:
        raise ValueError(f"{text!r} does not begin with an IP address (leading zeros are not allowed)") from None
    if not re.fullmatch(r"[0-9]+", bits_text) or int(bits_text) > address.max_prefixlen:
        raise ValueError(f"{text!r} does not end in a number of bits from 0 to {address.max_prefixlen}")
    bits = int(bits_text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped and bits >= _MAPPED_BITS:
        return ipaddress.IPv4Network((address.ipv4_mapped, bits - _MAPPED_BITS), strict=False)
    return ipaddress.ip_network((address, bits), strict=False)


def ipv4_network(text: str) -> ipaddress.IPv4Network:
    """The same, for IPv4 only. Raises ValueError."""
    network = parse_cidr(text)
    if not isinstance(network, ipaddress.IPv4Network):
        raise ValueError(f"{text!r} is not an IPv4 CIDR")
    return network
