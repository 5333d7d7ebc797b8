"""Host namespaces, names and node ports of pods: validation, defaults, what the runtime is told, where pods fit."""

from __future__ import annotations

import pytest

from podlab.kube import defaults, hostnames, plan, pod_checks, podfiles
from podlab.kube.host_ports import HostPort, conflict
from support.lab_objects import cluster, deployment, pod, running, store, thing

CONTAINER = {"name": "c", "image": "busybox"}


def faults(**spec):
    found = pod_checks.pod_spec({"containers": [CONTAINER], **spec}, ("spec",))
    return [f"{'.'.join(map(str, each.path))}: {each.message}" for each in found]


def test_no_combination_but_one_is_refused():
    assert faults(hostNetwork=True, hostPID=True, hostIPC=True) == []
    assert faults(shareProcessNamespace=True, hostNetwork=True, hostIPC=True) == []
    assert faults(shareProcessNamespace=True, hostPID=True) == [
        "spec.shareProcessNamespace: ShareProcessNamespace and HostPID cannot both be enabled"
    ]


def test_a_port_on_the_host_network_is_its_own():
    ports = [{"containerPort": 80, "hostPort": 80}, {"containerPort": 81}, {"containerPort": 82, "hostPort": 8082}]
    container = {**CONTAINER, "ports": ports}
    assert faults(containers=[container], hostNetwork=True) == [
        "spec.containers.0.ports.2.hostPort: must match `containerPort` when `hostNetwork` is true, and it is 8082"
    ]
    made = defaults.pod_spec({"containers": [{**CONTAINER, "ports": ports[:2]}], "hostNetwork": True})
    assert [port["hostPort"] for port in made["containers"][0]["ports"]] == [80, 81]
    made = defaults.pod_spec({"containers": [{**CONTAINER, "ports": ports[:2]}]})
    assert "hostPort" not in made["containers"][0]["ports"][1]


METADATA = {"name": "p" * 62 + "-x", "namespace": "team"}


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ({}, ("p" * 62, "", "p" * 62)),
        ({"hostname": "web"}, ("web", "", "web")),
        ({"hostname": "web", "subdomain": "db"}, ("web", "db.team.svc.cluster.local", "web")),
        (
            {"hostname": "web", "subdomain": "db", "setHostnameAsFQDN": True},
            ("web", "db.team.svc.cluster.local", "web.db.team.svc.cluster.local"),
        ),
        # Without a domain there is no FQDN.
        ({"hostname": "web", "setHostnameAsFQDN": True}, ("web", "", "web")),
        ({"hostname": "web", "subdomain": "db", "hostNetwork": True}, ("node", "", "node")),
        ({"hostname": "web", "subdomain": "db", "hostnameOverride": "o.example"}, ("o.example", "", "o.example")),
    ],
)
def test_1_8_hostname(spec, name):
    assert hostnames.host_name(METADATA, spec, "cluster.local", "node") == name


def test_1_8_an_fqdn_has_at_most_64_characters():
    spec = {"subdomain": "s" * 63, "hostname": "h", "setHostnameAsFQDN": True}
    (problem,) = plan.plan(store(pod(**spec)), cluster(), ()).problems
    assert "spec.setHostnameAsFQDN: failed to construct FQDN from pod hostname and cluster domain, FQDN h.sss" in str(
        problem
    )
    assert "is too long (64 characters is the max, 91 characters requested)" in str(problem)
    fits = {"subdomain": "s" * 36, "hostname": "h", "setHostnameAsFQDN": True}
    assert len(hostnames.host_name({"name": "x", "namespace": "default"}, fits, "cluster.local", "").kernel) == 64
    assert plan.plan(store(pod(**fits)), cluster(), ()).problems == ()


def test_hostname_override():
    assert faults(hostnameOverride="web.example") == []
    assert [fault.partition(":")[0] for fault in faults(hostnameOverride="A")] == ["spec.hostnameOverride"]
    long = ".".join(["x" * 32] * 2)
    assert faults(hostnameOverride=long) == ["spec.hostnameOverride: must have at most 64 characters, not 65"]
    assert faults(hostnameOverride="a", hostNetwork=True, setHostnameAsFQDN=True) == [
        "spec.hostnameOverride: may not be set when hostNetwork is true",
        "spec.hostnameOverride: may not be set when setHostnameAsFQDN is true",
    ]


def test_the_hosts_file_on_the_host_network():
    text = podfiles.host_network_hosts_file("127.0.0.1 localhost\n", [{"ip": "192.0.2.1", "hostnames": ["a", "b"]}])
    assert text == (
        "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n"
        "\n# Entries added by HostAliases.\n192.0.2.1\ta\tb\n"
    )


@pytest.mark.parametrize(
    ("policy", "host_network", "meant"),
    [
        ("ClusterFirst", False, "ClusterFirst"),
        ("ClusterFirst", True, "Default"),
        ("ClusterFirstWithHostNet", True, "ClusterFirstWithHostNet"),
        ("Default", True, "Default"),
        ("None", True, "None"),
    ],
)
def test_dns_policies(policy, host_network, meant):
    assert podfiles.effective_policy(policy, host_network) == meant


@pytest.mark.parametrize(
    ("wanted", "taken", "clash"),
    [
        (("0.0.0.0", "TCP", 80), ("0.0.0.0", "TCP", 80), True),
        (("0.0.0.0", "TCP", 80), ("0.0.0.0", "UDP", 80), False),
        (("0.0.0.0", "TCP", 80), ("0.0.0.0", "TCP", 81), False),
        (("127.0.0.1", "TCP", 80), ("0.0.0.0", "TCP", 80), True),
        (("0.0.0.0", "TCP", 80), ("127.0.0.1", "TCP", 80), True),
        (("127.0.0.1", "TCP", 80), ("172.18.0.2", "TCP", 80), False),
    ],
)
def test_node_ports_that_clash(wanted, taken, clash):
    """HostPortInfo.CheckConflict."""
    assert bool(conflict([HostPort(*wanted, 1)], [HostPort(*taken, 2)])) is clash


def ported(port):
    return {"hostNetwork": True, "containers": [{**CONTAINER, "ports": [{"containerPort": port}]}]}


def test_a_port_of_a_node_is_given_once():
    spec = ported(80)
    made = plan.plan(store(deployment(2, **spec)), cluster(), ())
    assert [item["spec"]["nodeName"] for item in made.pods] == ["w1", "w2"] and made.problems == ()
    (problem,) = plan.plan(store(deployment(3, **spec)), cluster(), ()).problems
    assert str(problem) == (
        "Deployment/web: spec.template.spec: no node of 3 can run the pod: cp has the taint "
        "node-role.kubernetes.io/control-plane:NoSchedule, which the pod does not tolerate; "
        "w1 didn't have free ports for the requested pod ports (80/TCP is taken); "
        "w2 didn't have free ports for the requested pod ports (80/TCP is taken). "
        "Give the pods other ports of the node, or fewer replicas"
    )


def test_what_is_there_has_its_ports():
    there = running(plan.plan(store(deployment(2, **ported(80))), cluster(), ()).pods)
    other = thing("Pod", "other", **ported(80))
    things = (deployment(2, **ported(80)), other)
    assert len(plan.plan(store(*things), cluster(), there).problems) == 1
    other = thing("Pod", "other", **ported(81))
    assert plan.plan(store(things[0], other), cluster(), there).problems == ()


def test_a_pod_that_names_its_node_is_not_spared():
    first, second = (thing("Pod", name, **ported(80), nodeName="w1") for name in ("a", "b"))
    (problem,) = plan.plan(store(first, second), cluster(), ()).problems
    assert "w1 didn't have free ports for the requested pod ports (80/TCP is taken)" in str(problem)


def test_a_user_namespace_goes_with_no_namespace_of_the_node():
    forbidden = "Forbidden: when `hostUsers` is false"
    assert faults(hostUsers=False, hostNetwork=True, hostPID=True, hostIPC=True) == [
        f"spec.hostNetwork: {forbidden}",
        f"spec.hostPID: {forbidden}",
        f"spec.hostIPC: {forbidden}",
    ]
    assert faults(hostUsers=False, shareProcessNamespace=True) == []
    device = {**CONTAINER, "volumeDevices": [{"name": "v", "devicePath": "/dev/x"}]}
    assert f"spec.containers.0.volumeDevices: {forbidden}" in faults(hostUsers=False, containers=[device])


def test_a_user_namespace_maps_65536_users():
    inner = {**CONTAINER, "securityContext": {"runAsUser": 65535, "runAsGroup": 65536}}
    outer = {"runAsUser": 65536, "supplementalGroups": [1, 65537]}
    message = "must be less than 65536 when `hostUsers` is false, and it is"
    assert faults(hostUsers=False, containers=[inner], securityContext=outer) == [
        f"spec.containers.0.securityContext.runAsGroup: {message} 65536",
        f"spec.securityContext.runAsUser: {message} 65536",
        f"spec.securityContext.supplementalGroups.1: {message} 65537",
    ]
    assert faults(hostUsers=True, containers=[inner], securityContext=outer) == []
