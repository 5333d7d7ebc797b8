"""Rows of files: volumes, links in their way, working directories, the environment, what cannot be started."""

from __future__ import annotations

from typing import Any

from support.blackbox.model import Case, Cell, Row
from support.blackbox.plain import VARIABLES

MOUNTED = """
touch /rw/x && echo rw=written
touch /ro/x 2>&1 | sed 's/.*: /ro=/'
touch /ro/below/y && echo 'a mount below a read-only one=written'
/memory/sh -c true 2>/dev/null; echo "memory=$(grep ' /memory ' /proc/self/mountinfo | sed 's/.* - //' | cut -d' ' -f1)"
echo "size=$(df -k /memory | tail -1 | awk '{print $2}')"
dd if=/dev/zero of=/memory/full bs=1k count=2000 2>&1 | grep -o 'No space left on device' | sed 's/^/full=/'
echo "mode=$(stat -c '%a %u:%g' /data)"
echo "one file=$(cat /etc/one-file)"
echo "order=$(cut -d' ' -f5 /proc/self/mountinfo | grep -E '^/(rw|data)' | tr '\\n' ' ')"
"""
OPTIONS = """
for p in /plain /ro /noexec /noexec-ro /slave; do
  echo "$p=$(awk -v p=$p '$5 == p { print $6 " " substr($7, 1, 6) }' /proc/self/mountinfo | sed 's/,relatime//')"
done
"""
RECURSIVE = """
touch /rro/z 2>&1 | sed 's/.*: /top=/'
touch /rro/below/z 2>&1 | sed 's/.*: /below=/'
echo "sub path=$(cat /sub)"
"""
LINKS = """
for p in /inside/deep /nowhere /up/above; do
  grep -q " $p " /proc/self/mountinfo && echo "$p=mounted" || echo "$p=no"
done
echo "host=$(ls /links | tr '\\n' ' ')"
"""
PLACES = """
for p in /dev/shm /dev/mqueue /tmp /etc/resolv.conf /data /data/log /run/x; do
  echo "$p=$(grep -c " $p " /proc/self/mountinfo) $(stat -c '%A %u:%g' $p)"
done
echo "resolver=$(cat /etc/resolv.conf)"
"""
WHERE = """
echo "cwd=$(readlink /proc/self/cwd)"
echo "mode=$(stat -L -c '%a %u:%g' /proc/self/cwd)"
"""


def where(name: str, path: str, mode: str, **spec: Any) -> Cell:
    """A container with a working directory of its own."""
    row = Row(42, "R cwd; C cwd_not_exist, safe_chdir; R exec --cwd", WHERE, {"cwd": path, "mode": mode})
    return Cell(name, [row], {"workingDir": path, **spec})


def refused(name: str, number: int, source: str, **spec: Any) -> Cell:
    """A container that must not start."""
    return Cell(name, [Row(number, source, "", {"started": "no"})], spec, by="refused")


VALUES = (
    VARIABLES
    + """
variables /proc/self/environ | grep -vE '^(SHLVL|PWD|OLDPWD|PATH|HOSTNAME|_)='
"""
)


def values(name: str, env: list[tuple[str, str]], expected: dict[str, str], **spec: Any) -> Cell:
    """A container with these variables."""
    pairs = [{"name": key, "value": value} for key, value in env]
    row = Row(43, "R env; K Expansion", VALUES, expected)
    return Cell(name, [row], {"env": pairs, **spec})


def mount(name: str, path: str, **options: Any) -> dict[str, Any]:
    """A volumeMount."""
    return {"name": name, "mountPath": path, **options}


LINKED = [
    mount("links", "/links"),
    mount("a", "/links/absolute/deep"),
    mount("b", "/links/dangling"),
    mount("c", "/links/up/above"),
]
# Nobody but root may go there; that is where the user is, all the same.
PRIVATE: dict[str, Any] = {
    "securityContext": {"runAsUser": 1000},
    "volumeMounts": [mount("private", "/private")],
}

FILES = Case(
    "files",
    [
        Cell(
            "mounts",
            [
                Row(
                    11,
                    'R mounts "ro tmpfs"; C mount_ro, mount_noexec; K emptyDir modes',
                    MOUNTED,
                    {
                        "rw": "written",
                        "ro": "Read-only file system",
                        "a mount below a read-only one": "written",
                        "memory": "tmpfs",
                        "size": "1024",
                        "full": "No space left on device",
                        "mode": "777 0:0",
                        "one file": "of the host",
                        "order": "/rw /data /rw/deep /data/deeper/still ",
                    },
                )
            ],
            {
                "volumeMounts": [
                    mount("b", "/data/deeper/still"),
                    mount("c", "/rw/deep"),
                    mount("rw", "/rw"),
                    mount("data", "/data"),
                    mount("host", "/ro", readOnly=True),
                    mount("memory", "/memory"),
                    mount("file", "/etc/one-file", readOnly=True),
                ]
            },
        ),
        Cell(
            "links",
            [
                Row(
                    13,
                    'R "tmpfs mount with absolute symlink", "dangling symlink component"; C mount_symlink_not_existing',
                    LINKS,
                    {
                        "/inside/deep": "mounted",
                        "/nowhere": "mounted",
                        "/up/above": "mounted",
                        "host": "absolute dangling up ",
                    },
                )
            ],
            {"volumeMounts": LINKED},
        ),
        Cell(
            "options",
            [
                Row(
                    11,
                    "C mount_noexec, mount_nosuid, mount_nodev; T linux_rootfs_propagation; V mount propagation",
                    OPTIONS,
                    {
                        "/plain": "rw -",
                        "/ro": "ro -",
                        "/noexec": "rw,nosuid,nodev,noexec -",
                        "/noexec-ro": "ro,nosuid,nodev,noexec -",
                        "/slave": "rw master",
                    },
                    {"/noexec-ro": "runc 1.1.5 drops the other flags of what it makes read-only"},
                )
            ],
            {
                "volumeMounts": [
                    mount("host", "/plain"),
                    mount("host", "/ro", readOnly=True),
                    mount("flags", "/noexec"),
                    mount("flags", "/noexec-ro", readOnly=True),
                    mount("host", "/slave", mountPropagation="HostToContainer"),
                ]
            },
        ),
        Cell(
            "recursive",
            [
                Row(
                    12,
                    "R mounts_recursive; V recursive readonly",
                    RECURSIVE,
                    {"top": "Read-only file system", "below": "Read-only file system", "sub path": "of the host"},
                )
            ],
            {
                "volumeMounts": [
                    mount("host", "/rro", readOnly=True, recursiveReadOnly="Enabled"),
                    mount("top", "/sub", subPath="one-file", readOnly=True),
                ]
            },
        ),
        Cell(
            "places",
            [
                Row(
                    11,
                    "K emptyDir modes; K /etc/hosts; C mount over what is there",
                    PLACES,
                    {
                        "/dev/shm": "1 drwxrwxrwt 0:0",
                        "/dev/mqueue": "1 drwxrwxrwx 0:0",
                        "/tmp": "1 drwxrwxrwx 0:0",
                        "/etc/resolv.conf": "1 -rw-r--r-- 0:0",
                        "/data": "1 drwxrwxrwx 0:0",
                        "/data/log": "1 -rw-rw-rw- 0:0",
                        "/run/x": "1 drwxrwxrwx 0:0",
                        "resolver": "of the host",
                    },
                )
            ],
            {
                "terminationMessagePath": "/data/log",
                "volumeMounts": [
                    mount("memory", "/dev/shm"),
                    mount("a", "/dev/mqueue"),
                    mount("b", "/tmp"),
                    mount("file", "/etc/resolv.conf", readOnly=True),
                    mount("data", "/data"),
                    mount("c", "/run/x/"),
                ],
            },
        ),
        where("lacking", "/new/place", "755 0:0"),
        where("lacking-user", "/new/place", "755 0:0", securityContext={"runAsUser": 1000}),
        where("private", "/private", "700 0:0", **PRIVATE),
        where("private-exec", "/private", "700 0:0", **PRIVATE)._replace(by="exec"),
        where("entered", "/etc", "755 0:0")._replace(by="exec"),
        refused("relative", 42, "C cwd_relative", workingDir="etc", command=["true"]),
        refused("cwd-file", 42, "R cwd", workingDir="/etc/passwd", command=["true"]),
        refused("no-such", 40, "C exec_not_exists; R start", command=["no-such-command"]),
        refused("directory", 40, "C exec_error_propagation", command=["/etc"]),
        refused(
            "not-executable",
            45,
            'R start_hello "no exec bit but CAP_DAC_OVERRIDE"',
            command=["/tools/plain"],
            volumeMounts=[mount("tools", "/tools")],
        ),
        refused("cwd-descriptor", 38, "CVE-2024-21626", workingDir="/proc/self/fd/9", command=["true"]),
        refused("empty-path", 40, "R exec", command=["true"], env=[{"name": "PATH", "value": ""}]),
        refused(
            "relative-path", 40, "R exec", command=["true"], env=[{"name": "PATH", "value": "."}], workingDir="/bin"
        ),
        values("twice", [("A", "first"), ("A", "last"), ("HOME", "")], {"A": "last", "HOME": "/root"}),
        values(
            "lines",
            [("N", "one\ntwo=three"), ("E", ""), ("HOME", "/srv")],
            {"N": "one_two=three", "E": "", "HOME": "/srv"},
        ),
        values("nobody", [], {"HOME": "/"}, securityContext={"runAsUser": 4321}),
        values("path", [("PATH", "/bin")], {"HOME": "/root"}),
    ],
    {
        "volumes": [
            *({"name": name, "emptyDir": {}} for name in ("a", "b", "c", "rw", "data")),
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "host", "hostPath": {"path": "@HOST@/mounts"}},
            {"name": "top", "hostPath": {"path": "@HOST@"}},
            {"name": "flags", "hostPath": {"path": "@HOST@/flags"}},
            {"name": "file", "hostPath": {"path": "@HOST@/one-file", "type": "File"}},
            {"name": "links", "hostPath": {"path": "@HOST@/links", "type": "Directory"}},
            {"name": "private", "hostPath": {"path": "@HOST@/private", "type": "Directory"}},
            {"name": "tools", "hostPath": {"path": "@TOOLS@", "type": "Directory"}},
        ]
    },
)

CODES = {
    ("true",): {"code": "0", "lines of error": "0"},
    ("sh", "-c", "exit 1"): {"code": "1", "lines of error": "0"},
    ("sh", "-c", "exit 42"): {"code": "42", "lines of error": "0"},
    ("sh", "-c", "exit 255"): {"code": "255", "lines of error": "0"},
    ("sh", "-c", "kill -9 $$"): {"code": "137", "lines of error": "0"},
    ("no-such-command",): {"code": "255", "lines of error": "1"},
    ("/etc",): {"code": "255", "lines of error": "1"},
}
COMMANDS = Case(
    "commands",
    [
        Cell(
            "c",
            [
                Row(40, 'R exec "[exit codes]", "[execve error]"; C exec_not_exists', "", expected, argv=argv)
                for argv, expected in CODES.items()
            ],
            by="exec",
        )
    ],
)
