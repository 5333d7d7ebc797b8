"""Pods on the host network and with ports of the node, beside Services, as other nodes and pods reach them."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from podlab.linux import netns
from podlab.runtime import paths
from support import waiting
from support.lab import Lab, ip_of

pytestmark = pytest.mark.lab

SECONDS = 20.0
MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: ported, labels: {app: ported}}
spec:
  nodeName: @NODE@
  hostUsers: false
  terminationGracePeriodSeconds: 0
  containers:
    - name: c
      image: busybox
      command: [sh, -c, 'mkdir /www; hostname > /www/index.html; exec httpd -f -p 80 -h /www']
      ports: [{containerPort: 80, hostPort: 18080}]
---
apiVersion: v1
kind: Service
metadata: {name: ported}
spec: {type: NodePort, selector: {app: ported}, ports: [{port: 80, nodePort: 30017}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      hostNetwork: true
      terminationGracePeriodSeconds: 0
      containers:
        - name: c
          image: busybox
          command: [sh, -c, 'mkdir /www; hostname > /www/index.html; exec httpd -f -p 19100 -h /www']
          ports: [{containerPort: 19100}]
---
apiVersion: v1
kind: Service
metadata: {name: agent}
spec: {selector: {app: agent}, ports: [{port: 80, targetPort: 19100}]}
"""


@pytest.fixture(scope="module")
def made(lab: Lab) -> Iterator[Lab]:
    manifest = MANIFEST.replace("@NODE@", lab.node_names()[1])
    lab.apply(manifest)
    waiting.until(lambda: page(lab, 0, address(lab, 1), 18080) == "ported", "ported does not answer")
    for number in (1, 2):
        waiting.until(lambda: page(lab, 0, address(lab, number), 19100) != "", "no agent answers")  # noqa: B023
    yield lab
    lab.invoke("delete", "-f", "-", stdin=manifest)


def address(lab: Lab, number: int) -> str:
    return str(lab.nodes()[number]["address"])


def page(lab: Lab, number: int, host: str, port: int) -> str:
    """What a server says to somebody on the node; empty when nobody is there."""
    with netns.entered(paths.node_netns(lab.node_names()[number])):
        try:
            client = socket.create_connection((host, port), SECONDS)
        except ConnectionRefusedError:
            return ""
    with client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        said = b""
        while data := client.recv(65536):
            said += data
    return said.decode().split("\r\n\r\n")[1].strip()


def test_a_host_port_is_the_one_nodes(made: Lab) -> None:
    for number in range(3):
        assert page(made, number, address(made, 1), 18080) == "ported"
        assert page(made, number, "127.0.0.1", 18080) == ("ported" if number == 1 else "")
        assert page(made, number, address(made, 2), 18080) == ""


def test_a_node_port_of_the_same_pod_is_every_nodes(made: Lab) -> None:
    for number in range(3):
        assert page(made, 0, address(made, number), 30017) == "ported"


def test_the_host_network_is_an_endpoint_like_any(made: Lab) -> None:
    agents = made.pods("agent-")
    nodes = {pod["spec"]["nodeName"]: ip_of(pod) for pod in agents}
    assert nodes == {name: address(made, number) for number, name in enumerate(made.node_names()) if number}
    [service] = [each for each in made.get_json("services") if each["metadata"]["name"] == "agent"]
    assert set(nodes.values()) <= made.endpoints()
    said = made.exec("ported", "wget", "-qO-", f"http://{service['spec']['clusterIP']}/")
    assert said.strip() in nodes


def test_the_rules_of_both_survive_each_other(made: Lab) -> None:
    """A sync of Services leaves portmap's rules, and there is nothing to do a second time."""
    before = portmaps(made)
    assert len([line for line in before if line.startswith(":CNI-DN-")]) == 1
    more = MANIFEST.replace("@NODE@", made.node_names()[1]).replace("30017", "30018")
    made.apply(more)
    assert portmaps(made) == before
    assert page(made, 2, address(made, 0), 30018) == page(made, 2, address(made, 1), 18080) == "ported"
    assert "unchanged" in made.apply(more).stdout


def portmaps(lab: Lab) -> list[str]:
    where = paths.node_netns(lab.node_names()[1])
    said = lab.run("ip", "netns", "exec", where, "iptables-save", "-t", "nat").stdout
    return [line.partition(" [")[0] for line in said.splitlines() if "CNI-" in line]


def test_a_port_that_is_taken_is_refused_before_anything_is_touched(made: Lab) -> None:
    pod = MANIFEST.replace("@NODE@", made.node_names()[1]).split("---")[0].replace("name: ported", "name: second")
    done = made.apply(pod, check=False)
    assert done.returncode != 0
    node = made.node_names()[1]
    assert (
        f"{node} didn't have free ports for the requested pod ports (18080/TCP is taken)" in done.stdout + done.stderr
    )
    assert [each["metadata"]["name"] for each in made.pods("second")] == []
