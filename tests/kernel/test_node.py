"""A node: its own namespaces, mounts and names around a pause process, and nothing of the machine's."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest

from podlab.errors import PodlabError
from podlab.linux import cgroup, netns, process
from podlab.linux.mountinfo import mounts
from podlab.runtime import entry, lab, node, paths
from podlab.step import apply
from support import runtime
from support.own_machine import sh

pytestmark = pytest.mark.kernel

KINDS = ("net", "mnt", "uts", "pid", "ipc", "cgroup")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The machine's mount table before there was a node."""
    with runtime.machine(tmp_path_factory.mktemp("machine")):
        pathlib.Path("/run/of-the-machine").write_text("")
        pathlib.Path("/run/shared").mkdir()
        sh("ip", "netns", "add", "covered")  # mounts /run/netns over itself
        netns.create("pinned-before")
        yield table()


@pytest.fixture(scope="module")
def made(machine: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.node_on(f"n{os.getpid()}", {}) as one:
        yield one


def table() -> list[str]:
    return [
        f"{each.mount_point} {each.fstype} {','.join(each.options)} {each.propagation}"
        for each in mounts()
        if "/netns/" not in each.mount_point
    ]


def namespace(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def test_it_has_namespaces_of_its_own(made: runtime.Lab) -> None:
    pid = made.record["pid"]
    for kind in KINDS:
        assert namespace(pid, kind) != namespace("self", kind), kind
    assert os.stat(f"/proc/{pid}/ns/net").st_ino == netns.inode(paths.node_netns(made.record["name"]))
    # What a kind node shares with its machine.
    assert namespace(pid, "user") == namespace("self", "user")


def test_pause_is_its_first_process(made: runtime.Lab) -> None:
    pid = made.record["pid"]
    assert process.ns_pids(pid) == [pid, 1]
    assert process.alive(pid, made.record["start"])
    assert made.in_node("cat", "/proc/1/cmdline") == "/pause\0"
    assert os.listdir(f"/proc/{pid}/fd") == ["0", "1", "2"]
    assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {"/dev/null"}
    assert pathlib.Path(f"/proc/{pid}/environ").read_bytes() == b""
    assert os.getsid(pid) == pid


def test_its_names_are_its_own(made: runtime.Lab) -> None:
    name = made.record["name"]
    assert made.in_node("hostname") == f"{name}\n"
    assert made.in_node("cat", "/etc/hostname", "/etc/hosts") == f"{name}\n127.0.0.1 localhost\n"
    assert made.in_node("cat", "/etc/resolv.conf") == "nameserver 9.9.9.9\n"


def test_its_mounts_are_the_table_and_what_the_machine_has(made: runtime.Lab) -> None:
    inside = mounts(made.record["pid"])
    wanted = [
        *((each.target, each.fstype) for each in node.node_mounts(made.name, {"name": made.record["name"]}, trees())),
    ]
    visible = {each.mount_point: each for each in inside}
    for target, fstype in wanted:
        if target.startswith(paths.node_dir(made.name, made.record["name"])):
            target = target[len(paths.node_dir(made.name, made.record["name"])) :]
        assert target in visible, target
        if fstype:
            assert visible[target].fstype == fstype
    options = {path: visible[path].options for path in ("/proc", "/sys", "/var/log", "/dev/shm")}
    for path, found in options.items():
        expected = {"nosuid", "nodev"} | (set() if path == "/dev/shm" else {"noexec"})
        assert expected <= set(found), path
    assert "size=65536k" in visible["/dev/shm"].super_options


def trees() -> cgroup.Hierarchies:
    return cgroup.detect()


def test_nothing_of_the_machines_run_is_seen(made: runtime.Lab) -> None:
    assert os.path.exists("/run/of-the-machine")
    seen = made.in_node("ls", "/run").split()
    assert seen == ["cni-ipam-state", "lock", "netns", "podlab", "podlab-dns"]
    assert made.in_node("ls", "/run/netns") == ""
    assert made.in_node("ls", "/run/podlab").split() == [made.name]
    for each in mounts(made.record["pid"]):
        assert not each.mount_point.startswith("/run/netns"), each


def test_its_proc_shows_its_processes_only(made: runtime.Lab) -> None:
    numbers = [word for word in made.in_node("ls", "/proc").split() if word.isdigit()]
    assert numbers[0] == "1" and len(numbers) == 2  # pause, and ls


def test_its_sysfs_shows_its_links_only(made: runtime.Lab) -> None:
    assert made.in_node("ls", "/sys/class/net").split() == ["lo"]


def test_its_cgroup_namespace_starts_at_its_cgroup(made: runtime.Lab) -> None:
    inside = made.in_node("cat", "/proc/1/cgroup")
    own = [line.split(":", 2)[2] for line in inside.splitlines() if "name=systemd" not in line]
    assert set(own) <= {"/init", "/"} and "/init" in own
    assert made.record["pid"] in trees().pids(made.cgroup("init"), recursive=False)
    assert set(trees().children(made.cgroup("kubelet/kubepods"))) == {"besteffort", "burstable"}
    assert trees().read(made.cgroup("kubelet/kubepods/besteffort")).cpu_shares == 2
    assert trees().read(made.cgroup("kubelet/kubepods")).cpu_shares == 1024 * (os.cpu_count() or 1)


def test_the_machines_mounts_are_as_before(machine: list[str], made: runtime.Lab) -> None:
    """Its / is shared: what a node mounts must not come back."""
    assert table() == machine
    made.in_node("mount", "-t", "tmpfs", "tmpfs", "/mnt")
    assert table() == machine
    made.in_node("umount", "/mnt")


def test_what_the_machine_unmounts_goes_from_the_node(made: runtime.Lab, tmp_path: pathlib.Path) -> None:
    sh("mount", "-t", "tmpfs", "tmpfs", str(tmp_path))
    try:
        assert any(each.mount_point == str(tmp_path) for each in mounts(made.record["pid"]))
    finally:
        sh("umount", str(tmp_path))
    assert not any(each.mount_point == str(tmp_path) for each in mounts(made.record["pid"]))


def test_a_namespace_that_the_machine_deletes_is_not_kept_by_the_node(made: runtime.Lab) -> None:
    assert netns.exists("pinned-before")
    numbers = {str(each.root) for each in mounts(made.record["pid"]) if each.fstype == "nsfs"}
    assert numbers == set()


def test_running_inside(made: runtime.Lab, capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    def body() -> int:
        print(os.uname().nodename, os.getppid(), namespace("self", "net"), flush=True)
        return 7

    assert entry.run_inside(made.record, body) == 7
    seen = capfd.readouterr().out.split()
    assert seen == [made.record["name"], "0", namespace(made.record["pid"], "net")]
    assert entry.run_inside(made.record, lambda: os.kill(os.getpid(), 9) or 0) == 137


def test_running_inside_joins_the_nodes_cgroup(made: runtime.Lab, capfd: pytest.CaptureFixture[str]) -> None:
    def body() -> int:
        print(pathlib.Path("/proc/self/cgroup").read_text(), flush=True)
        return 0

    assert entry.run_inside(made.record, body) == 0
    # In what hierarchies podlab has no cgroups, it has nothing to join.
    managed = {name for tree in trees().v1 for name in tree.controllers} | ({""} if trees().v2 else set())
    lines = [line.split(":", 2) for line in capfd.readouterr().out.splitlines() if line]
    assert {path for _, names, path in lines if managed & set(names.split(","))} == {"/init"}


@pytest.mark.parametrize("change", [{"start": 1}, {"pid": 0}, {"pid": 2**22 + 1}])
def test_a_node_that_does_not_run_is_not_entered(
    made: runtime.Lab, change: dict[str, int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert entry.run_inside({**made.record, **change}, lambda: 0) == 255
    assert capfd.readouterr().err == f"podlab: Node {made.record['name']} is not running. Bring it back: ./lab up\n"


class TestTrouble:
    """What cannot be made leaves nothing."""

    @pytest.fixture
    def name(self, machine: list[str]) -> Iterator[str]:
        name = f"x{os.getpid()}"
        before = runtime.trace(name)
        netns.create(paths.node_netns(f"{name}-worker"))
        yield name
        apply(lab.removal(name, lab.find(name)))
        runtime.assert_same(before, runtime.trace(name))
        assert table() == machine

    def make(self, name: str, **changed: object) -> None:
        plain = runtime.cluster_of(name).to_dict()["nodes"][0]
        node.create(name, {**plain, **changed}, {**runtime.FILES, "hostname": f"{name}-worker\n"})

    def test_a_mount_on_what_does_not_exist(self, name: str) -> None:
        with pytest.raises(PodlabError) as caught:
            self.make(name, mounts=[{"container_path": "/no/such/place", "host_path": "/run/shared"}])
        assert str(caught.value) == (
            f"Cannot make the node: [Errno 0] node {name}-worker: extraMounts: /no/such/place does not exist on this "
            "machine, whose file tree the node shares. Create it, or mount on a path that exists"
        )
        assert not os.path.exists(paths.node_file(name, f"{name}-worker"))

    def test_a_missing_network_namespace(self, name: str) -> None:
        netns.delete(paths.node_netns(f"{name}-worker"))
        with pytest.raises(PodlabError, match="Cannot make the node: .*No such file or directory"):
            self.make(name)

    def test_extra_mounts(self, name: str) -> None:
        pathlib.Path("/run/shared/file").write_text("of the machine")
        mount = {"container_path": "/mnt", "host_path": "/run/shared", "read_only": True, "propagation": "None"}
        self.make(name, mounts=[mount])
        (record,) = lab.read_nodes(name)
        inside = {each.mount_point: each for each in mounts(record["pid"])}
        assert "ro" in inside["/mnt"].options
        made = runtime.Lab(runtime.cluster_of(name), record, {})
        assert made.in_node("cat", "/mnt/file") == "of the machine"
        assert "Read-only file system" in made.in_node("touch", "/mnt/x", check=False)
