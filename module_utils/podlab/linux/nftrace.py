"""One packet's way through the rules of the current network namespace, as nf_tables tells it.

A table of our own marks the packet (`meta nftrace set 1`) before any other rule sees it; the kernel then reports every
rule that matched it on a netlink group, and each new connection on another. The table is owned by our socket: the
kernel removes it when that is closed, whatever ends us. iptables-nft's rules are such rules, too.
Sources: linux/netfilter/nf_tables.h, net/netfilter/nf_tables_trace.c, nft(8) "meta nftrace", `nft monitor trace`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from . import netlink_attrs as nl
from .conntrack import PROTOCOLS, Entry, Tuple, parse_entry
from .netlink_wire import NETLINK_NETFILTER, Wire, raise_error

TABLE = "podlab-trace"
# raw (-300) and conntrack (-200) come later.
PRIORITY = -400
_HOOKS = {"prerouting": 0, "output": 3}

_SUBSYSTEM = 10
_NEWTABLE, _NEWCHAIN, _NEWRULE, _TRACE = (_SUBSYSTEM << 8 | number for number in (0, 3, 6, 17))
_BATCH_BEGIN, _BATCH_END = 16, 17
_OWNER = 2
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_GROUP_NEW_CONNECTION, _GROUP_TRACE = 1, 9
_NEW_CONNECTION = 1 << 8
_RECEIVE_BYTES = 1 << 22
_HEADER = struct.Struct("=IHHII")

# enum nft_trace_attributes
_T_TABLE, _T_CHAIN, _T_HANDLE, _T_TYPE, _T_VERDICT, _T_ID = 1, 2, 3, 4, 5, 6
_T_NETWORK, _T_TRANSPORT, _T_IIF, _T_OIF, _T_MARK, _T_POLICY = 8, 9, 10, 12, 14, 16
_KINDS = {1: "policy", 2: "return", 3: "rule"}
_VERDICTS = {0: "drop", 1: "accept", 2: "stolen", 3: "queue", -1: "continue", -3: "jump", -4: "goto", -5: "return"}

# enum nft_registers, nft_meta_keys, nft_payload_bases
_REGISTER = 8
_META_NFTRACE, _META_L4PROTO = 12, 16
_NETWORK, _TRANSPORT = 1, 2
# (offset in the transport header, mask, value): a packet that begins a connection.
_FIRST = {"tcp": (13, 0x12, 0x02), "sctp": (12, 0xFF, 0x01)}


class Wanted(NamedTuple):
    """Which packets to follow. source "" and source_port 0: from anywhere."""

    protocol: str
    destination: str
    destination_port: int
    source: str = ""
    source_port: int = 0


class Event(NamedTuple):
    """One step of one packet.

    packet: the same number for all steps of a packet in this namespace. kind: "rule", "return" (end of a chain) or
    "policy" (end of a base chain). rule: its handle; 0 unless kind is "rule". target: the chain of a jump or goto.
    header: addresses as they are now, where the kernel says so: on the first step in each base chain.
    """

    packet: int
    table: str
    chain: str
    kind: str
    rule: int
    verdict: str
    target: str
    mark: int
    iif: int
    oif: int
    header: Tuple | None


class Tracer(Wire):
    """Follows the wanted packets in the current network namespace until it is closed; a context manager.

    Raises OSError: EOPNOTSUPP where the kernel is older than 5.12 and knows no owned tables, EPERM while another
    tracer is at work here.
    """

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self._events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._events.bind((0, 0))  # a socket without an address is sent nothing
        self._events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        for group in (_GROUP_NEW_CONNECTION, _GROUP_TRACE):
            self._events.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        self._events.setblocking(False)
        super().__init__(NETLINK_NETFILTER)
        try:
            self._batch([*_table(), *(_rule(hook, each) for hook in _HOOKS for each in wanted)])
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Stop; the table goes with its socket."""
        self._events.close()
        super().close()

    def read(self) -> tuple[list[Event], list[Entry]]:
        """What has been reported since the last call, in order: the packets' steps, and connections that began.

        A connection that is refused is forgotten at once: this is the only trace of its translation.
        Raises OSError ENOBUFS when more was reported than the socket has room for.
        """
        steps, connections = [], []
        for kind, payload in self._reported():
            if kind == _TRACE:
                event = parse_event(payload)
                # Our own rule sets the mark, and is reported already.
                steps += [event] if event.table != TABLE else []
            elif kind == _NEW_CONNECTION:
                connections.append(parse_entry(payload))
        return steps, connections

    def _reported(self) -> Iterator[tuple[int, bytes]]:
        while True:
            try:
                data = self._events.recv(1 << 16)
            except BlockingIOError:
                return
            at = 0
            while at + _HEADER.size <= len(data):
                size, kind = _HEADER.unpack_from(data, at)[:2]
                yield kind, data[at + _HEADER.size : at + size]
                at += (size + 3) & ~3

    def _batch(self, messages: Sequence[tuple[int, bytes]]) -> None:
        """One transaction: all messages or none. Raises OSError with the first that was refused."""
        first = self._sequence + 1
        parts = []
        everything = [(_BATCH_BEGIN, _head(0, _SUBSYSTEM)), *messages, (_BATCH_END, _head(0, _SUBSYSTEM))]
        for kind, body in everything:
            self._sequence += 1
            flags = nl.REQUEST if kind < _SUBSYSTEM << 8 else nl.REQUEST | nl.ACK | nl.CREATE | nl.APPEND
            if kind == _NEWTABLE:
                flags |= nl.EXCL
            parts.append(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body)
        self.round_trips += 1
        self._socket.sendto(b"".join(parts), (0, 0))
        waiting = set(range(first + 1, first + 1 + len(messages)))
        while waiting:
            data, at = self._socket.recv(1 << 18), 0
            while at + _HEADER.size <= len(data):
                size, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
                if kind == nl.NLMSG_ERROR:
                    raise_error(data[at + _HEADER.size : at + size], flags, f"make table {TABLE}")
                    waiting.discard(sequence)
                at += (size + 3) & ~3


def parse_event(data: bytes) -> Event:
    """The event in a message's payload."""
    attrs = nl.parse_attrs(data[4:])
    kind = _KINDS.get(_number(attrs.get(_T_TYPE)), "")
    verdict = nl.parse_attrs(attrs.get(_T_VERDICT, b""))
    code = struct.unpack(">i", verdict[1])[0] if 1 in verdict else -1
    if kind == "policy":
        code = _number(attrs.get(_T_POLICY))
    return Event(
        packet=_number(attrs.get(_T_ID)),
        table=_text(attrs.get(_T_TABLE)),
        chain=_text(attrs.get(_T_CHAIN)),
        kind=kind,
        rule=_number(attrs.get(_T_HANDLE)),
        verdict=_VERDICTS.get(code, str(code)),
        target=_text(verdict.get(2)),
        mark=_number(attrs.get(_T_MARK)),
        iif=_number(attrs.get(_T_IIF)),
        oif=_number(attrs.get(_T_OIF)),
        header=header(attrs.get(_T_NETWORK, b""), attrs.get(_T_TRANSPORT, b"")),
    )


def header(network: bytes, transport: bytes) -> Tuple | None:
    """Addresses and ports of a packet by its headers; None unless they are those of IPv4."""
    if len(network) < 20 or network[0] >> 4 != 4:
        return None
    source, destination = struct.unpack_from(">HH", transport) if len(transport) >= 4 else (0, 0)
    return Tuple(
        nl.name_of(PROTOCOLS, network[9]), nl.ip_text(network[12:16]), source, nl.ip_text(network[16:20]), destination
    )


def supported(error: OSError) -> bool:
    """False when the error says that this kernel cannot trace so."""
    return error.errno not in (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT)


# --- messages -------------------------------------------------------------------------------------------------------


def _head(family: int, resource: int = 0) -> bytes:
    return struct.pack(">BBH", family, 0, resource)


def _table() -> list[tuple[int, bytes]]:
    """The table with a chain per hook."""
    head = _head(nl.AF_INET)
    messages = [(_NEWTABLE, head + nl.text(1, TABLE) + _be32(2, _OWNER))]
    for name, number in _HOOKS.items():
        hook = nl.nested(4, _be32(1, number), nl.attr(2, struct.pack(">i", PRIORITY)))
        messages.append((_NEWCHAIN, head + nl.text(1, TABLE) + nl.text(3, name) + hook + nl.text(7, "filter")))
    return messages


def _rule(hook: str, wanted: Wanted) -> tuple[int, bytes]:
    """`ip protocol P ip daddr D P dport N … meta nftrace set 1`."""
    tests = [
        _meta(_META_L4PROTO),
        _compare(bytes([PROTOCOLS[wanted.protocol]])),
        *_field(_NETWORK, 16, nl.ip_bytes(wanted.destination)),
        *_field(_TRANSPORT, 2, struct.pack(">H", wanted.destination_port)),
    ]
    if wanted.source:
        tests += _field(_NETWORK, 12, nl.ip_bytes(wanted.source))
    if wanted.source_port:
        tests += _field(_TRANSPORT, 0, struct.pack(">H", wanted.source_port))
    if wanted.protocol in _FIRST:
        offset, mask, value = _FIRST[wanted.protocol]
        tests += [_load(_TRANSPORT, offset, 1), _mask(bytes([mask])), _compare(bytes([value]))]
    one = _expression("immediate", _be32(1, _REGISTER) + nl.nested(2, nl.attr(1, b"\1")))
    mark = _expression("meta", _be32(2, _META_NFTRACE) + _be32(3, _REGISTER))
    body = nl.text(1, TABLE) + nl.text(2, hook) + nl.nested(4, *tests, one, mark)
    return _NEWRULE, _head(nl.AF_INET) + body


def _expression(name: str, data: bytes) -> bytes:
    return nl.nested(1, nl.text(1, name), nl.nested(2, data))


def _meta(key: int) -> bytes:
    return _expression("meta", _be32(1, _REGISTER) + _be32(2, key))


def _load(base: int, offset: int, length: int) -> bytes:
    return _expression("payload", _be32(1, _REGISTER) + _be32(2, base) + _be32(3, offset) + _be32(4, length))


def _compare(value: bytes) -> bytes:
    return _expression("cmp", _be32(1, _REGISTER) + _be32(2, 0) + nl.nested(3, nl.attr(1, value)))


def _mask(value: bytes) -> bytes:
    zero = nl.nested(5, nl.attr(1, bytes(len(value))))
    registers = _be32(1, _REGISTER) + _be32(2, _REGISTER) + _be32(3, len(value))
    return _expression("bitwise", registers + nl.nested(4, nl.attr(1, value)) + zero)


def _field(base: int, offset: int, value: bytes) -> list[bytes]:
    return [_load(base, offset, len(value)), _compare(value)]


def _be32(kind: int, value: int) -> bytes:
    return nl.attr(kind, struct.pack(">I", value))


def _number(data: bytes | None) -> int:
    return int.from_bytes(data or b"", "big")


def _text(data: bytes | None) -> str:
    return os.fsdecode((data or b"").rstrip(b"\0"))
