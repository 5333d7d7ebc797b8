"""One container: its cgroup, layers, mounts, process. Runs inside the node, in the pod's supervisor."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from ..errors import PodlabError
from ..kube import env
from ..linux import cgroup, syscalls
from . import containerenv, containerroot, enter, mapped, stdio, volumemounts
from .digest import hexdigest
from .rootmounts import RootMount
from .starter import Starter

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


def _container_values(resources: Mapping[str, Any], hierarchies: cgroup.Hierarchies) -> cgroup.Values:
    """On v2 the OOM killer takes the container whole (singleProcessOOMKill); v1 has no such switch."""
    whole = True if hierarchies.versions().get("memory") == 2 else None
    return cgroup_values(resources)._replace(memory_oom_group=whole)


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
    #: Pid of the container whose PID namespace it joins; 0 for none.
    target: int = 0

    @property
    def cgroup(self) -> str:
        """Path of the container's cgroup."""
        return f"{self.config['cgroup_parent']}/{container_id(self.config['uid'], self.container['name'], self.run)}"


def start(launch: Launch, hierarchies: cgroup.Hierarchies, ends: stdio.Ends, starter: Starter) -> int:
    """Start the container's process; return its pid when it has been executed. Runs in a starter.

    ends: its standard streams.
    Raises PodlabError with details["reason"] (CreateContainerError, or StartError when only the exec failed).
    """
    try:
        return _start(launch, hierarchies, ends, starter)
    except BaseException:
        # Every try has a cgroup of its own: one that cannot start must not leave one behind each time.
        hierarchies.kill(launch.cgroup)
        hierarchies.remove(launch.cgroup)
        raise


def _start(launch: Launch, hierarchies: cgroup.Hierarchies, ends: stdio.Ends, starter: Starter) -> int:
    config, container, run, pause, address, target = launch
    # Whose PID namespace it is to have, when not one of its own.
    processes = target or (pause if config["share_pid"] else 0)
    if container["refusal"]:
        raise PodlabError(container["refusal"], reason="CreateContainerConfigError")
    path = launch.cgroup
    hierarchies.create(path)
    hierarchies.write(path, _container_values(container["resources"], hierarchies), level="container")
    filtered = hierarchies.set_devices(path, cgroup.ALL_DEVICES if container["privileged"] else cgroup.DEFAULT_DEVICES)
    merged = containerroot.make_layers(config, container, run)
    facts = {"status.podIP": address, "status.podIPs": address}
    added = containerenv.started(config, container, facts)
    directories = hierarchies.directories(path) if hierarchies.v1 else []
    mounts = volumemounts.opened(
        config, container, containerroot.container_mounts(config, container, run, directories), added
    )
    argv, environment = env.argv(container, added), env.whole(container, added)
    joined = [(os.open(f"/proc/{pause}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), flag) for name, flag in JOIN]

    def arrive() -> enter.Privileges:
        """With the node's privileges: into the cgroup."""
        wanted = enter.privileges(container)
        enter.set_oom_score(wanted.oom_score_adj)
        enter.set_limits()
        hierarchies.attach(path, 0)
        return wanted

    def join() -> None:
        for fd, flag in joined:
            syscalls.setns(fd, flag)

    def plain() -> NoReturn:
        wanted = arrive()
        join()
        body(wanted, mounts)

    def body(wanted: enter.Privileges, mounts: list[RootMount], within: bool = False) -> NoReturn:
        if not hierarchies.v1 and not container["privileged"]:
            # Private on v2, as containerd has it; on v1 the whole path stays visible.
            syscalls.unshare(syscalls.CLONE_NEWCGROUP)
        terminal = containerroot.make_root(container, merged, mounts, filtered, mapped=within)
        user = enter.resolve_user(container["user"])
        stdio.take(ends, terminal, user.uid)
        final = enter.environment(environment, user.home)
        enter.reset_process()
        there = enter.reach_directory(container["cwd"])
        enter.become(user, wanted)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if not there:
            enter.change_directory(container["cwd"])
        enter.close_others()
        os.write(write, b"exec:")
        enter.execute(argv, final, wanted)

    def outside(userns: int) -> tuple[enter.Privileges, list[RootMount]]:
        wanted = arrive()
        return wanted, mapped.prepare(container, merged, mounts, config["id_base"], userns, filtered)

    def inside(wanted: enter.Privileges, mounts: list[RootMount]) -> NoReturn:
        _run_child(lambda: body(enter.in_user_namespace(wanted, container), mounts, True), write)

    read, write = os.pipe()
    if config["host_users"]:
        pid = _clone(config, processes, starter)
        if pid == 0:
            _run_child(plain, write)
    else:
        pid = mapped.clone(starter, write, mapped.Pod(pause, processes), outside, join, inside)
    os.close(write)
    for fd, _ in joined:
        os.close(fd)
    _await_exec(read)
    return pid


def _clone(config: Mapping[str, Any], processes: int, starter: Starter) -> int:
    """The container's process: in a PID namespace of its own, in the node's, or in that of the process `processes`."""
    if config["host_pid"]:
        return starter.clone(syscalls.CLONE_NEWNS)
    if not processes:
        return starter.clone(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID)
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    shared = os.open(f"/proc/{processes}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
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


def _run_child(body: Any, report: int) -> NoReturn:
    try:
        os.setsid()
        body()
    except BaseException as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        os.write(report, text.encode("utf-8", "replace")[:4096])
    os._exit(128)
