"""Try what podlab will make, in a child with namespaces of its own: when it ends, nothing of it is left."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Callable

from .linux import mount, netlink, syscalls

# One rule of each kind that kube-proxy writes.
_RULES = """*nat
:PODLAB-TRY - [0:0]
-A PODLAB-TRY -m comment --comment try -m statistic --mode random --probability 0.5 -j MARK --or-mark 0x4000
-A PODLAB-TRY -p tcp -m recent --name TRY --rcheck --seconds 1 -m tcp -j DNAT --to-destination 192.0.2.1:80
-A PODLAB-TRY -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully
COMMIT
*filter
:PODLAB-TRY - [0:0]
-A PODLAB-TRY -m conntrack --ctstate INVALID -j DROP
-A PODLAB-TRY -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 80 -j REJECT
COMMIT
"""


def _overlay() -> None:
    with tempfile.TemporaryDirectory(prefix="podlab-try-") as directory:
        syscalls.mount("podlab-try", directory, "tmpfs")
        try:
            for name in ("lower", "upper", "work", "root"):
                os.mkdir(f"{directory}/{name}")
            options = mount.overlay_options([f"{directory}/lower"], f"{directory}/upper", f"{directory}/work")
            syscalls.mount("podlab-try", f"{directory}/root", "overlay", 0, options)
        finally:
            syscalls.umount(directory, syscalls.MNT_DETACH)


def _veth() -> None:
    with netlink.Netlink() as link:
        link.add_veth("try0", "try1")


def _bridge() -> None:
    with netlink.Netlink() as link:
        link.add_bridge("trybr0")


def _vxlan() -> None:
    with netlink.Netlink() as link:
        link.add_vxlan("tryvx0", options={"id": 1, "dstport": 8472, "learning": False})


def _iptables() -> None:
    done = subprocess.run(
        ["iptables-restore", "--noflush"], input=_RULES, capture_output=True, text=True, check=False, timeout=10
    )
    if done.returncode:
        raise OSError(done.returncode, done.stderr.strip() or "iptables-restore failed")


_PROBES: Mapping[str, Callable[[], None]] = {
    "overlay": _overlay,
    "veth": _veth,
    "bridge": _bridge,
    "vxlan": _vxlan,
    "iptables": _iptables,
}


def probe(names: Sequence[str]) -> dict[str, str]:
    """Name -> why it does not work, empty when it does. Needs root."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        # No way leads back into the caller's code from here.
        try:
            os.close(reader)
            os.write(writer, json.dumps(_try_all(names)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        text = file.read()
    os.waitpid(pid, 0)
    tried: dict[str, str] = json.loads(text or "{}")
    return {name: tried.get(name, "the trial ended early") for name in names}


def _try_all(names: Sequence[str]) -> dict[str, str]:
    try:
        syscalls.unshare(syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS)
        # What is mounted here must not reach the machine, also where its mounts are shared.
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    except OSError as error:
        return dict.fromkeys(names, f"no new namespaces: {os.strerror(error.errno or 0)}")
    return {name: _try(_PROBES[name]) for name in names}


def _try(attempt: Callable[[], None]) -> str:
    try:
        attempt()
    except (OSError, subprocess.SubprocessError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""
