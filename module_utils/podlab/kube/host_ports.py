"""The ports of a node that pods ask for. Pure.

Sources: k8s pkg/scheduler/framework (HostPortInfo.CheckConflict), plugins/nodeports.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from .qos import is_sidecar

EVERY_ADDRESS = "0.0.0.0"
# The reason of the scheduler's plugin NodePorts.
NO_FREE_PORTS = "didn't have free ports for the requested pod ports"


class HostPort(NamedTuple):
    """A port of the node that leads to one of a container. address: of the node, 0.0.0.0 for each of them."""

    address: str
    protocol: str
    port: int
    container_port: int

    def __str__(self) -> str:
        where = "" if self.address == EVERY_ADDRESS else f"{self.address}:"
        return f"{where}{self.port}/{self.protocol}"


def host_ports(spec: Mapping[str, Any]) -> Iterator[HostPort]:
    """What a complete pod spec asks for."""
    sidecars = [container for container in spec.get("initContainers") or () if is_sidecar(container)]
    for container in [*sidecars, *spec["containers"]]:
        for port in container.get("ports") or []:
            if port.get("hostPort"):
                address = port.get("hostIP") or EVERY_ADDRESS
                yield HostPort(address, port["protocol"], port["hostPort"], port["containerPort"])


def conflict(wanted: Iterable[HostPort], taken: Iterable[HostPort]) -> HostPort | None:
    """The first of the wanted ports that cannot be beside those that are taken."""
    taken = list(taken)
    return next((port for port in wanted if any(_clash(port, other) for other in taken)), None)


def _clash(one: HostPort, other: HostPort) -> bool:
    if (one.port, one.protocol) != (other.port, other.protocol):
        return False
    return one.address == other.address or EVERY_ADDRESS in (one.address, other.address)
