"""The plan of podlab_node: which nodes have to be made, made anew or removed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import PodlabError
from .kube.cluster import Cluster
from .linux import cgroup, netns, process
from .runtime import lab, node, paths
from .runtime.files import read_json, read_text
from .step import Item, Step

# What a node was made of; when it differs, the node has to be made anew.
MANAGED = ("role", "index", "address", "pod_cidr", "mounts")
RECORDED = ("labels", "taints")


class Nodes:
    """The nodes of a cluster on this machine."""

    def __init__(self, cluster: Mapping[str, Any], state: str, check: bool) -> None:
        """Raises PodlabError when the cluster is none; state "absent" needs no more than its name."""
        self.cluster = cluster
        self.name = Cluster.of_option(cluster).name if state == "present" else str(cluster.get("name", ""))
        lab.check_name(self.name)
        self.wanted = {entry["name"]: entry for entry in cluster["nodes"]} if state == "present" else {}
        self.check = check

    def items(self) -> list[Item]:
        """One item per node, wanted or there. Raises PodlabError when a network namespace is missing."""
        have = {name: self._record(name) for name in _listdir(paths.nodes_dir(self.name))}
        missing = [name for name in self.wanted if not netns.exists(paths.node_netns(name))]
        if missing and not self.check:
            names = ", ".join(paths.node_netns(name) for name in missing)
            raise PodlabError(f"The network namespace of {names} is missing. Make it first with podlab_topology")
        gone = [self._gone(name, record) for name, record in have.items() if name not in self.wanted]
        return gone + [self._item(entry, have.get(name, {})) for name, entry in self.wanted.items()]

    def _record(self, name: str) -> dict[str, Any]:
        record: dict[str, Any] = read_json(paths.node_file(self.name, name), {})
        return record

    def _item(self, entry: Mapping[str, Any], record: Mapping[str, Any]) -> Item:
        name = entry["name"]
        files = self._files(name)
        alive = bool(record) and process.alive(record["pid"], record["start"])
        before = {**{key: record.get(key) for key in (*MANAGED, *RECORDED)}, "running": True} if alive else {}
        after = {**{key: _plain(entry[key]) for key in (*MANAGED, *RECORDED)}, "running": True}
        steps: list[Step] = []
        changed = [key for key in MANAGED if alive and before[key] != after[key]]
        if not alive or changed:
            why = "missing" if not record else "its pause process is gone" if not alive else f"{changed[0]} changed"
            if record or cgroup.detect().exists(paths.node_cgroup(self.name, name)):
                # Also what a run that was killed in between has left without a record.
                steps.append(self._removal(name, record, why))
            steps += self._creation(entry, files, why)
        elif before != after:
            argv = ("install", "-m", "600", "/dev/stdin", paths.node_file(self.name, name))
            args = {"cluster": self.name, "record": {**record, **after, "running": None}}
            steps.append(Step("node.label", name, argv, "labels or taints changed", node.write_record, args))
        return Item(f"node {name}", steps, before, after)

    def _creation(self, entry: Mapping[str, Any], files: Mapping[str, str], why: str) -> list[Step]:
        """One call makes the node; the rest tells what it is made of."""
        name = entry["name"]
        told = [
            Step("cgroup.create", path, ("mkdir", "-p", f"/sys/fs/cgroup/cpu/{path}"), why)
            for path in [f"{paths.node_cgroup(self.name, name)}/init"]
        ]
        flags = ("--mount", "--uts", "--ipc", "--pid", "--cgroup", "--fork")
        argv = ("nsenter", f"--net=/run/netns/{paths.node_netns(name)}", "unshare", *flags, "/pause")
        args = {"cluster": self.name, "node": entry, "files": files}
        told.append(Step("node.create", name, argv, why, node.create, args))
        for mount in node.node_mounts(self.name, entry, cgroup.detect()):
            kind = ("-t", mount.fstype) if mount.fstype else ("--bind",)
            options = ("-o", mount.data) if mount.data else ()
            argv = (
                "nsenter",
                "--target",
                f"$(pidof {name})",
                "--mount",
                "mount",
                *kind,
                *options,
                mount.source,
                mount.target,
            )
            told.append(Step("mount.add", f"{mount.target} in {name}", argv, why))
        return told

    def _removal(self, name: str, record: Mapping[str, Any], why: str) -> Step:
        argv = ("kill", "-KILL", str(record.get("pid", 0)))
        return Step("node.remove", name, argv, why, remove, {"cluster": self.name, "name": name, "record": record})

    def _gone(self, name: str, record: Mapping[str, Any]) -> Item:
        steps = [self._removal(name, record, "not in the config")]
        return Item(f"node {name}", steps, {key: record.get(key) for key in MANAGED}, {})

    def _files(self, name: str) -> dict[str, str]:
        addresses = "".join(f"{entry['address']}\t{entry['name']}\n" for entry in self.cluster["nodes"])
        local = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
        return {
            "hostname": f"{name}\n",
            "hosts": local + addresses,
            "resolv.conf": resolv_conf(self.cluster.get("dns_search")),
        }

    def state(self) -> list[dict[str, Any]]:
        """The nodes that are there."""
        from .runtime.state import read_nodes

        return read_nodes(self.name)


def resolv_conf(search: Sequence[str] | None) -> str:
    """A node's resolv.conf: the machine's, with kind's dnsSearch in place of its search list when that is set."""
    lines = read_text("/etc/resolv.conf").splitlines(keepends=True)
    if search is None:
        return "".join(lines)
    kept = [line for line in lines if line.split()[:1] not in (["search"], ["domain"])]
    return "".join(kept) + (f"search {' '.join(search)}\n" if search else "")


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _listdir(path: str) -> list[str]:
    return sorted(os.listdir(path)) if os.path.isdir(path) else []


def remove(cluster: str, name: str, record: Mapping[str, Any]) -> None:
    """End a node with all its pods, and remove its cgroup and files; its network namespace is podlab_topology's."""
    path = paths.node_cgroup(cluster, name)
    hierarchies = cgroup.detect()
    pids = hierarchies.pids(path) if hierarchies.exists(path) else []
    lab.end(tuple((pid, process.start_time(pid), "") for pid in pids), cluster)
    if record:
        process.kill(record["pid"], record["start"])
    hierarchies.remove(path)
    for directory in (paths.node_dir(cluster, name), paths.node_log_dir(cluster, name)):
        if os.path.isdir(directory):
            lab.remove_tree(directory)
