"""One container: its cgroup, layers, mounts, process. Runs inside the node, in the pod's supervisor."""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from ..errors import PodlabError
from ..kube import env as kube_env
from ..linux import cgroup, syscalls
from ..linux.mount import overlay_options
from . import enter, paths, rootmounts, volumes
from .digest import hexdigest
from .rootmounts import RootMount
from .starter import Starter

TERMINATION_LIMIT = 4096
JOIN = (("ipc", syscalls.CLONE_NEWIPC), ("uts", syscalls.CLONE_NEWUTS), ("net", syscalls.CLONE_NEWNET))


def container_id(uid: str, name: str, run: int) -> str:
    """64 hex digits; the same for the same pod, container and restart count."""
    return hexdigest(f"{uid}/{name}/{run}")


def cgroup_values(resources: Mapping[str, Any]) -> cgroup.Values:
    """Values of a cgroup from the `resources` of a runtime config; swap is never given (NoSwap)."""
    limit = resources.get("memory_limit")
    return cgroup.Values(
        cpu_shares=resources["cpu_shares"],
        cpu_quota_us=resources.get("cpu_quota_us"),
        memory_limit=limit,
        hugetlb=resources.get("hugepages") or {},
    )


class Launch(NamedTuple):
    """One run of a container, and the sandbox that it joins."""

    config: Mapping[str, Any]
    container: Mapping[str, Any]
    #: The restart count.
    run: int
    #: Pid of the sandbox.
    pause: int
    #: The pod's.
    address: str

    @property
    def cgroup(self) -> str:
        """Path of the container's cgroup."""
        return f"{self.config['cgroup_parent']}/{container_id(self.config['uid'], self.container['name'], self.run)}"


def start(launch: Launch, hierarchies: cgroup.Hierarchies, outputs: tuple[int, int], starter: Starter) -> int:
    """Start the container's process; return its pid when it has been executed. Runs in a starter.

    outputs: its standard output and error.
    Raises PodlabError with details["reason"] (CreateContainerError, or StartError when only the exec failed).
    """
    try:
        return _start(launch, hierarchies, outputs, starter)
    except BaseException:
        # Every try has a cgroup of its own: one that cannot start must not leave one behind each time.
        hierarchies.kill(launch.cgroup)
        hierarchies.remove(launch.cgroup)
        raise


def _start(launch: Launch, hierarchies: cgroup.Hierarchies, outputs: tuple[int, int], starter: Starter) -> int:
    config, container, run, pause, address = launch
    path = launch.cgroup
    hierarchies.create(path)
    hierarchies.write(path, cgroup_values(container["resources"]), level="container")
    hierarchies.set_devices(path)
    merged = _make_layers(config, container, run)
    mounts = container_mounts(config, container, run, hierarchies.directories(path) if hierarchies.v1 else [])
    facts = {"status.podIP": address, "status.podIPs": address}
    argv = kube_env.container_argv(container, facts)
    environment = kube_env.container_env(container, facts)
    joined = [(os.open(f"/proc/{pause}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), flag) for name, flag in JOIN]

    def body() -> NoReturn:
        wanted = enter.privileges(container)
        enter.set_oom_score(wanted.oom_score_adj)
        hierarchies.attach(path, 0)
        if not hierarchies.v1:
            # Private on v2, as containerd has it; on v1 the whole path stays visible.
            syscalls.unshare(syscalls.CLONE_NEWCGROUP)
        for fd, flag in joined:
            syscalls.setns(fd, flag)
        _make_root(container, merged, mounts, filtered=bool(hierarchies.v1))
        # The null device that was opened on the node is the node's; standard input must be the container's own.
        os.dup2(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), 0)
        user = enter.resolve_user(container["user"])
        final = enter.environment(environment, user.home)
        enter.reset_process()
        enter.become(user, wanted)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        enter.change_directory(container["cwd"])
        enter.close_others()
        os.write(write, b"exec:")
        enter.execute(argv, final)

    read, write = os.pipe()
    pid = _clone(config, pause, starter)
    if pid == 0:
        _run_child(body, *outputs, write)
    os.close(write)
    for fd, _ in joined:
        os.close(fd)
    _await_exec(read)
    return pid


def _clone(config: Mapping[str, Any], pause: int, starter: Starter) -> int:
    """The container's process: in a PID namespace of its own, or in that of pause when the pod shares one."""
    if not config["share_pid"]:
        return starter.clone(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID)
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    shared = os.open(f"/proc/{pause}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(shared, syscalls.CLONE_NEWPID)
        pid = starter.clone(syscalls.CLONE_NEWNS)
        if pid:
            syscalls.setns(home, syscalls.CLONE_NEWPID)
        return pid
    finally:
        os.close(shared)
        os.close(home)


def _await_exec(report: int) -> None:
    with os.fdopen(report, "rb") as file:
        said = file.read()
    if said == b"exec:":
        return
    reason = "StartError" if said.startswith(b"exec:") else "CreateContainerError"
    text = said.replace(b"exec:", b"", 1).decode("utf-8", "replace") or "its process ended without a word"
    raise PodlabError(text, reason=reason)


def _run_child(body: Any, stdout: int, stderr: int, report: int) -> NoReturn:
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDONLY)
        for source, target in ((null, 0), (stdout, 1), (stderr, 2)):
            os.dup2(source, target)
        body()
    except BaseException as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        os.write(report, text.encode("utf-8", "replace")[:4096])
    os._exit(128)


def _make_layers(config: Mapping[str, Any], container: Mapping[str, Any], run: int) -> str:
    """The directories of the container's overlay; a new run starts with an empty upper layer. Returns merged."""
    base = f"{paths.pod_data_dir(config['cluster'], config['uid'])}/containers/{container['name']}/{run}"
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
    """All mounts of the container below its root, in order: the base, the pod's files, then volumes by path depth.

    cgroup_directories: the container's own v1 directories (not unshared there); empty on v2.
    """
    directory = paths.pod_dir(config["cluster"], config["uid"])
    base = os.path.dirname(_merged(config, container, run))
    taken = {mount["path"] for mount in container["mounts"]}
    made = [
        *rootmounts.BASE,
        RootMount("/dev/shm", "", f"{directory}/shm"),
        *_cgroup_mounts(cgroup_directories),
        RootMount(container["termination_message_path"], "", f"{base}/termination-log", file=True),
        *(
            RootMount(f"/etc/{name}", "", f"{directory}/{name}", file=True)
            for name in ("hosts", "hostname", "resolv.conf")
        ),
    ]
    made = [mount for mount in made if mount.target not in taken]
    for mount in container["mounts"]:
        source = volumes.path_of(config, mount["volume"])
        made.append(
            RootMount(
                mount["path"],
                "",
                source,
                syscalls.MS_RDONLY if mount["read_only"] else 0,
                file=not os.path.isdir(source),
                propagation=mount["propagation"],
            )
        )
    return made


def _merged(config: Mapping[str, Any], container: Mapping[str, Any], run: int) -> str:
    return f"{paths.pod_data_dir(config['cluster'], config['uid'])}/containers/{container['name']}/{run}/merged"


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


def _make_root(container: Mapping[str, Any], merged: str, mounts: list[RootMount], filtered: bool) -> None:
    """In the child's new mount namespace: overlay, mounts, masks, pivot.

    filtered: the cgroup has a device list (v1); else nothing that the container writes to may hold a usable device.
    """
    # Slave, so that HostToContainer volumes see what is mounted on the node later, and nothing goes back.
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    base = os.path.dirname(merged)
    options = overlay_options(container["layers"], f"{base}/upper", f"{base}/work")
    syscalls.mount("overlay", merged, "overlay", 0 if filtered else syscalls.MS_NODEV, options)
    if not filtered:
        mounts = rootmounts.without_devices(mounts)
    root = os.open(merged, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    rootmounts.refuse_links(root)
    dev = next(number for number, mount in enumerate(mounts) if mount.target == "/dev")
    rootmounts.perform(root, mounts[: dev + 1])
    rootmounts.make_devices(root, bind=not filtered)
    rootmounts.perform(root, mounts[dev + 1 :])
    rootmounts.mask(root, null)
    # A working directory that the image lacks is made, by root, as runc does.
    _make_working_directory(root, container["cwd"])
    if container["readonly_root"]:
        kept = 0 if filtered else syscalls.MS_NODEV
        syscalls.mount(None, merged, None, syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY | kept)
    rootmounts.pivot(root)
    os.close(root)
    os.close(null)


def _make_working_directory(root: int, path: str) -> None:
    try:
        os.close(rootmounts.open_inside(root, path, directory=True))
    except OSError as error:
        raise PodlabError(f"workingDir {path} cannot be made: {os.strerror(error.errno or 0)}") from error


def termination_message(config: Mapping[str, Any], container: Mapping[str, Any], run: int) -> str:
    """What the container left in its termination log: at most 4096 bytes of a regular file."""
    path = f"{os.path.dirname(_merged(config, container, run))}/termination-log"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return ""
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        return os.read(fd, TERMINATION_LIMIT).decode("utf-8", "replace")
    finally:
        os.close(fd)
