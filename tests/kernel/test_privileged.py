"""Containers that may do more than others: privileged, with procMount, and with a user namespace around them."""

from __future__ import annotations

import os
import pathlib
import stat
from collections.abc import Iterator

import pytest

from podlab.linux.mountinfo import MountInfo, mounts
from podlab.runtime import rootmounts
from support import runtime

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]
SLEEP = {"command": ["sleep", "1000"]}
DEFAULT = {"seccompProfile": {"type": "RuntimeDefault"}}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.one_node(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="module")
def pod(lab: runtime.Lab) -> runtime.Pod:
    contexts = {"default": DEFAULT, "privileged": {"privileged": True}, "unmasked": {"procMount": "Unmasked"}}
    made = lab.run_pod(*({**SLEEP, "name": name, "securityContext": each} for name, each in contexts.items()))
    assert made.said == ""
    return made


def facts(pid: int) -> dict[str, str]:
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines}


def table(pod: runtime.Pod, name: str) -> dict[str, MountInfo]:
    return {each.mount_point: each for each in mounts(pod.pid(name))}


def test_proc_mount_unmasked(pod: runtime.Pod) -> None:
    """Neither masked nor read-only; nothing else of a privileged container comes with it."""
    found = table(pod, "unmasked")
    assert [path for path in found if path.startswith(("/proc/", "/sys/firmware", "/sys/devices"))] == []
    assert "ro" in found["/sys"].options and "ro" in found["/sys/fs/cgroup"].options
    assert facts(pod.pid("unmasked"))["CapBnd"] == facts(pod.pid("default"))["CapBnd"]


def test_the_second_run_has_the_same_user(lab: runtime.Lab) -> None:
    """security.md row 22: root on restart (CVE-2019-11245)."""
    planned = lab.pod({"command": ["sh", "-c", "id -u; id -G; exit 1"]}, restartPolicy="OnFailure")
    config = lab.config(planned)
    config["containers"][0]["user"] = {"name": "1000:", "gid": None, "groups": [5], "members": True}
    made = lab.start_config(planned, config)
    made.until(
        lambda each: each.container().get("restartCount", 0) >= 1 and "terminated" in each.container()["lastState"]
    )
    made.until_log("5", run=1)
    assert made.log(run=0) == made.log(run=1) == "1000\n0 5\n"
    made.delete(0)


class TestPrivileged:
    """containerd's WithPrivileged, WithHostDevices, and no masks."""

    def test_sysfs_and_cgroups_can_be_written(self, pod: runtime.Pod) -> None:
        found = table(pod, "privileged")
        writable = [path for path in found if path == "/sys" or path.startswith("/sys/fs/cgroup")]
        assert len(writable) > 1
        assert [path for path in writable if "ro" in found[path].options] == []
        pod.sh(
            "for d in /sys/fs/cgroup/pids /sys/fs/cgroup; do mkdir $d/x 2>/dev/null && rmdir $d/x && exit; done; false",
            "privileged",
        )

    def test_nothing_is_masked(self, pod: runtime.Pod) -> None:
        found = table(pod, "privileged")
        assert [path for path in found if path.startswith(("/proc/", "/sys/firmware", "/sys/devices"))] == []
        pod.sh("cat /proc/timer_list > /dev/null; hostname > /tmp/n", "privileged")

    def test_every_device_of_the_node(self, pod: runtime.Pod) -> None:
        inside = set(pod.sh("cd /dev; find . -type c -o -type b", "privileged").split())
        wanted = set()
        for place, directories, names in os.walk("/dev"):
            directories[:] = [
                name for name in directories if f"{place}/{name}" not in ("/dev/pts", "/dev/shm", "/dev/mqueue")
            ]
            for name in names:
                mode = os.lstat(f"{place}/{name}").st_mode
                if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                    wanted.add(f"./{os.path.relpath(f'{place}/{name}', '/dev')}")
        own = {f"./{name}" for name, _, _ in rootmounts.DEVICES}
        assert inside - {"./pts/ptmx"} == wanted - {"./console", "./ptmx"} | own

    def test_they_can_be_opened(self, pod: runtime.Pod) -> None:
        """The device cgroup allows all: a node made inside opens, which fails in any other container."""
        script = "mknod /tmp/k c 1 11; : < /tmp/k"
        pod.sh(script, "privileged")
        assert "Operation not permitted" in pod.exec("sh", "-c", script, container="default").err

    def test_it_can_mount(self, pod: runtime.Pod) -> None:
        pod.sh("mkdir /m && mount -t tmpfs none /m && umount /m", "privileged")


@pytest.fixture(scope="module")
def mapped(lab: runtime.Lab) -> runtime.Pod:
    free = {"type": "Unconfined"}
    contexts = [
        {**DEFAULT, "capabilities": {"add": ["SYS_ADMIN"]}},
        {"procMount": "Unmasked", "seccompProfile": free},
        {"seccompProfile": free},
        {"privileged": True},
        {**DEFAULT, "runAsUser": 1000, "allowPrivilegeEscalation": False},
    ]
    made = lab.run_pod(*({**SLEEP, "securityContext": each} for each in contexts), hostUsers=False)
    if "idmapped" in made.said or "mapped" in made.said:
        pytest.skip(made.said)
    return made


class TestUserNamespace:
    """hostUsers: false beside all that."""

    NEW_PROC = ("unshare", "-Urmpf", "sh", "-c", "mount -t proc none /proc && echo mounted")

    def test_filters(self, mapped: runtime.Pod) -> None:
        modes = {name: facts(mapped.pid(name))["Seccomp"] for name in ("c0", "c1", "c2", "c3", "c4")}
        assert modes == {"c0": "2", "c1": "0", "c2": "0", "c3": "0", "c4": "2"}
        assert facts(mapped.pause())["Seccomp"] == "2"
        for name in ("c0", "c4"):
            executed = mapped.exec("grep", "Seccomp:", "/proc/self/status", container=name).out
            assert executed.split() == ["Seccomp:", "2"]

    def test_unmasked_lets_a_new_proc_be_mounted(self, mapped: runtime.Pod) -> None:
        """What it is for: containers in containers. With masks the kernel refuses (security.md row 16)."""
        assert mapped.exec(*self.NEW_PROC, container="c1").out == "mounted\n"
        assert "mounted" not in mapped.exec(*self.NEW_PROC, container="c2").out

    def test_privileged_is_so_within(self, mapped: runtime.Pod) -> None:
        mapped.sh("mkdir /m && mount -t tmpfs none /m && umount /m && hostname other", "c3")
        assert mapped.exec("sh", "-c", "mknod /k c 1 11", container="c3").code != 0
