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
    rows = [Row(8, HOST_SOURCE, NAMESPACES, {**USUAL, **expected})]
    return Case(name, [Cell("c", rows)], spec)


PODS = (
    SHARED,
    APART,
    LONG,
    host("host-network", {"net": "node", "uts": "node"}, hostNetwork=True),
    host("host-pid", {"pid": "node"}, hostPID=True),
    host("host-ipc", {"ipc": "node"}, hostIPC=True),
    host("host-all", dict.fromkeys(("net", "uts", "pid", "ipc"), "node"), hostNetwork=True, hostPID=True, hostIPC=True),
)
