"""The pod sandbox: pause, its namespaces, address, veth, files, volumes and cgroups.

Runs inside the node (its mount, network and PID namespaces). Sources: containerd's podsandbox, kindnet's ptp plugin.
"""

from __future__ import annotations

import errno
import os
import signal
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from ..errors import PodlabError
from ..kube import podfiles
from ..linux import capabilities, cgroup, syscalls, sysctl, usernamespace
from ..linux.netlink import Netlink
from . import enter, hostport, ipam, paths, sysctls
from .container import cgroup_values
from .digest import hexdigest
from .files import remove_tree
from .starter import Starter

SHM_SIZE = 67108864
SANDBOX_OOM_SCORE = -998
# The node's host-local store, as the node sees it.
_STORE = "/run/cni-ipam-state/kindnet"


class Sandbox(NamedTuple):
    """A running sandbox, as its supervisor holds it."""

    id: str
    attempt: int
    pid: int
    pidfd: int
    address: str


def sandbox_id(uid: str, attempt: int) -> str:
    """64 hex digits, as containerd's; the same for the same pod and attempt."""
    return hexdigest(f"{uid}/sandbox/{attempt}")


def veth_name(identity: str) -> str:
    """Name of the node's end of a pod's veth: `veth` and 8 hex digits, as the ptp plugin names it."""
    return f"veth{identity[:8]}"


def own_namespaces(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The kinds of namespaces that the pod does not share with its node, in the order of unshare(1)'s options.

    The name goes with the network: containerd gives a pod on the host network the node's UTS namespace, too.
    """
    shared = {"host_network": ("net", "uts"), "host_ipc": ("ipc",), "host_pid": ("pid",)}
    theirs = {kind for key, kinds in shared.items() if config[key] for kind in kinds}
    user = () if config["host_users"] else ("user",)
    return (*user, *(kind for kind in ("net", "ipc", "uts", "pid", "mnt") if kind not in theirs))


def create(
    config: Mapping[str, Any], attempt: int, hierarchies: cgroup.Hierarchies, pause: Sequence[str], starter: Starter
) -> dict[str, Any]:
    """Make the sandbox, whole; return {"pid", "address"}. Runs in a starter.

    On an error everything made so far is taken away again; then the error is raised.
    """
    identity = sandbox_id(config["uid"], attempt)
    directory = paths.pod_dir(config["cluster"], config["uid"])
    _make_cgroups(config, identity, hierarchies)
    pid = 0
    try:
        if not config["host_ipc"]:
            _make_shm(directory, config.get("id_base", 0))
        pid = _start_pause(config, identity, hierarchies, pause, starter)
        network = config["network"]
        address = config["host_ip"]
        if not config["host_network"]:
            address = ipam.allocate(_STORE, network["pod_cidr"], network["gateway"], identity)
            connect(open_namespace(pid, "net"), veth_name(identity), address, network)
        sysctls.apply(pid, config["sysctls"])
        if config["host_ports"]:
            hostport.open_ports(config, identity, address, veth_name(identity))
        if not config["host_users"]:
            _check_idmapped_mounts(config, pid)
        _write_files(config, directory, address)
    except BaseException:
        if pid:
            os.kill(pid, signal.SIGKILL)
        remove_traces(config, identity)
        raise
    return {"pid": pid, "address": address}


def open_namespace(pid: int, name: str) -> int:
    """A descriptor of the process's namespace."""
    return os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)


def stop(sandbox: Sandbox) -> None:
    """End pause (KILL, as the CRI stops it); its namespaces go with it. The caller is its parent."""
    try:
        syscalls.pidfd_send_signal(sandbox.pidfd, signal.SIGKILL)
        os.waitpid(sandbox.pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
    os.close(sandbox.pidfd)


def _check_idmapped_mounts(config: Mapping[str, Any], pid: int) -> None:
    """Raises PodlabError when the images' or the pod's file system cannot be seen with other users."""
    userns = open_namespace(pid, "user")
    containers = [*config["init_containers"], *config["containers"]]
    layers = [layer for container in containers for layer in container["layers"][:1]]
    for place in dict.fromkeys([*layers, paths.pod_dir(config["cluster"], config["uid"])]):
        os.close(usernamespace.mapped_tree(place, userns))
    os.close(userns)


def remove_traces(config: Mapping[str, Any], identity: str) -> None:
    """Take away what a sandbox leaves when its pause is gone: veth, host ports, address, /dev/shm."""
    # The veth goes with the pod's namespace, but not before the kernel's worker comes to it: a new sandbox of the
    # same pod must not meet the old route.
    with Netlink() as netlink:
        netlink.clear_link(veth_name(identity))
    if config["host_ports"]:
        hostport.close_ports(config["cluster"], [(identity, veth_name(identity))])
    ipam.release(_STORE, identity)
    try:
        syscalls.umount(f"{paths.pod_dir(config['cluster'], config['uid'])}/shm", syscalls.MNT_DETACH)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise


def _make_cgroups(config: Mapping[str, Any], identity: str, hierarchies: cgroup.Hierarchies) -> None:
    parent = config["cgroup_parent"]
    hierarchies.create(f"{parent}/{identity}")
    hierarchies.write(parent, cgroup_values(config["resources"]))
    hierarchies.write(f"{parent}/{identity}", cgroup.Values(cpu_shares=2), level="container")


def _make_shm(directory: str, owner: int) -> None:
    target = f"{directory}/shm"
    os.makedirs(target, exist_ok=True)
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    syscalls.mount("shm", target, "tmpfs", flags, f"mode=1777,size={SHM_SIZE},uid={owner},gid={owner}")


def _start_pause(
    config: Mapping[str, Any], identity: str, hierarchies: cgroup.Hierarchies, pause: Sequence[str], starter: Starter
) -> int:
    """Clone pause into its namespaces; return its pid once it has become pause."""
    # Before the clone, which leaves the files of the node behind.
    filter_ = enter.seccomp_filter(config["seccomp"])
    read, write = os.pipe()
    waits, go = os.pipe()
    try:
        pid = starter.clone(sum(syscalls.NAMESPACES[kind] for kind in own_namespaces(config)))
    except OSError as error:
        if config["host_users"]:
            raise
        hint = "see user.max_user_namespaces and CONFIG_USER_NS"
        raise PodlabError(
            f"hostUsers: false needs a user namespace, which the kernel refuses ({error}): {hint}"
        ) from error
    if pid == 0:
        os.close(go)
        _become_pause(config, f"{config['cgroup_parent']}/{identity}", hierarchies, pause, filter_, write, waits)
    os.close(write)
    os.close(waits)
    try:
        if not config["host_users"]:
            usernamespace.write_maps(pid, config["id_base"])
            enter.set_oom_score(SANDBOX_OOM_SCORE, pid)
        os.write(go, b"1")
    finally:
        os.close(go)
    failed = os.read(read, 4096)
    os.close(read)
    if failed:
        raise PodlabError(f"Cannot start the sandbox: {failed.decode('utf-8', 'replace')}")
    return pid


def _become_pause(
    config: Mapping[str, Any],
    path: str,
    hierarchies: cgroup.Hierarchies,
    pause: Sequence[str],
    filter_: bytes,
    report: int,
    go: int,
) -> NoReturn:
    """In the clone. pause gets a root of its own that holds nothing but itself, read-only.

    go: readable when its user namespace, if it has one, has its maps: until then nobody is root in it.
    """
    try:
        os.setsid()
        hierarchies.attach(path, 0)
        if not config["host_network"]:
            syscalls.sethostname(config["hostname"])
        enter.set_oom_score(SANDBOX_OOM_SCORE)
        enter.set_limits()
        root = os.path.dirname(pause[0])
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        syscalls.mount(root, root, None, syscalls.MS_BIND)
        syscalls.mount(None, root, None, syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY)
        os.chdir(root)
        syscalls.pivot_root(".", ".")
        syscalls.umount(".", syscalls.MNT_DETACH)
        os.chdir("/")
        enter.reset_process()
        if not os.read(go, 1):
            os._exit(1)
        wanted = enter.Privileges(0, capabilities.mask(capabilities.NAMES), True, 0, filter_)
        enter.become(enter.User(0, 0, (), "/"), wanted)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        enter.close_others()
        enter.execute([f"/{os.path.basename(pause[0])}", *pause[1:]], {"PATH": enter.DEFAULT_PATH}, wanted)
    except BaseException as error:
        os.write(report, str(error).encode()[:4096])
    os._exit(1)


def connect(netns: int, veth: str, address: str, network: Mapping[str, Any]) -> None:
    """Join a network namespace to the node as kindnet's ptp plugin does.

    netns: descriptor of the pod's namespace. veth: name of the node's end. address: the pod's, without prefix.
    network: pod_cidr, gateway, address_prefix, mtu.
    The pod's traffic goes through the node even to its neighbours: the subnet's own route is replaced by two.
    """
    gateway, mtu = network["gateway"], network["mtu"]
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    with Netlink() as node:
        node.add_veth(veth, "eth0", peer_netns_fd=netns, mtu=mtu, up=True)
        _believe_no_router(veth)
        node.add_address(veth, f"{gateway}/32")
        node.add_route(f"{address}/32", dev=veth, scope="link")
    try:
        syscalls.setns(netns, syscalls.CLONE_NEWNET)
        with Netlink() as pod:
            pod.set_link("lo", up=True)
            _believe_no_router("eth0")
            pod.add_address("eth0", f"{address}/{network['address_prefix']}", noprefixroute=True)
            pod.set_link("eth0", up=True)
            pod.add_route(f"{gateway}/32", dev="eth0", scope="link")
            pod.add_route(_subnet(network["pod_cidr"]), via=gateway, dev="eth0", src=address)
            pod.add_route("0.0.0.0/0", via=gateway, dev="eth0")
    finally:
        syscalls.setns(home, syscalls.CLONE_NEWNET)
        os.close(home)


def _believe_no_router(device: str) -> None:
    """A pod with NET_RAW could be the node's IPv6 router (CVE-2020-10749): the routes of this link are ours to make."""
    try:
        sysctl.write(f"net/ipv6/conf/{device}/accept_ra", 0)
    except FileNotFoundError:
        return  # a kernel without IPv6


def _subnet(pod_cidr: str) -> str:
    address, _, bits = pod_cidr.partition("/")
    number = struct.unpack("!I", bytes(int(part) for part in address.split(".")))[0]
    masked = number & ~((1 << (32 - int(bits))) - 1)
    return ".".join(str(byte) for byte in struct.pack("!I", masked)) + f"/{bits}"


def _write_files(config: Mapping[str, Any], directory: str, address: str) -> None:
    """hosts, hostname and resolv.conf as the kubelet and the CRI write them; bound into each container."""
    if config["host_network"]:
        with open("/etc/hosts", encoding="utf-8", errors="surrogateescape") as file:
            text = podfiles.host_network_hosts_file(file.read(), config["host_aliases"])
    else:
        text = podfiles.hosts_file([address], config["hosts_name"], config["domain"], config["host_aliases"])
    for name, content in (
        ("hosts", text),
        ("hostname", config["hostname"] + "\n"),
        ("resolv.conf", config["resolv_conf"]),
    ):
        # In place, not by rename: a container that has the file bound must see the new address.
        fd = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        os.write(fd, content.encode("utf-8", "surrogateescape"))
        os.close(fd)


def remove_cgroups(config: Mapping[str, Any], hierarchies: cgroup.Hierarchies) -> None:
    """End what is left in the pod's cgroups and remove them; its supervisor must have left them."""
    hierarchies.kill(config["cgroup_parent"])
    hierarchies.remove(config["cgroup_parent"])


def remove_files(config: Mapping[str, Any]) -> None:
    """Layers, volumes, logs and state of the pod. hostPath volumes are not ours and stay.

    What is mounted below is unmounted, and not removed: an emptyDir in memory, what a container has mounted in a
    Bidirectional volume. Only this node's mounts go, and what they show stays (CVE-2024-23652 and its kin).
    """
    data = paths.pod_data_dir(config["cluster"], config["uid"])
    for directory in (data, paths.node_view_of_logs(config), paths.pod_dir(config["cluster"], config["uid"])):
        remove_tree(directory, unmount=True)
