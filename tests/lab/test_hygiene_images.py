"""Images that want something of the machine: links that lead out of them, files that privileged code would load."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Callable

import pytest

from support import snapshot
from support.machine import Machine, machine
from support.small_lab import SmallLab, pod, yaml_of

pytestmark = pytest.mark.own_machine

STORE = "/var/lib/podlab/images"
# Not in /run, of which a node has its own.
VICTIM = "/var/lib/podlab/victim"
UP = "../" * 12


def link(target: str, *path: str) -> Callable[[pathlib.Path], None]:
    """A layer with this link in it."""

    def make(root: pathlib.Path) -> None:
        place = root.joinpath(*path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)

    return make


def fifos(root: pathlib.Path) -> None:
    """What is read of an image would stop the reader for ever, or show him a file of his own."""
    (root / "etc").mkdir()
    os.mkfifo(root / "etc/passwd")
    (root / "etc/group").symlink_to(f"{UP}{VICTIM}/secret")


def code(root: pathlib.Path) -> None:
    """What a privileged helper would load if it looked inside."""
    trap = f"open('{VICTIM}/trapped', 'w').close()\n"
    for directory in ("usr/lib/python3.11/encodings", "usr/lib/python3/dist-packages", "usr/local/lib/python3.11"):
        place = root / directory
        place.mkdir(parents=True)
        for name in ("__init__.py", "sitecustomize.py", "pwd.py"):
            (place / name).write_text(trap)
    for library in ("lib/x86_64-linux-gnu/libnss_files.so.2", "usr/lib/libnss_files.so.2", "etc/ld.so.preload"):
        place = root / library
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("/lib/x86_64-linux-gnu/libnss_files.so.2\n")
    (root / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\n")


# name -> what lies above busybox's own layer
LAYERS = {
    "etc-out": link(VICTIM, "etc"),
    "etc-up": link(f"{UP}{VICTIM}", "etc"),
    "dev-out": link(VICTIM, "dev"),
    "proc-out": link(VICTIM, "proc"),
    "sys-out": link(VICTIM, "sys"),
    "hosts-out": link(f"{UP}{VICTIM}/hosts", "etc", "hosts"),
    "resolv-dangling": link(f"{VICTIM}/new/resolv.conf", "etc", "resolv.conf"),
    "volume-out": link(VICTIM, "data"),
    "loop": link("etc", "etc"),
    "loop-of-two": link("../etc/hosts", "etc", "hosts"),
    "fifos": fifos,
    "code": code,
}
# /proc, /sys and /dev must be directories, as runc has it.
REFUSED = {"dev-out", "proc-out", "sys-out", "loop", "loop-of-two"}


def store(host: Machine, name: str, make: Callable[[pathlib.Path], None]) -> None:
    """Put an image into the machine's store: a layer of ours above busybox's."""
    busybox = json.loads(host.path(f"{STORE}/refs/docker.io%2Flibrary%2Fbusybox%3Alatest.json").read_text())
    layer = hashlib.sha256(name.encode()).hexdigest()
    root = host.path(f"{STORE}/layers/{layer}")
    root.mkdir()
    make(root)
    reference = f"hostile.test/{name}:1"
    record = {
        "reference": reference,
        "id": f"sha256:{layer}",
        "layers": [*busybox["layers"], layer],
        "config": busybox["config"],
    }
    host.path(f"{STORE}/refs/{reference.replace('/', '%2F').replace(':', '%3A')}.json").write_text(json.dumps(record))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallLab]:
    """A lab with a pod of each image; the victim is a directory of the machine."""
    with machine() as host:
        host.path(VICTIM).mkdir()
        host.path(f"{VICTIM}/hosts").write_text("precious\n")
        host.path(f"{VICTIM}/secret").write_text("root:x:0:1000\nsecret:x:4711:user\n")
        lab = SmallLab(host, tmp_path_factory.mktemp("lab"), "hostile", manifests=yaml_of([pod("first")]))
        before = host.snapshot()
        lab.up()
        for name, make in LAYERS.items():
            store(host, name, make)
        more = {"imagePullPolicy": "Never", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
        pods = [
            pod(name, image=f"hostile.test/{name}:1", volumes=[{"name": "data", "emptyDir": {}}], **more)
            for name in LAYERS
        ]
        pods[list(LAYERS).index("fifos")]["spec"]["securityContext"] = {"runAsUser": 1000}
        lab.manifest.write_text(yaml_of([pod("first"), *pods]))
        lab.up()
        yield lab
        lab.down()
        snapshot.assert_same(before, host.snapshot())


def assert_victim_untouched(lab: SmallLab) -> None:
    victim = lab.machine.path(VICTIM)
    assert sorted(entry.name for entry in victim.iterdir()) == ["hosts", "secret"]
    assert (victim / "hosts").read_text() == "precious\n"
    assert VICTIM not in lab.machine.path("/proc/1/mountinfo").read_text()


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused(lab: SmallLab, name: str) -> None:
    state = lab.pods()[name]["status"]["containerStatuses"][0]
    last = state.get("lastState", {}).get("terminated") or state["state"].get("terminated", {})
    assert "running" not in state["state"] and last["reason"] == "CreateContainerError", state
    assert_victim_untouched(lab)


@pytest.mark.parametrize("name", sorted(LAYERS.keys() - REFUSED))
def test_confined(lab: SmallLab, name: str) -> None:
    """It runs, every path of it means a place inside, and exec is no other."""
    assert "running" in lab.pods()[name]["status"]["containerStatuses"][0]["state"], lab.pods()[name]["status"]
    assert lab.exec(name, "grep", "-c", name, "/etc/hosts") == "1\n"
    lab.exec(name, "sh", "-c", "echo mine > /data/file; echo more >> /etc/hosts" if name != "fifos" else "true")
    assert_victim_untouched(lab)


def test_what_is_read_of_an_image_is_text_of_its_own(lab: SmallLab) -> None:
    """A FIFO for passwd stops nobody; a link for group shows no file of the machine."""
    said = lab.exec("fifos", "grep", "-E", "^(Uid|Groups):", "/proc/self/status").split()
    assert said == ["Uid:", *["1000"] * 4, "Groups:", "0"]


def test_nothing_of_the_image_is_loaded_by_us(lab: SmallLab) -> None:
    for command in (["id"], ["cat", "/etc/ld.so.preload"]):
        lab.exec("code", *command)
    assert lab.invoke("logs", "code").returncode == 0
    assert_victim_untouched(lab)
