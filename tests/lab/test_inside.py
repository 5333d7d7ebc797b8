"""What a process finds inside a container: files, environment, mounts, devices, rights, limits. All of it, no more."""

from __future__ import annotations

import os
import pathlib
import re
from typing import Any

import pytest

from podlab.linux import cgroup
from support.lab import Lab, container_of, container_pid, ip_of, name_of, node_of, pause_of, uid_of

pytestmark = pytest.mark.lab

SAFE = {"nosuid", "nodev", "noexec"}
# Target -> type and options, in the order in which they are mounted (pods.md 1.2); relatime is everybody's.
MOUNTS: dict[str, tuple[str, set[str]]] = {
    "/": ("overlay", {"rw"}),
    "/proc": ("proc", {"rw", *SAFE}),
    "/dev": ("tmpfs", {"rw", "nosuid"}),
    "/dev/pts": ("devpts", {"rw", "nosuid", "noexec"}),
    "/dev/mqueue": ("mqueue", {"rw", *SAFE}),
    "/sys": ("sysfs", {"ro", *SAFE}),
    "/dev/shm": ("tmpfs", {"rw", *SAFE}),
}
SUPER_OPTIONS = {
    "/dev": {"mode=755", "size=65536k"},
    "/dev/pts": {"gid=5", "mode=620", "ptmxmode=666"},
    "/dev/shm": {"size=65536k"},
}
FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log")
DEVICES = "fd full mqueue null ptmx pts random shm stderr stdin stdout termination-log tty urandom zero".split()
MASKED = (
    "/proc/asound /proc/acpi /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list "
    "/proc/timer_stats /proc/sched_debug /proc/scsi /sys/firmware /sys/devices/virtual/powercap"
).split()
READ_ONLY = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()

# CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL
# AUDIT_WRITE
DEFAULT_CAPABILITIES = 0x00000000A80425FB


class Mount:
    """A line of /proc/self/mountinfo."""

    def __init__(self, line: str) -> None:
        before, _, after = line.partition(" - ")
        fields = before.split()
        self.root, self.target, self.options = fields[3], fields[4], set(fields[5].split(",")) - {"relatime"}
        self.type, _, options = after.split(" ", 2)
        self.super_options = set(options.split(","))
        self.propagation = fields[6:]


@pytest.fixture(scope="module")
def web(lab: Lab) -> dict[str, Any]:
    """A pod of the Deployment: one container, env from the manifest, a Service of its namespace."""
    return lab.pods("web-")[0]


@pytest.fixture(scope="module")
def mounts(lab: Lab, web: dict[str, Any]) -> list[Mount]:
    return [Mount(line) for line in lab.exec(name_of(web), "cat", "/proc/self/mountinfo").splitlines()]


# ---- files ----


def test_hosts_file_byte_for_byte(lab: Lab, web: dict[str, Any]) -> None:
    assert lab.exec(name_of(web), "cat", "/etc/hosts") == (
        "# Kubernetes-managed hosts file.\n"
        "127.0.0.1\tlocalhost\n"
        "::1\tlocalhost ip6-localhost ip6-loopback\n"
        "fe00::0\tip6-localnet\n"
        "fe00::0\tip6-mcastprefix\n"
        "fe00::1\tip6-allnodes\n"
        "fe00::2\tip6-allrouters\n"
        f"{ip_of(web)}\t{name_of(web)}\n"
    )


def test_hosts_file_with_subdomain_and_aliases(extras: Lab) -> None:
    pod = extras.pod("words", "extras")
    lines = extras.exec("words", "cat", "/etc/hosts", namespace="extras").splitlines()
    assert lines[7:] == [
        f"{ip_of(pod)}\tnamed.db.extras.svc.cluster.local\tnamed",
        "",
        "# Entries added by HostAliases.",
        "192.0.2.7\tone.test\ttwo.test",
    ]


def test_resolver_file_byte_for_byte(extras: Lab, web: dict[str, Any]) -> None:
    own = "default.svc.cluster.local svc.cluster.local cluster.local"
    assert extras.exec(name_of(web), "cat", "/etc/resolv.conf") == (
        f"search {own}{machine_searches(own)}\nnameserver 10.96.0.10\noptions ndots:5\n"
    )
    own = "extras.svc.cluster.local svc.cluster.local cluster.local"
    assert extras.exec("words", "cat", "/etc/resolv.conf", namespace="extras") == (
        f"search {own}{machine_searches(own)} test\nnameserver 10.96.0.10\noptions ndots:2\n"
    )


def machine_searches(own: str) -> str:
    """The search domains that the machine's own resolv.conf adds, which may be a pod's, too."""
    text = pathlib.Path("/etc/resolv.conf").read_text(encoding="utf-8")
    found = re.findall(r"^search[ \t]+(.*)$", text, re.MULTILINE)
    words = dict.fromkeys(word.rstrip(".") for word in found[-1].split()) if found else {}
    return "".join(f" {word}" for word in words if word not in own.split())


def test_hostname(extras: Lab, web: dict[str, Any]) -> None:
    for name, hostname, namespace in ((name_of(web), name_of(web), ""), ("words", "named", "extras")):
        assert extras.exec(name, "hostname", namespace=namespace) == f"{hostname}\n"
        assert extras.exec(name, "cat", "/etc/hostname", namespace=namespace) == f"{hostname}\n"


# ---- environment ----


def environ(lab: Lab, pod: str, namespace: str = "") -> dict[str, str]:
    """The environment that the container's first process was started with."""
    text = lab.exec(pod, "cat", "/proc/1/environ", namespace=namespace)
    return dict(entry.split("=", 1) for entry in text.rstrip("\0").split("\0"))


def test_environment_is_path_home_hostname_the_manifest_and_services(lab: Lab, web: dict[str, Any]) -> None:
    address = lab.service_ip("web")
    wanted = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME": name_of(web),
        "HOME": "/root",
        "POD_NAME": name_of(web),
        "WEB_SERVICE_HOST": address,
        "WEB_SERVICE_PORT": "80",
        "WEB_SERVICE_PORT_HTTP": "80",
        "WEB_PORT": f"tcp://{address}:80",
        "WEB_PORT_80_TCP": f"tcp://{address}:80",
        "WEB_PORT_80_TCP_PROTO": "tcp",
        "WEB_PORT_80_TCP_PORT": "80",
        "WEB_PORT_80_TCP_ADDR": address,
    }
    assert environ(lab, name_of(web)) == wanted
    # exec gives the same, nothing of the shell that it is called from.
    shown = lab.exec(name_of(web), "env").splitlines()
    assert dict(line.split("=", 1) for line in shown) == wanted


def test_references_are_expanded_as_kubelet_does(extras: Lab) -> None:
    pod = extras.pod("words", "extras")
    found = environ(extras, "words", "extras")
    assert found["GREETING"] == "hello world"
    assert found["COLOUR"] == "green"
    assert found["ADDRESS"] == ip_of(pod)
    assert found["NODE"] == node_of(pod)
    assert found["HOSTNAME"] == "named"
    # enableServiceLinks: false leaves only the Service "kubernetes", which a lab does not have.
    assert [name for name in found if "_SERVICE_" in name] == []
    assert extras.invoke("logs", "words", "-n", "extras").stdout == "hello world|$(GREETING)|$(UNKNOWN)\n"


def test_working_directory_is_the_manifests(extras: Lab) -> None:
    for file in ("/proc/1/cwd", "/proc/self/cwd"):
        assert extras.exec("words", "readlink", file, namespace="extras") == "/etc\n"


def test_working_directory_is_made_when_the_image_lacks_it(extras: Lab) -> None:
    uid = uid_of(extras.pod("elsewhere", "extras"))
    extras.until(uid, lambda pod: pod["status"]["phase"] == "Succeeded", "it could not be started there")
    assert extras.invoke("logs", "elsewhere", "-n", "extras").stdout == "/new/place\n"


# ---- mounts and devices ----


def test_mounts_have_the_runtimes_types_and_options(mounts: list[Mount]) -> None:
    found = {mount.target: mount for mount in mounts}
    assert {target: (found[target].type, found[target].options) for target in MOUNTS} == MOUNTS
    for target, options in SUPER_OPTIONS.items():
        assert options <= found[target].super_options
    assert "master" not in found["/"].super_options
    for target in FILES:
        assert found[target].options == {"rw"}
        assert found[target].root.endswith(target.rpartition("/")[2])
    # The cgroup mounts: read-only, whatever the hierarchy.
    cgroups = [mount for mount in mounts if mount.type.startswith("cgroup")]
    assert cgroups
    assert all(mount.options == {"ro", *SAFE} for mount in cgroups)


def test_there_are_no_other_mounts(mounts: list[Mount]) -> None:
    known = {*MOUNTS, *FILES, *MASKED, *READ_ONLY, "/sys/fs/cgroup"}
    assert [
        mount.target for mount in mounts if mount.target not in known and "/sys/fs/cgroup/" not in mount.target
    ] == []
    targets = [mount.target for mount in mounts]
    assert len(targets) == len(set(targets))


def test_no_mount_receives_or_passes_on_others(mounts: list[Mount]) -> None:
    """rprivate, as runc leaves every mount that has no propagation of its own."""
    assert {mount.target: mount.propagation for mount in mounts if mount.propagation} == {}


def test_devices_are_the_default_ones(lab: Lab, web: dict[str, Any]) -> None:
    core = ["core"] if pathlib.Path("/proc/kcore").exists() else []
    assert lab.exec(name_of(web), "ls", "/dev").split() == sorted([*core, *DEVICES])
    nodes = ("null", "zero", "full", "random", "urandom", "tty")
    script = f"""
    cd /dev
    stat -c '%n %F %t:%T %a %u:%g' {" ".join(nodes)}
    for name in ptmx fd stdin stdout stderr; do readlink $name; done"""
    assert lab.exec(name_of(web), "sh", "-c", script).splitlines() == [
        "null character special file 1:3 666 0:0",
        "zero character special file 1:5 666 0:0",
        "full character special file 1:7 666 0:0",
        "random character special file 1:8 666 0:0",
        "urandom character special file 1:9 666 0:0",
        "tty character special file 5:0 666 0:0",
        "pts/ptmx",
        "/proc/self/fd",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
        "/proc/self/fd/2",
    ]


def test_device_nodes_can_be_made_but_not_opened(lab: Lab, web: dict[str, Any]) -> None:
    """CAP_MKNOD is in the default set; the device cgroup is what stands in the way (1:1 is /dev/mem)."""
    name = name_of(web)
    lab.exec(name, "mknod", "/mem", "c", "1", "1")
    opened = lab.try_exec(name, "head", "-c1", "/mem")
    lab.exec(name, "rm", "/mem")
    assert opened.returncode == 1
    assert "Operation not permitted" in opened.stderr
    assert len(lab.exec(name, "head", "-c4", "/dev/zero")) == 4


def test_masked_paths_say_nothing(lab: Lab, web: dict[str, Any]) -> None:
    """A file reads as /dev/null, a directory is empty and read-only."""
    script = """
    for path in "$@"; do
      if test -d $path; then echo $path directory $(ls -A $path | wc -l) $(touch $path/x 2>&1 | grep -c 'Read-only')
      elif test -e $path; then echo $path file $(wc -c < $path) $(stat -c %t:%T $path)
      fi
    done"""
    lines = lab.exec(name_of(web), "sh", "-c", script, "sh", *MASKED).splitlines()
    for path in MASKED:
        there = pathlib.Path(path)
        if there.exists():
            ending = "directory 0 1" if there.is_dir() else "file 0 1:3"
            assert f"{path} {ending}" in lines
    assert len(lines) == sum(pathlib.Path(path).exists() for path in MASKED)


def test_read_only_paths_are_read_only(lab: Lab, web: dict[str, Any], mounts: list[Mount]) -> None:
    found = {mount.target: mount.options for mount in mounts}
    assert all(found[path] == {"ro", *SAFE} for path in READ_ONLY if pathlib.Path(path).exists())
    name = name_of(web)
    for command in ("echo x > /proc/sys/kernel/domainname", "mkdir /sys/fs/cgroup/x", "mkdir /sys/fs/x"):
        done = lab.try_exec(name, "sh", "-c", command)
        assert done.returncode != 0
        assert "Read-only file system" in done.stderr, command


# ---- rights and limits ----


def test_capabilities_are_the_default_fourteen(lab: Lab, web: dict[str, Any]) -> None:
    machine = status_field(pathlib.Path("/proc/1/status").read_text(encoding="utf-8"), "CapBnd")
    wanted = f"{DEFAULT_CAPABILITIES & int(machine, 16):016x}"
    for file in ("/proc/1/status", "/proc/self/status"):
        text = lab.exec(name_of(web), "cat", file)
        assert [status_field(text, field) for field in ("CapBnd", "CapPrm", "CapEff")] == [wanted] * 3, file
        assert [status_field(text, field) for field in ("CapInh", "CapAmb")] == ["0" * 16] * 2, file
        assert status_field(text, "NoNewPrivs") == "0", file


def status_field(text: str, field: str) -> str:
    """The value of a line of /proc/PID/status."""
    return next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith(f"{field}:"))


def test_user_and_groups_and_no_way_up(extras: Lab) -> None:
    for file in ("/proc/1/status", "/proc/self/status"):
        text = extras.exec("user", "cat", file, namespace="extras")
        assert status_field(text, "Uid").split() == ["1000"] * 4
        assert status_field(text, "Gid").split() == ["2000"] * 4
        assert status_field(text, "Groups").split() == ["2000", "3000"]
        assert status_field(text, "NoNewPrivs") == "1"
        assert status_field(text, "CapEff") == status_field(text, "CapPrm") == "0" * 16
        assert int(status_field(text, "CapBnd"), 16) == 1 << 10  # NET_BIND_SERVICE
    done = extras.try_exec("user", "touch", "/file", namespace="extras")
    assert "Read-only file system" in done.stderr


def test_descriptors_are_the_standard_three(lab: Lab, web: dict[str, Any]) -> None:
    assert lab.exec(name_of(web), "ls", "/proc/1/fd").split() == ["0", "1", "2"]
    # ls itself has the directory open.
    assert lab.exec(name_of(web), "ls", "/proc/self/fd").split() == ["0", "1", "2", "3"]


def test_process_state_is_fresh(lab: Lab, web: dict[str, Any]) -> None:
    """Nothing of the parent leaks: umask, ignored or blocked signals, nice value, session."""
    text = lab.exec("core-k8s", "cat", "/proc/1/status")
    assert status_field(text, "Umask") == "0022"
    assert [status_field(text, field) for field in ("SigIgn", "SigBlk")] == ["0" * 16] * 2
    fields = lab.exec("core-k8s", "cat", "/proc/1/stat").rpartition(")")[2].split()
    assert fields[3] == "1"  # its own session
    assert fields[16] == "0"  # nice


def test_cgroup_values_are_kubelets(lab: Lab) -> None:
    """Limit and request of .1 CPU: quota 10000 of 100000, 102 shares; the pause process 2 shares."""
    pod = lab.pod("core-k8s")
    found = values(container_pid(pod))
    assert found == ("10000", "100000", cpu_share(102))
    assert values(pause_of(pod))[2] == cpu_share(2)
    # requests = limits for cpu alone is not Guaranteed.
    assert pod["status"]["qosClass"] == "Burstable"
    place = f"kubepods/burstable/pod{uid_of(pod)}/{container_of(pod)['containerID'].removeprefix('podlab://')}"
    assert place in pathlib.Path(f"/proc/{container_pid(pod)}/cgroup").read_text(encoding="utf-8")


def cpu_share(shares: int) -> str:
    """As the hierarchy has it: shares, or the weight that they are in v2 (KEP-2254)."""
    return (
        str(shares)
        if "cpu" in {name for tree in cgroup.detect().v1 for name in tree.controllers}
        else str(1 + (shares - 2) * 9999 // 262142)
    )


def values(pid: int) -> tuple[str, str, str]:
    """Quota and period in microseconds, and the shares (v1) or weight (v2), of the process's cgroup."""
    lines = pathlib.Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    places = {name: line.split(":", 2)[2] for line in lines for name in line.split(":")[1].split(",")}
    if cgroup.detect().v2 and "cpu" not in places:
        directory = pathlib.Path("/sys/fs/cgroup" + places[""])
        quota, period = (directory / "cpu.max").read_text(encoding="utf-8").split()
        return quota, period, (directory / "cpu.weight").read_text(encoding="utf-8").strip()
    directory = pathlib.Path("/sys/fs/cgroup/cpu" + places["cpu"])
    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares")
    quota, period, shares = ((directory / name).read_text(encoding="utf-8").strip() for name in names)
    return quota, period, shares


@pytest.mark.parametrize(("pod", "score"), [("web-", 1000), ("core-k8s", 999)])
def test_oom_scores(lab: Lab, pod: str, score: int) -> None:
    """BestEffort 1000; Burstable without a memory request 999, the most it can be; pause -998 where allowed."""
    found = lab.pods(pod)[0]
    assert oom_score(container_pid(found)) == score
    assert int(lab.exec(name_of(found), "cat", "/proc/self/oom_score_adj")) == score
    # Without CAP_SYS_RESOURCE nobody can go below what he was given.
    allowed = int(status_field(pathlib.Path("/proc/self/status").read_text(encoding="utf-8"), "CapEff"), 16) >> 24 & 1
    assert oom_score(pause_of(found)) == (-998 if allowed else oom_score(os.getpid()))


def oom_score(pid: int) -> int:
    return int(pathlib.Path(f"/proc/{pid}/oom_score_adj").read_text(encoding="ascii"))


def test_pause_has_next_to_nothing(lab: Lab) -> None:
    """A root that holds it and its source alone, read-only, and no capabilities."""
    pause = pause_of(lab.pod("core-k8s"))
    text = pathlib.Path(f"/proc/{pause}/status").read_text(encoding="utf-8")
    assert [status_field(text, field) for field in ("CapEff", "CapPrm", "CapBnd")] == ["0" * 16] * 3
    lines = pathlib.Path(f"/proc/{pause}/mountinfo").read_text(encoding="utf-8").splitlines()
    assert [(mount.target, "ro" in mount.options) for mount in map(Mount, lines)] == [("/", True)]
    assert {entry.name for entry in pathlib.Path(f"/proc/{pause}/root").iterdir()} <= {"pause", "pause.c"}
