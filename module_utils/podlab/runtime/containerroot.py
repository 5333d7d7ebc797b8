"""A container's root: its layers, what is mounted below it, and the way into it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..errors import PodlabError
from ..linux import syscalls, usernamespace
from ..linux.mount import overlay_options
from . import paths, rootmounts, stdio, volumes
from .rootmounts import RootMount


def make_layers(config: Mapping[str, Any], container: Mapping[str, Any], run: int) -> str:
    """The directories of the container's overlay; a new run starts with an empty upper layer. Returns merged."""
    base = run_dir(config, container, run)
    for name in ("upper", "work", "merged"):
        os.makedirs(f"{base}/{name}", 0o755, exist_ok=True)
    log = f"{base}/termination-log"
    fd = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    os.fchmod(fd, 0o666)
    os.close(fd)
    return f"{base}/merged"


def container_mounts(
    config: Mapping[str, Any], container: Mapping[str, Any], run: int, cgroup_directories: list[str]
) -> list[RootMount]:
    """All mounts of the container below its root, in containerd's order: the base, then what is bound by path depth.

    cgroup_directories: the container's own v1 directories (not unshared there); empty on v2.
    Of the same depth are volumes, then the kubelet's files, then the sandbox's. A volume at a path of these takes its
    place; one at /dev the place of everything below, too.
    """
    bound = [*_volume_mounts(config, container), *_pod_files(config, container, run)]
    taken = {mount.target for mount in bound}
    base = [*rootmounts.BASE, *_cgroup_mounts(cgroup_directories)]
    if container["privileged"]:
        base = rootmounts.writable(base)
    below = "/dev/" if "/dev" in taken else "//"
    # A terminal is made in devpts before a volume covers that.
    kept = ("/dev/pts",) if container.get("tty") else ()
    base = [
        mount
        for mount in base
        if (mount.target not in taken or mount.target in kept) and not mount.target.startswith(below)
    ]
    return [*base, *sorted(bound, key=lambda mount: mount.target.count("/"))]


def _volume_mounts(config: Mapping[str, Any], container: Mapping[str, Any]) -> list[RootMount]:
    made = []
    for mount in container["mounts"]:
        # What the kubelet fills is never for a container to write.
        read_only = mount["read_only"] or config["volumes"][mount["volume"]]["kind"] == "projected"
        made.append(
            RootMount(
                os.path.normpath(mount["path"]),
                "",
                volumes.path_of(config, mount["volume"]),
                syscalls.MS_RDONLY if read_only else 0,
                propagation=mount["propagation"],
                recursive_read_only=mount["recursive_read_only"],
                volume=mount,
            )
        )
    return made


def _pod_files(config: Mapping[str, Any], container: Mapping[str, Any], run: int) -> list[RootMount]:
    """The kubelet's and the sandbox's files, as far as the container has no volume there.

    A read-only root makes the sandbox's read-only, too, but not the kubelet's.
    """
    directory = paths.pod_dir(config["cluster"], config["uid"])
    root = syscalls.MS_RDONLY if container["readonly_root"] else 0
    made = [
        RootMount("/etc/hosts", "", f"{directory}/hosts", file=True),
        RootMount(
            os.path.normpath(container["termination_message_path"]),
            "",
            f"{run_dir(config, container, run)}/termination-log",
            file=True,
        ),
        RootMount("/etc/hostname", "", f"{directory}/hostname", root, file=True),
        RootMount("/etc/resolv.conf", "", f"{directory}/resolv.conf", root, file=True),
        RootMount("/dev/shm", "", "/dev/shm" if config["host_ipc"] else f"{directory}/shm"),
    ]
    taken = {os.path.normpath(mount["path"]) for mount in container["mounts"]}
    return [mount for mount in made if mount.target not in taken]


def run_dir(config: Mapping[str, Any], container: Mapping[str, Any], run: int) -> str:
    """Where one run of a container keeps its layers and its termination log."""
    return f"{paths.pod_data_dir(config['cluster'], config['uid'])}/containers/{container['name']}/{run}"


def _cgroup_mounts(directories: list[str]) -> list[RootMount]:
    if not directories:
        return [RootMount("/sys/fs/cgroup", "cgroup2", "cgroup", rootmounts.SAFE | syscalls.MS_RDONLY)]
    safe = rootmounts.SAFE
    made = [RootMount("/sys/fs/cgroup", "tmpfs", "tmpfs", safe, "mode=755")]
    for directory in directories:
        # /sys/fs/cgroup/<controllers>/<the container's path>
        name = directory.split("/")[4]
        made.append(RootMount(f"/sys/fs/cgroup/{name}", "", directory, safe | syscalls.MS_RDONLY))
    return made


def mount_overlay(container: Mapping[str, Any], merged: str, filtered: bool) -> None:
    """Mount the container's layers at merged. filtered: as of make_root()."""
    base = os.path.dirname(merged)
    options = overlay_options(container["layers"], f"{base}/upper", f"{base}/work")
    syscalls.mount("overlay", merged, "overlay", 0 if filtered else syscalls.MS_NODEV, options)


def _own_copy() -> int:
    """The working directory, mounted once more: what came along from another user namespace cannot be a root."""
    fd = usernamespace.tree(".")
    usernamespace.attach(fd, ".")
    root = syscalls.openat2(fd, ".", os.O_RDONLY | os.O_DIRECTORY)
    os.close(fd)
    return root


def make_root(
    container: Mapping[str, Any], merged: str, mounts: list[RootMount], filtered: bool, mapped: bool = False
) -> tuple[int, int] | None:
    """In the child's new mount namespace: overlay, mounts, masks, pivot. Returns its terminal (master, slave).

    filtered: the cgroup filters devices; else nothing that the container writes to may hold a usable device.
    mapped: in the pod's user namespace; the overlay is mounted already and the working directory (mapped.prepare()).
    """
    # Slave, so that HostToContainer volumes see what is mounted on the node later, and nothing goes back.
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    if not filtered:
        mounts = rootmounts.without_devices(mounts)
    if mapped:
        root = _own_copy()
    else:
        mount_overlay(container, merged, filtered)
        root = os.open(merged, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    rootmounts.refuse_links(root)
    # Into the tmpfs that we mount there; a volume at /dev is left as it is.
    dev = next((number for number, mount in enumerate(mounts, 1) if mount[:2] == ("/dev", "tmpfs")), 0)
    rootmounts.perform(root, mounts[:dev])
    if dev:
        rootmounts.make_devices(root, bind=mapped or not filtered)
    if dev and container["privileged"]:
        rootmounts.make_host_devices(root, bind=mapped)
    terminal, mounts = _terminal(container, root, mounts[dev:])
    rootmounts.perform(root, mounts)
    if container["masked"]:
        rootmounts.mask(root, null)
    if not container["privileged"]:
        # With v1 it is a tmpfs, which had to be writable until every controller had its directory.
        rootmounts.remount_readonly(root, "/sys/fs/cgroup")
    # A working directory that the image lacks is made, by root, as runc does.
    _make_working_directory(root, container["cwd"])
    if container["readonly_root"]:
        kept = 0 if filtered else syscalls.MS_NODEV
        flags = syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY | kept
        syscalls.mount(None, f"/proc/self/fd/{root}", None, flags)
    rootmounts.pivot(root)
    os.close(root)
    os.close(null)
    return terminal


def _terminal(
    container: Mapping[str, Any], root: int, mounts: list[RootMount]
) -> tuple[tuple[int, int] | None, list[RootMount]]:
    """The container's terminal with its /dev/console, before any volume is there; and what is left to mount.

    Raises PodlabError when a volume has taken the place of /dev.
    """
    if not container.get("tty"):
        return None, mounts
    at = next((number for number, mount in enumerate(mounts, 1) if mount[:2] == ("/dev/pts", "devpts")), 0)
    if not at:
        raise PodlabError("tty needs a /dev of the container's own, but a volume is mounted there")
    rootmounts.perform(root, mounts[:at])
    master, slave = stdio.open_terminal(root)
    rootmounts.bind_console(root, slave)
    return (master, slave), mounts[at:]


def _make_working_directory(root: int, path: str) -> None:
    if not path.startswith("/"):
        raise PodlabError(f"workingDir {path}: Cwd must be an absolute path")
    try:
        os.close(rootmounts.open_inside(root, path, directory=True))
    except OSError as error:
        raise PodlabError(f"workingDir {path} cannot be made: {os.strerror(error.errno or 0)}") from error
