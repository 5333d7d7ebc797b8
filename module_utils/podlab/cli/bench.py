"""`bench`: the speed budget, as ratios against yardsticks of the same run."""

from __future__ import annotations

import dataclasses
import functools
import sys
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import PodlabError
from ..kube import printers
from ..kube.proxy_model import ProxyNode
from ..linux import process
from ..runtime import state
from ..service_plan import ServicePlan
from ..service_request import Node, Request
from . import output, play, playbook, yardsticks

LAB = "bench"
# Module calls of lab.yml.
LAB_CALLS = 8
SERVICES, ENDPOINTS = 1000, 3
MEMORY_BUDGET_MIB = 1.5


@dataclasses.dataclass
class LabTimes:
    """Seconds for what was done to a lab, and MiB for each of its pods."""

    up: float
    again: float
    more: float
    fewer: float
    memory: float


class Bench:
    """Measures each thing once, when it is first asked for."""

    def __init__(self, pods: int) -> None:
        self.pods = pods

    @functools.cached_property
    def empty_play(self) -> float:
        """Seconds for a play without tasks."""
        return yardsticks.median(lambda: yardsticks.play(0))

    @functools.cached_property
    def module_call(self) -> float:
        """Seconds for one more module call."""
        return yardsticks.median(lambda: yardsticks.module_call(self.empty_play))

    @functools.cached_property
    def calls(self) -> float:
        """Seconds for a play with as many module calls as lab.yml has, all doing nothing."""
        return self.empty_play + LAB_CALLS * self.module_call

    @functools.cached_property
    def floor(self) -> yardsticks.Floor:
        """Milliseconds for a pod in C."""
        runs = [yardsticks.floor(self.pods) for _ in range(yardsticks.REPEATS)]
        return sorted(runs)[len(runs) // 2]

    @functools.cached_property
    def services(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The Services and EndpointSlices of the sync."""
        return yardsticks.many_services(SERVICES, ENDPOINTS)

    @functools.cached_property
    def restore(self) -> float:
        """Milliseconds for iptables-restore of their rules."""
        return 1000 * yardsticks.median(lambda: yardsticks.restore(*self.services))

    @functools.cached_property
    def sync(self) -> float:
        """Milliseconds for a node's full sync: read, plan, restore, and the names and the record beside."""
        return 1000 * yardsticks.median(lambda: sync(*self.services))

    @functools.cached_property
    def partial_restore(self) -> float:
        """Milliseconds for iptables-restore of what one more Service changes."""
        return 1000 * yardsticks.median(lambda: yardsticks.restore(*self.services, there=SERVICES - 1))

    @functools.cached_property
    def partial_sync(self) -> float:
        """Milliseconds for a node's sync when there is one more Service."""
        return 1000 * yardsticks.median(lambda: sync(*self.services, there=SERVICES - 1))

    @functools.cached_property
    def lab(self) -> LabTimes:
        """A whole lab: up, up again, more pods, fewer pods, down."""
        return lab_times(self.pods)


class Row(NamedTuple):
    """One line of the budget: `measured` may be at most `budget` times `yardstick`."""

    name: str
    unit: str
    measured: Callable[[Bench], float]
    against: str
    yardstick: Callable[[Bench], float]
    budget: float


ROWS = (
    Row("up: 3 nodes, 7 pods, 2 Services", "s", lambda b: b.lab.up,
        f"play with {LAB_CALLS} idle modules", lambda b: b.calls, 1.6),
    Row("second up, nothing to do", "s", lambda b: b.lab.again,
        f"play with {LAB_CALLS} idle modules", lambda b: b.calls, 1.2),
    Row("each further pod", "ms", lambda b: 1000 * (b.lab.more - b.lab.again) / b.pods,
        "the same in C", lambda b: b.floor.made, 2.0),
    Row("each pod removed", "ms", lambda b: 1000 * (b.lab.fewer - b.lab.again) / b.pods,
        "the same in C", lambda b: b.floor.removed, 2.5),
    Row(f"{SERVICES} Services x {ENDPOINTS} endpoints, full sync", "ms", lambda b: b.sync,
        "iptables-restore of the text", lambda b: b.restore, 1.5),
    Row(f"one more Service in {SERVICES}, partial sync", "ms", lambda b: b.partial_sync,
        "iptables-restore of the text", lambda b: b.partial_restore, 4.0),
    Row(f"partial sync of one in {SERVICES} Services", "ms", lambda b: b.partial_sync,
        "full sync", lambda b: b.sync, 1.0),
    Row("memory of an idle pod", "MiB", lambda b: b.lab.memory,
        "pause and supervisor (PSS)", lambda b: MEMORY_BUDGET_MIB, 1.0),
    Row("a module call", "ms", lambda b: 1000 * b.module_call,
        "an empty play", lambda b: 1000 * b.empty_play, 0.6),
)  # fmt: skip


def bench(only: str, form: str, pods: int) -> int:
    """Measure and print the rows whose name has `only` in it; 1 when one is over its budget, else 0.

    form: table or json. pods: how many the rows about many pods make. Raises PodlabError for another form or no row.
    """
    chosen = [row for row in ROWS if only.lower() in row.name.lower()]
    if form not in ("", "table", "json"):
        raise PodlabError(f"-o {form}: unable to match a printer. Use table or json")
    if not chosen:
        raise PodlabError(f"--rows {only}: no row has that in its name: {'; '.join(row.name for row in ROWS)}")
    measured = Bench(pods)
    results = [result(row, measured) for row in chosen]
    if form == "json":
        sys.stdout.write(output.as_json(results))
    else:
        sys.stdout.write(printers.text(table(results)))
    return 1 if any(item.get("verdict") != "ok" for item in results) else 0


def result(row: Row, measured: Bench) -> dict[str, Any]:
    """The row as plain data; with "error" when it could not be measured."""
    known = {"name": row.name, "unit": row.unit, "against": row.against, "budget": row.budget}
    try:
        value, yardstick = row.measured(measured), row.yardstick(measured)
    except PodlabError as error:
        print(f"{row.name}: {error.message}", file=sys.stderr)
        return {**known, "error": error.message, "verdict": "not measured"}
    ratio = value / yardstick
    return {
        **known,
        "measured": round(value, 3),
        "yardstick": round(yardstick, 3),
        "ratio": round(ratio, 2),
        "verdict": "ok" if ratio <= row.budget else "over",
    }


def table(results: list[dict[str, Any]]) -> list[list[str]]:
    """The results as rows of text."""
    rows = [["WHAT", "MEASURED", "AGAINST", "YARDSTICK", "RATIO", "BUDGET", ""]]
    for item in results:
        unit = item["unit"]
        values = [f"{item[key]:.2f} {unit}" if key in item else "-" for key in ("measured", "yardstick")]
        ratio = f"{item['ratio']:.2f}" if "ratio" in item else "-"
        rows.append(
            [item["name"], values[0], item["against"], values[1], ratio, f"{item['budget']:.2f}", item["verdict"]]
        )
    return rows


def sync(services: list[dict[str, Any]], slices: list[dict[str, Any]], there: int = 0) -> float:
    """Seconds for programming these Services on a node that has the first `there` of them."""
    with yardsticks.fresh_netns("sync") as name, tempfile.TemporaryDirectory() as place:
        request = Request(
            cluster="bench",
            nodes=(Node(ProxyNode("bench", ("172.18.0.2",)), name),),
            services=services,
            slices=slices,
            options=yardsticks.proxy_options(),
            zone="cluster.local",
            dns_dir=f"{place}/dns",
            state_file=f"{place}/services.json",
            mode="iptables",
            present=True,
            backend="",
            pod_subnet="10.244.0.0/16",
            inputs=None,
        )

        def program(count: int) -> None:
            asked = request._replace(services=services[:count], slices=slices[:count])
            plan = ServicePlan(asked, check_mode=False)
            plan.apply_all(plan.items())

        if there:
            program(there)
        return yardsticks.seconds(lambda: program(len(services)))


def lab_times(pods: int) -> LabTimes:
    """Make a lab of the default config under a name of its own, measure, and take it away whatever happens.

    Raises PodlabError when there is a lab of that name, or when a playbook fails.
    """
    if LAB in state.labs():
        raise PodlabError(f"there is a lab {LAB} already: ./lab down --name {LAB}")
    try:
        # Once for what only a first time costs: images, pause, the kernel's modules.
        _run("lab.yml")
        _run("teardown.yml", PODLAB_DOWN="1")
        up = _run("lab.yml")
        again = yardsticks.median(lambda: _run("lab.yml"))
        replicas = sum(_is_web(item["pod"]) for item in state.read_pods(LAB))
        more = _scale(replicas + pods)
        memory = idle_memory(LAB)
        return LabTimes(up, again, more, _scale(replicas), memory)
    finally:
        _run("teardown.yml", PODLAB_DOWN="1")


def _is_web(pod: dict[str, Any]) -> bool:
    return bool((pod["metadata"].get("labels") or {}).get("app") == "web")


def _scale(replicas: int) -> float:
    wanted = {"kind": "deployment", "name": "web", "namespace": "default", "replicas": replicas}
    cluster = state.read_state(LAB)["cluster"]
    variables = {"podlab_cluster": cluster, "podlab_scale": wanted, "podlab_wait": True}
    return _run("lab.yml", variables, PODLAB_DOWN="1")


def _run(name: str, variables: dict[str, Any] | None = None, **environment: str) -> float:
    own = {"KIND_CLUSTER_NAME": LAB, "PODLAB_CONFIG": str(play.DEFAULT_CONFIG), **environment}
    with tempfile.TemporaryFile("w+") as file:
        outcome = playbook.run(name, environment=own, variables=variables, output=file)
        file.seek(0)
        if outcome.code:
            raise PodlabError(f"{name} failed:\n{file.read().rstrip()}")
    return outcome.seconds


def idle_memory(cluster: str) -> float:
    """MiB of a pod's own processes, pause and supervisor, on average over the lab's pods (PSS, proc(5))."""
    sizes = []
    for item in state.read_pods(cluster):
        pid = item["supervisor"]["pid"]
        if item["alive"]:
            pauses = [child for child in process.children(pid) if _command(child) == "pause"]
            sizes.append(sum(_pss(one) for one in (pid, *pauses)))
    return sum(sizes) / len(sizes) / 1024


def _command(pid: int) -> str:
    with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
        return file.read().strip()


def _pss(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
