"""Rows of the security table about what is around a container: volumes, teardown, state, processes, the pod's link."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from podlab.errors import PodlabError
from podlab.linux import process, syscalls
from podlab.linux.mountinfo import mounts
from podlab.linux.netlink import Netlink
from podlab.runtime import exec as podlab_exec
from podlab.runtime import files, paths, pods
from support import attacks, naive, runtime
from support.attacks import Both, Podlab
from support.naive import Spec

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]
SLEEP = ["sleep", "1000"]
NOBODY = 65534


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.used_node(tmp_path_factory.mktemp("lab")) as made:
        made.in_node("mkdir", "-p", "/run/mount")  # of mount(8)
        yield made


@pytest.fixture
def beside(lab: runtime.Lab) -> Iterator[naive.Naive]:
    with attacks.naive_beside(lab) as made:
        yield made


@pytest.fixture
def victim(tmp_path: pathlib.Path) -> pathlib.Path:
    """A directory of the machine with a file that must survive."""
    (tmp_path / "victim" / "below").mkdir(parents=True)
    (tmp_path / "victim" / "file").write_text("survives\n")
    return tmp_path / "victim"


def lost(victim: pathlib.Path) -> str:
    return "" if (victim / "file").exists() and (victim / "below").exists() else f"only {os.listdir(victim)} is left"


def falls(said: str) -> None:
    assert said != "", "the naive runtime passes: this check finds nothing"


def test_row_20_mounts_of_the_machine(lab: runtime.Lab, beside: naive.Naive, victim: pathlib.Path) -> None:
    """HostToContainer sees what is mounted later on the node; None does not; Bidirectional reaches the node."""
    modes = {"n": "None", "h": "HostToContainer", "b": "Bidirectional"}
    mounted = [{"name": "v", "mountPath": f"/{key}", "mountPropagation": mode} for key, mode in modes.items()]
    volumes = [{"name": "v", "hostPath": {"path": str(victim), "type": "Directory"}}]
    context = {"privileged": True}
    pod = lab.run_pod({"command": SLEEP, "volumeMounts": mounted, "securityContext": context}, volumes=volumes)
    lab.in_node("mount", "-t", "tmpfs", "tmpfs", f"{victim}/below")
    lab.in_node("touch", f"{victim}/below/seen")
    try:
        found = {key: pod.sh(f"ls /{key}/below").strip() for key in modes}
        assert found == {"n": "", "h": "seen", "b": "seen"}
        reached = {}
        for key in modes:
            pod.sh(f"mkdir /{key}/of-{key}; mount -t tmpfs tmpfs /{key}/of-{key}")
            reached[key] = f"/of-{key} " in lab.in_node("cat", "/proc/self/mountinfo")
        assert reached == {"n": False, "h": False, "b": True}
        lab.in_node("umount", f"{victim}/of-b")
    finally:
        lab.in_node("umount", f"{victim}/below")
        pod.delete(0)
    jail = beside.start(Spec(SLEEP, mounts=[(str(victim), "/n")]))
    syscalls.mount("tmpfs", f"{victim}/below", "tmpfs", 0, "")
    (victim / "below" / "seen").touch()
    falls(jail.exec("ls /n/below").out)
    syscalls.umount(f"{victim}/below")


def test_row_21_maps_of_users(lab: runtime.Lab, beside: naive.Naive) -> None:
    """Two pods with hostUsers false have ranges of their own, of which root is not the machine's; 65536 each."""

    def verdict(maps: list[str]) -> str:
        rows = [[int(word) for word in line.split()] for text in maps for line in text.splitlines()]
        spans = sorted((outside, outside + count) for _, outside, count in rows)
        apart = all(first[1] <= second[0] for first, second in zip(spans, spans[1:]))
        right = apart and all(inside == 0 and outside >= 65536 and count == 65536 for inside, outside, count in rows)
        return "" if right else str(rows)

    read = "cat /proc/self/uid_map"
    made = lab.start(*(lab.pod({"command": SLEEP}, hostUsers=False) for _ in range(2)))
    assert [pod.said for pod in made] == ["", ""]
    assert verdict([pod.sh(read) for pod in made]) == ""
    before = made[0].sh(read)
    made[1].delete(0)
    assert made[0].sh(read) == before
    made[0].delete(0)
    falls(verdict([beside.start(Spec(SLEEP)).exec(read).out for _ in range(2)]))


class TestRow25:
    """Nothing is deleted through a mount: CVE-2024-23652 and its kin."""

    def test_row_25_what_is_mounted_in_a_volume(self, lab: runtime.Lab, victim: pathlib.Path) -> None:
        """A directory and a file of the machine's, mounted below what is deleted with the pod."""
        with runtime.nothing_left(lab):
            pod = lab.run_pod(
                {"command": SLEEP, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}, volumes=[{"name": "v"}]
            )
            pod.sh("mkdir /v/x; touch /v/f")
            volume = f"{paths.pod_data_dir(lab.name, pod.uid)}/volumes/v"
            for source, name in ((str(victim), "x"), (f"{victim}/file", "f")):
                lab.in_node("mount", "--bind", source, f"{volume}/{name}")
            pod.delete(0)
        assert lost(victim) == ""

    def test_row_25_what_a_crash_has_left(
        self, lab: runtime.Lab, beside: naive.Naive, victim: pathlib.Path, tmp_path: pathlib.Path
    ) -> None:
        """The machine still has a volume mounted when the pod's remains are cleared: refused, and named."""
        pod = lab.run_pod({"command": SLEEP})
        ends = [pod.pause(), pod.supervisor()]
        os.kill(ends[1], signal.SIGKILL)
        runtime.wait_for_end(ends)
        place = f"{paths.pod_data_dir(lab.name, pod.uid)}/volumes/v"
        os.makedirs(place)
        syscalls.mount(str(victim), place, None, syscalls.MS_BIND)
        try:
            with pytest.raises(PodlabError, match=f"{place} is mounted there"):
                pods.clear(lab.name, pod.uid)
            with pytest.raises(OSError, match="Invalid cross-device link"):
                files.remove_tree(paths.pod_data_dir(lab.name, pod.uid))
        finally:
            syscalls.umount(place)
        pods.clear(lab.name, pod.uid)
        assert lost(victim) == ""
        (tmp_path / "naive/volume").mkdir(parents=True)
        syscalls.mount(str(victim), str(tmp_path / "naive/volume"), None, syscalls.MS_BIND)
        naive.remove(str(tmp_path / "naive"))
        syscalls.umount(str(tmp_path / "naive/volume"), syscalls.MNT_DETACH)
        falls(lost(victim))


def test_row_25_a_chain_of_directories_without_end(lab: runtime.Lab, tmp_path: pathlib.Path) -> None:
    """What a container has made can be removed, whatever it is."""
    attacks.compile_all(tmp_path)
    with runtime.nothing_left(lab):
        mounted = [{"name": "v", "mountPath": "/v"}, {"name": "a", "mountPath": "/attack"}]
        volumes = [{"name": "v"}, {"name": "a", "hostPath": {"path": str(tmp_path)}}]
        container = {"command": ["sh", "-c", "/attack/deep / && /attack/deep /v"], "volumeMounts": mounted}
        pod = lab.run_pod(container, restartPolicy="Never", volumes=volumes)
        assert pod.ended()["exitCode"] == 0
        pod.delete(0)


def as_nobody(body: Callable[[], str]) -> str:
    """What body says as a user of the machine without any rights."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(write, body().encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        said = file.read().decode()
    os.waitpid(child, 0)
    return said


def test_row_32_modes(lab: runtime.Lab, beside: naive.Naive) -> None:
    """CVE-2021-41103: others on the machine see neither state nor volumes nor roots with setuid files in them."""
    script = "cp /bin/busybox /own; chmod 4755 /own; sleep 1000"
    pod = lab.run_pod(
        {"command": ["sh", "-c", script], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}, volumes=[{"name": "v"}]
    )
    jail = beside.start(Spec(SLEEP))
    jail.exec("cp /bin/busybox /own; chmod 4755 /own")

    def open_to_others(top: str) -> str:
        # Its parents are the machine's: their modes must not be what holds.
        start = os.open(os.path.dirname(top), os.O_PATH)
        inside = [
            f"{place}/{name}"[len(os.path.dirname(top)) + 1 :]
            for place, dirs, names in os.walk(top)
            for name in dirs + names
        ]
        assert len(inside) > 5

        def look() -> str:
            return "\n".join(
                name for name in [os.path.basename(top), *inside] if os.access(name, os.R_OK, dir_fd=start)
            )

        try:
            return as_nobody(look)
        finally:
            os.close(start)

    ours = (paths.cluster_dir(lab.name), paths.data_dir(lab.name), paths.images_dir())
    assert [open_to_others(top) for top in ours] == ["", "", ""]
    falls(open_to_others(str(jail.base)))
    pod.delete(0)


def test_row_34_routers(lab: runtime.Lab) -> None:
    """CVE-2020-10749: no router is believed, on either end of a pod's link."""
    pod = lab.run_pod({"command": SLEEP})
    links = [line.split(":")[1].strip().split("@")[0] for line in lab.in_node("ip", "-o", "link").splitlines()]
    ends = [name for name in links if name.startswith("veth")]
    assert ends

    def believes(setting: str) -> str:
        return "" if setting == "0\n" else setting

    for name in ends:
        assert believes(lab.in_node("cat", f"/proc/sys/net/ipv6/conf/{name}/accept_ra")) == ""
    assert believes(pod.sh("cat /proc/sys/net/ipv6/conf/eth0/accept_ra")) == ""
    pod.delete(0)
    with Netlink() as netlink:
        netlink.add_veth("naive0", "naive1")
        falls(believes(pathlib.Path("/proc/sys/net/ipv6/conf/naive0/accept_ra").read_text()))
        netlink.clear_link("naive0")


def test_row_34_the_address_of_another_pod(lab: runtime.Lab) -> None:
    """Who takes another pod's address, and says so to the node, gets nothing of its traffic."""
    admin = {"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}
    script = "exec nc -ll -p 80 -e hostname"
    right, thief = lab.start(*(lab.pod({"command": ["sh", "-c", script], **admin}) for _ in range(2)))
    address = right.status()["podIP"]
    thief.sh(f"ip address add {address}/32 dev eth0; arping -U -c 2 -w 2 -I eth0 {address} || true")
    ask = f"import socket; print(socket.create_connection(('{address}', 80), 30).recv(100).decode(), end='')"
    right.sh("until netstat -ltn | grep -q :80; do :; done")
    assert lab.in_node(sys.executable, "-c", ask) == f"{right.config['name']}\n"
    for pod in (right, thief):
        pod.delete(0)


def test_row_36_output_without_end(lab: runtime.Lab) -> None:
    """32 MiB without an end of line: its supervisor grows by no more than the pieces that it writes, and lives on."""
    script = "dd if=/dev/zero bs=1M count=32 2>/dev/null | tr '\\0' x; echo; echo end"
    pod = lab.run_pod({"command": ["sh", "-c", script]}, {"command": SLEEP}, restartPolicy="Never")

    def memory() -> int:
        text = pathlib.Path(f"/proc/{pod.supervisor()}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0])

    before = memory()
    assert pod.ended()["exitCode"] == 0
    assert memory() - before < 4096
    written = sum(file.stat().st_size for file in (pod.logs / "c0").iterdir())
    assert written > 32 << 20 or len(list((pod.logs / "c0").iterdir())) > 1
    assert "running" in pod.container("c1")["state"]
    pod.delete(0)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the machine that has, so we say, got the number of one of ours."""
    running = subprocess.Popen(["sleep", "1000"])
    yield running
    running.kill()
    running.wait()


def test_row_37_numbers_used_again(lab: runtime.Lab, stranger: subprocess.Popen[bytes], tmp_path: pathlib.Path) -> None:
    """A number that was written down is not a process: who has it now is neither signalled nor joined."""
    pod = lab.run_pod({"command": SLEEP})
    record = f"{pod.directory}/supervisor.json"
    kept = files.read_json(record)
    files.write_json(record, {**kept, "pid": stranger.pid})
    assert pods.ask_to_go(lab.name, pod.uid, 0) == -1
    assert not process.kill(stranger.pid, process.start_time(stranger.pid) + 1)
    assert stranger.poll() is None
    files.write_json(record, kept)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{pod.directory}/delete.json")
    status = pod.status()
    # The node's own first process: joined instead of the container it would be a root shell on the machine.
    status["podlab"]["pids"]["c0"] = 1
    files.write_json(f"{pod.directory}/status.json", status)
    assert pod.exec("ls", "/").code == 255
    with pytest.raises(PodlabError):
        podlab_exec.exec_in(lab.name, "no-such-uid", "", ["true"])
    pod.delete(0)
    (tmp_path / "pid").write_text(str(stranger.pid))
    naive.signal_recorded(tmp_path / "pid", signal.SIGTERM)
    falls(str(stranger.wait()))


def test_row_38_leftovers(lab: runtime.Lab) -> None:
    """After a deletion: no process, mount, namespace, link, cgroup, address, file or descriptor more than before."""
    before = runtime.trace(lab.name)

    def left() -> str:
        after = runtime.trace(lab.name)
        return "\n".join(f"{kind}: {name}" for kind in before for name in after[kind] if name not in before[kind])

    with attacks.naive_beside(lab) as beside:
        both = Both(Podlab(lab), beside)
        for which in both:
            jail = which.start(Spec(["sh", "-c", "setsid sleep 1000 & sleep 1000"]))
            jail.exec("setsid sleep 1001 >/dev/null 2>&1 &")
            jail.delete()
            if which is both.podlab:
                assert left() == ""
            else:
                falls(left())
    assert [each for each in mounts() if "/naive/" in each.mount_point] == []
