"""Bytes between a person and a container: pipes, or a terminal that behaves as if it were the person's own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import termios
import tty
from collections.abc import Iterator
from typing import Callable

CHUNK = 65536
# What leaves a terminal that one is attached to, as with other container tools: Ctrl-P, Ctrl-Q.
DETACH = b"\x10\x11"
END_OF_INPUT = b"\x04"


def pump(routes: dict[int, int], needed: set[int], no_more: Callable[[], bool] = lambda: True) -> None:
    """Copy from each key to its value until all needed sources have ended.

    no_more: called when our standard input, if that is a source, has ended; whether to go on then.
    """
    routes = dict(routes)
    while needed:
        ready, _, _ = select.select(list(routes), [], [])
        for source in ready:
            try:
                data = os.read(source, CHUNK)
            except OSError:
                data = b""
            if not data or not write_all(routes[source], data):
                target = routes.pop(source)
                needed.discard(source)
                if source == 0 or target > 2:
                    os.close(target)
                if source == 0 and not no_more():
                    return


def write_all(fd: int, data: bytes) -> bool:
    """Write all of it; False when nobody reads any more."""
    try:
        while data:
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:
                select.select([], [fd], [])
    except OSError:
        return False
    return True


def terminal(source: int, master: int, detaches: bool = False) -> None:
    """Be a container's terminal: show what comes from source, send what is typed to master, until source ends.

    detaches: Ctrl-P Ctrl-Q ends it, too. Our own terminal, if there is one, is in raw mode meanwhile.
    """
    with _raw(master):
        sources, last = [0, source], b""
        while True:
            ready, _, _ = select.select(sources, [], [])
            if source in ready and not _show(source):
                return
            if 0 in ready:
                data = os.read(0, CHUNK)
                if detaches and DETACH in last + data:
                    return
                last = data[-1:]
                if not data:
                    sources.remove(0)
                write_all(master, data or END_OF_INPUT)


def _show(source: int) -> bool:
    try:
        data = os.read(source, CHUNK)
    except OSError:
        return False
    return bool(data) and write_all(1, data)


@contextlib.contextmanager
def _raw(master: int) -> Iterator[None]:
    if not os.isatty(0):
        yield
        return
    before = termios.tcgetattr(0)
    try:
        copy_size(master)
        signal.signal(signal.SIGWINCH, lambda *_: copy_size(master))
        # At once: what was typed ahead is for the container, too.
        tty.setraw(0, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def copy_size(master: int) -> None:
    """The container's terminal is as large as ours; who draws on it is told, also when it was before."""
    size = fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8)
    rows, *rest = struct.unpack("4H", size)
    if fcntl.ioctl(master, termios.TIOCGWINSZ, b"\0" * 8) == size:
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", rows + 1, *rest))
    fcntl.ioctl(master, termios.TIOCSWINSZ, size)
