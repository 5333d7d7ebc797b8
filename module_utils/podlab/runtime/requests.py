"""What a supervisor is asked for while its pod runs: a socket in the pod's directory, root's alone.

A request is one message of words with NUL between them, with descriptors; so is the answer: "ok", or why not.

    attach CONTAINER FLAGS   descriptors: where its stdout and its stderr are to go. FLAGS has "i" for stdin: the answer
                             brings the other end of it, of a terminal its master. Attached for as long as the
                             connection is open; a message in it says that there is no more input.
    ephemeral                start the ephemeral containers of ephemeral.json that are new.
"""

from __future__ import annotations

import os
import socket
from typing import Callable, NamedTuple

from ..errors import PodlabError
from .loop import Loop

NAME = "control.sock"
OK = b"ok"
LIMIT = 4096
FDS = 2


class Answer(NamedTuple):
    """fds: go with "ok". stay: what is done with the connection then; None: it is closed."""

    fds: list[int]
    stay: Callable[[socket.socket], None] | None = None


Handler = Callable[[list[str], list[int]], Answer]


class Requests:
    """The supervisor's side. door: of listen(). handlers: word -> what is done with the words after it and the fds."""

    __slots__ = ("_door", "_handlers", "_loop")

    def __init__(self, loop: Loop, door: int, handlers: dict[str, Callable[[list[str], list[int]], Answer]]) -> None:
        self._loop = loop
        self._handlers = handlers
        self._door = door
        loop.watch(door, self._accept)

    def _accept(self) -> None:
        with socket.socket(fileno=os.dup(self._door)) as door:
            try:
                connection, _ = door.accept()
            except OSError:
                return  # who knocked has gone
        self._loop.watch(connection.fileno(), lambda: self._serve(connection))

    def _serve(self, connection: socket.socket) -> None:
        """The first message of a connection: what is asked for."""
        self._loop.unwatch(connection.fileno())
        fds: list[int] = []
        try:
            data, fds, _, _ = socket.recv_fds(connection, LIMIT, FDS)
            word, *rest = data.decode("utf-8", "replace").split("\0")
            if word not in self._handlers:
                raise PodlabError(f"there is no request {word!r}")
            given, stay = self._handlers[word](rest, fds)
        except (OSError, PodlabError) as error:
            for fd in fds:
                _close(fd)
            _say(connection, str(error))
            connection.close()
            return
        try:
            socket.send_fds(connection, [OK], given)
        except OSError:
            pass  # he has gone: whoever stays with the connection sees its end
        if stay:
            stay(connection)
        else:
            connection.close()


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        pass  # whoever was to have it has closed it


def _say(connection: socket.socket, text: str) -> None:
    try:
        connection.send(text.encode()[:LIMIT])
    except OSError:
        pass  # nobody listens any more


def listen(directory: str) -> int:
    """The pod's socket, for its supervisor; by the directory's descriptor, since a whole path may be too long.

    Done before the supervisors are forked: what it takes of memory is not theirs.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    before = os.umask(0o177)
    try:
        try:
            os.unlink(NAME, dir_fd=place)
        except FileNotFoundError:
            pass
        made.bind(f"/proc/self/fd/{place}/{NAME}")
    finally:
        os.umask(before)
        os.close(place)
    made.listen(16)
    made.setblocking(False)
    return made.detach()


def ask(directory: str, words: list[str], fds: list[int]) -> tuple[socket.socket, list[int]]:
    """From outside: the connection on which "ok" came, and the descriptors that came with it.

    Raises PodlabError with what the supervisor says, or when nobody listens.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{place}/{NAME}")
        finally:
            os.close(place)
        socket.send_fds(connection, ["\0".join(words).encode()], fds)
        said, given, _, _ = socket.recv_fds(connection, LIMIT, FDS)
    except OSError as error:
        connection.close()
        raise PodlabError(f"the pod's supervisor does not answer: {error.strerror}") from error
    if said != OK:
        connection.close()
        raise PodlabError(said.decode("utf-8", "replace") or "the pod's supervisor has just ended")
    return connection, given
