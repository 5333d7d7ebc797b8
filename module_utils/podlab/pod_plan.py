"""The plan of podlab_pod: which pods to start, which to start again after a crash, which to delete."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .cluster_plan import unsealed
from .errors import PodlabError, Problem, refuse
from .kube import configs, defaults, sources
from .kube.cluster import Cluster
from .kube.podspec import Machine, runtime_config
from .runtime import narrate, paths, pods
from .runtime.files import read_json, read_text, write_json
from .runtime.state import read_pods
from .step import Item, Step, apply

TERMINAL = ("Succeeded", "Failed")
START_TIMEOUT = 60.0
# What a deletion may take beyond the grace period: the last KILL, and the files.
EXTRA_TIMEOUT = 10.0
NODE_MTU = 1500


def title(pod: Mapping[str, Any]) -> str:
    """How a pod is called in results."""
    return f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"


def complete(given: Sequence[Mapping[str, Any]], absent: bool) -> list[Mapping[str, Any]]:
    """The Pod objects with the values that the API server fills in. absent: they are only named by their UID.

    Raises PodlabError with everything that is missing.
    """
    refuse(problem for place, pod in enumerate(given) for problem in _missing(f"pods[{place}]", pod, absent))
    if absent:
        return list(given)
    return [
        {**pod, "metadata": {"namespace": "default", **pod["metadata"]}, "spec": defaults.pod_spec(pod["spec"])}
        for pod in given
    ]


def _missing(where: str, pod: Mapping[str, Any], absent: bool) -> Iterator[Problem]:
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    containers = spec.get("containers") or []
    wanted = {"metadata.uid": metadata.get("uid")}
    if not absent:
        wanted["metadata.name"] = metadata.get("name")
        wanted.update({"spec.nodeName": spec.get("nodeName"), "spec.containers": containers})
        for group in ("initContainers", "containers"):
            for place, each in enumerate(spec.get(group) or []):
                wanted.update({f"spec.{group}[{place}].{key}": each.get(key) for key in ("name", "image")})
    for key, value in wanted.items():
        if not value:
            yield Problem(f"{where}.{key}", "is required and missing", "podlab_manifests makes whole Pods")


def _objects(config_maps: Sequence[Mapping[str, Any]], secrets: str) -> dict[tuple[str, str, str], Any]:
    """ConfigMaps and Secrets by (kind, namespace, name). Raises PodlabError for secrets that are not sealed."""
    found: dict[tuple[str, str, str], Any] = dict(
        configs.by_name({"kind": "ConfigMap", **each} for each in config_maps)
    )
    for name, data in unsealed(secrets).items():
        namespace, _, short = name.partition("/")
        found["Secret", namespace, short] = {"data": data}
    return found


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


def _write(path: str, data: Any) -> None:
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    write_json(path, data)


class Request:
    """The options of podlab_pod. Raises PodlabError for a cluster or pods that are none."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.cluster = Cluster.of_option(params["cluster"])
        self.pods: Sequence[Mapping[str, Any]] = complete(params["pods"], params["state"] == "absent")
        self.services: Sequence[Mapping[str, Any]] = params["services"]
        self.images: Mapping[str, Any] = params["images"]
        self.objects = _objects(params.get("config_maps") or (), params.get("secrets") or "")
        self.exclusive: bool = params["exclusive"]
        self.absent: bool = params["state"] == "absent"
        self.grace: int | None = params["grace_period"]
        self.wait: bool = params["wait"]
        self.back_off_cap: int = params["max_container_restart_period"]


class Pods:
    """Wanted pods against those that are there."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.nodes = {node.name: node for node in request.cluster.nodes}
        self.machine = machine()
        self.starting: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
        self.clearing: list[str] = []
        self.deleting: dict[str, Mapping[str, Any]] = {}
        self.relabelling: list[Mapping[str, Any]] = []
        self.updating: dict[str, Mapping[str, Any]] = {}

    def items(self) -> list[Item]:
        """One item per pod, wanted or there."""
        self.starting, self.clearing, self.deleting, self.relabelling, self.updating = {}, [], {}, [], {}
        have = {entry["pod"]["metadata"]["uid"]: entry for entry in read_pods(self.request.cluster.name)}
        listed = {pod["metadata"]["uid"]: pod for pod in self.request.pods}
        wanted = {} if self.request.absent else listed
        unwanted = set(have) - set(wanted) if self.request.exclusive else set(have) & set(listed) - set(wanted)
        items = [self._deletion(have[uid]) for uid in have if uid in unwanted]
        items += [self._item(pod, have.get(uid)) for uid, pod in wanted.items()]
        return [*items, *self._launch_items()]

    def _launch_items(self) -> list[Item]:
        """Of a whole lab: what the watcher needs to start pods of Jobs as this call would."""
        request, file = self.request, paths.launch_file(self.request.cluster.name)
        if not request.exclusive or request.absent:
            return []
        wanted = {"images": request.images, "max_container_restart_period": request.back_off_cap}
        before = read_json(file)
        if wanted == before:
            return []
        argv = ("install", "-D", "-m", "600", "/dev/stdin", file)
        why = "differs" if before else "missing"
        return [Item("launch", [Step("file.write", file, argv, why, _write, {"path": file, "data": wanted})], {}, {})]

    def _deletion(self, entry: Mapping[str, Any]) -> Item:
        pod = entry["pod"]
        uid = pod["metadata"]["uid"]
        steps = []
        before = {"node": pod["spec"].get("nodeName"), "phase": entry["status"].get("phase")}
        if not entry["alive"]:
            self.clearing.append(uid)
            directory = paths.pod_dir(self.request.cluster.name, uid)
            steps.append(Step("pod.remove", title(pod), ("rm", "-r", directory), "not wanted"))
        elif not entry["status"].get("deletionTimestamp") or self._shortens(entry):
            self.deleting[uid] = entry
            steps.append(
                Step("pod.delete", title(pod), ("kill", "-TERM", str(entry["supervisor"]["pid"])), "not wanted")
            )
        elif self.request.wait:
            self.deleting[uid] = entry
        return Item(title(pod), steps, before if steps else {}, {})

    def _shortens(self, entry: Mapping[str, Any]) -> bool:
        uid, own = entry["pod"]["metadata"]["uid"], entry["pod"]["spec"].get("terminationGracePeriodSeconds", 30)
        asked = read_json(f"{paths.pod_dir(self.request.cluster.name, uid)}/delete.json", {}).get("grace", own)
        return self.request.grace is not None and self.request.grace < asked and self.request.absent

    def _item(self, pod: Mapping[str, Any], entry: Mapping[str, Any] | None) -> Item:
        uid = pod["metadata"]["uid"]
        containers = [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]
        after = {"node": pod["spec"]["nodeName"], "images": [each["image"] for each in containers]}
        going = entry is not None and entry["status"].get("deletionTimestamp")
        if entry and not going and (entry["alive"] or entry["status"].get("phase") in TERMINAL):
            return self._updated(pod, entry["alive"], self._kept(pod, entry["pod"], after))
        why = "missing"
        if entry and going:
            # The same pod again while the old one still goes: its grace period is waited for.
            self.deleting[uid] = entry
            why = "deleted and wanted again"
        elif entry:
            self.clearing.append(uid)
            why = "its supervisor is gone"
        config = self._config(pod)
        self.starting[uid] = (pod, config)
        return Item(title(pod), list(narrate.pod_steps(config, why)), {}, after)

    def _kept(self, pod: Mapping[str, Any], there: Mapping[str, Any], shown: Mapping[str, Any]) -> Item:
        """A pod that stays; its labels and annotations may be new."""
        if pod["metadata"] == there["metadata"]:
            return Item(title(pod), [], shown, shown)
        # The spec stays, with the ephemeral containers that were added to it.
        self.relabelling.append({**pod, "spec": there["spec"]})
        file = f"{paths.pod_dir(self.request.cluster.name, pod['metadata']['uid'])}/pod.json"
        argv = ("install", "-m", "600", "/dev/stdin", file)
        before, after = ({**shown, "metadata": dict(each["metadata"])} for each in (there, pod))
        return Item(title(pod), [Step("pod.label", title(pod), argv, "labels or annotations changed")], before, after)

    def _updated(self, pod: Mapping[str, Any], alive: bool, item: Item) -> Item:
        """What a pod that stays is made of may be new: ConfigMaps, Secrets, the labels that its volumes show."""
        uid = pod["metadata"]["uid"]
        file = paths.sources_file(self.request.cluster.name, uid)
        wanted, there = sources.of_pod(pod, self.request.objects), read_json(file, {})
        if not alive or wanted == there:
            return item
        self.updating[uid] = wanted
        why = f"{', '.join(sorted(_changed(there, wanted)))} changed"
        step = Step("pod.update", title(pod), ("install", "-m", "600", "/dev/stdin", file), why)
        before, after = configs.hidden(there, wanted)
        shown = ({**item.before, "sources": before}, {**item.after, "sources": after})
        return Item(item.name, [*item.steps, step], *shown)

    def _config(self, pod: Mapping[str, Any]) -> dict[str, Any]:
        node = self.nodes.get(pod["spec"]["nodeName"])
        if node is None:
            raise PodlabError(f"{title(pod)}: spec.nodeName {pod['spec']['nodeName']} is no node of the cluster")
        request = self.request
        config = runtime_config(pod, node, request.cluster, request.services, request.images, self.machine)
        config["max_container_restart_period"] = request.back_off_cap
        config["sources"] = sources.of_pod(pod, request.objects)
        return config

    def apply(self, items: Sequence[Item]) -> None:
        """Delete, clear and start. Raises PodlabError naming every pod that could not be started."""
        cluster = self.request.cluster.name
        apply([step for item in items for step in item.steps if step.kind == "file.write"])
        names = {title(pod) for pod, _ in self.starting.values()}
        awaited, ended, longest = [], [], 0.0
        for uid, entry in self.deleting.items():
            fd = pods.ask_to_go(cluster, uid, self.request.grace)
            if self.request.wait or uid in self.starting or title(entry["pod"]) in names:
                awaited.append(fd)
                ended.append(uid)
                grace = entry["pod"]["spec"].get("terminationGracePeriodSeconds", 30)
                longest = max(longest, self.request.grace if self.request.grace is not None else grace)
            elif fd >= 0:
                os.close(fd)
            else:
                ended.append(uid)
        for pod in self.relabelling:
            write_json(f"{paths.pod_dir(cluster, pod['metadata']['uid'])}/pod.json", pod)
        for uid, wanted in self.updating.items():
            pods.update(cluster, uid, wanted)
        for uid in self.clearing:
            pods.clear(cluster, uid)
        pods.await_ends(awaited, longest + EXTRA_TIMEOUT)
        for uid in ended:
            # It was ending by itself when it was asked, and has left its files.
            pods.clear(cluster, uid)
        if self.starting:
            self._start()

    def _start(self) -> None:
        said = pods.start(list(self.starting.values()), START_TIMEOUT)
        failed = {uid: error for uid, error in said.items() if error.startswith(("the supervisor", "its supervisor"))}
        if failed:
            lines = "; ".join(f"{title(self.starting[uid][0])}: {error}" for uid, error in failed.items())
            raise PodlabError(f"Cannot start every pod: {lines}")

    def state(self) -> list[dict[str, Any]]:
        """The pods that are there, each {"pod", "status", "alive"}."""
        found = read_pods(self.request.cluster.name)
        return [{key: entry[key] for key in ("pod", "status", "alive")} for entry in found]


def machine() -> Machine:
    """What pods take from this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cpus = os.cpu_count() or 1
    return Machine(memory=memory, resolv_conf=read_text("/etc/resolv.conf"), mtu=NODE_MTU, cpus=cpus)
