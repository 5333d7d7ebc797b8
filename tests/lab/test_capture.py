"""capture: the packets of a pod and of a node, as lines and as a file; how it ends."""

from __future__ import annotations

import contextlib
import pathlib
import signal
import subprocess
from collections.abc import Iterator

import pytest

from support.lab import ROOT, Lab, environment, ip_of, name_of, node_of

pytestmark = pytest.mark.lab

SECONDS = 20


@contextlib.contextmanager
def capturing(lab: Lab, *words: str) -> Iterator[subprocess.Popen[str]]:
    """`capture WORDS` that is listening already; ended whatever happened."""
    argv = ["invoke", "capture", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=environment(lab.name), cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stderr is not None
            said = []
            while "listening on" not in "".join(said[-1:]):
                said.append(process.stderr.readline())
                assert said[-1], said
            yield process
        finally:
            process.kill()


def test_a_pods_packets_are_shown_as_they_come(lab: Lab) -> None:
    """What the server's own interface carries: a request through the Service arrives with the client's address."""
    client, server = lab.pod("core-k8s"), lab.pods("web-")[0]
    with capturing(lab, f"pod/{name_of(server)}", "tcp", "port", "80", "-c", "1") as tcpdump:
        lab.exec("core-k8s", "wget", "-qO-", f"http://{ip_of(server)}")
        out, err = tcpdump.communicate(timeout=SECONDS)
    assert tcpdump.returncode == 0
    assert f"IP {ip_of(client)}." in out and f"> {ip_of(server)}.80: Flags [S]" in out
    assert "1 packet captured" in err


def test_a_nodes_interfaces_together(lab: Lab) -> None:
    """Without -i a node shows where the packet comes in and where it goes out: DNAT is seen to happen."""
    client = lab.pod("core-k8s")
    [service] = lab.get_json("services", "web")
    with capturing(lab, node_of(client), "tcp[tcpflags] == tcp-syn and src", ip_of(client), "-c", "2") as tcpdump:
        lab.exec("core-k8s", "wget", "-qO-", "http://web")
        out, _ = tcpdump.communicate(timeout=SECONDS)
    first, second = out.splitlines()
    assert f" In  IP {ip_of(client)}." in first and f"> {service['spec']['clusterIP']}.80: Flags [S]" in first
    assert any(f" Out IP {ip_of(client)}." in second and f"> {ip_of(pod)}.80:" in second for pod in lab.pods("web-"))


def test_interrupt_ends_it_with_tcpdumps_summary(lab: Lab) -> None:
    with capturing(lab, "core-k8s", "port", "9") as tcpdump:
        tcpdump.send_signal(signal.SIGINT)
        out, err = tcpdump.communicate(timeout=SECONDS)
    assert (tcpdump.returncode, out.strip()) == (0, "")
    assert "0 packets captured" in err


def test_packets_to_standard_output_for_a_pipe(lab: Lab) -> None:
    """-w - as Wireshark reads it: a file's head first, then each packet at once; more options follow --."""
    argv = ["bash", "-c", "invoke capture core-k8s -w - -- -c 1 udp port 53 | tcpdump -n -r -"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=environment(lab.name), cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as both:
        assert both.stderr is not None
        assert any("listening on" in line for line in both.stderr)
        lab.exec("core-k8s", "nslookup", "web.default.svc.cluster.local")
        out, _ = both.communicate(timeout=SECONDS)
    assert out.count("> 10.96.0.10.53: ") == 1


def test_packets_to_a_file(lab: Lab, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "new.pcap"
    with capturing(lab, "core-k8s", "udp", "port", "53", "-c", "1", "-w", str(file)) as tcpdump:
        lab.exec("core-k8s", "nslookup", "web.default.svc.cluster.local")
        assert tcpdump.wait(SECONDS) == 0
    shown = subprocess.run(["tcpdump", "-n", "-r", str(file)], capture_output=True, text=True, check=True).stdout
    assert "> 10.96.0.10.53: " in shown


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("core-k8s", "no", "such", "filter"), 1, "tcpdump: can't parse filter expression: syntax error"),
        (("core-k8s", "-i", "eth7"), 1, "tcpdump: eth7: No such device exists"),
        (("nobody",), 1, 'pods "nobody" not found'),
        (("core-k8s", "-w", "/no/such/directory/file"), 1, "capture: cannot write /no/such/directory/file"),
    ],
)
def test_what_cannot_be_captured(lab: Lab, words: tuple[str, ...], code: int, message: str) -> None:
    done = lab.invoke("capture", *words, check=False)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
