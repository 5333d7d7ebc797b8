"""A pod's sandbox: pause, its namespaces, address, routes, files, shared memory and cgroups."""

from __future__ import annotations

import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from podlab.linux import cgroup, process
from podlab.linux.mountinfo import mounts
from podlab.runtime import paths, sandbox
from support import runtime

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]
SLEEP = {"command": ["sleep", "1000"]}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.one_node(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="module")
def pods(lab: runtime.Lab) -> list[runtime.Pod]:
    """Two pods; the first has two containers, requests and aliases."""
    resources = {"requests": {"cpu": "100m", "memory": "16Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}
    first = lab.pod(
        {**SLEEP, "resources": resources},
        {**SLEEP, "resources": resources},
        name="first",
        subdomain="sub",
        hostname="own-name",
        hostAliases=[{"ip": "192.0.2.9", "hostnames": ["one", "two"]}],
    )
    # One after the other, so that the first has the first address.
    return [*lab.start(first), *lab.start(lab.pod(SLEEP, name="second"))]


def namespace(pid: int, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def ip(pod: runtime.Pod, *argv: str) -> list[Any]:
    """What `ip` says in the pod's network namespace."""
    found: list[Any] = json.loads(nsenter(pod, "ip", "-j", *argv) or "[]")
    return found


def nsenter(pod: runtime.Pod, *argv: str) -> str:
    return pod.lab.in_node("nsenter", "--target", str(pod.status()["podlab"]["pause"]), "--net", *argv)


def node_ip(lab: runtime.Lab, *argv: str) -> list[Any]:
    found: list[Any] = json.loads(lab.in_node("ip", "-j", *argv))
    return found


def test_they_run(pods: list[runtime.Pod]) -> None:
    assert [pod.said for pod in pods] == ["", ""]
    assert [pod.status()["phase"] for pod in pods] == ["Running", "Running"]
    assert [pod.status()["podIP"] for pod in pods] == ["10.244.0.2", "10.244.0.3"]
    assert {pod.status()["hostIP"] for pod in pods} == {"172.18.0.2"}


class TestPause:
    """The process that holds the pod's namespaces, and can do nothing else."""

    def test_namespaces(self, pods: list[runtime.Pod]) -> None:
        first, second = (pod.pause() for pod in pods)
        node = pods[0].lab.record["pid"]
        for kind in ("net", "ipc", "uts", "pid", "mnt"):
            assert len({namespace(pid, kind) for pid in (first, second, node)}) == 3, kind
        assert namespace(first, "user") == namespace(node, "user")

    def test_containers_share_net_ipc_and_uts_and_no_other(self, pods: list[runtime.Pod]) -> None:
        pause, one, two = pods[0].pause(), pods[0].pid("c0"), pods[0].pid("c1")
        for kind in ("net", "ipc", "uts"):
            assert {namespace(pid, kind) for pid in (pause, one, two)} == {namespace(pause, kind)}, kind
        for kind in ("mnt", "pid"):
            assert len({namespace(pid, kind) for pid in (pause, one, two)}) == 3, kind

    def test_it_is_pid_1_and_the_supervisors_child(self, pods: list[runtime.Pod]) -> None:
        pause = pods[0].pause()
        assert process.ns_pids(pause)[-1] == 1 and len(process.ns_pids(pause)) == 3
        assert pause in process.children(pods[0].supervisor())
        assert pathlib.Path(f"/proc/{pause}/cmdline").read_bytes() == b"/pause\0"
        assert pathlib.Path(f"/proc/{pause}/environ").read_bytes().count(b"=") == 1

    def test_it_has_no_capability(self, pods: list[runtime.Pod]) -> None:
        status = facts(pods[0].pause())
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"
        assert (status["SigBlk"], status["SigIgn"]) == ("0" * 16, "0" * 16)

    def test_the_kernel_spares_it_where_that_can_be_asked_for(self, pods: list[runtime.Pod]) -> None:
        own = int(pathlib.Path("/proc/self/oom_score_adj").read_text())
        may = int(facts(os.getpid())["CapEff"], 16) >> runtime.CAP_SYS_RESOURCE & 1
        expected = sandbox.SANDBOX_OOM_SCORE if may else own
        assert pathlib.Path(f"/proc/{pods[0].pause()}/oom_score_adj").read_text() == f"{expected}\n"

    def test_its_root_is_read_only_and_holds_itself_alone(self, pods: list[runtime.Pod]) -> None:
        pause = pods[0].pause()
        (root,) = mounts(pause)
        assert root.mount_point == "/" and "ro" in root.options
        # Where it was built, its source is beside it.
        assert {"pause"} <= set(os.listdir(f"/proc/{pause}/root")) <= {"pause", "pause.c"}

    def test_nothing_is_open(self, pods: list[runtime.Pod]) -> None:
        pause = pods[0].pause()
        assert {os.readlink(f"/proc/{pause}/fd/{each}") for each in os.listdir(f"/proc/{pause}/fd")} == {"/dev/null"}


def facts(pid: int) -> dict[str, str]:
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines}


class TestNetwork:
    """As kindnet's ptp plugin leaves it."""

    def test_the_pods_end(self, pods: list[runtime.Pod]) -> None:
        links = {link["ifname"]: link for link in ip(pods[0], "address")}
        assert set(links) == {"lo", "eth0"}
        assert all("UP" in link["flags"] for link in links.values())
        (address,) = (each for each in links["eth0"]["addr_info"] if each["family"] == "inet")
        assert (address["local"], address["prefixlen"]) == ("10.244.0.2", 24)
        assert links["eth0"]["mtu"] == 1500

    def test_the_pods_routes(self, pods: list[runtime.Pod]) -> None:
        found = nsenter(pods[0], "ip", "-4", "route")
        assert [line.strip() for line in found.splitlines()] == [
            "default via 10.244.0.1 dev eth0",
            "10.244.0.0/24 via 10.244.0.1 dev eth0 src 10.244.0.2",
            "10.244.0.1 dev eth0 scope link",
        ]

    def test_the_nodes_end(self, pods: list[runtime.Pod]) -> None:
        for pod in pods:
            name = sandbox.veth_name(pod.status()["podlab"]["sandbox"])
            (link,) = node_ip(pod.lab, "-d", "address", "show", "dev", name)
            assert link["linkinfo"]["info_kind"] == "veth" and link["mtu"] == 1500
            local = [(each["local"], each["prefixlen"]) for each in link["addr_info"] if each["family"] == "inet"]
            assert local == [("10.244.0.1", 32)]
            routes = pod.lab.in_node("ip", "route", "show", "dev", name).strip()
            assert routes == f"{pod.status()['podIP']} scope link"

    def test_names_follow_the_plugin(self, pods: list[runtime.Pod]) -> None:
        names = {link["ifname"] for link in node_ip(pods[0].lab, "link")} - {"lo"}
        assert len(names) == 2 and all(re.fullmatch("veth[0-9a-f]{8}", name) for name in names)

    def test_pods_reach_each_other_through_the_node(self, pods: list[runtime.Pod]) -> None:
        pods[0].lab.in_node("sysctl", "-qw", "net.ipv4.ip_forward=1")
        assert "ttl=63" in pods[0].sh("ping -c 1 -W 5 10.244.0.3")
        assert "ttl=64" in pods[0].sh("ping -c 1 -W 5 10.244.0.1")

    def test_containers_share_lo(self, pods: list[runtime.Pod]) -> None:
        pods[0].sh("httpd -p 127.0.0.1:8080 -h /etc", container="c0")
        assert pods[0].sh("wget -q -O - http://127.0.0.1:8080/hostname", container="c1") == "own-name\n"
        assert pods[1].exec("wget", "-q", "-O", "-", "http://127.0.0.1:8080/hostname").code == 1

    def test_sysctls(self, pods: list[runtime.Pod]) -> None:
        names = "/proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range"
        assert pods[0].sh(f"cat {names}").split() == ["0", "0", "2147483647"]

    def test_the_store_is_host_locals(self, pods: list[runtime.Pod]) -> None:
        store = pathlib.Path(paths.ipam_dir(pods[0].lab.name, pods[0].lab.record["name"]))
        for pod in pods:
            identity = pod.status()["podlab"]["sandbox"]
            assert (store / pod.status()["podIP"]).read_bytes() == f"{identity}\r\neth0".encode()
            assert re.fullmatch("[0-9a-f]{64}", identity)


class TestFiles:
    """What the kubelet and the runtime write for a pod."""

    def test_hosts(self, pods: list[runtime.Pod]) -> None:
        assert pods[0].sh("cat /etc/hosts") == (
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
            "fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
            "10.244.0.2\town-name.sub.default.svc.cluster.local\town-name\n"
            "\n# Entries added by HostAliases.\n192.0.2.9\tone\ttwo\n"
        )

    def test_hostname(self, pods: list[runtime.Pod]) -> None:
        assert pods[0].sh("hostname; cat /etc/hostname; echo $HOSTNAME") == "own-name\n" * 3
        assert pods[1].sh("hostname") == "second\n"

    def test_resolv_conf(self, pods: list[runtime.Pod]) -> None:
        assert pods[0].sh("cat /etc/resolv.conf") == (
            "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
        )

    def test_they_can_be_written_and_are_the_pods(self, pods: list[runtime.Pod]) -> None:
        before = pods[0].sh("cat /etc/hosts", container="c1")
        pods[0].sh("echo 192.0.2.77 here >> /etc/hosts")
        assert pods[0].sh("cat /etc/hosts", container="c1") == before + "192.0.2.77 here\n"
        assert "192.0.2.77" not in pods[1].sh("cat /etc/hosts")

    def test_state_is_for_root_only(self, pods: list[runtime.Pod]) -> None:
        assert os.stat(pods[0].directory).st_mode & 0o777 == 0o700
        for name in ("config.json", "pod.json", "status.json"):
            assert os.stat(f"{pods[0].directory}/{name}").st_mode & 0o777 == 0o600


class TestSharedMemory:
    """One tmpfs of 64 MiB per pod."""

    def test_its_size(self, pods: list[runtime.Pod]) -> None:
        assert pods[0].sh("df -k /dev/shm | tail -1").split()[1] == "65536"
        ran = pods[1].exec("dd", "if=/dev/zero", "of=/dev/shm/big", "bs=1M", "count=65")
        assert ran.code == 1 and "No space left on device" in ran.err
        pods[1].sh("rm /dev/shm/big")

    def test_containers_share_it_and_pods_do_not(self, pods: list[runtime.Pod]) -> None:
        pods[0].sh("echo shared > /dev/shm/x", container="c0")
        assert pods[0].sh("cat /dev/shm/x", container="c1") == "shared\n"
        assert pods[1].sh("ls /dev/shm") == ""


class TestCgroups:
    """As the kubelet (cgroupfs driver, kind's root) sets them."""

    def test_paths_and_values(self, pods: list[runtime.Pod]) -> None:
        lab, trees = pods[0].lab, cgroup.detect()
        burstable = f"kubelet/kubepods/burstable/pod{pods[0].uid}"
        assert pods[0].config["cgroup_parent"] == burstable
        pod = trees.read(lab.cgroup(burstable))
        assert (pod.cpu_shares, pod.cpu_quota_us, pod.memory_limit) == (204, 40000, 134217728)
        identity = pods[0].status()["podlab"]["sandbox"]
        assert trees.read(lab.cgroup(f"{burstable}/{identity}")).cpu_shares == 2
        assert trees.pids(lab.cgroup(f"{burstable}/{identity}")) == [pods[0].pause()]

    def test_best_effort(self, pods: list[runtime.Pod]) -> None:
        lab, trees = pods[1].lab, cgroup.detect()
        path = lab.cgroup(f"kubelet/kubepods/besteffort/pod{pods[1].uid}")
        found = trees.read(path)
        assert found.cpu_shares == 2 and found.cpu_quota_us in (None, -1)
        assert pods[1].status()["qosClass"] == "BestEffort"


def test_the_same_sandbox_name_for_the_same_attempt() -> None:
    assert sandbox.sandbox_id("u", 0) == sandbox.sandbox_id("u", 0) != sandbox.sandbox_id("u", 1)
    assert sandbox.veth_name("0123456789") == "veth01234567"
