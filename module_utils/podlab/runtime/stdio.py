"""A container's standard streams: pipes, or a terminal of the container's own; the supervisor keeps the other ends.

A terminal is made by the container's process, in the devpts that it has mounted: nobody else can name it before. Its
master comes out through a socket.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..errors import PodlabError
from ..linux import syscalls

# asm-generic/ioctls.h; the module termios would stay in every supervisor's memory.
TIOCSCTTY = 0x540E
TIOCSPTLCK = 0x40045431
TIOCGPTPEER = 0x5441
_PTMX = os.makedev(5, 2)
STREAMS = ("stdout", "stderr")


class Ends(NamedTuple):
    """What the container's process is given; -1 for what it is not. channel: where a terminal's master goes out."""

    stdin: int
    stdout: int
    stderr: int
    channel: int


class Streams:
    """Of one run, before its start: theirs are the process's ends, the rest the supervisor's."""

    __slots__ = ("_channel", "_ours", "_stdin", "theirs")

    def __init__(self, container: Mapping[str, Any], owner: int = 0) -> None:
        """owner: who root is in the container's user namespace."""
        self._stdin, self._channel = -1, -1
        self._ours: tuple[int, ...] = ()
        if container.get("tty"):
            ours, theirs = socket.socketpair()
            self._channel = ours.detach()
            self.theirs = Ends(-1, -1, -1, theirs.detach())
            return
        read = -1
        if container.get("stdin"):
            read, self._stdin = os.pipe()
        pipes = (os.pipe(), os.pipe())
        self._ours = tuple(pipe[0] for pipe in pipes)
        self.theirs = Ends(read, pipes[0][1], pipes[1][1], -1)
        if owner:
            own([fd for fd in self.theirs if fd >= 0], owner, owner)

    def close(self) -> None:
        """Nothing was started."""
        for fd in (*self.theirs, *self._ours, self._stdin, self._channel):
            _close(fd)

    def adopt(self) -> tuple[dict[int, str], int]:
        """The process runs: what it writes (descriptor -> stream), and what it reads from, -1 for nothing.

        A terminal is one descriptor for both, and one stream.
        """
        for fd in self.theirs:
            _close(fd)
        if self._channel < 0:
            return dict(zip(self._ours, STREAMS)), self._stdin
        with socket.socket(fileno=self._channel) as channel:
            _, fds, _, _ = socket.recv_fds(channel, 1, 1)
        os.set_inheritable(fds[0], False)
        return {fds[0]: STREAMS[0]}, fds[0]


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)


def open_terminal(root: int) -> tuple[int, int]:
    """Master and slave of a new terminal in the devpts that has just been mounted at root's /dev/pts.

    No link is followed, and what is opened must be a multiplexer: nothing of the image's or a volume's.
    Raises PodlabError when it is none.
    """
    flags = os.O_RDWR | os.O_NOCTTY
    master = syscalls.openat2(
        root, "dev/pts/ptmx", flags, resolve=syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS
    )
    status = os.fstat(master)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != _PTMX:
        raise PodlabError("/dev/pts/ptmx is not the terminals' multiplexer")
    return master, peer(master)


def peer(master: int) -> int:
    """The slave of a terminal, unlocked; no path is followed to it."""
    fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
    slave: int = fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    return slave


def take(ends: Ends, terminal: tuple[int, int] | None, uid: int) -> None:
    """In the container's process, as root, when its root is there: the streams become 0, 1 and 2, and its user's.

    terminal: master and slave. The process leads its session already; the terminal becomes its controlling one.
    """
    if terminal:
        master, slave = terminal
        with socket.socket(fileno=ends.channel) as channel:
            socket.send_fds(channel, [b"t"], [master])
        os.close(master)
        fcntl.ioctl(slave, TIOCSCTTY, 0)
        streams = (slave, slave, slave)
    else:
        # The null device that was opened on the node is the node's; standard input must be the container's own.
        stdin = ends.stdin if ends.stdin >= 0 else os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        streams = (stdin, ends.stdout, ends.stderr)
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
    own(range(3), uid)


def own(fds: Iterable[int], uid: int, gid: int = -1) -> None:
    """Give pipes and terminals to the user, as runc does: he may open /dev/stdout anew, or mesg(1) his terminal.

    What is of nobody in our user namespace stays it: to be passed on there, user and group must be mapped (gid).
    """
    for fd in fds:
        status = os.fstat(fd)
        piped = stat.S_ISFIFO(status.st_mode)
        terminal = stat.S_ISCHR(status.st_mode) and 136 <= os.major(status.st_rdev) <= 143
        if (piped or terminal) and status.st_uid != uid:
            try:
                os.fchown(fd, uid, gid)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EINVAL):
                    raise
