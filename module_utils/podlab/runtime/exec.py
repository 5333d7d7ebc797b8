"""Run a command in a running container: the same door as its start (enter.py), so that it can never be weaker."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import termios
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ..errors import PodlabError
from ..kube import env as kube_env
from ..linux import cgroup
from . import carry, command, containerenv, entry, ephemeral, paths, stdio
from . import container as capsule
from .files import read_json


def exec_in(
    cluster: str, uid: str, name: str, argv: Sequence[str], *, stdin: bool = False, terminal: bool = False
) -> int:
    """Run argv in the pod's container; return its exit code (255: it could not be run at all).

    name: the container; empty for the pod's first. stdin: pass our standard input on, else it reads nothing.
    terminal: give it a terminal of the container's own; ours is put in raw mode meanwhile.
    Raises PodlabError when pod, container or node are not running.
    """
    config = read_json(f"{paths.pod_dir(cluster, uid)}/config.json")
    status = read_json(f"{paths.pod_dir(cluster, uid)}/status.json", {})
    if not config:
        raise PodlabError(f"pod {uid} is not there. See: ./lab get pods -A")
    container = _container(config, name)
    pid = status.get("podlab", {}).get("pids", {}).get(container["name"], 0)
    record = read_json(paths.node_file(cluster, config["node"]))
    if not pid or not record:
        raise PodlabError(f"container {container['name']} of pod {config['name']} is not running. See: ./lab get pods")
    kinds = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
    statuses = [entry for kind in kinds for entry in status.get(kind, ())]
    run = next(entry["restartCount"] for entry in statuses if entry["name"] == container["name"])
    facts = {"status.podIP": status.get("podIP", ""), "status.podIPs": status.get("podIP", "")}
    environment = containerenv.pairs(config, container, facts)
    if terminal:
        # As containerd does, whatever terminal ours is.
        environment.append(kube_env.TERMINAL)
    path = f"{config['cgroup_parent']}/{capsule.container_id(uid, container['name'], run)}"

    if cgroup.detect().frozen(f"{paths.node_cgroup(cluster, config['node'])}/{path}"):
        raise PodlabError(f"cannot exec in a paused container: thaw {container['name']} first")
    target = command.Target(container, path, pid, environment)

    def inside(streams: Streams) -> int:
        return command.run(target, list(argv), streams.open, _complain, streams.held(), streams.lead)

    return _with_streams(record, inside, stdin, terminal)


class Streams:
    """The command's ends of its standard streams, or the socket to send a terminal's other end through."""

    def __init__(self, fds: tuple[int, int, int] | None, channel: socket.socket | None) -> None:
        self.fds = fds
        self.channel = channel

    def open(self) -> tuple[int, int, int]:
        """In the container's root: the command's standard streams."""
        return self.fds or _own_terminal(self.channel)

    def held(self) -> tuple[int, ...]:
        """The descriptors that open() uses."""
        return self.fds or tuple(channel.fileno() for channel in [self.channel] if channel)

    def lead(self) -> None:
        """In the command's process, which leads a session: the terminal becomes its own."""
        if self.channel:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _complain(text: str) -> None:
    os.write(2, f"error: {text}\n".encode("utf-8", "replace"))


def _container(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    added = ephemeral.read(paths.pod_dir(config["cluster"], config["uid"]))
    every = [*config["containers"], *config["init_containers"], *added]
    names = [entry["name"] for entry in every]
    if name and name not in names:
        raise PodlabError(f"pod {config['name']} has no container {name}. It has: {', '.join(names)}")
    chosen: Mapping[str, Any] = every[names.index(name) if name else 0]
    return chosen


def _own_terminal(channel: socket.socket | None) -> tuple[int, int, int]:
    """Open a terminal in the container's own /dev/pts and hand its other end out."""
    assert channel is not None
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    master, slave = stdio.open_terminal(root)
    socket.send_fds(channel, [b"t"], [master])
    os.close(master)
    return slave, slave, slave


def _with_streams(record: Mapping[str, Any], inside: Callable[[Streams], int], stdin: bool, terminal: bool) -> int:
    """Run inside(streams) in the node while this process carries the bytes to and fro."""
    if terminal:
        return _with_terminal(record, inside)
    pipes = [os.pipe() for _ in range(3)]
    theirs = (pipes[0][0], pipes[1][1], pipes[2][1])
    ours = (pipes[0][1], pipes[1][0], pipes[2][0])

    child = _fork(lambda: entry.run_inside(record, lambda: inside(Streams(theirs, None))), ours)
    for fd in theirs:
        os.close(fd)
    routes = {ours[1]: 1, ours[2]: 2}
    if stdin:
        routes[0] = ours[0]
    else:
        os.close(ours[0])
    carry.pump(routes, {ours[1], ours[2]})
    return entry.exit_code(os.waitpid(child, 0)[1])


def _fork(body: Callable[[], int], unused: Sequence[int]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = command.FAILED_TO_RUN
        try:
            for fd in unused:
                # Every process on the way would keep the command's input open.
                os.close(fd)
            code = body()
        except PodlabError as error:
            print(f"podlab: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    return child


def _with_terminal(record: Mapping[str, Any], inside: Callable[[Streams], int]) -> int:
    ours, theirs = socket.socketpair()
    child = _fork(lambda: entry.run_inside(record, lambda: inside(Streams(None, theirs))), (ours.fileno(),))
    theirs.close()
    data, fds, _, _ = socket.recv_fds(ours, 1, 1)
    ours.close()
    if data:
        [master] = fds
        carry.terminal(master, master)
        os.close(master)
    return entry.exit_code(os.waitpid(child, 0)[1])
