"""Rules in a kernel, both backends and families: they load, nothing hangs loose, and iptables-save is as predicted."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from podlab.kube.iptables_save import Tables
from podlab.kube.proxy import restore_text
from podlab.kube.proxy_chains import FIREWALL, JUMPS, SERVICE_PREFIXES
from support import random_services
from support.packets import Namespace
from support.rules_kernel import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine]

BACKENDS = ("nft", "legacy")
FAMILIES = ("ipv4", "ipv6")


@pytest.fixture(scope="module")
def place() -> Iterator[Namespace]:
    namespace = Namespace()
    yield namespace
    namespace.close()


@pytest.fixture(autouse=True)
def lock_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "xtables.lock"))


def ours(tables: Tables) -> Tables:
    """The chains of kube-proxy."""
    return {
        table: {chain: lines for chain, lines in tables.get(table, {}).items() if chain.startswith("KUBE-")}
        for table in ("filter", "nat")
    }


def loose_ends(tables: Tables) -> list[str]:
    """Jumps to chains that are missing or empty, and chains that nothing leads to."""
    found = []
    for table, chains in tables.items():
        builtin = {jump.target for jump in JUMPS if jump.table == table}
        targets = {
            match[1]: line
            for lines in chains.values()
            for line in lines
            for match in [re.search(r" -[jg] (KUBE-\S+)", line)]
            if match
        }
        found += [f"{table}: missing: {line}" for target, line in targets.items() if target not in chains]
        found += [
            f"{table}: empty: {line}"
            for target, line in targets.items()
            if target.startswith(SERVICE_PREFIXES) and not chains.get(target)
        ]
        found += [
            f"{table}: unused: {chain}"
            for chain in chains
            if chain not in targets and chain not in builtin and chain not in ("KUBE-MARK-MASQ", "KUBE-NODEPORTS")
        ]
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_random_services(place: Namespace, family: str) -> None:
    """From one random lab to the next, over what is there: what differs is synced, then the full text loaded."""
    node = random_services.NODES[family]
    kernels = [Kernel(place, backend, family) for backend in BACKENDS]

    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(random_services.labs(family), random_services.options(family))
    def loads(lab: tuple[Sequence[Any], Sequence[Any]], options: Any) -> None:
        rules = restore_text(*lab, node, options)
        want = rules.saved()
        assert loose_ends(want) == []
        for kernel in kernels:
            kernel.sync(rules)
            assert _without_idle(ours(kernel.tables()), want) == want, kernel.backend.name
            kernel.load(rules.text())
            assert _without_idle(ours(kernel.tables()), want) == want, kernel.backend.name

    loads()


def _without_idle(tables: Tables, want: Tables) -> Tables:
    """Without KUBE-FIREWALL where the options have none: it is kubelet's, too, and stays."""
    return {
        table: {chain: lines for chain, lines in chains.items() if chain != FIREWALL or chain in want[table]}
        for table, chains in tables.items()
    }
