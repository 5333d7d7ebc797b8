"""Pods from the machine's side: start many at once, ask them to go, clear away what a crash left."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import PodlabError
from ..linux import cgroup, netns, process, syscalls
from ..linux.netlink import Netlink
from . import ephemeral, filters, hostport, idranges, interpreter, ipam, lab, paths, sandbox, zygote
from .crilog import timestamp
from .files import read_json, write_json
from .pause import pause_command


def start(pods: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], timeout: float) -> dict[str, str]:
    """Start pods, each (Pod object, runtime config); return uid -> what went wrong ("" when nothing did).

    The key `sources` of a config (kube.sources) becomes a file of its own: a supervisor does not keep it in memory.
    timeout: seconds until every container of every pod has been started or has failed to.
    Raises PodlabError when a node is not running or the time is over.
    """
    by_node: dict[str, list[Mapping[str, Any]]] = {}
    for pod, whole in pods:
        plain = {key: value for key, value in whole.items() if key != "sources"}
        config = filters.prepare(plain, _node(plain["cluster"], plain["node"]))
        directory = paths.pod_dir(config["cluster"], config["uid"])
        # The rootfs of a container may hold what only root of the machine should reach (CVE-2021-41103).
        for private in (directory, paths.pod_data_dir(config["cluster"], config["uid"])):
            os.makedirs(private, exist_ok=True)
            os.chmod(private, 0o700)
        write_json(paths.sources_file(config["cluster"], config["uid"]), whole.get("sources") or {})
        config = idranges.given(config)
        write_json(f"{directory}/config.json", config)
        write_json(f"{directory}/pod.json", pod)
        by_node.setdefault(config["node"], []).append(config)
    cluster = pods[0][1]["cluster"]
    work = {
        "pause": pause_command(),
        "nodes": [{"record": _node(cluster, name), "pods": configs} for name, configs in by_node.items()],
    }
    return _run_zygote(work, {config["uid"] for _, config in pods}, timeout)


def spool(cluster: str, uid: str, node: str, container: Mapping[str, Any]) -> None:
    """Lay down the runtime config of an ephemeral container where the pod's supervisor, when asked to, finds it."""
    directory = paths.pod_dir(cluster, uid)
    confined = filters.container(cluster, container, _node(cluster, node))
    write_json(f"{directory}/{ephemeral.FILE}", {"containers": [*ephemeral.read(directory), confined]})


def unspool(cluster: str, uid: str, name: str) -> None:
    """Take back an ephemeral container that the supervisor has refused."""
    directory = paths.pod_dir(cluster, uid)
    left = [each for each in ephemeral.read(directory) if each["name"] != name]
    write_json(f"{directory}/{ephemeral.FILE}", {"containers": left})


def _node(cluster: str, name: str) -> dict[str, Any]:
    record = read_json(paths.node_file(cluster, name))
    if not record or not process.alive(record["pid"], record["start"]):
        raise PodlabError(f"Node {name} is not running. Make it first with podlab_node")
    return dict(record)


def _run_zygote(work: Mapping[str, Any], waiting: set[str], timeout: float) -> dict[str, str]:
    child = subprocess.Popen(
        interpreter.command(zygote.__name__),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = child.communicate(json.dumps(work).encode(), timeout)
    except subprocess.TimeoutExpired as error:
        child.kill()
        raise PodlabError(f"Pods did not start within {timeout:.0f} s") from error
    said = {entry["uid"]: entry["error"] for entry in map(json.loads, out.splitlines())}
    for uid in waiting - set(said):
        said[uid] = err.decode("utf-8", "replace").strip()[-2000:] or "its supervisor ended without a word"
    return said


def ask_to_go(cluster: str, uid: str, grace: int | None) -> int:
    """Tell the pod's supervisor to delete it; return a descriptor that is readable when it has ended, -1 if it has.

    grace: seconds for its containers; None takes the pod's own.
    """
    directory = paths.pod_dir(cluster, uid)
    record = read_json(f"{directory}/supervisor.json", {"pid": 0, "start": 0})
    if not process.alive(record["pid"], record["start"]):
        return -1
    # Noted before the signal: from now on every reader sees a pod that is going.
    write_json(f"{directory}/delete.json", _deletion(directory, grace))
    try:
        fd = syscalls.pidfd_open(record["pid"])
    except ProcessLookupError:
        return -1
    process.kill(record["pid"], record["start"], signal.SIGTERM)
    return fd


def _deletion(directory: str, grace: int | None) -> dict[str, Any]:
    """What is noted of a request to go; of one that comes again the grace period may only be shorter."""
    before = read_json(f"{directory}/delete.json", {})
    if before:
        limit = before.get("grace", read_json(f"{directory}/config.json", {}).get("grace", 0))
        grace = limit if grace is None else min(limit, grace)
    when = before.get("deletionTimestamp") or timestamp()
    return {"deletionTimestamp": when, **({} if grace is None else {"grace": grace})}


def update(cluster: str, uid: str, sources: Mapping[str, Any]) -> None:
    """Give a pod's supervisor new content of ConfigMaps, Secrets and metadata. It takes it to the volumes at once."""
    write_json(paths.sources_file(cluster, uid), sources)
    record = read_json(f"{paths.pod_dir(cluster, uid)}/supervisor.json", {"pid": 0, "start": 0})
    process.kill(record["pid"], record["start"], signal.SIGHUP)


def await_ends(fds: Iterable[int], timeout: float) -> None:
    """Wait until every supervisor has ended. Raises PodlabError when one does not within timeout seconds."""
    waiting = [fd for fd in fds if fd >= 0]
    poll = select.poll()
    for fd in waiting:
        poll.register(fd, select.POLLIN)
    while waiting:
        ready = poll.poll(timeout * 1000)
        if not ready:
            raise PodlabError(
                f"{len(waiting)} pods did not go within {timeout:.0f} s. Try again with a shorter grace period"
            )
        for fd, _ in ready:
            poll.unregister(fd)
            waiting.remove(fd)
            os.close(fd)


def clear(cluster: str, uid: str) -> None:
    """Remove everything of a pod whose supervisor is gone: processes, veth, address, cgroups, files."""
    config = read_json(f"{paths.pod_dir(cluster, uid)}/config.json", {})
    if config:
        _clear_kernel(cluster, config)
    log = paths.pod_log_dir(cluster, config["node"], config["namespace"], config["name"], uid) if config else ""
    for directory in (paths.pod_data_dir(cluster, uid), log, paths.pod_dir(cluster, uid)):
        if directory and os.path.isdir(directory):
            lab.remove_tree(directory)


def _clear_kernel(cluster: str, config: Mapping[str, Any]) -> None:
    hierarchies = cgroup.detect()
    path = f"{paths.node_cgroup(cluster, config['node'])}/{config['cgroup_parent']}"
    if hierarchies.exists(path):
        hierarchies.kill(path)
        hierarchies.remove(path)
    attempts = range(
        read_json(f"{paths.pod_dir(cluster, config['uid'])}/status.json", {}).get("podlab", {}).get("attempt", 0) + 2
    )
    identities = [sandbox.sandbox_id(config["uid"], attempt) for attempt in attempts]
    store = paths.ipam_dir(cluster, config["node"])
    if os.path.isdir(store):
        for identity in identities:
            ipam.release(store, identity)
    namespace = paths.node_netns(config["node"])
    if netns.exists(namespace):
        with netns.entered(namespace), Netlink() as netlink:
            links = netlink.links()
            for name in {sandbox.veth_name(identity) for identity in identities} & set(links):
                netlink.clear_link(name)
            if config.get("host_ports"):
                hostport.close_ports(cluster, [(identity, sandbox.veth_name(identity)) for identity in identities])
