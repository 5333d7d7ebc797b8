"""`top`: CPU, memory, processes and throttling of pods, containers and nodes, once or for as long as one looks."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import PodlabError
from ..kube import printers
from ..linux import cgroup, procfs
from ..runtime import paths
from . import insides, lab, objects, output, pick
from . import top_units as units

WHAT = {"pods": "pods", "pod": "pods", "po": "pods", "nodes": "nodes", "node": "nodes", "no": "nodes"}
FORMS = ("", "json", "yaml")
SORTS = {"cpu": "cpuMillicores", "memory": "memoryBytes"}
# How long is looked when it is looked once: the counters need a while to differ.
SECONDS = 1.0


class Asked(NamedTuple):
    """What `top` was asked for. what: pods or nodes."""

    what: str
    names: tuple[str, ...]
    choice: objects.Choice
    containers: bool
    sort_by: str


class Sample(NamedTuple):
    """Counters of a cgroup at a time. key: (namespace, pod, container), or (node,)."""

    key: tuple[str, ...]
    seconds: float
    stat: Mapping[str, int]


def asked(words: Sequence[str], namespace: str, everywhere: bool, selector: str, containers: bool, sort: str) -> Asked:
    """Raises PodlabError for words that do not go together, or mean nothing."""
    what = WHAT.get((words or ["pods"])[0].lower())
    if what is None:
        raise PodlabError(f"top {words[0]}: there is nothing of that name to measure. Use top pods or top nodes")
    if sort and sort not in SORTS:
        raise PodlabError(f"--sort-by {sort}: unable to sort by that. Use {' or '.join(SORTS)}")
    if what == "nodes" and (containers or namespace or everywhere or selector):
        raise PodlabError("top nodes: -n, -A, -l and --containers are for pods")
    return Asked(what, tuple(words[1:]), objects.choice(words[1:], namespace, everywhere, selector), containers, sort)


def top(wanted: Asked, *, name: str = "", once: bool = False, form: str = "", headers: bool = True) -> None:
    """Print what is used: live on a terminal, else one table (or `-o json`, `-o yaml`).

    name: the lab. once: one table on a terminal, too.
    Raises PodlabError when there is no such lab, pod or node, or for another form.
    """
    if form not in FORMS:
        raise PodlabError(f"-o {form}: unable to match a printer. Use json or yaml")
    found = lab.lab_name(name)
    before = samples(found, wanted)
    if sys.stdout.isatty() and sys.stdin.isatty() and not (once or form):
        # Slow to load, and only a person needs it.
        from . import top_screen

        top_screen.show(lambda: samples(found, wanted), before, wanted)
        return
    time.sleep(SECONDS)
    rows = usage(before, samples(found, wanted), wanted)
    if form:
        sys.stdout.write((output.as_json if form == "json" else output.as_yaml)({"items": rows}))
    elif rows:
        sys.stdout.write(printers.text(table(rows, wanted)[not headers :]))
    else:
        where = "" if wanted.choice.all_namespaces else f" in {wanted.choice.namespace} namespace"
        print(f"No resources found{where}.", file=sys.stderr)


def samples(name: str, wanted: Asked) -> list[Sample]:
    """The counters as they are now. Raises PodlabError for names that are not there."""
    state, trees = lab.read(name), cgroup.detect()
    places: list[tuple[tuple[str, ...], str]]
    if wanted.what == "nodes":
        nodes = objects.choose("nodes", objects.of_kind("nodes", state), wanted.choice)
        places = [((item["metadata"]["name"],), paths.node_cgroup(name, item["metadata"]["name"])) for item in nodes]
    else:
        places = [
            ((item["metadata"]["namespace"], item["metadata"]["name"], each.name), each.cgroup)
            for item in objects.choose("pods", objects.of_kind("pods", state), wanted.choice)
            for each in _containers(name, state, item)
        ]
    return [found for key, path in places for found in _sample(key, path, trees)]


def _containers(name: str, state: Mapping[str, Any], item: Mapping[str, Any]) -> Sequence[insides.Inside]:
    """The pod's containers that have been started; none of a pod that has just gone."""
    picked = next(
        pick.Picked(each["pod"], each["status"], each["alive"])
        for each in state["pods"]
        if each["pod"]["metadata"]["uid"] == item["metadata"]["uid"]
    )
    try:
        return insides.cgroups(name, picked)
    except PodlabError:
        return ()


def _sample(key: tuple[str, ...], path: str, trees: cgroup.Hierarchies) -> list[Sample]:
    try:
        return [Sample(key, time.monotonic(), trees.stat(path))] if trees.exists(path) else []
    except OSError:
        return []  # its cgroup has gone in between


def usage(before: Sequence[Sample], after: Sequence[Sample], wanted: Asked) -> list[dict[str, Any]]:
    """What was used between two looks, by node, container or pod, in the order that is wanted.

    What has begun in between has used no CPU as far as we know, as it is for kubectl.
    """
    earlier = {each.key: each for each in before}
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for each in after:
        row = _row(earlier.get(each.key, each), each)
        key = each.key if wanted.what == "nodes" or wanted.containers else each.key[:2]
        known = rows.setdefault(key, {**_names(key), **dict.fromkeys(row, 0)})
        for name, value in row.items():
            known[name] += value
    if wanted.what == "nodes":
        _shares(rows.values())
    order = SORTS.get(wanted.sort_by)
    return sorted(rows.values(), key=lambda row: -row[order]) if order else list(rows.values())


def _names(key: tuple[str, ...]) -> dict[str, Any]:
    return {"name": key[0]} if len(key) == 1 else dict(zip(("namespace", "pod", "container"), key))


def _row(before: Sample, after: Sample) -> dict[str, int]:
    used = after.stat["cpu_usage_us"] - before.stat["cpu_usage_us"]
    return {
        "cpuMillicores": units.millicores(max(0, used), after.seconds - before.seconds),
        "memoryBytes": after.stat.get("memory_working_set", 0),
        "pids": after.stat.get("pids", 0),
        "periods": after.stat["nr_periods"],
        "throttledPeriods": after.stat["nr_throttled"],
        "throttledUs": after.stat["throttled_us"],
    }


def _shares(rows: Any) -> None:
    """Of nodes: how much of the machine that is. They all have the whole machine."""
    cores, memory = os.cpu_count() or 1, procfs.memory_mb(procfs.read("/proc/meminfo")) << 20
    for row in rows:
        row["cpuPercent"] = int(row["cpuMillicores"] / (cores * 10))
        row["memoryPercent"] = int(row["memoryBytes"] * 100 / memory) if memory else 0


def table(rows: Sequence[Mapping[str, Any]], wanted: Asked) -> list[list[str]]:
    """The rows with header: kubectl's columns, then what else a cgroup counts."""
    if wanted.what == "nodes":
        head = ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)", "PIDS"]
        return [head, *([*_node_cells(row), str(row["pids"])] for row in rows)]
    names = [
        *(["NAMESPACE"] if wanted.choice.all_namespaces else []),
        *(["POD", "NAME"] if wanted.containers else ["NAME"]),
    ]
    keys = [{"NAMESPACE": "namespace", "POD": "pod", "NAME": "container" if wanted.containers else "pod"}[name] for name
            in names]  # fmt: skip
    head = [*names, "CPU(cores)", "MEMORY(bytes)", "PIDS", "THROTTLED", "FOR"]
    return [head, *([*(str(row[key]) for key in keys), *_pod_cells(row)] for row in rows)]


def _node_cells(row: Mapping[str, Any]) -> list[str]:
    cpu, memory = units.cores(row["cpuMillicores"]), units.mebibytes(row["memoryBytes"])
    return [row["name"], cpu, f"{row['cpuPercent']}%", memory, f"{row['memoryPercent']}%"]


def _pod_cells(row: Mapping[str, Any]) -> list[str]:
    return [
        units.cores(row["cpuMillicores"]),
        units.mebibytes(row["memoryBytes"]),
        str(row["pids"]),
        f"{row['throttledPeriods']}/{row['periods']}",
        units.duration(row["throttledUs"]),
    ]
