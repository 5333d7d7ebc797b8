"""What the kernel was built with.

Where the configuration is looked for, and in which order: k8s.io/system-validators, validators/kernel_validator.go.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Mapping
from typing import NamedTuple

PATHS = (
    "/proc/config.gz",
    "/boot/config-{release}",
    "/usr/src/linux-{release}/.config",
    "/usr/src/linux/.config",
    "/usr/lib/modules/{release}/config",
    "/usr/lib/ostree-boot/config-{release}",
    "/usr/lib/kernel/config-{release}",
    "/usr/src/linux-headers-{release}/.config",
    "/lib/modules/{release}/build/.config",
)
_SET = re.compile(r"^CONFIG_(\w+)=([ym])$", re.MULTILINE)


class KernelConfig(NamedTuple):
    """Where it was read, and option -> "y" (built in) or "m" (module); what is not set is not in it."""

    path: str
    options: Mapping[str, str]


def parse(text: str) -> dict[str, str]:
    """Options that are y or m, without CONFIG_."""
    return dict(_SET.findall(text))


def find(release: str) -> KernelConfig | None:
    """The configuration of a kernel release; None when no file of it can be read."""
    for pattern in PATHS:
        path = pattern.format(release=release)
        try:
            with open(path, "rb") as file:
                raw = file.read()
        except OSError:
            continue
        if path.endswith(".gz"):
            raw = zlib.decompress(raw, 16 + zlib.MAX_WBITS)
        return KernelConfig(path, parse(raw.decode(errors="replace")))
    return None


def module_available(name: str, release: str) -> bool:
    """Whether a module is loaded, or can be: this machine sees the modules of its kernel."""
    loaded = os.path.isdir(f"/sys/module/{name.replace('-', '_')}")
    return loaded or os.path.isfile(f"/lib/modules/{release}/modules.dep")
