"""The images that podlab makes itself, used: in an overlay, chrooted, in namespaces of their own."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from podlab.errors import PodlabError
from podlab.image_plan import Planner, Want
from podlab.kube import dns
from podlab.runtime import image, image_build, image_store, packages, tree
from podlab.runtime.image_recipes import RECIPES, built_in
from support.services import service
from support.waiting import running, until

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not os.path.exists("/bin/busybox"), reason="needs the package busybox-static"),
]

# What a runtime does for a container, as far as these programs need it.
PREPARE = """
ip link set lo up
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mkdir -p "$2/root/proc" "$2/root/dev"
mount -t proc proc "$2/root/proc"
ln -s /proc/self/fd/1 "$2/root/dev/stdout"
ln -s /proc/self/fd/2 "$2/root/dev/stderr"
mknod -m 666 "$2/root/dev/null" c 1 3
mknod -m 666 "$2/root/dev/urandom" c 1 9
echo ready >&2
exec cat
"""


class Container:
    """An image's root in namespaces of its own; pid: a process that holds them."""

    def __init__(self, pid: int, made: image.Image, directory: pathlib.Path) -> None:
        self.pid, self.image, self.root = pid, made, f"{directory}/root"

    def argv(self, *command: str, user: str = "0:0") -> list[str]:
        environment = ["env", "-i", *self.image.config["Env"]]
        chroot = ["chroot", f"--userspec={user}", "--groups=", self.root]
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "-i", "-u", *chroot, *environment, *command]

    def run(self, *command: str, check: bool = True, text: str = "") -> str:
        done = subprocess.run(self.argv(*command), input=text, capture_output=True, text=True, check=False, timeout=30)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def listens(self, port: int) -> bool:
        lines = pathlib.Path(f"/proc/{self.pid}/net/tcp").read_text().splitlines()[1:]
        return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in lines)


@pytest.fixture
def container(podlab_roots: pathlib.Path, tmp_path: pathlib.Path) -> Iterator[Callable[..., Container]]:
    """container(reference) -> a Container of that image, built if need be."""
    with contextlib.ExitStack() as stack:

        def start(reference: str, like: Container | None = None) -> Container:
            recipe = built_in(reference)
            assert recipe is not None
            if recipe.repository.endswith("nginx"):
                needs_mirror()
            with image_store.locked():
                image_build.build(recipe, image.normalise(reference))
            made = image.find(reference)
            assert made is not None
            directory = tmp_path / f"container{len(os.listdir(tmp_path))}"
            for name in ("root", "upper", "work"):
                (directory / name).mkdir(parents=True)
            join = ["unshare", "-n"] if like is None else ["nsenter", "-t", str(like.pid), "-n"]
            argv = [
                *join,
                "unshare",
                "-miu",
                "sh",
                "-ec",
                PREPARE,
                "sh",
                ":".join(reversed(made.layers)),
                str(directory),
            ]
            holder = stack.enter_context(running(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            assert holder.stderr is not None and holder.stderr.readline() == "ready\n"
            return Container(holder.pid, made, directory)

        yield start


def needs_mirror() -> None:
    if shutil.which("apt-get") is None or not packages.candidate_versions(["nginx"])["nginx"]:
        pytest.skip("downloads nginx: needs apt with package lists")


def test_busybox_has_what_a_shell_needs(container: Callable[..., Container]) -> None:
    busybox = container("busybox")
    assert busybox.run(
        "sh", "-c", "echo $PATH; id -un; id -gn; ls -ld /tmp | cut -c1-10; /usr/bin/env true && echo env"
    ) == ("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nroot\nroot\ndrwxrwxrwt\nenv\n")
    applets = set(busybox.run("ls", "/bin").split())
    assert (
        {"sh", "ls", "wget", "nslookup", "httpd", "nc", "ip", "ps", "["} <= applets == set(tree.applets("/bin/busybox"))
    )
    assert busybox.run("ls", "/") == "bin\ndev\netc\nhome\nproc\nroot\nrun\ntmp\nusr\nvar\n"
    assert busybox.image.config["Cmd"] == ["sh"]


def test_busybox_finds_names_over_dns_with_the_search_path(container: Callable[..., Container]) -> None:
    """busybox-static is static glibc: its getaddrinfo(3) must ask the servers of resolv.conf, without any library."""
    busybox = container("busybox")
    server = container("docker.io/podlab/dns", busybox)
    records = dns.document([service("web", "127.0.0.1")], [], "cluster.local")
    server.run("sh", "-c", "cat >/records.json", text=records)
    resolv = "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 127.0.0.1\noptions ndots:5\n"
    busybox.run("sh", "-c", "cat >/etc/resolv.conf", text=resolv)
    busybox.run("sh", "-c", "mkdir -p /www; echo found me >/www/index.html")
    entry = (*server.image.config["Entrypoint"], "--records=/records.json")
    # As a pod has it: a port below 1024 for anyone, and nobody in particular to bind it.
    busybox.run("sh", "-c", "echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start")
    with (
        running(server.argv(*entry, user=server.image.config["User"])) as process,
        running(busybox.argv("httpd", "-f", "-p", "127.0.0.1:80", "-h", "/www")),
    ):
        assert process.stderr is not None
        assert process.stderr.readline() == "answering on port 53; names of others: refused\n"
        until(lambda: busybox.listens(80), "httpd does not listen")
        for name in ("web", "web.default", "web.default.svc", "web.default.svc.cluster.local"):
            assert busybox.run("wget", "-qO-", f"http://{name}") == "found me\n"
        assert "Address: 127.0.0.1" in busybox.run("nslookup", "web.default.svc.cluster.local")
        missing = subprocess.run(
            busybox.argv("wget", "-qO-", "http://nothing"), capture_output=True, text=True, check=False
        )
        assert missing.returncode == 1 and "bad address" in missing.stderr


def test_nginx_serves_and_logs_to_its_standard_streams(container: Callable[..., Container]) -> None:
    nginx = container("nginx")
    with running(nginx.argv(*nginx.image.config["Cmd"]), stdout=subprocess.PIPE) as process:
        until(lambda: nginx.listens(80) or process.poll() is not None, "nginx does not listen")
        assert "<title>Welcome to nginx!</title>" in nginx.run("wget", "-qO-", "http://127.0.0.1/")
        assert (
            "404"
            in subprocess.run(
                nginx.argv("wget", "-qO-", "http://127.0.0.1/none"), capture_output=True, text=True, check=False
            ).stderr
        )
        assert process.stdout is not None and process.stderr is not None
        assert '"GET / HTTP/1.1" 200' in process.stdout.readline()
        assert "/none" in process.stderr.readline()
        assert nginx.run("ps", "-o", "user,comm").count("nginx") >= 2
        assert "www-data" in nginx.run("ps", "-o", "user,comm")
        nginx.run("sh", "-c", "kill -QUIT $(cat /run/nginx.pid)")
        assert process.wait(timeout=10) == 0
    assert nginx.image.config["StopSignal"] == "SIGQUIT"
    assert not os.path.exists("/usr/sbin/nginx"), "the package must not be installed for this"


def test_pause_image_is_the_pause_binary(podlab_roots: pathlib.Path, run_module: Callable[..., dict[str, Any]]) -> None:
    made = run_module("podlab_image", {"images": [{"reference": "registry.k8s.io/pause:3.10.2"}]})
    (layer,) = made["images"]["registry.k8s.io/pause:3.10.2"]["layers"]
    assert os.listdir(layer) == ["pause"]
    assert subprocess.run([f"{layer}/pause", "-v"], check=True, capture_output=True).stdout == b"pause.c 3.10.2\n"


def test_check_mode_and_real_run_say_the_same(
    podlab_roots: pathlib.Path, run_module: Callable[..., dict[str, Any]]
) -> None:
    wanted = {"images": [{"reference": "busybox"}, {"reference": "docker.io/podlab/dns"}]}
    checked = run_module("podlab_image", wanted, check=True)
    assert not (podlab_roots / "lib").exists()
    assert checked["images"]["busybox"]["layers"] == [image_store.layer_dir("unbuilt")]
    assert checked["images"]["busybox"]["config"]["Cmd"] == ["sh"]
    made = run_module("podlab_image", wanted)
    for key in ("changed", "commands", "results"):
        assert checked[key] == made[key]
    below, both = (made["images"][name]["layers"] for name in ("busybox", "docker.io/podlab/dns"))
    assert both[:1] == below and len(both) == 2
    again = run_module("podlab_image", wanted, diff=True)
    assert (again["changed"], again["commands"], again["diff"]) == (False, [], [])
    assert again["images"] == made["images"]


def test_an_image_is_made_again_when_its_source_changed(
    podlab_roots: pathlib.Path, monkeypatch: pytest.MonkeyPatch, run_module: Callable[..., dict[str, Any]]
) -> None:
    planner = Planner([Want("busybox", "IfNotPresent", "present")])
    planner.apply(planner.plan())
    assert planner.plan()[0].steps == []
    real = tree.stat_marks
    monkeypatch.setattr(tree, "stat_marks", lambda paths: {path: [1, *mark[1:]] for path, mark in real(paths).items()})
    (step,) = planner.plan()[0].steps
    assert (step.kind, step.why.endswith("busybox changed")) == ("image.build", True)
    monkeypatch.undo()


def test_the_same_sources_make_the_same_layers(podlab_roots: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPES[0]
    umask = os.umask(0o077)
    try:
        with image_store.locked():
            first = image_build.build(recipe, "one")
    finally:
        os.umask(umask)
    shutil.rmtree(image_store.layer_dir(first["layers"][0]))
    with image_store.locked():
        assert image_build.build(recipe, "one") == first
    assert image_store.tree_digest(image_store.layer_dir(first["layers"][0])) == first["layers"][0]


def test_a_mirror_that_fails_is_said(
    podlab_roots: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    run_module: Callable[..., dict[str, Any]],
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "apt-get").write_text("#!/bin/sh\necho 'E: Unable to locate package nginx' >&2; exit 100\n")
    (programs / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    failed = run_module("podlab_image", {"images": [{"reference": "nginx", "policy": "IfNotPresent"}]})
    assert failed["failed"]
    assert "Cannot get the packages nginx, nginx-common: Unable to locate package nginx" in failed["msg"]
    assert "Run apt-get update" in failed["msg"]
    assert image.find("nginx") is None


def test_a_damaged_record_counts_as_no_image(podlab_roots: pathlib.Path) -> None:
    with image_store.locked():
        record = image_build.build(RECIPES[0], image.normalise("busybox"))
    file = pathlib.Path(image_store.ref_file(image.normalise("busybox")))
    file.write_text(json.dumps({**record, "layers": ["0" * 64]}))
    assert image.find("busybox") is None
    file.write_text(file.read_text()[:20])
    assert image.find("busybox") is None
    assert image_store.records() == {}


def test_one_writer_waits_for_the_other(podlab_roots: pathlib.Path) -> None:
    read, write = os.pipe()
    with image_store.locked():
        pid = os.fork()
        if pid == 0:
            image_store._held = False
            os.write(write, b"t")
            with image_store.locked():
                os._exit(0 if os.path.exists(f"{image_store.images_dir()}/marker") else 1)
        os.read(read, 1)
        until(lambda: waits_for_a_lock(pid), "the other does not wait")
        pathlib.Path(f"{image_store.images_dir()}/marker").touch()
    os.close(read)
    os.close(write)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def waits_for_a_lock(pid: int) -> bool:
    """By proc_locks(5): "1: -> FLOCK ADVISORY WRITE PID ..."."""
    lines = [line.split() for line in pathlib.Path("/proc/locks").read_text().splitlines()]
    return any(fields[1:3] == ["->", "FLOCK"] and fields[5] == str(pid) for fields in lines)


def test_libraries_that_nobody_has_are_named(podlab_roots: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(PodlabError, match="/usr/bin/no-such-program"):
        tree.put_binaries(str(tmp_path), ["/usr/bin/no-such-program"])
