"""A node on a machine of its own, pods on it, and what both leave behind: nothing."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import select
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable, NamedTuple

from podlab.kube import defaults
from podlab.kube.cluster import Cluster, Node
from podlab.kube.podspec import Machine, runtime_config
from podlab.linux import cgroup, inotify, netns, process, syscalls
from podlab.linux.mountinfo import mounts
from podlab.linux.netlink import Netlink
from podlab.runtime import image, image_build, image_store, lab, node, paths, pods
from podlab.runtime.files import read_json
from podlab.runtime.image_recipes import built_in
from podlab.step import apply
from support.own_machine import own_machine
from support.waiting import until

MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
# Far above what anything here takes: only a hang reaches it.
SECONDS = 60.0
CAP_SYS_RESOURCE = 24
Status = dict[str, Any]


class Ran(NamedTuple):
    """What a command in a container gave."""

    code: int
    out: str
    err: str


class Lab:
    """One node; `record` is its node.json."""

    def __init__(self, cluster: Cluster, record: Mapping[str, Any], images: Mapping[str, Any]) -> None:
        self.cluster, self.record, self.images = cluster, record, images
        self.number = 0

    @property
    def name(self) -> str:
        return self.cluster.name

    def pod(self, *containers: Mapping[str, Any], name: str = "", **spec: Any) -> dict[str, Any]:
        """A complete Pod object of these containers, as the action plugin would plan it."""
        self.number += 1
        name, node = name or f"p{self.number}", self.cluster.nodes[0].name
        for key, given in {"containers": containers, "initContainers": spec.get("initContainers", ())}.items():
            spec[key] = [{"name": f"{key[0]}{n}", "image": "busybox", **each} for n, each in enumerate(given)]
        identity = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{self.name}/{name}/{self.number}"))
        full = defaults.pod_spec({"terminationGracePeriodSeconds": 1, "nodeName": node, **spec})
        metadata = {"name": name, "namespace": "default", "uid": identity, "labels": {}}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": full}

    def config(self, pod: Mapping[str, Any], **changed: Any) -> dict[str, Any]:
        """What the runtime starts the pod from."""
        machine = Machine(memory=MEMORY, resolv_conf="nameserver 192.0.2.1\n")
        return {**runtime_config(pod, self.cluster.nodes[0], self.cluster, (), self.images, machine), **changed}

    def start(self, *planned: Mapping[str, Any], **changed: Any) -> list[Pod]:
        """Start pods in one go; what went wrong is in each pod's `said`."""
        started = [Pod(self, pod, self.config(pod, **changed)) for pod in planned]
        said = pods.start([(each.pod, each.config) for each in started], SECONDS)
        for each in started:
            each.said = said[each.uid]
        return started

    def start_config(self, pod: Mapping[str, Any], config: Mapping[str, Any]) -> Pod:
        """Start one pod from a configuration that the test has changed."""
        made = Pod(self, pod, config)
        made.said = pods.start([(pod, config)], SECONDS)[made.uid]
        return made

    def run_pod(self, *containers: Mapping[str, Any], **spec: Any) -> Pod:
        """Start one pod."""
        return self.start(self.pod(*containers, **spec))[0]

    def cgroup(self, path: str) -> str:
        """A path of the node's as the machine names it."""
        return f"{paths.node_cgroup(self.name, self.record['name'])}/{path}"

    def in_node(self, *argv: str, check: bool = True) -> str:
        """The output of a command in all of the node's namespaces."""
        flags = ["--mount", "--net", "--uts", "--ipc", "--pid", "--cgroup"]
        enter = ["nsenter", "--target", str(self.record["pid"]), *flags, "--", *argv]
        done = subprocess.run(enter, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout if check else done.stdout + done.stderr


class Pod:
    """A pod that was started."""

    def __init__(self, owner: Lab, pod: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self.lab, self.pod, self.config = owner, pod, config
        self.uid: str = config["uid"]
        self.said = ""

    @property
    def directory(self) -> str:
        return paths.pod_dir(self.lab.name, self.uid)

    def status(self) -> Status:
        found: Status = read_json(f"{self.directory}/status.json", {})
        return found

    def container(self, name: str = "c0") -> Status:
        """One entry of containerStatuses or initContainerStatuses."""
        every = [each for key, found in self.status().items() if key.endswith("ontainerStatuses") for each in found]
        return next((each for each in every if each["name"] == name), {})

    def until(self, condition: Callable[[Pod], Any], seconds: float = SECONDS) -> Status:
        """Wait for status.json to be written until the condition holds; return the status."""
        watch(self.directory, lambda: bool(condition(self)), seconds, lambda: json.dumps(self.status(), indent=1))
        return self.status()

    def ended(self, name: str = "c0") -> Status:
        """Wait until the container has ended; return its `terminated`."""
        self.until(lambda pod: "terminated" in pod.container(name).get("state", {}))
        terminated: Status = self.container(name)["state"]["terminated"]
        return terminated

    def pid(self, name: str = "c0") -> int:
        """The container's first process, as the machine numbers it."""
        return self.node_pid(self.status()["podlab"]["pids"][name])

    def pause(self) -> int:
        return self.node_pid(self.status()["podlab"]["pause"])

    def supervisor(self) -> int:
        return int(read_json(f"{self.directory}/supervisor.json")["pid"])

    def node_pid(self, inner: int) -> int:
        """The machine's number of a process that the node numbers so."""
        for pid in cgroup.detect().pids(self.lab.cgroup("")[:-1]):
            numbers = process.ns_pids(pid)
            if len(numbers) > 1 and numbers[1] == inner:
                return pid
        raise AssertionError(f"the node has no process {inner}")

    @property
    def logs(self) -> pathlib.Path:
        """The directory of the pod's logs, as the machine sees it."""
        where = paths.pod_log_dir(self.lab.name, self.config["node"], "default", self.config["name"], self.uid)
        return pathlib.Path(where)

    def until_log(self, text: str, name: str = "c0", run: int = 0) -> None:
        """Wait until the container has written this."""
        watch(str(self.logs / name), lambda: text in self.log(name, run), SECONDS, lambda: self.log(name, run))

    def log(self, name: str = "c0", run: int = 0) -> str:
        """The texts of the container's log, parts and lines alike."""
        # What is behind the last end of a line is being written.
        lines = (self.logs / name / f"{run}.log").read_text().rpartition("\n")[0].splitlines()
        return "".join(line.split(" ", 3)[3] + "\n" * (line.split(" ", 3)[2] == "F") for line in lines)

    def exec(self, *argv: str, container: str = "", stdin: str | None = None, terminal: bool = False) -> Ran:
        """Run a command in the container, as `./lab exec` does."""
        # A caller that leaks a descriptor: it must not be seen inside.
        leaked = os.open("/", os.O_RDONLY)
        try:
            done = subprocess.run(
                **self._exec(argv, container, stdin is not None, terminal),
                input=stdin,
                capture_output=True,
                check=False,
                timeout=SECONDS,
                pass_fds=(leaked,),
            )
        finally:
            os.close(leaked)
        return Ran(done.returncode, done.stdout, done.stderr)

    def _exec(self, argv: Sequence[str], container: str, stdin: bool, terminal: bool) -> dict[str, Any]:
        code = (
            "import sys, json; from podlab.runtime.exec import exec_in; a = json.loads(sys.argv[1]); "
            "from podlab.errors import PodlabError\n"
            "try: sys.exit(exec_in(*a[:4], stdin=a[4], terminal=a[5]))\n"
            "except PodlabError as error: sys.exit(f'refused: {error}')"
        )
        args = [self.lab.name, self.uid, container, list(argv), stdin, terminal]
        path = str(pathlib.Path(__file__).resolve().parents[2] / "module_utils")
        environment = {**os.environ, "PYTHONPATH": path, "SECRET_OF_THE_CALLER": "1"}
        command = [sys.executable, "-c", code, json.dumps(args)]
        given: dict[str, Any] = {"args": command, "env": environment, "text": True}
        return given if stdin else {**given, "stdin": subprocess.DEVNULL}

    def sh(self, script: str, container: str = "") -> str:
        """The output of a shell script in the container; it must succeed."""
        ran = self.exec("sh", "-c", script, container=container)
        assert ran.code == 0, ran
        return ran.out

    def delete(self, grace: int | None = None) -> None:
        """Delete the pod and wait until it is gone."""
        remove(self.lab, self.uid, grace)


class Background:
    """A command that runs in a container while the test goes on."""

    def __init__(self, running: subprocess.Popen[str]) -> None:
        self.running = running

    def wait(self) -> int:
        """Its exit code."""
        return self.running.wait(SECONDS)

    text = ""  # all of its output, after the block


@contextlib.contextmanager
def background(pod: Pod, *argv: str) -> Iterator[Background]:
    """Run a command in the pod's first container for the length of the block."""
    running = subprocess.Popen(**pod._exec(argv, "", False, False), stdout=subprocess.PIPE)
    made = Background(running)
    try:
        yield made
    finally:
        for pid in _commands(pod, " ".join(argv)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        made.text = running.communicate(timeout=SECONDS)[0]


def _commands(pod: Pod, command: str) -> list[int]:
    pids = cgroup.detect().pids(pod.lab.cgroup(pod.config["cgroup_parent"]))
    return [pid for pid in pids if process.command(pid) == command[:60]]


def find_command(pod: Pod, command: str) -> int:
    """The process of the pod with this command line, when it is there."""
    found: list[int] = []

    def there() -> bool:
        found[:] = _commands(pod, command)
        return bool(found)

    until(there, f"{command} is not running")
    return found[0]


def remove(owner: Lab, uid: str, grace: int | None = None) -> None:
    """Delete a pod, or clear away what is left of it, as podlab_pod does."""
    pods.await_ends([pods.ask_to_go(owner.name, uid, grace)], SECONDS)
    pods.clear(owner.name, uid)


def watch(directory: str, condition: Callable[[], bool], seconds: float, about: Callable[[], str]) -> None:
    """Return when the condition holds, asked again after each change in the directory (inotify(7))."""
    with inotify.Inotify() as events:
        every = inotify.MODIFY | inotify.MOVED_TO | inotify.CREATE | inotify.DELETE | inotify.DELETE_SELF
        events.add(directory, every)
        while not condition():
            assert events.wait(seconds), f"not within {seconds} s: {about()}"


def wait_for_end(pids: Sequence[int], seconds: float = SECONDS) -> None:
    """Return when all these processes have ended."""
    poll, left = select.poll(), set()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            left.add(fd := syscalls.pidfd_open(pid))
            poll.register(fd, select.POLLIN)
    while left:
        ready = poll.poll(seconds * 1000)
        assert ready, f"{len(left)} of {pids} do not end"
        for fd, _ in ready:
            poll.unregister(fd)
            left.discard(fd)
            os.close(fd)


def cluster_of(name: str) -> Cluster:
    """A cluster of one worker."""
    one = Node(f"{name}-worker", "worker", 0, "172.18.0.2", "10.244.0.0/24", {}, (), ())
    nets = {"node_subnet": "172.18.0.0/16", "gateway": "172.18.0.1", "pod_subnet": "10.244.0.0/16"}
    services = {"service_subnet": "10.96.0.0/16", "dns_service_ip": "10.96.0.10"}
    return Cluster(name=name, nodes=(one,), ip_family="ipv4", kube_proxy_mode="iptables", **nets, **services)


def strays() -> Iterator[int]:
    """Processes, in whatever cgroup, that come from this test: they have its PODLAB_LIB in their environment."""
    mark = f"PODLAB_LIB={os.environ.get('PODLAB_LIB')}".encode()
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with contextlib.suppress(OSError):
            if pid != os.getpid() and mark in pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                yield pid


def trace(cluster: str) -> dict[str, list[str]]:
    """Everything that a lab, or a pod of it, can leave: by kind, sorted."""
    hierarchies = cgroup.detect()
    root = paths.cgroup_root(cluster)
    directories = [place for top in hierarchies.directories(root) for place, _, _ in os.walk(top)]
    pids = hierarchies.pids(root) if hierarchies.exists(root) else []
    state = (paths.cluster_dir(cluster), paths.data_dir(cluster))
    files = [os.path.join(place, name) for top in state for place, dirs, names in os.walk(top) for name in names + dirs]
    with Netlink() as netlink:
        links = list(netlink.links())
    return {
        "processes": sorted(f"{pid} {process.command(pid)}" for pid in pids),
        "strays": sorted(f"{pid} {process.command(pid)}" for pid in strays()),
        "cgroups": sorted(directories),
        "mounts": sorted(f"{each.mount_point} {each.fstype}" for each in mounts()),
        "namespaces": netns.names(),
        "links": sorted(links),
        "files": sorted(path for path in files if not path.endswith(("/last_reserved_ip.0", "/kindnet/lock"))),
        "descriptors": sorted(os.listdir(f"/proc/{os.getpid()}/fd")),
    }


def assert_same(before: Mapping[str, list[str]], after: Mapping[str, list[str]]) -> None:
    """Fail with what appeared and disappeared between two traces."""
    lines = [f"{kind}: appeared: {name}" for kind in before for name in after[kind] if name not in before[kind]]
    lines += [f"{kind}: disappeared: {name}" for kind in before for name in before[kind] if name not in after[kind]]
    assert not lines and before == after, "\n".join(lines)


def make_images() -> dict[str, Any]:
    """busybox in the store, as podlab_image would return it."""
    reference = image.normalise("busybox")
    recipe = built_in(reference)
    assert recipe is not None
    with image_store.locked():
        image_build.build(recipe, reference)
    made = image.find(reference)
    assert made is not None
    return {"busybox": {"id": made.id, "layers": list(made.layers), "config": dict(made.config)}}


@contextlib.contextmanager
def machine(directory: pathlib.Path) -> Iterator[dict[str, Any]]:
    """A machine whose / is a shared mount, as systemd makes it, with images and without labs. Yields the images."""
    lib = directory / "lib"
    lib.mkdir()
    before = os.environ.get("PODLAB_LIB")
    try:
        with own_machine():
            syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SHARED)
            syscalls.mount("lib", str(lib), "tmpfs", 0, "mode=755")
            os.environ["PODLAB_LIB"] = str(lib)
            yield make_images()
    finally:
        os.environ.pop("PODLAB_LIB", None)
        if before is not None:
            os.environ["PODLAB_LIB"] = before


@contextlib.contextmanager
def one_node(directory: pathlib.Path, name: str = "") -> Iterator[Lab]:
    """A lab of one node on a machine of its own; after it the machine is as before, to the last file."""
    with machine(directory) as images, node_on(name or f"t{os.getpid()}", images) as made:
        yield made


@contextlib.contextmanager
def used_node(directory: pathlib.Path) -> Iterator[Lab]:
    """one_node() that has had a pod: what is made once per node is there, so that traces can be compared."""
    with one_node(directory) as made:
        made.run_pod({"command": ["true"]}).delete()
        yield made


@contextlib.contextmanager
def nothing_left(lab: Lab) -> Iterator[None]:
    """Afterwards the lab's pods are removed, and nothing more of them is left than before."""
    before = trace(lab.name)
    yield
    for uid in os.listdir(paths.pods_dir(lab.name)):
        remove(lab, uid, 0)
    assert_same(before, trace(lab.name))


FILES = {"hosts": "127.0.0.1 localhost\n", "resolv.conf": "nameserver 9.9.9.9\n"}


@contextlib.contextmanager
def node_on(name: str, images: Mapping[str, Any]) -> Iterator[Lab]:
    """A lab of one node on this machine, which is as before afterwards."""
    before = trace(name)
    cluster = cluster_of(name)
    netns.create(paths.node_netns(f"{name}-worker"))
    try:
        record = node.create(name, cluster.to_dict()["nodes"][0], {**FILES, "hostname": f"{name}-worker\n"})
        yield Lab(cluster, record, images)
    finally:
        apply(lab.removal(name, lab.find(name)))
    assert_same(before, trace(name))
