"""examples/podman-gaps: one manifest for each field that podman's kube play leaves out, and what it does."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from podlab.runtime import paths
from support.lab import Lab, container_of, ip_of, node_of, uid_of

pytestmark = pytest.mark.lab
EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples" / "podman-gaps"
SPACE = "gaps"


@pytest.fixture(scope="module")
def gaps(lab: Lab) -> Iterator[Lab]:
    """The lab with all of them."""
    # One of them has a container that must not be created, which apply says.
    lab.invoke("apply", "-f", str(EXAMPLES), check=False)
    yield lab
    lab.invoke("delete", "-f", str(EXAMPLES), check=False)


def inside(lab: Lab, pod: str, script: str, container: str = "") -> str:
    """What a script says in a pod."""
    return lab.exec(pod, "sh", "-c", script, container=container, namespace=SPACE)


def on_node(lab: Lab, node: str, script: str) -> str:
    """What a script says on a node, with its files and mounts."""
    pid = json.loads(pathlib.Path(paths.node_dir(lab.name, node), "node.json").read_text())["pid"]
    return lab.run("nsenter", "-t", str(pid), "-m", "-p", "--", "sh", "-ec", script).stdout


def until(lab: Lab, pod: str, condition: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
    """Wait until the pod's status fulfils the condition; the pod then."""
    lab.until(uid_of(lab.pod(pod, SPACE)), condition, what)
    return lab.pod(pod, SPACE)


def active_deadline(lab: Lab) -> None:
    pod = until(lab, "active-deadline", lambda pod: pod["status"]["phase"] == "Failed", "it does not end")
    assert pod["status"]["reason"] == "DeadlineExceeded"
    assert pod["status"]["message"] == "Pod was active on the node longer than the specified deadline"


def dns_policy(lab: Lab) -> None:
    wanted = "search gaps.test\nnameserver 192.0.2.53\noptions ndots:1\n"
    assert inside(lab, "dns-policy", "cat /etc/resolv.conf") == wanted


def subdomain(lab: Lab) -> None:
    address = ip_of(lab.pod("subdomain", SPACE))
    assert inside(lab, "subdomain", "hostname -f") == "one.peers.gaps.svc.cluster.local\n"
    # By the DNS server, asked from another pod.
    answer = inside(lab, "hostname-as-fqdn", "nslookup one.peers.gaps.svc.cluster.local")
    assert address in answer


def hostname_as_fqdn(lab: Lab) -> None:
    assert inside(lab, "hostname-as-fqdn", "hostname") == "two.peers.gaps.svc.cluster.local\n"


def fs_group(lab: Lab) -> None:
    script = "id -G; stat -c '%g %A' /data; touch /data/new; stat -c '%u:%g' /data/new"
    assert inside(lab, "fs-group", script).splitlines() == ["0 2000", "2000 drwxrwsrwx", "1000:2000"]


def sub_path_expr(lab: Lab) -> None:
    script = "touch /own/file; ls /all /all/sub-path-expr"
    assert inside(lab, "sub-path-expr", script).split() == ["/all:", "sub-path-expr", "/all/sub-path-expr:", "file"]


def seccomp_profile(lab: Lab) -> None:
    script = "grep ^Seccomp: /proc/self/status; unshare -U true 2>/dev/null && echo done || echo refused"
    assert inside(lab, "seccomp-profile", script, "c").split() == ["Seccomp:", "2", "refused"]
    assert inside(lab, "seccomp-profile", script, "unconfined").split()[:2] == ["Seccomp:", "0"]


def service_links(lab: Lab) -> None:
    script = "env | grep -c ^LINKED_ || true"
    assert inside(lab, "service-links", script) == "0\n"
    assert inside(lab, "service-links-on", script) != "0\n"


def hooks(lab: Lab) -> None:
    pod = lab.pod("hooks", SPACE)
    node = node_of(pod)
    assert inside(lab, "hooks", "cat /node/started") == "started\n"
    lab.invoke("delete", "pod/hooks", "-n", SPACE)
    assert on_node(lab, node, "cat /run/gaps-hooks/stopping") == "stopping\n"


def readiness_probe(lab: Lab) -> None:
    assert container_of(lab.pod("readiness-probe", SPACE))["ready"] is False
    inside(lab, "readiness-probe", "touch /tmp/ready")
    until(lab, "readiness-probe", lambda pod: container_of(pod)["ready"], "it is not ready")


def startup_probe(lab: Lab) -> None:
    assert container_of(lab.pod("startup-probe", SPACE))["started"] is False
    inside(lab, "startup-probe", "touch /tmp/started")
    pod = until(lab, "startup-probe", lambda pod: container_of(pod)["started"], "it is not started")
    assert container_of(pod)["restartCount"] == 0


def termination_message(lab: Lab) -> None:
    pod = until(lab, "termination-message", lambda pod: pod["status"]["phase"] == "Failed", "it does not end")
    ends = {name: container_of(pod, name)["state"]["terminated"] for name in ("path", "policy")}
    assert {name: (end["exitCode"], end["message"]) for name, end in ends.items()} == {
        "path": (3, "by file"),
        "policy": (4, "by log\n"),
    }


def mount_propagation(lab: Lab) -> None:
    node = node_of(lab.pod("mount-propagation", SPACE))
    on_node(lab, node, "cd /run/gaps-mounts; mkdir later; mount -t tmpfs tmpfs later; touch later/seen")
    assert inside(lab, "mount-propagation", "ls /node/later", "sees") == "seen\n"
    assert inside(lab, "mount-propagation", "ls /node/later", "does-not") == ""
    on_node(lab, node, "umount /run/gaps-mounts/later")


def run_as_non_root(lab: Lab) -> None:
    assert inside(lab, "run-as-non-root", "id -u", "user") == "1000\n"
    waiting = container_of(lab.pod("run-as-non-root", SPACE), "root")["state"]["waiting"]
    assert waiting["reason"] == "CreateContainerConfigError"
    assert "container has runAsNonRoot and image will run as root" in waiting["message"]


def env_from_prefix(lab: Lab) -> None:
    assert inside(lab, "env-from-prefix", "env | grep COLOUR_ | sort") == "COLOUR_GRASS=green\nCOLOUR_SKY=blue\n"


def tty(lab: Lab) -> None:
    assert inside(lab, "tty", "readlink /proc/1/fd/0; stat -L -c %t /proc/1/fd/0").split() == ["/dev/pts/0", "88"]


CHECKS = {
    "active-deadline": active_deadline,
    "dns-policy": dns_policy,
    "env-from-prefix": env_from_prefix,
    "fs-group": fs_group,
    "hooks": hooks,
    "hostname-as-fqdn": hostname_as_fqdn,
    "mount-propagation": mount_propagation,
    "readiness-probe": readiness_probe,
    "run-as-non-root": run_as_non_root,
    "seccomp-profile": seccomp_profile,
    "service-links": service_links,
    "startup-probe": startup_probe,
    "sub-path-expr": sub_path_expr,
    "subdomain": subdomain,
    "termination-message": termination_message,
    "tty": tty,
}


def test_every_example_has_a_check() -> None:
    assert sorted(CHECKS) == sorted(path.stem for path in EXAMPLES.glob("[a-z]*.yaml"))
    for path in EXAMPLES.glob("[a-z]*.yaml"):
        assert all(each["metadata"]["namespace"] == SPACE for each in yaml.safe_load_all(path.read_text()))


@pytest.mark.parametrize("name", CHECKS)
def test_field(gaps: Lab, name: str) -> None:
    CHECKS[name](gaps)
