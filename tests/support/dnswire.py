"""DNS messages as octets, and a client for them: what dig would not send."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

from support.packets import Namespace


def wire(name: str, kind: int = 1, ident: int = 7, flags: int = 0x100, extra: bytes = b"") -> bytes:
    """A question as it travels."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    counts = (1, 0, 0, 1 if extra else 0)
    return struct.pack("!6H", ident, flags, *counts) + labels + b"\0" + struct.pack("!2H", kind, 1) + extra


def rcode(data: bytes) -> int:
    return data[3] & 15


@contextlib.contextmanager
def client(namespace: Namespace, kind: int = socket.SOCK_DGRAM) -> Iterator[socket.socket]:
    with namespace.socket(kind) as made:
        made.connect(("127.0.0.1", 53))
        yield made


def framed(*messages: bytes) -> bytes:
    return b"".join(struct.pack("!H", len(message)) + message for message in messages)


def received(stream: socket.socket) -> bytes:
    """One message from a stream."""

    def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = stream.recv(count - len(data))
            assert more, "the connection ended"
            data += more
        return data

    return exactly(struct.unpack("!H", exactly(2))[0])
