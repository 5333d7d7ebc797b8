"""What kind itself checks in a cluster config, in kind's order, all at once.

Source: kind's pkg/internal/apis/config/validate.go.
"""

from __future__ import annotations

import re

from .cidr import WILDCARD, Network, listen_address, parse_cidr
from .kind_report import Path, Report
from .kind_types import Config, NodeConfig

ROLES = ("control-plane", "worker")
FAMILIES = ("ipv4", "ipv6", "dual")
PROXY_MODES = ("iptables", "ipvs", "nftables", "none")
LOWEST_PORT, HIGHEST_PORT = -1, 65535


def validate(config: Config, report: Report) -> None:
    """Add every problem that kind's own validation finds."""
    _name(config.name, report)
    networking = config.networking
    if networking.api_server_port != 0:
        _port(networking.api_server_port, ("networking", "apiServerPort"), report)
    _choice(networking.ip_family, FAMILIES, ("networking", "ipFamily"), report)
    _subnet(networking.pod_subnet, networking.ip_family, ("networking", "podSubnet"), report)
    _subnet(networking.service_subnet, networking.ip_family, ("networking", "serviceSubnet"), report)
    _choice(networking.kube_proxy_mode, PROXY_MODES, ("networking", "kubeProxyMode"), report)
    for index, node in enumerate(config.nodes):
        _node(node, ("nodes", index), report)
    if not any(node.role == "control-plane" for node in config.nodes):
        report.error(("nodes",), "must have at least one control-plane node", "Add an item: role: control-plane")


def _name(name: str, report: Report) -> None:
    if not re.fullmatch(r"[a-z0-9.-]+", name):
        report.error(("name",), f"must be lower case letters, digits, dots and dashes, not {name!r}")


def _choice(value: str, choices: tuple[str, ...], path: Path, report: Report) -> None:
    if value not in choices:
        words = f"{', '.join(choices[:-1])} or {choices[-1]}"
        folded = value.lower()
        remedy = f"Write {folded}: upper and lower case matter" if folded in choices else ""
        report.error(path, f"must be {words}, not {value!r}", remedy)


def _port(port: int, path: Path, report: Report) -> None:
    if not LOWEST_PORT <= port <= HIGHEST_PORT:
        report.error(path, f"must be from {LOWEST_PORT} to {HIGHEST_PORT}, not {port}")


def subnets(text: str) -> list[Network]:
    """The networks of a podSubnet or serviceSubnet. Raises ValueError for the first bad one."""
    return [parse_cidr(piece) for piece in text.split(",")]


def _subnet(text: str, family: str, path: Path, report: Report) -> None:
    try:
        networks = subnets(text)
    except ValueError as error:
        report.error(path, f"must be a CIDR such as 10.244.0.0/16: {error}")
        return
    if family not in FAMILIES:
        return
    versions = [network.version for network in networks]
    if family == "dual":
        if len(versions) > 2:
            report.error(path, f"must be at most one IPv4 and one IPv6 CIDR, not {len(versions)} ({text})")
        elif len(versions) == 2 and versions[0] == versions[1]:
            report.error(path, f"must be one IPv4 and one IPv6 CIDR, not two of IPv{versions[0]} ({text})")
        return
    if len(versions) > 1:
        report.error(path, f"must be one CIDR when ipFamily is {family}, not {len(versions)} ({text})")
    elif f"ipv{versions[0]}" != family:
        report.error(path, f"must be an IPv{family[-1]} CIDR when ipFamily is {family}, not {text}")


def _node(node: NodeConfig, path: tuple[object, ...], report: Report) -> None:
    _choice(node.role, ROLES, (*path, "role"), report)
    for index, mapping in enumerate(node.extra_port_mappings):
        here = (*path, "extraPortMappings", index)
        _port(mapping.host_port, (*here, "hostPort"), report)
        _port(mapping.container_port, (*here, "containerPort"), report)
    _port_clash(node, path, report)


def _port_clash(node: NodeConfig, path: tuple[object, ...], report: Report) -> None:
    """kind's rule, with its hole (an empty protocol is another one than TCP) and its stop at a node's first clash."""
    taken: dict[tuple[int, str], list[str]] = {}
    for index, mapping in enumerate(node.extra_port_mappings):
        if mapping.host_port in (0, -1):
            continue  # a free port is picked
        here = (*path, "extraPortMappings", index)
        try:
            address = listen_address(mapping.listen_address)
        except ValueError:
            report.error((*here, "listenAddress"), f"must be an IP address, not {mapping.listen_address!r}")
            return
        others = taken.setdefault((mapping.host_port, mapping.protocol), [])
        if addresses_clash(address, others):
            report.error(
                (*here, "hostPort"),
                f"{address}:{mapping.host_port} {mapping.protocol} is mapped twice on this node".replace("  ", " "),
                "Give each mapping its own hostPort or listenAddress",
            )
            return
        others.append(address)


def addresses_clash(address: str, others: list[str]) -> bool:
    """True when a listener on address cannot be beside listeners on the others, on the same port."""
    return bool(others) and (address == WILDCARD or WILDCARD in others or address in others)
