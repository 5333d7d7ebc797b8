"""iptables-save and iptables-restore in network namespaces, on one backend.

Two backends keep rules of their own in the same namespace, x_tables (legacy) and nf_tables; rules in both would both
apply. So: one backend per machine, and a namespace where the other one is in use for the same purpose is refused.
Sources: iptables-restore(8), iptables-save(8), xtables-nft(8), kind's select-iptables in its entrypoint.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ..errors import PodlabError
from . import netns
from .commands import TIMEOUT_SECONDS, find, run_each

# Seconds to wait for another iptables' lock (legacy only; nft has none).
LOCK_SECONDS = 5

_PREFIX = {"ipv4": "iptables", "ipv6": "ip6tables"}
_OTHER = {"nft": "legacy", "legacy": "nft"}
_LEGACY_TABLES = {"ipv4": "/proc/thread-self/net/ip_tables_names", "ipv6": "/proc/thread-self/net/ip6_tables_names"}


class Backend(NamedTuple):
    """The commands of one backend and family. family: "ipv4" or "ipv6"; default: plain `iptables` is this one."""

    name: str
    family: str
    default: bool

    def command(self, what: str) -> str:
        """Name of the command that a person types: what is "save" or "restore"."""
        prefix = _PREFIX[self.family]
        return f"{prefix}-{what}" if self.default else f"{prefix}-{self.name}-{what}"

    def other(self) -> Backend:
        """The backend that is not this one."""
        return Backend(_OTHER[self.name], self.family, False)

    def restore_argv(self) -> list[str]:
        """`iptables-restore` as it is called: add to what is there, wait for the lock."""
        return [self.command("restore"), "-w", str(LOCK_SECONDS), "--noflush", "--counters"]


def detect(family: str = "ipv4", backend: str = "") -> Backend:
    """The backend to use: the one asked for ("nft" or "legacy"), else what the machine's `iptables` is.

    Raises PodlabError when iptables is not installed.
    """
    command = f"{_PREFIX[family]}-{backend + '-' if backend else ''}restore"
    found = find(command)
    if not found:
        raise PodlabError(f"Cannot program Services: no {command} on this machine. Install the package iptables.")
    default = _default_backend(_PREFIX[family])
    return Backend(backend or default, family, not backend or backend == default)


def _default_backend(command: str) -> str:
    """By the multi-call binary behind the link, as alternatives set it; by its version text where there is none."""
    name = os.path.basename(os.path.realpath(find(command)))
    for backend in ("nft", "legacy"):
        if backend in name:
            return backend
    version = subprocess.run([find(command), "-V"], capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    return "nft" if "nf_tables" in version.stdout else "legacy"


@functools.cache
def version(backend: Backend) -> tuple[int, ...]:
    """The version of the commands, (1, 8, 9); empty when they do not say."""
    argv = [find(backend.command("restore")), "-V"]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_SECONDS).stdout
    found = re.search(r"\bv(\d+(?:\.\d+)*)", said)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def save(backend: Backend, namespaces: Sequence[str], meanwhile: Callable[[], object] = lambda: None) -> dict[str, str]:
    """namespace -> output of iptables-save: every table in use, without counters.

    meanwhile: what else there is to do while it runs: a large cluster's rules take it a tenth of a second.
    """
    return run_each([backend.command("save")], dict.fromkeys(namespaces, ""), meanwhile)


def restore(backend: Backend, texts: Mapping[str, str]) -> None:
    """Load the texts (namespace -> restore text): each table of a text wholly or not at all.

    Raises PodlabError with the command's own message; the other namespaces are served all the same.
    """
    run_each(backend.restore_argv(), texts)


def other_in_use(backend: Backend, namespaces: Sequence[str]) -> dict[str, str]:
    """namespace -> what the other backend holds there; namespaces where it holds nothing are left out."""
    other = backend.other()
    if other.name == "legacy":
        namespaces = [name for name in namespaces if legacy_tables(name, backend.family)]
    if not namespaces or not find(other.command("save")):
        return {}
    return {name: text for name, text in save(other, namespaces).items() if text}


def every(where: str, family: str = "ipv4") -> dict[Backend, str]:
    """What both backends hold in a namespace, the machine's own first; none when iptables is not installed."""
    if not find(f"{_PREFIX[family]}-restore"):
        return {}
    own = detect(family)
    found = {own: save(own, [where])[where]} if own.name == "nft" or legacy_tables(where, family) else {own: ""}
    return {**found, **{own.other(): text for text in other_in_use(own, [where]).values()}}


def base_chains(where: str) -> list[tuple[str, str]]:
    """(table, chain) of the chains of nf_tables' family ip. iptables-save also prints those that are not there."""
    listed = json.loads(run_each(["nft", "-j", "list", "chains", "ip"], {where: ""})[where] or "{}")
    chains = [entry["chain"] for entry in listed.get("nftables", ()) if "chain" in entry]
    return [(chain["table"], chain["name"]) for chain in chains]


def can_drop() -> bool:
    """Whether nft(8) is there, which base_chains() and drop() need."""
    return bool(find("nft"))


def drop(where: str, what: Sequence[str]) -> None:
    """`nft delete WHAT` in family ip: ("table", "nat") or ("chain", "nat", "INPUT"). Raises PodlabError."""
    run_each(drop_argv(what), {where: ""})


def drop_argv(what: Sequence[str]) -> list[str]:
    """drop() as it is typed."""
    return ["nft", "delete", what[0], "ip", *what[1:]]


def legacy_tables(where: str, family: str = "ipv4") -> str:
    """Names of the legacy tables in use. Asking iptables-legacy itself would load its modules."""
    with netns.entered(where):
        try:
            with open(_LEGACY_TABLES[family], encoding="ascii") as file:
                return file.read()
        except OSError:
            return ""
