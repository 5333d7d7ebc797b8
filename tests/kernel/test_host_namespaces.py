"""Every combination of shareProcessNamespace, hostNetwork, hostPID and hostIPC: who shares which namespace."""

from __future__ import annotations

import itertools
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from podlab.kube import sysctls
from podlab.linux import cgroup, process
from podlab.linux.mountinfo import mounts
from support import runtime

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]
SLEEP = {"command": ["sleep", "1000"]}
FIELDS = ("shareProcessNamespace", "hostNetwork", "hostPID", "hostIPC")
# Both are refused by validation.
COMBINATIONS = [
    dict(zip(FIELDS, values))
    for values in itertools.product((False, True), repeat=len(FIELDS))
    if not (values[0] and values[2])
]
# Kind -> whose it is: each container's own, the pod's, or the node's.
CONTAINER, POD, NODE = "container", "pod", "node"


def name_of(spec: dict[str, bool]) -> str:
    return "-".join(field for field in FIELDS if spec[field]).lower() or "none"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.one_node(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="module")
def pods(lab: runtime.Lab) -> dict[str, runtime.Pod]:
    """One pod of two containers for each combination."""
    planned = [lab.pod(SLEEP, SLEEP, name=name_of(spec), **spec) for spec in COMBINATIONS]
    return {pod.config["name"]: pod for pod in lab.start(*planned)}


def wanted(spec: dict[str, bool]) -> dict[str, str]:
    """The table: containerd's and the kubelet's."""
    pid = NODE if spec["hostPID"] else POD if spec["shareProcessNamespace"] else CONTAINER
    network = NODE if spec["hostNetwork"] else POD
    ipc = NODE if spec["hostIPC"] else POD
    return {"net": network, "uts": network, "ipc": ipc, "pid": pid, "mnt": CONTAINER, "user": NODE, "time": NODE}


def found(pod: runtime.Pod) -> dict[str, str]:
    """The same, as the links in /proc say."""
    pids = [pod.pause(), pod.pid("c0"), pod.pid("c1")]
    made = {}
    for kind in wanted(COMBINATIONS[0]):
        links = {os.readlink(f"/proc/{pid}/ns/{kind}") for pid in pids}
        node = os.readlink(f"/proc/{pod.lab.record['pid']}/ns/{kind}")
        made[kind] = NODE if links == {node} else {1: POD, 3: CONTAINER}.get(len(links), str(links))
    return made


@pytest.mark.parametrize("spec", COMBINATIONS, ids=name_of)
def test_1_1_namespaces(pods: dict[str, runtime.Pod], spec: dict[str, bool]) -> None:
    pod = pods[name_of(spec)]
    assert pod.said == "" and pod.status()["phase"] == "Running"
    assert found(pod) == wanted(spec)
    # What exec enters is what the start has made.
    links = pod.sh("for kind in net uts ipc pid mnt; do readlink /proc/self/ns/$kind; done")
    main = [os.readlink(f"/proc/{pod.pid()}/ns/{kind}") for kind in ("net", "uts", "ipc", "pid", "mnt")]
    assert links.split() == main


@pytest.mark.parametrize("spec", COMBINATIONS, ids=name_of)
def test_1_2_shared_memory_is_the_pods_or_the_nodes(pods: dict[str, runtime.Pod], spec: dict[str, bool]) -> None:
    pod = pods[name_of(spec)]
    node = pathlib.Path(f"/proc/{pod.lab.record['pid']}/root/dev/shm")
    shm = {os.stat(f"/proc/{pod.pid(name)}/root/dev/shm").st_dev for name in ("c0", "c1")}
    assert len(shm) == 1
    assert (shm == {node.stat().st_dev}) is spec["hostIPC"]


@pytest.mark.parametrize("spec", COMBINATIONS, ids=name_of)
def test_1_8_names_and_files(pods: dict[str, runtime.Pod], spec: dict[str, bool]) -> None:
    pod = pods[name_of(spec)]
    node = pod.lab.record["name"]
    host = node if spec["hostNetwork"] else name_of(spec)
    said = pod.sh('uname -n; echo "$HOSTNAME"; cat /etc/hostname')
    assert said == f"{host}\n" * 3
    hosts = pod.sh("cat /etc/hosts")
    if spec["hostNetwork"]:
        assert hosts == "# Kubernetes-managed hosts file (host network).\n" + runtime.FILES["hosts"]
        assert pod.status()["podIP"] == pod.status()["hostIP"] == "172.18.0.2"
        # ClusterFirst is Default here.
        assert pod.sh("cat /etc/resolv.conf") == "nameserver 192.0.2.1\n"
    else:
        assert hosts.endswith(f"fe00::2\tip6-allrouters\n{pod.status()['podIP']}\t{host}\n")
        assert "nameserver 10.96.0.10\n" in pod.sh("cat /etc/resolv.conf")


def test_the_host_network_takes_no_address_and_no_link(lab: runtime.Lab, pods: dict[str, runtime.Pod]) -> None:
    own = [pod for pod in pods.values() if not pod.config["host_network"]]
    links = lab.in_node("ip", "-o", "link", "show", "type", "veth").splitlines()
    held = lab.in_node("ls", "/run/cni-ipam-state/kindnet").split()
    assert len(links) == len(own)
    assert sorted(name for name in held if name[0].isdigit()) == sorted(pod.status()["podIP"] for pod in own)


def test_the_sysctls_of_a_pod_do_not_reach_the_node(lab: runtime.Lab, pods: dict[str, runtime.Pod]) -> None:
    file = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
    assert pods["none"].sh(f"cat {file}") == "0\n"
    assert pods["hostnetwork"].sh(f"cat {file}") == lab.in_node("cat", file) == "1024\n"


SYSCTLS = {
    "net/ipv4/tcp_keepalive_time": "600",
    "net.ipv4.ip_local_port_range": "1024\t65000",
    "net.core.somaxconn": "77",
    "kernel.shm_rmid_forced": "1",
    "kernel.msgmax": "4321",
    "kernel.sem": "33 44 55 66",
    "fs.mqueue.msg_max": "11",
    "net.ipv4.ip_unprivileged_port_start": "81",
}


def test_1_6_t_linux_sysctl_they_are_the_pods_alone(lab: runtime.Lab, pods: dict[str, runtime.Pod]) -> None:
    files = ["/proc/sys/" + sysctls.normal(name).replace(".", "/") for name in SYSCTLS]
    before = lab.in_node("cat", *files)
    given = [{"name": name, "value": value} for name, value in SYSCTLS.items()]
    pod = lab.run_pod(SLEEP, shareProcessNamespace=True, securityContext={"sysctls": given})
    assert pod.said == "" and pod.status()["phase"] == "Running"
    read = pod.sh(f"cat {' '.join(files)}").splitlines()
    assert [line.split() for line in read] == [value.split() for value in SYSCTLS.values()]
    # The one that the pod does not mention is what every pod has.
    assert pod.sh("cat /proc/sys/net/ipv4/ping_group_range").split() == ["0", "2147483647"]
    assert lab.in_node("cat", *files) == before
    assert pods["none"].sh("cat /proc/sys/net/core/somaxconn") != "77\n"
    pod.delete(0)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/x", "Invalid argument"),
        ("net.ipv4.no_such_thing", "1", "No such file or directory"),
    ],
)
def test_row_23_a_value_is_the_kernels_to_refuse(lab: runtime.Lab, name: str, value: str, why: str) -> None:
    """CVE-2022-0811: no word of a value is ever another setting."""
    pattern = pathlib.Path("/proc/sys/kernel/core_pattern").read_text()
    before = runtime.trace(lab.name)
    pod = lab.start(lab.pod(SLEEP, securityContext={"sysctls": [{"name": name, "value": value}]}))[0]
    waiting = pod.container()["state"]["waiting"]
    assert waiting["reason"] == "ContainerCreating"
    assert waiting["message"] == f"FailedCreatePodSandBox: sysctl {name} cannot be '{value}': {why}"
    pod.delete(0)
    assert pathlib.Path("/proc/sys/kernel/core_pattern").read_text() == pattern
    runtime.assert_same(before, runtime.trace(lab.name))


def test_row_23_a_name_never_leads_out_of_proc_sys(lab: runtime.Lab) -> None:
    """Past all validation: a file beside /proc/sys, spelled as a setting of the network."""
    planned = lab.pod(SLEEP)
    before = runtime.trace(lab.name)
    pod = lab.start_config(planned, lab.config(planned, sysctls={"net": {"net/../../sysrq-trigger": ""}}))
    assert "Invalid cross-device link" in pod.container()["state"]["waiting"]["message"]
    pod.delete(0)
    runtime.assert_same(before, runtime.trace(lab.name))


def test_v_host_pid_shows_the_nodes_processes(lab: runtime.Lab, pods: dict[str, runtime.Pod]) -> None:
    pod = pods["hostpid"]
    assert pod.sh("cat /proc/1/comm") == "pause\n"
    # The node's first process, and the supervisors of the pods.
    assert int(pod.sh("ls -d /proc/[0-9]* | wc -l")) > 3 * len(pods)
    assert pods["none"].sh("ls -d /proc/[0-9]* | head -1") == "/proc/1\n"


def test_v_host_ipc_shows_the_nodes_segments(lab: runtime.Lab, pods: dict[str, runtime.Pod]) -> None:
    identity = lab.in_node("ipcmk", "--shmem", "4096").split()[-1]
    try:
        seen = {name: identity in pod.sh("cat /proc/sysvipc/shm").split() for name, pod in pods.items()}
    finally:
        lab.in_node("ipcrm", "--shmem-id", identity)
    assert seen == {name: pod.config["host_ipc"] for name, pod in pods.items()}


@pytest.mark.parametrize("name", ["none", "hostnetwork"])
def test_sysfs_shows_the_network_that_the_container_has(pods: dict[str, runtime.Pod], name: str) -> None:
    said = pods[name].sh("ip -o link | sed 's/^[0-9]*: //; s/[:@].*//'")
    assert sorted(said.split()) == sorted(pods[name].sh("ls /sys/class/net").split())


def test_1_8_names_of_their_own(lab: runtime.Lab) -> None:
    spec = {"hostname": "web", "subdomain": "db"}
    full, over = lab.start(
        lab.pod(SLEEP, name="full", setHostnameAsFQDN=True, **spec),
        lab.pod(SLEEP, name="over", hostnameOverride="over.example", **spec),
    )
    fqdn = "web.db.default.svc.cluster.local"
    for pod, name, names in ((full, fqdn, f"{fqdn}\tweb"), (over, "over.example", "over.example")):
        assert pod.said == ""
        assert pod.sh('uname -n; echo "$HOSTNAME"; cat /etc/hostname') == f"{name}\n" * 3
        assert pod.sh("tail -1 /etc/hosts") == f"{pod.status()['podIP']}\t{names}\n"
        pod.delete(0)


def test_row_35_exec_joins_the_cgroup_of_the_first_process(pods: dict[str, runtime.Pod]) -> None:
    """The last line is v2's, on a hybrid machine beside v1's; all others are the same, too."""
    for name, pod in pods.items():
        said = pod.sh(f"cat /proc/{process.namespace_pid(pod.pid())}/cgroup; echo; cat /proc/self/cgroup")
        main, own = said.split("\n\n")
        assert own.splitlines() == main.splitlines() and own.startswith("0::") is (own.count("\n") == 1), name


def test_row_31_no_abstract_socket_is_reachable(pods: dict[str, runtime.Pod]) -> None:
    """CVE-2020-15257: not even on the node's network is there one, of ours least of all."""
    for pod in pods.values():
        assert pod.exec("grep", "-c", "@", "/proc/net/unix").out == "0\n"


@pytest.mark.parametrize("name", ["hostpid", "shareprocessnamespace"])
def test_r_kill_every_process_of_a_container_dies_with_its_first(lab: runtime.Lab, name: str) -> None:
    """runc's kill "[host pidns]", "[shared pidns]" and "host pidns + init gone"."""
    script = "(setsid sleep 5000 &) ; (trap '' TERM; exec sleep 6000) & sleep 1; echo ready; exec sleep 7000"
    spec: dict[str, Any] = {"hostpid": {"hostPID": True}, "shareprocessnamespace": {"shareProcessNamespace": True}}[
        name
    ]
    pod = lab.run_pod({"command": ["sh", "-c", script]}, SLEEP, restartPolicy="Never", **spec)
    pod.until_log("ready")
    strays = [runtime.find_command(pod, f"sleep {number}") for number in (5000, 6000)]
    os.kill(pod.pid("c0"), 9)
    assert pod.ended("c0")["exitCode"] == 137
    runtime.wait_for_end(strays)
    # The other container is none of its business.
    assert "running" in pod.container("c1")["state"]
    pod.delete(0)


def test_r_an_orphan_on_the_nodes_pid_namespace_is_reaped(lab: runtime.Lab, pods: dict[str, runtime.Pod]) -> None:
    pod = pods["hostpid"]
    pod.sh("(sh -c 'sleep 0.1' &)")
    zombies = [pid for pid in process.children(pod.supervisor()) if process.start_time(pid) == 0]
    assert zombies == []
    assert set(process.children(pod.supervisor())) == {pod.pause(), pod.pid("c0"), pod.pid("c1")}


def test_pause_gone_takes_the_pod_along_on_the_nodes_pid_namespace(lab: runtime.Lab) -> None:
    pod = lab.run_pod(SLEEP, hostPID=True, hostNetwork=True, hostIPC=True, restartPolicy="Never")
    before = pod.pid()
    os.kill(pod.pause(), 9)
    runtime.wait_for_end([before])
    pod.until(lambda pod: pod.status()["phase"] == "Failed")
    assert not cgroup.detect().exists(lab.cgroup(pod.config["cgroup_parent"]))
    pod.delete(0)


def test_nothing_is_left_of_a_pod_that_was_the_nodes_in_everything(lab: runtime.Lab, pods: dict[str, Any]) -> None:
    before = runtime.trace(lab.name)
    spec = {"hostPID": True, "hostNetwork": True, "hostIPC": True}
    pod = lab.run_pod({"command": ["sh", "-c", "sleep 5001 & exec sleep 5002"]}, **spec)
    assert pod.said == ""
    pod.delete(0)
    # The supervisor killed: what it had started is found by its cgroup.
    pod = lab.run_pod({"command": ["sh", "-c", "sleep 5003 & exec sleep 5004"]}, **spec)
    stray = runtime.find_command(pod, "sleep 5003")
    supervisor = pod.supervisor()
    os.kill(supervisor, 9)
    runtime.wait_for_end([supervisor])
    assert process.start_time(stray)
    pod.delete(0)
    runtime.wait_for_end([stray])
    runtime.assert_same(before, runtime.trace(lab.name))


def test_the_mounts_of_a_container_are_the_same_as_ever(pods: dict[str, runtime.Pod]) -> None:
    """Host namespaces change what /proc, /sys and /dev/shm show, not that they are there, nor their options."""

    def table(pod: runtime.Pod) -> list[tuple[str, str, str]]:
        return [(each.mount_point, each.fstype, ",".join(sorted(each.options))) for each in mounts(pod.pid())]

    plain = [row for row in table(pods["none"]) if row[0] != "/dev/shm"]
    for pod in pods.values():
        assert [row for row in table(pod) if row[0] != "/dev/shm"] == plain
