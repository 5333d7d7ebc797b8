"""trace: one packet of a pod through the nodes of a whole lab."""

from __future__ import annotations

import json
import pathlib
import re
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from podlab.runtime import paths
from support import waiting
from support.lab import ROOT, Lab, environment, ip_of, name_of, node_of

from .conftest import MANIFESTS

pytestmark = pytest.mark.lab

SECONDS = 20


@pytest.fixture(scope="module")
def traced(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The lab with manifests/trace.yaml, for as long as these tests last."""
    file = tmp_path_factory.mktemp("trace") / "trace.yaml"
    text = (MANIFESTS / "trace.yaml").read_text(encoding="utf-8")
    file.write_text(text.replace("@NODE@", lab.node_names()[1]), encoding="utf-8")
    lab.invoke("apply", "-f", str(file))
    yield lab
    lab.invoke("delete", "-f", str(file))


def trace(lab: Lab, *words: str) -> dict[str, Any]:
    """`trace WORDS -o json`."""
    story: dict[str, Any] = json.loads(lab.invoke("trace", *words, "-o", "json").stdout)
    return story


def rules(story: dict[str, Any], node: int = 0, hook: str = "") -> list[str]:
    return [hit["rule"] for hit in story["nodes"][node]["hits"] if hit["rule"] and hook in ("", hit["hook"])]


def saved(node: str) -> str:
    argv = ["ip", "netns", "exec", paths.node_netns(node), "iptables-save"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def tables(lab: Lab) -> set[str]:
    """Names of every nftables table of every node."""
    argv = [["ip", "netns", "exec", paths.node_netns(node), "nft", "list", "tables"] for node in lab.node_names()]
    return {line for each in argv for line in subprocess.run(each, capture_output=True, text=True).stdout.splitlines()}


def test_every_rule_it_hits_is_one_of_the_nodes(traced: Lab) -> None:
    """As iptables-save prints it, on each node of the way; the choice is one of the endpoints."""
    before = tables(traced)
    story = trace(traced, "core-k8s", "web")
    endpoints = {f"{ip_of(pod)}:80": pod for pod in traced.pods("web-")}
    assert set(story["to"]["endpoints"]) == set(endpoints)
    chosen = endpoints[story["dnat"]["to"]]
    assert (story["dnat"]["pod"], story["dnat"]["node"]) == (name_of(chosen), node_of(chosen))
    assert story["answer"]["result"] == "connected"
    way = [node_of(traced.pod("core-k8s"))]
    way += [node_of(chosen)] if node_of(chosen) not in way else []
    assert [node["node"] for node in story["nodes"]] == way
    for number, node in enumerate(way):
        there = saved(node).splitlines()
        assert [rule for rule in rules(story, number) if rule not in there] == []
        assert len(rules(story, number)) >= 3
    assert rules(story, hook="prerouting")[-1].endswith(f"-j DNAT --to-destination {ip_of(chosen)}:80")
    assert tables(traced) == before


def test_between_nodes_the_source_is_kept(traced: Lab) -> None:
    client = traced.pod("core-k8s")
    story = trace(traced, "core-k8s", "kube-system/kube-dns:dns-tcp")
    first, second = story["nodes"]
    assert (first["node"], second["node"]) == (node_of(client), node_of(traced.pod("kube-dns-", "kube-system")))
    assert story["snat"] is None
    assert story["received"]["from"] == first["arrives"]["from"] == second["arrives"]["from"]
    assert first["leaves"] == second["arrives"]
    assert " via " in first["route"]["result"] and " via " not in second["route"]["result"]


def test_a_pod_that_reaches_itself_is_masqueraded(traced: Lab) -> None:
    story = trace(traced, "alone", "alone", "-n", "trace")
    pod = traced.pod("alone", "trace")
    assert story["dnat"]["to"] == f"{ip_of(pod)}:80"
    gateway = story["snat"]["to"].rpartition(":")[0]
    assert gateway == ip_of(pod).rpartition(".")[0] + ".1"
    assert any("-j KUBE-MARK-MASQ" in rule for rule in rules(story, hook="prerouting"))
    assert any("-j MASQUERADE" in rule for rule in rules(story, hook="postrouting"))


def test_a_service_without_endpoints_is_refused_by_the_rule_that_is_shown(traced: Lab) -> None:
    done = traced.invoke("trace", "core-k8s", "trace/nobody")
    story = trace(traced, "core-k8s", "trace/nobody")
    assert story["answer"]["result"] == "refused"
    assert story["answer"]["reason"] == f"rejected on {node_of(traced.pod('core-k8s'))} in filter KUBE-SERVICES"
    assert story["received"] is None and story["dnat"] is None
    assert '"trace/nobody has no endpoints"' in rules(story)[-1] and "-j REJECT" in rules(story)[-1]
    assert re.search(r"drop +-A KUBE-SERVICES .*trace/nobody has no endpoints", done.stdout)
    assert done.stdout.splitlines()[-1].startswith("ANSWER  refused after ")


def test_a_node_port_from_another_node(traced: Lab) -> None:
    """Pod, its node, the port's node, and back to where the endpoint is: each told, in this order."""
    control, _, other = traced.get_json("nodes")
    address = next(a["address"] for a in other["status"]["addresses"] if a["type"] == "InternalIP")
    story = trace(traced, "alone", f"{address}:30880", "-n", "trace")
    home = node_of(traced.pod("alone", "trace"))
    assert story["to"]["service"] == "trace/alone"
    assert [node["node"] for node in story["nodes"]] == [home, other["metadata"]["name"], home]
    assert any("-A KUBE-NODEPORTS" in rule for rule in rules(story, 1))
    assert story["received"]["from"].startswith(f"{address}:")
    assert story["answer"]["result"] == "connected"
    assert control["metadata"]["name"] not in {node["node"] for node in story["nodes"]}


def test_one_datagram_to_dns(traced: Lab) -> None:
    story = trace(traced, "core-k8s", "kube-dns.kube-system:53/udp")
    assert (story["to"]["protocol"], story["answer"]["result"]) == ("UDP", "answered")
    assert any("--dport 53" in rule and "-p udp" in rule for rule in rules(story))


def test_a_packet_of_a_node_goes_out_by_output(traced: Lab) -> None:
    node = traced.node_names()[0]
    story = trace(traced, node, "web")
    assert story["nodes"][0]["interface"] is None
    assert story["nodes"][0]["hits"][0]["hook"] == "output"
    assert story["snat"] is not None
    assert story["answer"]["result"] == "connected"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nobody", "web"), 'pods "nobody" not found'),
        (("core-k8s", "nix"), 'services "nix" not found in namespace default. The lab has: '),
        (("core-k8s", "web:99"), "web:99: Service default/web has no such port. It has: http (80/TCP)"),
        (("core-k8s", "kube-system/kube-dns"), "has several ports: dns (53/UDP), dns-tcp (53/TCP)"),
        (("core-k8s", "trace/headless"), "trace/headless is headless: it has no address and no rules"),
        (("core-k8s", "trace/outside"), "trace/outside is an ExternalName: DNS answers with the name example.com"),
        (("core-k8s", "web", "-o", "xml"), "-o xml: unable to match a printer. Use json or yaml"),
    ],
)
def test_what_cannot_be_traced(traced: Lab, words: tuple[str, ...], message: str) -> None:
    done = traced.invoke("trace", *words, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_killed_in_the_middle_it_leaves_nothing(traced: Lab, tmp_path: pathlib.Path) -> None:
    """While it waits for an answer that will not come."""
    before = tables(traced)
    argv = ["invoke", "trace", "core-k8s", f"{ip_of(traced.pod('alone', 'trace'))}:7/udp"]
    netns = paths.node_netns(node_of(traced.pod("core-k8s")))
    drop = [
        "ip",
        "netns",
        "exec",
        netns,
        "iptables",
        "-w",
        "-t",
        "raw",
        "-I",
        "PREROUTING",
        "-p",
        "udp",
        "--dport",
        "7",
    ]
    subprocess.run([*drop, "-j", "DROP"], check=True)
    try:
        with subprocess.Popen(argv, env=environment(traced.name), cwd=ROOT, stdout=subprocess.PIPE) as process:
            while not any("podlab-trace" in table for table in tables(traced)):
                assert process.poll() is None, "it ended before it was seen"
            process.send_signal(signal.SIGKILL)
            process.wait(SECONDS)
    finally:
        drop[drop.index("-I")] = "-D"
        subprocess.run([*drop, "-j", "DROP"], check=True)
        flush = ["ip", "netns", "exec", netns, "nft", "delete", "table", "ip", "raw"]
        subprocess.run(flush, check=True, stderr=subprocess.DEVNULL)
    # The kernel takes the table away with the last descriptor of whatever process had it.
    waiting.until(lambda: tables(traced) == before, "its table stays")
