"""What podlab's speed is held against: measured in the same run, on the same machine."""

from __future__ import annotations

import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable, NamedTuple

from ..errors import PodlabError
from ..kube import proxy, proxy_sync
from ..kube.iptables_save import Tables, parse_save
from ..kube.proxy_chains import Options, detector
from ..kube.proxy_model import ProxyNode
from ..linux import cgroup, iptables, netns
from ..runtime import paths
from ..runtime.pause import compiler, pause_binary
from . import lab
from .playbook import ansible_playbook

FLOOR_SOURCE = "tests/bench/floor.c"
MODULE_CALLS = 4
REPEATS = 3

# One call of a module that does next to nothing, as often as is asked for.
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks: {tasks}
"""
TASK = "\n    - podlab_netns: {namespaces: [{name: podlab-bench-none, state: absent}]}\n      check_mode: true"


class Floor(NamedTuple):
    """Milliseconds for a pod, made and taken away by a C program that does nothing else."""

    made: float
    removed: float


def seconds(call: Callable[[], Any]) -> float:
    """How long the call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def median(call: Callable[[], float], repeats: int = REPEATS) -> float:
    """The median of what the call measures."""
    return statistics.median(call() for _ in range(repeats))


def play(module_calls: int) -> float:
    """Seconds for a playbook with so many module calls on this machine."""
    tasks = TASK * module_calls or "[]"
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        file.write(PLAY.replace("{tasks}", tasks))
        file.flush()
        argv = [ansible_playbook(), "-i", "localhost,", "-e", "ansible_python_interpreter=/usr/bin/python3", file.name]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(lab.ROOT / "ansible.cfg")}
        return seconds(lambda: command(argv, env=environment, cwd=lab.ROOT))


def command(argv: list[str], **options: Any) -> str:
    """Run a command; its standard output. Raises PodlabError with what it said when it fails."""
    done: subprocess.CompletedProcess[str] = subprocess.run(argv, capture_output=True, text=True, **options)
    if done.returncode:
        raise PodlabError(f"{' '.join(argv)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def module_call(empty: float) -> float:
    """Seconds for one more module call in a play. empty: seconds for a play without any."""
    return max(play(MODULE_CALLS) - empty, 0.001) / MODULE_CALLS


def floor(pods: int) -> Floor:
    """The floor for so many pods. Raises PodlabError when there is no C compiler."""
    source = lab.ROOT / FLOOR_SOURCE
    if not compiler():
        raise PodlabError("no C compiler on this machine: install gcc")
    # Beside the labs' own data: the same disk.
    data = pathlib.Path(paths.lib_root())
    data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".floor-", dir=data) as place, _cgroups() as cgroups:
        program = f"{place}/floor"
        command([compiler(), "-O2", "-o", program, str(source)])
        lower = pathlib.Path(place, "lower")
        for directory in ("bin", "proc", "dev", "etc"):
            (lower / directory).mkdir(parents=True)
        for name in ("hosts", "hostname", "resolv.conf", "log"):
            (lower / "etc" / name).touch()
        pause = pause_binary()
        shutil.copy(pause, lower / "bin" / "wait")
        made, removed = command([program, str(pods), place, pause, *cgroups]).split()
    return Floor(float(made), float(removed))


@contextmanager
def _cgroups() -> Iterator[list[str]]:
    """A cgroup of our own in every hierarchy that a pod is in."""
    hierarchies = cgroup.detect()
    path = f"podlab-floor-{os.getpid()}"
    hierarchies.create(path)
    try:
        directories = hierarchies.directories(path)
        for directory in directories:
            clone = pathlib.Path(directory, "cgroup.clone_children")
            if clone.exists():
                clone.write_text("1")
        yield directories
    finally:
        hierarchies.remove(path)


# Services


def many_services(count: int, endpoints: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """So many Services, and an EndpointSlice with so many addresses for each."""
    services, slices = [], []
    for number in range(count):
        high, low = divmod(number, 250)
        metadata: dict[str, Any] = {"name": f"service-{number}", "namespace": "default"}
        ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
        spec = {"type": "ClusterIP", "clusterIP": f"10.96.{high + 1}.{low + 1}", "ports": ports, "selector": {"n": "x"}}
        services.append({"metadata": {**metadata, "uid": f"uid-{number}"}, "spec": spec})
        addresses = [f"10.244.{(number * endpoints + place) // 250}.{(number * endpoints + place) % 250 + 2}" for
                     place in range(endpoints)]  # fmt: skip
        slices.append(
            {
                "metadata": metadata | {"labels": {"kubernetes.io/service-name": metadata["name"]}},
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
                "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
            }
        )
    return services, slices


def proxy_options() -> Options:
    """kube-proxy's options as a default lab has them."""
    local, not_local = detector("ClusterCIDR", "10.244.0.0/16")
    return Options(local=local, not_local=not_local)


def restore(services: list[dict[str, Any]], slices: list[dict[str, Any]], there: int = 0) -> float:
    """Seconds for `iptables-restore` of what these Services change where the first `there` of them are."""
    backend, options, node = iptables.detect(), proxy_options(), ProxyNode("bench", ("172.18.0.2",))

    def text(count: int, have: Tables) -> str:
        rules = proxy.restore_text(services[:count], slices[:count], node, options)
        return proxy_sync.sync_text(rules, proxy_sync.compare(rules, rules.saved(), have))

    with fresh_netns("restore") as name:
        argv = ["ip", "netns", "exec", name, *backend.restore_argv()]
        if there:
            command(argv, input=text(there, {}))
        last = text(len(services), parse_save(iptables.save(backend, [name])[name]))
        return seconds(lambda: command(argv, input=last))


@contextmanager
def fresh_netns(word: str) -> Iterator[str]:
    """A network namespace that is gone afterwards."""
    name = f"podlab-bench-{word}-{os.getpid()}"
    netns.create(name)
    try:
        yield name
    finally:
        netns.delete(name)
