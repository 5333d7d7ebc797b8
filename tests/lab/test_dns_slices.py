"""Names that lead out of the lab: endpoints that somebody wrote, with hostnames, and names of others."""

from __future__ import annotations

import pytest

from support.lab import Lab
from support.waiting import until

pytestmark = pytest.mark.lab

ZONE, DNS = "default.svc.cluster.local", "10.96.0.10"
OUTSIDE = """
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {clusterIP: None, ports: [{name: sql, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: outside-1, labels: {kubernetes.io/service-name: outside}}
addressType: IPv4
endpoints:
  - {addresses: [192.0.2.50], hostname: db-a}
  - {addresses: [192.0.2.51]}
  - {addresses: [192.0.2.52], hostname: db-c, conditions: {ready: false}}
ports: [{name: sql, port: 5432}]
---
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: web.default.svc.cluster.local}
"""


def dig(lab: Lab, *question: str) -> list[str]:
    """The answers, sorted, asked in the network of a pod."""
    command = ("dig", f"@{DNS}", "+short", "+time=8", "+tries=1", *question)
    return sorted(lab.in_pod_network(lab.pod("core-k8s"), *command).stdout.splitlines())


def test_names_of_a_service_without_selector_and_of_others(lab: Lab) -> None:
    lab.apply(OUTSIDE)
    wanted = ["192.0.2.50", "192.0.2.51"]
    until(lambda: dig(lab, f"outside.{ZONE}") == wanted, "the server does not know the Service")
    assert dig(lab, f"db-a.outside.{ZONE}") == ["192.0.2.50"]
    assert dig(lab, f"192-0-2-51.outside.{ZONE}") == ["192.0.2.51"]
    assert dig(lab, f"db-c.outside.{ZONE}") == []
    assert dig(lab, "SRV", f"_sql._tcp.outside.{ZONE}") == [
        f"0 50 5432 192-0-2-51.outside.{ZONE}.",
        f"0 50 5432 db-a.outside.{ZONE}.",
    ]
    assert dig(lab, f"alias.{ZONE}") == [lab.service_ip("web"), f"web.{ZONE}."]
    assert lab.invoke("delete", "-f", "-", stdin=OUTSIDE).returncode == 0
    until(lambda: dig(lab, f"outside.{ZONE}") == [], "the server still knows the Service")


def test_pods_have_variables_of_services_with_an_address_only(lab: Lab) -> None:
    """An alias and a headless Service have none, whatever was applied before the pod."""
    lab.apply(OUTSIDE)
    pod = """
apiVersion: v1
kind: Pod
metadata: {name: late}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "10000"]}]
"""
    lab.apply(pod)
    names = {line.partition("=")[0] for line in lab.exec("late", "env").splitlines()}
    assert "WEB_SERVICE_HOST" in names
    assert not {name for name in names if name.startswith(("OUTSIDE_", "ALIAS_"))}
    lab.invoke("delete", "pod/late")
    lab.invoke("delete", "-f", "-", stdin=OUTSIDE)
