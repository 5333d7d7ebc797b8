"""What iptables-save prints, from what was fed in. tests/kernel compares the same with the kernel."""

from __future__ import annotations

import pytest

from podlab.kube.iptables_save import parse_save, saved_form

_MASK = "--mask 255.255.255.255 --rsource"

CASES = [
    # selectors first, "!" before the option, /32 on bare addresses, the protocol's match at its place
    (
        '-A A -m comment --comment "n/s cluster IP" -m tcp -p tcp -d 1.2.3.4 --dport 80 ! -s 10.0.0.0/8 -j B',
        '-A A ! -s 10.0.0.0/8 -d 1.2.3.4/32 -p tcp -m comment --comment "n/s cluster IP" -m tcp --dport 80 -j B',
    ),
    ("-A A -m udp -p udp -i br0 -j B", "-A A -i br0 -p udp -m udp -j B"),
    ("-A A -s 203.0.113.77/25 -j B", "-A A -s 203.0.113.0/25 -j B"),
    ("-A A -s 0.0.0.0/0 -j B", "-A A -j B"),
    # quoting
    ("-A A -m comment --comment ns1/svc1:p80 -j B", '-A A -m comment --comment "ns1/svc1:p80" -j B'),
    ("-A A -m comment --comment a_b-9 -j B", "-A A -m comment --comment a_b-9 -j B"),
    # recent
    ("-A A -m recent --name S --set -j B", f"-A A -m recent --set --name S {_MASK} -j B"),
    (
        "-A A -m recent --name S --rcheck --seconds 10800 --reap -j B",
        f"-A A -m recent --rcheck --seconds 10800 --reap --name S {_MASK} -j B",
    ),
    # statistic: 31 bits
    (
        "-A A -m statistic --mode random --probability 0.5000000000 -j B",
        "-A A -m statistic --mode random --probability 0.50000000000 -j B",
    ),
    (
        "-A A -m statistic --mode random --probability 0.3333333333 -j B",
        "-A A -m statistic --mode random --probability 0.33333333349 -j B",
    ),
    # marks
    ("-A A -j MARK --or-mark 0x00004000", "-A A -j MARK --set-xmark 0x4000/0x4000"),
    ("-A A -j MARK --xor-mark 0x00004000", "-A A -j MARK --set-xmark 0x4000/0x0"),
    (
        "-A A -m mark ! --mark 0x00004000/0x00004000 -j RETURN",
        "-A A -m mark ! --mark 0x4000/0x4000 -j RETURN",
    ),
    # targets
    ("-A A -j REJECT", "-A A -j REJECT --reject-with icmp-port-unreachable"),
    ("-A A -j MASQUERADE --random-fully", "-A A -j MASQUERADE --random-fully"),
    (
        "-A A -m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j DROP",
        "-A A -m nfacct --nfacct-name  ct_state_invalid_dropped_pkts -j DROP",
    ),
    ('-A A -m comment --comment "no target here"', '-A A -m comment --comment "no target here"'),
    (
        "-A A -m conntrack ! --ctstate ESTABLISHED,DNAT,RELATED -j DROP",
        "-A A -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
    ),
]


@pytest.mark.parametrize(("fed", "printed"), CASES)
def test_saved_form(fed: str, printed: str) -> None:
    assert saved_form(fed) == printed


@pytest.mark.parametrize(("fed", "printed"), CASES)
def test_saved_form_of_a_saved_rule_is_itself(fed: str, printed: str) -> None:
    if "--mask" not in printed:
        assert saved_form(printed) == printed


@pytest.mark.parametrize(
    ("fed", "printed"),
    [
        ("-A A -d fd00::1 -j REJECT", "-A A -d fd00::1/128 -j REJECT --reject-with icmp6-port-unreachable"),
        (
            "-A A -m recent --name S --set -j B",
            "-A A -m recent --set --name S --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource -j B",
        ),
    ],
)
def test_saved_form_of_ipv6(fed: str, printed: str) -> None:
    assert saved_form(fed, "ipv6") == printed


def test_places_for_values_are_kept() -> None:
    shape = '-m comment --comment "{n} x" -m {proto} -p {proto} -d {ip} --dport {port} -j {to}'
    assert saved_form(shape) == '-d {ip}/32 -p {proto} -m comment --comment "{n} x" -m {proto} --dport {port} -j {to}'


def test_parse() -> None:
    text = (
        "# by\n*nat\n:PREROUTING ACCEPT [3:180]\n:K - [0:0]\n-A PREROUTING -j K\nCOMMIT\n*filter\n:K - [0:0]\nCOMMIT\n"
    )
    assert parse_save(text) == {"nat": {"PREROUTING": ["-A PREROUTING -j K"], "K": []}, "filter": {"K": []}}
