"""trace: what its words mean, and how the story reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from podlab.cli import output, trace_target, trace_text
from podlab.errors import PodlabError
from podlab.linux import nftlist
from podlab.linux.conntrack import Tuple
from podlab.runtime import packet_counters
from podlab.runtime.packet import Answer, Hit, Origin, Passage
from support.services import endpoint, endpoint_slice, service

UDP_AND_TCP = [
    {"name": "dns", "port": 53, "protocol": "UDP"},
    {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    {"name": "metrics", "port": 9153},
]
SERVICES = [
    service("web", "10.96.0.20", [{"name": "http", "port": 80, "targetPort": 8080}]),
    service("node-port", "10.96.0.21", [{"port": 80, "nodePort": 30080}], type="NodePort", externalIPs=["192.0.2.9"]),
    service("db", "None", [{"port": 5432}]),
    service("out", "", [], type="ExternalName", externalName="example.com"),
    service("kube-dns", "10.96.0.10", UDP_AND_TCP, namespace="kube-system"),
]
SLICES = [
    endpoint_slice(
        [endpoint("10.244.1.3"), endpoint("10.244.2.4", ready=False)], [{"name": "http", "port": 8080}], "web"
    ),
    endpoint_slice([endpoint("10.244.1.5"), endpoint("10.244.1.6")], [{"port": 5432}], "db"),
]
STATE: dict[str, Any] = {
    "services": {"services": SERVICES, "endpointslices": SLICES},
    "nodes": [{"name": "kind-worker", "address": "172.18.0.3"}],
}


@pytest.mark.parametrize(
    ("text", "service_name", "where"),
    [
        ("web", "default/web", "10.96.0.20:80/tcp"),
        ("web:80", "default/web", "10.96.0.20:80/tcp"),
        ("web:http", "default/web", "10.96.0.20:80/tcp"),
        ("svc/web", "default/web", "10.96.0.20:80/tcp"),
        ("default/web", "default/web", "10.96.0.20:80/tcp"),
        ("web.default", "default/web", "10.96.0.20:80/tcp"),
        ("web.default.svc.cluster.local:http", "default/web", "10.96.0.20:80/tcp"),
        ("kube-system/kube-dns:dns", "kube-system/kube-dns", "10.96.0.10:53/udp"),
        ("kube-dns.kube-system:53/tcp", "kube-system/kube-dns", "10.96.0.10:53/tcp"),
        ("kube-dns.kube-system:53/UDP", "kube-system/kube-dns", "10.96.0.10:53/udp"),
        ("10.96.0.20:80", "default/web", "10.96.0.20:80/tcp"),
        ("10.96.0.20:81", "", "10.96.0.20:81/tcp"),
        ("172.18.0.3:30080", "default/node-port", "172.18.0.3:30080/tcp"),
        ("192.0.2.9:80", "default/node-port", "192.0.2.9:80/tcp"),
        ("10.244.1.3:9/sctp", "", "10.244.1.3:9/sctp"),
    ],
)
def test_a_target_by_its_words(text: str, service_name: str, where: str) -> None:
    found = trace_target.find(STATE, text)
    assert (found.service, f"{found.address}:{found.port}/{found.protocol}") == (service_name, where)


def test_a_targets_endpoints() -> None:
    ends = trace_target.find(STATE, "web").endpoints
    assert [(end.address, end.port, end.ready) for end in ends] == [
        ("10.244.1.3", 8080, True),
        ("10.244.2.4", 8080, False),
    ]


def test_a_port_without_a_number_is_no_endpoint() -> None:
    slices = [{**item, "ports": [{"name": "http"}]} for item in SLICES]
    state = {**STATE, "services": {"services": SERVICES, "endpointslices": slices}}
    assert list(trace_target.find(state, "web").endpoints) == []


EVERY = "default/db, default/node-port, default/out, default/web, kube-system/kube-dns"
PORTS = "dns (53/UDP), dns-tcp (53/TCP), metrics (9153/TCP)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "nix",
            f'services "nix" not found in namespace default. The lab has: {EVERY}. Use SERVICE[:PORT] or ADDRESS:PORT',
        ),
        ("web:81", "web:81: Service default/web has no such port. It has: http (80/TCP)"),
        (
            "kube-system/kube-dns",
            f"kube-system/kube-dns: Service kube-system/kube-dns has several ports: {PORTS}. Say which: kube-dns:dns",
        ),
        (
            "kube-system/kube-dns:53",
            f"kube-system/kube-dns:53: Service kube-system/kube-dns has several ports: {PORTS}. "
            "Say which: kube-dns:dns",
        ),
        ("http://web", "http://web: is a URL. Write SERVICE[:PORT] or ADDRESS:PORT"),
        ("web:80/icmp", "web:80/icmp: the protocol must be one of tcp, udp, sctp, not 'icmp'"),
        ("10.96.0.20", "10.96.0.20: an address needs a port between 1 and 65535: 10.96.0.20:80"),
        ("10.96.0.20:0", "10.96.0.20:0: an address needs a port between 1 and 65535: 10.96.0.20:80"),
        (
            "db",
            "default/db is headless: it has no address and no rules; DNS answers with its endpoints' addresses: "
            "10.244.1.5, 10.244.1.6. Trace one of them: ADDRESS:PORT",
        ),
        (
            "out",
            "default/out is an ExternalName: DNS answers with the name example.com. It has no address, and no rule "
            "is ever hit",
        ),
    ],
)
def test_what_cannot_be_traced_is_explained(text: str, message: str) -> None:
    with pytest.raises(PodlabError) as caught:
        trace_target.find(STATE, text)
    assert caught.value.message == message


# ---- rules by their handles ----

LISTED = """\
table ip nat { # handle 2
	chain KUBE-MARK-MASQ { # handle 4
		counter packets 0 bytes 0 meta mark set mark or 0x4000 # handle 22
	}

	chain PREROUTING { # handle 9
		type nat hook prerouting priority dstnat; policy accept;
		counter packets 5 bytes 300 jump KUBE-SERVICES # handle 16
		counter packets 5 bytes 300 xt match "comment" return # handle 31
	}
}
table ip6 nat { # handle 3
	chain PREROUTING { # handle 1
		type nat hook prerouting priority dstnat; policy accept;
		return # handle 16
	}
}
table ip kube-proxy { # handle 4
	map service-ips { # handle 3
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { 10.96.0.20 . tcp . 80 comment "a # handle 7" : goto x }
	}

	chain services { # handle 5
		ip daddr . meta l4proto . th dport vmap @service-ips # handle 12
	}
}
"""


def test_rules_are_named_as_iptables_or_nft_prints_them() -> None:
    chains = nftlist.chains(LISTED)
    assert chains["nat", "PREROUTING"].hook == "prerouting"
    assert chains["kube-proxy", "services"].hook == ""
    saved = {"nat": {"PREROUTING": ["-A PREROUTING -j KUBE-SERVICES", "-A PREROUTING -j RETURN"], "KUBE-MARK-MASQ": []}}
    assert nftlist.name_rules(chains, saved) == {
        ("nat", "PREROUTING", 16): "-A PREROUTING -j KUBE-SERVICES",
        ("nat", "PREROUTING", 31): "-A PREROUTING -j RETURN",
        # iptables-save knows another number of rules here: nothing is guessed.
        ("nat", "KUBE-MARK-MASQ", 22): "counter packets 0 bytes 0 meta mark set mark or 0x4000",
        ("kube-proxy", "services", 12): "ip daddr . meta l4proto . th dport vmap @service-ips",
    }


# ---- rules by their counters ----

BEFORE = """\
*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
[3:60] -A PREROUTING -j KUBE-SERVICES
[1:60] -A KUBE-SERVICES -d 10.96.0.20/32 -j DNAT --to-destination 10.244.1.3:8080
[0:0] -A KUBE-SERVICES -j RETURN
COMMIT
*filter
:FORWARD ACCEPT [0:0]
[5:60] -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
[0:0] -A FORWARD -s 10.244.1.2/32 -j DROP
COMMIT
"""


def test_rules_of_the_legacy_backend_by_what_they_counted() -> None:
    after = BEFORE.replace("[3:", "[4:").replace("[1:", "[2:").replace("[5:", "[9:")
    counted = packet_counters.risen(packet_counters.parse(BEFORE), packet_counters.parse(after))
    assert [(each.hook, each.table, each.chain, each.verdict, each.target) for each in counted] == [
        ("prerouting", "nat", "PREROUTING", "jump", "KUBE-SERVICES"),
        ("prerouting", "nat", "KUBE-SERVICES", "accept", ""),
    ]
    assert list(packet_counters.risen(packet_counters.parse(BEFORE), packet_counters.parse(BEFORE))) == []


# ---- the story ----

POD = Origin("pod", "client", "kind-worker", "/x")
SENT = Tuple("tcp", "10.244.1.2", 40000, "10.96.0.20", 80)
TRANSLATED = Tuple("tcp", "10.244.1.2", 40000, "10.244.1.3", 8080)
ARGV = ("ip", "route", "get", "10.244.1.3")
JUMP = Hit("prerouting", "nat", "PREROUTING", "-A PREROUTING -j KUBE-SERVICES", "jump", "KUBE-SERVICES", 0)
DNAT = Hit("prerouting", "nat", "KUBE-SEP-X", "-A KUBE-SEP-X -j DNAT --to-destination 10.244.1.3:8080", "accept", "", 0)
POLICY = Hit("forward", "filter", "FORWARD", "", "accept", "", 0)
REJECT = Hit("forward", "filter", "KUBE-SERVICES", "-A KUBE-SERVICES -j REJECT", "drop", "", 0)

VERDICT = Hit("forward", "kube-proxy", "service-endpoints-check", "ip daddr vmap @no-endpoint-services", "drop", "", 0)

REACHED = """\
pod client (10.244.1.2, on kind-worker) to Service default/web port http, 10.96.0.20:80/TCP

kind-worker: 10.244.1.2:40000 -> 10.96.0.20:80 on veth0
  PREROUTING
    1  nat        jump      -A PREROUTING -j KUBE-SERVICES
    2  nat        accept    -A KUBE-SEP-X -j DNAT --to-destination 10.244.1.3:8080
  ROUTE 10.244.1.3 dev veth1
  FORWARD
    3  filter     accept    end of FORWARD, its policy

DNAT    10.96.0.20:80 -> 10.244.1.3:8080 (on node-b), one of 1 endpoint
SNAT    none: the server sees 10.244.1.2:40000
ANSWER  connected after 0.5 ms
"""
REFUSED = """\
pod client (10.244.1.2, on kind-worker) to Service default/web port http, 10.96.0.20:80/TCP

kind-worker: 10.244.1.2:40000 -> 10.96.0.20:80 on veth0
  FORWARD
    1  filter     drop      -A KUBE-SERVICES -j REJECT

ANSWER  refused after 0.5 ms: rejected on kind-worker in filter KUBE-SERVICES
"""


def told(hits: tuple[Hit, ...], leaves: Tuple | None, result: str) -> dict[str, Any]:
    passage = Passage("kind-worker", SENT, "veth0", hits, leaves, ARGV, "10.244.1.3 dev veth1", False)
    answer = Answer(result, 0.0005, "Connection refused" if result == "refused" else "")
    return trace_text.story(POD, trace_target.find(STATE, "web"), [passage], answer)


def test_the_story_of_a_packet_that_arrives() -> None:
    assert trace_text.text(told((JUMP, DNAT, POLICY), TRANSLATED, "connected")) == REACHED


def test_the_story_of_a_packet_that_a_rule_refuses() -> None:
    assert trace_text.text(told((REJECT,), None, "refused")) == REFUSED


def test_a_map_of_nft_whose_answer_is_a_verdict_shows_it() -> None:
    text = trace_text.text(told((VERDICT,), None, "no answer"))
    shown = "drop      service-endpoints-check: ip daddr vmap @no-endpoint-services => drop\n"
    assert f"  kube-proxy {shown}" in text


def test_a_refusal_that_the_client_is_not_told() -> None:
    last = trace_text.text(told((REJECT,), None, "no answer")).splitlines()[-1]
    assert last.startswith(
        "ANSWER  no answer after 0.5 ms: rejected on kind-worker in filter KUBE-SERVICES, but the ICMP"
    )


def test_the_story_of_a_packet_that_is_masqueraded() -> None:
    lines = trace_text.text(
        told((DNAT,), TRANSLATED._replace(source="172.18.0.3", source_port=7), "refused")
    ).splitlines()
    assert "SNAT    10.244.1.2:40000 -> 172.18.0.3:7: that is who the server sees" in lines
    assert lines[-1] == "ANSWER  refused after 0.5 ms: nobody listens there"


def test_the_story_as_data() -> None:
    found = json.loads(output.as_json(told((JUMP, DNAT), TRANSLATED, "connected")))
    assert found["dnat"] == {"from": "10.96.0.20:80", "to": "10.244.1.3:8080", "pod": None, "node": "node-b"}
    assert found["snat"] is None
    assert found["received"] == {"from": "10.244.1.2:40000", "to": "10.244.1.3:8080", "protocol": "TCP"}
    assert found["to"]["endpoints"] == ["10.244.1.3:8080"]
    assert found["answer"] == {"result": "connected", "seconds": 0.0005, "reason": ""}
    [node] = found["nodes"]
    assert node["hits"][0] == {
        "hook": "prerouting",
        "table": "nat",
        "chain": "PREROUTING",
        "rule": "-A PREROUTING -j KUBE-SERVICES",
        "verdict": "jump",
        "target": "KUBE-SERVICES",
        "mark": "0x0",
    }
    assert node["route"] == {"command": "ip route get 10.244.1.3", "result": "10.244.1.3 dev veth1"}
