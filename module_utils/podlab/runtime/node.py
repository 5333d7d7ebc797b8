"""A kind-like node: namespaces held by a pause process, and the way in.

The node shares the machine's file tree; what must be its own (/proc, /sys, /run, /var/log, names) is mounted over it
in the node's mount namespace, so that everything goes when the namespace goes.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

from ..errors import PodlabError
from ..linux import cgroup, process, syscalls
from ..linux.cgroup_files import make
from ..linux.mountinfo import mounts, under
from . import paths
from .files import write_json, write_text
from .pause import pause_command

NODE_FILES = ("hostname", "hosts", "resolv.conf")


class Mounted(NamedTuple):
    """One mount of a node: what a person would give to mount(8)."""

    source: str
    target: str
    fstype: str  # "" for a bind
    flags: int
    data: str = ""


def node_mounts(cluster: str, node: Mapping[str, Any], hierarchies: cgroup.Hierarchies) -> list[Mounted]:
    """The mounts that make the machine's tree a node's, in order. Pure but for what the machine has mounted."""
    state = paths.node_dir(cluster, node["name"])
    safe = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    bind = syscalls.MS_BIND
    made = [
        Mounted("proc", "/proc", "proc", safe),
        Mounted("sysfs", "/sys", "sysfs", safe),
        Mounted("tmpfs", "/sys/fs/cgroup", "tmpfs", safe, "mode=755"),
        *(
            Mounted("cgroup", f"/sys/fs/cgroup/{name}" if name else "/sys/fs/cgroup", fstype, safe, options)
            for name, fstype, options in cgroup_mounts(hierarchies)
        ),
        Mounted("tmpfs", "/dev/shm", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=1777,size=67108864"),
        Mounted("tmpfs", "/var/log", "tmpfs", safe, "mode=755"),
        Mounted(paths.node_log_dir(cluster, node["name"]), "/var/log/pods", "", bind),
        *(Mounted(f"{state}/{name}", f"/etc/{name}", "", bind) for name in NODE_FILES),
        # The node's own /run is filled first and laid over the machine's last: the sources are below the latter.
        Mounted(paths.cluster_dir(cluster), f"{state}/run/podlab/{cluster}", "", bind),
        Mounted(paths.dns_dir(cluster), f"{state}/run/{os.path.basename(paths.NODE_DNS_DIR)}", "", bind),
        Mounted(f"{state}/cni-ipam-state", f"{state}/run/cni-ipam-state", "", bind),
        Mounted(f"{state}/run", "/run", "", bind | syscalls.MS_REC),
    ]
    for extra in node.get("mounts", ()):
        made.append(Mounted(extra["host_path"], extra["container_path"], "", bind | syscalls.MS_REC))
        if extra.get("read_only"):
            remount = bind | syscalls.MS_REMOUNT | syscalls.MS_RDONLY
            made.append(Mounted("none", extra["container_path"], "", remount))
    return made


def cgroup_mounts(hierarchies: cgroup.Hierarchies) -> list[tuple[str, str, str]]:
    """(directory below /sys/fs/cgroup, type, options) of each hierarchy, as the machine has them."""
    found = []
    for mount in mounts():
        if mount.fstype == "cgroup":
            named = [word for word in mount.super_options if word not in ("rw", "ro") and "=" not in word]
            names = [word for word in mount.super_options if word.startswith("name=")]
            found.append((os.path.basename(mount.mount_point), "cgroup", ",".join(named + names)))
        elif mount.fstype == "cgroup2":
            name = os.path.basename(mount.mount_point)
            found.append(("" if name == "cgroup" else name, "cgroup2", ""))
    return found


def create(cluster: str, node: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """Make the node's namespaces around its pause process; return its record (node.json).

    node: Node as a dict. files: content of hostname, hosts and resolv.conf.
    Raises PodlabError when the network namespace is missing or a mount is refused; nothing is left then.
    """
    name = node["name"]
    hierarchies = cgroup.detect()
    _prepare_directories(cluster, name, files)
    cgroup_path = paths.node_cgroup(cluster, name)
    hierarchies.create(cgroup_path)
    wanted = node_mounts(cluster, node, hierarchies)
    pause = pause_command()

    def body(report: Callable[[int], None]) -> None:
        netns = os.open(f"/run/netns/{paths.node_netns(name)}", os.O_RDONLY | os.O_CLOEXEC)
        syscalls.setns(netns, syscalls.CLONE_NEWNET)
        # Into the node's cgroup first: a cgroup namespace has its root where its maker was.
        hierarchies.attach(cgroup_path, 0)
        syscalls.unshare(
            syscalls.CLONE_NEWCGROUP | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC
        )
        init = _make_leaf(hierarchies, f"{cgroup_path}/init")
        read, write = os.pipe()
        pid = syscalls.clone(syscalls.CLONE_NEWPID)
        if pid == 0:
            _become_node(name, wanted, init, pause, write)
        os.close(write)
        failed = os.read(read, 4096)
        if failed:
            raise OSError(0, failed.decode())
        report(pid)

    pid = _in_child(body)
    _make_kubepods(hierarchies, cgroup_path)
    record = {
        "name": name,
        "role": node["role"],
        "index": node["index"],
        "address": node["address"],
        "pod_cidr": node["pod_cidr"],
        "labels": dict(node.get("labels", {})),
        "taints": list(node.get("taints", ())),
        "mounts": list(node.get("mounts", ())),
        "pid": pid,
        "start": process.start_time(pid),
        "cluster": cluster,
    }
    write_json(paths.node_file(cluster, name), record)
    return record


def write_record(cluster: str, record: Mapping[str, Any]) -> None:
    """Write the node's record again, with other labels or taints."""
    kept = {key: value for key, value in record.items() if key not in ("running", "alive")}
    write_json(paths.node_file(cluster, record["name"]), kept)


def _make_kubepods(hierarchies: cgroup.Hierarchies, path: str) -> None:
    """The cgroups that the kubelet makes for pods, below kind's cgroupRoot /kubelet."""
    cpus, memory = os.cpu_count() or 1, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("besteffort", "burstable"):
        hierarchies.create(f"{path}/kubelet/kubepods/{name}")
        hierarchies.write(f"{path}/kubelet/kubepods/{name}", cgroup.Values(cpu_shares=2))
    hierarchies.write(f"{path}/kubelet/kubepods", cgroup.Values(cpu_shares=1024 * cpus, memory_limit=memory))


def _make_leaf(hierarchies: cgroup.Hierarchies, path: str) -> list[int]:
    """Make the cgroup; return descriptors by which a process can join it after it has left this tree.

    No controller is handed down yet: on v2 that is refused while its maker is in the cgroup above.
    """
    for tree in hierarchies.every:
        make(tree.directory, path, cpuset=tree.version == 1 and "cpuset" in tree.controllers)
    files = (f"{directory}/cgroup.procs" for directory in hierarchies.directories(path))
    return [os.open(file, os.O_WRONLY | os.O_CLOEXEC) for file in files]


def _prepare_directories(cluster: str, name: str, files: Mapping[str, str]) -> None:
    state = paths.node_dir(cluster, name)
    for private in (paths.cluster_dir(cluster), paths.data_dir(cluster)):
        # Secrets, and what containers have made setuid: nothing for users of the machine (CVE-2021-41103).
        os.makedirs(private, exist_ok=True)
        os.chmod(private, 0o700)
    for directory in (
        f"{state}/run/podlab/{cluster}",
        f"{state}/run/{os.path.basename(paths.NODE_DNS_DIR)}",
        f"{state}/run/cni-ipam-state",
        f"{state}/run/netns",
        f"{state}/run/lock",
        paths.ipam_dir(cluster, name),
        paths.dns_dir(cluster),
        paths.node_log_dir(cluster, name),
    ):
        os.makedirs(directory, exist_ok=True)
    for file, text in files.items():
        write_text(f"{state}/{file}", text)
        # A link into /run (systemd's resolv.conf) must find its file in the node's own /run.
        real = os.path.realpath(f"/etc/{file}")
        if real.startswith("/run/"):
            os.makedirs(os.path.dirname(state + real), exist_ok=True)
            write_text(state + real, text)


def _become_node(name: str, wanted: list[Mounted], init: list[int], pause: tuple[str, ...], report: int) -> None:
    """In the clone: mounts, name, cgroup, then pause. Never returns."""
    try:
        os.setsid()
        for fd in init:
            os.write(fd, b"0")
        syscalls.sethostname(name)
        exe = os.open(pause[0], os.O_RDONLY | os.O_CLOEXEC)
        # Slave: unmounting on the machine reaches us. Shared again: Bidirectional mounts of pods reach the node.
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SHARED)
        _forget_netns_mounts()
        held = _hold_sources(wanted)
        for covered in ("/proc", "/sys", "/dev/shm"):
            # Taken away, not only covered: mountinfo then shows the node's own and nothing else.
            if os.path.ismount(covered):
                syscalls.umount(covered, syscalls.MNT_DETACH)
        for mount in wanted:
            _mount(mount, held)
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.umask(0o022)
        os.chdir("/")
        _reset_signals()
        syscalls.close_range(3, flags=syscalls.CLOSE_RANGE_CLOEXEC)
        os.execve(exe, ["/pause", *pause[1:]], {})
    except BaseException as error:
        os.write(report, f"node {name}: {error}".encode()[:4096])
        os._exit(1)


def _forget_netns_mounts() -> None:
    # Copies of the machine's pinned namespaces would keep them alive after their removal there.
    found = True
    while found:
        # Again and again: `ip netns add` mounts /run/netns over itself, and with it over what was pinned before.
        found = False
        for mount in under(mounts(), "/run/netns"):
            try:
                syscalls.umount(mount.mount_point, syscalls.MNT_DETACH)
                found = True
            except OSError as error:
                # Hidden below another mount: out of reach until that is gone.
                if error.errno not in (errno.EINVAL, errno.ENOENT):
                    raise


def _hold_sources(wanted: list[Mounted]) -> dict[str, int]:
    """Descriptors of what extraMounts show: /var/run/docker.sock is the machine's, whatever covers /run by then."""
    extra = next(number for number, mount in enumerate(wanted) if mount.target == "/run") + 1
    sources = {mount.source for mount in wanted[extra:] if not mount.flags & syscalls.MS_REMOUNT}
    return {source: os.open(source, os.O_PATH | os.O_CLOEXEC) for source in sources}


def _mount(mount: Mounted, held: Mapping[str, int]) -> None:
    if mount.fstype or mount.target == "/var/log/pods":
        os.makedirs(mount.target, exist_ok=True)
    elif not os.path.exists(mount.target):
        if mount.target.startswith("/etc/"):
            return
        raise PodlabError(
            f"extraMounts: {mount.target} does not exist on this machine, whose file tree the node shares. "
            f"Create it, or mount on a path that exists"
        )
    source = f"/proc/self/fd/{held[mount.source]}" if mount.source in held else mount.source
    syscalls.mount(source, mount.target, mount.fstype or None, mount.flags, mount.data or None)


def _reset_signals() -> None:
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _in_child(body: Callable[[Callable[[int], None]], None]) -> int:
    """Run body in a forked child; return the number that it reports. Raises PodlabError with its error."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            body(lambda number: _send(write, f"ok {number}"))
            os._exit(0)
        except BaseException as error:
            _send(write, f"failed {error}")
            os._exit(1)
    os.close(write)
    with os.fdopen(read, encoding="utf-8", errors="replace") as file:
        word, _, rest = file.read().partition(" ")
    os.waitpid(child, 0)
    if word != "ok":
        raise PodlabError(f"Cannot make the node: {rest or 'its process ended without a word'}")
    return int(rest)


def _send(fd: int, text: str) -> None:
    os.write(fd, text.encode()[:4096])
