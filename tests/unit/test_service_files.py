"""podlab_service without kube-proxy: DNS records and the state file, which need no root."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

from support.services import endpoint, endpoint_slice, pod, service

Run = Callable[..., dict[str, Any]]
CLUSTER = {
    "name": "kind",
    "pod_subnet": "10.244.0.0/16",
    "kube_proxy_mode": "none",
    "nodes": [{"name": "node-a", "address": "172.18.0.2"}],
}
WEB = service(selector={"app": "web"})
ARGS = {"cluster": CLUSTER, "nodes": [], "services": [WEB], "pods": [pod("web-1", "10.244.1.2")]}


def test_files_are_made_kept_and_removed(run_module: Run, podlab_roots: pathlib.Path) -> None:
    home = podlab_roots / "run" / "kind"
    planned = run_module("podlab_service", ARGS, check=True, diff=True)
    assert not home.exists()
    first = run_module("podlab_service", ARGS, diff=True)
    assert (
        first["commands"]
        == planned["commands"]
        == [["tee", f"{home}/dns/records.json"], ["tee", f"{home}/services.json"]]
    )
    assert first["diff"] == planned["diff"]
    assert first["diff"][0]["after"] == {
        "records.json": [
            'dns-version.cluster.local. 30 IN TXT "1.1.0"',
            "cluster.local. 30 IN NS ns.dns.cluster.local.",
            "web.default.svc.cluster.local. 30 IN A 10.96.0.20",
            "20.0.96.10.in-addr.arpa. 30 IN PTR web.default.svc.cluster.local.",
        ]
    }
    stored = json.loads((home / "services.json").read_text())
    assert stored["services"] == [WEB]
    assert stored["endpointslices"][0]["endpoints"][0]["addresses"] == ["10.244.1.2"]
    modes = [
        os.stat(path).st_mode & 0o777
        for path in (home, home / "dns", home / "dns/records.json", home / "services.json")
    ]
    assert modes == [0o700, 0o755, 0o644, 0o600]
    assert not run_module("podlab_service", ARGS)["changed"]
    assert run_module("podlab_service", {**ARGS, "state": "absent"})["changed"]
    assert os.listdir(home) == ["dns"] and os.listdir(home / "dns") == []
    assert not run_module("podlab_service", {**ARGS, "state": "absent"})["changed"]


def test_a_file_cut_off_is_written_again(run_module: Run, podlab_roots: pathlib.Path) -> None:
    run_module("podlab_service", ARGS)
    (podlab_roots / "run/kind/services.json").write_text('{"services": [')
    (podlab_roots / "run/kind/dns/records.json").write_text("10.96")
    result = run_module("podlab_service", ARGS)
    assert [entry["name"] for entry in result["results"] if entry["changed"]] == ["dns", "state"]


def test_slices_by_hand_stand_beside_those_of_pods(run_module: Run, podlab_roots: pathlib.Path) -> None:
    bare = service("bare", "10.96.0.21")
    slices = [endpoint_slice([endpoint("192.0.2.1")], name="bare"), endpoint_slice([endpoint("192.0.2.2")])]
    result = run_module("podlab_service", {**ARGS, "services": [WEB, bare], "endpoint_slices": slices})
    assert [entry["endpoints"] for entry in result["services"]] == [
        ["10.244.1.2:80", "192.0.2.2:80"],
        ["192.0.2.1:80"],
    ]
    stored = json.loads((podlab_roots / "run/kind/services.json").read_text())
    assert stored["endpointslices"][1:] == slices


def test_pods_that_are_being_deleted_are_no_endpoints(run_module: Run, podlab_roots: pathlib.Path) -> None:
    """Nobody would take their rules away once they are gone."""
    going = pod("web-1", "10.244.1.2")
    going["pod"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    result = run_module("podlab_service", {**ARGS, "pods": [going]})
    assert result["services"][0]["endpoints"] == []
    stored = json.loads((podlab_roots / "run/kind/services.json").read_text())
    assert stored["endpointslices"][0]["endpoints"] == []
