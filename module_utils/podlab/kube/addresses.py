"""Addresses that manifests name: what is wrong with them. Lenient where Kubernetes is: zeros in front are decimal.

Source: k8s pkg/apis/core/validation/validation.go (IsValidIPForLegacyField, ValidateEndpointIP),
pkg/api/service/util.go (GetLoadBalancerSourceRanges).
"""

from __future__ import annotations

import ipaddress
import re

from .proxy_model import clean_ip, clean_range, family_of
from .schema import show

# What the lenient reading takes further, such as blanks, signs or underscores, is no address.
_FORM = re.compile(r"[0-9a-fA-F:.]+")
_RANGE_FORM = re.compile(r"\s*[0-9a-fA-F:.]+/[0-9]+\s*")


def ip_fault(text: str, special: bool = False) -> str:
    """What is wrong with an address that others reach something at; empty when nothing is.

    special: also take addresses that mean something to one machine or link only, such as 127.0.0.1.
    """
    try:
        if not _FORM.fullmatch(text):
            raise ValueError
        address = ipaddress.ip_address(clean_ip(text))
    except ValueError:
        return f"must be an IP address, not {show(text)}"
    return "" if special else _special_fault(address)


def _special_fault(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if address.is_unspecified:
        return f"must not be the unspecified address (0.0.0.0 or ::), which {address} is"
    if address.is_loopback:
        return f"must not be in the loopback range (127.0.0.0/8, ::1/128), which {address} is"
    if address.is_link_local:
        return f"must not be in the link-local range (169.254.0.0/16, fe80::/10), which {address} is"
    if address in ipaddress.ip_network("224.0.0.0/24" if address.version == 4 else "ff02::/16"):
        return f"must not be in the link-local multicast range (224.0.0.0/24, ff02::/10), which {address} is"
    return ""


def range_fault(text: str) -> str:
    """What is wrong with a range such as 10.0.0.0/8; blanks around it do not matter."""
    try:
        if not _RANGE_FORM.fullmatch(text):
            raise ValueError
        clean_range(text)
    except ValueError:
        return f"must be an address range such as 10.240.0.0/24, not {show(text)}"
    return ""


def is_other_family(text: str) -> bool:
    """True for an address or range of IPv6, of which a lab has none."""
    return family_of(text) != "ipv4"
