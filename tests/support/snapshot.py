"""A record of everything on the machine that a lab could leave behind, and the comparison of two."""

from __future__ import annotations

import collections
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any

# section -> name -> value
Snapshot = dict[str, dict[str, str]]

# Values that change by themselves, as shell patterns below /proc/sys.
VOLATILE_SYSCTLS = (
    "fs/aio-nr",
    "fs/binfmt_misc/*",
    "fs/dentry-state",
    "fs/quota/*",
    "fs/file-nr",
    "fs/inode-nr",
    "fs/inode-state",
    "kernel/ns_last_pid",
    "kernel/perf_*_max_sample_rate",
    "kernel/perf_event_max_sample_rate",
    "kernel/pty/nr",
    "kernel/random/*",
    "kernel/sched_domain/*",
    "kernel/tainted",
    "net/ipv4/tcp_fastopen_key",
    "net/netfilter/nf_conntrack_count",
    "net/netfilter/nf_log/*",
    "vm/stat_refresh",
)

# Files that come and go on a machine that only idles; the image store is kept by `down` on purpose.
VOLATILE_FILES = (
    "/etc/mtab",
    "/run/lock/*",
    "/run/log/*",
    "/run/systemd/*",
    "/run/udev/*",
    "/run/user/*",
    "/var/lib/podlab/images",
    "/var/lib/podlab/images/*",
    "/var/lib/systemd/*",
    "/var/log/journal/*",
)


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(fnmatch.translate, patterns)))


# A machine has thousands of both: one expression is far quicker than a pattern at a time.
_VOLATILE_SYSCTL, _VOLATILE_FILE = _any_of(VOLATILE_SYSCTLS), _any_of(VOLATILE_FILES)
# In the environment of everything that a test starts: see _marked.
MARK = "PODLAB_TESTED_BY"
FILE_ROOTS = ("/run", "/var/lib", "/var/log", "/etc")

# Rules per backend: the plain name is whatever the alternatives system points at.
RULE_DUMPS = (
    ("iptables-nft-save",),
    ("ip6tables-nft-save",),
    ("iptables-legacy-save",),
    ("ip6tables-legacy-save",),
    ("nft", "--stateless", "list", "ruleset"),
)


def take() -> Snapshot:
    """Record the machine as it is now. Reads only."""
    return {
        "link": dict(_links()),
        "address": dict(_addresses()),
        "route": dict(_routes()),
        "namespace": dict(_namespaces()),
        "mount": dict(_mounts()),
        "cgroup": dict(_cgroups()),
        "rules": dict(_rules()),
        "sysctl": dict(_sysctls()),
        "process": dict(_processes()),
        "file": dict(_files()),
        "content": {path: _read(path) for path in ("/etc/hosts", "/etc/resolv.conf")},
    }


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """One line per thing that appeared, disappeared or changed."""
    lines = []
    devices = before.get("link", {}).keys() ^ after.get("link", {}).keys()
    for section in before:
        old, new = before[section], after[section]
        for name in sorted(old.keys() | new.keys()):
            if section == "sysctl" and _device(name) in devices:
                continue  # the link's own line says it
            if name not in old:
                lines.append(f"{section}: appeared: {name} {new[name]}".rstrip())
            elif name not in new:
                # Any process may end by itself; a test that must spare one looks after that one.
                if section == "process":
                    continue
                lines.append(f"{section}: disappeared: {name} {old[name]}".rstrip())
            elif old[name] != new[name] and not (section == "process" and int(new[name]) < int(old[name])):
                lines.append(f"{section}: changed: {name}: {old[name]!r} -> {new[name]!r}")
    return lines


def _device(sysctl: str) -> str:
    """The network device that a sysctl belongs to, else nothing."""
    match = re.fullmatch(r"net/ipv[46]/(?:conf|neigh)/([^/]+)/[^/]+", sysctl)
    return match[1] if match else ""


def assert_same(before: Snapshot, after: Snapshot) -> None:
    """Fail with every difference when the machine is not as it was."""
    lines = differences(before, after)
    assert not lines, "The machine changed:\n  " + "\n  ".join(lines)


def _ip(*args: str) -> list[dict[str, Any]]:
    text = subprocess.run(["ip", "-j", "-d", *args], check=True, capture_output=True, text=True).stdout
    entries: list[dict[str, Any]] = json.loads(text or "[]")
    return [entry for entry in entries if entry]


def _links() -> Iterator[tuple[str, str]]:
    for link in _ip("link", "show"):
        kept = {key: link.get(key) for key in ("flags", "mtu", "master", "address", "altnames", "linkinfo", "link")}
        yield link["ifname"], json.dumps(kept, sort_keys=True)


def _addresses() -> Iterator[tuple[str, str]]:
    for link in _ip("address", "show"):
        for entry in link.get("addr_info", ()):
            yield f"{link['ifname']} {entry['local']}/{entry['prefixlen']}", entry.get("scope", "")


def _routes() -> Iterator[tuple[str, str]]:
    for family in ("-4", "-6"):
        for route in _ip(family, "route", "show", "table", "all"):
            kept = {key: value for key, value in route.items() if key not in ("expires", "cache")}
            yield f"{family} {json.dumps(kept, sort_keys=True)}", ""


def _ended(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _namespaces() -> Iterator[tuple[str, str]]:
    """Names in /run/netns, and how many namespaces of each kind live processes are in."""
    for name in _listdir("/run/netns"):
        yield f"/run/netns/{name}", ""
    seen = collections.defaultdict(set)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if _ended(pid):
            # It still has a PID namespace; how long depends on when its parent, often PID 1, takes note of its end.
            continue
        for kind in _listdir(f"/proc/{pid}/ns"):
            try:
                seen[kind].add(os.readlink(f"/proc/{pid}/ns/{kind}"))
            except OSError:
                continue  # the process ended
    for kind, inodes in seen.items():
        yield f"number of {kind} namespaces with processes", str(len(inodes))


def _mounts() -> Iterator[tuple[str, str]]:
    """Mounts of PID 1 without their ids, which say nothing; a place mounted twice counts twice."""
    counted: collections.Counter[str] = collections.Counter()
    for line in _read("/proc/1/mountinfo").splitlines():
        fields = line.split(" ")
        separator = fields.index("-")
        optional = sorted(field.split(":")[0] for field in fields[6:separator])
        counted[" ".join([fields[4], fields[3], *fields[5:6], *optional, *fields[separator + 1 :]])] += 1
    for mount, number in counted.items():
        yield mount, str(number)


def _cgroups() -> Iterator[tuple[str, str]]:
    for directory, _names, _files_there in os.walk("/sys/fs/cgroup"):
        yield directory, ""


def _rules() -> Iterator[tuple[str, str]]:
    for command in RULE_DUMPS:
        if shutil.which(command[0]) is None:
            continue
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        # Packet counters of chains are no rule.
        yield " ".join(command), re.sub(r"\[\d+:\d+\]", "[0:0]", "\n".join(lines))


def _sysctls() -> Iterator[tuple[str, str]]:
    for directory, _names, files in os.walk("/proc/sys"):
        for file in files:
            path = os.path.join(directory, file)
            name = path[len("/proc/sys/") :]
            if _VOLATILE_SYSCTL.match(name):
                continue
            try:
                # Write-only ones (flush, compact_memory) must not even be opened for reading.
                if os.stat(path).st_mode & 0o444:
                    yield name, _read(path).strip()
            except OSError:
                continue


def _processes() -> Iterator[tuple[str, str]]:
    """Command lines and how many processes have each, of those that podlab or a test may have started.

    What else begins on the machine meanwhile (a cron job, somebody's shell) is no trace of a lab.
    """
    counted: collections.Counter[str] = collections.Counter()
    home = _homes("self")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        command = _read(f"/proc/{pid}/cmdline", missing="").rstrip("\0").replace("\0", " ")
        # Of one that has just ended nothing can be read any more.
        if command and (_homes(pid) not in ([], home) or _marked(pid)):
            counted[command] += 1
    for command, number in counted.items():
        yield command, str(number)


def _homes(pid: str) -> list[str]:
    """The namespaces that a lab's processes have of their own."""
    try:
        return [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("mnt", "net", "pid", "uts")]
    except OSError:
        return []


def _marked(pid: str) -> bool:
    """Whether the process is of a lab's cgroup, or was started by these tests (they mark their environment)."""
    return "podlab" in _read(f"/proc/{pid}/cgroup", missing="") or f"{MARK}=" in _read(
        f"/proc/{pid}/environ", missing=""
    )


def _files() -> Iterator[tuple[str, str]]:
    for root in FILE_ROOTS:
        for directory, names, files in os.walk(root):
            names[:] = [name for name in names if not _volatile(os.path.join(directory, name))]
            for name in [*names, *files]:
                path = os.path.join(directory, name)
                # The parent of the image store stays with it; anything else in there is reported by itself.
                if path != "/var/lib/podlab" and not _volatile(path):
                    yield path, _file_facts(path)


def _volatile(path: str) -> bool:
    return _VOLATILE_FILE.match(path) is not None


def _file_facts(path: str) -> str:
    """Kind and mode; of files in /etc the size and the time of the last change as well."""
    try:
        found = os.lstat(path)
    except OSError:
        return "gone"
    facts = f"mode {found.st_mode:o}"
    if path.startswith("/etc/") and not os.path.isdir(path):
        facts += f" size {found.st_size} changed {found.st_mtime_ns}"
    return facts


def _listdir(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _read(path: str, missing: str = "unreadable") -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return missing


if __name__ == "__main__":
    # For a machine that only another process can look at.
    json.dump(take(), sys.stdout)
