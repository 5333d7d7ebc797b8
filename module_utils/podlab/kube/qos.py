"""Quality of service: classes, cgroup values and OOM scores, as kubelet computes them.

Sources: k8s pkg/apis/core/v1/helper/qos, pkg/kubelet/cm/helpers_linux.go, pkg/kubelet/qos/policy.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, NamedTuple

from . import priorities, quantity

GUARANTEED = "Guaranteed"
BURSTABLE = "Burstable"
BEST_EFFORT = "BestEffort"

MIN_SHARES = 2
MAX_SHARES = 262144
QUOTA_PERIOD_US = 100000
MIN_QUOTA_US = 1000

GUARANTEED_OOM_SCORE = -997
BEST_EFFORT_OOM_SCORE = 1000

HUGEPAGES = "hugepages-"


class Resources(NamedTuple):
    """One container's requests and limits. CPU in thousandths of a core, memory and hugepages in bytes."""

    cpu_request: int
    cpu_limit: int | None
    memory_request: int
    memory_limit: int | None
    hugepages: Mapping[str, int]


def resources(container: Mapping[str, Any]) -> Resources:
    """The numbers of a container; a request that is not set equals the limit (API server's default)."""
    wanted = container.get("resources") or {}
    limits = wanted.get("limits") or {}
    requests = {**limits, **(wanted.get("requests") or {})}
    return Resources(
        cpu_request=quantity.milli(requests.get("cpu", 0)),
        cpu_limit=quantity.milli(limits["cpu"]) if "cpu" in limits else None,
        memory_request=quantity.whole(requests.get("memory", 0)),
        memory_limit=quantity.whole(limits["memory"]) if "memory" in limits else None,
        hugepages={
            page_size(name): quantity.whole(value) for name, value in limits.items() if name.startswith(HUGEPAGES)
        },
    )


def qos_class(containers: Iterable[Mapping[str, Any]]) -> str:
    """Guaranteed, Burstable or BestEffort. Only CPU and memory count, and a value of zero counts as not set."""
    all_resources = [resources(container) for container in containers]
    if not any(r.cpu_request or r.cpu_limit or r.memory_request or r.memory_limit for r in all_resources):
        return BEST_EFFORT
    if all(
        r.cpu_limit and r.memory_limit and r.cpu_limit == r.cpu_request and r.memory_limit == r.memory_request
        for r in all_resources
    ):
        return GUARANTEED
    return BURSTABLE


def cpu_shares(milli_cpu: int) -> int:
    """cgroup v1 cpu.shares for a CPU request in thousandths of a core."""
    return max(MIN_SHARES, min(MAX_SHARES, milli_cpu * 1024 // 1000))


def cpu_quota_us(milli_cpu: int | None) -> int | None:
    """CFS quota in microseconds per 100 ms period for a CPU limit; None is no limit."""
    if not milli_cpu:
        return None
    return max(MIN_QUOTA_US, milli_cpu * QUOTA_PERIOD_US // 1000)


def container_values(container: Mapping[str, Any]) -> dict[str, Any]:
    """The cgroup values of a container, as kubelet hands them to the runtime."""
    own = resources(container)
    return {
        "cpu_shares": cpu_shares(own.cpu_request),
        "cpu_quota_us": cpu_quota_us(own.cpu_limit),
        "memory_limit": own.memory_limit or None,
        "hugepages": dict(own.hugepages),
    }


def is_sidecar(container: Mapping[str, Any]) -> bool:
    """Of an init container: whether it is a restartable one, which stays beside the regular containers."""
    return container.get("restartPolicy") == "Always"


def pod_values(containers: Iterable[Mapping[str, Any]], inits: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The cgroup values of the pod level: a limit holds only if every container, init ones too, has one.

    A pod needs what its sidecars and regular containers need together, or what one init container needs beside the
    sidecars before it, whichever is more (AggregateContainerRequests in component-helpers/resource).
    """
    regular = [resources(container) for container in containers]
    before = [(is_sidecar(container), resources(container)) for container in inits]
    everyone = [*regular, *(own for _, own in before)]

    def together(amounts: Callable[[Resources], int | None]) -> int:
        sidecars = most = 0
        for stays, own in before:
            amount = amounts(own) or 0
            most = max(most, sidecars + amount)
            sidecars += amount if stays else 0
        return max(most, sidecars + sum(amounts(own) or 0 for own in regular))

    def of_size(size: str) -> Callable[[Resources], int | None]:
        return lambda own: own.hugepages.get(size)

    cpu_limit, memory_limit = together(lambda own: own.cpu_limit), together(lambda own: own.memory_limit)
    return {
        "cpu_shares": cpu_shares(together(lambda own: own.cpu_request)),
        "cpu_quota_us": cpu_quota_us(cpu_limit) if all(own.cpu_limit for own in everyone) else None,
        "memory_limit": memory_limit if all(own.memory_limit for own in everyone) else None,
        "hugepages": {size: together(of_size(size)) for own in everyone for size in own.hugepages},
    }


def oom_score_adj(qos: str, memory_request: int, node_memory: int) -> int:
    """A container's oom_score_adj. memory_request and node_memory in bytes."""
    if qos == GUARANTEED:
        return GUARANTEED_OOM_SCORE
    if qos == BEST_EFFORT:
        return BEST_EFFORT_OOM_SCORE
    score = 1000 - 1000 * memory_request // node_memory
    return max(1000 + GUARANTEED_OOM_SCORE, min(BEST_EFFORT_OOM_SCORE - 1, score))


def oom_class(quality: str, priority_class: str | None) -> str:
    """The class by which the OOM killer judges a pod: what is critical to the node goes last."""
    return GUARANTEED if priority_class == priorities.NODE_CRITICAL else quality


def container_oom_score_adj(
    qos: str, container: Mapping[str, Any], node_memory: int, beside: Iterable[Mapping[str, Any]] = ()
) -> int:
    """The oom_score_adj of a container. beside: of an init container, the pod's regular ones.

    A sidecar is not killed before the regular container with the smallest request.
    """
    memory = resources(container).memory_request
    if is_sidecar(container):
        memory = max(memory, min((resources(other).memory_request for other in beside), default=0))
    return oom_score_adj(qos, memory, node_memory)


def cgroup_parent(qos: str, uid: str) -> str:
    """The pod's cgroup below the node's root: kind's cgroupRoot /kubelet, cgroupfs driver.

    A Guaranteed pod has no level of its class.
    """
    level = "" if qos == GUARANTEED else f"{qos.lower()}/"
    return f"kubelet/kubepods/{level}pod{uid}"


def page_size(resource: str) -> str:
    """The kernel's name of a huge page size: "hugepages-2Mi" is "2MB" in hugetlb.2MB.limit_in_bytes."""
    size = quantity.whole(resource[len(HUGEPAGES) :])
    for unit, power in (("GB", 30), ("MB", 20), ("KB", 10)):
        if size >= 2**power:
            return f"{size >> power}{unit}"
    return f"{size}B"
