"""A lab with kubeProxyMode: nftables: Services answer, `up` again has nothing to do, and the mode can be changed."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator

import pytest

from support import snapshot
from support.machine import machine
from support.small_lab import SmallLab

pytestmark = [pytest.mark.lab, pytest.mark.own_machine]

NAME = "tables"
MODE = "networking: {{kubeProxyMode: {}}}\n"


@pytest.fixture
def lab(tmp_path: pathlib.Path) -> Iterator[SmallLab]:
    with machine() as host:
        yield SmallLab(host, tmp_path, NAME, config=MODE.format("nftables"))


def in_node(lab: SmallLab, *argv: str) -> str:
    done = lab.machine.run("ip", "netns", "exec", f"podlab-{NAME}-control-plane", *argv)
    assert done.returncode == 0, done.text
    return done.stdout


def assert_nothing_to_do(lab: SmallLab) -> None:
    text = lab.up()
    assert re.fullmatch(r"nothing to do \(\d+\.\d s\)", text.splitlines()[-1]), text


def test_services_answer_in_nftables_mode_and_the_mode_can_be_changed(lab: SmallLab) -> None:
    before = lab.machine.snapshot()
    lab.up()
    lab.assert_works()
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
