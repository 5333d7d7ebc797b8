"""nft's listings read back: what means the same is the same text, whatever version printed it, and nothing else is."""

from __future__ import annotations

import pytest

from podlab.kube import nft_sync
from podlab.kube.nft import ruleset
from podlab.kube.nft_list import canonical, parse
from podlab.kube.nft_model import Element
from support.services import NODE, OPTIONS, endpoint, endpoint_slice, service


@pytest.mark.parametrize(
    ("typed", "printed"),
    [
        ("mark set mark or 0x00004000", "meta mark set meta mark | 0x00004000"),
        ("mark set mark xor 0x00004000", "meta mark set meta mark ^ 0x00004000"),
        ("mark and 0x00004000 == 0 return", "meta mark & 0x00004000 == 0x00000000 return"),
        ("mark and 0x80000000 == 0 return", "meta mark 0x00000000/1 return"),
        ("ct state new jump firewall-check", "ct state 0x8 jump firewall-check"),
        ('fib saddr type local goto x comment "c"', 'fib saddr type 2 goto x comment "c"'),
        ("meta l4proto tcp dnat to 10.0.0.1:80", "meta l4proto 6 dnat to 10.0.0.1:80"),
        ("meta l4proto udp dnat to [fd00::1]:80", "meta l4proto 17 dnat to [fd00::1]:80"),
        ("meta l4proto sctp dnat to 10.0.0.1:80", "meta l4proto 132 dnat to 10.0.0.1:80"),
        ("reject", "reject with icmp port-unreachable"),
        ("reject", "reject with icmpv6 type port-unreachable"),
        ("reject", "reject with icmp 3"),
        ("ip daddr { 10.96.0.0/16 } drop", "ip daddr 10.96.0.0/16 drop"),
        ("ip daddr { 10.96.0.0/16, 10.97.0.0/16 } drop", "ip daddr { 10.96.0.0/15 } drop"),
        ("ip saddr != { 203.0.113.0/24, 198.51.100.7 } drop", "ip saddr != { 198.51.100.7, 203.0.113.0/24 } drop"),
        ("ip saddr != { 10.0.0.1, 10.0.0.2, 10.0.0.3 } drop", "ip saddr != { 10.0.0.1-10.0.0.3 } drop"),
        ("ip saddr != { 0.0.0.0/0, 10.0.0.0/8 } drop", "ip saddr != 0.0.0.0/0 drop"),
        ("ip6 saddr != { fd00::/64, fd00:0:0:1::/64 } drop", "ip6 saddr != { fd00::/63 } drop"),
        (
            "numgen random mod 2 vmap { 0 : goto endpoint-a , 1 : goto endpoint-b }",
            "numgen random mod 2 vmap { 0 : goto endpoint-a, 1 : goto endpoint-b }",
        ),
    ],
)
def test_the_same_in_other_words(typed: str, printed: str) -> None:
    assert canonical(typed) == canonical(printed)


@pytest.mark.parametrize(
    ("wanted", "other"),
    [
        ("mark set mark or 0x4000", "meta mark set meta mark | 0x8000"),
        ("mark set mark or 0x4000", "meta mark set meta mark ^ 0x4000"),
        ("mark and 0x4000 == 0 return", "meta mark & 0x4000 != 0 return"),
        ("mark and 0x4000 == 0 return", "meta mark & 0x4000 == 0x4000 return"),
        ("ct state new jump x", "ct state 0x2 jump x"),
        ("reject", "reject with icmp host-unreachable"),
        ("reject", "reject with icmp 1"),
        ("reject", "reject with tcp reset"),
        ("ip saddr != { 10.0.0.0/8 } drop", "ip saddr { 10.0.0.0/8 } drop"),
        ("ip saddr != { 10.0.0.0/8 } drop", "ip daddr != { 10.0.0.0/8 } drop"),
        ("ip saddr != { 10.0.0.0/8 } drop", "ip saddr != { 10.0.0.0/9 } drop"),
        ("meta l4proto tcp dnat to 10.0.0.1:80", "meta l4proto 17 dnat to 10.0.0.1:80"),
        ("fib saddr type local goto x", "fib saddr type 3 goto x"),
        ("fib saddr type local goto x", "fib daddr type 2 goto x"),
        ("masquerade fully-random", "masquerade random"),
        ("numgen random mod 2 vmap { 0 : goto a , 1 : goto b }", "numgen random mod 2 vmap { 0 : goto b, 1 : goto a }"),
    ],
)
def test_what_differs_stays_different(wanted: str, other: str) -> None:
    assert canonical(wanted) != canonical(other)


LISTING = """table ip kube-proxy {
\tcomment "rules for kube-proxy"
\tset cluster-ips {
\t\ttype ipv4_addr
\t\tcomment "Active ClusterIPs"
\t\telements = { 10.96.0.1, 10.96.0.10,
\t\t\t     10.96.0.11 }
\t}

\tset affinity-A-a/b/tcp/__10.0.0.1/80 {
\t\ttype ipv4_addr
\t\tsize 65535\t# count 1
\t\tflags dynamic,timeout
\t\ttimeout 3h30m
\t\telements = { 10.244.1.2 timeout 10800s expires 10799s }
\t}

\tmap no-endpoint-services {
\t\ttype ipv4_addr . inet_proto . inet_service : verdict
\t\telements = { 10.96.0.1 . 6 . 80 comment "a/b, c" : goto reject-chain,
\t\t\t     10.96.0.1 . udp . 81 : drop comment "a/b" }
\t}

\tchain filter-input {
\t\ttype filter hook input priority 0; policy accept;
\t\tct state 0x8 jump services
\t}

\tchain forward {
\t\ttype filter hook forward priority 0; policy drop;
\t}

\tchain reject-chain {
\t\tcomment "helper"
\t\treject
\t}
}
"""


def test_a_listing_is_read_back() -> None:
    rules = parse(LISTING, "ipv4")
    assert rules is not None and rules.comment == "rules for kube-proxy"
    assert {name: tuple(chain) for name, chain in rules.chains.items()} == {
        "filter-input": ("type filter hook input priority 0", "", ["ct state new jump services"]),
        "forward": ("type filter hook forward priority 0; policy drop", "", []),
        "reject-chain": ("", "helper", ["reject"]),
    }
    assert rules.containers["cluster-ips"].elements == {
        address: Element() for address in ("10.96.0.1", "10.96.0.10", "10.96.0.11")
    }
    affinity = rules.containers["affinity-A-a/b/tcp/__10.0.0.1/80"]
    assert affinity.form == ("set", "ipv4_addr", "dynamic,timeout", 12600, "") and affinity.elements is None
    assert rules.containers["no-endpoint-services"].elements == {
        "10.96.0.1 . tcp . 80": Element("goto reject-chain", "a/b, c"),
        "10.96.0.1 . udp . 81": Element("drop", "a/b"),
    }


@pytest.mark.parametrize("line", ["flags dormant", "counter mine {\n\t\tpackets 0 bytes 0\n\t}"])
def test_what_is_no_chain_set_or_map_is_a_difference(line: str) -> None:
    rules = parse(LISTING.replace("\tset cluster", f"\t{line}\n\tset cluster"), "ipv4")
    assert rules is not None and rules.comment != "rules for kube-proxy"


def test_no_table_is_made_by_the_text_of_a_full_sync() -> None:
    want = ruleset([service()], [endpoint_slice([endpoint("10.244.1.1")])], NODE, OPTIONS)
    assert parse("", "ipv4") is None
    difference = nft_sync.compare(want, None)
    assert difference.why() == "table missing"
    assert nft_sync.sync_text(want, None, difference) == want.text()
    assert nft_sync.deletion_text(want, difference) == ""
