"""`rules` without files: what it says of a running lab is what the lab's nodes have."""

from __future__ import annotations

import pytest

from podlab.kube.iptables_save import parse_save
from podlab.linux import iptables
from podlab.runtime import paths
from support.lab import Lab

pytestmark = pytest.mark.lab


def test_rules_are_those_of_the_nodes(lab: Lab) -> None:
    backend = iptables.detect()
    for node in lab.node_names():
        predicted = parse_save(lab.invoke("rules", "--node", node, "--save-form").stdout)
        have = parse_save(lab.in_node(node, backend.command("save")).stdout)
        assert len(predicted["nat"]) > 10
        assert {table: {chain: have[table][chain] for chain in own} for table, own in predicted.items()} == predicted


def test_the_text_loads_where_it_says(lab: Lab) -> None:
    """Loaded once more over what is there, it changes nothing."""
    backend = iptables.detect()
    node = lab.node_names()[0]
    text = lab.invoke("rules", "--node", node).stdout
    before = lab.in_node(node, backend.command("save")).stdout
    iptables.restore(backend, {paths.node_netns(node): text})
    after = lab.in_node(node, backend.command("save")).stdout
    assert parse_save(after) == parse_save(before)


def test_rules_of_a_node_that_is_not_there(lab: Lab) -> None:
    done = lab.invoke("rules", "--node", "nobody", check=False)
    assert done.returncode == 1
    assert done.stderr.strip().endswith(f"has no node of that name, only: {', '.join(lab.node_names())}")
