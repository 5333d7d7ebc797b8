"""What starting a pod is, as the commands a person would type on its node. Told from the same data it is done from."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from ..kube import portmap
from ..linux import cgroup, syscalls
from ..linux.mount import overlay_options
from ..linux.usernamespace import SIZE
from ..step import Step
from . import hostport, narrate_volumes, paths, sandbox
from .container import container_id
from .containerroot import container_mounts
from .mapped import UNMAPPED
from .rootmounts import RootMount

_OPTIONS = (
    (syscalls.MS_RDONLY, "ro"),
    (syscalls.MS_NOSUID, "nosuid"),
    (syscalls.MS_NODEV, "nodev"),
    (syscalls.MS_NOEXEC, "noexec"),
    (syscalls.MS_STRICTATIME, "strictatime"),
)


# mount(8)'s way to what containers in a user namespace see of the machine's files.
_IDMAP = "X-mount.idmap=/proc/$PAUSE/ns/user"
# Kind of a namespace -> the option of unshare(1) and nsenter(1).
_OPTION = {"net": "--net", "ipc": "--ipc", "uts": "--uts", "pid": "--pid", "mnt": "--mount", "user": "--user"}


def pod_steps(config: Mapping[str, Any], why: str) -> Iterator[Step]:
    """The steps of a pod's start, in order. They only tell: the pod's supervisor performs them."""
    name = f"{config['namespace']}/{config['name']} on {config['node']}"
    identity = sandbox.sandbox_id(config["uid"], 0)
    yield Step("cgroup.create", name, ("mkdir", "-p", f"/sys/fs/cgroup/cpu/{config['cgroup_parent']}/{identity}"), why)
    yield from narrate_volumes.steps(config, name, why)
    flags = tuple(_OPTION[kind] for kind in sandbox.own_namespaces(config))
    yield Step("sandbox.create", name, ("unshare", *flags, "--fork", "/pause"), why)
    if not config["host_users"]:
        for kind in ("uid_map", "gid_map"):
            # $ID_BASE: the first ID of the machine that no other pod has, a multiple of 65536.
            script = f"echo 0 $ID_BASE {SIZE} > /proc/$PAUSE/{kind}"
            yield Step("sandbox.map", name, ("sh", "-c", script), why)
    if not config["host_network"]:
        for argv in _network(config, identity):
            yield Step("network.connect", name, argv, why)
    if config["host_ports"]:
        for words in _host_ports(config, identity):
            yield Step("hostport.open", name, ("iptables", "-w", *words), why)
    for kind, wanted in config["sysctls"].items():
        for file, value in wanted.items():
            argv = ("nsenter", "--target", "$PAUSE", _OPTION[kind], "sysctl", "-w", f"{file}={value}")
            yield Step("sysctl.set", name, argv, why)
    for container in [*config["init_containers"], *config["containers"]]:
        yield from _container(config, container, name, why)


def _network(config: Mapping[str, Any], identity: str) -> Iterator[tuple[str, ...]]:
    veth, network = sandbox.veth_name(identity), config["network"]
    gateway, subnet = network["gateway"], network["pod_cidr"]
    inside = ("nsenter", "--target", "$PAUSE", "--net", "ip")
    yield (
        "ip",
        "link",
        "add",
        veth,
        "mtu",
        str(network["mtu"]),
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "netns",
        "$PAUSE",
    )
    yield ("ip", "address", "add", f"{gateway}/32", "dev", veth)
    yield ("ip", "link", "set", veth, "up")
    yield ("ip", "route", "add", "$POD_IP/32", "dev", veth, "scope", "link")
    yield (*inside, "link", "set", "lo", "up")
    yield (*inside, "address", "add", f"$POD_IP/{network['address_prefix']}", "dev", "eth0", "noprefixroute")
    yield (*inside, "link", "set", "eth0", "up")
    yield (*inside, "route", "add", f"{gateway}/32", "dev", "eth0", "scope", "link")
    yield (*inside, "route", "add", subnet, "via", gateway, "dev", "eth0", "src", "$POD_IP")
    yield (*inside, "route", "add", "default", "via", gateway, "dev", "eth0")


def _host_ports(config: Mapping[str, Any], identity: str) -> Iterator[list[str]]:
    """As on a node that has none of the rules yet."""
    chain, veth = hostport.chain(identity), sandbox.veth_name(identity)
    chains, rules = portmap.shared("")
    for created in (*chains, chain):
        yield ["-t", "nat", "-N", created]
    for rule in (*rules, *hostport.rules(config, identity, "$POD_IP")):
        yield ["-t", "nat", *shlex.split(rule)]
    yield shlex.split(portmap.guard(veth))


def _container(config: Mapping[str, Any], container: Mapping[str, Any], name: str, why: str) -> Iterator[Step]:
    target = f"container {container['name']} of {name}"
    path = f"{config['cgroup_parent']}/{container_id(config['uid'], container['name'], 0)}"
    base = f"{paths.pod_data_dir(config['cluster'], config['uid'])}/containers/{container['name']}/0"
    resources = container["resources"]
    yield Step("cgroup.create", target, ("mkdir", "-p", f"/sys/fs/cgroup/cpu/{path}"), why)
    for file, value in (
        ("cpu/{}/cpu.shares", resources["cpu_shares"]),
        ("cpu/{}/cpu.cfs_quota_us", resources["cpu_quota_us"]),
        ("memory/{}/memory.limit_in_bytes", resources["memory_limit"]),
    ):
        if value is not None:
            script = f"echo {value} > /sys/fs/cgroup/{file.format(path)}"
            yield Step("cgroup.write", target, ("sh", "-c", script), why)
    rules = cgroup.ALL_DEVICES if container["privileged"] else cgroup.DEFAULT_DEVICES
    devices = f"/sys/fs/cgroup/devices/{path}"
    quoted = " ".join(f'"{rule}"' for rule in rules)
    script = f'echo a > {devices}/devices.deny; for rule in {quoted}; do echo "$rule" > {devices}/devices.allow; done'
    yield Step("cgroup.write", target, ("sh", "-c", script), why)
    mapped = () if config["host_users"] else (_IDMAP,)
    for layer in container["layers"] if mapped else ():
        yield Step("mount.add", target, ("mount", "--bind", "-o", _IDMAP, layer, layer), why)
    options = overlay_options(container["layers"] or ["(image)"], f"{base}/upper", f"{base}/work")
    yield Step("mount.add", target, ("mount", "-t", "overlay", "-o", options, "overlay", f"{base}/merged"), why)
    for mount in container_mounts(config, container, 0, []):
        yield Step("mount.add", target, _mount(mount, f"{base}/merged", mapped), why)
    if container["tty"]:
        yield Step("mount.add", target, ("mount", "--bind", "$TERMINAL", f"{base}/merged/dev/console"), why)
    theirs = sandbox.own_namespaces(config)
    joined = tuple(_OPTION[kind] for kind in ("user", "ipc", "uts", "net") if kind in theirs)
    joined += ("--pid",) if config["share_pid"] else ()
    unshared = ("--mount",) if config["share_pid"] or config["host_pid"] else ("--mount", "--pid")
    argv = ("nsenter", "--target", "$PAUSE", *joined, "unshare", *unshared, "--fork")
    yield Step("container.start", target, (*argv, *_become(container, f"{base}/merged"), *container["command"]), why)


def _become(container: Mapping[str, Any], root: str) -> Iterator[str]:
    """From all privileges to the container's, as far as commands go that every machine has.

    chroot(8) comes last, for the image may have none of them; it needs CAP_SYS_CHROOT itself.
    """
    kept = (f"+{name.lower()}" for name in container["caps"])
    told = not container["privileged"] and "SYS_CHROOT" in container["caps"]
    words = ("--bounding-set", ",".join(("-all", *kept))) if told else ()
    gain = ("--no-new-privs",) if container["no_new_privs"] else ()
    yield from ("setpriv", *words, *gain) if words or gain else ()
    user = container["user"]
    who = user.get("name") or str(user["uid"])
    group = "" if user["gid"] is None else f":{user['gid']}"
    identity = (f"--userspec={who}{group}",) if (who, group) not in (("0", ":0"), ("0", "")) else ()
    groups = ("--groups=" + ",".join(map(str, user["groups"])),) if user["groups"] else ()
    yield from ("chroot", *identity, *groups, root)


def _mount(mount: RootMount, root: str, mapped: tuple[str, ...]) -> tuple[str, ...]:
    words = [word for flag, word in _OPTIONS if mount.flags & flag] + ([mount.data] if mount.data else [])
    words += mapped if not mount.fstype and not mount.source.startswith(UNMAPPED) else ()
    if mount.volume is not None:
        return narrate_volumes.mount(mount, root, words)
    options = ("-o", ",".join(words)) if words else ()
    kind = ("-t", mount.fstype) if mount.fstype else ("--rbind",)
    return ("mount", *kind, *options, mount.source, f"{root}{mount.target}")
