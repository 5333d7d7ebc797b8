"""The lab's watcher as others see it: whether it runs, how to start it and how to end it. What it does: service_watch.

Its record is watcher.json: pid, start, since, synced (RFC 3339: its first sync, or the last change of error), error (of
the last sync, empty when it went well), code (what it runs: names of modules, and their digest).
"""

from __future__ import annotations

import os
import select
import subprocess
from typing import Any

from ..errors import PodlabError
from ..linux import cgroup, process, syscalls
from . import interpreter, paths
from .files import read_json

# What it may take to load and to look at the lab for the first time.
START_SECONDS = 30.0
END_SECONDS = 10.0
READY = "ready"
# What a sync may need of the environment; the rest is its caller's.
_KEPT = ("PATH", "PODLAB_", "XTABLES_")


def read(cluster: str) -> dict[str, Any]:
    """The watcher's record with `alive`, without `code`; {"alive": False} when there never was one."""
    record = dict(read_json(paths.watcher_file(cluster), {}))
    record.pop("code", None)
    record["alive"] = process.alive(record.get("pid", 0), record.get("start", 0))
    return record


def code() -> dict[str, Any]:
    """What this process runs and will have run, for the record. To be asked before anything may have changed."""
    names = interpreter.shipped()
    return {"modules": names, "digest": interpreter.digest(names)}


def outdated(cluster: str) -> bool:
    """Whether the watcher of the record runs other code than the caller would start."""
    runs = read_json(paths.watcher_file(cluster), {}).get("code") or {"modules": (), "digest": ""}
    return bool(interpreter.digest(runs["modules"]) != runs["digest"])


def argv(cluster: str) -> tuple[str, ...]:
    """The command that a person would type for the same effect."""
    return ("python3", "-m", "podlab.service_watch", cluster)


def start(cluster: str, module: str) -> None:
    """Start the watcher, in a session of its own, and return when it looks. Raises PodlabError with what it said.

    module: __name__ of service_watch.
    """
    child = subprocess.Popen(
        interpreter.command(module, cluster, root=interpreter.keep(paths.code_file(cluster))),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if name.startswith(_KEPT)},
        cwd="/",
    )
    assert child.stdout is not None
    with child.stdout as answer:
        said = _read(answer.fileno()).strip()
    if said != READY:
        child.kill()
        child.wait()
        raise PodlabError(f"The watcher of lab {cluster} did not start: {said[-2000:] or 'it ended without a word'}")
    # It outlives us: whoever adopts it waits for it.
    child.returncode = 0


def _read(fd: int) -> str:
    """What the watcher says until it closes its end: it does so when it is ready."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    said = b""
    while poll.poll(START_SECONDS * 1000):
        data = os.read(fd, 65536)
        if not data:
            return said.decode(errors="replace")
        said += data
    return f"nothing within {START_SECONDS:.0f} s"


def stop(cluster: str) -> None:
    """End the watcher and wait for its end. Raises PodlabError when it does not end."""
    record = read(cluster)
    if record["alive"]:
        _end(cluster, record["pid"], record["start"])
    hierarchies = cgroup.detect()
    hierarchies.remove(paths.watcher_cgroup(cluster))
    # A lab that is there has nodes in it.
    for path in (paths.cgroup_root(cluster), os.path.dirname(paths.cgroup_root(cluster))):
        hierarchies.remove_if_empty(path)
    try:
        os.unlink(paths.watcher_file(cluster))
    except FileNotFoundError:
        pass


def _end(cluster: str, pid: int, started: int) -> None:
    """Kill the watcher and wait for its end. It may have ended since it was looked at."""
    try:
        fd = syscalls.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not process.kill(pid, started):
            return
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(END_SECONDS * 1000):
            raise PodlabError(f"The watcher of lab {cluster} does not end: pid {pid}")
    finally:
        os.close(fd)
