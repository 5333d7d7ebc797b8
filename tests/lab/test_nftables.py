"""A lab with kubeProxyMode: nftables: Services answer, `up` again has nothing to do, and the mode can be changed."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from support import snapshot
from support.machine import machine
from support.small_lab import SERVER, SmallLab, pod, yaml_of

pytestmark = [pytest.mark.lab, pytest.mark.own_machine]

NAME = "tables"
MODE = "networking: {{kubeProxyMode: {}}}\n"
# A pod that only asks. It asks nothing of itself: a pod that does is sent redirects, and the node then keeps back what
# else it would tell it by ICMP. Services that nobody serves, and that nobody on the client's node serves.
UNSERVED = """
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {clusterIP: 10.96.0.81, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {clusterIP: 10.96.0.82, internalTrafficPolicy: Local, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: elsewhere, labels: {kubernetes.io/service-name: elsewhere}}
addressType: IPv4
endpoints: [{addresses: [10.244.9.9]}]
ports: [{port: 80}]
---
"""
MANIFESTS = SERVER + UNSERVED + yaml_of([pod("client")])


@pytest.fixture
def lab(tmp_path: pathlib.Path) -> Iterator[SmallLab]:
    with machine() as host:
        yield SmallLab(host, tmp_path, NAME, manifests=MANIFESTS, config=MODE.format("nftables"))


def in_node(lab: SmallLab, *argv: str) -> str:
    done = lab.machine.run("ip", "netns", "exec", f"podlab-{NAME}-control-plane", *argv)
    assert done.returncode == 0, done.text
    return done.stdout


def assert_nothing_to_do(lab: SmallLab) -> None:
    text = lab.up()
    assert re.fullmatch(r"nothing to do \(\d+\.\d s\)", text.splitlines()[-1]), text


def rules(story: dict[str, Any]) -> list[str]:
    """The rules that a traced packet hit on the lab's one node."""
    (node,) = story["nodes"]
    return [hit["rule"] for hit in node["hits"] if hit["rule"]]


def assert_traced(lab: SmallLab) -> None:
    """`trace` in this mode: the rules as nft lists them, the choice, both translations, what is refused and dropped."""
    node = f"{NAME}-control-plane"
    told = {}
    for words in (
        ("client", "nobody"),
        ("client", "elsewhere"),
        ("client", "server"),
        ("server", "server"),
        (node, "server"),
    ):
        told[words] = json.loads(lab.invoke("trace", *words, "-o", "json").stdout)
    text = lab.invoke("trace", "client", "nobody").stdout
    # kindnet's own few rules are in iptables in every mode.
    lists = (("nft", "-s", "list", "table", "ip", "kube-proxy"), ("iptables-save", "-t", "nat"))
    listed = {line.strip() for argv in lists for line in in_node(lab, *argv).splitlines()}
    for words, story in told.items():
        assert [rule for rule in rules(story) if rule not in listed] == [], words
        assert any(hit["table"] == "kube-proxy" for hit in story["nodes"][0]["hits"])

    story = told["client", "server"]
    (address,) = (end.removesuffix(":80") for end in story["to"]["endpoints"])
    hits = story["nodes"][0]["hits"]
    assert story["answer"]["result"] == "connected"
    assert story["dnat"] == {"from": "10.96.0.80:80", "to": f"{address}:80", "pod": "server", "node": node}
    assert story["snat"] is None and story["received"]["from"] == story["nodes"][0]["arrives"]["from"]
    assert f"meta l4proto tcp dnat to {address}:80" in rules(story)
    assert [hit["target"].partition("-")[0] for hit in hits if hit["verdict"] == "goto"] == ["service", "endpoint"]
    assert story["nodes"][0]["route"]["result"].startswith(f"{address} from ")
    itself = told["server", "server"]
    gateway = itself["snat"]["to"].rpartition(":")[0]
    assert (itself["snat"]["from"].rpartition(":")[0], gateway) == (address, address.rpartition(".")[0] + ".1")
    assert itself["received"]["from"] == itself["snat"]["to"] and rules(itself)[-1] == "masquerade fully-random"
    local = told[node, "server"]
    assert local["nodes"][0]["hits"][0]["hook"] == "output" and local["snat"] is not None

    refused, dropped = told["client", "nobody"], told["client", "elsewhere"]
    for one in (refused, dropped):
        assert (one["dnat"], one["snat"], one["received"]) == (None, None, None)
    assert refused["answer"]["result"] == "refused"
    assert refused["answer"]["reason"] == f"rejected on {node} in kube-proxy reject-chain"
    assert rules(refused)[-1] == "reject"
    assert dropped["answer"]["result"] == "no answer"
    assert dropped["answer"]["reason"] == f"dropped on {node} in kube-proxy service-endpoints-check"
    look_up = "service-endpoints-check: ip daddr . meta l4proto . th dport vmap @no-endpoint-services => reject-chain"
    assert f"  kube-proxy goto      {look_up}\n" in text
    assert re.fullmatch(rf"ANSWER  refused after .* ms: {refused['answer']['reason']}", text.splitlines()[-1])


def test_services_answer_in_nftables_mode_and_the_mode_can_be_changed(lab: SmallLab) -> None:
    before = lab.machine.snapshot()
    lab.up()
    lab.assert_works()
    assert_traced(lab)
    table = in_node(lab, "nft", "list", "table", "ip", "kube-proxy")
    assert re.search(r"10\.96\.0\.80 \. tcp \. 80 : goto service-\w{8}-default/server/tcp/", table)
    assert "ip daddr 10.96.0.0/16 drop" in table
    assert "KUBE-" not in in_node(lab, "iptables-save")
    assert_nothing_to_do(lab)

    lab.config.write_text(lab.config.read_text().replace("nftables", "iptables"))
    lab.up()
    lab.assert_works()
    assert "kube-proxy" not in in_node(lab, "nft", "list", "tables")
    assert "-A KUBE-SERVICES" in in_node(lab, "iptables-save")
    lab.config.write_text(lab.config.read_text().replace("iptables", "nftables"))
    lab.up()
    lab.assert_works()
    assert "KUBE-" not in in_node(lab, "iptables-save")
    assert_nothing_to_do(lab)

    lab.down()
    snapshot.assert_same(before, lab.machine.snapshot())


def test_ipvs_is_refused_with_the_reason_before_anything_is_made(lab: SmallLab) -> None:
    lab.config.write_text(lab.config.read_text().replace("nftables", "ipvs"))
    before = lab.machine.snapshot()
    done = lab.invoke("up", "--config", str(lab.config))
    assert done.returncode != 0
    assert "networking.kubeProxyMode: podlab has no ipvs mode: it needs the kernel's ip_vs" in done.stderr
    assert "Use iptables or nftables" in done.stderr
    snapshot.assert_same(before, lab.machine.snapshot())
