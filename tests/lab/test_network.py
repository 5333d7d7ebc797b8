"""Pod to pod, pod to Service, names: real packets through the lab's own rules."""

from __future__ import annotations

import collections
import contextlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator

import pytest

from support.lab import Lab, ip_of, name_of, node_of
from support.waiting import running as process

pytestmark = pytest.mark.lab

# Chance of a larger chi-square with two degrees of freedom, by chance alone: 1 in 10^7.
CHI_SQUARE_LIMIT = 32.3


@contextlib.contextmanager
def first_ping(namespace: str, device: str) -> Iterator[Callable[[], str]]:
    """Capture from now on; the function yielded waits for the first echo request and returns tcpdump's line."""
    argv = ["ip", "netns", "exec", namespace, "tcpdump", "--immediate-mode", "-lnc1", "-i", device]
    with process([*argv, "icmp[icmptype] == icmp-echo"], stdout=subprocess.PIPE) as tcpdump:
        assert tcpdump.stderr is not None
        assert tcpdump.stdout is not None
        assert any("listening on" in line for line in tcpdump.stderr)
        yield tcpdump.stdout.readline


@pytest.mark.parametrize("url", ["http://web.default.svc.cluster.local", "http://web", "http://web.default"])
def test_service_answers_by_name(lab: Lab, url: str) -> None:
    web = lab.pods("web")
    assert lab.exec(name_of(web[0]), "wget", "-qO-", url).strip() in {name_of(pod) for pod in web}


def test_requests_reach_every_pod_evenly(lab: Lab) -> None:
    web = lab.pods("web")
    script = "for i in $(seq 300); do wget -qO- http://web; done"
    answers = collections.Counter(lab.exec(name_of(web[0]), "sh", "-c", script).split())
    assert set(answers) == {name_of(pod) for pod in web}
    assert sum(answers.values()) == 300
    expected = 300 / len(web)
    chi_square = sum((count - expected) ** 2 / expected for count in answers.values())
    assert chi_square < CHI_SQUARE_LIMIT, answers


def test_ping_across_nodes_keeps_the_source_address(lab: Lab) -> None:
    source = lab.pod("core-k8s")
    target = next(pod for pod in lab.pods("web") if node_of(pod) != node_of(source))
    with first_ping(f"podlab-{node_of(target)}", "eth0") as seen:
        answer = lab.exec(name_of(source), "ping", "-c1", "-W5", ip_of(target))
        line = seen()
    # Two hops between: the sender's node and the target's.
    assert re.search(rf"64 bytes from {re.escape(ip_of(target))}: seq=0 ttl=62 ", answer)
    assert f"IP {ip_of(source)} > {ip_of(target)}: ICMP echo request" in line


def test_pod_on_the_same_node_goes_through_the_node(lab: Lab) -> None:
    by_node = collections.defaultdict(list)
    for pod in lab.pods():
        by_node[node_of(pod)].append(pod)
    first, second = max(by_node.values(), key=len)[:2]
    answer = lab.exec(name_of(first), "ping", "-c1", "-W5", ip_of(second))
    assert f"64 bytes from {ip_of(second)}: seq=0 ttl=63 " in answer


def test_node_reaches_every_pod(lab: Lab) -> None:
    for node in lab.node_names():
        for pod in [*lab.pods(), *lab.pods(namespace="kube-system")]:
            lab.in_node(node, "ping", "-c1", "-W5", ip_of(pod))


def test_pod_reaches_the_machine_behind_its_node(lab: Lab) -> None:
    """The machine has no route to pods: without the node's address its answer would not come back."""
    source = lab.pod("core-k8s")
    record = next(node for node in lab.nodes() if node["name"] == node_of(source))
    with first_ping(f"podlab-{node_of(source)}", "eth0") as seen:
        answer = lab.exec(name_of(source), "ping", "-c1", "-W5", lab.gateway())
        line = seen()
    assert f"64 bytes from {lab.gateway()}: seq=0 ttl=63 " in answer
    assert f"IP {record['address']} > {lab.gateway()}: ICMP echo request" in line


def test_service_sees_the_address_of_the_pod_that_asks(extras: Lab) -> None:
    """No address is rewritten on the way to a pod of another node, by the Service neither."""
    echo = extras.pod("echo", "extras")
    asking = next(pod for pod in extras.pods("web") if node_of(pod) != node_of(echo))
    assert extras.exec(name_of(asking), "wget", "-qO-", "http://echo.extras").strip() == "echo"
    extras.until_logged(echo, client(ip_of(asking)))


def test_pod_reaches_itself_through_its_service(extras: Lab) -> None:
    """Hairpin: only behind another source address can the answer come back by the way the question went."""
    echo = extras.pod("echo", "extras")
    assert (
        extras.exec("echo", "timeout", "5", "wget", "-qO-", "http://echo.extras", namespace="extras").strip() == "echo"
    )
    gateway = ip_of(echo).rpartition(".")[0] + ".1"
    extras.until_logged(echo, client(gateway))


def client(address: str) -> str:
    """How httpd, which listens for both families where there are two, logs a client."""
    return f"[::ffff:{address}]:" if os.path.exists("/proc/net/if_inet6") else f" {address}:"


def test_node_reaches_a_service(lab: Lab) -> None:
    names = {name_of(pod) for pod in lab.pods("web")}
    for node in lab.node_names():
        url = f"http://{lab.service_ip('web')}"
        assert lab.in_node(node, "curl", "--silent", "--max-time", "5", url).stdout.strip() in names


def test_service_without_endpoints_refuses_at_once(extras: Lab) -> None:
    # From a pod and from a node: FORWARD and OUTPUT have a rule each. Without it both would run into the 20 s, and end
    # with another code.
    inside = extras.try_exec("echo", "timeout", "20", "wget", "-qO-", "http://nobody", namespace="extras")
    outside = extras.in_node(
        extras.node_names()[1],
        "curl",
        "--max-time",
        "20",
        f"http://{extras.service_ip('nobody', 'extras')}",
        check=False,
    )
    assert inside.returncode == 1
    assert "Connection refused" in inside.stderr
    assert outside.returncode == 7  # curl's code for a connection that was refused
