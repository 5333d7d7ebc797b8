"""Pod addresses from the node's range, in the file format of the CNI plugin host-local.

One file per address in use, named by the address, holding "<container id>\\r\\n<interface>"; `last_reserved_ip.0` makes
the search go round. Source: containernetworking/plugins, plugins/ipam/host-local/backend/disk.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from ..errors import PodlabError

_LAST = "last_reserved_ip.0"


class _Locked:
    """The store's own lock, as the plugin takes it: flock(2) on the file `lock`."""

    def __init__(self, directory: str) -> None:
        self.path = f"{directory}/lock"

    def __enter__(self) -> None:
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def _number(address: str) -> int:
    return int(struct.unpack("!I", socket.inet_aton(address))[0])


def _address(number: int) -> str:
    return socket.inet_ntoa(struct.pack("!I", number))


def _range(pod_cidr: str) -> tuple[int, int]:
    """First and last address that may be given: never the network's own, never the broadcast address."""
    network, _, bits = pod_cidr.partition("/")
    size = 1 << (32 - int(bits))
    first = _number(network) & ~(size - 1)
    return first + 1, first + size - 2


def allocate(directory: str, pod_cidr: str, gateway: str, container_id: str, ifname: str = "eth0") -> str:
    """Reserve the next free address of the range for the container; return it.

    Raises PodlabError when the range is used up.
    """
    first, last = _range(pod_cidr)
    with _Locked(directory):
        start = _last_reserved(directory, first - 1)
        for offset in range(1, last - first + 2):
            number = first + (start - first + offset) % (last - first + 1)
            address = _address(number)
            if address != gateway and _reserve(directory, address, container_id, ifname):
                with open(f"{directory}/{_LAST}", "w", encoding="ascii") as file:
                    file.write(address)
                return address
    raise PodlabError(f"No address is free in {pod_cidr}: {last - first} are in use. Give the node a larger podSubnet")


def _last_reserved(directory: str, default: int) -> int:
    try:
        with open(f"{directory}/{_LAST}", encoding="ascii") as file:
            return _number(file.read().strip())
    except (FileNotFoundError, OSError):
        return default


def _reserve(directory: str, address: str, container_id: str, ifname: str) -> bool:
    try:
        fd = os.open(f"{directory}/{address}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return False
    os.write(fd, f"{container_id}\r\n{ifname}".encode())
    os.close(fd)
    return True


def release(directory: str, container_id: str) -> None:
    """Give back every address of the container; none is no error (CNI DEL is idempotent)."""
    with _Locked(directory):
        for name in os.listdir(directory):
            if name[:1].isdigit() and holder(directory, name) == container_id:
                os.unlink(f"{directory}/{name}")


def holder(directory: str, address: str) -> str:
    """Container id that holds the address; empty when it is free."""
    try:
        # newline="": with the translation of newlines there would be no \r\n to split at.
        with open(f"{directory}/{address}", encoding="ascii", errors="replace", newline="") as file:
            return file.read().split("\r\n")[0].strip()
    except FileNotFoundError:
        return ""
