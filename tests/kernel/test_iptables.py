"""The iptables commands in network namespaces: which backend, where, and what they say when they fail."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Iterator

import pytest

from podlab.errors import PodlabError
from podlab.linux import iptables, process
from support.packets import Namespace

pytestmark = pytest.mark.kernel

RULES = "*filter\n:KUBE-X - [0:0]\n-A KUBE-X -j RETURN\nCOMMIT\n"


@pytest.fixture(autouse=True)
def lock_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "xtables.lock"))


@pytest.fixture
def two() -> Iterator[tuple[str, str]]:
    namespaces = Namespace(), Namespace()
    yield namespaces[0].path, namespaces[1].path
    for namespace in namespaces:
        namespace.close()


@pytest.mark.parametrize("name", ["nft", "legacy"])
def test_each_namespace_gets_its_own_text(two: tuple[str, str], name: str) -> None:
    backend = iptables.detect(backend=name)
    iptables.restore(backend, {two[0]: RULES, two[1]: RULES.replace("KUBE-X", "KUBE-Y")})
    saved = iptables.save(backend, two)
    assert "-A KUBE-X -j RETURN\n" in saved[two[0]] and "KUBE-Y" not in saved[two[0]]
    assert "-A KUBE-Y -j RETURN\n" in saved[two[1]] and "KUBE-X" not in saved[two[1]]


@pytest.mark.parametrize("name", ["nft", "legacy"])
def test_the_other_backend_is_seen_without_waking_it(two: tuple[str, str], name: str) -> None:
    backend = iptables.detect(backend=name)
    assert iptables.other_in_use(backend, two) == {}
    assert iptables.other_in_use(backend.other(), two) == {}
    iptables.restore(backend.other(), {two[1]: RULES})
    found = iptables.other_in_use(backend, two)
    assert list(found) == [two[1]] and ":KUBE-X " in found[two[1]]
    assert iptables.save(backend, [two[1]]) == {two[1]: ""}


def test_one_that_fails_does_not_keep_the_other_from_its_rules(two: tuple[str, str]) -> None:
    backend = iptables.detect()
    with pytest.raises(PodlabError) as caught:
        iptables.restore(backend, {two[0]: "*filter\n-A MISSING -j ACCEPT\nCOMMIT\n", two[1]: RULES})
    assert f"in network namespace {two[0]} failed with status" in caught.value.message
    assert caught.value.details["cmd"][0] == "iptables-restore" and caught.value.details["stderr"]
    assert "KUBE-X" in iptables.save(backend, [two[1]])[two[1]]


def test_a_namespace_that_is_gone_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(PodlabError, match=f"network namespace {tmp_path}/none: .*No such file"):
        iptables.save(iptables.detect(), [f"{tmp_path}/none"])


def test_the_machines_own_backend_is_the_default() -> None:
    default = iptables.detect()
    assert (default.default, default.command("save")) == (True, "iptables-save")
    other = default.other()
    assert other.command("restore") == f"iptables-{other.name}-restore"
    assert iptables.detect(backend=other.name) == other
    assert iptables.detect("ipv6").restore_argv() == ["ip6tables-restore", "-w", "5", "--noflush", "--counters"]


def test_no_iptables_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iptables, "find", lambda command: "")
    with pytest.raises(PodlabError, match="no iptables-restore on this machine. Install the package iptables"):
        iptables.detect()


def test_what_is_done_meanwhile_cannot_leave_a_command_behind(two: tuple[str, str]) -> None:
    backend = iptables.detect()
    done: list[int] = []
    others = set(process.children(os.getpid()))
    assert set(iptables.save(backend, two, lambda: done.append(1))) == set(two) and done == [1]

    def fails() -> None:
        done.extend(set(process.children(os.getpid())) - others)
        raise ValueError("while they ran")

    with pytest.raises(ValueError, match="while they ran"):
        iptables.save(backend, two, fails)
    # Both ran, and both were waited for.
    assert len(done) == 3
    assert not set(process.children(os.getpid())) & set(done[1:])


@pytest.mark.parametrize("name", ["nft", "legacy"])
def test_the_version_is_that_of_the_commands(name: str) -> None:
    found = iptables.version(iptables.detect(backend=name))
    said = subprocess.run([f"iptables-{name}", "--version"], check=True, capture_output=True, text=True).stdout
    assert said.startswith(f"iptables v{'.'.join(map(str, found))} ") and found > (1, 6)
