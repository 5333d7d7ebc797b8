"""The lessons about Services and the node network: every claim holds, a false one does not, nothing is left."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

from support.machine import BIN, ROOT, Machine

pytestmark = pytest.mark.own_machine

FILES = ROOT / "playbooks" / "demo" / "files" / "services"
# Lesson -> how many claims it makes: one that drops a claim should be noticed. And what it shows that was really run.
LESSONS = {
    "service": (17, ("chi-square ", "-c 3000 ", "Connection refused", "TIME_WAIT src=")),
    "node-port": (12, (" sees ", "Connection refused", "dev eth0 src 10.244.")),
    "affinity": (8, ("     20 web-", "/proc/net/xt_recent/KUBE-SEP-", "later ")),
    "local-policy": (10, (" sees ", "has no local endpoints", "KUBE-SVL-")),
    "dns": (19, ("options ndots:5", "AAAA? web.default.svc.cluster.local.cluster.local.", "CapEff:", "kill -9")),
    "service-trace": (13, ("icmp-port-unreachable", "KUBE-MARK-MASQ", "  worker# iptables -t nat -Z")),
    "pod-drop": (10, ("100% packet loss", "  worker# iptables -D INPUT")),
    "routes": (12, ("route add", "100% packet loss")),
}


@pytest.mark.parametrize("name", LESSONS)
def test_every_claim_holds(there: Machine, name: str) -> None:
    claims, shown = LESSONS[name]
    done = there.run(str(BIN / "invoke"), f"demo-{name}", environment={"KIND_CLUSTER_NAME": "another"}, timeout=120)
    assert done.returncode == 0, done.text
    lines = done.stdout.splitlines()
    assert re.fullmatch(rf"{claims} claims, all hold \([0-9.]+ s\)", lines[-1]), done.stdout
    assert "✗" not in done.stdout
    assert [line for line in lines if len(line) > 80] == []
    for words in shown:
        assert words in done.stdout
    assert not there.path(f"/run/podlab/demo-{name}").exists()


@pytest.mark.parametrize(
    ("name", "old", "new", "claim"),
    [
        ("service-trace", "replicas: 3", "replicas: 1", "The client and three pods of web run"),
        ("service-trace", "app: nobody", "app: web", "The last rule that it hit is the REJECT"),
        ("service", "app: nobody", "app: client", "The rule says why."),
        ("service", "app: client\n  ports", "app: web\n  ports", "It sees an address of the node."),
        ("node-port", "nodePort: 30080", "nodePort: 30090", "It is port 30080."),
        ("affinity", "timeoutSeconds: 2", "timeoutSeconds: 20", "A rule for each endpoint looks into its list"),
        ("local-policy", "Policy: Local", "Policy: Cluster", "Port 30080 is the one, 30081 the other"),
        ("dns", "  clusterIP: None\n", "", "web is its ClusterIP, web-headless is three addresses."),
        ("pod-drop", "replicas: 3", "replicas: 2", "The client and three pods of web run"),
    ],
)
def test_a_broken_subject_fails_its_claim(
    there: Machine, tmp_path: pathlib.Path, name: str, old: str, new: str, claim: str
) -> None:
    for path in (FILES / "manifests").iterdir():
        text = path.read_text(encoding="utf-8")
        (tmp_path / path.name).write_text(text.replace(old, new), encoding="utf-8")
    done = lesson(there, name, tmp_path)
    untrue = [line for line in done.stdout.splitlines() if re.match("  ✗ (?!exit code)", line)]
    assert done.returncode == 2, done.text
    assert untrue and untrue[0].startswith(f"  ✗ {claim}"), done.stdout


def lesson(there: Machine, name: str, manifests: pathlib.Path, cluster: str = "") -> subprocess.CompletedProcess[str]:
    environment = {
        "ANSIBLE_STDOUT_CALLBACK": "lesson",
        "KIND_CLUSTER_NAME": cluster or f"demo-{name}",
        "PODLAB_CONFIG": str(FILES / "cluster.yaml"),
        "PODLAB_MANIFESTS": str(manifests),
    }
    return there.run("ansible-playbook", f"playbooks/demo/{name}.yml", environment=environment, timeout=120)


def test_a_command_that_does_nothing_is_found_out(there: Machine, tmp_path: pathlib.Path) -> None:
    """Where ip only says that it deleted the route, the claim that packets are lost is not true."""
    real = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
    assert real
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "ip"
    fake.write_text(f'#!/bin/sh\ncase "$*" in *route\\ del*) exit 0;; esac\nexec {real} "$@"\n')
    fake.chmod(0o755)
    environment = {"PATH": f"{fake.parent}:{there.environment['PATH']}"}
    done = there.run(str(BIN / "invoke"), "demo-routes", environment=environment, timeout=120)
    assert done.returncode != 0
    assert "ping -c 1 -W 1" in done.stdout and "✓ The packet is lost" not in done.stdout, done.stdout


@pytest.mark.parametrize("name", LESSONS)
def test_it_takes_down_no_other_lab(there: Machine, name: str) -> None:
    done = lesson(there, name, FILES / "manifests", cluster="another")
    assert done.returncode == 2
    assert f"Run it by: ./lab demo-{name}" in done.text


def test_stopped_half_way(there: Machine) -> None:
    """Ctrl-C reaches every process of the terminal."""
    with there.popen(
        str(BIN / "invoke"),
        "demo-service-trace",
        environment={"PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        shown = next((line for line in process.stdout if "The choice is by chance" in line), "")
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stdout.read()
    assert shown
    assert process.returncode != 0
    assert "lab demo-service-trace is down" in rest
    assert "all hold" not in rest
