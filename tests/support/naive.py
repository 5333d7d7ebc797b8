"""A container runtime as one writes it on a first afternoon. Every test of the security table must find it broken.

It chroots, masks nothing, keeps every capability and descriptor, follows strings where the container has a say, and
joins like `nsenter`. Only for throw-away machines (support.own_machine): what it breaks is theirs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import pwd
import select
import signal
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import jinja2
import yaml

from podlab.linux import process, syscalls
from support.runtime import SECONDS, Ran

# Longer than a container needs to look through /proc once.
WORK_SECONDS = 0.05
DEVICES = (("null", 1, 3), ("zero", 1, 5), ("random", 1, 8), ("tty", 5, 0))


class Refused(Exception):
    """The container could not be started."""


class Spec(NamedTuple):
    """What to run; the same for every runtime under test."""

    command: Sequence[str]
    layers: Sequence[str] = ()  # on top of busybox's, the uppermost first
    mounts: Sequence[tuple[str, str]] = ()  # (path of the machine, path in the container)
    cwd: str = "/"
    user: str = ""  # as an image's config has it
    memory: int = 0  # limit in bytes


class Naive:
    """The runtime. directory: where its containers are, on a file system that can be an overlay's."""

    def __init__(self, directory: pathlib.Path, layers: Sequence[str]) -> None:
        self.directory, self.layers = directory, list(layers)
        self.made: list[Jail] = []

    def start(self, spec: Spec) -> Jail:
        """Start a container. Raises Refused."""
        base = self.directory / f"j{len(self.made)}"
        for name in ("upper", "work", "root"):
            (base / name).mkdir(parents=True)
        # A descriptor of the machine that nobody closes: the state directory's, or the caller's.
        leaked = os.open("/", os.O_RDONLY)
        os.set_inheritable(leaked, True)
        read, write = os.pipe()
        output = os.open(base / "log", os.O_RDWR | os.O_CREAT, 0o644)
        outer = os.fork()
        if outer == 0:
            _in_child(write, lambda: _outer(base, [*spec.layers, *self.layers], spec, output, write))
        os.close(write)
        os.close(leaked)
        os.close(output)
        with os.fdopen(read, "rb") as file:
            said = file.read().decode()
        jail = Jail(base, outer)
        self.made.append(jail)
        if said:
            jail.delete()
            raise Refused(said)
        return jail

    def outputs(self, specs: Sequence[Spec]) -> list[str]:
        """What each has written when it has ended, "" of one that could not start."""
        said = []
        for spec in specs:
            try:
                said.append(self.start(spec).output())
            except Refused:
                said.append("")
        return said

    def close(self) -> None:
        """Take away what the containers have left, which is a lot."""
        for jail in self.made:
            jail.delete()
            with contextlib.suppress(OSError):
                syscalls.umount(str(jail.base / "root"), syscalls.MNT_DETACH)


class Jail:
    """A container of the naive runtime."""

    def __init__(self, base: pathlib.Path, outer: int) -> None:
        self.base, self.outer, self.code = base, outer, -1

    @property
    def root(self) -> str:
        return f"{self.base}/root"

    @property
    def first(self) -> int:
        """The container's process; its parent is PID 1 of the namespace, and in the machine's root."""
        (init,) = process.children(self.outer)
        return process.children(init)[0]

    def exec(self, script: str, terminal: bool = False) -> Ran:
        """`nsenter` into it, with whatever the caller has."""
        leaked = os.open("/", os.O_RDONLY)
        namespaces = ["-m", "-p", "-u", "-i"]
        argv = ["nsenter", "-t", str(self.first), *namespaces, "-r", "-w", "--", "/bin/sh", "-c", script]
        given = {**os.environ, "SECRET_OF_THE_CALLER": "1"}
        try:
            if terminal:
                done = subprocess.run(
                    argv, env=given, stdin=0, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True
                )
                return Ran(done.returncode, done.stdout, "")
            done = subprocess.run(
                argv,
                env=given,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                pass_fds=(leaked,),
                timeout=SECONDS,
                check=False,
            )
        finally:
            os.close(leaked)
        return Ran(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))

    def exec_slowly(self) -> None:
        """Join it as an interpreter does: with work left to do where the container sees it."""
        leaked = os.open("/", os.O_RDONLY)
        joiner = os.fork()
        if joiner == 0:
            for kind in ("uts", "ipc", "pid", "mnt"):
                syscalls.setns(os.open(f"/proc/{self.first}/ns/{kind}", os.O_RDONLY), syscalls.NAMESPACES[kind])
            child = os.fork()
            if child == 0:
                select.select([], [], [], WORK_SECONDS)
                os._exit(0)
            os.waitpid(child, 0)
            os._exit(0)
        os.close(leaked)
        os.waitpid(joiner, 0)

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        if self.code < 0:
            fd = syscalls.pidfd_open(self.outer)
            try:
                assert select.select([fd], [], [], SECONDS)[0]
            finally:
                os.close(fd)
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.outer, 0)[1])
        return self.code

    def output(self) -> str:
        """What it has written, when it has ended."""
        self.wait()
        return (self.base / "log").read_text(errors="replace")

    def termination_message(self) -> str:
        """Read by name, through whatever the container has put there."""
        return pathlib.Path(f"{self.root}/dev/termination-log").read_text(errors="replace")

    def delete(self) -> None:
        """Kill the first process and hope for the rest: mounts, cgroups and directories stay."""
        if self.code < 0:
            for pid in process.children(self.outer):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.wait()


def _in_child(report: int, body: Any) -> NoReturn:
    try:
        body()
    except BaseException as error:
        os.write(report, (str(error) or repr(error)).encode())
    os._exit(125)


def _outer(base: pathlib.Path, layers: Sequence[str], spec: Spec, output: int, report: int) -> NoReturn:
    # What is shared stays shared: whatever is mounted from now on is mounted on the machine, too.
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC)
    init = os.fork()
    if init == 0:
        _in_child(report, lambda: _init(base, layers, spec, output, report))
    os.close(report)
    os._exit(_code(os.waitpid(init, 0)[1]))


def _code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _init(base: pathlib.Path, layers: Sequence[str], spec: Spec, output: int, report: int) -> NoReturn:
    root = f"{base}/root"
    options = f"lowerdir={':'.join(layers)},upperdir={base}/upper,workdir={base}/work"
    syscalls.mount("overlay", root, "overlay", 0, options)
    _fill(root)
    for source, target in spec.mounts:
        os.makedirs(root + target, exist_ok=True)
        syscalls.mount(source, root + target, None, syscalls.MS_BIND)
    container = os.fork()
    if container == 0:
        _in_child(report, lambda: _become(root, spec, output))
    os.close(report)
    os._exit(_code(os.waitpid(container, 0)[1]))


def _fill(root: str) -> None:
    """Files and file systems at the places that their names lead to."""
    for name in ("proc", "sys", "dev", "etc", "tmp"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    with open(f"{root}/etc/hosts", "w", encoding="utf-8") as file:
        file.write("127.0.0.1 localhost\n")
    syscalls.mount("proc", f"{root}/proc", "proc")
    syscalls.mount("sysfs", f"{root}/sys", "sysfs")
    syscalls.mount("tmpfs", f"{root}/dev", "tmpfs")
    for name, major, minor in DEVICES:
        os.mknod(f"{root}/dev/{name}", 0o666 | 0o020000, os.makedev(major, minor))
    for name in ("pts", "shm"):
        os.mkdir(f"{root}/dev/{name}")
    syscalls.mount("/dev/pts", f"{root}/dev/pts", None, syscalls.MS_BIND)
    os.close(os.open(f"{root}/dev/termination-log", os.O_CREAT | os.O_WRONLY, 0o666))


def _become(root: str, spec: Spec, output: int) -> NoReturn:
    for number in (1, 2):
        os.dup2(output, number)
    os.chroot(root)
    os.chdir(spec.cwd)
    # Looked up with the image's libraries; and the first module that is wanted comes from the image, too.
    with contextlib.suppress(KeyError, ImportError):
        pwd.getpwnam("nobody")
        import colorsys  # noqa: F401
    if spec.user:
        os.setuid(number_of(spec.user))
    os.execvp(spec.command[0], list(spec.command))


def number_of(user: str) -> int:
    """A user's number as atoi(3) reads it: as much as looks like one, and 32 bits of that."""
    digits = user.split(":")[0]
    try:
        return ctypes.c_uint32(int(digits)).value
    except ValueError:
        return 0


def unpack(file: str, directory: str) -> None:
    """A layer, by the names that its entries have."""
    with tarfile.open(file) as archive:
        for member in archive:
            target = f"{directory}/{member.name}"
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if member.isdir():
                os.makedirs(target, exist_ok=True)
            elif member.issym():
                os.symlink(member.linkname, target)
            elif member.islnk():
                os.link(
                    member.linkname if member.linkname.startswith("/") else f"{directory}/{member.linkname}", target
                )
            elif member.isdev():
                os.mknod(target, member.mode | 0o020000, os.makedev(member.devmajor, member.devminor))
            else:
                pathlib.Path(target).write_bytes(archive.extractfile(member).read())  # type: ignore[union-attr]


def read_manifest(text: str) -> Any:
    """A manifest as a template, and then as any YAML that there is."""
    return yaml.unsafe_load(jinja2.Template(text).render(lookup=lambda _, command: subprocess.getoutput(command)))


def run_labels(config: Mapping[str, Any]) -> None:
    """Hooks that an image asks for in its labels."""
    subprocess.run(["sh", "-c", config.get("Labels", {}).get("podlab.hook", "true")], check=True)


def remove(directory: str) -> None:
    """rm -r, wherever that leads; what is on another file system stays."""
    subprocess.run(["rm", "-rf", "--one-file-system", directory], check=False, capture_output=True)


def signal_recorded(file: pathlib.Path, number: int) -> None:
    """End the process whose number was once written down."""
    os.kill(int(file.read_text()), number)
