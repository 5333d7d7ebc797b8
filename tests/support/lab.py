"""One whole lab for the tests of the lab floor: made and taken down through the front door, asked in between."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Callable

from podlab.cli.crilogs import Watch
from podlab.linux import process
from podlab.runtime import paths, state

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
VENV = pathlib.Path(sys.executable).parent

# Far above what anything here takes: only a hang reaches it.
COMMAND_SECONDS = 300
# How often what sends no event (a process that ended) is looked at again.
LOOK_AGAIN_SECONDS = 0.1
# invoke's own start takes longer than all the rest of `exec`.
EXECUTE = """
import json, sys
from podlab.cli.execute import execute
words, picked = json.loads(sys.argv[1])
sys.exit(execute(*words, **picked))
"""

Done = subprocess.CompletedProcess[str]


def environment(name: str, **more: str) -> dict[str, str]:
    """What a user of the virtual environment has, and which lab is meant; nothing of what steers another lab."""
    mine = {key: value for key, value in os.environ.items() if not key.startswith(("PODLAB_", "ANSIBLE_", "KIND_"))}
    return {**mine, "PATH": f"{VENV}:{os.environ['PATH']}", "KIND_CLUSTER_NAME": name, **more}


class Lab:
    """A lab by its name. Commands go through `invoke`; waiting reads its state on this machine."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.first_up: Done | None = None

    # -- the front door ---------------------------------------------------------------------------------------------

    def run(self, *argv: str, stdin: str | None = None, check: bool = True, **more: str) -> Done:
        """A command of the virtual environment in the repository. Fails the test when it fails, unless check=False."""
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        done = subprocess.run(
            argv,
            **given,
            env=environment(self.name, **more),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def invoke(self, *words: str, stdin: str | None = None, check: bool = True) -> Done:
        """`invoke WORDS`: what `./lab WORDS` runs."""
        return self.run("invoke", *words, stdin=stdin, check=check)

    def exec(self, pod: str, *command: str, container: str = "", namespace: str = "", stdin: str | None = None) -> str:
        """Output of a command in a pod. Fails the test when the command fails.

        By what `exec` runs, without the menu before it: try_exec is the whole way.
        """
        picked = {"container": container, "namespace": namespace, "stdin": stdin is not None}
        argv = (sys.executable, "-c", EXECUTE, json.dumps([[pod, command], picked]))
        return self.run(*argv, stdin=stdin).stdout

    def try_exec(
        self,
        pod: str,
        *command: str,
        container: str = "",
        namespace: str = "",
        stdin: str | None = None,
        check: bool = False,
    ) -> Done:
        """A command in a pod, whatever its end."""
        flags = [*(["-c", container] if container else []), *(["-n", namespace] if namespace else [])]
        flags += ["-i"] if stdin is not None else []
        return self.invoke("exec", pod, *flags, "--", *command, stdin=stdin, check=check)

    def get_json(self, kind: str, *words: str) -> list[dict[str, Any]]:
        """`get KIND -o json`: the objects. words: more of the command's, as -A."""
        found = json.loads(self.invoke("get", kind, *words, "-o", "json").stdout)
        items: list[dict[str, Any]] = found["items"] if found["kind"] == "List" else [found]
        return items

    def playbook(self, *words: str, check: bool = True, **variables: Any) -> Done:
        """`ansible-playbook playbooks/lab.yml` with extra variables. The last lines have the recap."""
        extra = ["-e", json.dumps(variables)] if variables else []
        return self.run("ansible-playbook", "playbooks/lab.yml", *extra, *words, check=check, ANSIBLE_NOCOLOR="1")

    def apply(self, manifest: str, check: bool = True) -> Done:
        """`apply -f -` of this text."""
        return self.invoke("apply", "-f", "-", stdin=manifest, check=check)

    # -- what is there ----------------------------------------------------------------------------------------------

    def pods(self, prefix: str = "", namespace: str = "default") -> list[dict[str, Any]]:
        """The pods whose name begins so, each with "status", "alive" and "supervisor"; read in this process."""
        return [
            pod
            for pod in self.every_pod()
            if name_of(pod).startswith(prefix) and pod["metadata"]["namespace"] == namespace
        ]

    def every_pod(self) -> list[dict[str, Any]]:
        """The pods of every namespace, as pods() has them."""
        return [
            {**entry["pod"], "status": entry["status"], "alive": entry["alive"], "supervisor": entry["supervisor"]}
            for entry in state.read_pods(self.name)
        ]

    def pod(self, prefix: str, namespace: str = "default") -> dict[str, Any]:
        """The one pod whose name begins so."""
        found = self.pods(prefix, namespace)
        assert len(found) == 1, f"{prefix}: {[name_of(pod) for pod in found]}"
        return found[0]

    def status_written(self, pod: Mapping[str, Any]) -> float:
        """When the pod's status was last written: what follows from it is measured from there, not from our reading."""
        return written(f"{paths.pod_dir(self.name, uid_of(pod))}/status.json")

    def endpoints(self) -> set[str]:
        """Addresses that are noted as endpoints of whatever Service."""
        slices = state.read_state(self.name)["services"]["endpointslices"]
        return {address for item in slices for endpoint in item["endpoints"] for address in endpoint["addresses"]}

    def services_written(self) -> float:
        """When it was last noted what is programmed, which comes after the rules and the records."""
        return written(paths.services_file(self.name))

    def log_file(self, pod: Mapping[str, Any], run: int) -> pathlib.Path:
        """The log of a run of the pod's first container, as it is on the disk."""
        place = paths.pod_log_dir(self.name, node_of(pod), pod["metadata"]["namespace"], name_of(pod), uid_of(pod))
        return pathlib.Path(place, container_of(pod)["name"], f"{run}.log")

    def service_ip(self, name: str, namespace: str = "default") -> str:
        """The ClusterIP of a Service."""
        services = state.read_state(self.name)["services"]["services"]
        wanted = [entry for entry in services if (name_of(entry), entry["metadata"]["namespace"]) == (name, namespace)]
        assert len(wanted) == 1, f"Service {namespace}/{name}: {len(wanted)}"
        return str(wanted[0]["spec"]["clusterIP"])

    def nodes(self) -> list[dict[str, Any]]:
        """The records of the nodes in their order: name, address, pod_cidr, pid, start."""
        return state.read_nodes(self.name)

    def node_names(self) -> list[str]:
        """The nodes in their order."""
        return [record["name"] for record in self.nodes()]

    def gateway(self) -> str:
        """The machine's address on the node network."""
        return str(state.read_state(self.name)["cluster"]["gateway"])

    def in_node(self, node: str, *command: str, check: bool = True) -> Done:
        """A command in a node's network namespace, with this machine's programs."""
        return self.run("ip", "netns", "exec", paths.node_netns(node), *command, check=check)

    def in_pod_network(self, pod: Mapping[str, Any], *command: str, check: bool = True) -> Done:
        """A command in a pod's network namespace, with this machine's programs."""
        return self.run("nsenter", "--target", str(pause_of(pod)), "--net", *command, check=check)

    # -- waiting ----------------------------------------------------------------------------------------------------

    def until(
        self, uid: str, condition: Callable[[dict[str, Any]], object], otherwise: str, seconds: float = 60
    ) -> dict[str, Any]:
        """Wait until the pod with this uid fulfils the condition; return it.

        Woken by its status file (inotify). AssertionError with the last status after so many seconds.
        """
        end = time.monotonic() + seconds
        with Watch(paths.pod_dir(self.name, uid)) as watch:
            while True:
                pod = next((entry for entry in self.every_pod() if uid_of(entry) == uid), {})
                if pod and condition(pod):
                    return pod
                assert time.monotonic() < end, f"{otherwise}\n{json.dumps(pod.get('status'), indent=1)}"
                watch.wait(LOOK_AGAIN_SECONDS)

    def until_gone(self, uid: str, seconds: float = 60) -> None:
        """Wait until nothing is left of the pod."""
        end = time.monotonic() + seconds
        parent = paths.pods_dir(self.name)
        with Watch(parent) as watch:
            while os.path.exists(f"{parent}/{uid}"):
                assert time.monotonic() < end, f"pod {uid} is still there after {seconds} s"
                watch.wait(LOOK_AGAIN_SECONDS)

    def until_logged(self, pod: Mapping[str, Any], text: str, run: int = 0, seconds: float = 60) -> None:
        """Wait until a run of the pod's first container has written this: its words take their time to the log."""
        file = self.log_file(pod, run)
        end = time.monotonic() + seconds
        with Watch(str(file.parent)) as watch:
            while text not in (said := _text(str(file))):
                assert time.monotonic() < end, f"{name_of(pod)}: {text!r} is not in its log: {said!r}"
                watch.wait(LOOK_AGAIN_SECONDS)


@contextlib.contextmanager
def made(name: str) -> Iterator[Lab]:
    """A lab as clusters/default says, under this name, for the length of the block."""
    lab = Lab(name)
    try:
        lab.first_up = lab.invoke("up", "--name", name)
        yield lab
    finally:
        lab.invoke("down", "--name", name)


def written(path: str) -> float:
    """When a file was written, in seconds since the epoch."""
    return os.stat(path).st_mtime


def name_of(item: Mapping[str, Any]) -> str:
    """An object's name."""
    return str(item["metadata"]["name"])


def uid_of(item: Mapping[str, Any]) -> str:
    """An object's uid."""
    return str(item["metadata"]["uid"])


def ip_of(pod: Mapping[str, Any]) -> str:
    """A pod's address."""
    return str(pod["status"]["podIP"])


def node_of(pod: Mapping[str, Any]) -> str:
    """The node that a pod is on."""
    return str(pod["spec"]["nodeName"])


def container_of(pod: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """The status of a pod's container: the first, or the one named."""
    statuses = pod["status"]["containerStatuses"]
    found: dict[str, Any] = next(entry for entry in statuses if name in ("", entry["name"]))
    return found


def running(pod: Mapping[str, Any]) -> bool:
    """Every container of the pod runs, and it is ready."""
    ready = [entry["status"] for entry in pod["status"].get("conditions", ()) if entry["type"] == "Ready"]
    return pod["status"].get("phase") == "Running" and ready == ["True"]


def pids_in(pod: Mapping[str, Any]) -> dict[int, str]:
    """Processes of the pod on this machine, by its cgroup: pid -> command line. Supervisor and pause among them."""
    own = f"/pod{uid_of(pod)}/"
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            cgroups = pathlib.Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
            if own in cgroups:
                command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
                found[int(pid)] = command.replace(b"\0", b" ").decode().strip()
        except OSError:
            continue  # it has just ended
    return found


def container_pid(pod: Mapping[str, Any], name: str = "") -> int:
    """Pid on this machine of the first process of a container (of the pod's only one without a name).

    Its supervisor knows it, by the number that the node has for it. What a probe or an exec runs is in its cgroup, too.
    """
    inner = pod["status"]["podlab"]["pids"][name or container_of(pod)["name"]]
    return next(pid for pid in pids_in(pod) if process.ns_pids(pid)[1:2] == [inner])


def pause_of(pod: Mapping[str, Any]) -> int:
    """Pid on this machine of the pod's pause."""
    return next(pid for pid, command in pids_in(pod).items() if command == "/pause")


def _text(path: str) -> str:
    try:
        return pathlib.Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
