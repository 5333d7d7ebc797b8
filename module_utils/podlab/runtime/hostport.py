"""Ports of the node that lead to a pod: the rules made and taken away. In the node's network namespace.

Light to import: every supervisor carries it, and has its starters do it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import PodlabError
from ..kube import portmap
from ..linux import conntrack, sysctl
from .digest import sha512_digest
from .ruleslock import programming

_SAVE = ("iptables-save",)
# As for the rules of Services: add to what is there, wait for the lock.
_RESTORE = ("iptables-restore", "-w", "5", "--noflush")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def chain(identity: str) -> str:
    """The chain of a sandbox."""
    return portmap.chain_name(sha512_digest(portmap.NETWORK + identity))


def rules(config: Mapping[str, Any], identity: str, address: str) -> list[str]:
    """The pod's own rules of the table nat."""
    name, ports = chain(identity), config["host_ports"]
    subnet = config["network"]["pod_cidr"]
    return [*portmap.entries(identity, name, ports), *portmap.translations(name, address, subnet, ports)]


def open_ports(config: Mapping[str, Any], identity: str, address: str, veth: str) -> None:
    """Lead the pod's host ports to it. veth: the node's end of its link. Raises PodlabError when iptables does."""
    with programming(config["cluster"]):
        text = portmap.open_text(_run(_SAVE), chain(identity), rules(config, identity, address), veth)
        # Closed before it is opened: from here on 127.0.0.1 is an address that packets from there may have.
        _run(_RESTORE, text)
        sysctl.write(f"net/ipv4/conf/{veth}/route_localnet", 1)
    _forget({port["port"] for port in config["host_ports"] if port["protocol"] == "UDP"})


def close_ports(cluster: str, sandboxes: Iterable[tuple[str, str]]) -> None:
    """Take the rules of sandboxes away, each (id, the node's end of its link); none is no error."""
    sandboxes = list(sandboxes)
    with programming(cluster):
        text = portmap.close_text(
            _run(_SAVE), [chain(identity) for identity, _ in sandboxes], [veth for _, veth in sandboxes]
        )
        if text:
            _run(_RESTORE, text)


def _forget(ports: set[int]) -> None:
    """Connections of UDP that began before the rules: their packets would go where they went."""
    if not ports:
        return
    with conntrack.Conntrack() as table:
        for entry in table.entries("ipv4"):
            if entry.orig.protocol == "udp" and entry.orig.destination_port in ports:
                try:
                    table.delete(entry)
                except FileNotFoundError:
                    pass  # it has ended by itself


def _run(argv: tuple[str, ...], text: str = "") -> str:
    """Output of a command; without subprocess, which would stay in the supervisor's memory."""
    files = [os.memfd_create(name, os.MFD_CLOEXEC) for name in ("stdin", "stdout", "stderr")]
    try:
        os.write(files[0], text.encode())
        os.lseek(files[0], 0, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(files)]
        environment = {"PATH": _PATH, "LC_ALL": "C"}
        try:
            pid = os.posix_spawn(_find(argv[0]), argv, environment, file_actions=actions)
        except FileNotFoundError as error:
            raise PodlabError(f"hostPort needs {argv[0]}. Install the package iptables") from error
        code = os.WEXITSTATUS(os.waitpid(pid, 0)[1])
        if code:
            raise PodlabError(f"{argv[0]} failed with status {code}: {_content(files[2]).strip()}")
        return _content(files[1])
    finally:
        for fd in files:
            os.close(fd)


def _find(command: str) -> str:
    for directory in _PATH.split(":"):
        if os.access(f"{directory}/{command}", os.X_OK):
            return f"{directory}/{command}"
    raise FileNotFoundError(command)


def _content(fd: int) -> str:
    return os.pread(fd, os.fstat(fd).st_size, 0).decode("utf-8", "replace")
