"""A node with pods in throw-away network namespaces that have no name on the machine, and packets between them."""

from __future__ import annotations

import os
import select
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from podlab.linux import netns, syscalls

NODE_ADDRESS = "172.18.0.2"
GATEWAY = "10.244.1.1"
SECONDS = 5


class Namespace:
    """A network namespace that lives as long as its descriptor."""

    def __init__(self) -> None:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            syscalls.setns(home, syscalls.CLONE_NEWNET)
        finally:
            os.close(home)

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def run(self, command: str, text: str = "") -> str:
        """Run a command in here; its output. Raises CalledProcessError."""
        argv = ["nsenter", f"--net={self.path}", *command.split()]
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def socket(self, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket of this namespace."""
        with netns.entered(self.path):
            made = socket.socket(socket.AF_INET, kind)
        made.settimeout(SECONDS)
        return made

    def close(self) -> None:
        os.close(self.fd)


class Node:
    """A node with three pods, 10.244.1.2 to .4, each on a veth of its own as kindnet has it."""

    def __init__(self) -> None:
        self.node = Namespace()
        self.pods = {f"10.244.1.{number}": Namespace() for number in (2, 3, 4)}
        self.node.run("ip link set lo up")
        self.node.run("ip link add eth0 type bridge")
        self.node.run(f"ip addr add {NODE_ADDRESS}/16 dev eth0")
        self.node.run("ip link set eth0 up")
        self.node.run("ip route add default via 172.18.0.1")
        self.node.run("sysctl -q -w net.ipv4.ip_forward=1")
        for number, (address, pod) in enumerate(self.pods.items()):
            self.node.run(f"ip link add veth{number} type veth peer name eth0 netns {pod.path}")
            self.node.run(f"ip addr add {GATEWAY}/32 dev veth{number}")
            self.node.run(f"ip link set veth{number} up")
            self.node.run(f"ip route add {address}/32 dev veth{number}")
            pod.run("ip link set lo up")
            pod.run("ip link set eth0 up")
            pod.run(f"ip addr add {address}/32 dev eth0")
            pod.run(f"ip route add {GATEWAY}/32 dev eth0 scope link")
            pod.run(f"ip route add default via {GATEWAY}")

    def close(self) -> None:
        for namespace in (self.node, *self.pods.values()):
            namespace.close()

    @contextmanager
    def listening(self, port: int, kind: int = socket.SOCK_STREAM) -> Iterator[dict[str, socket.socket]]:
        """A socket in every pod, bound to the port; pod address -> socket."""
        sockets = {}
        try:
            for address, pod in self.pods.items():
                sockets[address] = pod.socket(kind)
                # Connections of an earlier test may still be in TIME_WAIT.
                sockets[address].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sockets[address].bind((address, port))
                if kind == socket.SOCK_STREAM:
                    sockets[address].listen(512)
            yield sockets
        finally:
            for made in sockets.values():
                made.close()


def connect(source: Namespace, address: str, port: int, servers: dict[str, socket.socket]) -> tuple[str, str]:
    """Open a TCP connection; which pod has it, and from which address it came."""
    with source.socket() as client:
        client.connect((address, port))
        (server,) = select.select(list(servers.values()), [], [], SECONDS)[0]
        accepted, (peer, _) = server.accept()
        accepted.close()
    return next(name for name, known in servers.items() if known is server), peer
