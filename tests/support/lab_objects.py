"""Small clusters and objects for the tests of planning."""

from __future__ import annotations

from podlab.kube.cluster import CONTROL_PLANE_TAINT, Cluster, Node


def node(index, name, labels=None, taints=()):
    labels = {"kubernetes.io/hostname": name, **(labels or {})}
    return Node(name, "worker", index, f"172.18.0.{index + 2}", f"10.244.{index}.0/24", labels, tuple(taints), ())


def cluster(workers=2, name="kind", **labels):
    """One tainted control plane and some workers; labels: worker name -> labels."""
    nodes = [node(0, "cp", taints=[CONTROL_PLANE_TAINT])]
    nodes += [node(n, f"w{n}", labels.get(f"w{n}")) for n in range(1, workers + 1)]
    return Cluster(
        name=name,
        nodes=tuple(nodes),
        node_subnet="172.18.0.0/16",
        gateway="172.18.0.1",
        pod_subnet="10.244.0.0/16",
        service_subnet="10.96.0.0/16",
        ip_family="ipv4",
        kube_proxy_mode="iptables",
        dns_service_ip="10.96.0.10",
    )


CONTAINER = {"name": "c", "image": "busybox"}


def template(labels=None, **spec):
    return {"metadata": {"labels": labels or {"app": "web"}}, "spec": {"containers": [dict(CONTAINER)], **spec}}


def thing(kind, name="web", namespace="default", **spec):
    return {"apiVersion": "x", "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def deployment(replicas=3, name="web", **spec):
    return thing("Deployment", name, replicas=replicas, selector={}, template=template(**spec))


def job(name="job", restartPolicy="OnFailure", labels=None, **spec):
    return thing("Job", name, template=template(labels, restartPolicy=restartPolicy), **spec)


def pod(name="web", namespace="default", labels=None, **spec):
    made = thing("Pod", name, namespace, containers=[dict(CONTAINER)], **spec)
    made["metadata"]["labels"] = labels or {}
    return made


def service(name="web", namespace="default", ports=None, **spec):
    return thing("Service", name, namespace, selector={"app": "web"}, ports=ports or [{"port": 80}], **spec)


def store(*things, source="manifests"):
    return {"objects": [{"object": item, "source": source} for item in things]}


def running(pods, phase="Running", start="2026-01-01T00:00:00Z", ready=True, restarts=0):
    """The pods as they are read from a machine."""
    status = {
        "phase": phase,
        "startTime": start,
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        "containerStatuses": [{"restartCount": restarts}],
    }
    return [{"pod": item, "status": dict(status)} for item in pods]
