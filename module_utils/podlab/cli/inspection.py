"""`inspect`: a pod and its containers as the kernel sees them, as data. docs/commands.md names the keys."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from ..errors import PodlabError
from ..linux import cgroup, namespaces, procinfo
from ..linux.mountinfo import MountInfo, mounts
from . import insides, inspect_text, lab, output, pick

FORMS = ("", "json", "yaml")
# What lies below /proc and /sys and is none of these was mounted there to hide what it covers.
_KERNEL_FILES = ("proc", "sysfs")


def inspect(word: str, *, name: str = "", namespace: str = "", container: str = "", form: str = "") -> None:
    """Print what the kernel knows of a pod's containers: as text, or with `-o json` and `-o yaml`.

    word: the pod, as pick.pod takes it. name: the lab. container: only this one.
    Raises PodlabError when there is no such pod or container, when nothing of it runs, or for another form.
    """
    if form not in FORMS:
        raise PodlabError(f"-o {form}: unable to match a printer. Use json or yaml")
    found = document(lab.read(name), word, namespace, container)
    if form:
        sys.stdout.write((output.as_json if form == "json" else output.as_yaml)(found))
    else:
        sys.stdout.write(inspect_text.text(found, inspect_text.width()))


def document(state: Mapping[str, Any], word: str, namespace: str, container: str) -> dict[str, Any]:
    """The pod, its pause and its containers; of one container, without pause. Raises PodlabError as inspect."""
    picked = pick.pod(state, word, namespace)
    if container:
        pick.container(picked, container)
    trees = cgroup.detect()
    where = insides.placed(state["name"], picked, trees)
    if not picked.alive or not where.pause.pid:
        phase = picked.status.get("phase", "Unknown")
        raise PodlabError(f"pod {picked.name} has no processes now; current phase is {phase}. See ./lab get pods -A")
    node = next(record for record in state["nodes"] if record["name"] == picked.pod["spec"]["nodeName"])
    whose = _owners(where, node)
    supervisor = next(item for item in state["pods"] if item["pod"]["metadata"]["uid"] == picked.uid)["supervisor"]
    return {
        "pod": _pod(picked),
        "supervisor": {"pid": supervisor["pid"]},
        "cgroup": _cgroup(where.cgroup, trees),
        "pause": None if container else _one(where.pause, picked, trees, whose),
        "containers": [_one(each, picked, trees, whose) for each in where.containers if container in ("", each.name)],
    }


def _pod(picked: pick.Picked) -> dict[str, Any]:
    metadata, status = picked.pod["metadata"], picked.status
    return {
        "namespace": metadata["namespace"],
        "name": picked.name,
        "uid": picked.uid,
        "node": picked.pod["spec"]["nodeName"],
        "phase": status.get("phase", "Unknown"),
        "podIP": status.get("podIP", ""),
        "qosClass": status.get("qosClass", ""),
    }


def _owners(where: insides.Placed, node: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Who may share a namespace -> the inodes of his, by type: the machine, the node, pause, containers."""
    pids: dict[str, int | str] = {"the machine": "self", f"node {node['name']}": node["pid"]}
    pids.update({each.name: each.pid for each in (where.pause, *where.containers) if each.pid})
    found = {}
    for name, pid in pids.items():
        try:
            found[name] = namespaces.of_process(pid)
        except OSError:
            continue
    return found


def _one(
    inside: insides.Inside, picked: pick.Picked, trees: cgroup.Hierarchies, whose: Mapping[str, Mapping[str, int]]
) -> dict[str, Any]:
    """A container; of one that does not run only what its status says."""
    status = pick.container_status(picked, inside.name)
    found: dict[str, Any] = {"name": inside.name}
    if inside.name != insides.PAUSE:
        state = status.get("state") or {}
        found.update(image=status.get("image", ""), id=status.get("containerID", ""), state=next(iter(state), ""))
    try:
        process = procinfo.read(inside.pid)
        table = mounts(inside.pid)
    except OSError:
        return {**found, "pid": 0}
    return {
        **found,
        **procinfo.as_data(process),
        "namespaces": [
            {"type": kind, "inode": inode, "sharedWith": sharing(inside.name, kind, inode, whose)}
            for kind, inode in process.namespaces.items()
        ],
        "cgroup": {**_cgroup(inside.cgroup, trees), "paths": dict(process.cgroups)},
        "mounts": [mount(entry) for entry in table],
        "processes": _processes(inside.cgroup, trees),
    }


def sharing(name: str, kind: str, inode: int, whose: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Who else is in the namespace."""
    return [other for other, its in whose.items() if other != name and its.get(kind) == inode]


def _cgroup(path: str, trees: cgroup.Hierarchies) -> dict[str, Any]:
    """Settings and counters of a cgroup, by Kubernetes' kind of keys; what the machine does not have is left out."""
    if not trees.exists(path):
        return {"path": f"/{path}", "settings": {}, "usage": {}}
    settings = {key: value for key, value in trees.read(path)._asdict().items() if value not in (None, {}, "")}
    return {"path": f"/{path}", "settings": _camel(settings), "usage": _camel(trees.stat(path))}


def _camel(values: Mapping[str, Any]) -> dict[str, Any]:
    """cpu_quota_us -> cpuQuotaUs."""
    found = {}
    for key, value in values.items():
        first, *more = key.split("_")
        found[first + "".join(part.title() for part in more)] = value
    return found


def mount(entry: MountInfo) -> dict[str, Any]:
    """A mount of a container. root: what of the file system is mounted. guard: why it is there, or empty."""
    return {
        "target": entry.mount_point,
        "type": entry.fstype,
        "source": entry.source,
        "root": entry.root,
        "options": list(entry.options),
        "superOptions": list(entry.super_options),
        "propagation": entry.propagation,
        "guard": guard(entry),
    }


def guard(entry: MountInfo) -> str:
    """ "masked" or "read-only" for what is mounted over files of the kernel to keep the container from them."""
    if not entry.mount_point.startswith(("/proc/", "/sys/")) or entry.mount_point.startswith("/sys/fs/cgroup"):
        return ""
    if entry.fstype not in _KERNEL_FILES:
        return "masked"
    return "read-only" if entry.fstype == "proc" and "ro" in entry.options and entry.root != "/" else ""


def _processes(path: str, trees: cgroup.Hierarchies) -> list[dict[str, Any]]:
    """Every process of the cgroup: on this machine, and by the number it has inside."""
    found = []
    for pid in trees.single().pids(path) if trees.exists(path) else ():
        status = procinfo.status(pid)
        if status:
            inner = procinfo.numbers(status.get("NSpid", str(pid)))[-1]
            found.append({"pid": pid, "inside": inner, "command": namespaces.command(pid)})
    return found
