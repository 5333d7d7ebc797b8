"""How volumes are mounted: sub-paths and the attacks on them, read-only mounts, what passes between node and pod."""

from __future__ import annotations

import ctypes
import os
import pathlib
import re
import stat
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from podlab.linux.mountinfo import MountInfo, mounts
from podlab.runtime import paths, pods, subpath
from support import runtime
from support.waiting import until

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]
SLEEP = {"command": ["sleep", "1000"]}
VICTIM = "of the machine\n"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.one_node(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture
def host(tmp_path: pathlib.Path) -> pathlib.Path:
    """A directory of the machine for a hostPath volume, and beside it what nobody may reach: victim/file."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").write_text(VICTIM)
    (tmp_path / "volume").mkdir()
    return tmp_path / "volume"


def exchange(one: pathlib.Path, other: pathlib.Path) -> NoReturn:
    """Let two names change places for ever, or until the parent is gone (renameat2(2), RENAME_EXCHANGE)."""
    parent, names = os.getppid(), (os.fsencode(one), os.fsencode(other))
    rename = ctypes.CDLL(None).renameat2
    while os.getppid() == parent:
        rename(-100, names[0], -100, names[1], 2)
    os._exit(0)


def table(pod: runtime.Pod, name: str = "c0") -> dict[str, MountInfo]:
    return {each.mount_point: each for each in mounts(pod.pid(name))}


def at(path: str, **more: Any) -> dict[str, Any]:
    """A mount of the volume v."""
    return {"name": "v", "mountPath": path, **more}


def with_volume(lab: runtime.Lab, source: dict[str, Any], *containers: dict[str, Any], **changed: Any) -> runtime.Pod:
    planned = lab.pod(*({**SLEEP, **each} for each in containers), volumes=[{"name": "v", **source}])
    return lab.start(planned, **changed)[0]


class TestSubPath:
    """security.md row 26, and what the kubelet makes."""

    def test_what_is_there_is_shown_and_what_is_missing_is_made(self, lab: runtime.Lab) -> None:
        """Each directory on the way has the volume's mode, as far as the umask lets it; the last one exactly."""
        env = [{"name": "NAME", "value": "x"}, {"name": "DEEP", "value": "$(NAME)/y"}]
        first = {"env": env, "volumeMounts": [at("/a", subPath="one/two"), at("/b", subPathExpr="$(DEEP)/$(NAME)")]}
        pod = with_volume(lab, {"emptyDir": {}}, first, {"volumeMounts": [at("/v")]})
        pod.sh("echo 1 > /a/f; echo 2 > /b/f", container="c0")
        assert pod.sh("cat /v/one/two/f /v/x/y/x/f", container="c1") == "1\n2\n"
        assert pod.sh("stat -c %a /v/one/two /v/x/y/x", container="c1") == "777\n777\n"
        pod.delete(0)

    MISSING = {"a variable that is not set": "$(NONE)", "an empty one": "a/$(EMPTY)", "two": "$(NONE)$(EMPTY)"}

    @pytest.mark.parametrize("text", MISSING.values(), ids=MISSING)
    def test_a_variable_without_a_value(self, lab: runtime.Lab, text: str) -> None:
        names = sorted(re.findall(r"\$\((\w+)\)", text))
        mount = {"env": [{"name": "EMPTY", "value": ""}], "volumeMounts": [at("/a", subPathExpr=text)]}
        pod = with_volume(lab, {"emptyDir": {}}, mount)
        message = f"missing value for {', '.join(sorted(names))}"
        waiting = {"reason": "CreateContainerConfigError", "message": message}
        assert pod.container()["state"] == {"waiting": waiting}
        pod.delete(0)

    EXPANDED = {
        "/etc": "error SubPath `/etc` must not be an absolute path",
        "a/../..": "unable to provision SubPath `a/../..`: must not contain '..'",
    }

    @pytest.mark.parametrize("value", EXPANDED)
    def test_a_variable_cannot_lead_out(self, lab: runtime.Lab, value: str) -> None:
        mount = {"env": [{"name": "X", "value": value}], "volumeMounts": [at("/a", subPathExpr="$(X)")]}
        pod = with_volume(lab, {"emptyDir": {}}, mount)
        assert pod.container()["state"]["waiting"]["message"] == self.EXPANDED[value]
        pod.delete(0)

    LINKS = {
        "a link to the root": "/",
        "a link that climbs": "../victim",
        "a link to an absolute path inside": "{host}/inner",
        "a link through /proc": "/proc/1/root",
        "a link that dangles": "../../../none",
    }

    @pytest.mark.parametrize("row", LINKS, ids=str)
    def test_row_26_a_link_out_of_the_volume(self, lab: runtime.Lab, host: pathlib.Path, row: str) -> None:
        (host / "inner").mkdir()
        (host / "x").symlink_to(self.LINKS[row].format(host=host))
        pod = with_volume(lab, {"hostPath": {"path": str(host)}}, {"volumeMounts": [at("/a", subPath="x")]})
        message = 'failed to prepare subPath for volumeMount "v" of container "c0"'
        waiting = {"reason": "CreateContainerConfigError", "message": message}
        assert pod.container()["state"] == {"waiting": waiting}
        assert (host.parent / "victim" / "file").read_text() == VICTIM
        pod.delete(0)

    def test_row_26_a_link_that_stays_inside(self, lab: runtime.Lab, host: pathlib.Path) -> None:
        (host / "inner").mkdir()
        (host / "inner" / "f").write_text("in\n")
        (host / "x").symlink_to("inner")
        mounted = [at("/a", subPath="x"), at("/f", subPath="x/f")]
        pod = with_volume(lab, {"hostPath": {"path": str(host)}}, {"volumeMounts": mounted})
        assert pod.sh("cat /a/f /f") == "in\nin\n"
        pod.delete(0)

    def test_row_26_a_name_that_is_swapped_all_the_time(self, host: pathlib.Path) -> None:
        """A directory and a link out of the volume change places in a loop: never is the other side opened."""
        (host / "x").mkdir()
        (host / "y").symlink_to(host.parent / "victim")
        child = os.fork()
        if child == 0:
            exchange(host / "x", host / "y")
        outcomes = set()
        volume = os.open(host, os.O_RDONLY | os.O_DIRECTORY)
        try:
            inode = {os.stat(host / name, follow_symlinks=True).st_ino for name in ("x", "y")}
            inside = inode - {(host.parent / "victim").stat().st_ino}
            for number in range(200000):
                if number > 2000 and len(outcomes) > 1:
                    break
                try:
                    fd = subpath.open_beneath(volume, "x")
                except OSError:
                    outcomes.add("refused")
                    continue
                outcomes.add("inside" if os.fstat(fd).st_ino in inside else "OUTSIDE")
                os.close(fd)
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)
            os.close(volume)
        assert outcomes == {"inside", "refused"}


def test_row_26_files_of_a_config_map_that_a_container_has_replaced(lab: runtime.Lab, tmp_path: pathlib.Path) -> None:
    """One that may mount makes its volume writable and puts links there: the next update follows none of them."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "a").write_text(VICTIM)
    (victim / "deep").mkdir()
    privileged = {"securityContext": {"privileged": True}, "volumeMounts": [at("/v"), {"name": "h", "mountPath": "/h"}]}
    volumes = [{"name": "v", "configMap": {"name": "m"}}, {"name": "h", "hostPath": {"path": str(tmp_path)}}]
    planned = lab.pod({**SLEEP, **privileged}, volumes=volumes)
    pod = lab.start(planned, sources={"ConfigMap/m": {"data": {"a": "1", "b": "1"}}})[0]
    pod.sh("mount -o remount,rw,bind /v")
    out = str(victim)
    script = f"""
        cd /v; old=$(readlink ..data)
        rm a; ln -s {out}/a a
        rm -r $old/b; ln -s {out}/a $old/b
        ln -s {out} ..data_tmp; ln -s {out} c
        mkdir d; touch d/x
        ln -s {out} ..2000_01_01_00_00_00.123
    """
    pod.sh(script)
    pods.update(lab.name, pod.uid, {"ConfigMap/m": {"data": {key: "2" for key in "abcd"}}})
    until(lambda: pod.sh("cat /v/a /v/b /v/c /v/d") == "2222", "the volume does not follow", 60)
    assert (victim / "a").read_text() == VICTIM and sorted(os.listdir(victim)) == ["a", "deep"]
    pod.delete(0)
    assert (victim / "a").read_text() == VICTIM and sorted(os.listdir(victim)) == ["a", "deep"]


class TestReadOnly:
    """readOnly is of the mount itself; recursiveReadOnly of everything below it."""

    def test_rows(self, lab: runtime.Lab, host: pathlib.Path) -> None:
        (host / "below").mkdir()
        lab.in_node("mount", "-t", "tmpfs", "-o", "nosuid", "tmpfs", str(host / "below"))
        mounted = [
            at("/plain", readOnly=True),
            at("/all", readOnly=True, recursiveReadOnly="Enabled"),
            at("/try", readOnly=True, recursiveReadOnly="IfPossible"),
            at("/none", readOnly=True, recursiveReadOnly="Disabled"),
        ]
        pod = with_volume(lab, {"hostPath": {"path": str(host)}}, {"volumeMounts": mounted})
        found = table(pod)
        words = {
            path: ("ro" in found[path].options, "ro" in found[f"{path}/below"].options)
            for path in ("/plain", "/all", "/try", "/none")
        }
        assert words == {"/plain": (True, False), "/all": (True, True), "/try": (True, True), "/none": (True, False)}
        assert all("nosuid" in found[f"{path}/below"].options for path in words)
        assert "Read-only file system" in pod.exec("touch", "/all/below/x").err
        assert pod.exec("touch", "/plain/below/x").code == 0
        pod.delete(0)
        lab.in_node("umount", str(host / "below"))

    def test_what_the_source_forbids_stays_forbidden(self, lab: runtime.Lab, host: pathlib.Path) -> None:
        lab.in_node("mount", "-t", "tmpfs", "-o", "nosuid,nodev,noexec", "tmpfs", str(host))
        pod = with_volume(lab, {"hostPath": {"path": str(host)}}, {"volumeMounts": [at("/v", readOnly=True), at("/w")]})
        for path in ("/v", "/w"):
            assert {"nosuid", "nodev", "noexec"} <= set(table(pod)[path].options), path
        pod.delete(0)
        lab.in_node("umount", str(host))


class TestPropagation:
    """security.md rows 19 and 20: who sees what is mounted after the start."""

    KINDS = ("None", "HostToContainer", "Bidirectional")
    #: mode: the node's mount is seen inside, the container's is seen on the node
    SEEN = {"None": (False, False), "HostToContainer": (True, False), "Bidirectional": (True, True)}

    def test_matrix(self, lab: runtime.Lab, host: pathlib.Path) -> None:
        for name in ("of-the-node", *self.KINDS):
            (host / name).mkdir()
        boxes = [
            {"securityContext": {"privileged": True}, "volumeMounts": [at("/v", mountPropagation=kind)]}
            for kind in self.KINDS
        ]
        pod = with_volume(lab, {"hostPath": {"path": str(host)}}, *boxes)
        assert pod.said == ""
        lab.in_node("mount", "-t", "tmpfs", "of-the-node", str(host / "of-the-node"))
        for number, kind in enumerate(self.KINDS):
            pod.sh(f"mount -t tmpfs of-{kind} /v/{kind}", container=f"c{number}")
        node = lab.in_node("cat", "/proc/self/mountinfo")
        found = {
            kind: ("/v/of-the-node" in table(pod, f"c{number}"), f" of-{kind} " in node)
            for number, kind in enumerate(self.KINDS)
        }
        assert found == self.SEEN
        kinds = [table(pod, f"c{number}")["/v"].propagation for number in range(3)]
        assert kinds == ["private", "slave", "slave,shared"] or kinds == ["private", "slave", "shared"]
        # Nothing ever gets to the machine.
        assert not [each for each in mounts() if each.mount_point.startswith(str(host))]
        pod.delete(0)
        for name in ("of-the-node", "Bidirectional"):
            lab.in_node("umount", str(host / name))
        assert str(host) not in lab.in_node("cat", "/proc/self/mountinfo")

    @pytest.mark.parametrize("medium", ["", "Memory"])
    def test_from_container_to_container(self, lab: runtime.Lab, medium: str) -> None:
        """By way of an emptyDir: one passes on, another receives, a third keeps to itself."""
        privileged = {"securityContext": {"privileged": True}}
        boxes = [
            {**privileged, "volumeMounts": [at("/v", mountPropagation=kind)]}
            for kind in ("Bidirectional", "HostToContainer", "None")
        ]
        pod = with_volume(lab, {"emptyDir": {"medium": medium}}, *boxes)
        assert pod.said == ""
        pod.sh("mkdir /v/m; mount -t tmpfs of-the-first /v/m; echo 1 > /v/m/f", container="c0")
        assert ["/v/m" in table(pod, name) for name in ("c0", "c1", "c2")] == [True, True, False]
        assert pod.sh("cat /v/m/f", container="c1") == "1\n"
        pod.delete(0)
        assert not os.path.exists(paths.pod_data_dir(lab.name, pod.uid))
        assert "of-the-first" not in lab.in_node("cat", "/proc/self/mountinfo")

    NEEDED = {"HostToContainer": "shared or slave", "Bidirectional": "shared"}

    @pytest.mark.parametrize("kind", NEEDED)
    def test_a_private_mount_passes_nothing_on(self, lab: runtime.Lab, host: pathlib.Path, kind: str) -> None:
        lab.in_node("mount", "-t", "tmpfs", "tmpfs", str(host))
        lab.in_node("mount", "--make-private", str(host))
        box = {"securityContext": {"privileged": True}, "volumeMounts": [at("/v", mountPropagation=kind)]}
        pod = with_volume(lab, {"hostPath": {"path": str(host)}}, box)
        said = f'path "{host}" is mounted on "{host}" but it is not a {self.NEEDED[kind]} mount'
        assert pod.container()["lastState"]["terminated"]["message"] == said
        pod.delete(0)
        lab.in_node("umount", str(host))


def test_the_source_that_was_checked_is_the_one_that_is_bound(lab: runtime.Lab, host: pathlib.Path) -> None:
    """hostPath: links are followed as the kubelet does it, and the type is that of what they lead to."""
    (host / "link").symlink_to(host.parent / "victim")
    volume = {"hostPath": {"path": str(host / "link"), "type": "Directory"}}
    pod = with_volume(lab, volume, {"volumeMounts": [at("/v")]})
    assert pod.sh("cat /v/file") == VICTIM
    pod.delete(0)
    assert (host.parent / "victim" / "file").read_text() == VICTIM


def test_modes_of_what_is_made_for_a_host_path(lab: runtime.Lab, host: pathlib.Path) -> None:
    made = [
        {"name": "d", "hostPath": {"path": str(host / "d/e"), "type": "DirectoryOrCreate"}},
        {"name": "f", "hostPath": {"path": str(host / "f"), "type": "FileOrCreate"}},
    ]
    box = {**SLEEP, "volumeMounts": [{"name": "d", "mountPath": "/d"}, {"name": "f", "mountPath": "/f"}]}
    pod = lab.start(lab.pod(box, volumes=made))[0]
    assert pod.said == ""
    modes = {name: stat.S_IMODE((host / name).stat().st_mode) for name in ("d/e", "f")}
    assert modes == {"d/e": 0o755, "f": 0o644}
    pod.delete(0)


def test_a_removed_pod_leaves_nothing_of_its_volumes(lab: runtime.Lab) -> None:
    secret = {"secret": {"secretName": "s"}}
    pod = with_volume(lab, secret, {"volumeMounts": [at("/v")]}, sources={"Secret/s": {"data": {"a": "MQ=="}}})
    assert pod.sh("cat /v/a") == "1"
    pod.delete(0)
    assert not os.path.exists(paths.pod_data_dir(lab.name, pod.uid)) and not os.path.exists(pod.directory)
    assert pod.uid not in lab.in_node("cat", "/proc/self/mountinfo")
