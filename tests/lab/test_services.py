"""Services of every type: who answers from the machine and from pods, with which source; and what is refused."""

from __future__ import annotations

import json
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from support.machine import Machine, machine
from support.small_lab import SmallLab

pytestmark = pytest.mark.own_machine

FAILED = 2
# Says who answers, and whom it sees.
CGI = r"#!/bin/sh\necho\necho $(hostname) $REMOTE_ADDR\n"
SERVE = f"""
mkdir -p /www/cgi-bin
printf '{CGI}' > /www/cgi-bin/who
chmod +x /www/cgi-bin/who
exec httpd -f -p 0.0.0.0:80 -h /www
"""
SERVES = "until wget -qO- http://127.0.0.1/cgi-bin/who; do :; done"
NODE_PORT, LOCAL_PORT, BALANCER = 30080, 30081, "203.0.113.10"
# URL, seconds, how often
FETCH = """
import sys, urllib.request
for _ in range(int(sys.argv[3])):
    print(urllib.request.urlopen(sys.argv[1], timeout=float(sys.argv[2])).read().decode(), end="")
"""


def server(name: str, node: str, labels: dict[str, str]) -> dict[str, Any]:
    container = {"name": "c", "image": "busybox", "command": ["sh", "-c", SERVE]}
    spec = {"terminationGracePeriodSeconds": 0, "nodeName": node, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def service(name: str, **spec: Any) -> dict[str, Any]:
    """A Service of port 80; spec: more, or other values."""
    body = {"ports": [{"port": 80}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": body}


def balancer(name: str, address: str, **spec: Any) -> dict[str, Any]:
    status = {"loadBalancer": {"ingress": [{"ip": address}]}}
    return {**service(name, type="LoadBalancer", **spec), "status": status}


def piece(name: str, of: str, *addresses: str, kind: str = "IPv4") -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": of}},
        "addressType": kind,
        "endpoints": [{"addresses": [address]} for address in addresses],
        "ports": [{"port": 80}],
    }


ONE, TWO = "services-worker", "services-worker2"
MANIFESTS = [
    server("one", ONE, {"app": "web", "on": "one"}),
    server("two", TWO, {"app": "web"}),
    service("web", type="NodePort", selector={"app": "web"}, ports=[{"port": 80, "nodePort": NODE_PORT}]),
    service(
        "here",
        type="NodePort",
        selector={"on": "one"},
        externalTrafficPolicy="Local",
        ports=[{"port": 80, "nodePort": LOCAL_PORT}],
    ),
    balancer("edge", BALANCER, selector={"app": "web"}),
    service("fixed", clusterIP="10.96.0.90"),
    service("given", type="NodePort"),
]


@pytest.fixture(scope="module")
def host() -> Iterator[Machine]:
    """A machine of its own."""
    with machine() as made:
        yield made


@pytest.fixture(scope="module")
def lab(host: Machine, tmp_path_factory: pytest.TempPathFactory) -> SmallLab:
    """A lab with a Service of each type, up."""
    nodes = "nodes: [{role: control-plane}, {role: worker}, {role: worker}]\n"
    directory = tmp_path_factory.mktemp("services")
    made = SmallLab(host, directory, "services", manifests=yaml.safe_dump_all(MANIFESTS), config=nodes)
    made.up()
    for name in ("one", "two"):
        made.exec(name, "timeout", "10", "sh", "-c", SERVES)
    return made


def objects(lab: SmallLab, kind: str) -> dict[str, dict[str, Any]]:
    done = lab.invoke("get", kind, "-o", "json")
    assert done.returncode == 0, done.text
    return {item["metadata"]["name"]: item for item in json.loads(done.stdout)["items"]}


def addresses(lab: SmallLab) -> dict[str, str]:
    """The nodes' addresses, by name."""
    return {node["name"]: node["address"] for node in of_cluster(lab)["nodes"]}


def of_cluster(lab: SmallLab) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.machine.path(f"{lab.state}/cluster.json").read_text())
    return found


def who(lab: SmallLab, address: str, times: int = 1) -> list[tuple[str, str]]:
    """Who answers the machine at an address with port, and whom it sees."""
    text = lab.machine.sh(sys.executable, "-c", FETCH, f"http://{address}/cgi-bin/who", "5", str(times))
    words = text.split()
    return list(zip(words[::2], words[1::2], strict=True))


def apply(lab: SmallLab, *things: dict[str, Any], word: str = "apply") -> Any:
    """`apply -f` of objects in a file of its own; word: or `delete`."""
    file = lab.directory / "more.yaml"
    file.write_text(yaml.safe_dump_all(things))
    return lab.invoke(word, "-f", str(file))


def test_a_node_port_answers_at_every_node(lab: SmallLab) -> None:
    at = addresses(lab)
    assert len(at) == 3
    for node, address in at.items():
        answers = who(lab, f"{address}:{NODE_PORT}", 30)
        assert {name for name, _ in answers} == {"one", "two"}, node
        # Whatever the pod's node: the node that was asked stands in for the one who asked.
        assert {source for name, source in answers if {"one": ONE, "two": TWO}[name] != node} == {address}


def test_the_local_policy_keeps_the_source_and_stays_on_the_node(lab: SmallLab) -> None:
    at = addresses(lab)
    assert who(lab, f"{at[ONE]}:{LOCAL_PORT}") == [("one", of_cluster(lab)["gateway"])]
    url = f"http://{at[TWO]}:{LOCAL_PORT}/cgi-bin/who"
    done = lab.machine.run(sys.executable, "-c", FETCH, url, "0.5", "1")
    assert done.returncode and "timed out" in done.stderr, done.text


def test_a_load_balancers_address_of_the_status_is_served(lab: SmallLab) -> None:
    """By any node that packets for it come to."""
    assert lab.exec("one", "timeout", "5", "wget", "-qO-", f"http://{BALANCER}/cgi-bin/who").split()[0] in (
        "one",
        "two",
    )
    lab.machine.sh("ip", "route", "add", BALANCER, "via", addresses(lab)["services-control-plane"])
    assert who(lab, BALANCER)[0][0] in ("one", "two")
    lab.machine.sh("ip", "route", "del", BALANCER)
    lines = lab.invoke("get", "services").stdout.splitlines()
    assert [line.split()[3] for line in lines if line.startswith("edge")] == [BALANCER]


def test_a_service_without_selector_is_served_by_a_slice(lab: SmallLab) -> None:
    pods = lab.pods()
    slices = piece("fixed-1", "fixed", pods["two"]["status"]["podIP"])
    done = apply(lab, slices)
    assert (done.returncode, done.stderr) == (0, "")
    assert lab.exec("one", "timeout", "5", "wget", "-qO-", "http://10.96.0.90/cgi-bin/who").split()[0] == "two"
    assert "nothing to do" in apply(lab, slices).stdout
    assert apply(lab, slices, word="delete").returncode == 0
    refused = lab.try_exec("one", "timeout", "5", "wget", "-qO-", "http://10.96.0.90/")
    assert "Connection refused" in refused.text


def test_what_a_service_was_given_stays_with_another_type(lab: SmallLab) -> None:
    before = objects(lab, "services")["given"]["spec"]
    assert apply(lab, service("given", type="LoadBalancer", externalTrafficPolicy="Local")).returncode == 0
    after = objects(lab, "services")["given"]["spec"]
    assert after["clusterIP"] == before["clusterIP"]
    assert after["ports"] == before["ports"]
    assert 30086 <= after["healthCheckNodePort"] <= 32767
    assert after["healthCheckNodePort"] != after["ports"][0]["nodePort"]
    assert apply(lab, service("given", type="NodePort")).returncode == 0
    assert objects(lab, "services")["given"]["spec"] == before


# -- what is refused


def given_port(lab: SmallLab) -> int:
    return int(objects(lab, "services")["given"]["spec"]["ports"][0]["nodePort"])


CHOOSE = "Choose another, or leave it out to be given one"
REFUSED = {
    "node port out of range": (
        service("new", type="NodePort", ports=[{"port": 80, "nodePort": 80}]),
        "Service/new: spec.ports[0].nodePort: must be in the range 30000-32767, not 80. "
        "Choose one, or leave it out to be given one",
    ),
    "node port of a manifest": (
        service("new", type="NodePort", ports=[{"port": 80, "nodePort": NODE_PORT, "protocol": "UDP"}]),
        "Service/new: spec.ports[0].nodePort: node port 30080 is taken by the Service default/web. " + CHOOSE,
    ),
    "node port twice": (
        service(
            "new",
            type="NodePort",
            ports=[{"name": "a", "port": 80, "nodePort": 30082}, {"name": "b", "port": 81, "nodePort": 30082}],
        ),
        "Service/new: spec.ports[1].nodePort: node port 30082/TCP clashes with ports[0] of this Service. "
        "Give each port and protocol once",
    ),
    "port twice": (
        service("new", ports=[{"name": "a", "port": 80}, {"name": "b", "port": 80}]),
        "Service/new: spec.ports[1].port: port 80/TCP clashes with ports[0] of this Service. "
        "Give each port and protocol once",
    ),
    "address of another": (
        service("new", clusterIP="10.96.0.90"),
        "Service/new: spec.clusterIP: 10.96.0.90 is taken by the Service default/fixed. " + CHOOSE,
    ),
    "address outside": (
        service("new", clusterIP="10.97.0.90"),
        "Service/new: spec.clusterIP: must be in the service subnet 10.96.0.0/16, which 10.97.0.90 is not. " + CHOOSE,
    ),
    "address of another family": (
        service("new", clusterIP="fd00::90"),
        "Service/new: spec.clusterIP: must be an IPv4 address of the service subnet 10.96.0.0/16, not fd00::90. "
        + CHOOSE,
    ),
    "endpoints of another family": (
        piece("new", "fixed", "192.0.2.1", "2001:db8::1"),
        "EndpointSlice/new: endpoints[1].addresses[0]: must be an IPv4 address, as addressType says, not '2001:db8::1'",
    ),
    "slice of another family": (
        piece("new", "fixed", "2001:db8::1", kind="IPv6"),
        "EndpointSlice/new: addressType: must be IPv4: a lab's Services, nodes and pods have IPv4 addresses only. "
        "Write an EndpointSlice of IPv4 addresses",
    ),
}


def rules(lab: SmallLab) -> dict[str, list[str]]:
    """The rules of every node, without counters and times."""
    found = {}
    for node in addresses(lab):
        text = lab.machine.sh("ip", "netns", "exec", f"podlab-{node}", "iptables-save")
        found[node] = [re.sub(r" \[\d+:\d+\]$", "", line) for line in text.splitlines() if not line.startswith("#")]
    return found


def refusal(lab: SmallLab, *things: dict[str, Any]) -> str:
    """The one line that is said; nothing is changed."""
    stored = lab.machine.path(f"{lab.state}/objects.json")
    before = rules(lab), stored.read_text()
    done = apply(lab, *things)
    assert done.returncode == FAILED, done.text
    assert (rules(lab), stored.read_text()) == before
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    place, _, message = line.partition(": ")
    assert re.fullmatch(rf"{re.escape(str(lab.directory))}/more\.yaml:\d+", place), line
    return message


@pytest.mark.parametrize("case", REFUSED)
def test_refused(lab: SmallLab, case: str) -> None:
    thing, said = REFUSED[case]
    assert refusal(lab, thing) == said


def test_a_node_port_that_was_allocated_is_taken(lab: SmallLab) -> None:
    number = given_port(lab)
    said = refusal(lab, service("new", type="NodePort", ports=[{"port": 80, "nodePort": number}]))
    assert said == (
        f"Service/new: spec.ports[0].nodePort: node port {number} is taken by the Service default/given. {CHOOSE}"
    )


def test_down(lab: SmallLab, host: Machine) -> None:
    """The last test: nothing is left."""
    lab.down()
    assert not pathlib.Path(f"{host.path(lab.state)}").exists()
    assert host.sh("ip", "netns") == ""
