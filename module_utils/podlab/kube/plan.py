"""From the store and what is there to everything that should be there: pods on nodes, Services with addresses, images.

Pure and deterministic: check mode and the real run come to the same plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import Problem
from . import defaults, hostnames, node_ports, objects, services, slice_rules, sysctls
from .host_ports import NO_FREE_PORTS
from .manifests import title
from .proxy_model import SERVICE_NAME_LABEL
from .removal import Existing
from .scheduler import Occupancy, place
from .schema import Finding, Path
from .workloads import NO_PAST, Owner, Past, keep, known, owner_of

if TYPE_CHECKING:
    from .cluster import Cluster

Object = Mapping[str, Any]
Report = Callable[[Object, Finding], Problem]


class Plan(NamedTuple):
    """What should be there.

    store: the store with the Services' addresses and node ports. pods: complete Pod objects with nodeName, in the order
    of their objects. services: complete Service objects. endpoint_slices: complete ones that somebody wrote and that
    name a Service. images, image_users: see `images()`.
    """

    store: dict[str, Any]
    pods: tuple[dict[str, Any], ...]
    services: tuple[dict[str, Any], ...]
    endpoint_slices: tuple[dict[str, Any], ...]
    images: tuple[dict[str, Any], ...]
    image_users: dict[str, Any]
    problems: tuple[Problem, ...]


def report(thing: Object, finding: Finding) -> Problem:
    """A finding about an object whose file is not at hand."""
    from .yamltree import path_text

    place_text = f"{title(thing)}: {path_text(finding.path)}" if finding.path else title(thing)
    return Problem(place_text, finding.message, finding.remedy, level=finding.level)


def plan(store: Object, cluster: Cluster, pods: Iterable[Object], say: Report = report, past: Past = NO_PAST) -> Plan:
    """Everything that should be there.

    store: the objects as applied. pods: what is there, each {"pod", "status"} as read_state gives it.
    say: makes a Problem of a finding; the caller knows in which file the object is. past: what is known of Jobs.
    """
    every = [known(entry) for entry in store["objects"]]
    problems: list[Problem] = []
    remembering, made_services = _services(store, cluster, every, problems, say)
    owners = [owner for owner in (owner_of(thing, cluster) for thing in every) if owner is not None]
    made, new = _pods(owners, cluster, pods, problems, say, past)
    wanted, users = images(made, new, _later(owners))
    slices = _endpoint_slices(every, cluster, problems, say)
    return Plan(remembering, tuple(made), tuple(made_services), tuple(slices), tuple(wanted), users, tuple(problems))


def _services(
    store: Object, cluster: Cluster, things: Sequence[Object], problems: list[Problem], say: Report
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The store with what the Services are given, and the complete Services; those at fault are left out."""
    wanted = {services.full_name(thing): thing for thing in things if thing["kind"] == "Service"}
    addresses, faults = services.allocate(wanted.values(), objects.addresses(store), cluster.service_subnet)
    ports, port_faults = node_ports.allocate(wanted.values(), objects.node_ports(store))
    for name, fault in faults.items():
        remedy = services.REMEDY if wanted[name]["spec"].get("clusterIP") else "Remove a Service"
        problems.append(say(wanted[name], Finding(("spec", "clusterIP"), fault, remedy)))
    problems += [say(wanted[fault.service], fault.finding) for fault in port_faults]
    made = [
        defaults.service(thing, addresses.get(name, ""), ports.get(name, node_ports.NodePorts()))
        for name, thing in wanted.items()
        if name not in faults
    ]
    return objects.remember(store, addresses, ports), made


def _endpoint_slices(
    things: Sequence[Object], cluster: Cluster, problems: list[Problem], say: Report
) -> list[dict[str, Any]]:
    known = {services.full_name(thing): thing for thing in things if thing["kind"] == "Service"}
    nodes = [node.name for node in cluster.nodes]
    made = []
    for thing in things:
        if thing["kind"] == "EndpointSlice":
            service = (thing["metadata"].get("labels") or {}).get(SERVICE_NAME_LABEL)
            owner = known.get(f"{thing['metadata']['namespace']}/{service}")
            problems += [say(thing, finding) for finding in slice_rules.fit(thing, owner, nodes)]
            made += [defaults.endpoint_slice(thing)] if service else []
    return made


def _later(owners: Iterable[Owner]) -> list[dict[str, Any]]:
    """A pod of each Job: the watcher may start one at any time, and its image is to be there then."""
    return [owner.make("later") for owner in owners if owner.source["kind"] == "Job" and owner.make]


def _pods(
    owners: Sequence[Owner],
    cluster: Cluster,
    pods: Iterable[Object],
    problems: list[Problem],
    say: Report,
    past: Past,
) -> tuple[list[dict[str, Any]], set[str]]:
    """The pods, and the UIDs of those that are new."""
    nodes = {node.name for node in cluster.nodes}
    existing = [Existing(item["pod"], item.get("status") or {}) for item in pods]
    existing = [item for item in existing if item.pod["spec"].get("nodeName") in nodes]
    chosen = [(owner, *keep(owner, existing, past)) for owner in owners]
    occupancy = Occupancy()
    for owner, kept, _ in chosen:
        for item in kept:
            if not item.ended:
                occupancy.add(item.pod["spec"]["nodeName"], owner.uid, item.pod["spec"])
    made: list[dict[str, Any]] = []
    new: set[str] = set()
    takers: dict[tuple[str, str], Owner] = {}
    for owner, kept, fresh in chosen:
        placed = [_placed(owner, pod, cluster, occupancy, problems, say) for pod in fresh]
        new |= {pod["metadata"]["uid"] for pod in placed if pod is not None}
        for pod in [*(item.pod for item in kept), *(pod for pod in placed if pod is not None)]:
            _claim(owner, pod, takers, problems, say)
            made.append(pod)
    return made, new


def _placed(
    owner: Owner, pod: dict[str, Any], cluster: Cluster, occupancy: Occupancy, problems: list[Problem], say: Report
) -> dict[str, Any] | None:
    node, faults = place(pod["spec"], cluster.nodes, occupancy, owner.uid)
    if node is None:
        finding = _unschedulable(owner.source, pod, faults, cluster)
        problem = say(owner.source, finding)
        if problem not in problems:
            problems.append(problem)
        return None
    faults_there = [*_name_fault(pod, cluster, node), *sysctls.forbidden(pod["spec"], cluster.allowed_unsafe_sysctls)]
    for finding in faults_there:
        problem = say(owner.source, finding._replace(path=(*_spec_path(owner.source), *finding.path)))
        if problem not in problems:
            problems.append(problem)
    if faults_there:
        return None
    occupancy.add(node, owner.uid, pod["spec"])
    return {**pod, "spec": {**pod["spec"], "nodeName": node}}


def _name_fault(pod: Object, cluster: Cluster, node: str) -> list[Finding]:
    fault = hostnames.fault(hostnames.host_name(pod["metadata"], pod["spec"], cluster.dns_domain, node))
    remedy = "Shorten hostname or subdomain, or leave setHostnameAsFQDN out"
    return [Finding(("setHostnameAsFQDN",), fault, remedy)] if fault else []


def _spec_path(source: Object) -> Path:
    """Where an object has its pods' spec."""
    return ("spec",) if source["kind"] == "Pod" else ("spec", "template", "spec")


def _unschedulable(source: Object, pod: Object, faults: Mapping[str, str], cluster: Cluster) -> Finding:
    spec = _spec_path(source)
    wanted = pod["spec"].get("nodeName")
    if wanted and not faults:
        known = ", ".join(node.name for node in cluster.nodes)
        return Finding((*spec, "nodeName"), f"there is no node {wanted}", f"The nodes are {known}")
    why = "; ".join(f"{name} {fault}" for name, fault in faults.items())
    path = (*spec, "nodeSelector") if pod["spec"].get("nodeSelector") else spec
    remedy = "Change nodeSelector or tolerations, or the labels of a node in the cluster config"
    if any(NO_FREE_PORTS in fault for fault in faults.values()):
        remedy = "Give the pods other ports of the node, or fewer replicas"
    return Finding(path, f"no node of {len(cluster.nodes)} can run the pod: {why}", remedy)


def _claim(
    owner: Owner, pod: Object, takers: dict[tuple[str, str], Owner], problems: list[Problem], say: Report
) -> None:
    """Two objects must not want a pod of the same name."""
    name = (pod["metadata"]["namespace"], pod["metadata"]["name"])
    other = takers.setdefault(name, owner)
    if other is not owner:
        message = f"wants a pod {name[1]}, as {title(other.source)} does"
        problems.append(say(owner.source, Finding(("metadata", "name"), message, "Rename one of them")))


_POLICY_RANK = ("Never", "IfNotPresent", "Always")


def images(
    pods: Iterable[Object], new: set[str], later: Iterable[Object] = ()
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The images to have, as podlab_image takes them, and by reference who uses them.

    One entry for each reference: {"reference", "policy"}. The policy is the most eager one of the pods that are new;
    a pod that is there has its image, so it never asks a registry again. later: pods that may come, with no place yet.
    Users: reference -> {"nodes": names, "pods": namespace/name}.
    """
    policies: dict[str, str] = {}
    users: dict[str, Any] = {}
    for pod in [*pods, *later]:
        for container in (*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]):
            reference = container["image"]
            policy = container["imagePullPolicy"]
            if pod["metadata"]["uid"] not in new and policy == "Always":
                policy = "IfNotPresent"
            policies[reference] = max(policies.get(reference, policy), policy, key=_POLICY_RANK.index)
            if "nodeName" not in pod["spec"]:
                continue
            use = users.setdefault(reference, {"nodes": [], "pods": []})
            for kind, value in (("nodes", pod["spec"]["nodeName"]), ("pods", services.full_name(pod))):
                if value not in use[kind]:
                    use[kind].append(value)
    return [{"reference": reference, "policy": policy} for reference, policy in policies.items()], users
