"""A partial sync among a thousand Services: what is in the text, and what is not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from podlab.cli.yardsticks import many_services, proxy_options
from podlab.kube import proxy_sync
from podlab.kube.iptables_save import parse_save
from podlab.kube.proxy import RuleSet, restore_text
from podlab.kube.proxy_chains import FILTER_CHAINS, FIREWALL, NAT_CHAINS
from podlab.kube.proxy_model import ProxyNode
from support.rules_text import hashed

Objects = tuple[list[dict[str, Any]], list[dict[str, Any]]]

COUNT = 1000
FIXED = {"filter": {*FILTER_CHAINS, FIREWALL}, "nat": set(NAT_CHAINS)}
# service-500's port is called http, its endpoints are three addresses from the 1500th on.
NAME = "default/service-500:http"
ENDPOINTS = ["10.244.6.2:8080", "10.244.6.3:8080", "10.244.6.4:8080"]
SVC = f"KUBE-SVC-{hashed(f'{NAME}tcp')}"
SEPS = [f"KUBE-SEP-{hashed(f'{NAME}tcp{target}')}" for target in ENDPOINTS]


def rules_of(objects: Objects) -> RuleSet:
    return restore_text(*objects, ProxyNode("node"), proxy_options())


@pytest.fixture(scope="module")
def all_of_them() -> Objects:
    return many_services(COUNT, 3)


def without(objects: Objects, number: int) -> Objects:
    services, slices = objects
    return [*services[:number], *services[number + 1 :]], [*slices[:number], *slices[number + 1 :]]


def partial(before: Objects, after: Objects) -> tuple[RuleSet, str]:
    """The rules after, and the text that brings a node there that is as before."""
    rules = rules_of(after)
    have = rules_of(before).saved()
    for jump, line in proxy_sync.jump_lines("ipv4").items():
        have[jump.table].setdefault(jump.chain, []).insert(0, line)
    return rules, proxy_sync.sync_text(rules, proxy_sync.compare(rules, rules.saved(), have))


def service_chains(text: str) -> set[str]:
    """The chains that a text names, besides the fixed ones; those must all be in it."""
    tables = parse_save(text)
    assert {table: FIXED[table] & set(chains) for table, chains in tables.items()} == FIXED
    assert set(tables["filter"]) == FIXED["filter"]
    named = {line.split()[0][1:] for line in text.splitlines() if line.startswith(":")}
    assert named == set(tables["filter"]) | set(tables["nat"])
    return named - FIXED["filter"] - FIXED["nat"]


def test_one_more_service(all_of_them: Objects) -> None:
    rules, text = partial(without(all_of_them, 500), all_of_them)
    assert service_chains(text) == {SVC, *SEPS}
    assert "\n-X" not in text and "\n-I" not in text
    written, whole = parse_save(text), parse_save(rules.text())
    assert {name: written["nat"][name] for name in written["nat"]} == {
        name: whole["nat"][name] for name in written["nat"]
    }
    assert written["filter"] == whole["filter"]
    assert len(written["nat"]["KUBE-SERVICES"]) == COUNT + 1


def test_one_service_less(all_of_them: Objects) -> None:
    _, text = partial(all_of_them, without(all_of_them, 500))
    assert service_chains(text) == {SVC, *SEPS}
    assert {line for line in text.splitlines() if line.startswith("-X")} == {f"-X {name}" for name in (SVC, *SEPS)}
    assert f"\n-A {SVC}" not in text and NAME not in text


@pytest.mark.parametrize("what", ["its Service", "its EndpointSlice"])
def test_one_changed_service(all_of_them: Objects, what: str) -> None:
    services, slices = copy.deepcopy(all_of_them[0]), copy.deepcopy(all_of_them[1])
    if what == "its Service":
        services[500]["spec"]["sessionAffinity"] = "ClientIP"
        chains, removed = {SVC, *SEPS}, set()
    else:
        slices[500]["endpoints"][0]["conditions"] = {"ready": False}
        chains, removed = {SVC, *SEPS}, {f"-X {SEPS[0]}"}
    _, text = partial(all_of_them, (services, slices))
    assert service_chains(text) == chains
    assert {line for line in text.splitlines() if line.startswith("-X")} == removed


def test_nobody_left_for_one_service(all_of_them: Objects) -> None:
    """A Service that only refuses has no chain in nat: its old ones go, its dispatch rule moves to filter."""
    services, slices = all_of_them
    gone = [*slices[:500], {**slices[500], "endpoints": []}, *slices[501:]]
    _, text = partial(all_of_them, (services, gone))
    assert {line for line in text.splitlines() if line.startswith("-X")} == {f"-X {name}" for name in (SVC, *SEPS)}
    assert f'"{NAME} has no endpoints"' in text.split("*nat")[0]


def test_nothing_changed(all_of_them: Objects) -> None:
    """Then nothing is loaded at all; a full text would be a thousand times as long."""
    rules, text = partial(all_of_them, all_of_them)
    assert service_chains(text) == set()
    assert len(text.splitlines()) < len(rules.text().splitlines()) / 10
