"""kindnet's masquerade chain as text: what is written, what is seen of it, what takes it away."""

from __future__ import annotations

from podlab.kube import masq
from podlab.kube.iptables_save import Tables, parse_save

SUBNETS = ("10.244.0.0/16",)
RETURN = (
    "-A KIND-MASQ-AGENT -d 10.244.0.0/16 -m comment "
    '--comment "kind-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN'
)
MASQUERADE = (
    "-A KIND-MASQ-AGENT -m comment "
    '--comment "kind-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)" -j MASQUERADE'
)
JUMP = (
    "-A POSTROUTING -m addrtype ! --dst-type LOCAL -m comment "
    '--comment "kind-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom '
    'KIND-MASQ-AGENT chain" -j KIND-MASQ-AGENT'
)
FOREIGN = '-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING'
DECLARED = ":KIND-MASQ-AGENT - [0:0]"


def there(*, jumps: int = 1, rules: tuple[str, ...] = (RETURN, MASQUERADE)) -> Tables:
    return {"nat": {"POSTROUTING": [FOREIGN, *[JUMP] * jumps], "KIND-MASQ-AGENT": list(rules)}}


def test_the_text_is_kindnets() -> None:
    assert masq.sync_text(SUBNETS, {}).splitlines() == ["*nat", DECLARED, RETURN, MASQUERADE, JUMP, "COMMIT"]


def test_every_pod_subnet_is_spared_in_turn() -> None:
    lines = masq.rules(("10.244.0.0/17", "10.244.128.0/17"))
    assert [line.split()[3] for line in lines[:2]] == ["10.244.0.0/17", "10.244.128.0/17"]
    assert lines[2] == MASQUERADE


def test_a_jump_that_is_there_is_not_made_again() -> None:
    assert JUMP not in masq.sync_text(SUBNETS, there())


def test_what_differs() -> None:
    assert masq.difference(SUBNETS, {}) == "chain missing"
    assert masq.difference(SUBNETS, there()) == ""
    assert masq.difference(SUBNETS, there(jumps=0)) == "jump missing"
    for rules in ((), (RETURN,), (MASQUERADE, RETURN), (RETURN, RETURN, MASQUERADE)):
        assert masq.difference(SUBNETS, there(rules=rules)) == "chain differs", rules


def test_removal_takes_every_jump_and_leaves_others_alone() -> None:
    lines = masq.removal_text(there(jumps=2)).splitlines()
    gone = f"-D {JUMP[3:]}"
    assert lines == ["*nat", DECLARED, gone, gone, "-X KIND-MASQ-AGENT", "COMMIT"]
    assert masq.removal_text({"nat": {"POSTROUTING": [FOREIGN]}}) == ""


def test_the_diff_shows_what_is_there_and_what_is_to_be() -> None:
    assert masq.wanted(SUBNETS) == {"nat": [JUMP, DECLARED, RETURN, MASQUERADE]} == masq.shown(there())
    assert masq.shown({"nat": {"POSTROUTING": [FOREIGN]}}) == {}


def test_what_is_written_is_what_is_seen() -> None:
    seen = parse_save(masq.sync_text(SUBNETS, {}))
    assert masq.difference(SUBNETS, seen) == ""
