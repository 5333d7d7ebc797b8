"""The one way in: what start and exec do alike to the process that becomes the container's.

The caller is a forked child that has already joined the namespaces and the root. Everything needed is imported and read
before: nothing of the image is loaded or looked up by privileged code; its passwd and group are read as text.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import stat
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

from ..errors import PodlabError
from ..linux import capabilities, seccomp, syscalls

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSWD_LIMIT = 1 << 20
_LARGEST_ID = (1 << 31) - 1
# Signals that a supervisor does something about; and those that it was started with ignored: by Python, by nohup, by a
# shell that put its caller into the background. Asked once, for every process that comes of it.
_OURS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
_IGNORED = tuple(number for number in range(1, signal.NSIG) if signal.getsignal(number) == signal.SIG_IGN)


_INFINITY = (1 << 64) - 1
# RLIMIT_* of containerd when systemd starts it: systemd's defaults, and what containerd.service sets (CORE, NPROC).
# Pending signals (11) are left as the kernel has them: they follow the machine's memory.
_LIMITS = (
    *((number, (_INFINITY, _INFINITY)) for number in (0, 1, 2, 4, 5, 6, 9, 10, 15)),
    (3, (8 << 20, _INFINITY)),  # STACK
    (7, (1024, 524288)),  # NOFILE
    (8, (8 << 20, 8 << 20)),  # MEMLOCK
    (12, (819200, 819200)),  # MSGQUEUE
    (13, (0, 0)),  # NICE
    (14, (0, 0)),  # RTPRIO
)


class User(NamedTuple):
    """Numeric identity inside the container."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


class Privileges(NamedTuple):
    """What the process may do."""

    caps: int
    bounding: int
    no_new_privs: bool
    oom_score_adj: int
    #: The seccomp filter; empty when there is none.
    filter: bytes = b""


def privileges(container: Mapping[str, Any]) -> Privileges:
    """Privileges of a container's runtime config, read while the machine's /proc and files are there.

    Raises PodlabError when its seccomp profile is none.
    """
    bounding = capabilities.own_bounding()
    return Privileges(
        capabilities.mask(container["caps"]) & bounding,
        bounding,
        bool(container.get("no_new_privs")),
        int(container.get("oom_score_adj", 0)),
        seccomp_filter(container["seccomp"]),
    )


def seccomp_filter(wanted: Mapping[str, Any]) -> bytes:
    """The filter as filters.py has made it of the profile. Nothing but Unconfined is without one."""
    if wanted.get("type") == "Unconfined":
        return b""
    if not wanted.get("filter"):
        raise PodlabError(wanted.get("error") or "its seccomp profile has not been loaded")
    with open(wanted["filter"], "rb") as file:
        return file.read()


def in_user_namespace(wanted: Privileges, container: Mapping[str, Any]) -> Privileges:
    """The same in a user namespace that has just been joined: whoever joins one has every capability there is in it."""
    bounding = capabilities.own_bounding()
    return wanted._replace(caps=capabilities.mask(container["caps"]) & bounding, bounding=bounding)


def set_oom_score(value: int, pid: int | str = "self") -> None:
    """Write oom_score_adj; without CAP_SYS_RESOURCE it cannot go below what it is and stays, as with containerd."""
    try:
        fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, str(value).encode())
    except PermissionError:
        pass
    finally:
        os.close(fd)


def set_limits() -> None:
    """The resource limits of every container: not those of whoever called podlab.

    While still outside of a user namespace, in which nobody may raise one. Without CAP_SYS_RESOURCE a hard limit that
    is lower stays, and the soft one is at most as high.
    """
    for number, (soft, hard) in _LIMITS:
        try:
            syscalls.prlimit(number, (soft, hard))
        except PermissionError:
            most = syscalls.prlimit(number)[1]
            syscalls.prlimit(number, (min(soft, most), most))


def read_inside(path: str) -> str:
    """Text of a regular file of the image, at most 1 MiB; empty when it is anything else (a FIFO must not stop us)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        return os.read(fd, _PASSWD_LIMIT).decode("utf-8", "replace")
    finally:
        os.close(fd)


def _entries(text: str) -> list[list[str]]:
    return [line.split(":") for line in text.splitlines() if line.count(":") >= 3]


def resolve_user(wanted: Mapping[str, Any]) -> User:
    """Identity by the container's own /etc/passwd and /etc/group, which must be the root's already.

    wanted: {"uid", "gid", "groups"} or {"name": "user[:group]"} of the image; "members": whether the groups that the
    user is in by /etc/group are added (supplementalGroupsPolicy Merge).
    Raises PodlabError for a name that is not there, or a number that is none.
    """
    passwd = _entries(read_inside("/etc/passwd"))
    group = _entries(read_inside("/etc/group"))
    uid, gid = wanted.get("uid"), wanted.get("gid")
    name, _, group_name = str(wanted.get("name") or "").partition(":")
    if uid is None and name:
        uid = name if _is_number(name) else _column(passwd, name, "user", "/etc/passwd")
    uid = _identity(uid or 0)
    if gid is None and group_name:
        gid = group_name if _is_number(group_name) else _column(group, group_name, "group", "/etc/group")
    row = next((row for row in passwd if row[2] == str(uid)), [])
    if gid is None:
        gid = row[3] if len(row) > 3 and _is_number(row[3]) else 0
    members = [line[2] for line in group if row and row[0] in line[3].split(",") and _is_number(line[2])]
    if not wanted.get("members", True):
        members = []
    groups = dict.fromkeys(_identity(number) for number in [gid, *(wanted.get("groups") or ()), *members])
    return User(uid, _identity(gid), tuple(groups), (row[5] if len(row) > 5 else "") or "/")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _identity(number: int | str) -> int:
    """Within what runc takes: 4294967295 would be -1 and leave root what it is, 4294967296 would be 0."""
    if not 0 <= int(number) <= _LARGEST_ID:
        raise PodlabError(f"uids and gids must be in range 0-{_LARGEST_ID}, not {number}")
    return int(number)


def _column(rows: Iterable[list[str]], key: str, what: str, file: str) -> str:
    for row in rows:
        if row[0] == key and _is_number(row[2]):
            return row[2]
    raise PodlabError(f"unable to find {what} {key}: no matching entries in {file} of the image")


def environment(pairs: Iterable[tuple[str, str]], home: str) -> dict[str, str]:
    """The process's environment: the last of a name wins; HOME from passwd when unset or empty."""
    env = dict(pairs)
    if not env.get("HOME"):
        env["HOME"] = home
    return env


def reset_process() -> None:
    """Undo what a Python parent leaves: ignored and blocked signals, umask, keyring, and its caller's nice value."""
    # Through libc at once: one call per signal in Python costs more than all of them here.
    for number in (*_OURS, *_IGNORED):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)
    if os.getpriority(os.PRIO_PROCESS, 0):
        try:
            os.setpriority(os.PRIO_PROCESS, 0, 0)
        except PermissionError:
            pass  # without CAP_SYS_NICE nobody can be more than his parent
    try:
        syscalls.join_session_keyring()
    except OSError as error:
        # A kernel without keys has none to leak.
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EDQUOT):
            raise


def become(user: User, wanted: Privileges) -> None:
    """Drop to the container's capabilities, user and seccomp filter, in the order in which each is still allowed."""
    capabilities.limit_bounding(wanted.caps, wanted.bounding)
    if user.uid:
        syscalls.prctl(8, 1)  # PR_SET_KEEPCAPS, so that the sets below can still be written
    try:
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise PodlabError(f"cannot set uid {user.uid}, gid {user.gid}: not mapped in the user namespace") from error
    # An unprivileged user starts with nothing: only root gets permitted and effective.
    kept = wanted.caps if user.uid == 0 else 0
    if wanted.no_new_privs:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    elif wanted.filter:
        # Only CAP_SYS_ADMIN may install a filter then; so it is done here, as runc does, not last.
        capabilities.set_all(kept | capabilities.mask(["SYS_ADMIN"]) & wanted.bounding)
        seccomp.install(wanted.filter)
    capabilities.set_all(kept)


def reach_directory(path: str) -> bool:
    """chdir before the user is given up, as runc does; False when it is only the user who may go there."""
    try:
        os.chdir(path or "/")
    except PermissionError:
        return False
    except OSError:
        pass  # change_directory says it, with the path
    change_directory(path)
    return True


def change_directory(path: str) -> None:
    """chdir; the result must be inside the root (CVE-2024-21626)."""
    try:
        os.chdir(path or "/")
        where = os.getcwd()
    except OSError as error:
        raise PodlabError(f"workingDir {path}: {os.strerror(error.errno or 0)}") from error
    if not where.startswith("/") or where.startswith("(unreachable)"):
        raise PodlabError(f"workingDir {path} is not inside the container's root")


def close_others() -> None:
    """Every descriptor but 0, 1 and 2 goes at exec, whoever opened it."""
    syscalls.close_range(3, flags=syscalls.CLOSE_RANGE_CLOEXEC)


def execute(argv: list[str], env: Mapping[str, str], wanted: Privileges) -> NoReturn:
    """Replace the process; the command is searched in the container's PATH. Raises OSError when it cannot be run.

    With no_new_privs the seccomp filter comes last: then a profile has to allow nothing of ours but execve(2).
    """
    if not argv or not argv[0]:
        raise OSError(errno.ENOENT, "no command: neither the container nor its image has one")
    if wanted.filter and wanted.no_new_privs:
        seccomp.install(wanted.filter)
    if "/" in argv[0]:
        os.execve(argv[0], argv, dict(env))
    refused = None
    # Not from where we are: an empty PATH finds nothing, a relative one neither, as with runc.
    for directory in filter(os.path.isabs, env.get("PATH", DEFAULT_PATH).split(":")):
        try:
            os.execve(f"{directory}/{argv[0]}", argv, dict(env))
        except PermissionError as error:
            refused = error
        except (FileNotFoundError, NotADirectoryError):
            continue
    if refused:
        raise refused
    raise FileNotFoundError(errno.ENOENT, "executable file not found in $PATH")


def forbid_tracing() -> None:
    """Not dumpable: a process of the container cannot look into us while we are between two worlds (CVE-2016-9962)."""
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)


# Loaded now: ctypes.get_errno must not import anything inside the container.
ctypes.get_errno()
"".encode("utf-8", "replace")
