"""The records that podlab_service writes, as the lab's DNS server answers them while they change under it."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from podlab.kube import dns
from support.dnsserver import SVC, ZONE, Server, serving
from support.services import endpoint, endpoint_slice, pod, service

pytestmark = pytest.mark.kernel

CLUSTER = {
    "name": "kind",
    "pod_subnet": "10.244.0.0/16",
    "service_subnet": "10.96.0.0/16",
    "kube_proxy_mode": "none",
    "nodes": [{"name": "node-a", "address": "172.18.0.2"}],
}
HTTP = [{"name": "http", "port": 80}]
BIG = endpoint_slice(
    [endpoint(f"10.244.{number // 200 + 1}.{number % 200 + 1}") for number in range(300)],
    [{"name": "http", "port": 80, "protocol": "TCP"}],
    name="big",
)

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[Server]:
    (tmp_path / "dns").mkdir()
    with serving(tmp_path / "dns" / dns.FILE) as made:
        yield made


@pytest.fixture
def program(run_module: Run, podlab_roots: pathlib.Path, tmp_path: pathlib.Path) -> Callable[..., dict[str, Any]]:
    def call(services: list[Any], pods: list[Any], slices: Sequence[Any] = ()) -> dict[str, Any]:
        args = {"cluster": CLUSTER, "nodes": [], "services": services, "pods": pods, "dns_dir": str(tmp_path / "dns")}
        result = run_module("podlab_service", {**args, "endpoint_slices": list(slices)}, diff=True)
        assert not result.get("failed"), result
        return result

    return call


def test_records_follow_the_services_with_the_next_question(
    server: Server, program: Callable[..., dict[str, Any]], tmp_path: pathlib.Path
) -> None:
    assert server.ask(f"web.{SVC}") == ("SERVFAIL", [])  # before anything is known at all
    web = service("web", "10.96.0.20", selector={"app": "web"})
    db = service("db", "None", [], selector={"app": "web"})
    peers = service("peers", "None", [], selector={"app": "web"})
    pods = [pod("db-0", "10.244.1.2", hostname="db-0", subdomain="db"), pod("db-1", "10.244.1.3", namespace="default")]
    made = program([web, db, peers], [*pods, pod("alone", "10.244.1.9", namespace="alone")])
    (after,) = [entry["after"] for entry in made["diff"] if dns.FILE in str(entry["after"])]
    assert f"web.{SVC}. 30 IN A 10.96.0.20" in str(after)
    assert server.ask(f"web.{SVC}") == ("NOERROR", ["10.96.0.20"])
    assert server.ask(f"db.{SVC}") == ("NOERROR", ["10.244.1.2", "10.244.1.3"])
    assert server.ask(f"db-0.db.{SVC}") == ("NOERROR", ["10.244.1.2"])
    assert server.ask(f"10-244-1-3.peers.{SVC}") == ("NOERROR", ["10.244.1.3"])
    assert server.ask(f"1-2-3-4.alone.pod.{ZONE}") == ("NOERROR", ["1.2.3.4"])
    assert server.ask("-x", "10.96.0.20") == ("NOERROR", [f"web.{SVC}."])
    assert server.ask("-x", "10.244.1.2") == ("NOERROR", [f"10-244-1-2.peers.{SVC}.", f"db-0.db.{SVC}."])
    assert server.ask("-x", "10.244.1.77") == ("NXDOMAIN", [])

    # A pod that is not ready any more, a Service with another address, one that is gone.
    program([service("web", "10.96.0.21"), peers], [pods[0], pod("db-1", "10.244.1.3", ready=False)])
    assert server.ask(f"web.{SVC}") == ("NOERROR", ["10.96.0.21"])
    assert server.ask("-x", "10.96.0.20") == ("NXDOMAIN", [])
    assert server.ask(f"db.{SVC}") == ("NXDOMAIN", [])
    assert server.ask(f"peers.{SVC}") == ("NOERROR", ["10.244.1.2"])
    assert server.ask("-x", "10.244.1.2") == ("NOERROR", [f"10-244-1-2.peers.{SVC}."])
    assert server.ask(f"1-2-3-4.alone.pod.{ZONE}") == ("NXDOMAIN", [])
    program([peers], [pod("db-0", "10.244.1.2", ready=False)])
    assert server.ask(f"peers.{SVC}") == ("NXDOMAIN", [])

    program([], [])
    assert server.ask(f"web.{SVC}") == ("NXDOMAIN", [])
    assert program([], [])["changed"] is False
    assert [path.name for path in (tmp_path / "dns").iterdir() if path.suffix == ".json"] == [dns.FILE]


@pytest.mark.parametrize("protocol", ["+notcp", "+tcp"])
def test_every_kind_of_record_over_udp_and_tcp(
    server: Server, program: Callable[..., dict[str, Any]], protocol: str
) -> None:
    services = [
        service("web", "10.96.0.20", HTTP),
        service("plain", "10.96.0.21"),
        service("db", "None", HTTP),
        service("out", "", type="ExternalName", externalName="example.org"),
        service("kube-dns", "10.96.0.10", namespace="kube-system"),
    ]
    named = [
        {**endpoint("10.244.1.2"), "hostname": "db-0"},
        endpoint("10.244.1.3"),
        endpoint("10.244.1.4", ready=False),
    ]
    slices = [endpoint_slice(named, [{"name": "http", "port": 8080, "protocol": "TCP"}], name="db")]
    program(services, [], slices)

    def ask(*question: str) -> tuple[str, list[str]]:
        return server.ask(protocol, *question)

    assert ask(f"dns-version.{ZONE}", "TXT") == ("NOERROR", ['"1.1.0"'])
    assert ask(f"web.{SVC}") == ("NOERROR", ["10.96.0.20"])
    assert ask(f"WEB.{SVC.upper()}") == ("NOERROR", ["10.96.0.20"])
    assert ask(f"web.{SVC}", "AAAA") == ("NOERROR", [])
    assert ask(f"_http._tcp.web.{SVC}", "SRV") == ("NOERROR", [f"0 100 80 web.{SVC}."])
    assert ask(f"_tcp.plain.{SVC}", "SRV") == ("NXDOMAIN", [])  # a port without a name has none
    assert ask("-x", "10.96.0.20") == ("NOERROR", [f"web.{SVC}."])
    assert ask(f"db.{SVC}") == ("NOERROR", ["10.244.1.2", "10.244.1.3"])
    assert ask(f"db-0.db.{SVC}") == ("NOERROR", ["10.244.1.2"])
    assert ask(f"_http._tcp.db.{SVC}", "SRV") == (
        "NOERROR",
        [f"0 50 8080 10-244-1-3.db.{SVC}.", f"0 50 8080 db-0.db.{SVC}."],
    )
    assert ask("-x", "10.244.1.3") == ("NOERROR", [f"10-244-1-3.db.{SVC}."])
    assert ask(f"out.{SVC}") == ("NOERROR", ["example.org."])
    assert ask(f"10-1-2-3.default.pod.{ZONE}") == ("NOERROR", ["10.1.2.3"])
    assert ask(SVC) == ("NOERROR", [])
    assert ask(ZONE, "NS") == ("NOERROR", [f"ns.dns.{ZONE}."])
    assert ask(f"nothing.{SVC}") == ("NXDOMAIN", [])
    assert ask("example.org") == ("REFUSED", [])
    assert ask("version.bind", "TXT", "CH") == ("REFUSED", [])
    for flags in ("+noedns", "+bufsize=4096", "+cookie", "+dnssec", "+norecurse"):
        assert ask(flags, f"web.{SVC}") == ("NOERROR", ["10.96.0.20"]), flags
    assert "status: BADVERS" in server.dig(protocol, "+edns=1", "+noednsnegotiation", f"web.{SVC}")
    assert "status: NOTIMP" in server.dig(protocol, "+opcode=status", f"web.{SVC}")
    assert "Transfer failed" in server.dig("axfr", ZONE)


def test_negative_answers_say_how_long_they_hold(server: Server, program: Callable[..., dict[str, Any]]) -> None:
    program([service("web", "10.96.0.20")], [])
    for question in ((f"nothing.{SVC}",), (f"web.{SVC}", "AAAA")):
        text = server.dig(*question)
        soa = text.partition(";; AUTHORITY SECTION:\n")[2].partition("\n")[0].split()
        assert soa[:6] == [f"{ZONE}.", "30", "IN", "SOA", f"ns.dns.{ZONE}.", f"hostmaster.{ZONE}."]
        assert soa[7:] == ["7200", "1800", "86400", "30"]
        assert "flags: qr aa rd" in text


def test_answers_have_the_questions_spelling_and_thirty_seconds(
    server: Server, program: Callable[..., dict[str, Any]]
) -> None:
    program([service("web", "10.96.0.20")], [])
    line = f"wEb.{SVC}. 30 IN A 10.96.0.20".split()
    assert line in [text.split() for text in server.dig(f"wEb.{SVC}").splitlines()]


def test_big_answers_are_cut_over_udp_and_whole_over_tcp(
    server: Server, program: Callable[..., dict[str, Any]]
) -> None:
    program([service("big", "None", HTTP)], [], [BIG])
    everyone = sorted(entry["addresses"][0] for entry in BIG["endpoints"])
    # dig asks again over TCP by itself.
    text = server.dig(f"big.{SVC}")
    assert "(TCP)" in text
    assert server.ask(f"big.{SVC}") == server.ask("+tcp", f"big.{SVC}") == ("NOERROR", everyone)
    for flags, size in (("+noedns", 512), ("+bufsize=512", 512), ("+bufsize=1232", 1232), ("+bufsize=4096", 4096)):
        cut = server.dig("+ignore", flags, f"big.{SVC}")
        assert "flags: qr aa tc rd" in cut
        received = int(cut.split("MSG SIZE  rcvd: ")[1])
        # As many as fit: for clients that never ask over TCP.
        assert size - 2 * 16 - 11 < received <= size, flags
    _, pairs = server.ask("+tcp", f"_http._tcp.big.{SVC}", "SRV")
    assert len(pairs) == 300


def test_search_path_leads_to_short_names(
    server: Server, program: Callable[..., dict[str, Any]], tmp_path: pathlib.Path
) -> None:
    program([service("web", "10.96.0.20"), service("kube-dns", "10.96.0.10", namespace="kube-system")], [])
    file = tmp_path / "resolv.conf"
    file.write_text(f"search {SVC} svc.{ZONE} {ZONE}\nnameserver 127.0.0.1\noptions ndots:5\n")
    script = tmp_path / "ask"
    script.write_text(f'mount --bind {file} /etc/resolv.conf\nexec dig +search +short +tries=1 "$@"\n')
    for protocol in ("+notcp", "+tcp"):
        for name in ("web", "web.default", "web.default.svc"):
            assert server.namespace.run(f"unshare -m sh -e {script} {protocol} {name}") == "10.96.0.20\n"
        assert server.namespace.run(f"unshare -m sh -e {script} {protocol} kube-dns.kube-system") == "10.96.0.10\n"
