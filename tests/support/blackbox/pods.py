"""Rows of pods whose namespaces are not the usual ones, and of names."""

from __future__ import annotations

from support.blackbox.model import Case, Cell, Row
from support.blackbox.plain import NAMES, NAMESPACES, OWN

USUAL = {**OWN, "user": "node", "time": "node"}
HOST_SOURCE = "V HostNetwork, HostPID, HostIpc; T linux_ns_itype"

SEEN = """
echo "first=$(cat /proc/1/comm)"
touch /share/$WHO
for i in $(seq 600); do [ -e /share/a ] && [ -e /share/b ] && break; sleep 0.1; done
n=0; for name in a b; do grep -qs WHO=$name /proc/[0-9]*/environ && n=$((n + 1)); done
echo "containers seen=$n"
touch /share/$WHO.done
for i in $(seq 600); do [ -e /share/a.done ] && [ -e /share/b.done ] && break; sleep 0.1; done
"""


def who(name: str, expected: dict[str, str]) -> Cell:
    """A container that looks for the other one of its pod among the processes."""
    row = Row(7, 'K "sharing a pod namespace should be able to see each other"; V PodPID', SEEN, expected)
    return Cell(
        name,
        [row],
        {"env": [{"name": "WHO", "value": name}], "volumeMounts": [{"name": "share", "mountPath": "/share"}]},
    )


SHARED = Case(
    "shared",
    [who(name, {"first": "pause", "containers seen": "2"}) for name in "ab"],
    {"shareProcessNamespace": True, "volumes": [{"name": "share", "emptyDir": {}}]},
)
APART = Case(
    "apart",
    [who(name, {"first": "sh", "containers seen": "1"}) for name in "ab"],
    {"volumes": [{"name": "share", "emptyDir": {}}]},
)
LONG = Case(
    # 63 characters end in a dot, which is no end of a name.
    "n" * 62 + ".cut",
    [
        Cell(
            "c",
            [
                Row(
                    9,
                    "C set_hostname_long; T hostname",
                    NAMES,
                    {"hostname": "n" * 62, "HOSTNAME": "n" * 62, "file": "n" * 62, "domain": "(none)"},
                )
            ],
        )
    ],
)


def host(name: str, expected: dict[str, str], **spec: bool) -> Case:
    """A pod that shares namespaces with its node."""
    own = "@NODE@" if "uts" in expected else name
    named = {**dict.fromkeys(("hostname", "HOSTNAME", "file"), own), "domain": "(none)"}
    rows = [Row(8, HOST_SOURCE, NAMESPACES, {**USUAL, **expected}), Row(9, "V HostNetwork", NAMES, named)]
    return Case(name, [Cell("c", rows)], spec)


SYSCTLS = Case(
    "sysctls",
    [
        Cell(
            "c",
            [
                Row(
                    28,
                    "T linux_sysctl; V safe sysctls; K sysctls",
                    """
cd /proc/sys
for f in kernel/shm_rmid_forced net/ipv4/ip_local_port_range net/ipv4/tcp_syncookies \\
    net/ipv4/ip_unprivileged_port_start net/ipv4/ping_group_range; do
  echo "$f=$(cat $f | tr '\\t' ' ')"
done
""",
                    {
                        "kernel/shm_rmid_forced": "1",
                        "net/ipv4/ip_local_port_range": "1024 65000",
                        "net/ipv4/tcp_syncookies": "0",
                        "net/ipv4/ip_unprivileged_port_start": "0",
                        "net/ipv4/ping_group_range": "0 2147483647",
                    },
                )
            ],
        )
    ],
    {
        "securityContext": {
            "sysctls": [
                {"name": "kernel.shm_rmid_forced", "value": "1"},
                {"name": "net.ipv4.ip_local_port_range", "value": "1024 65000"},
                {"name": "net.ipv4.tcp_syncookies", "value": "0"},
            ]
        }
    },
)

# What of a privileged container is not as elsewhere. Nothing is written: it would be the machine's.
PRIVILEGES = """
for f in CapInh CapEff CapBnd CapAmb NoNewPrivs Seccomp; do
  echo "$f=$(grep "^$f:" /proc/self/status | cut -f2)"
done
echo "below /proc=$(cut -d' ' -f5 /proc/self/mountinfo | grep -c ^/proc/)"
echo "read-only=$(grep -E ' - (sysfs|cgroup2?|proc) ' /proc/self/mountinfo | cut -d' ' -f6 | grep -c ^ro,)"
echo "devices=$(find /dev -type c -o -type b | grep -vE '^/dev/(pts|shm|console)' | sort | sha256sum | cut -c1-16)"
mount -t tmpfs tmpfs /tmp && echo mount=done
echo "propagation=$(awk '$5 == "/both" { print substr($7, 1, 6) }' /proc/self/mountinfo)"
"""
PRIVILEGED = Case(
    "privileged",
    [
        Cell(
            "c",
            [
                Row(
                    8,
                    "V privileged; K privileged; C mount_propagation_rshared",
                    PRIVILEGES,
                    {
                        "CapInh": "0" * 16,
                        "CapEff": "@ALL_CAPS@",
                        "CapBnd": "@ALL_CAPS@",
                        "CapAmb": "0" * 16,
                        "NoNewPrivs": "0",
                        "Seccomp": "0",
                        "below /proc": "0",
                        "read-only": "0",
                        "devices": "@DEVICES@",
                        "mount": "done",
                        "propagation": "shared",
                    },
                )
            ],
            {
                "securityContext": {"privileged": True},
                "volumeMounts": [{"name": "host", "mountPath": "/both", "mountPropagation": "Bidirectional"}],
            },
        )
    ],
    {"volumes": [{"name": "host", "hostPath": {"path": "@HOST@", "type": "Directory"}}]},
)

PODS = (
    SHARED,
    APART,
    LONG,
    SYSCTLS,
    PRIVILEGED,
    host("host-network", {"net": "node", "uts": "node"}, hostNetwork=True),
    host("host-pid", {"pid": "node"}, hostPID=True),
    host("host-ipc", {"ipc": "node"}, hostIPC=True),
    host("host-all", dict.fromkeys(("net", "uts", "pid", "ipc"), "node"), hostNetwork=True, hostPID=True, hostIPC=True),
)
