"""Rows of the security table that a shell in a running container can try: podlab holds, the naive runtime must not."""

from __future__ import annotations

import fcntl
import os
import pathlib
import pty
import re
import select
import socket
import termios
from collections.abc import Callable, Iterator

import pytest

from podlab.linux import cgroup, syscalls
from podlab.linux.mountinfo import mounts
from podlab.runtime import exec as podlab_exec
from support import attacks, naive, runtime
from support.attacks import Both, Caged
from support.naive import Spec
from support.waiting import until

pytestmark = [pytest.mark.kernel, pytest.mark.own_machine("cgroups")]
SLEEP = ["sleep", "1000"]
SOCKET = "\0podlab-test-of-the-machine"
KEY = "podlab-test-of-the-machine"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Lab]:
    with runtime.one_node(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="module")
def attack(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory of the machine with the helpers, /attack in every container."""
    made = tmp_path_factory.mktemp("attack")
    made.chmod(0o777)
    return attacks.compile_all(made)


@pytest.fixture(scope="module")
def driver() -> Iterator[None]:
    """Who starts the containers has the root open as descriptor 9, a listening socket, a key and a terminal."""
    root = os.open("/", os.O_RDONLY)
    taken = None
    if root != 9:
        taken = os.dup(9) if os.path.exists("/proc/self/fd/9") else None
        os.dup2(root, 9, inheritable=True)
    server, abstract = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
    abstract.bind(SOCKET)
    os.set_inheritable(server.fileno(), True)
    syscalls.join_session_keyring()
    syscalls._syscall("add_key", 248 if os.uname().machine == "x86_64" else 217, b"user", KEY.encode(), b"x", 1, -3)
    yield
    server.close()
    abstract.close()
    if root != 9:
        if taken is None:
            os.close(9)
        else:
            os.dup2(taken, 9)
            os.close(taken)
    os.close(root)


@pytest.fixture(scope="module")
def pod(lab: runtime.Lab, attack: pathlib.Path, driver: None) -> runtime.Pod:
    """c0 plain, c1 with SYS_ADMIN, c2 with SYS_PTRACE."""
    mounted = [{"name": "attack", "mountPath": "/attack"}, {"name": "own", "mountPath": "/own"}]
    containers = [
        {"command": SLEEP, "volumeMounts": mounted, "securityContext": {"capabilities": {"add": list(added)}}}
        for added in ((), ("SYS_ADMIN",), ("SYS_PTRACE",))
    ]
    volumes = [{"name": "attack", "hostPath": {"path": str(attack)}}, {"name": "own"}]
    made = lab.run_pod(*containers, volumes=volumes)
    assert made.said == ""
    return made


@pytest.fixture(scope="module")
def both(lab: runtime.Lab, pod: runtime.Pod, attack: pathlib.Path, driver: None) -> Iterator[Both]:
    """A plain container of podlab's, and a naive one."""
    with attacks.naive_beside(lab) as beside:
        yield Both(Caged(pod), beside.start(Spec(SLEEP, mounts=[(str(attack), "/attack")])))


@pytest.fixture
def admin(both: Both, pod: runtime.Pod) -> Both:
    """The same with CAP_SYS_ADMIN, which the naive one has anyway."""
    return Both(Caged(pod, "c1"), both.naive)


def not_refused(done: dict[str, runtime.Ran], words: str) -> str:
    """What went through, or was refused with other words than these (a regular expression)."""
    held = {name for name, ran in done.items() if ran.code and re.search(words, ran.err)}
    return "; ".join(f"{name}: {ran.code} {ran.out}{ran.err}" for name, ran in done.items() if name not in held)


def test_row_01_leaked_descriptors(both: Both) -> None:
    def verdict(jail: attacks.Jail) -> str:
        first = re.findall(r"(\d+) -> (.*)", jail.exec("ls -l /proc/1/fd").out)
        ours = re.findall(r"(\d+) -> (.*)", jail.exec("ls -l /proc/$$/fd").out)
        known = ("pipe:", "/dev/null", "/dev/pts/")
        return str([fd for fd in first + ours if int(fd[0]) > 2 or not fd[1].startswith(known)] or "")

    both.check(verdict)


def test_row_03_chroot(both: Both) -> None:
    """CAP_SYS_CHROOT is in the default set: only pivot_root holds."""

    def verdict(jail: attacks.Jail) -> str:
        found, inside = jail.exec("mkdir -p /tmp; /attack/esc"), jail.exec("ls /").out.split()
        return "" if found.out.split() == inside else str(found)

    both.check(verdict)


def test_row_04_chroot_by_namespace(admin: Both) -> None:
    def verdict(jail: attacks.Jail) -> str:
        found = jail.exec("nsenter --mount=/proc/self/ns/mnt ls /")
        return "" if found.out.split() == jail.exec("ls /").out.split() else str(found)

    admin.check(verdict)


def test_row_05_user_namespace(both: Both) -> None:
    """The kernel refuses a new one in a chroot: the cheapest sign of a real root."""
    both.check(lambda jail: jail.exec("unshare -Ur true").err)


def test_row_06_old_root(both: Both, attack: pathlib.Path) -> None:
    """No process, mount or directory leads to the machine's files."""

    def verdict(jail: attacks.Jail) -> str:
        script = f"for p in /proc/[0-9]*/root /.old /old_root; do ls $p/{attack} >/dev/null 2>&1 && echo $p; done; true"
        places = jail.exec("cut -d' ' -f4,5 /proc/self/mountinfo").out.splitlines()
        return jail.exec(script).out + "".join(line for line in places if line.split()[1] in ("/.old", "/old_root"))

    both.check(verdict)


class TestExec:
    """Who joins a container is in its reach."""

    def test_row_07_helper_binary(self, both: Both, attack: pathlib.Path) -> None:
        """CVE-2019-5736: a loop reads /proc/*/exe while commands are run; row 9's looks go along."""
        both.check(lambda jail: look(jail, attack))

    def test_row_09_theft_from_the_helper(self, both: Both, pod: runtime.Pod, attack: pathlib.Path) -> None:
        """CVE-2016-9962: with SYS_PTRACE, too, no descriptor of a helper's leads to the machine."""

        def verdict(jail: attacks.Jail) -> str:
            return "".join(line for line in look(jail, attack, "root=1").splitlines() if "root=1" in line)

        Both(Caged(pod, "c2"), both.naive).check(verdict)

    def test_row_10_exec_is_as_start(self, both: Both) -> None:
        """Privileges, limits, namespaces, cgroup, environment and directory of PID 1 and of a command are the same."""
        fields = "Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp|Umask|SigIgn"
        script = (
            f"grep -E '^({fields}):' /proc/PID/status; cat /proc/PID/cgroup /proc/PID/oom_score_adj /proc/PID/limits;"
            " for k in cgroup ipc mnt net pid user uts; do readlink /proc/PID/ns/$k; done; readlink /proc/PID/cwd;"
            " cat /proc/PID/environ | tr '\\0' '\\n' | grep -Ev '^(SHLVL|PWD)=' | sort"
        )

        def verdict(jail: attacks.Jail) -> str:
            # The naive one's PID 1 is no container's: its child is.
            first = "1" if isinstance(jail, Caged) else "2"
            wanted = jail.exec(script.replace("PID", first)).out.splitlines()
            found = jail.exec(script.replace("PID", "self")).out.splitlines()
            assert len(wanted) > 30
            return "\n".join(set(wanted) ^ set(found))

        both.check(verdict)
        assert "SECRET_OF_THE_CALLER" in both.naive.exec("env").out


def look(jail: attacks.Jail, attack: pathlib.Path, word: str = "SEEN") -> str:
    """What the container sees of those who join it: podlab ten times, the naive one as often as it takes."""
    end, log = attack / "end", attack / "seen"
    for file in (end, log):
        file.unlink(missing_ok=True)
    jail.exec(f"/attack/peek /attack/end {attack}/peek > /attack/seen 2>&1 &")
    until(lambda: log.exists() and "ready" in log.read_text(), "the watcher does not begin")
    if isinstance(jail, Caged):
        for _ in range(10):
            jail.exec("true")
    else:
        until(lambda: jail.exec_slowly() is None and word in log.read_text(), "not even the naive one is seen")
    end.touch()
    until(lambda: "done" in log.read_text(), "the watcher does not end")
    return "".join(line for line in log.read_text().splitlines(keepends=True) if line.startswith("SEEN"))


def test_row_14_terminals(both: Both) -> None:
    """/dev/pts is the container's own; /dev/console is no terminal of the machine's."""
    master, slave = pty.openpty()

    def verdict(jail: attacks.Jail) -> str:
        found = jail.exec("ls /dev/pts").out.split()
        console = jail.exec("test -e /dev/console && tty < /dev/console").out
        return "" if (found, console) == (["ptmx"], "") else f"{found} {console}"

    both.check(verdict)
    os.close(master)
    os.close(slave)


def test_row_16_masks_stay(both: Both) -> None:
    """umount, remount, a namespace of one's own, a fresh /proc: each refused, in the kernel's own words."""
    commands = [
        "umount /proc/timer_list",
        "mount -o remount,rw /proc/sys",
        "mkdir -p /tmp/p; mount -t proc none /tmp/p",
        "unshare -Urmpf mount -t proc none /proc",
        "unshare -mpf mount -t proc none /proc",
        "echo 1 > /proc/sys/kernel/panic_on_warn_that_is_not_there",
    ]

    def verdict(jail: attacks.Jail) -> str:
        done = {command: jail.exec(command) for command in commands}
        said = not_refused(done, "ermission denied|not permitted|Read-only|nonexistent")
        locked = jail.exec("unshare -Urm umount /proc/timer_list")
        return said + ("" if "Invalid argument" in locked.err else str(locked))

    both.check(verdict)


def test_row_17_devices(both: Both) -> None:
    if not cgroup.detect().v1:
        pytest.skip("cgroup v2: see test_devices_without_filter")
    command = "mkdir -p /tmp; rm -f /tmp/k; mknod /tmp/k c 1 11 && head -c1 /tmp/k"
    both.check(lambda jail: not_refused({command: jail.exec(command)}, "not permitted"))


def test_row_18_cgroup_escape(both: Both) -> None:
    """A hierarchy of one's own, another cgroup, release_agent: CVE-2022-0492."""
    commands = [
        "mkdir -p /tmp/c; mount -t cgroup -o memory x /tmp/c || mount -t cgroup2 x /tmp/c",
        "unshare -Urm mount -t cgroup -o memory x /tmp/c",
        "set -e; for f in /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do echo 0 > $f; done",
        "set -e; for f in /sys/fs/cgroup/*/notify_on_release /sys/fs/cgroup/*/cgroup.freeze; do echo 0 > $f; done",
    ]
    words = "ermission denied|not permitted|Read-only|nonexistent|Invalid argument"
    both.check(lambda jail: not_refused({command: jail.exec(command) for command in commands}, words))


def test_row_19_propagation_to_the_machine(lab: runtime.Lab, admin: Both, attack: pathlib.Path) -> None:
    """What a container mounts below a directory of the machine stays its own."""
    (attack / "below").mkdir()
    syscalls.mount(str(attack), str(attack), None, syscalls.MS_BIND)
    syscalls.mount(None, str(attack), None, syscalls.MS_SHARED)
    place = f"{attack}/below"

    def verdict(jail: attacks.Jail) -> str:
        ran = jail.exec("mount -t tmpfs of-the-container /attack/below")
        assert ran.code == 0, ran
        everywhere = [str(each) for each in mounts() if each.mount_point == place]
        return "; ".join(everywhere) + "".join(
            line for line in lab.in_node("cat", "/proc/self/mountinfo").splitlines() if f" {place} " in line
        )

    try:
        admin.check(verdict)
    finally:
        while any(each.mount_point.startswith(str(attack)) for each in mounts()):
            deepest = max((each.mount_point for each in mounts() if each.mount_point.startswith(str(attack))), key=len)
            syscalls.umount(deepest, syscalls.MNT_DETACH)


def test_row_30_terminal_injection(both: Both, pod: runtime.Pod) -> None:
    """What a container types must not be read by whoever ran a command in it."""

    def verdict(jail: attacks.Jail) -> str:
        return typed_to_the_caller(lambda: run_with_terminal(jail, "/attack/tiocsti"))

    both.check(verdict)


def run_with_terminal(jail: attacks.Jail, command: str) -> None:
    """In a process whose standard input is a terminal: run the command with one."""
    if isinstance(jail, naive.Jail):
        jail.exec(command, terminal=True)
    else:
        null = os.open("/dev/null", os.O_WRONLY)
        os.dup2(null, 1)
        podlab_exec.exec_in(jail.pod.lab.name, jail.pod.uid, "", [command], stdin=True, terminal=True)


def typed_to_the_caller(body: Callable[[], None]) -> str:
    """Run body in a session with a terminal; return what is to be read there afterwards."""
    master, slave = pty.openpty()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setsid()
            os.close(read)
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            os.dup2(slave, 0)
            body()
            raw = termios.tcgetattr(0)
            raw[3] &= ~(termios.ICANON | termios.ECHO)
            termios.tcsetattr(0, termios.TCSANOW, raw)
            if select.select([0], [], [], 0)[0]:
                os.write(write, os.read(0, 100))
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        found = file.read().decode()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(master)
    os.close(slave)
    return found


def test_row_31_abstract_sockets(both: Both) -> None:
    """CVE-2020-15257: they belong to the network namespace, and pods have one of their own."""
    both.check(lambda jail: jail.exec("grep @ /proc/net/unix").out)


def test_row_35_keys(both: Both) -> None:
    both.check(lambda jail: jail.exec("cat /proc/keys").out)
