"""Named packet counters of one network namespace, which iptables' match nfacct counts with.

A rule with that match can be loaded only when the kernel has the match and the counter is there.
Sources: linux/netfilter/nfnetlink_acct.h, nf_tables_compat.h, net/netfilter/nfnetlink_acct.c, nfacct(8).
"""

from __future__ import annotations

import functools
import struct

from . import netlink_attrs as nl
from .netlink_wire import NETLINK_NETFILTER, Wire

_SUBSYSTEM = 7 << 8
_NEW, _GET, _DELETE = _SUBSYSTEM | 0, _SUBSYSTEM | 1, _SUBSYSTEM | 3
_NAME = 1

# linux/netfilter/nfnetlink.h, nf_tables_compat.h: what x_tables has, asked without making a rule.
_COMPAT_GET = 11 << 8
_COMPAT_NAME, _COMPAT_REVISION, _COMPAT_TYPE = 1, 2, 3


class Accounting(Wire):
    """One socket to the counters of the current network namespace; a context manager."""

    def __init__(self) -> None:
        super().__init__(NETLINK_NETFILTER)

    def names(self) -> list[str]:
        """Every counter, sorted. Raises OSError where the kernel has none at all (NETFILTER_NETLINK_ACCT)."""
        return sorted(self.dump(_GET, _head(), _NEW, _parse_name))

    def add(self, name: str) -> None:
        """Make a counter. Raises OSError EBUSY when there is one of that name."""
        self.request(_NEW, nl.ACK | nl.CREATE, _head() + nl.text(_NAME, name), f"add counter {name}")

    def delete(self, name: str) -> None:
        """Remove a counter. Raises OSError: EBUSY while a rule uses it, ENOENT."""
        self.request(_DELETE, nl.ACK, _head() + nl.text(_NAME, name), f"delete counter {name}")

    def has_match(self, name: str = "nfacct") -> bool:
        """Whether x_tables has a match; false also where nobody can be asked (NFT_COMPAT)."""
        body = _head(nl.AF_INET) + nl.text(_COMPAT_NAME, name)
        for kind in (_COMPAT_REVISION, _COMPAT_TYPE):  # revision 0; type 0 is a match
            body += nl.attr(kind, struct.pack(">I", 0))
        try:
            self.request(_COMPAT_GET, 0, body, f"look for match {name}")
        except OSError:
            return False
        return True


@functools.lru_cache(maxsize=1)
def supported() -> bool:
    """Whether this kernel has both the counters and the match."""
    try:
        with Accounting() as accounting:
            accounting.names()
            return accounting.has_match()
    except OSError:
        return False


def _head(family: int = nl.AF_UNSPEC) -> bytes:
    return struct.pack("=BBH", family, 0, 0)


def _parse_name(data: bytes) -> str:
    return nl.parse_attrs(data[4:])[_NAME].rstrip(b"\0").decode()
