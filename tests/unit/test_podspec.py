"""The configuration that the runtime starts a pod from."""

from __future__ import annotations

import json

import pytest

from podlab.kube import capabilities, defaults, podspec
from podlab.kube.cluster import Cluster, Node

GIB = 2**30
NODE = Node("kind-worker", "worker", 1, "172.18.0.3", "10.244.1.0/24", {}, (), ())
CLUSTER = Cluster(
    name="kind",
    nodes=(NODE,),
    node_subnet="172.18.0.0/16",
    gateway="172.18.0.1",
    pod_subnet="10.244.0.0/16",
    service_subnet="10.96.0.0/16",
    ip_family="ipv4",
    kube_proxy_mode="iptables",
    dns_service_ip="10.96.0.10",
)
MACHINE = podspec.Machine(memory=8 * GIB, resolv_conf="nameserver 9.9.9.9\n")
IMAGE = {
    "id": "sha256:abc",
    "layers": ["/l/bottom", "/l/top"],
    "config": {"Entrypoint": ["/entry", "$(X)"], "Cmd": ["cmd"], "Env": ["PATH=/bin"], "WorkingDir": "/srv"},
}


def pod(container=None, **spec):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "uid": "u-1", "labels": {"app": "web"}},
        "spec": {
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "nodeName": "kind-worker",
            "containers": [
                {
                    "name": "c",
                    "image": "busybox",
                    "imagePullPolicy": "Always",
                    "terminationMessagePath": "/dev/termination-log",
                    **(container or {}),
                }
            ],
            **spec,
        },
    }


def config(container=None, images=None, services=(), **spec):
    known = {"busybox": IMAGE} if images is None else images
    result = podspec.runtime_config(pod(container, **spec), NODE, CLUSTER, services, known, MACHINE)
    assert json.loads(json.dumps(result)) == result
    return result


def test_whole():
    assert config() == {
        "cluster": "kind",
        "node": "kind-worker",
        "namespace": "default",
        "name": "web",
        "uid": "u-1",
        "labels": {"app": "web"},
        "hostname": "web",
        "hosts_name": "web",
        "domain": "",
        "share_pid": False,
        "host_network": False,
        "host_pid": False,
        "host_ipc": False,
        "host_users": True,
        "host_ports": [],
        "sysctls": {
            "net": {"net/ipv4/ip_unprivileged_port_start": "0", "net/ipv4/ping_group_range": "0 2147483647"},
            "ipc": {},
        },
        "restart_policy": "Always",
        "grace": 30,
        "log_max_size": 10 * 1024 * 1024,
        "log_max_files": 5,
        "qos": "BestEffort",
        "seccomp": {"type": "RuntimeDefault"},
        "cgroup_parent": "kubelet/kubepods/besteffort/podu-1",
        "resources": {"cpu_shares": 2, "cpu_quota_us": None, "memory_limit": None, "hugepages": {}},
        "host_aliases": [],
        "resolv_conf": "search default.svc.cluster.local svc.cluster.local cluster.local\n"
        "nameserver 10.96.0.10\noptions ndots:5\n",
        "network": {"pod_cidr": "10.244.1.0/24", "gateway": "10.244.1.1", "address_prefix": 24, "mtu": 1500},
        "host_ip": "172.18.0.3",
        "volumes": {},
        "readiness_gates": [],
        "containers": [
            {
                "name": "c",
                "image": "busybox",
                "image_id": "sha256:abc",
                "layers": ["/l/top", "/l/bottom"],
                "command": ["/entry", "$$(X)", "cmd"],
                "env": [
                    {"name": "HOSTNAME", "value": "web", "source": "image"},
                    {"name": "PATH", "value": "/bin", "source": "image"},
                ],
                "cwd": "/srv",
                "user": {"uid": 0, "gid": 0, "groups": [], "members": True},
                "caps": list(capabilities.DEFAULT),
                "no_new_privs": False,
                "privileged": False,
                "masked": True,
                "readonly_root": False,
                "seccomp": {"type": "Unconfined"},
                "refusal": "",
                "mounts": [],
                "resources": {"cpu_shares": 2, "cpu_quota_us": None, "memory_limit": None, "hugepages": {}},
                "oom_score_adj": 1000,
                "termination_message_path": "/dev/termination-log",
                "termination_message_policy": "File",
                "stdin": False,
                "stdin_once": False,
                "tty": False,
                "stop_signal": "SIGTERM",
                "image_pull_policy": "Always",
                "probes": {},
                "restart": {"policy": "Always", "rules": []},
                "hooks": {},
                "sidecar": False,
            }
        ],
        "init_containers": [],
        "active_deadline": None,
    }


@pytest.mark.parametrize(
    ("manifest", "argv"),
    [
        ({}, ["/entry", "$$(X)", "cmd"]),
        ({"args": ["a"]}, ["/entry", "$$(X)", "a"]),
        ({"command": ["x"]}, ["x"]),
        ({"command": ["x"], "args": ["$(Y)"]}, ["x", "$(Y)"]),
    ],
)
def test_command(manifest, argv):
    assert config(manifest)["containers"][0]["command"] == argv


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, list(capabilities.DEFAULT)),
        ({"drop": ["ALL"]}, []),
        ({"drop": ["ALL"], "add": ["NET_ADMIN"]}, ["NET_ADMIN"]),
        ({"add": ["ALL"]}, list(capabilities.ALL)),
        ({"add": ["ALL"], "drop": ["SYS_ADMIN"]}, [c for c in capabilities.ALL if c != "SYS_ADMIN"]),
        ({"add": ["CHOWN", "NET_ADMIN", "UNHEARD_OF"], "drop": ["MKNOD"]}, None),
    ],
)
def test_capabilities(wanted, expected):
    if expected is None:
        expected = [*(c for c in capabilities.DEFAULT if c != "MKNOD"), "NET_ADMIN"]
    assert capabilities.effective(wanted) == expected


def test_there_are_41_capabilities_and_the_default_mask_is_containerds():
    assert len(capabilities.ALL) == len(set(capabilities.ALL)) == 41
    assert sum(1 << capabilities.ALL.index(name) for name in capabilities.DEFAULT) == 0xA80425FB


def test_no_new_privs_only_on_explicit_false():
    for value, expected in ((True, False), (False, True)):
        context = {"allowPrivilegeEscalation": value}
        assert config({"securityContext": context})["containers"][0]["no_new_privs"] is expected


def test_mounts_by_depth_and_volumes():
    mounts = [
        {"name": "v", "mountPath": "/a/b"},
        {"name": "h", "mountPath": "/a/", "readOnly": True, "mountPropagation": "HostToContainer"},
        {"name": "v", "mountPath": "/z/y"},
    ]
    volumes = [
        {"name": "v", "emptyDir": {}},
        {"name": "h", "hostPath": {"path": "/tmp", "type": "Directory"}},
        {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
        {"name": "n", "emptyDir": {"medium": "Memory"}},
        {"name": "d", "emptyDir": {"sizeLimit": "1Ki"}},
    ]
    limits = {"limits": {"memory": "64Mi"}}
    result = config({"volumeMounts": mounts, "resources": limits}, volumes=volumes)
    assert [m["path"] for m in result["containers"][0]["mounts"]] == ["/a/", "/a/b", "/z/y"]
    assert result["containers"][0]["mounts"][0] == {
        "volume": "h",
        "path": "/a/",
        "read_only": True,
        "recursive_read_only": "Disabled",
        "propagation": "HostToContainer",
        "sub_path": "",
        "sub_path_expr": "",
    }
    assert result["volumes"] == {
        "v": {"kind": "emptyDir", "medium": "", "size": None, "fs_group": None},
        "h": {"kind": "hostPath", "path": "/tmp", "type": "Directory"},
        "m": {"kind": "emptyDir", "medium": "Memory", "size": 64 * 2**20, "fs_group": None},
        "n": {"kind": "emptyDir", "medium": "Memory", "size": 64 * 2**20, "fs_group": None},
        "d": {"kind": "emptyDir", "medium": "", "size": 1024, "fs_group": None},
    }
    assert config(volumes=volumes)["volumes"]["n"]["size"] == 8 * GIB


def test_env_of_every_source_in_order():
    services = [
        {"metadata": {"name": "db", "namespace": "default"}, "spec": {"clusterIP": "10.96.1.1", "ports": [{"port": 1}]}}
    ]
    fields = ["metadata.name", "metadata.labels['app']", "metadata.labels['none']", "spec.nodeName", "status.hostIP"]
    env = [{"name": "A", "value": "$(B)"}, {"name": "E"}]
    env += [{"name": f"F{n}", "valueFrom": {"fieldRef": {"fieldPath": path}}} for n, path in enumerate(fields)]
    env += [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    entries = config({"env": env}, services=services)["containers"][0]["env"]
    assert entries[2:10] == [
        {"name": "A", "value": "$(B)", "source": "pod"},
        {"name": "E", "value": "", "source": "pod"},
        {"name": "F0", "value": "web", "source": "field"},
        {"name": "F1", "value": "web", "source": "field", "metadata": "metadata.labels['app']"},
        {"name": "F2", "value": "", "source": "field", "metadata": "metadata.labels['none']"},
        {"name": "F3", "value": "kind-worker", "source": "field"},
        {"name": "F4", "value": "172.18.0.3", "source": "field"},
        {"name": "IP", "field": "status.podIP", "source": "field"},
    ]
    assert entries[10] == {"name": "DB_SERVICE_HOST", "value": "10.96.1.1", "source": "service"}


def test_an_image_that_is_not_there_yet():
    box = config({"command": ["sleep"]}, images={})["containers"][0]
    assert (box["image_id"], box["layers"], box["command"], box["cwd"]) == ("", [], ["sleep"], "/")


def test_guaranteed_pod():
    result = config({"resources": {"limits": {"cpu": ".1", "memory": "64Mi"}}})
    assert result["qos"] == "Guaranteed"
    assert result["cgroup_parent"] == "kubelet/kubepods/podu-1"
    assert result["resources"]["memory_limit"] == 64 * 2**20
    assert result["containers"][0]["oom_score_adj"] == -997


PROBES = [
    (
        {
            "exec": {"command": ["a", "$(A)", "$(C)", "$(D)"]},
            "initialDelaySeconds": 3,
            "terminationGracePeriodSeconds": 7,
        },
        {"kind": "exec", "command": ["a", "b", "", "$(D)"], "initial_delay": 3, "grace": 7},
    ),
    ({"tcpSocket": {"port": "web"}}, {"kind": "tcp", "host": "", "port": 8080}),
    (
        {"tcpSocket": {"port": 1, "host": "db"}, "periodSeconds": 0, "failureThreshold": 9, "timeoutSeconds": 2},
        {"kind": "tcp", "host": "db", "port": 1, "failure": 9, "timeout": 2},
    ),
    (
        {"httpGet": {"port": "web"}},
        {"kind": "http", "host": "", "port": 8080, "scheme": "HTTP", "path": "/", "headers": []},
    ),
    (
        {
            "httpGet": {
                "port": 1,
                "path": "a b?c=%20&d=\u00e9",
                "scheme": "HTTPS",
                "httpHeaders": [{"name": "X", "value": "y"}],
            },
            "successThreshold": 2,
        },
        {
            **{"kind": "http", "host": "", "port": 1, "scheme": "HTTPS", "path": "/a%20b?c=%20&d=%C3%A9", "success": 2},
            "headers": [{"name": "X", "value": "y"}],
        },
    ),
]


@pytest.mark.parametrize(("probe", "expected"), PROBES, ids=range(len(PROBES)))
def test_probes(probe, expected):
    ports = [{"containerPort": 1234}, {"name": "web", "containerPort": 8080}]
    env = [{"name": "A", "value": "b"}, {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    complete = defaults.pod_spec({"containers": [{"image": "busybox", "readinessProbe": probe}]})["containers"][0]
    (found,) = config({**complete, "ports": ports, "env": env})["containers"]
    usual = {"initial_delay": 0, "timeout": 1, "period": 10, "success": 1, "failure": 3, "grace": None}
    assert found["probes"] == {"readiness": {**usual, **expected}}


def test_readiness_gates():
    assert config(readinessGates=[{"conditionType": "a/b"}])["readiness_gates"] == ["a/b"]


def test_init_containers_are_containers_that_count():
    def init(name, memory, **more):
        return {"name": name, "image": "busybox", "resources": {"limits": {"cpu": "1", "memory": memory}}, **more}

    complete = defaults.pod_spec(
        {
            "activeDeadlineSeconds": 7,
            "containers": [init("c", "64Mi")],
            "initContainers": [init("s", "32Mi", restartPolicy="Always"), init("i", "256Mi")],
        }
    )
    found = config(complete["containers"][0], initContainers=complete["initContainers"], activeDeadlineSeconds=7)
    assert [(each["name"], each["sidecar"], each["restart"]["policy"]) for each in found["init_containers"]] == [
        ("s", True, "Always"),
        ("i", False, "OnFailure"),
    ]
    assert (found["qos"], found["active_deadline"]) == ("Guaranteed", 7)
    assert (found["resources"]["memory_limit"], found["resources"]["cpu_quota_us"]) == (288 * 2**20, 200000)
    assert found["init_containers"][0]["layers"] == found["containers"][0]["layers"]
