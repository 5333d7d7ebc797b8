"""A pod as containerd would hand it to runc: config.json of its sandbox and of each container.

Written from the OCI runtime specification (config.md, config-linux.md) and from what containerd's CRI plugin and the
kubelet put there, not from podlab's code: what both say alike is then no accident.
"""

from __future__ import annotations

import os
import pathlib
import stat
from collections.abc import Mapping
from typing import Any

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# containerd pkg/oci: what a container has without being asked.
DEFAULT_CAPS = (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL "
    "AUDIT_WRITE"
).split()
# In the order of their numbers (capabilities(7), linux/capability.h).
ALL_CAPS = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
NUMBERS = {name: number for number, name in enumerate(ALL_CAPS)}
# Kubernetes pkg/securitycontext/util.go.
MASKED = (
    "/proc/asound /proc/acpi /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list "
    "/proc/timer_stats /proc/sched_debug /proc/scsi /sys/firmware /sys/devices/virtual/powercap"
).split()
READONLY = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()
PROPAGATION = {"None": "rprivate", "HostToContainer": "rslave", "Bidirectional": "rshared"}
_UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "": 1}


def millis(quantity: Any) -> int:
    """A CPU quantity in thousandths."""
    text = str(quantity)
    return int(text[:-1]) if text.endswith("m") else round(float(text) * 1000)


def octets(quantity: Any) -> int:
    """A memory quantity in bytes; only what the rows use."""
    text = str(quantity)
    unit = next((unit for unit in ("Ki", "Mi", "Gi") if text.endswith(unit)), "")
    return int(text.removesuffix(unit)) * _UNITS[unit]


def quality(pod: Mapping[str, Any]) -> str:
    """The QoS class: BestEffort without any request or limit, Guaranteed with equal ones of both kinds everywhere."""
    both = [each.get("resources") or {} for each in pod["spec"]["containers"]]
    if not any(each.get("limits") or each.get("requests") for each in both):
        return "BestEffort"
    for each in both:
        limits = each.get("limits") or {}
        requests = {**limits, **(each.get("requests") or {})}
        if not {"cpu", "memory"} <= set(limits) or requests != limits:
            return "Burstable"
    return "Guaranteed"


def oom_score(pod: Mapping[str, Any], container: Mapping[str, Any], around: Mapping[str, Any]) -> int:
    """kubelet pkg/kubelet/qos/policy.go; without CAP_SYS_RESOURCE not below our own, as containerd can restrict it."""
    found, memory = quality(pod), around["memory"]
    if found != "Burstable":
        score = {"BestEffort": 1000, "Guaranteed": -997}[found]
        own = int(pathlib.Path("/proc/self/oom_score_adj").read_text())
        return score if around["bounding"] >> 24 & 1 else max(score, own)
    resources = container.get("resources") or {}
    asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}.get("memory", 0)
    return min(max(1000 - 1000 * octets(asked) // memory, 3), 999)


def limits(container: Mapping[str, Any]) -> dict[str, Any]:
    """linux.resources: the kubelet's shares, quota and limit."""
    resources = container.get("resources") or {}
    most = resources.get("limits") or {}
    asked = {**most, **(resources.get("requests") or {})}
    cpu: dict[str, Any] = {"shares": max(2, millis(asked["cpu"]) * 1024 // 1000) if "cpu" in asked else 2}
    if "cpu" in most:
        cpu.update(period=100000, quota=max(1000, millis(most["cpu"]) * 100))
    made: dict[str, Any] = {"cpu": cpu}
    if "memory" in most:
        # No swap: the same limit for both. Left out where the kernel does not account for swap, as containerd does.
        made["memory"] = {"limit": octets(most["memory"])}
    return made


def capabilities(context: Mapping[str, Any], bounding: int) -> dict[str, Any]:
    """process.capabilities: the default ones; ALL comes first, then each that is added, then each that is dropped.

    bounding: what can be given; ALL means those.
    """
    wanted = context.get("capabilities") or {}
    add, drop = list(wanted.get("add") or []), list(wanted.get("drop") or [])
    caps = list(ALL_CAPS) if "ALL" in add else list(DEFAULT_CAPS)
    caps = [] if "ALL" in drop else caps
    caps += [name for name in add if name != "ALL" and name not in caps]
    names = [f"CAP_{name}" for name in caps if name not in drop and bounding >> NUMBERS[name] & 1]
    return {kind: names for kind in ("bounding", "effective", "permitted")}


def user(
    context: Mapping[str, Any], groups: list[int], accounts: Mapping[int, tuple[int, list[int]]]
) -> dict[str, Any]:
    """process.user. accounts: uid -> primary group and memberships, by the image's passwd and group."""
    uid = context.get("runAsUser") or 0
    primary, member = accounts.get(uid, (0, []))
    gid = context.get("runAsGroup")
    gid = primary if gid is None else gid
    extra = member if context.get("supplementalGroupsPolicy") != "Strict" else []
    return {"uid": uid, "gid": gid, "additionalGids": list(dict.fromkeys([gid, *groups, *extra]))}


def _mount(target: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": list(options)}


def base_mounts(privileged: bool = False) -> list[dict[str, Any]]:
    """containerd pkg/oci/mounts.go, without what its CRI plugin takes away (/run, /dev/shm)."""
    access = "rw" if privileged else "ro"
    return [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"
        ),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", access),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", access),
    ]


def bind_mounts(pod: Mapping[str, Any], container: Mapping[str, Any], place: str) -> list[dict[str, Any]]:
    """The kubelet's mounts, then the CRI plugin's own, by the number of their path's parts. place: the pod's files."""
    sources = {}
    for volume in pod["spec"].get("volumes") or []:
        path = (volume.get("hostPath") or {}).get("path")
        sources[volume["name"]] = path or f"{place}/volumes/{volume['name']}"
    made = []
    for each in container.get("volumeMounts") or []:
        access = "ro" if each.get("readOnly") else "rw"
        access = "rro" if each.get("recursiveReadOnly") == "Enabled" else access
        source = sources[each["name"]] + (f"/{each['subPath']}" if each.get("subPath") else "")
        propagation = PROPAGATION[each.get("mountPropagation") or "None"]
        made.append(_mount(each["mountPath"].rstrip("/"), "bind", source, "rbind", propagation, access))
    taken = {each["destination"] for each in made}
    context = container.get("securityContext") or {}
    root = "ro" if context.get("readOnlyRootFilesystem") else "rw"
    own = [
        ("/etc/hosts", f"{place}/hosts", "rw"),
        (
            container.get("terminationMessagePath") or "/dev/termination-log",
            f"{place}/{container['name']}/termination-log",
            "rw",
        ),
        ("/etc/hostname", f"{place}/hostname", root),
        ("/etc/resolv.conf", f"{place}/resolv.conf", root),
        ("/dev/shm", "/dev/shm" if of_node(pod, "ipc") else f"{place}/shm", "rw"),
    ]
    made += [
        _mount(target, "bind", source, "rbind", "rprivate", mode) for target, source, mode in own if target not in taken
    ]
    return sorted(made, key=lambda each: each["destination"].rstrip("/").count("/"))


def all_mounts(base: list[dict[str, Any]], bound: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A volume takes the place of what containerd has there; one at /dev that of everything below, too."""
    taken = {each["destination"] for each in bound}
    below = "/dev/" if "/dev" in taken else "//"
    kept = [each for each in base if each["destination"] not in taken and not each["destination"].startswith(below)]
    return [*kept, *bound]


def rootfs_propagation(container: Mapping[str, Any]) -> dict[str, str]:
    """linux.rootfsPropagation: the widest that a volume asks for; runc's own default otherwise."""
    asked = {each.get("mountPropagation") for each in container.get("volumeMounts") or []}
    for name in ("Bidirectional", "HostToContainer"):
        if name in asked:
            return {"rootfsPropagation": PROPAGATION[name]}
    return {}


def hostname(pod: Mapping[str, Any]) -> str:
    """The pod's own name, cut to what the kernel takes; the node's where the pod has none."""
    if of_node(pod, "uts"):
        return str(pod["spec"]["nodeName"])
    return str(pod["spec"].get("hostname") or pod["metadata"]["name"][:63].rstrip("-."))


def of_node(pod: Mapping[str, Any], kind: str) -> bool:
    """Whether the pod has the node's namespace of a kind. With the node's network comes the node's name."""
    field = {"network": "hostNetwork", "uts": "hostNetwork", "pid": "hostPID", "ipc": "hostIPC"}.get(kind)
    return bool(field and pod["spec"].get(field))


def _context(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The securityContext of a pod or of a container."""
    return dict(spec.get("spec", spec).get("securityContext") or {})


def host_devices() -> list[dict[str, Any]]:
    """containerd core/devices: every device of /dev, without the directories of others."""
    found = []
    for place, directories, names in os.walk("/dev"):
        skipped = ("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev")
        directories[:] = [name for name in directories if name not in skipped]
        for path in (f"{place}/{name}" for name in names if name != "console"):
            status = os.lstat(path)
            kind = "c" if stat.S_ISCHR(status.st_mode) else "b" if stat.S_ISBLK(status.st_mode) else ""
            if kind:
                numbers = {"major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev)}
                owner = {"uid": status.st_uid, "gid": status.st_gid, "fileMode": status.st_mode & 0o7777}
                found.append({"path": path, "type": kind, **numbers, **owner})
    return found


def environment(pod: Mapping[str, Any], container: Mapping[str, Any]) -> list[str]:
    """process.env: PATH, HOSTNAME, then the manifest's, in their order."""
    return [
        PATH,
        f"HOSTNAME={hostname(pod)}",
        *(f"{each['name']}={each.get('value', '')}" for each in container.get("env") or []),
    ]


def masks(privileged: bool = False) -> dict[str, list[str]]:
    """What the kubelet covers."""
    return {} if privileged else {"maskedPaths": list(MASKED), "readonlyPaths": list(READONLY)}


def sandbox(pod: Mapping[str, Any], cgroup: str, root: str, v1: bool) -> dict[str, Any]:
    """config.json of pause: the one whose namespaces the others join."""
    kinds = [kind for kind in ("mount", "pid", "network", "ipc", "uts") if not of_node(pod, kind)]
    kinds += [] if v1 else ["cgroup"]
    sysctls = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
    sysctls = {} if of_node(pod, "network") else sysctls
    sysctls.update((each["name"], each["value"]) for each in _context(pod).get("sysctls") or [])
    return {
        "ociVersion": "1.0.2",
        **({} if of_node(pod, "uts") else {"hostname": hostname(pod)}),
        "root": {"path": root, "readonly": True},
        "process": {"user": {"uid": 65535, "gid": 65535}, "args": ["/pause"], "cwd": "/", "env": [PATH]},
        "mounts": base_mounts()[:-1],
        "linux": {
            "namespaces": [{"type": kind} for kind in kinds],
            "cgroupsPath": cgroup,
            "resources": {"devices": [{"allow": False, "access": "rwm"}], "cpu": {"shares": 2}},
            "sysctl": sysctls,
            **masks(),
        },
    }


class Around(dict[str, Any]):
    """What a container's config needs to know: cgroup, root, place, v1, pause, memory, accounts, bounding."""


def container(pod: Mapping[str, Any], spec: Mapping[str, Any], around: Around) -> dict[str, Any]:
    """config.json of one container that joins the sandbox."""
    of_pod = _context(pod)
    context = {**of_pod, **_context(spec)}
    whole = bool(context.get("privileged"))
    groups = list(of_pod.get("supplementalGroups") or [])
    groups += [of_pod["fsGroup"]] if "fsGroup" in of_pod else []
    joined = {"network": "net", "ipc": "ipc", "uts": "uts"}
    if pod["spec"].get("shareProcessNamespace"):
        joined["pid"] = "pid"
    own = ["mount", *([] if "pid" in joined else ["pid"]), *([] if around["v1"] or whole else ["cgroup"])]
    namespaces: list[dict[str, str]] = [{"type": kind} for kind in own if not of_node(pod, kind)]
    for kind, name in joined.items():
        if not of_node(pod, kind):
            namespaces.append({"type": kind, "path": f"/proc/{around['pause']}/ns/{name}"})
    return {
        "ociVersion": "1.0.2",
        "root": {"path": around["root"], "readonly": bool(context.get("readOnlyRootFilesystem"))},
        "process": {
            "user": user(context, groups, around["accounts"]),
            "args": [*spec["command"], *(spec.get("args") or [])],
            "env": environment(pod, spec),
            "cwd": spec.get("workingDir") or "/",
            "capabilities": capabilities({"capabilities": {"add": ["ALL"]}} if whole else context, around["bounding"]),
            "noNewPrivileges": context.get("allowPrivilegeEscalation") is False,
            "oomScoreAdj": oom_score(pod, spec, around),
        },
        "mounts": all_mounts(base_mounts(whole), bind_mounts(pod, spec, around["place"])),
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": around["cgroup"],
            "resources": {**limits(spec), "devices": [{"allow": whole, "access": "rwm"}]},
            **({"devices": host_devices()} if whole else {}),
            **rootfs_propagation(spec),
            **masks(whole),
        },
    }
