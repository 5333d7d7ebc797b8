"""What is changed on a node, and what never is."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from podlab.kube import proxy_sync
from podlab.kube.iptables_save import Tables, parse_save
from podlab.kube.proxy import RuleSet, restore_text
from podlab.kube.proxy_chains import JUMPS, SERVICE_PREFIXES, Options
from support.service_labs import labs
from support.services import NODE, OPTIONS, endpoint, endpoint_slice, service

EMPTY: Tables = {
    "filter": {"INPUT": [], "FORWARD": [], "OUTPUT": []},
    "nat": {"PREROUTING": [], "INPUT": [], "OUTPUT": [], "POSTROUTING": []},
}


def rules_of(*services: dict[str, Any], slices: list[dict[str, Any]] | None = None) -> RuleSet:
    return restore_text(services, slices or [], NODE, OPTIONS)


def load(have: Tables, text: str, want: Tables) -> Tables:
    """What a node holds after restore text: a model of iptables-restore --noflush."""
    tables = {table: dict(chains) for table, chains in have.items()}
    jumps = proxy_sync.jump_lines("ipv4")
    table: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("*"):
            name = line[1:]
            table = tables.setdefault(name, {})
        elif line.startswith(":"):
            chain = line[1:].split()[0]
            table[chain] = want.get(name, {}).get(chain, [])
        elif line.startswith("-I "):
            jump = next(jump for jump in JUMPS if f"-I {jump.rule()}" == line and jump.table == name)
            table[jump.chain] = [jumps[jump], *table[jump.chain]]
        elif line.startswith("-D "):
            chain = line.split()[1]
            table[chain] = [rule for rule in table[chain] if rule[3:] != line[3:]]
        elif line.startswith("-X "):
            assert not table.pop(line.split()[1]), f"{line}: not empty"
    return tables


def synced(have: Tables, rules: RuleSet) -> Tables:
    want = rules.saved()
    difference = proxy_sync.compare(rules, want, have)
    return load(have, proxy_sync.sync_text(rules, difference), want)


def test_first_sync_writes_everything_and_the_second_nothing() -> None:
    rules = rules_of(service(), slices=[endpoint_slice([endpoint("10.244.1.1")])])
    first = proxy_sync.compare(rules, rules.saved(), EMPTY)
    assert first.jumps == JUMPS
    text = proxy_sync.sync_text(rules, first)
    assert text.index(":KUBE-FIREWALL") < text.index("-I INPUT") < text.index("-A KUBE-")
    assert [line for line in text.splitlines() if line.startswith("-I")] == [
        f"-I {jump.rule()}" for table in ("filter", "nat") for jump in JUMPS if jump.table == table
    ]
    have = load(EMPTY, text, rules.saved())
    assert proxy_sync.compare(rules, rules.saved(), have).why() == ""


def test_only_the_changed_service_is_rewritten() -> None:
    services = [service(), service("other", "10.96.0.21")]
    slices = [endpoint_slice([endpoint("10.244.1.1")]), endpoint_slice([endpoint("10.244.1.9")], name="other")]
    have = synced(EMPTY, rules_of(*services, slices=slices))
    slices[0] = endpoint_slice([endpoint("10.244.1.2")])
    rules = rules_of(*services, slices=slices)
    difference = proxy_sync.compare(rules, rules.saved(), have)
    assert difference.services == {"default/web"}
    assert len(difference.stale) == 1 and difference.stale[0].startswith("KUBE-SEP-")
    text = proxy_sync.sync_text(rules, difference)
    assert "10.244.1.9" not in text and "10.244.1.2:80" in text
    assert f"-X {difference.stale[0]}" in text and f":{difference.stale[0]} - [0:0]" in text
    # Fixed chains are written whole: the other Service's dispatch rule is among them.
    assert '"default/other cluster IP"' in text
    after = load(have, text, rules.saved())
    assert proxy_sync.compare(rules, rules.saved(), after).why() == ""


def test_a_service_without_endpoints_gives_up_its_chains() -> None:
    have = synced(EMPTY, rules_of(service(), slices=[endpoint_slice([endpoint("10.244.1.1")])]))
    rules = rules_of(service())
    difference = proxy_sync.compare(rules, rules.saved(), have)
    assert [chain[:9] for chain in difference.stale] == ["KUBE-SEP-", "KUBE-SVC-"]


def test_foreign_rules_stay_and_a_jump_to_a_stale_chain_is_found() -> None:
    have = synced(EMPTY, rules_of(service(), slices=[endpoint_slice([endpoint("10.244.1.1")])]))
    have["nat"]["MINE"] = ["-A MINE -j KUBE-MARK-MASQ"]
    have["nat"]["KUBE-SOMETHING"] = []
    rules = rules_of()
    difference = proxy_sync.compare(rules, rules.saved(), have)
    assert "KUBE-SOMETHING" not in difference.stale
    assert proxy_sync.foreign_users(rules.saved(), have, difference.stale) == []
    bad = f"-A MINE -j {difference.stale[0]}"
    have["nat"]["MINE"].append(bad)
    assert proxy_sync.foreign_users(rules.saved(), have, difference.stale) == [bad]


def test_one_missing_jump_is_put_back_alone() -> None:
    rules = rules_of()
    have = synced(EMPTY, rules)
    have["nat"]["PREROUTING"] = ["-A PREROUTING -j MINE"]
    difference = proxy_sync.compare(rules, rules.saved(), have)
    assert [(jump.table, jump.chain) for jump in difference.jumps] == [("nat", "PREROUTING")]
    after = load(have, proxy_sync.sync_text(rules, difference), rules.saved())
    assert after["nat"]["PREROUTING"][1] == "-A PREROUTING -j MINE"


def test_firewall_jump_has_its_chain_without_localhost_node_ports() -> None:
    rules = restore_text([], [], NODE, Options(localhost_nodeports=False))
    difference = proxy_sync.compare(rules, rules.saved(), EMPTY)
    assert difference.undeclared == (("filter", "KUBE-FIREWALL"),)
    assert ":KUBE-FIREWALL - [0:0]\n-I INPUT" in proxy_sync.sync_text(rules, difference)
    have = synced(EMPTY, rules)
    assert proxy_sync.compare(rules, rules.saved(), have).why() == ""


def test_removal_leaves_what_was_there_before() -> None:
    before = {
        table: {**chains, "MINE": [f"-A MINE -m comment --comment {table} -j ACCEPT"]}
        for table, chains in EMPTY.items()
    }
    before["filter"]["INPUT"] = ["-A INPUT -j MINE"]
    have = synced(before, rules_of(service(), slices=[endpoint_slice([endpoint("10.244.1.1")])]))
    assert load(have, proxy_sync.removal_text(have, "ipv4"), {}) == before
    assert proxy_sync.removal_text(before, "ipv4") == ""


def test_same_on_every_node() -> None:
    slices = [endpoint_slice([endpoint("10.244.1.1")])]
    assert proxy_sync.same_on_every_node([service()], slices, OPTIONS)
    assert not proxy_sync.same_on_every_node([service(internalTrafficPolicy="Local")], slices, OPTIONS)
    assert not proxy_sync.same_on_every_node([service(externalTrafficPolicy="Local")], slices, OPTIONS)
    assert not proxy_sync.same_on_every_node([service(loadBalancerSourceRanges=["10.0.0.0/8"])], slices, OPTIONS)
    assert not proxy_sync.same_on_every_node([], slices, OPTIONS._replace(nodeport_addresses=("10.0.0.0/8",)))
    hinted = [endpoint_slice([{**endpoint("10.244.1.1"), "hints": {"forZones": [{"name": "a"}]}}])]
    assert not proxy_sync.same_on_every_node([], hinted, OPTIONS)


@settings(max_examples=200, deadline=None)
@given(labs(), st.booleans(), st.booleans())
def test_no_chain_is_missing_empty_or_unused(
    lab: tuple[list[dict[str, Any]], list[dict[str, Any]]], masquerade_all: bool, with_detector: bool
) -> None:
    base = OPTIONS if with_detector else Options()
    rules = restore_text(*lab, NODE, base._replace(masquerade_all=masquerade_all))
    saved = rules.saved()
    for table, own in saved.items():
        builtin = {jump.target for jump in JUMPS if jump.table == table}
        targets = {line.split(" -j ")[1].split()[0] for lines in own.values() for line in lines if " -j " in line}
        ours = {target for target in targets if target.startswith("KUBE-")}
        assert ours <= set(own), "a jump leads nowhere"
        service_chains = {chain for chain in own if chain.startswith(SERVICE_PREFIXES)}
        assert service_chains <= targets, "a chain is not reached"
        assert all(own[chain] for chain in service_chains), "a chain is empty"
        assert set(own) - service_chains - ours <= builtin | {"KUBE-MARK-MASQ", "KUBE-NODEPORTS"}
    assert list(saved["nat"]) == sorted(saved["nat"], key=str.encode)


@settings(max_examples=100, deadline=None)
@given(labs(), labs())
def test_from_any_lab_to_any_other_one_sync_is_enough(one: Any, other: Any) -> None:
    have = synced(EMPTY, restore_text(*one, NODE, OPTIONS))
    rules = restore_text(*other, NODE, OPTIONS)
    after = synced(have, rules)
    assert proxy_sync.compare(rules, rules.saved(), after).why() == ""
    assert set(after["nat"]) == set(EMPTY["nat"]) | set(rules.saved()["nat"])
    written = parse_save(rules.text())
    assert set(written["nat"]) == set(rules.saved()["nat"])
