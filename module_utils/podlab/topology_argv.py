"""The commands that a person would type for each change of a topology. Pure; iproute2's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Argv = tuple[str, ...]

_ON = {True: "1", False: "0"}
# bridge option -> word of ip-link(8)
_BRIDGE_WORDS = {"stp": "stp_state"}


def ip(netns: str, *words: str) -> Argv:
    """`ip`, in a namespace."""
    return ("ip", *(("-n", netns) if netns else ()), *words)


def bridge(netns: str, *words: str) -> Argv:
    """`bridge`, in a namespace."""
    return ("bridge", *(("-n", netns) if netns else ()), *words)


def sysctl(netns: str, name: str, value: str) -> Argv:
    """`sysctl -w`, in a namespace."""
    inside = ("ip", "netns", "exec", netns) if netns else ()
    return (*inside, "sysctl", "-w", f"{name}={value}")


def kind_words(kind: str, data: Mapping[str, Any]) -> Argv:
    """`type KIND OPTION VALUE ...`"""
    words: list[str] = ["type", kind]
    for option, value in data.items():
        if option == "learning":
            words.append("learning" if value else "nolearning")
        else:
            words += [_BRIDGE_WORDS.get(option, option), _ON[value] if isinstance(value, bool) else str(value)]
    return tuple(words)


def link_words(changes: Mapping[str, Any]) -> Argv:
    """`mtu 1450 address 02:... master br0 addrgenmode none`"""
    words: list[str] = []
    for option, value in changes.items():
        words += ["nomaster"] if option == "master" and not value else [option, str(value)]
    return tuple(words)


def port_words(port: Mapping[str, Any]) -> Argv:
    """`hairpin on isolated off`, for bridge-link(8)"""
    return tuple(word for option, value in port.items() for word in (option, "on" if value else "off"))


def route_words(fields: Mapping[str, Any]) -> Argv:
    """`[unreachable] DST via ... dev ...`, for ip-route(8)"""
    kind = fields.get("type", "unicast")
    words = [kind] if kind != "unicast" else []
    words.append("default" if fields["dst"].endswith("/0") else fields["dst"])
    for option in ("via", "dev", "scope", "src", "metric"):
        if fields.get(option) is not None:
            words += [option, str(fields[option])]
    if fields.get("onlink"):
        words.append("onlink")
    return tuple(words)


def family(fields: Mapping[str, Any]) -> Argv:
    """`-6` where the destination does not say it."""
    return ("-6",) if ":" in fields["dst"] else ()


def address_words(address: str, dev: str, fields: Mapping[str, Any]) -> Argv:
    """`ADDRESS dev DEV scope ... noprefixroute`, for ip-address(8)"""
    words = [address, "dev", dev]
    if fields.get("scope"):
        words += ["scope", fields["scope"]]
    return (*words, *(flag for flag in ("noprefixroute", "nodad") if fields.get(flag)))
