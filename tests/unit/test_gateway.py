"""The machine's rules for a lab as text: what is written, what is seen of it, what takes it away and puts back."""

from __future__ import annotations

import itertools

import pytest

from podlab.kube import gateway
from podlab.kube.cluster import Cluster, PortMapping
from podlab.kube.gateway import Memory
from podlab.kube.iptables_save import Tables, parse_save
from support.lab_objects import cluster

H = "0b27c158"
UPLINK = f"podlab{H}"
MARK = '-m comment --comment "podlab lab kind"'
MEMORY = Memory("0", "1", ("nat", "filter.INPUT"))
REMEMBERED = '-m comment --comment "podlab lab kind: before: ip_forward=0 accept_redirects=1 without=nat,filter.INPUT"'
WEB = PortMapping("0.0.0.0", 8080, 30080, "TCP")
DNS = PortMapping("127.0.0.1", 53, 30053, "UDP")


def lab(*mappings: PortMapping, nat: bool = False, name: str = "kind") -> Cluster:
    """A lab whose first worker has these mappings."""
    made = cluster(workers=1, name=name)
    worker = made.nodes[1]._replace(port_mappings=mappings)
    return made._replace(nodes=(made.nodes[0], worker), nat=nat)


def loaded(text: str, have: Tables | None = None) -> Tables:
    """What is there after this input of iptables-restore --noflush."""
    tables = {table: {chain: list(lines) for chain, lines in own.items()} for table, own in (have or {}).items()}
    own: dict[str, list[str]] = {}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        chain, _, rule = rest.partition(" ")
        if word.startswith("*"):
            own = tables.setdefault(word[1:], {})
        elif word.startswith(":"):
            own[word[1:]] = []
        elif word in ("-A", "-I"):
            own.setdefault(chain, []).insert(0 if word == "-I" else len(own.get(chain, [])), f"-A {chain} {rule}")
        elif word == "-D":
            own[chain].remove(f"-A {chain} {rule}")
        elif word == "-X":
            assert not own.pop(chain) and not any(
                one.endswith(f" -j {chain}") for lines in own.values() for one in lines
            )
    return {table: {chain: _saved(lines) for chain, lines in own.items()} for table, own in tables.items()}


def _saved(lines: list[str]) -> list[str]:
    return [gateway.saved_form(line) for line in lines]


EVERYTHING = {
    "nat": {
        f"PODLAB-DNAT-{H}": [
            '-p tcp -m tcp --dport 8080 -m comment --comment "podlab lab kind: 0.0.0.0:8080 -> w1:30080/TCP" '
            "-j DNAT --to-destination 172.18.0.3:30080",
            '-d 127.0.0.1/32 -p udp -m udp --dport 53 -m comment --comment "podlab lab kind: 127.0.0.1:53 -> '
            'w1:30053/UDP" -j DNAT --to-destination 172.18.0.3:30053',
        ],
        f"PODLAB-SNAT-{H}": [
            f"-s 127.0.0.0/8 -o {UPLINK} {MARK} -j MASQUERADE",
            f"-s 172.18.0.0/16 -d 172.18.0.0/16 -o {UPLINK} -m conntrack --ctstate DNAT {MARK} -j MASQUERADE",
            f"-s 172.18.0.0/16 ! -o {UPLINK} {MARK} -j MASQUERADE",
        ],
    },
    "filter": {
        f"PODLAB-FWD-{H}": [
            f"-i {UPLINK} -m conntrack --ctstate RELATED,ESTABLISHED {MARK} -j ACCEPT",
            f"-o {UPLINK} -m conntrack --ctstate RELATED,ESTABLISHED {MARK} -j ACCEPT",
            f"-o {UPLINK} -m conntrack --ctstate DNAT {MARK} -j ACCEPT",
            f"-i podlab+ -o {UPLINK} {MARK} -j DROP",
            f"-i {UPLINK} -o podlab+ -m conntrack ! --ctstate DNAT {MARK} -j DROP",
            f"-i {UPLINK} {MARK} -j ACCEPT",
            REMEMBERED,
        ],
        f"PODLAB-IN-{H}": [
            f"-s 127.0.0.0/8 -i {UPLINK} {MARK} -j DROP",
            f"-d 127.0.0.0/8 -i {UPLINK} -m conntrack ! --ctstate RELATED,ESTABLISHED {MARK} -j DROP",
        ],
    },
}
JUMPS = {
    ("nat", "PREROUTING", f"-m addrtype --dst-type LOCAL {MARK} -j PODLAB-DNAT-{H}"),
    ("nat", "OUTPUT", f"-m addrtype --dst-type LOCAL {MARK} -j PODLAB-DNAT-{H}"),
    ("nat", "POSTROUTING", f"{MARK} -j PODLAB-SNAT-{H}"),
    ("filter", "FORWARD", f"{MARK} -j PODLAB-FWD-{H}"),
    ("filter", "INPUT", f"{MARK} -j PODLAB-IN-{H}"),
}


def test_everything_at_once() -> None:
    made = gateway.rules(lab(WEB, DNS, nat=True), MEMORY)
    want: dict[str, dict[str, list[str]]] = {}
    for (table, chain), lines in made.chains.items():
        assert all(line.startswith(f"-A {chain} ") for line in lines)
        want.setdefault(table, {})[chain] = [line[len(f"-A {chain} ") :] for line in lines]
    assert want == EVERYTHING
    assert {(jump.table, jump.hook, jump.rule.partition(" ")[2]) for jump in made.jumps} == JUMPS


def test_ports_alone_let_nothing_out() -> None:
    """What the lab begins is dropped, where the machine forwards for the sake of the ports."""
    made = gateway.rules(lab(WEB), MEMORY)
    assert made.chains["filter", f"PODLAB-FWD-{H}"][-2] == f"-A PODLAB-FWD-{H} -i {UPLINK} {MARK} -j DROP"
    assert not any("! -o" in line for line in made.chains["nat", f"PODLAB-SNAT-{H}"])


def test_nat_alone_opens_no_port() -> None:
    made = gateway.rules(lab(nat=True), MEMORY)
    assert {chain for _, chain in made.chains} == {f"PODLAB-SNAT-{H}", f"PODLAB-FWD-{H}"}
    accepted = [line for lines in made.chains.values() for line in lines if line.endswith("-j ACCEPT")]
    assert len(accepted) == 3 and not any("DNAT" in line for line in accepted)


def test_neither_is_nothing() -> None:
    assert not gateway.needed(lab())
    assert gateway.rules(lab(), MEMORY) == gateway.NOTHING
    assert gateway.was_needed({"nodes": [{"name": "old"}]}) is False
    assert gateway.was_needed(lab(WEB).to_dict()) and gateway.was_needed(lab(nat=True).to_dict())


SHAPES = [lab(), lab(nat=True), lab(WEB), lab(WEB, DNS), lab(DNS, nat=True)]


@pytest.mark.parametrize(("before", "after"), list(itertools.product(SHAPES, repeat=2)))
def test_one_restore_leads_from_anything_to_anything(before: Cluster, after: Cluster) -> None:
    """Foreign rules stay; nothing of what was is left; and the second look finds no difference."""
    foreign = {"nat": {"POSTROUTING": ["-A POSTROUTING -j MASQUERADE"], "PREROUTING": [], "OUTPUT": []}}
    first = gateway.rules(before, MEMORY)
    have = loaded(gateway.sync_text(first, foreign, "kind"), foreign)
    assert not gateway.difference(first, have, "kind")
    assert (gateway.remembered([have]) or MEMORY) == MEMORY
    second = gateway.rules(after, MEMORY)
    assert bool(gateway.difference(second, have, "kind")) == (before != after)
    have = loaded(gateway.sync_text(second, have, "kind"), have)
    assert not gateway.difference(second, have, "kind")
    assert gateway.shown("kind", have).keys() == gateway.shown_wanted(second).keys()
    assert set(gateway.present("kind", have)) == set(second.chains)
    assert have["nat"]["POSTROUTING"][-1] == "-A POSTROUTING -j MASQUERADE"
    gone = loaded(gateway.sync_text(gateway.NOTHING, have, "kind"), have)
    assert gone["nat"] == foreign["nat"] and not any(gone.get("filter", {}).values())


def test_a_missing_jump_alone_is_made_again() -> None:
    want = gateway.rules(lab(WEB), MEMORY)
    have = loaded(gateway.sync_text(want, {}, "kind"))
    have["filter"]["FORWARD"] = []
    assert gateway.difference(want, have, "kind") == "1 jump(s) missing"
    assert gateway.sync_text(want, have, "kind").count("\n-I ") == 1


def test_labs_know_each_others_memory_and_leave_each_other_alone() -> None:
    first = gateway.rules(lab(WEB), MEMORY)
    have = loaded(gateway.sync_text(first, {}, "kind"))
    assert gateway.others("kind", [have]) == []
    assert gateway.others("two", [have]) == [f"PODLAB-FWD-{H}"]
    assert gateway.remembered([{}, have]) == MEMORY
    assert gateway.present("two", have) == []
    second = gateway.rules(lab(nat=True, name="two"), MEMORY)
    both = loaded(gateway.sync_text(second, have, "two"), have)
    assert not gateway.difference(first, both, "kind")
    assert loaded(gateway.sync_text(gateway.NOTHING, both, "two"), both) == have


def test_a_chain_with_our_name_and_foreign_rules_is_not_ours() -> None:
    foreign = {"nat": {f"PODLAB-DNAT-{H}": [f"-A PODLAB-DNAT-{H} -j RETURN"]}}
    assert gateway.in_the_way("kind", foreign) == {("nat", f"PODLAB-DNAT-{H}"): f"-A PODLAB-DNAT-{H} -j RETURN"}
    assert gateway.present("kind", foreign) == []
    # The name of the one lab is the beginning of the other's.
    other = {"nat": {f"PODLAB-DNAT-{H}": [f'-A PODLAB-DNAT-{H} -m comment --comment "podlab lab kind-2" -j RETURN']}}
    assert gateway.in_the_way("kind", other)
    flushed: Tables = {"nat": {f"PODLAB-DNAT-{H}": []}}
    assert gateway.present("kind", flushed) == [("nat", f"PODLAB-DNAT-{H}")]


SAVED = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:PODLAB-FWD-x - [0:0]
-A FORWARD -m comment --comment "podlab lab kind" -j PODLAB-FWD-x
-A PODLAB-FWD-x -j DROP
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:PODLAB-DNAT-x - [0:0]
-A PREROUTING -j PODLAB-DNAT-x
COMMIT
"""
OURS = ["PODLAB-FWD-x", "PODLAB-DNAT-x"]


@pytest.mark.parametrize(
    ("without", "text", "expected"),
    [
        (("nat", "filter"), SAVED, [("table", "filter"), ("table", "nat")]),
        (("nat",), SAVED, [("table", "nat")]),
        ((), SAVED, []),
        (("nat", "filter.FORWARD"), SAVED, [("chain", "filter", "FORWARD"), ("table", "nat")]),
        # Somebody has come since: a rule, a policy, a chain of their own.
        (("filter",), SAVED.replace("COMMIT\n*nat", "-A INPUT -j DROP\nCOMMIT\n*nat"), []),
        (("filter.FORWARD",), SAVED.replace("FORWARD ACCEPT", "FORWARD DROP"), []),
        (("filter",), SAVED.replace(":FORWARD", ":MINE - [0:0]\n:FORWARD"), []),
        (("filter.FORWARD",), SAVED.replace("-A FORWARD", "-A FORWARD -j MINE\n-A FORWARD"), []),
    ],
)
def test_what_nobody_uses_any_more(without: tuple[str, ...], text: str, expected: list[tuple[str, ...]]) -> None:
    assert gateway.superfluous(Memory("0", "1", without), text, OURS) == expected


def test_what_the_machine_is_without() -> None:
    assert gateway.without("", []) == ("nat", "filter")
    hooks = ("nat.PREROUTING", "nat.OUTPUT", "nat.POSTROUTING")
    assert gateway.without("*nat\nCOMMIT\n", []) == ("filter", *hooks)
    assert gateway.without("*nat\nCOMMIT\n*filter\nCOMMIT\n", [("nat", "OUTPUT"), ("filter", "FORWARD")]) == (
        *("nat.PREROUTING", "nat.POSTROUTING", "filter.INPUT"),
    )


def test_the_memory_survives_being_printed() -> None:
    for memory in (Memory("1", "0", ()), MEMORY, Memory("0", "1", gateway.without("*nat\n*filter\n", []))):
        have = parse_save(gateway.sync_text(gateway.rules(lab(nat=True), memory), {}, "kind"))
        assert gateway.remembered([have]) == memory
        # xt_comment keeps 255 characters.
        longest = max(line for own in have["filter"].values() for line in own)
        assert len(longest) < 255


def test_names_fit() -> None:
    """iptables' chains have at most 28 characters."""
    assert all(len(chain) <= 28 for _, chain in gateway.chains("a" * 60))
