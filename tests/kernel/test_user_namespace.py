"""Pods with `hostUsers: false`: a user namespace of their own, with everything that hangs on it."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import Any

import pytest

from podlab.kube import capabilities
from podlab.linux import capabilities as masks
from podlab.linux import process, syscalls
from podlab.linux.usernamespace import SIZE
from podlab.runtime import paths
from support import runtime

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]
SLEEP = {"command": ["sleep", "1000"]}
NS_GET_USERNS = 0xB701
KINDS = ("net", "ipc", "uts", "pid", "mnt")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.one_node(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory of the machine for hostPath volumes."""
    directory = tmp_path_factory.mktemp("shared")
    (directory / "of-root").write_text("root's\n")
    (directory / "of-1000").write_text("1000's\n")
    os.chown(directory / "of-1000", 1000, 1000)
    return directory


@pytest.fixture(scope="module")
def pods(lab: runtime.Lab, shared: pathlib.Path) -> list[runtime.Pod]:
    """Two pods with user namespaces, each of a root and a user of numbers; the second shares its processes."""
    mounted = [
        {"name": "data", "mountPath": "/data"},
        {"name": "memory", "mountPath": "/memory"},
        {"name": "host", "mountPath": "/host", "readOnly": True},
    ]
    volumes = [
        {"name": "data"},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "host", "hostPath": {"path": str(shared)}},
    ]
    probe = {"exec": {"command": ["sh", "-c", "grep -q ' 65536$' /proc/self/uid_map"]}, "periodSeconds": 3600}
    containers = [
        {**SLEEP, "volumeMounts": mounted, "readinessProbe": probe},
        {**SLEEP, "volumeMounts": mounted, "securityContext": {"runAsUser": 1000, "runAsGroup": 2000}},
        {**SLEEP, "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}, "readOnlyRootFilesystem": True}},
        {"command": ["sh", "-c", "tty; stat -c '%u %g' $(tty); exec sleep 1000"], "tty": True, "stdin": True},
    ]
    first = lab.pod(*containers, name="first", volumes=volumes, hostUsers=False)
    second = lab.pod(*containers, name="second", volumes=volumes, hostUsers=False, shareProcessNamespace=True)
    made = lab.start(first, second)
    assert [pod.said for pod in made] == ["", ""]
    for pod in made:
        # The only probe that there will be has been: no trace of the lab shows its process.
        pod.until(lambda pod: "running" in pod.container("c2")["state"] and pod.container()["ready"])
    return made


def base_of(pod: runtime.Pod) -> int:
    noted: dict[str, Any] = json.loads(pathlib.Path(pod.directory, "userns").read_text())
    return int(noted["uidMappings"][0]["hostId"])


def facts(pid: int) -> dict[str, str]:
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines}


def owner_of(pid: int, kind: str) -> int:
    """Inode of the user namespace that a namespace of the process belongs to."""
    fd = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
    owner = fcntl.ioctl(fd, NS_GET_USERNS)
    inode = os.fstat(owner).st_ino
    os.close(owner)
    os.close(fd)
    return inode


class TestRow21IdMaps:
    """security.md row 21, and pods.md 1.1."""

    def test_maps(self, pods: list[runtime.Pod]) -> None:
        for pod in pods:
            for name in ("uid_map", "gid_map"):
                inside = pod.sh(f"cat /proc/self/{name}").split()
                assert inside == ["0", str(base_of(pod)), str(SIZE)]
            assert pod.sh("cat /proc/self/setgroups") == "allow\n"

    def test_ranges_are_disjoint_and_not_the_machines(self, pods: list[runtime.Pod]) -> None:
        bases = [base_of(pod) for pod in pods]
        assert len(set(bases)) == 2
        assert all(base >= SIZE and base % SIZE == 0 for base in bases)

    def test_every_process_of_the_pod_is_one_of_its_users(self, pods: list[runtime.Pod]) -> None:
        for pod in pods:
            base = base_of(pod)
            assert facts(pod.pause())["Uid"].split() == [str(base)] * 4
            assert facts(pod.pid("c0"))["Uid"].split() == [str(base)] * 4
            assert facts(pod.pid("c1"))["Uid"].split() == [str(base + 1000)] * 4
            assert facts(pod.pid("c1"))["Gid"].split() == [str(base + 2000)] * 4

    def test_the_range_is_the_pods_for_as_long_as_it_is_there(self, lab: runtime.Lab, pods: list[runtime.Pod]) -> None:
        """As the kubelet, we read what is noted: another pod never gets it, and the pod itself again after a crash."""
        pod = lab.start(lab.pod(SLEEP, name="crashes", hostUsers=False))[0]
        base = base_of(pod)
        assert base not in [base_of(other) for other in pods]
        supervisor = pod.supervisor()
        os.kill(supervisor, 9)
        runtime.wait_for_end([supervisor])
        (other,) = lab.start(lab.pod(SLEEP, name="other", hostUsers=False))
        assert base_of(other) not in [base, *(base_of(each) for each in pods)]
        assert lab.start_config(pod.pod, pod.config).said == ""
        assert base_of(pod) == base and pod.sh("cat /proc/self/uid_map").split()[1] == str(base)
        pod.delete(0)
        # The lowest that is free.
        (third,) = lab.start(lab.pod(SLEEP, name="third", hostUsers=False))
        assert base_of(third) == base
        third.delete(0)
        other.delete(0)

    def test_pods_of_another_lab_count(self, lab: runtime.Lab) -> None:
        elsewhere = pathlib.Path(paths.pods_dir("elsewhere"), "some-uid")
        elsewhere.mkdir(parents=True)
        mapping = [{"hostId": number * SIZE, "containerId": 0, "length": SIZE} for number in (3,)]
        (elsewhere / "userns").write_text(json.dumps({"uidMappings": mapping, "gidMappings": mapping}))
        made = lab.start(lab.pod(SLEEP, hostUsers=False))[0]
        assert base_of(made) == 4 * SIZE
        made.delete(0)
        (elsewhere / "userns").unlink()
        for directory in (elsewhere, *list(elsewhere.parents)[:2]):
            directory.rmdir()


class TestNamespaces:
    """Who has which, and whose it is."""

    def test_1_1_one_per_pod(self, lab: runtime.Lab, pods: list[runtime.Pod]) -> None:
        node = os.stat(f"/proc/{lab.record['pid']}/ns/user").st_ino
        seen = []
        for pod in pods:
            pids = [pod.pause(), *(pod.pid(name) for name in ("c0", "c1", "c2"))]
            links = {os.stat(f"/proc/{pid}/ns/user").st_ino for pid in pids}
            assert len(links) == 1
            seen += links
        assert len({node, *seen}) == 3

    def test_1_1_the_others_belong_to_it(self, pods: list[runtime.Pod]) -> None:
        for pod in pods:
            mine = os.stat(f"/proc/{pod.pause()}/ns/user").st_ino
            for pid in (pod.pause(), pod.pid("c0"), pod.pid("c2")):
                assert {kind: owner_of(pid, kind) for kind in KINDS} == dict.fromkeys(KINDS, mine)

    def test_shared_processes(self, pods: list[runtime.Pod]) -> None:
        assert pods[0].sh("cat /proc/1/comm") == "sleep\n"
        assert pods[1].sh("cat /proc/1/comm") == "pause\n"

    def test_exec_and_probes_enter_them_all(self, pods: list[runtime.Pod]) -> None:
        for pod in pods:
            said = pod.sh("for kind in user net ipc uts pid mnt cgroup; do readlink /proc/self/ns/$kind; done")
            kinds = ("user", "net", "ipc", "uts", "pid", "mnt", "cgroup")
            assert said.split() == [os.readlink(f"/proc/{pod.pid()}/ns/{kind}") for kind in kinds]
            pod.until(lambda pod: pod.container("c0")["ready"])

    def test_exec_equals_start(self, pods: list[runtime.Pod]) -> None:
        names = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
        for name in ("c0", "c1", "c2"):
            own = pods[0].sh("cat /proc/self/status", container=name)
            first = pods[0].sh("cat /proc/1/status", container=name)

            def table(text: str) -> dict[str, list[str]]:
                lines = (line.partition(":") for line in text.splitlines())
                return {key: value.split() for key, _, value in lines if key in names}

            assert table(own) == table(first)

    def test_standard_streams_are_the_users(self, pods: list[runtime.Pod]) -> None:
        for name in ("c0", "c1", "c2"):
            assert pods[0].sh("echo out > /dev/stdout", container=name) == "out\n"
            assert (
                pods[0].sh("stat -L -c %u /proc/1/fd/1; id -u", container=name).split()
                == [pods[0].sh("id -u", container=name).strip()] * 2
            )

    def test_capabilities_are_the_table_s(self, pods: list[runtime.Pod]) -> None:
        default = masks.mask(capabilities.DEFAULT)
        assert int(facts(pods[0].pid("c0"))["CapBnd"], 16) == default
        assert int(facts(pods[0].pid("c0"))["CapEff"], 16) == default
        assert int(facts(pods[0].pid("c1"))["CapEff"], 16) == 0
        assert int(facts(pods[0].pid("c2"))["CapEff"], 16) == default | masks.mask(["SYS_ADMIN"])


class TestFiles:
    """Idmapped mounts: the image's and the volumes' owners are the pod's, on the disk nothing is chowned."""

    def test_the_image_is_the_pods_roots(self, pods: list[runtime.Pod]) -> None:
        assert pods[0].sh("stat -c '%u %g' / /bin/busybox /etc/passwd /root").split() == ["0"] * 8

    def test_what_is_written_there_belongs_to_the_mapped_root(self, lab: runtime.Lab, pods: list[runtime.Pod]) -> None:
        for pod in pods:
            pod.sh("echo x > /new; chown 7:8 /etc/passwd")
            upper = pathlib.Path(paths.pod_data_dir(lab.name, pod.uid), "containers/c0/0/upper")
            assert (upper / "new").stat().st_uid == base_of(pod)
            # Copied up, with the new owner.
            assert (upper / "etc/passwd").stat().st_uid == base_of(pod) + 7
            assert pod.sh("stat -c '%u %g' /etc/passwd") == "7 8\n"

    def test_the_layers_stay_as_they_are(self, pods: list[runtime.Pod]) -> None:
        layer = pathlib.Path(pods[0].config["containers"][0]["layers"][0])
        assert {path.lstat().st_uid for path in layer.rglob("*")} == {0}

    @pytest.mark.parametrize("volume", ["data", "memory"])
    def test_volumes_are_mapped_and_never_chowned(self, lab: runtime.Lab, pods: list[runtime.Pod], volume: str) -> None:
        pods[0].sh(f"echo x > /{volume}/of-root")
        pods[0].sh(f"echo x > /{volume}/of-1000", container="c1")
        assert pods[0].sh(f"stat -c %u /{volume}/of-root /{volume}/of-1000").split() == ["0", "1000"]
        where = pathlib.Path(f"/proc/{pods[0].supervisor()}/root{paths.pod_data_dir(lab.name, pods[0].uid)}/volumes")
        assert (where / volume / "of-root").stat().st_uid == 0
        assert (where / volume / "of-1000").stat().st_uid == 1000

    def test_a_host_path_is_seen_with_its_owners(self, pods: list[runtime.Pod]) -> None:
        assert pods[0].sh("stat -c %u /host/of-root /host/of-1000").split() == ["0", "1000"]
        ran = pods[0].exec("touch", "/host/of-root")
        assert ran.code == 1 and "Read-only file system" in ran.err

    def test_v_what_is_host_roots_shows_as_nobody(self, pods: list[runtime.Pod]) -> None:
        shown = pods[0].sh("stat -c '%u %g' /proc /sys /dev/null /dev/urandom /proc/sys/kernel/core_pattern")
        assert shown.split() == ["65534"] * 10

    def test_the_pods_files_are_its_roots(self, pods: list[runtime.Pod]) -> None:
        files = "/etc/hosts /etc/hostname /etc/resolv.conf /dev/termination-log /dev/shm /dev /dev/pts"
        assert set(pods[0].sh(f"stat -c '%u %g' {files}").splitlines()) == {"0 0"}
        pods[0].sh("echo done > /dev/termination-log; echo '192.0.2.1 x' >> /etc/hosts; echo 1 > /dev/shm/x")

    def test_devices_work(self, pods: list[runtime.Pod]) -> None:
        pods[0].sh("echo x > /dev/null; head -c 4 /dev/zero | wc -c | grep -q 4; head -c 4 /dev/urandom > /tmp/r")
        ran = pods[0].exec("tty", terminal=True)
        assert (ran.code, ran.out.strip()) == (0, "/dev/pts/0")
        assert pods[0].sh("stat -c %g /dev/pts/ptmx") == "0\n"

    def test_a_terminal_of_its_own(self, pods: list[runtime.Pod]) -> None:
        for pod in pods:
            pod.until_log("0 5", "c3")
            assert pod.log("c3").replace("\r", "").split("\n")[:2] == ["/dev/pts/0", "0 5"]

    def test_sysfs_is_the_pods_own_network(self, pods: list[runtime.Pod]) -> None:
        assert pods[0].sh("ls /sys/class/net").split() == ["eth0", "lo"]


class TestDenied:
    """[V] runc: what root in the pod cannot do."""

    @pytest.mark.parametrize(
        ("script", "why"),
        [
            ("mknod /tmp/null c 1 3", "Operation not permitted"),
            ("echo x > /proc/sys/kernel/core_pattern", "Read-only file system"),
            ("hostname other", "Operation not permitted"),
            ("mount -t tmpfs x /mnt", "Operation not permitted|permission denied"),
            ("chown 0:65536 /tmp", "Invalid argument|Value too large"),
        ],
    )
    def test_v_without_capabilities(self, pods: list[runtime.Pod], script: str, why: str) -> None:
        ran = pods[0].exec("sh", "-c", f"mkdir -p /mnt; {script}")
        assert ran.code != 0 and any(each in ran.err for each in why.split("|")), ran

    def test_sys_admin_is_sys_admin_of_the_pod(self, pods: list[runtime.Pod]) -> None:
        """Its UTS and mount namespaces are the pod's; the machine's settings and devices stay out of reach."""
        pod = pods[0]
        assert pod.sh("hostname renamed; hostname; hostname first", container="c2") == "renamed\n"
        ran = pod.exec("sh", "-c", "mount -t proc p /tmp && echo x > /tmp/sys/kernel/core_pattern", container="c2")
        assert ran.code != 0 and "Permission denied" in ran.err, ran
        ran = pod.exec("sh", "-c", "mknod /dev/shm/sda b 8 0", container="c2")
        assert ran.code != 0 and "Operation not permitted" in ran.err

    def test_privileged_is_privileged_in_the_pod(self, lab: runtime.Lab) -> None:
        """All capabilities, all devices of the node, nothing masked: of a user that is nobody on the machine."""
        pod = lab.run_pod({**SLEEP, "securityContext": {"privileged": True}}, hostUsers=False)
        assert pod.said == "" and pod.exec("test", "-c", "/dev/null").code == 0
        assert pod.exec("test", "-e", "/proc/keys").code == 0
        ran = pod.exec("sh", "-c", "echo x > /proc/sys/kernel/core_pattern")
        assert ran.code != 0 and "Permission denied" in ran.err, ran
        pod.delete(0)

    def test_the_read_only_root_is_one(self, pods: list[runtime.Pod]) -> None:
        ran = pods[0].exec("touch", "/x", container="c2")
        assert ran.code == 1 and "Read-only file system" in ran.err

    def test_one_pod_cannot_touch_the_files_of_another(self, lab: runtime.Lab, pods: list[runtime.Pod]) -> None:
        """Escaped from its mounts, root of a pod is a user that owns nothing there."""
        other = f"{paths.pod_data_dir(lab.name, pods[1].uid)}/containers/c0/0/upper"
        pods[1].sh("touch /private; chmod 600 /private")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                fd = os.open(f"/proc/{pods[0].pid()}/ns/user", os.O_RDONLY)
                syscalls.setns(fd, syscalls.CLONE_NEWUSER)
                os.setresgid(0, 0, 0)
                os.setresuid(0, 0, 0)
                os.close(os.open(f"{other}/private", os.O_RDONLY))
            except PermissionError:
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0


class TestFailures:
    """What cannot be done is said, and nothing is left of it."""

    def test_a_user_that_is_not_mapped(self, lab: runtime.Lab) -> None:
        planned = lab.pod(SLEEP, hostUsers=False, restartPolicy="Never")
        config = lab.config(planned)
        config["containers"][0]["user"] = {"uid": 70000, "gid": 0, "groups": []}
        before = runtime.trace(lab.name)
        pod = lab.start_config(planned, config)
        message = pod.ended()["message"]
        assert message == "cannot set uid 70000, gid 0: not mapped in the user namespace"
        pod.delete(0)
        runtime.assert_same(before, runtime.trace(lab.name))

    def test_a_command_that_is_not_there(self, lab: runtime.Lab) -> None:
        pod = lab.run_pod({"command": ["/no/such"]}, SLEEP, hostUsers=False, restartPolicy="Never")
        ended = pod.ended()
        assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
        # The helpers have been reaped.
        assert set(process.children(pod.supervisor())) == {pod.pause(), pod.pid("c1")}
        pod.delete(0)

    def test_a_file_system_without_idmapped_mounts(self, lab: runtime.Lab) -> None:
        """ramfs has none: the sandbox is not made, and its message says what is missing."""
        planned = lab.pod(SLEEP, hostUsers=False)
        config = lab.config(planned)
        before = runtime.trace(lab.name)
        place = pathlib.Path(paths.lib_root(), "without")
        place.mkdir()
        syscalls.mount("ramfs", str(place), "ramfs")
        try:
            config["containers"][0]["layers"] = [str(place)]
            pod = lab.start_config(planned, config)
            waiting = pod.container()["state"]["waiting"]
            assert waiting["message"].startswith(
                f"FailedCreatePodSandBox: hostUsers: false needs an idmapped mount of {place}: its file system or this "
                "kernel has no idmapped mounts"
            )
            pod.delete(0)
        finally:
            syscalls.umount(str(place))
            place.rmdir()
        runtime.assert_same(before, runtime.trace(lab.name))

    def test_nothing_is_left(self, lab: runtime.Lab, pods: list[runtime.Pod]) -> None:
        before = runtime.trace(lab.name)
        for _ in range(2):
            pod = lab.run_pod(SLEEP, SLEEP, hostUsers=False, shareProcessNamespace=True)
            pod.sh("echo x > /x")
            pod.delete(0)
        pod = lab.run_pod(SLEEP, hostUsers=False)
        supervisor = pod.supervisor()
        os.kill(supervisor, 9)
        runtime.wait_for_end([supervisor])
        pod.delete(0)
        runtime.assert_same(before, runtime.trace(lab.name))


def test_a_pod_with_the_nodes_users_has_no_range(lab: runtime.Lab) -> None:
    pod = lab.run_pod(SLEEP)
    assert not os.path.exists(f"{pod.directory}/userns")
    assert pod.sh("cat /proc/self/uid_map").split() == ["0", "0", "4294967295"]
    pod.delete(0)


def test_the_pause_of_a_mapped_pod_can_do_as_little_as_any(pods: list[runtime.Pod]) -> None:
    status = facts(pods[0].pause())
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    root = os.stat(f"/proc/{pods[0].pause()}/root")
    assert stat.S_ISDIR(root.st_mode)
