"""nft in network namespaces: list a table, load commands, each load one transaction.

Whether a table is there is asked of the kernel itself: a machine without nft then needs it only for what it has to do.
Sources: nft(8), linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h.
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Mapping, Sequence

from ..errors import PodlabError
from . import netlink_attrs as nl
from . import netns
from .commands import find, run_each
from .netlink_wire import NETLINK_NETFILTER, Wire

LOAD = ("nft", "-f", "-")
# Before Linux 6.2 a chain may count as used for a moment after the last map element that led to it has gone.
PATIENCE_SECONDS = 1

_GET_TABLE = 10 << 8 | 1
_NFTA_TABLE_NAME = 1
_FAMILIES = {"ip": 2, "ip6": 10}


def require() -> None:
    """Raise PodlabError when nft is not installed."""
    if not find("nft"):
        raise PodlabError(
            "Cannot program Services in nftables mode: no nft on this machine. Install the package nftables."
        )


def has_table(where: str, family: str, name: str) -> bool:
    """Whether a table is there; family: "ip" or "ip6". A kernel without nf_tables has none."""
    body = struct.pack("=BBH", _FAMILIES[family], 0, 0) + nl.attr(_NFTA_TABLE_NAME, name.encode() + b"\0")
    with netns.entered(where), Wire(NETLINK_NETFILTER) as wire:
        try:
            wire.request(_GET_TABLE, 0, body, f"get table {name}")
        except OSError:
            return False
    return True


def listings(family: str, name: str, namespaces: Sequence[str]) -> dict[str, str]:
    """namespace -> what nft prints of a table that is there, numbers instead of names, without counters."""
    return run_each(("nft", "-s", "-n", "list", "table", family, name), dict.fromkeys(namespaces, ""))


def load(texts: Mapping[str, str]) -> None:
    """Load commands (namespace -> input of `nft -f`), wholly or not at all in each namespace.

    Raises PodlabError with nft's own message; the other namespaces are served all the same.
    """
    run_each(LOAD, texts)


def delete(texts: Mapping[str, str]) -> None:
    """Like load, for texts of nothing but delete commands: where the kernel says busy, once more after a second.

    A second time round each object is added before it is deleted: some namespaces may have lost theirs the first time.
    """
    try:
        load(texts)
    except PodlabError as error:
        if "busy" not in error.message:
            raise
        time.sleep(PATIENCE_SECONDS)
        load({where: re.sub("(?m)^delete (.*)$", r"add \1\n\g<0>", text) for where, text in texts.items()})
