"""What happens in directories, as it happens. Source: inotify(7)."""

from __future__ import annotations

import ctypes
import errno
import os
import select

MODIFY = 0x2
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
DELETE_SELF = 0x400

_libc = ctypes.CDLL(None, use_errno=True)


class Inotify:
    """One inotify instance, a context manager. fd: readable when something has happened."""

    def __init__(self) -> None:
        self.fd = int(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        if self.fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"inotify_init1: {os.strerror(number)} (see sysctl fs.inotify.max_user_instances)")

    def __enter__(self) -> Inotify:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self.fd)

    def add(self, directory: str, mask: int) -> bool:
        """Watch a directory; False when it is not there. Watching it again changes its mask.

        Raises OSError: ENOSPC when this user's watches are used up.
        """
        if int(_libc.inotify_add_watch(self.fd, os.fsencode(directory), ctypes.c_uint32(mask))) >= 0:
            return True
        number = ctypes.get_errno()
        if number in (errno.ENOENT, errno.ENOTDIR):
            return False
        hint = " (see sysctl fs.inotify.max_user_watches)" if number == errno.ENOSPC else ""
        raise OSError(number, f"inotify_add_watch: {os.strerror(number)}{hint}", directory)

    def drain(self) -> bool:
        """Forget what has happened so far; True when there was something."""
        seen = False
        while True:
            try:
                seen = bool(os.read(self.fd, 1 << 16)) or seen
            except BlockingIOError:
                return seen

    def wait(self, seconds: float) -> bool:
        """Return True when something has happened, False after so many seconds."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000)) and self.drain()
