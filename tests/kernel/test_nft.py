"""kube-proxy's nftables rules in the kernel: they load, are read back as wanted, and change piece by piece."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from podlab.errors import PodlabError
from podlab.kube import nft_sync
from podlab.kube.nft import ruleset
from podlab.kube.nft_list import parse
from podlab.kube.nft_model import FAMILIES, Ruleset
from podlab.kube.proxy_chains import Options, detector
from podlab.kube.proxy_model import ProxyNode
from podlab.linux import nft
from support.packets import Namespace
from support.service_labs import labs
from support.services import NODE, OPTIONS, draining, endpoint, endpoint_slice, service

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine]

CIDRS = OPTIONS._replace(service_cidrs=("10.96.0.0/16", "10.97.0.0/16"))
BALANCER = {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}]}}
HERE, THERE = endpoint("10.244.0.1", "node-a"), endpoint("10.244.1.1")


def web(**spec: Any) -> dict[str, Any]:
    """A Service with everything that has rules of its own."""
    given: dict[str, Any] = {
        "type": "LoadBalancer",
        "externalIPs": ["192.0.2.1"],
        "externalTrafficPolicy": "Local",
        "sessionAffinity": "ClientIP",
        "loadBalancerSourceRanges": ["203.0.113.0/25", "203.0.113.128/25", "172.18.0.0/16"],
        "status": BALANCER,
        **spec,
    }
    return service("web", "10.96.0.20", [{"port": 80, "nodePort": 30080}], **given)


OTHER = service("other", "10.96.0.30", [{"port": 80, "protocol": "UDP"}])
NOBODY = service("nobody", "10.96.0.40", [{"port": 7, "protocol": "SCTP"}])
OTHERS_SLICE = endpoint_slice([THERE], [{"name": "", "port": 80, "protocol": "UDP"}], "other")


class Table:
    """The table in a namespace of the test."""

    def __init__(self, where: Namespace, family: str = "ipv4") -> None:
        self.where, self.family = where, family

    def have(self) -> Ruleset | None:
        family, name = FAMILIES[self.family], "kube-proxy"
        if not nft.has_table(self.where.path, family, name):
            return None
        return parse(nft.listings(family, name, [self.where.path])[self.where.path], self.family)

    def sync(self, want: Ruleset) -> tuple[str, str]:
        """Make it as wanted, which must leave no difference; the two texts loaded."""
        have = self.have()
        difference = nft_sync.compare(want, have)
        texts = nft_sync.sync_text(want, have, difference), nft_sync.deletion_text(want, difference)
        for text, load in zip(texts, (nft.load, nft.delete)):
            if text:
                load({self.where.path: text})
        left = nft_sync.compare(want, self.have())
        assert left.why() == "", left
        return texts

    def handles(self) -> dict[tuple[str, str], list[int]]:
        """The kernel's numbers, which a thing keeps as long as it is not made anew: rules by chain, others by name."""
        found: dict[tuple[str, str], list[int]] = {}
        listed = json.loads(self.where.run(f"nft -j list table {FAMILIES[self.family]} kube-proxy"))
        for entry in listed["nftables"]:
            for kind, value in entry.items():
                if kind in ("rule", "chain", "set", "map"):
                    found.setdefault((kind, value.get("chain") or value["name"]), []).append(value["handle"])
        return found


# The fixture makes a namespace once for all examples, on purpose; a loaded machine is slow.
SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    made = Namespace()
    yield made
    made.close()


@pytest.fixture
def table(namespace: Namespace) -> Table:
    return Table(namespace)


def build(services: list[Any], slices: list[Any], options: Options = CIDRS) -> Ruleset:
    return ruleset(services, slices, NODE, options)


EVERYTHING = [web(), OTHER, NOBODY], [endpoint_slice([HERE, THERE]), OTHERS_SLICE]


def test_a_full_sync_loads_on_nothing_and_on_itself(table: Table) -> None:
    want = build(*EVERYTHING)
    assert table.have() is None
    table.sync(want)
    for _ in range(2):
        nft.load({table.where.path: want.text()})
        assert nft_sync.compare(want, table.have()).why() == ""


@pytest.mark.parametrize(
    "options",
    [
        CIDRS._replace(nodeport_addresses=("0.0.0.0/0",)),
        CIDRS._replace(masquerade_bit=31, masquerade_all=True),
        Options("ipv4", *detector("BridgeInterface", "br0")),
        Options("ipv4", *detector("InterfaceNamePrefix", "veth")),
        Options("ipv4"),
    ],
)
def test_options(table: Table, options: Options) -> None:
    table.sync(build(*EVERYTHING))
    table.sync(build(*EVERYTHING, options))
    table.sync(build(*EVERYTHING))


def test_ipv6(namespace: Namespace) -> None:
    table = Table(namespace, "ipv6")
    options = Options("ipv6", *detector("ClusterCIDR", "fd00:10::/56"), service_cidrs=("fd00:20::/112",))
    spec: dict[str, Any] = {
        "type": "LoadBalancer",
        "sessionAffinity": "ClientIP",
        "loadBalancerSourceRanges": ["2001:db8::/64", "fd00::/64", "2001:db8:0:1::/64"],
        "status": {"loadBalancer": {"ingress": [{"ip": "2001:db8:ffff::1"}]}},
    }
    one = service("web", "fd00:20::20", [{"port": 80, "nodePort": 30080}], **spec)
    none = service("none", "fd00:20::21")
    slices = [endpoint_slice([endpoint("fd00:10::1"), endpoint("fd00:10:0:1::1")], family="IPv6")]
    for addresses in ((), ("::/0",)):
        node = ProxyNode("node-a", ("172.18.0.2", "fd00::2"))
        table.sync(ruleset([one, none], slices, node, options._replace(nodeport_addresses=addresses)))
    assert not nft.has_table(namespace.path, "ip", "kube-proxy")


@pytest.mark.parametrize(
    "damage",
    [
        "flush table ip kube-proxy",
        "flush chain ip kube-proxy services",
        "flush chain ip kube-proxy SERVICE",
        "flush map ip kube-proxy service-ips",
        "delete element ip kube-proxy cluster-ips { 10.96.0.20 }",
        "delete element ip kube-proxy service-ips { 10.96.0.30 . udp . 80 }",
        "add element ip kube-proxy cluster-ips { 10.96.0.99 }",
        "add element ip kube-proxy no-endpoint-services { 10.96.0.99 . tcp . 1 : drop }",
        "delete element ip kube-proxy no-endpoint-services { 10.96.0.40 . sctp . 7 }\n"
        "add element ip kube-proxy no-endpoint-services { 10.96.0.40 . sctp . 7 : drop }",
        "delete element ip kube-proxy no-endpoint-services { 10.96.0.40 . sctp . 7 }\n"
        'add element ip kube-proxy no-endpoint-services { 10.96.0.40 . sctp . 7 comment "x" : goto reject-chain }',
        "add rule ip kube-proxy services counter",
        "insert rule ip kube-proxy SERVICE ip saddr 10.0.0.1 drop",
        "add chain ip kube-proxy mine",
        "add chain ip kube-proxy mine { type filter hook input priority 7 ; policy drop ; }",
        "add chain ip kube-proxy mine\nadd rule ip kube-proxy mine goto SERVICE\n"
        "add rule ip kube-proxy filter-input jump mine",
        "add chain ip kube-proxy service-AAAAAAAA-a/b/tcp/\n"
        "add rule ip kube-proxy service-AAAAAAAA-a/b/tcp/ goto SERVICE",
        "add set ip kube-proxy mine { type ipv4_addr ; }\nadd rule ip kube-proxy services ip saddr @mine drop",
        "add set ip kube-proxy affinity-AAAAAAAA-a/b/tcp/ { type ipv4_addr ; flags dynamic,timeout ; timeout 5s ; }",
        "add counter ip kube-proxy mine",
        "add table ip kube-proxy { flags dormant ; }",
        "add chain ip kube-proxy filter-forward { policy drop ; }",
        "delete table ip kube-proxy",
        "delete table ip kube-proxy\nadd table ip kube-proxy\n"
        "add chain ip kube-proxy services { type filter hook input priority 0 ; }",
        'delete table ip kube-proxy\nadd table ip kube-proxy { comment "rules for kube-proxy" ; }\n'
        "add map ip kube-proxy service-ips { type ipv4_addr : verdict ; }",
        "delete chain ip kube-proxy filter-input\nadd chain ip kube-proxy filter-input "
        "{ type filter hook input priority 5 ; }",
    ],
)
def test_every_damage_is_found_and_mended(table: Table, damage: str) -> None:
    want = build(*EVERYTHING)
    table.sync(want)
    listing = nft.listings("ip", "kube-proxy", [table.where.path])
    chain = next(name for name in want.chains if name.startswith("service-"))
    nft.load({table.where.path: damage.replace("SERVICE", chain) + "\n"})
    assert nft_sync.compare(want, table.have()).why()
    table.sync(want)
    after = nft.listings("ip", "kube-proxy", [table.where.path])
    assert sorted(" ".join(after.values()).split()) == sorted(" ".join(listing.values()).split())


def test_only_what_changed_is_touched(table: Table) -> None:
    table.sync(build(*EVERYTHING))
    before = table.handles()
    text, deletion = table.sync(build([web(), OTHER, NOBODY], [endpoint_slice([HERE]), OTHERS_SLICE]))
    after = table.handles()
    gone = {name for _, name in before.keys() - after.keys()}
    assert {name.split("-")[0] for name in gone} == {"endpoint", "affinity"} and len(gone) == 2
    assert not after.keys() - before.keys()
    changed = {name for kind, name in after if before[kind, name] != after[kind, name]}
    assert {name.partition("-")[0] for name in changed} == {"service"} and len(changed) == 1
    assert "other" not in text and "element" not in text
    assert deletion == f"delete chain ip kube-proxy {next(name for name in gone if name.startswith('endpoint'))}\n"


def test_only_changed_elements_are_sent(table: Table) -> None:
    table.sync(build(*EVERYTHING))
    text, deletion = table.sync(build([web(), OTHER, NOBODY], [endpoint_slice([HERE, THERE])]))
    lines = text.splitlines()
    assert [line.partition(" {")[0] for line in lines if "element" in line] == [
        "delete element ip kube-proxy service-ips",
        "add element ip kube-proxy no-endpoint-services",
    ]
    assert not any(line.startswith("add rule") for line in lines)
    assert len(deletion.splitlines()) == 2


def test_another_service_adds_its_own_chains_only(table: Table) -> None:
    table.sync(build(*EVERYTHING))
    before = table.handles()
    new = service("new", "10.96.0.50")
    slices = [*EVERYTHING[1], endpoint_slice([THERE], name="new")]
    text, deletion = table.sync(build([*EVERYTHING[0], new], slices))
    assert before.items() <= table.handles().items() and not deletion
    assert all("new" in line or "10.96.0.50" in line for line in text.splitlines())


def test_a_changed_affinity_time_makes_the_sets_anew(table: Table) -> None:
    table.sync(build(*EVERYTHING))
    config = {"clientIP": {"timeoutSeconds": 86399}}
    text, _ = table.sync(build([web(sessionAffinityConfig=config), OTHER, NOBODY], EVERYTHING[1]))
    assert text.count("timeout 86399s") == 2 == text.count("delete set")


def test_remembered_clients_are_no_difference_and_stay(table: Table) -> None:
    want = build(*EVERYTHING)
    table.sync(want)
    known = next(name for name in want.containers if name.startswith("affinity-"))
    table.where.run("nft -f -", f"add element ip kube-proxy {known} {{ 10.244.3.3 }}\n")
    assert table.sync(want) == ("", "")
    nft.load({table.where.path: want.text()})
    assert "10.244.3.3" in table.where.run(f"nft list set ip kube-proxy {known}")


def test_a_load_that_fails_changes_nothing_and_says_why(table: Table) -> None:
    table.sync(build(*EVERYTHING))
    before = table.handles()
    with pytest.raises(PodlabError, match=r"nft in network namespace .* failed with status 1: .*No such file"):
        nft.load({table.where.path: "flush chain ip kube-proxy services\nadd rule ip kube-proxy nowhere drop\n"})
    assert table.handles() == before


def test_a_chain_in_use_cannot_be_deleted_even_a_second_later(table: Table) -> None:
    table.sync(build(*EVERYTHING))
    with pytest.raises(PodlabError, match="busy"):
        nft.delete({table.where.path: "delete chain ip kube-proxy services\n"})


def test_what_was_deleted_the_first_time_does_not_fail_the_second(table: Table) -> None:
    other = Namespace()
    try:
        table.sync(build(*EVERYTHING))
        Table(other).sync(build(*EVERYTHING))
        nft.load({other.path: "add chain ip kube-proxy mine\n"})
        texts = {table.where.path: "delete chain ip kube-proxy services\n"}
        with pytest.raises(PodlabError) as caught:
            nft.delete({**texts, other.path: "delete chain ip kube-proxy mine\n"})
        assert "busy" in caught.value.message and other.path not in caught.value.message
        assert nft_sync.compare(build(*EVERYTHING), Table(other).have()).why() == ""
    finally:
        other.close()


def test_no_nft_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "find", lambda command: "")
    with pytest.raises(PodlabError, match="no nft on this machine. Install the package nftables"):
        nft.require()


_TARGET = re.compile(r"\b(?:goto|jump) ([^\s,]+)")


def _targets(rules: Ruleset) -> tuple[set[str], set[str]]:
    """Chains and containers that something leads to."""
    texts = [rule for chain in rules.chains.values() for rule in chain.rules]
    texts += [element.value for one in rules.containers.values() for element in (one.elements or {}).values()]
    return {name for text in texts for name in _TARGET.findall(text)}, set(re.findall(r"@(\S+)", " ".join(texts)))


def _distinct(services: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Addresses and ports of each Service its own: of two that clash one has chains that nothing leads to."""
    for number, one in enumerate(services):
        spec = one["spec"]
        spec["ports"] = [
            {**port, **({"nodePort": port["nodePort"] + number} if "nodePort" in port else {})}
            for port in spec["ports"]
        ]
        spec["externalIPs"] = [f"{address[:-1]}{number}{address[-1]}" for address in spec.get("externalIPs", ())]
        if "status" in one:
            one["status"] = {"loadBalancer": {"ingress": [{"ip": f"198.51.100.{number}"}]}}
    return services


def test_the_kernel_has_what_is_wanted_for_random_services(table: Table) -> None:
    @settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
    @given(labs())
    def prints(lab_objects: Any) -> None:
        want = build(_distinct(lab_objects[0]), lab_objects[1])
        table.sync(want)
        have = table.have()
        assert have is not None
        assert set(have.chains) == set(want.chains) and set(have.containers) == set(want.containers)
        chains, containers = _targets(have)
        unused = {name for name, chain in have.chains.items() if not chain.hook} - chains
        assert chains <= have.chains.keys() and unused <= {"mark-for-masquerade", "reject-chain"}
        assert containers == have.containers.keys()
        assert all(chain.rules for chain in have.chains.values())

    prints()


def test_clashing_services_load_too(table: Table) -> None:
    @settings(max_examples=10, deadline=None, suppress_health_check=SLOW)
    @given(labs())
    def loads(lab_objects: Any) -> None:
        table.sync(build(*lab_objects))

    loads()


def test_draining_endpoints_serve_while_no_other_is_ready(table: Table) -> None:
    _, deletion = table.sync(build([OTHER], [{**OTHERS_SLICE, "endpoints": [draining("10.244.1.1")]}]))
    have = table.have()
    assert not deletion and have is not None
    assert sum(name.startswith("endpoint-") for name in have.chains) == 1
