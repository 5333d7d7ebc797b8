"""portmap's rules as text, and what pods may ask of a node's ports."""

from __future__ import annotations

import hashlib

from podlab.kube import masq, plan, pod_checks, portmap, proxy, proxy_sync
from podlab.kube.iptables_save import parse_save, save_text
from podlab.kube.proxy_chains import Options
from podlab.kube.proxy_model import ProxyNode
from podlab.runtime import hostport
from support.lab_objects import cluster, pod, store, thing

CONTAINER = {"name": "c", "image": "busybox"}


def port(number, protocol="TCP", address="0.0.0.0", container_port=80):
    return {"address": address, "protocol": protocol, "port": number, "container_port": container_port}


def test_the_chain_has_the_plugins_name():
    digest = hashlib.sha512(b"kindnetabc").hexdigest()
    assert hostport.chain("abc") == f"CNI-DN-{digest}"[:28]


def test_one_entry_has_15_ports_of_one_protocol():
    made = portmap.entries("id", "CNI-DN-x", [*(port(number) for number in range(1, 17)), port(53, "UDP")])
    words = '-m comment --comment "dnat name: \\"kindnet\\" id: \\"id\\"" -m multiport --destination-ports'
    assert made == [
        f"-A CNI-HOSTPORT-DNAT -p tcp {words} 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15 -j CNI-DN-x",
        f"-A CNI-HOSTPORT-DNAT -p tcp {words} 16 -j CNI-DN-x",
        f"-A CNI-HOSTPORT-DNAT -p udp {words} 53 -j CNI-DN-x",
    ]


def test_a_host_ip_is_part_of_each_rule():
    made = portmap.translations("C", "10.244.0.2", "10.244.0.0/24", [port(8080, address="127.0.0.1")])
    assert made == [
        "-A C -p tcp --dport 8080 -d 127.0.0.1 -s 10.244.0.0/24 -j CNI-HOSTPORT-SETMARK",
        "-A C -p tcp --dport 8080 -d 127.0.0.1 -s 127.0.0.1 -j CNI-HOSTPORT-SETMARK",
        "-A C -p tcp --dport 8080 -d 127.0.0.1 -j DNAT --to-destination 10.244.0.2:80",
    ]


def test_the_shared_rules_are_made_once():
    chains, rules = portmap.shared("")
    assert chains == [portmap.DNAT, portmap.SETMARK, portmap.MASQ] and len(rules) == 5
    text = portmap.open_text("", "CNI-DN-x", [], "veth0")
    assert portmap.shared(text.replace("-I POSTROUTING", "-A POSTROUTING")) == ([], [])


def test_of_what_is_not_there_nothing_is_removed():
    assert portmap.close_text("*nat\n:CNI-DN-y - [0:0]\nCOMMIT\n", ["CNI-DN-x"], ["veth0"]) == ""


def test_kube_proxy_and_kindnet_leave_them_alone():
    """Their syncs see nothing to do, and their removal names none of them."""
    rules = proxy.restore_text((), (), ProxyNode("n", ("172.18.0.2",), ""), Options())
    tables = parse_save(save_text(rules.saved()))
    for jump, line in proxy_sync.jump_lines("ipv4").items():
        tables[jump.table].setdefault(jump.chain, []).append(line)
    assert proxy_sync.compare(rules, rules.saved(), tables).why() == ""
    own = parse_save(portmap.open_text("", "CNI-DN-x", portmap.entries("id", "CNI-DN-x", [port(80)]), "veth0"))
    for table, chains in own.items():
        for chain, lines in chains.items():
            tables[table].setdefault(chain, []).extend(lines)
    assert proxy_sync.compare(rules, rules.saved(), tables).why() == ""
    assert "CNI-" not in proxy_sync.removal_text(tables, "ipv4") + masq.sync_text(("10.244.0.0/16",), tables)


def faults(*ports, **spec):
    found = pod_checks.pod_spec({"containers": [{**CONTAINER, "ports": list(ports)}], **spec}, ("spec",))
    return [f"{'.'.join(map(str, each.path))}: {each.message}" for each in found if each.level == "error"]


def test_what_a_port_may_be():
    here = "spec.containers.0.ports.0"
    assert faults({"containerPort": 80, "hostPort": 0}) == []
    assert faults({"containerPort": 80, "hostPort": 65536}) == [
        f"{here}.hostPort: must be between 1 and 65535, not 65536"
    ]
    assert faults({"containerPort": 80, "hostPort": 80, "hostIP": "127.0.0.1"}) == []
    assert len(faults({"containerPort": 80, "hostPort": 80, "hostIP": "localhost"})) == 1
    assert faults({"containerPort": 80, "hostPort": 80, "hostIP": "::1"}) == [
        f"{here}.hostIP: podlab's nodes have IPv4 addresses only, not ::1"
    ]


def test_twice_in_one_pod():
    one = {"containerPort": 80, "hostPort": 8080}
    assert faults(one, {"containerPort": 81, "hostPort": 8080}) == [
        "spec.containers.0.ports.1.hostPort: Duplicate value: TCP//8080"
    ]
    assert faults(one, {"containerPort": 81, "hostPort": 8080, "protocol": "UDP"}) == []
    assert faults(one, {"containerPort": 81, "hostPort": 8080, "hostIP": "127.0.0.1"}) == []


def test_two_pods_of_one_node():
    def planned(*ports):
        made = []
        for number, each in enumerate(ports):
            spec = {"containers": [{**CONTAINER, "ports": [{"containerPort": 80, **each}]}], "nodeName": "w1"}
            made.append(thing("Pod", f"p{number}", **spec))
        return [str(problem) for problem in plan.plan(store(*made), cluster(), ()).problems]

    assert planned({"hostPort": 80}, {"hostPort": 80, "protocol": "UDP"}, {"hostPort": 81}) == []
    assert planned({"hostPort": 80, "hostIP": "127.0.0.1"}, {"hostPort": 80, "hostIP": "172.18.0.3"}) == []
    (problem,) = planned({"hostPort": 80}, {"hostPort": 80, "hostIP": "127.0.0.1"})
    assert "w1 didn't have free ports for the requested pod ports (127.0.0.1:80/TCP is taken)" in problem


def test_a_pod_without_host_ports_asks_for_nothing():
    assert plan.plan(store(pod("a"), pod("b")), cluster(1), ()).problems == ()
