"""Containers that cannot start, and what is said of them; what an image must not be able to do."""

from __future__ import annotations

import copy
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import Any

import pytest

from podlab.linux import cgroup
from podlab.runtime import container as capsule
from podlab.runtime import ipam, paths
from support import runtime

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.used_node(tmp_path_factory.mktemp("lab")) as made:
        made.in_node("mkdir", "-p", "/run/mount")  # of mount(8)
        yield made


@pytest.fixture
def layer(tmp_path: pathlib.Path) -> pathlib.Path:
    """A layer of the test's, on top of busybox's."""
    (tmp_path / "layer").mkdir()
    return tmp_path / "layer"


@pytest.fixture(autouse=True)
def gone(lab: runtime.Lab) -> Iterator[None]:
    with runtime.nothing_left(lab):
        yield


def never(
    lab: runtime.Lab, container: dict[str, Any], layer: pathlib.Path | None = None, **changed: Any
) -> runtime.Pod:
    """A pod with restartPolicy Never."""
    pod = lab.pod(container, restartPolicy="Never", **changed)
    config = lab.config(pod)
    if layer:
        config["containers"][0]["layers"].insert(0, str(layer))
    return lab.start_config(pod, config)


REFUSED = [
    ("no such command", {"command": ["/no/such"]}, "StartError", "No such file or directory"),
    ("none in PATH", {"command": ["no-such"]}, "StartError", "executable file not found in $PATH"),
    ("a directory", {"command": ["/etc"]}, "StartError", "Permission denied"),
    ("not executable", {"command": ["/etc/passwd"]}, "StartError", "Permission denied"),
    ("no command", {"command": [""]}, "StartError", "no command: neither the container nor its image has one"),
    ("no directory", {"command": ["pwd"], "workingDir": "/etc/passwd"}, "CreateContainerError", "Not a directory"),
    ("a leaked directory", {"command": ["pwd"], "workingDir": "/proc/self/fd/9"}, "CreateContainerError", ""),
    (
        "a user out of range",
        {"command": ["id"], "securityContext": {"runAsUser": 4294967295}},
        "CreateContainerError",
        "uids and gids must be in range 0-2147483647, not 4294967295",
    ),
]


def test_a_working_directory_that_the_image_lacks_is_made(lab: runtime.Lab) -> None:
    pod = never(lab, {"command": ["sh", "-c", "pwd; stat -c %u:%a ."], "workingDir": "/new/place"})
    assert pod.ended()["exitCode"] == 0
    assert pod.log() == "/new/place\n0:755\n"


@pytest.mark.parametrize(("_case", "container", "reason", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_cannot_be_started(
    lab: runtime.Lab, _case: str, container: dict[str, Any], reason: str, message: str
) -> None:
    pod = never(lab, container)
    ended = pod.ended()
    assert (ended["exitCode"], ended["reason"]) == (128, reason)
    assert message in ended["message"]
    assert pod.said == f"c0: {reason}: {ended['message']}"
    assert pod.status()["phase"] == "Failed"


def test_one_that_fails_does_not_keep_the_others(lab: runtime.Lab) -> None:
    pod = lab.run_pod({"command": ["/no/such"]}, {"command": ["sleep", "100"]}, restartPolicy="Never")
    assert pod.ended("c0")["reason"] == "StartError"
    assert "running" in pod.container("c1")["state"]
    assert pod.status()["phase"] == "Running"
    # Nor does it leave its cgroup: what cannot start is tried again and again.
    tree = cgroup.detect()
    there = [capsule.container_id(pod.config["uid"], name, 0) for name in ("c0", "c1")]
    assert [tree.exists(pod.lab.cgroup(f"{pod.config['cgroup_parent']}/{one}")) for one in there] == [False, True]


def test_a_bad_layer(lab: runtime.Lab) -> None:
    pod = never(lab, {"command": ["sh"]}, pathlib.Path("/no/such/layer"))
    ended = pod.ended()
    assert (ended["exitCode"], ended["reason"]) == (128, "CreateContainerError")
    assert "overlay" in ended["message"] and "No such file or directory" in ended["message"]


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_an_image_with_links_for_mount_points(lab: runtime.Lab, layer: pathlib.Path, name: str) -> None:
    (layer / name).symlink_to("/etc")
    pod = never(lab, {"command": ["true"]}, layer)
    assert pod.ended()["reason"] == "CreateContainerError"
    assert pod.ended()["message"] == f"/{name} of the image is a symbolic link; it must be a directory"


USERS = [
    ("web", "33 34", "34 77"),
    ("web:extra", "33 77", "77"),
    ("1234", "1234 0", "0"),
    ("1234:5678", "1234 5678", "5678"),
]


@pytest.mark.parametrize(("user", "identity", "groups"), USERS)
def test_the_images_user(lab: runtime.Lab, layer: pathlib.Path, user: str, identity: str, groups: str) -> None:
    (layer / "etc").mkdir()
    (layer / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nweb:x:33:34::/var/www:/bin/sh\n")
    (layer / "etc" / "group").write_text("root:x:0:\nwww:x:34:\nextra:x:77:web\n")
    pod = lab.pod({"command": ["sh", "-c", "echo $(id -u) $(id -g); echo $(id -G); echo $HOME"]}, restartPolicy="Never")
    config = lab.config(pod)
    config["containers"][0]["layers"].insert(0, str(layer))
    config["containers"][0]["user"] = {"name": user, "gid": None, "groups": []}
    made = lab.start_config(pod, config)
    assert made.ended()["exitCode"] == 0
    lines = made.log().splitlines()
    assert (lines[0], " ".join(sorted(lines[1].split(), key=int))) == (identity, groups)
    assert lines[2] == ("/var/www" if user.startswith("web") else "/")


def test_an_images_user_that_is_not_there(lab: runtime.Lab) -> None:
    pod = lab.pod({"command": ["id"]}, restartPolicy="Never")
    config = lab.config(pod)
    config["containers"][0]["user"] = {"name": "nobody-here", "gid": None, "groups": []}
    ended = lab.start_config(pod, config).ended()
    assert ended["message"] == "unable to find user nobody-here: no matching entries in /etc/passwd of the image"


HOST_PATHS = [
    ("", None, ""),
    ("DirectoryOrCreate", None, ""),
    ("FileOrCreate", None, ""),
    ("Directory", None, "is not a Directory"),
    ("File", None, "is not a File"),
    ("Socket", None, "is not a Socket"),
    ("CharDevice", None, "is not a CharDevice"),
    ("BlockDevice", None, "is not a BlockDevice"),
    ("File", "directory", "is not a File"),
    ("Directory", "file", "is not a Directory"),
    ("Directory", "directory", ""),
    ("DirectoryOrCreate", "directory", ""),
    ("FileOrCreate", "file", ""),
    ("DirectoryOrCreate", "file", "is not a Directory"),
    ("FileOrCreate", "directory", "is not a File"),
]


@pytest.mark.parametrize(("kind", "there", "message"), HOST_PATHS, ids=[f"{row[0]}-{row[1]}" for row in HOST_PATHS])
def test_types_of_host_path(
    lab: runtime.Lab, tmp_path: pathlib.Path, kind: str, there: str | None, message: str
) -> None:
    path = tmp_path / "volume"
    if there == "directory":
        path.mkdir()
    elif there == "file":
        path.write_text("")
    volumes = [{"name": "v", "hostPath": {"path": str(path), "type": kind}}]
    pod = never(lab, {"command": ["true"], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}, None, volumes=volumes)
    if not message:
        assert pod.ended()["exitCode"] == 0
        assert path.is_file() == ("File" in kind)
        return
    waiting = pod.container()["state"]["waiting"]
    assert waiting["reason"] == "ContainerCreating"
    assert (
        f'MountVolume.SetUp failed for volume "v" : hostPath type check failed: {path} {message}' in waiting["message"]
    )
    assert pod.status()["phase"] == "Pending"


def test_volumes_in_the_way_of_the_pods_own_files(lab: runtime.Lab, tmp_path: pathlib.Path) -> None:
    """A container that mounts its own /etc/hosts gets that, and not the kubelet's."""
    (tmp_path / "hosts").write_text("own\n")
    volumes = [{"name": "v", "hostPath": {"path": str(tmp_path / "hosts"), "type": "File"}}]
    container = {"command": ["cat", "/etc/hosts"], "volumeMounts": [{"name": "v", "mountPath": "/etc/hosts"}]}
    pod = never(lab, container, None, volumes=volumes)
    assert pod.ended()["exitCode"] == 0 and pod.log() == "own\n"


def test_a_volume_at_dev_is_left_as_it_is(lab: runtime.Lab, tmp_path: pathlib.Path) -> None:
    """containerd makes nothing of its own in it, and mounts nothing of its own below it but the bound files."""
    (tmp_path / "shm").mkdir()
    os.mknod(tmp_path / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    volumes = [{"name": "v", "hostPath": {"path": str(tmp_path)}}]
    mounted = [{"name": "v", "mountPath": "/dev"}]
    pod = never(lab, {"command": ["ls", "/dev"], "volumeMounts": mounted}, None, volumes=volumes)
    assert (pod.said, pod.ended()["exitCode"], pod.log()) == ("", 0, "null\nshm\ntermination-log\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["null", "shm", "termination-log"]


def test_expansion_and_facts(lab: runtime.Lab) -> None:
    env = [
        {"name": "WHO", "value": "$(POD) at $(IP), $$(POD), $(NONE)"},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "AGAIN", "value": "$(POD)/$(IP)"},
    ]
    script = ["sh", "-c", 'echo "$WHO"; echo "$AGAIN"; echo "$0" "$1"', "$(POD)", "$$(POD)"]
    pod = never(lab, {"command": script, "env": env})
    name, address = pod.config["name"], pod.status()["podIP"]
    pod.ended()
    # Earlier entries only: POD and IP come after WHO.
    assert pod.log().splitlines() == ["$(POD) at $(IP), $(POD), $(NONE)", f"{name}/{address}", f"{name} $(POD)"]


def test_no_address_is_left(lab: runtime.Lab) -> None:
    """The node's range is used up: the pod says so, and starts when there is room again."""
    store = paths.ipam_dir(lab.name, lab.record["name"])
    taken = []
    while True:
        try:
            taken.append(ipam.allocate(store, "10.244.0.0/24", "10.244.0.1", "of the test"))
        except Exception:
            break
    pod = lab.run_pod({"command": ["sleep", "100"]})
    waiting = pod.container()["state"]["waiting"]
    assert waiting["reason"] == "ContainerCreating"
    assert waiting["message"].startswith("FailedCreatePodSandBox: No address is free in 10.244.0.0/24: 253 are in use.")
    ipam.release(store, "of the test")
    assert len(taken) == 253


def test_the_config_is_the_starts_alone(lab: runtime.Lab) -> None:
    """Changing the dict after the start changes nothing."""
    pod = lab.pod({"command": ["sleep", "100"]})
    config = lab.config(pod)
    kept = copy.deepcopy(config)
    made = lab.start_config(pod, config)
    config["containers"][0]["command"] = ["false"]
    assert made.status()["phase"] == "Running"
    assert kept["containers"][0]["command"] == ["sleep", "100"]
