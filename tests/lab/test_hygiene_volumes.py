"""Data of the machine that pods only borrow: it survives deletion, `down`, and a deletion that is killed half-way."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Iterator

import pytest

from support import snapshot
from support.machine import Machine, kill_with_children, machine
from support.small_lab import SmallLab, pod, yaml_of
from support.waiting import until

pytestmark = pytest.mark.own_machine

# Not in /run, of which a node has its own.
DATA = "/var/lib/podlab/precious"
MOUNT = {
    "volumes": [{"name": "data", "hostPath": {"path": DATA}}, {"name": "scratch", "emptyDir": {"medium": "Memory"}}],
    "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "scratch", "mountPath": "/scratch"}],
}


@pytest.fixture
def host() -> Iterator[Machine]:
    """A machine with something on it."""
    with machine() as made:
        made.path(f"{DATA}/deep/deeper").mkdir(parents=True)
        made.path(f"{DATA}/deep/deeper/file").write_text("kept\n")
        yield made


@pytest.fixture
def lab(host: Machine, tmp_path: pathlib.Path) -> Iterator[SmallLab]:
    """A lab whose pod has the data and writes to it. Afterwards all is there, and nothing more."""
    before = host.snapshot()
    lab = SmallLab(host, tmp_path, "borrow", manifests=yaml_of([pod("borrower", **MOUNT), pod("other")]))
    lab.up()
    assert lab.exec("borrower", "cat", "/data/deep/deeper/file") == "kept\n"
    lab.exec("borrower", "sh", "-c", "echo new > /data/new; echo x > /scratch/x; mkdir -p /data/deep/made")
    yield lab
    lab.down()
    data = host.path(DATA)
    assert (data / "new").read_text() == "new\n"
    assert (data / "deep/deeper/file").read_text() == "kept\n"
    (data / "new").unlink()
    (data / "deep/made").rmdir()
    snapshot.assert_same(before, host.snapshot())


def test_down_leaves_the_data(lab: SmallLab) -> None:
    """What is asserted is asserted after the fixture's `down`."""


def test_delete_leaves_the_data_and_nothing_else(lab: SmallLab) -> None:
    done = lab.invoke("delete", "pod/borrower")
    assert done.returncode == 0, done.text
    assert "borrower" not in lab.pods()
    assert len(lab.there("pods/*")) == 1
    left = [str(path) for path in lab.machine.path("/var/lib/podlab/clusters/borrow").rglob("*borrower*")]
    assert left == []
    links = lab.machine.sh("ip", "-n", "podlab-borrow-control-plane", "-o", "link", "show", "type", "veth")
    assert sum("veth" in line.split()[1] for line in links.splitlines()) == 1, links
    leases = lab.there("nodes/*/cni-ipam-state/kindnet/10.*")
    assert len(leases) == 1, leases


@pytest.mark.parametrize("victim", ["supervisor", "playbook"])
def test_delete_killed_half_way(lab: SmallLab, victim: str) -> None:
    """Killed with the data still mounted somewhere: whoever comes next must not delete through the mount."""
    variables = f'{{"podlab_delete_files": ["{manifest_of_borrower(lab)}"]}}'
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    argv = ("ansible-playbook", "playbooks/lab.yml", "-e", variables)
    lab.manifest.write_text(yaml_of([pod("other")]))
    with lab.machine.popen(*argv, environment=lab.environment, **silent) as process:
        until(lambda: bool(lab.there("pods/*/delete.json")) or process.poll() is not None, "no deletion", 90)
        if victim == "supervisor":
            lab.machine.run(
                "sh",
                "-c",
                # Of whatever hierarchy there is: it is in all of them.
                "kill -KILL $(find /sys/fs/cgroup -path '*/pod*/supervisor/cgroup.procs' -exec cat {} + | sort -u)",
            )
        else:
            kill_with_children(process)
        process.wait(180)
    lab.up()
    until(lambda: len(lab.there("pods/*")) == 1, "the deleted pod stays")


def manifest_of_borrower(lab: SmallLab) -> str:
    file = lab.directory / "borrower.yaml"
    file.write_text(yaml_of([pod("borrower", **MOUNT)]))
    return str(file)


def test_a_mount_below_our_directories_stops_the_deletion(lab: SmallLab) -> None:
    """A bind from the same file system has the same st_dev: only the mount table tells."""
    place = next(lab.machine.path("/var/lib/podlab/clusters/borrow/pods").iterdir()).name
    target = f"/var/lib/podlab/clusters/borrow/pods/{place}/left-over"
    lab.machine.sh("mkdir", target)
    lab.machine.sh("mount", "--bind", DATA, target)
    done = lab.invoke("down")
    assert done.returncode
    assert f"{target} is mounted there. Unmount it first: umount {target}" in done.text
    assert lab.machine.path(f"{DATA}/deep/deeper/file").read_text() == "kept\n"
    lab.machine.sh("umount", target)
