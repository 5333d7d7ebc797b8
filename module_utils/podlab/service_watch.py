"""The lab's watcher: while no command runs, it keeps the nodes' Services at what the lab's pods are, and Jobs going.

One process per lab and machine, in the lab's cgroup, so that it goes with the lab. It sleeps until a pod's status, the
pods themselves or the wanted Services change (inotify), or a pod's supervisor dies (pidfd), and then runs the very
reconcile that podlab_service runs. Once in a sync period it looks at the rules themselves, as kube-proxy's canary makes
it do: what somebody has flushed comes back.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from .errors import PodlabError
from .job_watch import JobWatch
from .kube import proxy_health
from .kube.proxy_model import SERVICE_NAME_LABEL
from .linux import cgroup, inotify, netns, process, syscalls
from .runtime import enter, lock, paths, watcher
from .runtime.crilog import timestamp
from .runtime.files import read_json, write_json
from .runtime.ruleslock import programming
from .runtime.state import read_pods
from .service_health import Listeners, Place
from .service_plan import ServicePlan, wanted_state
from .service_request import Request, request

# kube-proxy's own defaults are 30 s (iptables.syncPeriod) and 1 s (minSyncPeriod). Here the least time between two
# syncs is what the last one took, so that a storm of changes leaves half of a CPU free.
SYNC_PERIOD = 30.0
MIN_SYNC_PERIOD = 0.1
RETRY_SECONDS = 1.0
# Changes come in bursts: a container's end is two writes.
SETTLE_SECONDS = 0.01
# A command that changes the lab programs Services itself when its pods are there: that long it is left to it.
YIELD_SECONDS = 1.0
OOM_SCORE = -999

_PODS = inotify.CREATE | inotify.DELETE | inotify.MOVED_TO
_POD = inotify.MOVED_TO | inotify.DELETE_SELF


class Watcher:
    """The loop. Everything happens in run(), in one thread."""

    def __init__(self, cluster: str, now: Callable[[], float] = time.monotonic) -> None:
        self.cluster = cluster
        self.now = now
        self.poll = select.poll()
        self.watched: dict[int, Callable[[], None]] = {}
        self.supervisors: dict[int, tuple[int, int]] = {}
        self.inotify = inotify.Inotify()
        self.listeners = Listeners(self._watch, self._unwatch, now)
        self.jobs = JobWatch(cluster, self._watch, self._unwatch, self._soon)
        self.record = {
            "pid": os.getpid(),
            "start": process.start_time(os.getpid()),
            "since": timestamp(),
            "synced": "",
            "error": "",
            "code": watcher.code(),
        }
        self.ended = False
        self.noted = False
        # Whether the last sync went wrong; what is wrong with Jobs is none of its concern.
        self.failed = False
        # When the next look at what changed is due, and the next at the rules themselves.
        self.due = self.full_due = self.rest_until = now()
        # Since when something has changed that no sync has seen.
        self.changed_at = float("inf")
        self._watch(self.inotify.fd, self._something_changed)
        self._follow()

    # -- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Live until the lab is gone."""
        self._listen_for_signals()
        while not self.ended:
            now = self.now()
            if now >= min(self.due, self.full_due):
                self.sync(full=now >= self.full_due)
                continue
            times = [self.due - now, self.full_due - now, self.listeners.expire()]
            timeout = max(0.0, min(each for each in times if each is not None))
            # poll(2) counts in whole milliseconds: one less would be a busy loop.
            for fd, _ in self.poll.poll(timeout * 1000 + 1):
                handler = self.watched.get(fd)
                if handler:
                    handler()

    def _watch(self, fd: int, handler: Callable[[], None]) -> None:
        self.watched[fd] = handler
        self.poll.register(fd, select.POLLIN)

    def _unwatch(self, fd: int) -> None:
        if self.watched.pop(fd, None):
            self.poll.unregister(fd)

    def _listen_for_signals(self) -> None:
        read, write = os.pipe()
        for fd in (read, write):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

        def asked() -> None:
            os.read(read, 64)
            self.ended = True

        self._watch(read, asked)

    # -- what may change --------------------------------------------------------------------------------------------

    def _something_changed(self) -> None:
        self.inotify.drain()
        self._soon()

    def _soon(self) -> None:
        self.changed_at = min(self.changed_at, self.now())
        self.due = min(self.due, max(self.now() + SETTLE_SECONDS, self.rest_until))

    def _follow(self) -> None:
        """Watch every pod there is by now, before it is read: what changes after is seen."""
        pods = paths.pods_dir(self.cluster)
        self.inotify.add(paths.run_root(), inotify.DELETE)
        self.inotify.add(paths.cluster_dir(self.cluster), inotify.MOVED_TO | inotify.CREATE)
        self.inotify.add(pods, _PODS)
        try:
            names = os.listdir(pods)
        except FileNotFoundError:
            names = []
        for name in names:
            self.inotify.add(f"{pods}/{name}", _POD)

    def _follow_supervisors(self, pods: list[dict[str, Any]]) -> None:
        """A supervisor that is killed writes no status any more: its end itself is waited for."""
        known = set(self.supervisors.values())
        for entry in pods:
            record = entry["supervisor"]
            if not entry["alive"] or (record["pid"], record["start"]) in known:
                continue
            try:
                fd = syscalls.pidfd_open(record["pid"])
            except ProcessLookupError:
                self._soon()
                continue
            self.supervisors[fd] = (record["pid"], record["start"])
            self._watch(fd, self._mourner(fd))
            if not process.alive(record["pid"], record["start"]):
                self._soon()

    def _mourner(self, fd: int) -> Callable[[], None]:
        def ended() -> None:
            self._unwatch(fd)
            os.close(fd)
            del self.supervisors[fd]
            self._soon()

        return ended

    # -- the sync ---------------------------------------------------------------------------------------------------

    def sync(self, full: bool) -> None:
        """Reconcile; after a failure try again soon, and wholly: that the wanted is noted does not say that it works.

        Whatever goes wrong, the next sync may go well, and nobody else would make it.
        """
        began = self.now()
        full = full or self.failed
        self.due = float("inf")
        errors, period = [], SYNC_PERIOD
        try:
            self._follow()
        except OSError as fault:  # what cannot be watched is still looked at
            errors.append(str(fault))
        try:
            period = self._reconcile(full)
        except (OSError, PodlabError, ValueError) as fault:
            errors.append(str(fault) or repr(fault))
        except Exception as fault:
            errors.append(repr(fault))
        again = self._look_at_jobs()
        now, self.failed = self.now(), bool(errors)
        self.rest_until = now + max(MIN_SYNC_PERIOD, now - began)
        if full:
            self.full_due = float("inf")
        self.full_due = min(self.full_due, now + (RETRY_SECONDS if errors else period))
        self.due = min(self.due, now + again)
        if self.due < self.rest_until:
            self.due = self.rest_until
        self.listeners.healthy = not errors
        self._note("; ".join([*errors, *filter(None, [self.jobs.error])]))

    def _look_at_jobs(self) -> float:
        """Seconds until the Jobs have to be looked at again, whatever happens before."""
        if self.ended:
            return float("inf")
        try:
            return self.jobs.look()
        except Exception as fault:
            self.jobs.error = f"Jobs: {fault!r}"
            return RETRY_SECONDS

    def _leaves(self, state: Any, asked: Request) -> bool:
        """Leave a change to the command that makes it: new endpoints altogether, lost ones for a while."""
        if state == wanted_state(asked) or not lock.held(self.cluster):
            return False
        lost = _ready((state or {}).get("endpointslices", ())) - _ready(asked.slices)
        waited = self.now() - self.changed_at
        if lost and waited >= YIELD_SECONDS:
            return False
        # The command's end is seen by its lock; one that is killed leaves it behind.
        self.due = self.now() + (YIELD_SECONDS - waited if lost else YIELD_SECONDS)
        return True

    def _note(self, error: str) -> None:
        if self.ended or not os.path.isdir(paths.cluster_dir(self.cluster)):
            self.ended = True
            return
        if error != self.record["error"] or not self.record["synced"]:
            self.record.update(error=error, synced=timestamp())
            self.noted = False
        if not self.noted:
            # A full disk says it by itself, and is tried again with the next sync.
            with contextlib.suppress(OSError):
                write_json(paths.watcher_file(self.cluster), self.record)
                self.noted = True

    def _reconcile(self, full: bool) -> float:
        """Bring nodes and records to what is wanted now; return the sync period in seconds."""
        with programming(self.cluster):
            inputs = read_json(paths.proxy_file(self.cluster))
            if inputs is None:
                # The lab is gone, or podlab_service took its Services away.
                self.ended = True
                return SYNC_PERIOD
            pods = read_pods(self.cluster)
            self._follow_supervisors(pods)
            known = {"nodes": _nodes(inputs), "pods": pods, "typed": True}
            asked = request({**inputs, **known, "state": "present", "watch": True})
            # What it keeps to is not for the watcher to write.
            asked = asked._replace(inputs=None)
            state = read_json(asked.state_file)
            if not full and self._leaves(state, asked):
                return SYNC_PERIOD
            self.changed_at = float("inf")
            if full or state != wanted_state(asked):
                plan = ServicePlan(asked, check_mode=False)
                plan.apply_all(plan.items())
                plan.apply_all(plan.canaries())
        faults = self.listeners.follow(_health(asked))
        if faults:
            raise PodlabError("; ".join(faults))
        return float((inputs.get("proxy") or {}).get("sync_period") or SYNC_PERIOD)


def _ready(slices: Iterable[Mapping[str, Any]]) -> set[tuple[str, str, str]]:
    """Namespace, Service and address of every endpoint that is ready."""
    return {
        (
            item["metadata"].get("namespace", ""),
            item["metadata"]["labels"][SERVICE_NAME_LABEL],
            endpoint["addresses"][0],
        )
        for item in slices
        for endpoint in item.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False
    }


def _nodes(inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The nodes that are there: one that is made or removed just now has no rules to keep."""
    asked = inputs.get("nodes") or [{"name": node["name"]} for node in inputs["cluster"]["nodes"]]
    return [dict(node) for node in asked if netns.exists(node.get("netns") or paths.node_netns(node["name"]))]


def _health(asked: Request) -> dict[Place, proxy_health.Health]:
    """Every health-check node port, by where it is answered."""
    if asked.mode == "none":
        return {}
    anywhere = "::" if asked.options.family == "ipv6" else "0.0.0.0"
    return {
        Place(node.netns, anywhere, port): health
        for node in asked.nodes
        for port, health in proxy_health.health(asked.services, asked.slices, node.proxy, asked.options.family).items()
    }


def main(cluster: str) -> None:
    """Become the watcher of the lab: say "ready" when it looks, then let the terminal or the module go."""
    os.umask(0o022)
    syscalls.set_name("podlab-watcher")
    enter.set_oom_score(OOM_SCORE)
    # A descriptor per pod: the usual 1024 would be all that a large lab has.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    hierarchies = cgroup.detect()
    hierarchies.create(paths.watcher_cgroup(cluster))
    hierarchies.attach(paths.watcher_cgroup(cluster), 0)
    one = Watcher(cluster)
    write_json(paths.watcher_file(cluster), one.record)
    print(watcher.READY, flush=True)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    try:
        one.run()
    except BaseException as error:
        one.record["error"] = f"it ended: {error!r}"
        write_json(paths.watcher_file(cluster), one.record)
        raise


if __name__ == "__main__":
    main(sys.argv[1])
