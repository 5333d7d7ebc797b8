"""kube-proxy's canary: an empty chain in three tables. When somebody flushes the rules, it goes with them.

Source: Kubernetes pkg/util/iptables/iptables.go, Monitor.
"""

from __future__ import annotations

from .iptables_save import Tables

CHAIN = "KUBE-PROXY-CANARY"
TABLES = ("mangle", "nat", "filter")


def missing(have: Tables) -> list[str]:
    """The tables that have no canary."""
    return [table for table in TABLES if CHAIN not in have.get(table, {})]


def text(tables: list[str]) -> str:
    """Input for iptables-restore that makes the canary in these tables."""
    return "".join(f"*{table}\n:{CHAIN} - [0:0]\nCOMMIT\n" for table in tables)


def removal_text(have: Tables) -> str:
    """Input for iptables-restore that takes it away wherever it is."""
    there = [table for table in TABLES if CHAIN in have.get(table, {})]
    return "".join(f"*{table}\n:{CHAIN} - [0:0]\n-X {CHAIN}\nCOMMIT\n" for table in there)
