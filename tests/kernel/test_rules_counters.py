"""A partial sync among a thousand Services leaves the others' chains alone: same rules, same counters, same handles."""

from __future__ import annotations

import copy
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from podlab.cli.yardsticks import many_services, proxy_options
from podlab.kube.proxy import RuleSet, restore_text
from podlab.kube.proxy_chains import NAT_CHAINS
from podlab.kube.proxy_model import ProxyNode
from support.packets import Namespace
from support.rules_kernel import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine]

CHANGED = 500
OWNER = f"default/service-{CHANGED}"
Objects = tuple[list[dict[str, Any]], list[dict[str, Any]]]
_CHAIN = re.compile(r"^\tchain (\S+) \{ # handle \d+\n(.*?)^\t\}", re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def lock_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "xtables.lock"))


@pytest.fixture(scope="module")
def objects() -> Objects:
    return many_services(1000, 3)


@pytest.fixture(params=["nft", "legacy"])
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    namespace = Namespace()
    yield Kernel(namespace, request.param, "ipv4")
    namespace.close()


def rules_of(objects: Objects) -> RuleSet:
    return restore_text(*objects, ProxyNode("node"), proxy_options())


def without_one(objects: Objects) -> Objects:
    services, slices = objects
    return services[:CHANGED] + services[CHANGED + 1 :], slices[:CHANGED] + slices[CHANGED + 1 :]


def with_one_less_ready(objects: Objects) -> Objects:
    slices = list(objects[1])
    slices[CHANGED] = copy.deepcopy(slices[CHANGED])
    slices[CHANGED]["endpoints"][0]["conditions"]["ready"] = False
    return objects[0], slices


def seen(kernel: Kernel) -> dict[str, list[str]]:
    """nat chain -> its rules with counters, and with nft's handles where there are any."""
    found: dict[str, list[str]] = {}
    for line in kernel.namespace.run(f"iptables-{kernel.backend.name}-save -c -t nat").splitlines():
        if line.startswith("["):
            found.setdefault(line.split()[2], []).append(line)
    if kernel.backend.name == "nft":
        for name, body in _CHAIN.findall(kernel.namespace.run("nft -a list table ip nat")):
            handles = re.findall(r"# handle (\d+)$", body, re.MULTILINE)
            assert len(handles) == len(found.get(name, []))
            found[name] = [f"{handle} {line}" for handle, line in zip(handles, found.get(name, []))]
    return found


def test_other_services_keep_their_counters_and_handles(kernel: Kernel, objects: Objects) -> None:
    stages = [objects, with_one_less_ready(objects), objects, without_one(objects), objects]
    rules = rules_of(objects)
    counted = re.sub(r"^-A KUBE-S(VC|EP)-", r"[7:420] \g<0>", rules.text(), flags=re.MULTILINE)
    kernel.load(counted)
    before = seen(kernel)
    others = {chain for chain, owner in rules.owners.items() if owner != OWNER}
    assert len(others) == 999 * 4 and all("[7:420]" in line for chain in others for line in before[chain])
    for stage in stages[1:]:
        made = rules_of(stage)
        text = kernel.sync(made)
        assert len(text) < len(counted) / 3
        after = seen(kernel)
        assert {chain: after[chain] for chain in others} == {chain: before[chain] for chain in others}
        own = {chain for chain, owner in made.owners.items() if owner == OWNER}
        assert all("[0:0]" in line for chain in own for line in after[chain])
        assert set(after) >= {chain for chain in NAT_CHAINS if chain != "KUBE-NODEPORTS"} | own | others
        assert {chain for chain in after if chain.startswith(("KUBE-SVC-", "KUBE-SEP-"))} == own | others
