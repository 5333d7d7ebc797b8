"""What a container finds around it: mounts, devices, masks, capabilities, descriptors, cgroup, user."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest

from podlab.linux import cgroup
from podlab.linux.mountinfo import MountInfo, mounts
from support import runtime

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]
SLEEP = {"command": ["sleep", "1000"]}
HOST_DIRECTORY = "/srv-of-the-test"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.one_node(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory of the machine for hostPath volumes."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def pod(lab: runtime.Lab, shared: pathlib.Path) -> runtime.Pod:
    """Containers: c0 plain, c1 restricted and limited, c2 as a user of numbers."""
    (shared / "file").write_text("of the machine\n")
    (shared / "below").mkdir()
    restricted = {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": ["CHOWN", "NET_RAW"]},
    }
    limits = {"limits": {"cpu": "250m", "memory": "32Mi"}, "requests": {"cpu": "100m", "memory": "16Mi"}}
    mounted = [
        {"name": "deep", "mountPath": "/data/below/deep"},
        {"name": "data", "mountPath": "/data"},
        {"name": "memory", "mountPath": "/memory"},
        {"name": "host", "mountPath": "/host", "readOnly": True},
        {"name": "file", "mountPath": "/etc/of-the-host"},
    ]
    volumes = [
        {"name": "data"},
        {"name": "deep", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "host", "hostPath": {"path": str(shared)}},
        {"name": "file", "hostPath": {"path": str(shared / "file"), "type": "File"}},
    ]
    made = lab.run_pod(
        {**SLEEP, "volumeMounts": mounted},
        {**SLEEP, "securityContext": restricted, "resources": limits, "volumeMounts": mounted},
        {**SLEEP, "securityContext": {"runAsUser": 1000, "runAsGroup": 2000}, "volumeMounts": mounted},
        {"command": ["sh", "-c", "trap exit TERM; while :; do sleep 1; done"], "workingDir": "/tmp"},
        volumes=volumes,
        securityContext={"supplementalGroups": [3000, 4000]},
    )
    assert made.said == ""
    return made


def table(pod: runtime.Pod, name: str = "c0") -> dict[str, MountInfo]:
    return {each.mount_point: each for each in mounts(pod.pid(name))}


def facts(pod: runtime.Pod, name: str = "c0") -> dict[str, str]:
    lines = pathlib.Path(f"/proc/{pod.pid(name)}/status").read_text().splitlines()
    return {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines}


BASE = [
    ("/", "overlay", set()),
    ("/proc", "proc", {"nosuid", "nodev", "noexec"}),
    ("/dev", "tmpfs", {"nosuid"}),
    ("/dev/pts", "devpts", {"nosuid", "noexec"}),
    ("/dev/mqueue", "mqueue", {"nosuid", "nodev", "noexec"}),
    ("/sys", "sysfs", {"ro", "nosuid", "nodev", "noexec"}),
    ("/dev/shm", "tmpfs", {"nosuid", "nodev", "noexec"}),
]
PROTECTION = {"ro", "nosuid", "nodev", "noexec"}


class TestMounts:
    """The table of containerd's CRI."""

    @pytest.mark.parametrize(("path", "fstype", "options"), BASE, ids=[row[0] for row in BASE])
    def test_the_base(self, pod: runtime.Pod, path: str, fstype: str, options: set[str]) -> None:
        found = table(pod)[path]
        assert found.fstype == fstype
        assert set(found.options) & PROTECTION == options

    def test_their_sizes_and_modes(self, pod: runtime.Pod) -> None:
        found = table(pod)
        assert {"size=65536k", "mode=755"} <= set(found["/dev"].super_options)
        assert {"gid=5", "mode=620", "ptmxmode=666"} <= set(found["/dev/pts"].super_options)
        assert "size=65536k" in found["/dev/shm"].super_options
        # strictatime shows as the absence of relatime.
        assert not {"relatime", "noatime"} & set(found["/dev"].options)

    def test_the_order(self, pod: runtime.Pod) -> None:
        order = [each.mount_point for each in mounts(pod.pid())]
        wanted = ["/", "/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/sys/fs/cgroup", "/dev/shm"]
        found = [path for path in order if path in wanted]
        assert found == wanted
        assert order.index("/data") < order.index("/data/below/deep")

    def test_a_parent_precedes_what_is_below_it(self, pod: runtime.Pod) -> None:
        seen = {"/"}
        for each in mounts(pod.pid()):
            parent = os.path.dirname(each.mount_point)
            while parent not in seen and parent != "/":
                parent = os.path.dirname(parent)
            assert parent in seen
            seen.add(each.mount_point)

    def test_nothing_of_the_node_is_left(self, pod: runtime.Pod) -> None:
        known = ("/proc", "/dev", "/sys", "/etc/", "/data", "/memory", "/host")
        assert [path for path in table(pod) if path != "/" and not path.startswith(known)] == []
        assert pod.sh("ls -a /").split() == (
            ". .. bin data dev etc home host memory proc root run sys tmp usr var".split()
        )

    def test_cgroups_are_read_only(self, pod: runtime.Pod) -> None:
        for path, found in table(pod).items():
            if path.startswith("/sys/fs/cgroup"):
                assert set(found.options) >= PROTECTION, path
        ran = pod.exec("sh", "-c", "for f in /sys/fs/cgroup /sys/fs/cgroup/*; do touch $f/x; done")
        assert ran.err.count("Read-only file system") == len(ran.err.splitlines()) > 0

    def test_the_root_is_private_and_so_is_what_is_bound(self, pod: runtime.Pod) -> None:
        names = ("/", "/dev/shm", "/dev/termination-log", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/data")
        found = table(pod)
        assert {path: found[path].propagation for path in names} == dict.fromkeys(names, "private")

    def test_what_the_kernel_says_too_much_in_is_masked(self, pod: runtime.Pod) -> None:
        found = table(pod)
        for path in (f"/proc/{name}" for name in ("acpi", "interrupts", "kcore", "keys", "timer_list", "scsi")):
            if os.path.isdir(path):
                assert (found[path].fstype, "ro" in found[path].options) == ("tmpfs", True), path
                assert pod.sh(f"ls {path}") == ""
            elif os.path.exists(path):
                assert pod.sh(f"cat {path}; stat -c %t:%T {path}") == "1:3\n"
        assert pod.sh("ls /sys/firmware") == ""

    def test_thermal_throttle_is_masked(self, pod: runtime.Pod) -> None:
        """Where there is one: k8s pkg/securitycontext/util.go."""
        there = [str(path) for path in pathlib.Path("/sys/devices/system/cpu").glob("cpu*/thermal_throttle")]
        assert [path for path in there if path not in table(pod)] == []

    @pytest.mark.parametrize("name", ["bus", "fs", "irq", "sys", "sysrq-trigger"])
    def test_what_only_may_be_read(self, pod: runtime.Pod, name: str) -> None:
        if not os.path.exists(f"/proc/{name}"):
            pytest.skip(f"this kernel has no /proc/{name}")
        assert set(table(pod)[f"/proc/{name}"].options) >= PROTECTION
        assert "Read-only file system" in pod.exec("chmod", "700", f"/proc/{name}").err

    @pytest.mark.parametrize(
        "command",
        [
            ["umount", "/proc/timer_list"],
            ["umount", "/proc/sys"],
            ["mount", "-o", "remount,rw", "/proc/sys"],
            ["mount", "-t", "proc", "proc", "/tmp"],
            ["mount", "-t", "cgroup", "-o", "memory", "x", "/tmp"],
            ["mount", "-t", "tmpfs", "tmpfs", "/tmp"],
        ],
        ids=" ".join,
    )
    def test_masks_stay(self, pod: runtime.Pod, command: list[str]) -> None:
        ran = pod.exec(*command)
        assert ran.code != 0 and ("Operation not permitted" in ran.err or "permission denied" in ran.err), ran


class TestDevices:
    """Exactly these, and no others can be opened."""

    NUMBERS = {"null": "1:3", "zero": "1:5", "full": "1:7", "random": "1:8", "urandom": "1:9", "tty": "5:0"}

    def test_the_directory(self, pod: runtime.Pod) -> None:
        wanted = set("fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero".split())
        core = {"core"} if os.path.exists("/proc/kcore") else set()
        assert set(pod.sh("ls /dev").split()) == wanted | core | {"termination-log"}

    def test_numbers_modes_and_owners(self, pod: runtime.Pod) -> None:
        for name, number in self.NUMBERS.items():
            major, minor = (int(part) for part in number.split(":"))
            assert pod.sh(f"stat -c '%t:%T %a %u:%g' /dev/{name}") == f"{major:x}:{minor:x} 666 0:0\n"

    def test_links(self, pod: runtime.Pod) -> None:
        links = "for l in ptmx fd stdin stdout stderr; do readlink /dev/$l; done"
        assert pod.sh(links).split() == [
            "pts/ptmx",
            "/proc/self/fd",
            "/proc/self/fd/0",
            "/proc/self/fd/1",
            "/proc/self/fd/2",
        ]

    def test_terminals_of_others_are_not_seen(self, pod: runtime.Pod) -> None:
        assert pod.sh("ls /dev/pts").split() == ["ptmx"]

    def test_a_device_can_be_made_and_not_opened(self, pod: runtime.Pod) -> None:
        if not cgroup.detect().v1:
            pytest.skip("cgroup v2 has no devices controller file")
        ran = pod.exec("sh", "-c", "mknod /tmp/k c 1 11 && head -c1 /tmp/k")
        assert "Operation not permitted" in ran.err and ran.code != 0

    def test_the_list_of_the_device_cgroup(self, pod: runtime.Pod) -> None:
        trees = cgroup.detect()
        if "devices" not in trees.versions():
            pytest.skip("cgroup v2 has no devices controller file")
        path = pod.config["cgroup_parent"] + "/" + pod.container()["containerID"].partition("//")[2]
        text = pathlib.Path(trees.directory("devices", pod.lab.cgroup(path)), "devices.list").read_text()
        nodes = [f"c {number} rwm" for number in ("1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:2", "10:200", "136:*")]
        assert sorted(text.splitlines()) == sorted(["b *:* m", "c *:* m", *nodes])

    def test_the_nodes_null_is_still_roots(self, pod: runtime.Pod) -> None:
        assert (os.stat("/dev/null").st_uid, os.stat("/dev/null").st_mode & 0o777) == (0, 0o666)


class TestPrivileges:
    """containerd's default set, and what a securityContext makes of it."""

    @pytest.mark.parametrize(
        ("name", "bounding", "effective", "no_new_privs"),
        [
            ("c0", "00000000a80425fb", "00000000a80425fb", "0"),
            ("c1", "0000000000002001", "0000000000002001", "1"),
            ("c2", "00000000a80425fb", "0000000000000000", "0"),
        ],
    )
    def test_sets(self, pod: runtime.Pod, name: str, bounding: str, effective: str, no_new_privs: str) -> None:
        found = facts(pod, name)
        assert (found["CapBnd"], found["CapPrm"], found["CapEff"]) == (bounding, effective, effective)
        assert (found["CapInh"], found["CapAmb"]) == ("0" * 16, "0" * 16)
        assert found["NoNewPrivs"] == no_new_privs

    @pytest.mark.parametrize(
        ("name", "user", "group", "groups"),
        [("c0", "0", "0", "0 3000 4000"), ("c1", "0", "0", "0 3000 4000"), ("c2", "1000", "2000", "2000 3000 4000")],
    )
    def test_users(self, pod: runtime.Pod, name: str, user: str, group: str, groups: str) -> None:
        found = facts(pod, name)
        assert (found["Uid"].split(), found["Gid"].split()) == ([user] * 4, [group] * 4)
        assert sorted(found["Groups"].split(), key=int) == groups.split()

    def test_signals_and_umask_are_a_fresh_processs(self, pod: runtime.Pod) -> None:
        found = facts(pod)
        assert {found[name] for name in ("SigBlk", "SigIgn", "SigCgt")} == {"0" * 16}
        assert found["Umask"] == "0022"

    def test_oom_score(self, pod: runtime.Pod) -> None:
        # One container asks for memory: the pod is Burstable, and those that ask for none are first in line.
        assert pathlib.Path(f"/proc/{pod.pid('c0')}/oom_score_adj").read_text() == "999\n"

    def test_it_leads_a_session_without_a_terminal(self, pod: runtime.Pod) -> None:
        fields = pathlib.Path(f"/proc/{pod.pid()}/stat").read_text().rpartition(")")[2].split()
        session, terminal = fields[3], fields[4]
        assert int(session) == pod.pid() and terminal == "0"

    def test_no_keys_of_the_machine(self, pod: runtime.Pod) -> None:
        assert pod.sh("cat /proc/keys") == ""

    def test_escapes(self, pod: runtime.Pod) -> None:
        assert "Operation not permitted" in pod.exec("sh", "-c", "hostname other").err
        for word in ("release_agent", "notify_on_release"):
            ran = pod.exec("sh", "-c", f"for f in /sys/fs/cgroup/*/{word}; do echo 1 > $f; done")
            assert ran.err and "Read-only" in ran.err or "nonexistent" in ran.err


def test_descriptors(pod: runtime.Pod) -> None:
    pid = pod.pid()
    found = {number: os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")}
    assert set(found) == {"0", "1", "2"}
    assert found["0"] == "/dev/null"
    assert found["1"].startswith("pipe:") and found["2"].startswith("pipe:") and found["1"] != found["2"]


def test_the_environment_is_the_images_and_the_pods(pod: runtime.Pod) -> None:
    text = pathlib.Path(f"/proc/{pod.pid()}/environ").read_bytes().decode()
    assert dict(entry.split("=", 1) for entry in text.split("\0")[:-1]) == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME": pod.config["name"],
        "HOME": "/root",
    }


def test_the_working_directory(pod: runtime.Pod) -> None:
    assert os.readlink(f"/proc/{pod.pid('c0')}/cwd") == "/"
    assert os.readlink(f"/proc/{pod.pid('c3')}/cwd") == "/tmp"


def test_a_read_only_root_leaves_volumes_writable(pod: runtime.Pod) -> None:
    assert "ro" in table(pod, "c1")["/"].options
    assert "Read-only file system" in pod.exec("touch", "/x", container="c1").err
    # The sandbox's files follow the root, the kubelet's do not.
    options = {path: table(pod, "c1")[path].options for path in ("/etc/hostname", "/etc/resolv.conf", "/etc/hosts")}
    assert ["ro" in options[path] for path in options] == [True, True, False]
    pod.sh("touch /data/x /dev/shm/x /dev/x; echo why > /dev/termination-log", container="c1")


class TestCgroup:
    """One cgroup per container."""

    def test_values(self, pod: runtime.Pod) -> None:
        trees = cgroup.detect()

        def read(name: str) -> cgroup.Values:
            identity = pod.container(name)["containerID"].partition("//")[2]
            return trees.read(pod.lab.cgroup(f"{pod.config['cgroup_parent']}/{identity}"))

        limited, free = read("c1"), read("c0")
        assert (limited.cpu_shares, limited.cpu_quota_us, limited.memory_limit) == (102, 25000, 32 << 20)
        assert free.cpu_shares == 2 and free.cpu_quota_us in (None, -1)

    def test_its_processes(self, pod: runtime.Pod) -> None:
        trees = cgroup.detect()
        for name in ("c0", "c1"):
            identity = pod.container(name)["containerID"].partition("//")[2]
            assert trees.pids(pod.lab.cgroup(f"{pod.config['cgroup_parent']}/{identity}")) == [pod.pid(name)]

    def test_the_pod_has_a_limit_only_when_every_container_has_one(self, pod: runtime.Pod) -> None:
        found = cgroup.detect().read(pod.lab.cgroup(pod.config["cgroup_parent"]))
        assert found.memory_limit is None or found.memory_limit < 0 or found.memory_limit > 1 << 60


class TestVolumes:
    """emptyDir and hostPath."""

    def test_an_empty_dir_is_everyones_and_the_pods(self, pod: runtime.Pod) -> None:
        assert pod.sh("stat -c '%a %u:%g' /data") == "777 0:0\n"
        pod.sh("echo text > /data/file", container="c2")
        assert pod.sh("cat /data/file; stat -c %u:%g /data/file") == "text\n1000:2000\n"

    def test_in_memory(self, pod: runtime.Pod) -> None:
        assert table(pod)["/memory"].fstype == "tmpfs"
        assert pod.sh("df -k /memory | tail -1").split()[1] == "1024"
        assert pod.sh("stat -c %a /memory") in ("777\n", "1777\n")

    def test_one_below_another(self, pod: runtime.Pod) -> None:
        pod.sh("echo deep > /data/below/deep/x")
        assert pod.sh("cat /data/below/deep/x", container="c2") == "deep\n"

    def test_a_path_of_the_host(self, pod: runtime.Pod, shared: pathlib.Path) -> None:
        assert pod.sh("cat /host/file /etc/of-the-host") == "of the machine\nof the machine\n"
        assert "Read-only file system" in pod.exec("touch", "/host/x").err
        pod.sh("echo changed > /etc/of-the-host")
        assert (shared / "file").read_text() == "changed\n"

    def test_mounts_of_the_host_stay_there(self, pod: runtime.Pod, shared: pathlib.Path) -> None:
        """Propagation None: what is mounted on the node later is not seen."""
        pod.lab.in_node("mount", "-t", "tmpfs", "tmpfs", str(shared / "below"))
        try:
            assert "/host/below" not in table(pod)
        finally:
            pod.lab.in_node("umount", str(shared / "below"))
