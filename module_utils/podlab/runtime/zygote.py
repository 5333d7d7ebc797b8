"""Forks the supervisors: a small process that has imported what they need and nothing else.

The pod module starts it once per call with the work on standard input; forking from the module itself would give every
supervisor a copy of Ansible. It answers with one JSON line per pod on standard output.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NoReturn

from ..linux import cgroup, process, syscalls
from . import enter, entry, paths, requests
from .files import write_json
from .supervisor import SUPERVISOR_OOM_SCORE, Supervisor

_CREDENTIALS = struct.Struct("3i")


def main() -> None:
    """Read {"pause": path, "nodes": [{"record": node.json, "pods": [runtime config]}]}; start all pods."""
    # The module that started us may be killed; what it would have done next must not happen without it.
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    work = json.load(sys.stdin)
    gc.collect()
    gc.freeze()
    gc.disable()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    clusters = {config["uid"]: config["cluster"] for part in work["nodes"] for config in part["pods"]}
    starters = [_fork_node(part, work["pause"], theirs, ours) for part in work["nodes"]]
    theirs.close()
    _collect(ours, clusters)
    for pid in starters:
        os.waitpid(pid, 0)


def _collect(ours: socket.socket, clusters: Mapping[str, str]) -> None:
    """Note who supervises which pod, and hand on what each says when its containers were started."""
    while True:
        data, ancillary, _, _ = ours.recvmsg(65536, socket.CMSG_SPACE(_CREDENTIALS.size))
        if not data:
            return
        said = json.loads(data)
        if said.get("hello"):
            # The kernel translates the sender's pid into our PID namespace: only so do we learn it.
            pid = _CREDENTIALS.unpack(ancillary[0][2])[0]
            record = {"pid": pid, "start": process.start_time(pid)}
            write_json(f"{paths.pod_dir(clusters[said['uid']], said['uid'])}/supervisor.json", record)
        else:
            print(json.dumps(said), flush=True)


def _fork_node(work: Mapping[str, Any], pause: Sequence[str], theirs: socket.socket, ours: socket.socket) -> int:
    """In a child that has entered the node: one supervisor per pod. Returns the child's pid."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        ours.close()
        entry.enter(work["record"])
        # One more fork, so that the supervisors' parent is of the node and they become children of its PID 1.
        middle = os.fork()
        if middle == 0:
            _fork_supervisors(work["pods"], pause, theirs)
            os._exit(0)
        os.waitpid(middle, 0)
        code = 0
    except BaseException as error:
        for config in work["pods"]:
            text = f"its supervisor could not be started: {error}"
            theirs.send(json.dumps({"uid": config["uid"], "error": text}).encode())
    finally:
        os._exit(code)


def _fork_supervisors(configs: Sequence[Mapping[str, Any]], pause: Sequence[str], theirs: socket.socket) -> None:
    """In the node: whatever the supervisors have in common is done before the first fork, and next to nothing between.

    A page of memory that we write to after a fork stays behind as that child's own.
    """
    solo = cgroup.detect().single()
    for config in configs:
        solo.create(f"{config['cgroup_parent']}/supervisor")
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    os.chdir("/")
    os.umask(0o022)
    made = [Supervisor(config, pause, _teller(config["uid"], theirs)) for config in configs]
    doors = [requests.listen(supervisor.pod.directory) for supervisor in made]
    for supervisor, door in zip(made, doors):
        if os.fork() == 0:
            for other in doors:
                if other != door:
                    os.close(other)
            _supervise(supervisor, door, theirs, solo)


def _teller(uid: str, theirs: socket.socket) -> Callable[[str], None]:
    """What tells the module, once, that a pod has been started or why not."""

    def tell(error: str) -> None:
        # Without json when all is well: its machinery would stay in our memory.
        quoted = json.dumps(error[:30000]) if error else '""'
        theirs.send(f'{{"uid": "{uid}", "error": {quoted}}}'.encode())
        theirs.close()

    return tell


def _supervise(supervisor: Supervisor, door: int, theirs: socket.socket, solo: cgroup.Hierarchies) -> NoReturn:
    """Become the supervisor of its pod. door: where its requests come in."""
    config = supervisor.pod.config
    try:
        os.setsid()
        # New sources may be told of before it listens: they are read at the start anyway.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        solo.attach(f"{config['cgroup_parent']}/supervisor", 0)
        # A mount namespace of its own: what it mounts for its pod goes with it, and no other pod's start sees it.
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
        enter.set_oom_score(SUPERVISOR_OOM_SCORE)
        # On the node's PID namespace the node's PID 1 reaps the containers' orphans: we could not tell them from ours.
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, int(not config["host_pid"]))
        theirs.send(b'{"uid": "%s", "hello": true}' % config["uid"].encode())
        supervisor.run(door)
    except BaseException as error:
        said = {"error": repr(error), "at": _trail(error)}
        write_json(f"{paths.pod_dir(config['cluster'], config['uid'])}/crash.json", said)
        try:
            _teller(config["uid"], theirs)(f"the supervisor ended: {error!r}")
        except OSError:
            pass
        os._exit(1)
    os._exit(0)


def _trail(error: BaseException) -> list[str]:
    """Where it happened, without the traceback module: that would stay in every supervisor's memory."""
    found, frame = [], error.__traceback__
    while frame:
        found.append(f"{os.path.basename(frame.tb_frame.f_code.co_filename)}:{frame.tb_lineno}")
        frame = frame.tb_next
    return found
