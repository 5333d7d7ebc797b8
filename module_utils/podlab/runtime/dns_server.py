"""The lab's DNS server: one process, one loop, UDP and TCP. It runs in a container of its own, not as root.

It looks at the records' file whenever it is asked something, so there is nothing to restart or to reload. What it
answers is kube/dns_answers.py, how that looks on the wire is dns_message.py.
"""

from __future__ import annotations

import argparse
import os
import random
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import Callable, NoReturn

from ..kube import dns_answers
from . import dns_message
from .dns_forward import Forwarder, servers_of
from .dns_message import LARGEST_TCP, Query, Reply
from .dns_tcp import Connection, Listener

_BATCH = 64


def say(text: str) -> None:
    """To the container's log."""
    print(text, file=sys.stderr, flush=True)


class Records:
    """The records' file, read again when it is another one. One that is missing or broken changes nothing."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.zone: dns_answers.Zone | None = None
        self._seen: tuple[int, ...] = ()
        self._held = -1

    def current(self) -> dns_answers.Zone | None:
        """The records as they are now; None before there have been any."""
        try:
            now = os.stat(self.path)
            if (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns) != self._seen:
                self._load()
        except OSError:
            pass
        return self.zone

    def _load(self) -> None:
        file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        if self._held >= 0:
            os.close(self._held)
        # Kept open: so no later file has this one's inode number, and none is taken for this one.
        self._held = file
        about = os.fstat(file)
        self._seen = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)
        with open(file, "rb", closefd=False) as stream:
            data = stream.read()
        try:
            self.zone = dns_answers.parse(data.decode(), int(about.st_mtime))
        except ValueError as error:
            say(f"{self.path}: {error}; the records stay as they were")


class Server:
    """Sockets, and what each does when it can be read."""

    def __init__(self, records: Records, port: int, upstreams: Sequence[str]) -> None:
        self.records = records
        self.selector = selectors.DefaultSelector()
        self.forwarder = Forwarder(self.selector, upstreams)
        self.udp = _bound(socket.SOCK_DGRAM, port)
        self.selector.register(self.udp, selectors.EVENT_READ, self._datagrams)
        self.tcp = Listener(self.selector, _bound(socket.SOCK_STREAM, port), self._asked_over_tcp)

    def run(self) -> NoReturn:
        """Answer for ever."""
        while True:
            deadlines = [at for at in (self.forwarder.deadline(), self.tcp.deadline()) if at is not None]
            timeout = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
            for key, events in self.selector.select(timeout):
                # What an earlier one of these did may have closed this one's socket.
                if key.fileobj.fileno() >= 0:  # type: ignore[union-attr]
                    self._try(key.data, events)
            if deadlines:
                self._try(self.forwarder.expire)
                self._try(self.tcp.expire)

    def _try(self, call: Callable[..., None], *arguments: int) -> None:
        """One message that is too much for us must not be the last one."""
        try:
            call(*arguments)
        except Exception as error:
            say(f"a message is lost: {error!r}")

    def _datagrams(self, _: int) -> None:
        for _number in range(_BATCH):
            try:
                data, sender = self.udp.recvfrom(LARGEST_TCP)
            except OSError:
                return
            self.answer(data, False, lambda reply, to=sender: self._send(reply, to))  # type: ignore[misc]

    def _send(self, data: bytes, to: tuple[str, int]) -> None:
        try:
            self.udp.sendto(data, to)
        except OSError:
            pass  # whoever asked is gone or cannot be reached: as good as a lost packet

    def _asked_over_tcp(self, connection: Connection, data: bytes) -> None:
        self.answer(data, True, connection.send)

    def answer(self, data: bytes, tcp: bool, send: Callable[[bytes], None]) -> None:
        """Answer one message, now or when an upstream has answered."""
        query = dns_message.read(data)
        if isinstance(query, bytes):
            send(query)
        elif query is not None:
            try:
                self._answer(query, tcp, send)
            except Exception as error:  # one question that we cannot answer must not be the last one
                say(f"no answer to {query.kind} {query.name}: {error!r}")
                send(dns_message.failure(data))

    def _answer(self, query: Query, tcp: bool, send: Callable[[bytes], None]) -> None:
        limit = LARGEST_TCP if tcp else query.size

        def say_so(reply: Reply) -> None:
            send(dns_message.write(query, reply, limit, bool(self.forwarder.servers)))

        zone = self.records.current()
        if query.refused:
            say_so(Reply(query.refused, ours=False))
        elif zone is None:
            say_so(Reply("SERVFAIL", ours=False))
        elif dns_answers.apex(zone, query.name):
            self._ours(zone, query, tcp, say_so)
        elif not self._forward(query, tcp, send, say_so):
            say_so(Reply("REFUSED", ours=False))

    def _ours(self, zone: dns_answers.Zone, query: Query, tcp: bool, say_so: Callable[[Reply], None]) -> None:
        rcode, answers, authority, additional, beyond = dns_answers.answer(zone, query.name, query.kind)
        if len(answers) > 1 and answers[0].kind != "CNAME":
            answers = random.sample(answers, len(answers))  # so that not all clients take the first
        reply = Reply(rcode, answers, authority, additional)
        if not beyond or query.kind not in dns_message.TYPES or not self.forwarder.ready():
            say_so(reply)
            return
        question = dns_message.question(0, beyond, query.kind)

        def followed(data: bytes | None) -> None:
            say_so(reply._replace(more=dns_message.found(data or b"")))

        def heard(data: bytes | None) -> None:
            # The client would ask us again over TCP: whether that is needed depends on what there is.
            cut = bool(data) and not tcp and dns_message.truncated(data or b"")
            if not (cut and self.forwarder.ask(question, True, followed)):
                followed(data)

        if not self.forwarder.ask(question, tcp, heard):
            say_so(reply)

    def _forward(self, query: Query, tcp: bool, send: Callable[[bytes], None], say_so: Callable[[Reply], None]) -> bool:
        def done(data: bytes | None) -> None:
            if data is None:
                say_so(Reply("SERVFAIL", ours=False))
            else:
                send(data)

        if not (query.record.header.rd and self.forwarder.servers):
            return False
        if not self.forwarder.ready():
            done(None)
            return True
        return self.forwarder.ask(query.data, tcp, done)


def _bound(kind: int, port: int) -> socket.socket:
    """A socket on every address of this machine, of both families where there are both."""
    for family, anywhere in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):
        try:
            made = socket.socket(family, kind)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            if kind == socket.SOCK_STREAM:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((anywhere, port))
            break
        except OSError:
            if family == socket.AF_INET:
                raise
    made.setblocking(False)
    return made


def main() -> None:
    """Serve what --records says until told to end."""
    # A width of its own: else argparse imports shutil to ask the terminal, and the image has no more than it must.
    parser = argparse.ArgumentParser("podlab-dns", formatter_class=lambda prog: argparse.HelpFormatter(prog, width=100))
    parser.add_argument("--records", required=True, help="the file that podlab_service writes")
    parser.add_argument("--port", type=int, default=53)
    parser.add_argument("--resolv-conf", default="/etc/resolv.conf", help="its nameservers are asked for other names")
    options = parser.parse_args()
    # PID 1 of a container ignores what it has no handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with open(options.resolv_conf, encoding="utf-8", errors="replace") as file:
            upstreams = servers_of(file.read())
    except OSError:
        upstreams = []
    try:
        server = Server(Records(options.records), options.port, upstreams)
    except OSError as error:
        sys.exit(f"podlab-dns: cannot listen on port {options.port}: {error.strerror}")
    say(f"answering on port {options.port}; names of others: {', '.join(upstreams) or 'refused'}")
    server.run()
