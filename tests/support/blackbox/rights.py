"""Rows of who a container is and what it may do: capabilities, users, groups, no_new_privs."""

from __future__ import annotations

from typing import Any

from support.blackbox.model import Case, Cell, Row
from support.blackbox.plain import AS_ROOT, DEFAULT, NONE, RIGHTS

CAPABILITIES = "R capabilities; C test_capabilities; V capabilities add, drop, ALL"


def with_caps(name: str, mask: str, **capabilities: list[str]) -> Cell:
    """A container with these capabilities, all of them in the three sets of root."""
    expected = {**AS_ROOT, "CapPrm": mask, "CapEff": mask, "CapBnd": mask}
    return Cell(name, [Row(22, CAPABILITIES, RIGHTS, expected)], {"securityContext": {"capabilities": capabilities}})


IDENTITY = """
echo "user=$(id -u):$(id -g)"
echo "groups=$(grep ^Groups: /proc/self/status | cut -f2 | tr ' ' '\\n' | grep . | sort -nu | tr '\\n' ' ')"
echo "HOME=$HOME"
echo "effective=$(grep ^CapEff: /proc/self/status | cut -f2)"
echo "bounding=$(grep ^CapBnd: /proc/self/status | cut -f2)"
echo "shell's umask=$(umask)"
echo "null=$(stat -c %u:%g /dev/null)"
echo "standard output can be written=yes" > /proc/self/fd/1
"""


def as_user(name: str, user: str, groups: str, home: str = "/", by: str = "start", **context: Any) -> Cell:
    """A container of that user, who has no capability but could get those of the bounding set."""
    expected = {
        "user": user,
        "groups": groups,
        "HOME": home,
        "effective": NONE,
        "bounding": DEFAULT,
        "shell's umask": "0022",
        "null": "0:0",
        "standard output can be written": "yes",
    }
    source = 'T process_user; C gid, no_groups, umask; R exec "vs /dev/null ownership"; V RunAsUser, RunAsGroup'
    return Cell(name, [Row(24, source, IDENTITY, expected)], {"securityContext": context}, by=by)


ROOT_ONLY = """
touch /x 2>&1 | sed 's/.*: /root=/'
touch /etc/x 2>&1 | sed 's/.*: /etc=/'
for p in /dev/shm /made; do touch $p/x && echo "$p=written"; done
for p in /etc/resolv.conf /etc/hostname; do (echo >> $p) 2>/dev/null && echo "$p=written" || echo "$p=refused"; done
for p in /etc/hosts /dev/termination-log; do echo >> $p && echo "$p=written"; done
mount -o remount,rw / 2>/dev/null && echo remount=done || echo remount=refused
"""

SETUID = """
echo "own=$(id -u)"
echo "setuid program=$(/tools/euid)"
"""


def setuid(name: str, gained: str, **context: Any) -> Cell:
    """A user's container that runs a setuid program of root's."""
    row = Row(
        23,
        "V NoNewPrivs; K allowPrivilegeEscalation=false; C exec_no_new_privs",
        SETUID,
        {"own": "1000", "setuid program": gained},
    )
    tools = [{"name": "tools", "mountPath": "/tools", "readOnly": True}]
    return Cell(name, [row], {"securityContext": {"runAsUser": 1000, **context}, "volumeMounts": tools})


RIGHTS_POD = Case(
    "rights",
    [
        with_caps("drop-one", "00000000a00425fb", drop=["MKNOD"]),
        with_caps("drop-all", NONE, drop=["ALL"]),
        with_caps("two-alone", "0000000000002001", drop=["ALL"], add=["CHOWN", "NET_RAW"]),
        with_caps("add", "00000000aa0435fb", add=["NET_ADMIN", "SYS_TIME"]),
        with_caps("add-all", "@ALL_CAPS@", add=["ALL"]),
        with_caps("all-but-one", "@ALL_BUT_CHOWN@", add=["ALL"], drop=["CHOWN"]),
        with_caps("all-and-none", NONE, add=["ALL"], drop=["ALL"]),
        as_user("numbers", "1000:2000", "2000 ", runAsUser=1000, runAsGroup=2000),
        as_user("numbers-exec", "1000:2000", "2000 ", by="exec", runAsUser=1000, runAsGroup=2000),
        as_user("user-alone", "1000:0", "0 ", runAsUser=1000),
        as_user("of-passwd", "33:33", "33 ", "/var/www", runAsUser=33),
        Cell(
            "read-only",
            [
                Row(
                    27,
                    "T root_readonly_true; V ReadOnlyRootfs; K read-only root",
                    ROOT_ONLY,
                    {
                        "root": "Read-only file system",
                        "etc": "Read-only file system",
                        "/dev/shm": "written",
                        "/made": "written",
                        "/etc/resolv.conf": "refused",
                        "/etc/hostname": "refused",
                        "/etc/hosts": "written",
                        "/dev/termination-log": "written",
                        "remount": "refused",
                    },
                )
            ],
            {
                "securityContext": {"readOnlyRootFilesystem": True},
                "volumeMounts": [{"name": "share", "mountPath": "/made"}],
            },
        ),
        setuid("escalates", "0"),
        setuid("does-not", "1000", allowPrivilegeEscalation=False),
    ],
    {
        "volumes": [
            {"name": "share", "emptyDir": {}},
            {"name": "tools", "hostPath": {"path": "@TOOLS@", "type": "Directory"}},
        ]
    },
)

VOLUME = """
echo "volume=$(stat -c '%A %u:%g' /data)"
touch /data/file; echo "file=$(stat -c %u:%g /data/file)"
case " $(id -G) " in *" 5000 "*) echo member=yes;; *) echo member=no;; esac
"""
GROUPS_SOURCE = 'C additional_gids; R "--additional-gids"; V SupplementalGroups'
GROUPS = Case(
    "groups",
    [
        Cell(
            "of-pod",
            [
                Row(
                    24,
                    GROUPS_SOURCE,
                    IDENTITY,
                    {
                        "user": "1000:100",
                        "groups": "100 3000 4000 5000 65534 ",
                        "HOME": "/",
                        "effective": NONE,
                        "bounding": DEFAULT,
                        "shell's umask": "0022",
                        "null": "0:0",
                        "standard output can be written": "yes",
                    },
                )
            ],
        ),
        Cell(
            "volume",
            [
                Row(
                    59,
                    "K emptyDir modes with fsGroup",
                    VOLUME,
                    {"volume": "drwxrwsrwx 0:5000", "file": "1000:5000", "member": "yes"},
                )
            ],
            {"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
        ),
        as_user("of-container", "1001:200", "200 3000 4000 5000 65534 ", runAsUser=1001, runAsGroup=200),
    ],
    {
        "securityContext": {
            "runAsUser": 1000,
            "runAsGroup": 100,
            "supplementalGroups": [3000, 4000, 65534],
            "fsGroup": 5000,
        },
        "volumes": [{"name": "data", "emptyDir": {}}],
    },
)
