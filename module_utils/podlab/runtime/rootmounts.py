"""The mounts of a normal container, as data, and the code that performs them beneath a descriptor of its root.

Source of the table: containerd pkg/oci/mounts.go and its CRI code; OCI config-linux.md for /dev.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..errors import PodlabError
from ..linux import syscalls as sys
from . import binds

SAFE = sys.MS_NOSUID | sys.MS_NOEXEC | sys.MS_NODEV


class RootMount(NamedTuple):
    """One mount inside a container's root. fstype "" is a bind of source; file: the target is a file.

    recursive_read_only: "Enabled", "IfPossible", else flags are of the mount itself and not of those below it.
    volume: the mount of a volume that it is, as the runtime configuration has it.
    tree: descriptor of the detached copy to attach, of a source that was opened before; -1: source is a path of ours.
    """

    target: str
    fstype: str
    source: str
    flags: int = 0
    data: str = ""
    file: bool = False
    propagation: str = ""
    recursive_read_only: str = ""
    tree: int = -1
    volume: Mapping[str, Any] | None = None


BASE = (
    RootMount("/proc", "proc", "proc", SAFE),
    RootMount("/dev", "tmpfs", "tmpfs", sys.MS_NOSUID | sys.MS_STRICTATIME, "mode=755,size=65536k"),
    RootMount(
        "/dev/pts", "devpts", "devpts", sys.MS_NOSUID | sys.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"
    ),
    RootMount("/dev/mqueue", "mqueue", "mqueue", SAFE),
    RootMount("/sys", "sysfs", "sysfs", SAFE | sys.MS_RDONLY),
)

# name, major, minor
DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
# Where a node's devices are not looked for: containerd's list.
NOT_DEVICES = ("/dev/pts", "/dev/shm", "/dev/fd", "/dev/mqueue", "/dev/.lxc", "/dev/.lxd-mounts", "/dev/.udev")
DEVICE_LINKS = (
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
)

# k8s pkg/securitycontext/util.go
MASKED = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
]
# As many as the kernel follows in one path.
MAX_LINKS = 40
_CPUS = "/sys/devices/system/cpu"
READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def open_inside(root: int, path: str, *, directory: bool | None = None) -> int:
    """An O_PATH descriptor of path as the container would resolve it: no link leads out of root (openat2(2)).

    directory: True or False makes what is missing, as a directory or an empty file; None raises FileNotFoundError.
    """
    try:
        return sys.openat2(root, path.strip("/") or ".", os.O_PATH, resolve=sys.RESOLVE_IN_ROOT)
    except FileNotFoundError:
        if directory is None:
            raise
    _make_inside(root, path, directory)
    return sys.openat2(root, path.strip("/"), os.O_PATH, resolve=sys.RESOLVE_IN_ROOT)


def _make_inside(root: int, path: str, directory: bool) -> None:
    """Make what is missing of path, links followed as the container would: a dangling one's target is made, inside."""
    waiting = _parts(path)
    made: list[str] = []  # without links
    links = 0
    while waiting:
        part = waiting.pop(0)
        if part == "..":
            made = made[:-1]
            continue
        target = _link_or_make(root, "/".join(made) or ".", part, directory or bool(waiting))
        if not target:
            made.append(part)
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        made = [] if target.startswith("/") else made
        waiting = [*_parts(target), *waiting]


def _link_or_make(root: int, parent: str, name: str, directory: bool) -> str:
    """Target of the link of that name, "" when it is none; makes it, as a directory or an empty file, when missing."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    fd = sys.openat2(root, parent, flags, resolve=sys.RESOLVE_IN_ROOT)
    try:
        return os.readlink(name, dir_fd=fd)
    except FileNotFoundError:
        if directory:
            os.mkdir(name, 0o755, dir_fd=fd)
        else:
            create = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(name, create, 0o644, dir_fd=fd))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(fd)
    return ""


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def refuse_links(root: int) -> None:
    """An image whose /proc, /sys or /dev is a symbolic link would lead our mounts astray: refused, as runc does."""
    for name in ("proc", "sys", "dev"):
        try:
            if stat.S_ISLNK(os.stat(name, dir_fd=root, follow_symlinks=False).st_mode):
                raise PodlabError(f"/{name} of the image is a symbolic link; it must be a directory")
        except FileNotFoundError:
            continue


def perform(root: int, wanted: Iterable[RootMount]) -> None:
    """Mount all of them, in order. Raises OSError or PodlabError naming the target."""
    for mount in wanted:
        _perform(root, mount)


def _perform(root: int, mount: RootMount) -> None:
    try:
        fd = open_inside(root, mount.target, directory=not mount.file)
    except OSError as error:
        raise PodlabError(f"{mount.target} cannot be made in the image: {os.strerror(error.errno or 0)}") from error
    try:
        if mount.fstype:
            sys.mount(mount.source, f"/proc/self/fd/{fd}", mount.fstype, mount.flags, mount.data or None)
        else:
            _refuse_proc(fd, mount.target)
            tree = binds.copy_path(mount.source) if mount.tree < 0 else mount.tree
            binds.attach(tree, fd, binds.Options(mount.flags, mount.propagation, mount.recursive_read_only))
    except OSError as error:
        raise PodlabError(f"cannot mount {mount.source} on {mount.target}: {os.strerror(error.errno or 0)}") from error
    finally:
        os.close(fd)


def _refuse_proc(fd: int, target: str) -> None:
    """Nothing goes over /proc, through a link of a volume neither: privileged code reads and writes there."""
    if target == "/proc" or sys.filesystem_type(fd) == sys.PROC_SUPER_MAGIC:
        raise PodlabError(f"{target} is at or below the container's /proc, which the kernel fills")


def without_devices(mounts: Iterable[RootMount]) -> list[RootMount]:
    """The same mounts, none of which lets a device node be opened (nodev), but for the terminals of /dev/pts.

    For machines whose kernel has no device controller (cgroup v2): mknod works in a container, open does not.
    """
    harmless = ("proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts")
    return [mount if mount.fstype in harmless else mount._replace(flags=mount.flags | sys.MS_NODEV) for mount in mounts]


def writable(mounts: Iterable[RootMount]) -> list[RootMount]:
    """The same mounts, none of them read-only: of a privileged container."""
    return [mount._replace(flags=mount.flags & ~sys.MS_RDONLY) for mount in mounts]


def make_devices(root: int, bind: bool = False) -> None:
    """The devices and links of /dev, whose tmpfs is ours and still empty.

    bind: by bind mounts of the node's devices, when nodes of the tmpfs itself cannot be opened.
    """
    fd = sys.openat2(root, "dev", os.O_RDONLY | os.O_DIRECTORY, resolve=sys.RESOLVE_IN_ROOT)
    umask = os.umask(0)
    try:
        for name, major, minor in DEVICES:
            if bind:
                _bind_device(fd, name, os.makedev(major, minor))
            else:
                os.mknod(name, 0o666 | stat.S_IFCHR, os.makedev(major, minor), dir_fd=fd)
        for name, target in DEVICE_LINKS:
            os.symlink(target, name, dir_fd=fd)
        if os.path.exists("/proc/kcore"):
            os.symlink("/proc/kcore", "core", dir_fd=fd)
    finally:
        os.umask(umask)
        os.close(fd)


def make_host_devices(root: int, bind: bool = False) -> None:
    """The devices of the node's /dev, for a privileged container: what of them is not there yet. bind: as above.

    As containerd finds them (oci.WithHostDevices): not in what is mounted by itself, and no terminal of others.
    """
    fd = sys.openat2(root, "dev", os.O_RDONLY | os.O_DIRECTORY, resolve=sys.RESOLVE_IN_ROOT)
    umask = os.umask(0)
    try:
        for place, directories, names in os.walk("/dev"):
            directories[:] = [name for name in directories if f"{place}/{name}" not in NOT_DEVICES]
            for name in names:
                _copy_device(fd, f"{place}/{name}", bind)
    finally:
        os.umask(umask)
        os.close(fd)


def _copy_device(directory: int, path: str, bind: bool) -> None:
    status = os.stat(path, follow_symlinks=False)
    if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)) or path == "/dev/console":
        return
    *parents, name = path[len("/dev/") :].split("/")
    try:
        for depth in range(len(parents)):
            os.makedirs(f"/proc/self/fd/{directory}/{'/'.join(parents[: depth + 1])}", 0o755, exist_ok=True)
        place = "/".join((*parents, name))
        if bind:
            _bind_device(directory, place, status.st_rdev, stat.S_IFMT(status.st_mode))
            return
        os.mknod(place, status.st_mode, status.st_rdev, dir_fd=directory)
        os.chown(place, status.st_uid, status.st_gid, dir_fd=directory, follow_symlinks=False)
    except FileExistsError:
        pass  # one of those that every container has


def _bind_device(directory: int, name: str, number: int, kind: int = stat.S_IFCHR) -> None:
    """A file below the directory that shows the node's device of that name, once it is found to be that one."""
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=directory))
    source = os.open(f"/dev/{name}", os.O_PATH | os.O_CLOEXEC)
    target = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    status = os.fstat(source)
    if stat.S_IFMT(status.st_mode) != kind or status.st_rdev != number:
        raise PodlabError(f"/dev/{name} of the node is not the device it should be")
    sys.mount(f"/proc/self/fd/{source}", f"/proc/self/fd/{target}", None, sys.MS_BIND)
    os.close(source)
    os.close(target)


def bind_console(root: int, slave: int) -> None:
    """/dev/console is the container's terminal. slave: a descriptor of it, so that no path leads elsewhere.

    The tmpfs of /dev must be ours, without anything of a volume.
    """
    directory = sys.openat2(root, "dev", os.O_RDONLY | os.O_DIRECTORY, resolve=sys.RESOLVE_IN_ROOT)
    try:
        os.close(os.open("console", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=directory))
        target = os.open("console", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        sys.mount(f"/proc/self/fd/{slave}", f"/proc/self/fd/{target}", None, sys.MS_BIND)
        os.close(target)
    finally:
        os.close(directory)


def mask(root: int, null: int) -> None:
    """Cover the paths that say too much: files by /dev/null, directories by an empty read-only tmpfs.

    null: descriptor of the node's /dev/null, verified here (CVE-2025-31133).
    """
    status = os.fstat(null)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(1, 3):
        raise PodlabError("/dev/null of the node is not the null device")
    for path in dict.fromkeys((*MASKED, *_thermal_throttles(root))):
        _mask(root, path, null)
    for path in READONLY:
        _make_readonly(root, path)


def _thermal_throttles(root: int) -> list[str]:
    """Counters of each CPU's overheating, which tell one tenant about another; only x86 has them."""
    try:
        fd = open_inside(root, _CPUS)
    except FileNotFoundError:
        return []
    try:
        names = os.listdir(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    return [f"{_CPUS}/{name}/thermal_throttle" for name in names if name[:3] == "cpu" and name[3:].isdigit()]


def _mask(root: int, path: str, null: int) -> None:
    try:
        fd = open_inside(root, path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return
        raise
    try:
        directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        if directory:
            sys.mount("tmpfs", f"/proc/self/fd/{fd}", "tmpfs", sys.MS_RDONLY, "nr_blocks=1,nr_inodes=1")
        else:
            sys.mount(f"/proc/self/fd/{null}", f"/proc/self/fd/{fd}", None, sys.MS_BIND)
            _make_private(root, path)
    finally:
        os.close(fd)
    _verify_mask(root, path, directory)


def _verify_mask(root: int, path: str, directory: bool) -> None:
    """What the container will find at path is the mask. Raises PodlabError when it is something else."""
    fd = open_inside(root, path)
    try:
        status = os.fstat(fd)
        if directory:
            covered = stat.S_ISDIR(status.st_mode) and bool(os.fstatvfs(fd).f_flag & os.ST_RDONLY)
            covered = covered and not os.listdir(f"/proc/self/fd/{fd}")
        else:
            covered = stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)
    finally:
        os.close(fd)
    if not covered:
        raise PodlabError(f"{path} cannot be masked: something else is there now")


def _make_private(root: int, path: str) -> None:
    # The new mount is on top of the path: a descriptor taken before would still show what is below it.
    fd = open_inside(root, path)
    sys.mount(None, f"/proc/self/fd/{fd}", None, binds.PROPAGATION["None"])
    os.close(fd)


def _make_readonly(root: int, path: str) -> None:
    try:
        fd = open_inside(root, path)
    except FileNotFoundError:
        return
    place = f"/proc/self/fd/{fd}"
    sys.mount(place, place, None, sys.MS_BIND | sys.MS_REC)
    os.close(fd)
    remount_readonly(root, path)


def remount_readonly(root: int, path: str) -> None:
    """Nothing of the mount at path can be written to, executed or opened as a device. Raises PodlabError if it can."""
    fd = open_inside(root, path)
    try:
        sys.mount(None, f"/proc/self/fd/{fd}", None, sys.MS_BIND | sys.MS_REMOUNT | sys.MS_RDONLY | SAFE)
    finally:
        os.close(fd)
    fd = open_inside(root, path)
    try:
        if not os.fstatvfs(fd).f_flag & os.ST_RDONLY:
            raise PodlabError(f"{path} cannot be made read-only: something else is there now")
    finally:
        os.close(fd)


def pivot(root: int) -> None:
    """Make the directory behind root the root, and let go of the old one (runc's recipe: rslave, then detach)."""
    old = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fchdir(root)
    sys.pivot_root(".", ".")
    os.fchdir(old)
    sys.mount(None, ".", None, sys.MS_SLAVE | sys.MS_REC)
    sys.umount(".", sys.MNT_DETACH)
    os.chdir("/")
    os.close(old)
