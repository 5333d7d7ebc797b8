"""Attach to a container that runs: see what it writes from now on, and feed its standard input."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys

from . import carry, paths, requests

# As much as the kernel gives: a burst must not stop the container's own writing.
_ROOM = 1 << 20
_F_SETPIPE_SZ = 1031
NO_PROMPT = "If you don't see a command prompt, try pressing enter."


def attach(cluster: str, uid: str, name: str, *, stdin: bool, terminal: bool, once: bool) -> None:
    """Carry the streams of container `name` to and fro until it ends, or, fed and not `once`, until our input does.

    stdin: pass our standard input on. terminal: the container has one, and so have we. once: its stdinOnce.
    Raises PodlabError when the container does not run, or reads no input.
    """
    pipes = [_pipe(), _pipe()]
    directory = paths.pod_dir(cluster, uid)
    connection, given = requests.ask(directory, ["attach", name, "i" if stdin else ""], [pipe[1] for pipe in pipes])
    for pipe in pipes:
        os.close(pipe[1])
    with connection:
        if terminal and given:
            print(NO_PROMPT, file=sys.stderr, flush=True)
            carry.terminal(pipes[0][0], given[0], detaches=True)
        else:
            _plain(connection, [pipe[0] for pipe in pipes], given, once)


def _plain(connection: socket.socket, outputs: list[int], given: list[int], once: bool) -> None:
    # Ctrl-C leaves the container as it is.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def no_more() -> bool:
        connection.send(b".")
        return once

    routes = {outputs[0]: 1, outputs[1]: 2, **({0: given[0]} if given else {})}
    carry.pump(routes, set(outputs), no_more)


def _pipe() -> tuple[int, int]:
    read, write = os.pipe()
    try:
        fcntl.fcntl(write, _F_SETPIPE_SZ, _ROOM)
    except OSError:
        pass  # then the usual 64 KiB
    return read, write
