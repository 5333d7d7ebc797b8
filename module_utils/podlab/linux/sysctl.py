"""Kernel settings under /proc/sys. Those of net. belong to the network namespace that the thread is in.

Source: sysctl(8), sysctl.d(5), Documentation/admin-guide/sysctl/.
"""

from __future__ import annotations

import os

ROOT = "/proc/sys"


def path(name: str) -> str:
    """The file of a setting. Raises ValueError for a name that is none or would leave /proc/sys.

    As in sysctl(8) the first separator decides: "net.ipv4.conf.eth0/1.forwarding" is about device eth0.1,
    "net/ipv4/conf/eth0.1/forwarding" as well.
    """
    first = next((letter for letter in name if letter in "./"), "")
    parts = name.split("/") if first == "/" else [part.replace("/", ".") for part in name.split(".")]
    if not first or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{name!r} is no sysctl name such as net.ipv4.ip_forward")
    return "/".join([ROOT, *parts])


def normal(value: object) -> str:
    """A value as the kernel compares it: words with one blank between."""
    return " ".join(str(value).split())


def read(name: str) -> str:
    """The value, with one blank between its words. Raises OSError ENOENT where the kernel has no such setting."""
    with open(path(name), encoding="utf-8", errors="surrogateescape") as file:
        return normal(file.read())


def write(name: str, value: object) -> None:
    """Set a value in one write. Raises OSError: ENOENT, EINVAL, EACCES."""
    fd = os.open(path(name), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, f"{value}\n".encode())
    finally:
        os.close(fd)
