"""Rows of the security table about a start: what images, volumes and users must not do. The naive runtime falls."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

import podlab
from podlab.errors import PodlabError
from podlab.linux import syscalls
from podlab.linux.mountinfo import MountInfo, mounts
from podlab.runtime import rootmounts
from podlab.runtime.rootmounts import RootMount
from support import attacks, runtime
from support.attacks import Both, Podlab
from support.naive import Refused, Spec

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]
SECRET = "of the machine\n"
STARTS = 12


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.one_node(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="module")
def both(lab: runtime.Lab) -> Iterator[Both]:
    """podlab's runtime and the naive one."""
    with attacks.naive_beside(lab) as beside:
        yield Both(Podlab(lab), beside)


@pytest.fixture
def layer(tmp_path: pathlib.Path) -> pathlib.Path:
    """A layer of the attacker's, on top of busybox's."""
    (tmp_path / "layer").mkdir()
    return tmp_path / "layer"


@pytest.fixture
def victim(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A directory of the machine that no container has any business in; what was mounted over it goes afterwards."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "hosts").write_text(SECRET)
    yield tmp_path / "victim"
    while over := [each.mount_point for each in mounts() if each.mount_point.startswith(f"{tmp_path}/victim")]:
        syscalls.umount(max(over, key=len), syscalls.MNT_DETACH)


def harm(victim: pathlib.Path) -> str:
    """What has changed in the victim."""
    over = [each.mount_point for each in mounts() if each.mount_point.startswith(str(victim))]
    if over:
        return f"mounted: {over}"
    found = {path.name: path.read_text() if path.is_file() else "" for path in victim.iterdir()}
    return "" if found == {"hosts": SECRET} else str(found)


def test_row_02_working_directory_in_a_descriptor(both: Both, victim: pathlib.Path) -> None:
    """CVE-2024-21626: whatever the caller or the runtime has open, no number leads out."""
    root = os.open("/", os.O_RDONLY)
    os.set_inheritable(root, True)
    specs = [Spec(["cat", f"/proc/self/cwd{victim}/hosts"], cwd=f"/proc/self/fd/{number}") for number in range(3, 24)]
    both.check(lambda which: "".join(which.outputs(specs)))
    os.close(root)


def test_row_08_code_of_the_image(both: Both, layer: pathlib.Path) -> None:
    """CVE-2019-14271: an image ships every module of Python and of podlab; none is loaded by who starts or joins it."""
    files = {pathlib.Path(os.__file__).parent / f"{name}.py" for name in sys.stdlib_module_names}
    files |= {pathlib.Path(os.__file__).parent / f"{name}/__init__.py" for name in ("encodings", "ctypes", "json")}
    files |= set(pathlib.Path(podlab.__file__).parent.rglob("*.py"))
    for file in files:
        place = layer / str(file)[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("open('/loaded-' + __name__, 'w').close()\n")
    (layer / "etc").mkdir()
    (layer / "etc/ld.so.preload").write_text("/evil.so\n")
    (layer / "etc/nsswitch.conf").write_text("passwd: evil\ngroup: evil\n")

    def verdict(which: attacks.Runtime) -> str:
        jail = which.start(Spec(["sleep", "1000"], [str(layer)]))
        assert jail.exec("true").code == 0
        said = str(jail.exec("ls -d /loaded-* 2>/dev/null").out)
        jail.delete()
        return said

    both.check(verdict)


LINKS = [
    ("etc", "/victim"),
    ("etc", "../" * 16 + "victim"),
    ("etc/hosts", "../" * 16 + "victim/hosts"),
    ("etc/hosts", "/victim/new"),
    ("dev", "/victim"),
    ("proc", "/victim"),
    ("sys", "/victim"),
]


@pytest.mark.parametrize(("link", "target"), LINKS, ids=[f"{link}-{target[:3]}" for link, target in LINKS])
def test_row_11_links_of_an_image(
    both: Both, layer: pathlib.Path, victim: pathlib.Path, link: str, target: str
) -> None:
    """CVE-2024-45310: a runtime has written the machine's files through an image's links."""
    place = layer / link
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(target.replace("/victim", str(victim)))

    def verdict(which: attacks.Runtime) -> str:
        which.outputs([Spec(["true"], [str(layer)])])
        return harm(victim)

    both.check(verdict)


@pytest.fixture
def swapped(tmp_path: pathlib.Path, victim: pathlib.Path) -> Iterator[pathlib.Path]:
    """A volume of the attacker's, whose `dir` is a directory in one moment and a link to the victim in the next."""
    volume, helpers = tmp_path / "volume", tmp_path / "helpers"
    helpers.mkdir()
    (volume / "dir").mkdir(parents=True)
    (volume / "link").symlink_to(victim)
    attacks.compile_all(helpers)
    running = subprocess.Popen([str(helpers / "swap"), str(volume / "dir"), str(volume / "link")])
    yield volume
    running.kill()
    running.wait()


def test_row_12_swapped_mount_point(
    both: Both, tmp_path: pathlib.Path, victim: pathlib.Path, swapped: pathlib.Path
) -> None:
    """CVE-2021-30465: where a mount goes is decided once, inside of the root."""
    (tmp_path / "other").mkdir()
    spec = Spec(["true"], mounts=[(str(swapped), "/v"), (str(tmp_path / "other"), "/v/dir/new")])

    def verdict(which: attacks.Runtime) -> str:
        if which is both.podlab:
            which.outputs([spec] * STARTS)
            return harm(victim)
        # One at a time: each shares its mounts with all before it.
        for _ in range(2 * STARTS):
            which.outputs([spec])
            if harm(victim):
                break
        return harm(victim)

    both.check(verdict)


def test_row_12_what_is_mounted_is_what_is_made_read_only(tmp_path: pathlib.Path, swapped: pathlib.Path) -> None:
    """The same race between the mount and its options: a swap must not leave a readOnly volume writable."""
    source = tmp_path / "source"
    source.mkdir()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        said = "nothing"
        try:
            said = mount_again_and_again(str(swapped), str(source))
        except BaseException as error:
            said = repr(error)
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        said = file.read().decode()
    os.waitpid(child, 0)
    assert said == ""


def mount_again_and_again(root: str, source: str) -> str:
    """In a mount namespace of its own: what was left writable."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("tmpfs", source, "tmpfs", 0, "size=1m")
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    os.makedirs(f"{root}/other")

    def made() -> list[MountInfo]:
        small = [each for each in mounts() if each.fstype == "tmpfs" and "size=1024k" in each.super_options]
        return [each for each in small if each.mount_point != source]

    mounted = 0
    for _ in range(3000):
        try:
            rootmounts.perform(fd, [RootMount("/dir/new", "", source, syscalls.MS_RDONLY)])
        except PodlabError:
            continue  # what was swapped in the middle of it is refused
        mounted += 1
        if mounted == 300:
            return ""
        found = made()
        if len(found) != 1 or "ro" not in found[0].options:
            return str(found)
        while found:
            # Its place is swapped, too.
            with contextlib.suppress(OSError):
                syscalls.umount(found[0].mount_point, syscalls.MNT_DETACH)
            found = made()
    return f"only {mounted} mounts were made"


def test_row_13_masks_are_the_null_device(both: Both, layer: pathlib.Path) -> None:
    """CVE-2025-31133: an image's /dev/null, a link, is not what the masks are made of."""
    (layer / "dev").mkdir()
    (layer / "dev/null").symlink_to("/proc/sys/kernel/core_pattern")
    pattern = pathlib.Path("/proc/sys/kernel/core_pattern").read_text()

    def verdict(which: attacks.Runtime) -> str:
        said = which.outputs([Spec(["stat", "-c", "%t:%T", "/proc/timer_list", "/proc/keys"], [str(layer)])])
        return "" if said == ["1:3\n1:3\n"] else str(said)

    both.check(verdict)
    assert pathlib.Path("/proc/sys/kernel/core_pattern").read_text() == pattern


PROC = ["/proc", "/proc/self/attr", "/proc/sys", "/v/link", "/v/link/self/attr"]


@pytest.mark.parametrize("target", PROC)
def test_row_15_mounts_over_proc(both: Both, tmp_path: pathlib.Path, target: str) -> None:
    """CVE-2019-16884: nothing is mounted over /proc, by name or through a link, from where we read and write."""
    for name in ("fake", "volume"):
        (tmp_path / name).mkdir()
    (tmp_path / "volume/link").symlink_to("/proc")
    (tmp_path / "fake/mark").write_text(SECRET)
    specs = [
        Spec(["cat", f"{target}/mark"], mounts=[(str(tmp_path / "volume"), "/v"), (str(tmp_path / "fake"), target)])
    ]
    if target.startswith("/v/"):
        # The naive one follows the link on the machine instead: row 12.
        assert both.podlab.outputs(specs) == [""]
    else:
        both.check(lambda which: "".join(which.outputs(specs)))


# As an image has it -> what `id -u` may say; "" is a refusal.
USERS = {
    "4294967296": {""},
    "4294968296": {""},
    "2147483648": {""},
    "-1": {""},
    "-4294967296": {""},
    "+0": {""},
    "00": {"", "0\n"},
    "1000:": {"1000\n"},
    "1000:1000": {"1000\n"},
    "nobody-here": {""},
    "0x10": {""},
}


def test_row_22_users(both: Both) -> None:
    """CVE-2024-40635: no number and no name that is not root's makes a container root."""

    def verdict(which: attacks.Runtime) -> str:
        said = dict(zip(USERS, which.outputs([Spec(["id", "-u"], user=user) for user in USERS])))
        return str({user: text for user, text in said.items() if text not in USERS[user]} or "")

    both.check(verdict)


def test_row_24_overlay_options(both: Both, tmp_path: pathlib.Path) -> None:
    odd = tmp_path / "a:b,c\\d"
    odd.mkdir()
    (odd / "file").write_text("inside\n")

    def verdict(which: attacks.Runtime) -> str:
        said = which.outputs([Spec(["cat", "/file"], [str(odd)])])
        return "" if said == ["inside\n"] else f"it reads {said}"

    both.check(verdict)


def test_row_26_links_in_volumes(both: Both, tmp_path: pathlib.Path, victim: pathlib.Path) -> None:
    """CVE-2017-1002101: what a container has put into a volume leads the next one's mounts nowhere."""
    for name in ("volume", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "volume/link").symlink_to(victim)
    spec = Spec(["true"], mounts=[(str(tmp_path / "volume"), "/v"), (str(tmp_path / "other"), "/v/link/new")])

    def verdict(which: attacks.Runtime) -> str:
        which.outputs([spec])
        return harm(victim)

    both.check(verdict)


def test_row_26_sub_paths(lab: runtime.Lab, both: Both, tmp_path: pathlib.Path, victim: pathlib.Path) -> None:
    """CVE-2021-25741: a sub-path that is a link out of its volume is refused, one that is swapped never leaves it."""
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "x").symlink_to(victim)
    mounted = [{"name": "v", "mountPath": "/sub", "subPath": "x"}]
    volumes = [{"name": "v", "hostPath": {"path": str(volume)}}]
    pod = lab.run_pod(
        {"command": ["cat", "/sub/hosts"], "volumeMounts": mounted}, restartPolicy="Never", volumes=volumes
    )
    assert "subPath" in pod.said
    pod.delete(0)
    assert harm(victim) == ""
    assert both.naive.outputs([Spec(["cat", "/sub/hosts"], mounts=[(str(volume / "x"), "/sub")])]) == [SECRET]


def test_row_26_swapped_sub_path(lab: runtime.Lab, victim: pathlib.Path, swapped: pathlib.Path) -> None:
    mounted = [{"name": "v", "mountPath": "/sub", "subPath": "dir"}]
    volumes = [{"name": "v", "hostPath": {"path": str(swapped)}}]
    container = {"command": ["sh", "-c", "cat /sub/hosts; true"], "volumeMounts": mounted}
    pod = lab.run_pod(*[container] * STARTS, restartPolicy="Never", volumes=volumes)
    for number in range(STARTS):
        pod.until(lambda pod, name=f"c{number}": pod.container(name).get("state"))
        log = pod.logs / f"c{number}" / "0.log"
        assert not log.exists() or "of the machine" not in log.read_text()
    pod.delete(0)
    assert harm(victim) == ""


MESSAGES = {
    "a link": "rm -f $log; ln -s {victim}/hosts $log",
    "a FIFO": "rm -f $log; mkfifo $log",
    "64 MiB": "truncate -s 64M $log; printf begin | dd of=$log conv=notrunc",
}


@pytest.mark.parametrize("case", MESSAGES)
def test_row_27_termination_log(both: Both, victim: pathlib.Path, case: str) -> None:
    """What the runtime reads of a container: 4096 bytes at most, of a regular file, and through no link."""
    script = f"log=/dev/termination-log; {MESSAGES[case].format(victim=victim)}; exit 0"

    def verdict(which: attacks.Runtime) -> str:
        jail = which.start(Spec(["sh", "-c", script]))
        assert jail.wait() == 0
        said = str(jail.termination_message())
        return said if len(said) > 4096 or "machine" in said else ""

    if case == "a FIFO":
        # The naive one would wait for ever.
        assert verdict(both.podlab) == ""
    else:
        both.check(verdict)


def test_row_27_passwd(both: Both, layer: pathlib.Path, victim: pathlib.Path) -> None:
    """CVE-2024-9676: an image's passwd that is a FIFO, a link or endless stops nobody and tells nothing."""
    (layer / "etc").mkdir()
    os.mkfifo(layer / "etc/passwd")
    (layer / "etc/group").symlink_to("/proc/1/environ")
    assert both.podlab.outputs([Spec(["sh", "-c", "echo $HOME"], [str(layer)])]) == ["/\n"]
    (layer / "etc/passwd").unlink()
    with (layer / "etc/passwd").open("w") as file:
        file.truncate(1 << 40)
    assert both.podlab.outputs([Spec(["sh", "-c", "echo $HOME"], [str(layer)])]) == ["/\n"]


def test_row_36_memory(both: Both) -> None:
    """A container that takes more than its limit ends, alone."""

    def verdict(which: attacks.Runtime) -> str:
        jail = which.start(Spec(["sh", "-c", "dd if=/dev/zero of=/dev/null bs=64M count=1; exit $?"], memory=16 << 20))
        return "" if jail.wait() == 137 or "137" in jail.output() else f"exit code {jail.wait()}: {jail.output()}"

    both.check(verdict)


def test_row_36_shared_memory(both: Both) -> None:
    script = "dd if=/dev/zero of=/dev/shm/x bs=1M count=65 2>/dev/null && echo written; rm /dev/shm/x"
    both.check(lambda which: "".join(which.outputs([Spec(["sh", "-c", script])])))


def test_a_refusal_is_one(both: Both) -> None:
    """Both say so when a container cannot start: else the tests above would take silence for it."""
    for which in both:
        with pytest.raises(Refused):
            which.start(Spec(["/no/such/command"]))
