"""Counters in a namespace of their own: made, listed, counting, removed."""

from __future__ import annotations

import errno
import pathlib
from collections.abc import Iterator

import pytest

from podlab.linux import netns, nfacct
from podlab.linux.nfacct import Accounting
from support.packets import Namespace

pytestmark = pytest.mark.kernel

RULE = "*filter\n-A INPUT -m nfacct --nfacct-name {name} -j DROP\nCOMMIT\n"


@pytest.fixture(autouse=True)
def known() -> None:
    if not nfacct.supported():
        pytest.skip("this kernel has no nfacct (NETFILTER_NETLINK_ACCT, NETFILTER_XT_MATCH_NFACCT)")


@pytest.fixture
def two(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Namespace, Namespace]]:
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "xtables.lock"))
    namespaces = Namespace(), Namespace()
    yield namespaces
    for namespace in namespaces:
        namespace.close()


def names(where: Namespace) -> list[str]:
    with netns.entered(where.path), Accounting() as accounting:
        return accounting.names()


def test_each_namespace_has_its_own(two: tuple[Namespace, Namespace]) -> None:
    with netns.entered(two[0].path), Accounting() as accounting:
        accounting.add("b")
        accounting.add("a")
        with pytest.raises(OSError, match="add counter a") as caught:
            accounting.add("a")
    assert caught.value.errno == errno.EBUSY
    assert (names(two[0]), names(two[1])) == (["a", "b"], [])


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_a_rule_loads_with_its_counter_only_and_holds_it(two: tuple[Namespace, Namespace], backend: str) -> None:
    restore = f"iptables-{backend}-restore --noflush"
    with pytest.raises(AssertionError):
        two[0].run(restore, RULE.format(name="mine"))
    with netns.entered(two[0].path), Accounting() as accounting:
        accounting.add("mine")
        two[0].run(restore, RULE.format(name="mine"))
        with pytest.raises(OSError, match="delete counter mine") as caught:
            accounting.delete("mine")
        assert caught.value.errno == errno.EBUSY
        two[0].run(f"iptables-{backend} -F INPUT")
        accounting.delete("mine")
        assert accounting.names() == []
        with pytest.raises(OSError, match="delete counter mine") as caught:
            accounting.delete("mine")
        assert caught.value.errno == errno.ENOENT


def test_the_match_is_asked_for_without_making_a_rule(two: tuple[Namespace, Namespace]) -> None:
    with netns.entered(two[0].path), Accounting() as accounting:
        assert accounting.has_match() and not accounting.has_match("podlab")
        assert accounting.names() == []
