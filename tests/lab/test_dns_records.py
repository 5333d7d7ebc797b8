"""Every kind of DNS record, asked with dig in a pod's network with its resolv.conf; and records that follow pods."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from podlab.kube import dns
from podlab.linux import inotify
from podlab.runtime import paths
from support.lab import Lab, container_pid, ip_of, running, uid_of, written

pytestmark = pytest.mark.lab

ZONE = "cluster.local"
SVC = f"names.svc.{ZONE}"
# From a pod that is not ready any more to the last name that leads there.
PROMISED_SECONDS = 2.0
# Far longer than it takes: only a hang reaches it.
HANG_SECONDS = 60.0

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: names, labels: {{app: {app}}}}}
spec:
  terminationGracePeriodSeconds: 0
  {more}
  containers:
    - name: c
      image: busybox
      imagePullPolicy: IfNotPresent
      command: [sh, -c, "touch /ready; exec sleep 10000"]
      ports: [{{name: http, containerPort: 8080}}]
      {probe}
---
"""
PROBE = (
    "readinessProbe: {exec: {command: [test, -e, /ready]}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 1}"
)
CONFIG = (
    "{nameservers: [192.0.2.9], searches: [one.example, names.svc.cluster.local], options: [{name: ndots, value: '2'}]}"
)
MANIFEST = "".join(
    (
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: names}\n---",
        POD.format(name="first", app="peers", probe=PROBE, more="hostname: one\n  subdomain: peers"),
        POD.format(name="second", app="peers", probe=PROBE, more=""),
        POD.format(name="default", app="none", probe="", more="dnsPolicy: Default"),
        POD.format(name="nothing", app="none", probe="", more=f"dnsPolicy: None\n  dnsConfig: {CONFIG}"),
        POD.format(name="added", app="none", probe="", more=f"dnsPolicy: ClusterFirst\n  dnsConfig: {CONFIG}"),
        POD.format(name="host-net", app="none", probe="", more="dnsPolicy: ClusterFirstWithHostNet"),
        """
apiVersion: v1
kind: Service
metadata: {name: peers, namespace: names}
spec: {clusterIP: None, selector: {app: peers}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: names}
spec: {selector: {app: peers}, ports: [{name: http, port: 80, targetPort: http}, {name: dns, port: 53, protocol: UDP}]}
---
apiVersion: v1
kind: Service
metadata: {name: plain, namespace: names}
spec: {selector: {app: peers}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: names}
spec: {type: ExternalName, externalName: front.names.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: nobody, namespace: names}
spec: {clusterIP: None, selector: {app: nobody}, ports: [{name: http, port: 80}]}
""",
    )
)


@pytest.fixture(scope="module")
def names(lab: Lab) -> Iterator[Lab]:
    """The lab with pods and Services of every kind that has records."""
    lab.apply(MANIFEST)
    for prefix in ("first", "second"):
        uid = uid_of(lab.pod(prefix, "names"))
        lab.until(uid, ready, f"{prefix} is not ready")
    wait_for(lab, f"peers.{SVC}", {ip_of(lab.pod(name, "names")) for name in ("first", "second")})
    yield lab
    lab.invoke("delete", "-f", "-", stdin=MANIFEST)


def ready(pod: Mapping[str, Any]) -> bool:
    return any((one["type"], one["status"]) == ("Ready", "True") for one in pod["status"].get("conditions", ()))


def dig(lab: Lab, *question: str, pod: str = "added") -> tuple[str, list[str]]:
    """Status and sorted data of the answers; dig has the pod's network and, for +search, the pod's resolv.conf."""
    found = lab.pod(pod, "names")
    resolv_conf = f"{paths.pod_dir(lab.name, uid_of(found))}/resolv.conf"
    script = 'mount --bind "$1" /etc/resolv.conf; shift; exec dig +tries=1 +time=8 "$@"'
    words = ("unshare", "-m", "sh", "-ec", script, "sh", resolv_conf, *question)
    text = lab.in_pod_network(found, *words).stdout
    answers = text.partition(";; ANSWER SECTION:\n")[2].partition("\n\n")[0]
    return text.split("status: ")[1].split(",")[0], sorted(" ".join(x.split()[4:]) for x in answers.splitlines())


def wait_for(lab: Lab, name: str, addresses: set[str]) -> None:
    """Wait until a name has these addresses, asked again whenever records are written."""
    began = time.monotonic()
    wanted = ("NOERROR" if addresses else "NXDOMAIN", sorted(addresses))
    with inotify.Inotify() as events:
        events.add(paths.dns_dir(lab.name), inotify.MOVED_TO)
        while dig(lab, "@10.96.0.10", name) != wanted:
            assert time.monotonic() - began < HANG_SECONDS, f"{name}: never {wanted}"
            events.wait(0.1)


def followed(lab: Lab, pod: Mapping[str, Any], addresses: set[str]) -> float:
    """Wait until the name of both has these addresses; the seconds from the pod's status to the file of records.

    From there on the server answers so: it looks at the file with every question.
    """
    wait_for(lab, f"peers.{SVC}", addresses)
    return written(f"{paths.dns_dir(lab.name)}/{dns.FILE}") - lab.status_written(pod)


@pytest.mark.parametrize("protocol", ["+notcp", "+tcp"])
def test_every_kind_of_record(names: Lab, protocol: str) -> None:
    first, second = (ip_of(names.pod(name, "names")) for name in ("first", "second"))
    front = names.service_ip("front", "names")
    dashed = second.replace(".", "-")

    def ask(*question: str) -> tuple[str, list[str]]:
        return dig(names, "@10.96.0.10", protocol, *question)

    both = ("NOERROR", sorted((first, second)))
    assert ask(f"dns-version.{ZONE}", "TXT") == ("NOERROR", ['"1.1.0"'])
    assert ask(f"front.{SVC}") == ask(f"FRONT.{SVC}") == ("NOERROR", [front])
    assert ask(f"front.{SVC}", "AAAA") == ("NOERROR", [])
    assert ask(f"_http._tcp.front.{SVC}", "SRV") == ("NOERROR", [f"0 100 80 front.{SVC}."])
    assert ask(f"_dns._udp.front.{SVC}", "SRV") == ("NOERROR", [f"0 100 53 front.{SVC}."])
    assert ask(f"_http._udp.front.{SVC}", "SRV") == ("NXDOMAIN", [])
    assert ask(f"_._tcp.plain.{SVC}", "SRV") == ("NXDOMAIN", [])
    assert ask("-x", front) == ("NOERROR", [f"front.{SVC}."])
    assert ask(f"peers.{SVC}") == both
    assert ask(f"one.peers.{SVC}") == ("NOERROR", [first])
    assert ask(f"{dashed}.peers.{SVC}") == ("NOERROR", [second])
    assert ask(f"_http._tcp.peers.{SVC}", "SRV") == (
        "NOERROR",
        sorted((f"0 50 8080 {dashed}.peers.{SVC}.", f"0 50 8080 one.peers.{SVC}.")),
    )
    assert ask("-x", first) == ("NOERROR", [f"one.peers.{SVC}."])
    assert ask("-x", second) == ("NOERROR", [f"{dashed}.peers.{SVC}."])
    assert ask(f"nobody.{SVC}") == ("NXDOMAIN", [])
    assert ask(f"alias.{SVC}") == ("NOERROR", sorted((front, f"front.{SVC}.")))
    assert ask(f"alias.{SVC}", "CNAME") == ("NOERROR", [f"front.{SVC}."])
    assert ask(f"{dashed}.names.pod.{ZONE}") == ("NOERROR", [second])
    assert ask(f"192-0-2-1.default.pod.{ZONE}") == ("NOERROR", ["192.0.2.1"])
    assert ask(f"192-0-2-1.none.pod.{ZONE}") == ("NXDOMAIN", [])
    assert ask(SVC) == ask(f"svc.{ZONE}") == ("NOERROR", [])
    assert ask(f"none.svc.{ZONE}") == ask(f"x.{SVC}") == ("NXDOMAIN", [])


@pytest.mark.parametrize("protocol", ["+notcp", "+tcp"])
def test_short_names_by_the_search_path_of_the_pod(names: Lab, protocol: str) -> None:
    front = ("NOERROR", [names.service_ip("front", "names")])
    for name in ("front", "front.names", "front.names.svc", f"front.{SVC}"):
        assert dig(names, "+search", protocol, name, pod="first") == front
    assert dig(names, "+search", protocol, "_http._tcp.front", "SRV", pod="first")[0] == "NOERROR"
    assert dig(names, "+search", protocol, "kube-dns.kube-system", pod="first") == ("NOERROR", ["10.96.0.10"])


def test_dns_policy_and_config_make_the_resolver_file(names: Lab) -> None:
    machine = _machine()
    own = f"{SVC} svc.{ZONE} {ZONE}"
    searches = "".join(f" {word}" for word in machine["search"] if word not in own.split())
    cluster = f"search {own}{searches}\nnameserver 10.96.0.10\noptions ndots:5\n"
    wanted = {
        "first": cluster,
        "host-net": cluster,
        "nothing": f"search one.example {SVC}\nnameserver 192.0.2.9\noptions ndots:2\n",
        "added": f"search {own}{searches} one.example\nnameserver 10.96.0.10\nnameserver 192.0.2.9\noptions ndots:2\n",
    }
    for pod, text in wanted.items():
        assert names.exec(pod, "cat", "/etc/resolv.conf", namespace="names") == text, pod
    said = names.exec("default", "cat", "/etc/resolv.conf", namespace="names")
    assert re.findall(r"^nameserver (\S+)$", said, re.MULTILINE) == machine["nameserver"][:3]
    # Nothing of the cluster: the machine's own words, whatever they are.
    words = list(dict.fromkeys(machine["search"]))
    assert re.findall(r"^search (.*)$", said, re.MULTILINE) == ([" ".join(words)] if words else [])


def _machine() -> dict[str, list[str]]:
    """Search domains and servers of this machine's resolv.conf."""
    with open("/etc/resolv.conf", encoding="utf-8") as file:
        text = file.read()
    searches = re.findall(r"^search[ \t]+(.*)$", text, re.MULTILINE)
    return {
        "search": [word.rstrip(".") for word in searches[-1].split()] if searches else [],
        "nameserver": re.findall(r"^nameserver[ \t]+(\S+)", text, re.MULTILINE),
    }


def test_the_server_is_nobody_in_particular(lab: Lab) -> None:
    pod = lab.pod("kube-dns", "kube-system")
    assert running(pod)
    with open(f"/proc/{container_pid(pod)}/status", encoding="utf-8") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    assert status["Uid"].split() == status["Gid"].split() == ["65532"] * 4
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert (int(status["CapBnd"], 16), status["NoNewPrivs"]) == (1 << 10, "1")
    written = lab.try_exec("deployment/kube-dns", "sh", "-c", "echo x > /x", namespace="kube-system")
    assert "Read-only file system" in written.stderr


def test_a_pod_that_is_not_ready_has_no_name_within_two_seconds(names: Lab) -> None:
    """Its probe fails a second later at most; from then on the names have two seconds to go."""
    first, second = (names.pod(name, "names") for name in ("first", "second"))
    both = {ip_of(first), ip_of(second)}
    names.exec("second", "rm", "/ready", namespace="names")
    names.until(uid_of(second), lambda pod: not ready(pod), "second stays ready")
    assert followed(names, second, {ip_of(first)}) < PROMISED_SECONDS
    assert dig(names, "@10.96.0.10", "-x", ip_of(second)) == ("NXDOMAIN", [])
    assert dig(names, "@10.96.0.10", f"{ip_of(second).replace('.', '-')}.peers.{SVC}") == ("NXDOMAIN", [])

    names.exec("first", "rm", "/ready", namespace="names")
    names.until(uid_of(first), lambda pod: not ready(pod), "first stays ready")
    assert followed(names, first, set()) < PROMISED_SECONDS

    for pod in ("first", "second"):
        names.exec(pod, "touch", "/ready", namespace="names")
    for pod in (first, second):
        names.until(uid_of(pod), ready, "not ready again")
    last = max((first, second), key=names.status_written)
    assert followed(names, last, both) < PROMISED_SECONDS
