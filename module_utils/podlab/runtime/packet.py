"""Send one packet through a lab and tell its way: the rules that it hit on each node, translation, route, answer."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ..errors import PodlabError
from ..kube.iptables_save import parse_save
from ..linux import iptables, netns, nftlist, nftrace
from ..linux.conntrack import Conntrack, Entry, Tuple
from ..linux.netlink import Netlink
from . import packet_counters

# How long an answer may take. The kernel sends a SYN again after a second: that would be a second packet.
SECONDS = 0.9
DATAGRAM = b"podlab"
_IP_RECVERR = 11  # linux/in.h; Python has no name for it
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "sctp": socket.SOCK_STREAM}
_NUMBERS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": 132}


class Origin(NamedTuple):
    """Where the packet starts. netns: of linux.netns; node: the node that it is (on)."""

    kind: str
    name: str
    node: str
    netns: str


class Node(NamedTuple):
    """A node that the packet may pass. addresses: its own; pods: addresses of the pods on it."""

    name: str
    netns: str
    addresses: tuple[str, ...]
    pods: tuple[str, ...]


class Hit(NamedTuple):
    """A rule that the packet hit, or a base chain's policy that it came to (rule "" then)."""

    hook: str
    table: str
    chain: str
    rule: str
    verdict: str
    target: str
    mark: int


class Passage(NamedTuple):
    """The packet on one node: as it came, what it hit, as it left (None when it did not), and the route it took.

    counted: the hits are only those of counters (packet_counters), of rules of iptables' legacy backend.
    """

    node: str
    arrives: Tuple
    interface: str
    hits: tuple[Hit, ...]
    leaves: Tuple | None
    route_argv: tuple[str, ...]
    route: str
    counted: bool


class Seen(NamedTuple):
    """What the kernel reported on one node, and which rules of iptables-legacy counted, where it has such."""

    steps: Sequence[nftrace.Event]
    connections: Sequence[Entry]
    counted: Sequence[packet_counters.Counted]


class Answer(NamedTuple):
    """result: "connected", "answered", "refused", "unreachable" or "no answer"; by: what the system said."""

    result: str
    seconds: float
    by: str


def follow(
    origin: Origin,
    nodes: Sequence[Node],
    protocol: str,
    address: str,
    port: int,
    endpoints: Iterable[tuple[str, int]],
    datagram: bytes = DATAGRAM,
) -> tuple[list[Passage], Answer]:
    """Send one packet from origin to address and port; return its passages in order, and the answer.

    endpoints: where it may be translated to. datagram: what is sent by UDP.
    Raises PodlabError when the kernel cannot follow packets.
    """
    with _socket(origin, protocol, address, port) as probe, contextlib.ExitStack() as opened:
        source = probe.getsockname()
        first = Tuple(protocol, source[0], source[1], address, port)
        tracers = {}
        for node in nodes:
            with netns.entered(node.netns), _explained(node):
                tracers[node.name] = opened.enter_context(nftrace.Tracer(_wanted(node, origin, first, endpoints)))
        legacy = [node for node in nodes if iptables.legacy_tables(node.netns)]
        before = {node.name: _counters(node) for node in legacy}
        answer = _send(probe, protocol, address, port, datagram)
        counted = {node.name: list(packet_counters.risen(before[node.name], _counters(node))) for node in legacy}
        seen = {}
        for node in nodes:
            with _explained(node):
                seen[node.name] = Seen(*tracers[node.name].read(), counted.get(node.name, []))
        return list(_passages(origin, {node.name: node for node in nodes}, first, seen)), answer


def _wanted(node: Node, origin: Origin, first: Tuple, endpoints: Iterable[tuple[str, int]]) -> list[nftrace.Wanted]:
    """Where it starts exactly our packet; what may be it after its translation."""
    places = {(first.destination, first.destination_port), *endpoints}
    if node.name == origin.node:
        places.discard((first.destination, first.destination_port))
        exact = [nftrace.Wanted(first.protocol, first.destination, first.destination_port, *first[1:3])]
    else:
        exact = []
    return exact + [nftrace.Wanted(first.protocol, address, port) for address, port in sorted(places)]


@contextlib.contextmanager
def _explained(node: Node) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.EPERM):  # EPERM: the table is there, and another socket's
            raise PodlabError(f"Another trace is at work on node {node.name}: wait for its end.") from error
        if error.errno == errno.ENOBUFS:
            message = "more packets to the same endpoints came meanwhile than the kernel keeps reports of"
            raise PodlabError(f"Cannot trace on node {node.name}: {message}. Try again when less is sent.") from error
        if not nftrace.supported(error):
            message = "this kernel cannot follow packets: it needs nf_tables with owned tables (Linux 5.12 or newer)"
            raise PodlabError(f"Cannot trace on node {node.name}: {message}.") from error
        raise


def dns_question(name: str) -> bytes:
    """A DNS query for the addresses of a name (RFC 1035, 4.1)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">HHHHHH", os.getpid() & 0xFFFF, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)


# --- the packet -----------------------------------------------------------------------------------------------------


def _socket(origin: Origin, protocol: str, address: str, port: int) -> socket.socket:
    """A socket in the origin's namespace, bound to the address and a port that the packet will have."""
    with netns.entered(origin.netns):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            try:
                asked.connect((address, port))
            except OSError as error:
                raise PodlabError(f"{origin.name} cannot send to {address}: {error.strerror}") from error
            own = asked.getsockname()[0]
        try:
            probe = socket.socket(socket.AF_INET, _KINDS[protocol], _NUMBERS[protocol])
        except OSError as error:
            raise PodlabError(f"This kernel cannot send {protocol.upper()}: {error.strerror}") from error
    # An ICMP error that comes while connect() is still at work is else kept back until the SYN is sent again.
    probe.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
    probe.bind((own, 0))
    probe.setblocking(False)
    return probe


def _send(probe: socket.socket, protocol: str, address: str, port: int, datagram: bytes) -> Answer:
    """One connection attempt, or one datagram; closed by the caller."""
    began = time.monotonic()
    number = probe.connect_ex((address, port))
    wanted, result = select.POLLOUT, "connected"
    if protocol == "udp" and not number:
        probe.send(datagram)
        wanted, result, number = select.POLLIN, "answered", errno.EINPROGRESS
    if number == errno.EINPROGRESS:
        number = _outcome(probe, wanted)
    seconds = time.monotonic() - began
    if number == errno.EAGAIN:
        return Answer("no answer", seconds, f"nothing came within {SECONDS} s")
    if number:
        return Answer("refused" if number == errno.ECONNREFUSED else "unreachable", seconds, os.strerror(number))
    return Answer(result, seconds, "")


def _outcome(probe: socket.socket, wanted: int) -> int:
    """Wait; 0 when it came, EAGAIN when nothing did, else the error's number."""
    waiting = select.poll()
    waiting.register(probe, wanted)
    if not waiting.poll(SECONDS * 1000):
        return errno.EAGAIN
    number = probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        return number
    try:
        ancillary = probe.recvmsg(0, 512, socket.MSG_ERRQUEUE)[1]
    except OSError:
        return 0
    # struct sock_extended_err begins with the error's number.
    return next((struct.unpack_from("=I", data)[0] for _, kind, data in ancillary if kind == _IP_RECVERR), 0)


# --- its way --------------------------------------------------------------------------------------------------------


def _passages(origin: Origin, nodes: Mapping[str, Node], first: Tuple, seen: Mapping[str, Seen]) -> Iterator[Passage]:
    """From node to node, as far as the packet came."""
    here, packet, been = origin.node, first, set()
    while here and (here, packet) not in been:
        been.add((here, packet))
        node = nodes[here]
        with netns.entered(node.netns):
            passage = _passage(node, packet, seen[here])
        yield passage
        if passage.leaves is None:
            return
        packet, here = passage.leaves, _next(node, nodes.values(), passage.leaves.destination)


def _next(node: Node, nodes: Iterable[Node], destination: str) -> str:
    """The node that has the address, or a pod with it; "" when it is here already or nobody's."""
    if destination in (*node.addresses, *node.pods):
        return ""
    return next((other.name for other in nodes if destination in (*other.addresses, *other.pods)), "")


def _passage(node: Node, packet: Tuple, seen: Seen) -> Passage:
    """What happened to the packet in the current namespace, which is the node's."""
    number = next((event.packet for event in seen.steps if event.header == packet), None)
    own = [event for event in seen.steps if event.packet == number]
    chains = nftlist.chains(_output(("nft", "-a", "list", "ruleset")))
    hits = tuple(_hits(own, chains, nftlist.name_rules(chains, _saved(node)))) if not seen.counted else ()
    hits += tuple(Hit(*each, 0) for each in seen.counted)
    lost = bool(hits) and hits[-1].verdict == "drop"
    leaves = None if lost else _translated(packet, own, seen.connections)
    interface = _interface(next((event.iif for event in own if event.header == packet), 0))
    argv = _route_argv(packet, leaves or (own and _last_header(own)) or packet, interface)
    return Passage(node.name, packet, interface, hits, leaves, argv, _route(argv), bool(seen.counted))


def _hits(
    events: Iterable[nftrace.Event], chains: nftlist.Chains, rules: Mapping[tuple[str, str, int], str]
) -> Iterator[Hit]:
    hook = ""
    for event in events:
        chain = chains.get((event.table, event.chain))
        hook = (chain.hook if chain else "") or hook
        rule = rules.get((event.table, event.chain, event.rule), "")
        if event.kind == "policy" or (event.kind == "rule" and event.rule):
            yield Hit(hook, event.table, event.chain, rule, event.verdict, event.target, event.mark)


def _counters(node: Node) -> packet_counters.Counters:
    """The counters of the legacy rules of a node."""
    with netns.entered(node.netns):
        return packet_counters.parse(_output(("iptables-legacy-save", "-c")))


def _saved(node: Node) -> dict[str, dict[str, list[str]]]:
    """The node's iptables rules; none where iptables is not installed."""
    try:
        return parse_save(iptables.save(iptables.detect(backend="nft"), [node.netns])[node.netns])
    except PodlabError:
        return {}


def _translated(packet: Tuple, steps: Sequence[nftrace.Event], connections: Iterable[Entry]) -> Tuple:
    """The packet as it left: connection tracking knows, else what the last chain saw."""
    found = next((entry for entry in connections if entry.orig == packet), None)
    if found is None:
        try:
            with Conntrack() as conntrack:
                found = conntrack.get(packet)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return _last_header(steps) or packet
    reply = found.reply
    return Tuple(packet.protocol, reply.destination, reply.destination_port, reply.source, reply.source_port)


def _last_header(events: Sequence[nftrace.Event]) -> Tuple | None:
    return next((event.header for event in reversed(events) if event.header), None)


def _interface(index: int) -> str:
    """The name of a device of the current namespace; "" for none."""
    with Netlink() as netlink:
        return next((link.name for link in netlink.links().values() if link.ifindex == index), "") if index else ""


def _route_argv(packet: Tuple, after: Tuple, interface: str) -> tuple[str, ...]:
    """`ip route get`: by the destination after DNAT; SNAT comes after routing."""
    came = ("from", packet.source, "iif", interface) if interface else ()
    return ("ip", "route", "get", after.destination, *came)


def _route(argv: Sequence[str]) -> str:
    try:
        return " ".join(_output(argv).splitlines()[0].split())
    except PodlabError as error:
        return str(error.details.get("stderr", ""))


def _output(argv: Sequence[str]) -> str:
    """What a command prints in the current network namespace."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, env={**os.environ, "LC_ALL": "C"})
    except FileNotFoundError as error:
        raise PodlabError(f"Cannot trace: no {argv[0]} on this machine. Install what has it.") from error
    if done.returncode:
        said = done.stderr.strip()
        raise PodlabError(f"{' '.join(argv)} failed: {said}", stderr=said)
    return done.stdout
