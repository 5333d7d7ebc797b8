"""The system calls that Python 3.9 does not offer, by ctypes.

Every function raises OSError with errno and the call's name. Sources: the man page of each call, section 2.
"""

from __future__ import annotations

import ctypes
import os
import struct

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# Name in /proc/PID/ns -> clone flag. Order is the order in which to join: user first, mount last.
NAMESPACES = {
    "user": CLONE_NEWUSER,
    "cgroup": CLONE_NEWCGROUP,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "net": CLONE_NEWNET,
    "pid": CLONE_NEWPID,
    "time": CLONE_NEWTIME,
    "mnt": CLONE_NEWNS,
}

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 32768
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24

MNT_FORCE = 1
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

CLOSE_RANGE_CLOEXEC = 4

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
MOUNT_ATTR_RDONLY = 0x00000001
MOUNT_ATTR_IDMAP = 0x00100000

# The same on every architecture since Linux 5.1's unified numbers.
_SYS_PIDFD_SEND_SIGNAL = 424
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_PIDFD_OPEN = 434
_SYS_CLOSE_RANGE = 436
_SYS_OPENAT2 = 437
_SYS_MOUNT_SETATTR = 442

# number of pivot_root, capget, capset, clone, keyctl, seccomp, bpf
_NUMBERS = {
    "x86_64": (155, 125, 126, 56, 250, 317, 321),
    "aarch64": (41, 90, 91, 220, 219, 277, 280),
}
_here = _NUMBERS.get(os.uname().machine, (-1,) * 7)
_SYS_PIVOT_ROOT, _SYS_CAPGET, _SYS_CAPSET, _SYS_CLONE, _SYS_KEYCTL, _SYS_SECCOMP, _SYS_BPF = _here

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _check(result: int, name: str, *about: object) -> int:
    if result < 0:
        number = ctypes.get_errno()
        words = " ".join(str(word) for word in about)
        raise OSError(number, f"{name} {words}: {os.strerror(number)}".replace(" :", ":"))
    return result


def _syscall(name: str, number: int, *args: object) -> int:
    if number < 0:
        raise OSError(38, f"{name}: no system call number known for {os.uname().machine}")
    words = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    return _check(_libc.syscall(ctypes.c_long(number), *words), name)


def unshare(flags: int) -> None:
    """Leave the namespaces named by the CLONE_NEW* flags for new ones (unshare(2))."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare", hex(flags))


def setns(fd: int, flags: int = 0) -> None:
    """Join the namespace (or, of a pidfd, all that flags name) behind fd (setns(2))."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)), "setns", fd, hex(flags))


def clone(flags: int) -> int:
    """Fork into new namespaces: the child's pid in the parent, 0 in the child (clone(2)).

    flags: CLONE_NEW* only; SIGCHLD is added. Python's own fork hooks do not run: the child of a single-threaded
    process may do what it likes, of any other it must only exec.
    """
    return _syscall("clone", _SYS_CLONE, flags | 17, 0, 0, 0, 0)


def mount(source: str | None, target: str, fstype: str | None, flags: int = 0, data: str | None = None) -> None:
    """mount(2). Strings are paths and options as that call takes them; data is at most one page."""

    def encode(text: str | None) -> bytes | None:
        return None if text is None else os.fsencode(text)

    result = _libc.mount(encode(source), encode(target), encode(fstype), ctypes.c_ulong(flags), encode(data))
    _check(result, "mount", fstype or "", source or "", "on", target)


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), "umount", target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    _syscall("pivot_root", _SYS_PIVOT_ROOT, os.fsencode(new_root), os.fsencode(put_old))


def sethostname(name: str) -> None:
    """Set the host name of this UTS namespace (sethostname(2)); at most 64 bytes."""
    raw = name.encode()
    _check(_libc.sethostname(raw, ctypes.c_size_t(len(raw))), "sethostname", name)


def setdomainname(name: str) -> None:
    """Set the NIS domain name of this UTS namespace (setdomainname(2)); at most 64 bytes."""
    raw = name.encode()
    _check(_libc.setdomainname(raw, ctypes.c_size_t(len(raw))), "setdomainname", name)


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """prctl(2) with integer arguments."""
    args = [ctypes.c_ulong(arg) for arg in (arg2, arg3, arg4, arg5)]
    return _check(_libc.prctl(ctypes.c_int(option), *args), "prctl", option)


def set_name(name: str) -> None:
    """Set this thread's name, at most 15 bytes, as ps shows it (prctl(2), PR_SET_NAME)."""
    _check(_libc.prctl(ctypes.c_int(PR_SET_NAME), ctypes.c_char_p(name.encode()), 0, 0, 0), "prctl", "PR_SET_NAME")


def pidfd_open(pid: int) -> int:
    """A descriptor for process pid, readable when it has ended (pidfd_open(2))."""
    return _syscall("pidfd_open", _SYS_PIDFD_OPEN, pid, 0)


def pidfd_send_signal(pidfd: int, number: int) -> None:
    """Send signal number to the process behind pidfd (pidfd_send_signal(2))."""
    _syscall("pidfd_send_signal", _SYS_PIDFD_SEND_SIGNAL, pidfd, number, 0, 0)


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    """Close (or with CLOSE_RANGE_CLOEXEC mark) descriptors first to last, inclusive (close_range(2))."""
    _syscall("close_range", _SYS_CLOSE_RANGE, first, last, flags)


RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
# Somebody who renames in a loop is to get an error, not to stop us.
_OPENAT2_TRIES = 128


def openat2(dirfd: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """Open path below dirfd with the RESOLVE_* restrictions (openat2(2)). O_CLOEXEC is added.

    When anything on the machine was renamed or mounted meanwhile, the kernel gives up on `..` with EAGAIN: tried again.
    """
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(_OPENAT2_TRIES):
        try:
            return _syscall("openat2", _SYS_OPENAT2, dirfd, os.fsencode(path), how, len(how))
        except BlockingIOError:
            continue
    return _syscall("openat2", _SYS_OPENAT2, dirfd, os.fsencode(path), how, len(how))


def open_tree(dirfd: int, path: str, flags: int = 0) -> int:
    """A descriptor of the mount at path below dirfd, or with OPEN_TREE_CLONE of a detached copy (open_tree(2)).

    O_CLOEXEC is added.
    """
    return _syscall("open_tree", _SYS_OPEN_TREE, dirfd, os.fsencode(path), flags | os.O_CLOEXEC)


def move_mount(fd: int, to_dirfd: int, to_path: str) -> None:
    """Attach the detached mount behind fd at to_path below to_dirfd, or with "" at to_dirfd itself (move_mount(2))."""
    flags = 0x00000004 | (0 if to_path else 0x00000040)  # MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH
    _syscall("move_mount", _SYS_MOVE_MOUNT, fd, b"", to_dirfd, os.fsencode(to_path), flags)


def copy_mount(fd: int) -> int:
    """A descriptor of a detached copy of what is mounted at fd and below (open_tree(2)): it goes with that."""
    return open_tree(fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE)


def mount_setattr(
    fd: int, attr_set: int = 0, attr_clr: int = 0, propagation: int = 0, userns_fd: int = 0, recursive: bool = False
) -> None:
    """Change the attributes of the mount behind fd, by MOUNT_ATTR_* and MS_* for its propagation (mount_setattr(2)).

    recursive: of those below it, too.
    """
    attr = struct.pack("QQQQ", attr_set, attr_clr, propagation, userns_fd)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _syscall("mount_setattr", _SYS_MOUNT_SETATTR, fd, b"", flags, attr, len(attr))


PROC_SUPER_MAGIC = 0x9FA0


def filesystem_type(fd: int) -> int:
    """The magic number of the file system that holds fd (fstatfs(2))."""
    buffer = ctypes.create_string_buffer(256)
    _check(_libc.fstatfs(ctypes.c_int(fd), buffer), "fstatfs", fd)
    # f_type is the first word of struct statfs.
    return int(struct.unpack_from("l", buffer)[0])


_CAP_VERSION_3 = 0x20080522


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set this process's capability sets from 64-bit masks (capset(2))."""
    header = struct.pack("Ii", _CAP_VERSION_3, 0)
    low = struct.pack("III", effective & 0xFFFFFFFF, permitted & 0xFFFFFFFF, inheritable & 0xFFFFFFFF)
    high = struct.pack("III", effective >> 32, permitted >> 32, inheritable >> 32)
    _syscall("capset", _SYS_CAPSET, header, low + high)


def syncfs(fd: int) -> None:
    """Write what is pending for the file system that holds fd (syncfs(2))."""
    _check(_libc.syncfs(ctypes.c_int(fd)), "syncfs", fd)


def join_session_keyring() -> None:
    """Leave the inherited session keyring for a new, anonymous one (keyctl(2), KEYCTL_JOIN_SESSION_KEYRING)."""
    _syscall("keyctl", _SYS_KEYCTL, 1, 0, 0, 0, 0)


def seccomp(operation: int, flags: int, argument: bytes) -> None:
    """Change this process's seccomp state (seccomp(2))."""
    _syscall("seccomp", _SYS_SECCOMP, operation, flags, argument)


def bpf(command: int, attributes: bytes) -> int:
    """bpf(2). attributes: union bpf_attr. Returns a descriptor, or 0."""
    return _syscall("bpf", _SYS_BPF, command, attributes, len(attributes))


def prlimit(resource: int, limits: tuple[int, int] | None = None) -> tuple[int, int]:
    """This process's soft and hard limit of RLIMIT_* before; sets it when limits are given (prlimit(2))."""
    old = ctypes.create_string_buffer(16)
    new = None if limits is None else struct.pack("QQ", *limits)
    _check(_libc.prlimit(0, ctypes.c_int(resource), new, old), "prlimit", resource)
    soft, hard = struct.unpack("QQ", old.raw)
    return soft, hard
