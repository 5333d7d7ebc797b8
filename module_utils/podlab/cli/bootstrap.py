# SPDX-License-Identifier: Apache-2.0
"""./lab TASK...: install what is missing, make .venv from requirements.lock once, then run invoke TASK...

Standard library of Python 3.9 only, and run by its path: nothing of podlab can be imported before there is a .venv.
What only the first run needs is imported where it is used, so that every later run is through in milliseconds.
"""

from __future__ import annotations

import os
import sys
from typing import Callable, NamedTuple, NoReturn

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.realpath(__file__)), *[os.pardir] * 3))
VENV = os.path.join(ROOT, ".venv")
LOCK = os.path.join(ROOT, "requirements.lock")
# Written last: a .venv without it is half made. It says what the .venv was made of.
STAMP = os.path.join(VENV, "podlab.stamp")
# ansible-core 2.19 runs on nothing older (its targets may).
OLDEST = (3, 11)
# Not on a user's PATH, but where half of what is looked for is.
SYSTEM_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin")
DNSLIB = ("/usr/lib/python3/dist-packages/dnslib",)
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000


def say(text: str) -> None:
    """Tell the user, apart from the task's own output."""
    print(f"podlab: {text}", file=sys.stderr, flush=True)


def stop(text: str) -> NoReturn:
    """End with one message."""
    say(text)
    sys.exit(1)


def program(*names: str) -> str | None:
    """Path of the first program of these names that is there."""
    for directory in (*os.environ.get("PATH", "").split(os.pathsep), *SYSTEM_PATH):
        for name in names:
            path = os.path.join(directory, name)
            if directory and os.access(path, os.X_OK) and not os.path.isdir(path):
                return path
    return None


class Need(NamedTuple):
    """A package, what is probed for, and why podlab needs it.

    service: what the package would start at boot; podlab runs its own and leaves that one off.
    """

    package: str
    found: Callable[[], str | None]
    why: str
    service: str = ""


BASE = (
    Need("iproute2", lambda: program("ip"), "ip: the commands that podlab shows for every link, address and route"),
    Need("iptables", lambda: program("iptables-restore"), "iptables-restore: Services are its rules"),
    Need(
        "nftables", lambda: program("nft"), "nft: Services are its rules where kubeProxyMode is nftables; trace asks it"
    ),
    Need("util-linux", lambda: program("nsenter"), "nsenter, unshare: the way into a node and a pod"),
    Need("mount", lambda: program("mount"), "mount, losetup: what a Kubernetes node must have"),
    Need("busybox-static", lambda: program("busybox"), "busybox: the image of that name is made from it"),
    Need("python3-dnslib", lambda: next(filter(os.path.exists, DNSLIB), None), "dnslib: the lab's DNS server needs it"),
    Need("gcc", lambda: program("cc", "gcc", "tcc", "clang", "catatonit"), "gcc: builds the pause program"),
)
TCPDUMP = Need("tcpdump", lambda: program("tcpdump"), "tcpdump: shows packets")
LESSONS = (
    Need("iputils-ping", lambda: program("ping"), "ping: lessons prove with it that pods reach each other"),
    Need("procps", lambda: program("ps"), "ps, sysctl: lessons look at processes and settings"),
    Need("conntrack", lambda: program("conntrack"), "conntrack: lessons and tests look at translated connections"),
    Need("bind9-dnsutils", lambda: program("dig"), "dig: lessons and tests ask the lab's DNS server"),
    TCPDUMP,
)
TESTS = (
    *LESSONS,
    Need("catatonit", lambda: program("catatonit"), "catatonit: tests make pods as on a machine without a C compiler"),
    Need("skopeo", lambda: program("skopeo"), "skopeo: tests pull an image"),
    Need("runc", lambda: program("runc"), "runc: tests hold what a container sees against what it has there"),
    Need(
        "docker-registry", lambda: program("docker-registry"), "docker-registry: tests pull from it", "docker-registry"
    ),
)
APT_ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "APT_LISTCHANGES_FRONTEND": "none",
    "NEEDRESTART_SUSPEND": "1",
    "RUNLEVEL": "1",
    "PREVLEVEL": "N",
}
# What single commands need beyond BASE.
COMMANDS = {"capture": (TCPDUMP,)}
# Tasks that look at text only: they work for any user, on any machine with the right Python.
NO_PACKAGES = ("", "validate", "rules", "lint")


def needs_of(task: str) -> tuple[Need, ...]:
    """What the machine must have for a task (the first word after ./lab that is no option)."""
    if task in NO_PACKAGES:
        return ()
    if task.startswith("demo") or task == "bench":
        return (*BASE, *LESSONS)
    return (*BASE, *TESTS) if task.startswith("test") else (*BASE, *COMMANDS.get(task, ()))


def install(missing: list[Need]) -> None:
    """Install packages, or say in one message which ones and how. Nothing else of the machine changes."""
    names = [need.package for need in missing]
    reasons = "\n".join(f"  {need.package:<16} {need.why}" for need in missing)
    command = f"apt-get update && apt-get install -y --no-install-recommends {' '.join(names)}"
    apt = program("apt-get")
    if apt is None:
        stop(
            "this system has no apt-get, so podlab cannot install what is missing.\n"
            f"Install what holds these programs (the names are Debian's), then run ./lab again:\n{reasons}"
        )
    if os.geteuid() != 0:
        stop(f"not root, so podlab cannot install what is missing:\n{reasons}\nRun as root:\n  {command}")
    say(f"installing packages that are missing:\n{reasons}")
    # Lists that cannot be refreshed (one dead source among many) may still be good enough.
    run_apt(apt, ["update", "-q"], fatal=False)
    run_apt(apt, ["install", "-y", "-q", "--no-install-recommends", *names], fatal=True)
    for need in missing:
        if need.service:
            leave_off(need.service)


def leave_off(service: str) -> None:
    """Keep a service from starting at boot: with systemd, with System V init, also where neither runs now."""
    for command in (["deb-systemd-helper", "disable", f"{service}.service"], ["update-rc.d", service, "disable"]):
        path = program(command[0])
        if path:
            run([path, *command[1:]])


def run_apt(apt: str, args: list[str], fatal: bool) -> None:
    """apt-get without questions, and without a service of a new package being started.

    Package scripts start services when /run/systemd/system is there, or through invoke-rc.d, which looks at the
    run level. In a mount namespace of its own the first is hidden; nothing is left behind, whatever happens.
    """
    command = [apt, "-o", "DPkg::Lock::Timeout=300", *args]
    status, output = run(command, env={**os.environ, **APT_ENVIRONMENT}, before=hide_systemd)
    if status != 0:
        text = f"apt-get {args[0]} failed:\n{tail(output)}"
        if fatal:
            stop(f"{text}\nMend it, or install the packages by hand, then run ./lab again.")
        say(text)


def hide_systemd() -> None:
    """Leave for a mount namespace of our own, in which systemd does not seem to run (unshare(2), mount(2)).

    Where that is not allowed nothing is hidden: a new package's service may then start, as it does for anyone.
    """
    import ctypes

    libc = ctypes.CDLL(None)
    if os.path.isdir("/run/systemd/system") and libc.unshare(CLONE_NEWNS) == 0:
        libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)
        libc.mount(b"podlab", b"/run/systemd", b"tmpfs", ctypes.c_ulong(0), None)


def run(
    command: list[str],
    env: dict[str, str] | None = None,
    hold: tuple[int, ...] = (),
    before: Callable[[], None] | None = None,
) -> tuple[int, str]:
    """Run a command without input; its status and what it printed.

    hold: descriptors that it keeps open. before: called in the child, before the command takes over.
    """
    import subprocess

    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=env,
        pass_fds=hold,
        preexec_fn=before,
        check=False,
    )
    return done.returncode, done.stdout.decode(errors="replace")


def tail(text: str) -> str:
    """The last lines, indented: where programs say what went wrong."""
    return "\n".join(f"  {line}" for line in text.splitlines()[-15:])


class Python(NamedTuple):
    """An interpreter that .venv could be made with."""

    path: str
    version: tuple[int, int]
    can_make_venv: bool


def read(path: str) -> str:
    """Text of a file, empty when there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def stamp() -> str:
    """What .venv must have been made of: this place (scripts in it name it) and this lock."""
    return f"{ROOT}\n{read(LOCK)}"


def venv_is_good() -> bool:
    """True when .venv was made here from this lock, to the end, and its interpreter is still there."""
    return read(STAMP) == stamp() and os.access(os.path.join(VENV, "bin", "python"), os.X_OK)


def pythons() -> list[Python]:
    """The interpreters of this machine, the system's first. PODLAB_PYTHON names the one to take."""
    wanted = os.environ.get("PODLAB_PYTHON")
    newer = [program(f"python3.{minor}") for minor in (13, 12, 11)]
    paths = [wanted] if wanted else ["/usr/bin/python3", sys.executable, program("python3"), *newer]
    probe = (
        "import sys, importlib.util as u; print(*sys.version_info[:2], all(map(u.find_spec, ('venv', 'ensurepip'))))"
    )
    found = []
    for path in dict.fromkeys(filter(None, paths)):
        if os.access(path, os.X_OK):
            status, output = run([path, "-I", "-c", probe])
            words = output.split()
            if status == 0 and len(words) == 3:
                found.append(Python(path, (int(words[0]), int(words[1])), words[2] == "True"))
    return found


def choose_python() -> Python:
    """The interpreter to make .venv with: one that is new enough, best one that is complete."""
    found = pythons()
    good = [python for python in found if python.version >= OLDEST]
    if not good:
        seen = ", ".join(f"{python.path} is {python.version[0]}.{python.version[1]}" for python in found) or "none"
        wanted = f"{OLDEST[0]}.{OLDEST[1]}"
        stop(
            f"ansible-core needs Python {wanted} or newer on this machine; here: {seen}.\n"
            f"Ubuntu 22.04:  apt-get install python{wanted} python{wanted}-venv\n"
            "Debian 11:     upgrade to Debian 12, which has 3.11\n"
            "Or set PODLAB_PYTHON to the path of a newer python3."
        )
    return next((python for python in good if python.can_make_venv), good[0])


def make_venv(python: Python) -> None:
    """Make .venv from the lock, from nothing: an interrupted one is thrown away, and stamped last."""
    import fcntl

    if not os.access(ROOT, os.W_OK):
        stop(f"cannot make .venv: {ROOT} belongs to another user. Run ./lab there once as that user, or use a clone.")
    # The lock is on the directory itself, so no file of it stays behind. What works on .venv keeps the descriptor:
    # when this process is killed, the next one waits until that has ended, too.
    directory = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another ./lab makes .venv; waiting for it")
        fcntl.flock(directory, fcntl.LOCK_EX)
    try:
        if venv_is_good():
            return
        if os.path.lexists(VENV) and read(STAMP):
            say("requirements.lock has changed, or the directory was moved: making .venv again")
        say(f"making .venv with {python.path} ({python.version[0]}.{python.version[1]}), once, half a minute or so")
        remove_venv()
        status, output = run([python.path, "-I", "-m", "venv", VENV], hold=(directory,))
        if status != 0:
            stop(f"cannot make .venv:\n{tail(output)}")
        install_lock(directory)
        link_podlab()
        write_stamp()
    finally:
        os.close(directory)


def remove_venv() -> None:
    """Throw .venv away; its stamp first, so that what is half removed does not look whole."""
    import shutil

    if os.path.exists(STAMP):
        os.remove(STAMP)
    if os.path.islink(VENV):
        os.remove(VENV)
    elif os.path.exists(VENV):
        shutil.rmtree(VENV)


def install_lock(hold: int) -> None:
    """pip install of the lock: exact versions, files of known digest, nothing built. hold: stays open in pip."""
    import subprocess

    total = sum("==" in line for line in read(LOCK).splitlines())
    pip = [os.path.join(VENV, "bin", "python"), "-I", "-m", "pip", "install"]
    options = ["--disable-pip-version-check", "--no-input", "--progress-bar=off", "--no-deps", "--only-binary=:all:"]
    command = [*pip, *options, "--require-hashes", "-r", LOCK]
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=(hold,)
    )
    lines, fetched = [], 0
    assert child.stdout is not None
    for raw in child.stdout:
        line = raw.decode(errors="replace").rstrip()
        lines.append(line)
        if line.startswith("Collecting "):
            fetched += 1
            progress(f"fetching {fetched}/{total} {line.split()[1]}")
        elif line.startswith("Installing "):
            progress(f"installing {total} packages")
    progress("")
    if child.wait() != 0:
        stop(f"pip could not install requirements.lock:\n{tail(chr(10).join(lines))}")


def progress(text: str) -> None:
    """Show one changing line, on a terminal only."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{'podlab: ' if text else ''}{text[:70]}")
        sys.stderr.flush()


def link_podlab() -> None:
    """Make `import podlab` work in .venv, on the files as they are here (what pip install -e does, at once)."""
    import glob

    for site in glob.glob(os.path.join(VENV, "lib", "python3*", "site-packages")):
        with open(os.path.join(site, "podlab.pth"), "w", encoding="utf-8") as file:
            file.write(os.path.join(ROOT, "module_utils") + "\n")


def write_stamp() -> None:
    """Say that .venv is whole."""
    with open(STAMP + ".new", "w", encoding="utf-8") as file:
        file.write(stamp())
    os.replace(STAMP + ".new", STAMP)


def prepare(task: str) -> None:
    """Bring the machine and .venv to what the task needs; at once when they are."""
    missing = [need for need in needs_of(task) if need.found() is None]
    python = None if venv_is_good() else choose_python()
    if python and not python.can_make_venv:
        package = f"python{python.version[0]}.{python.version[1]}-venv"
        missing.append(Need(package, lambda: None, "venv and pip: podlab's own Python packages go into .venv"))
    if missing:
        install(missing)
    if python:
        make_venv(python)


def environment() -> dict[str, str]:
    """The task's environment: our configuration, a UTF-8 locale, .venv first in PATH."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    path = [os.path.join(VENV, "bin"), *os.environ.get("PATH", "").split(os.pathsep), *SYSTEM_PATH]
    env.update(
        PATH=os.pathsep.join(dict.fromkeys(filter(None, path))),
        VIRTUAL_ENV=VENV,
        ANSIBLE_CONFIG=os.path.join(ROOT, "ansible.cfg"),
        # Files named on the command line are the user's, relative to where the user is.
        PODLAB_CWD=os.getcwd(),
        LC_ALL="C.UTF-8",
        LANGUAGE="C",
    )
    return env


def main(args: list[str]) -> NoReturn:
    """Prepare, then become invoke. Help needs no package; what follows `--` is another command's."""
    args = ["--list"] if args in ([], ["help"], ["-h"], ["--help"]) else args
    own = args[: [*args, "--"].index("--")]
    task = "" if "--help" in own else next((word for word in own if not word.startswith("-")), "")
    try:
        prepare(task)
    except KeyboardInterrupt:
        progress("")
        say("interrupted; the next ./lab starts this step again")
        sys.exit(130)
    env = environment()
    os.chdir(ROOT)
    os.execve(f"{VENV}/bin/invoke", [f"{VENV}/bin/invoke", *args], env)


if __name__ == "__main__":
    main(sys.argv[1:])
