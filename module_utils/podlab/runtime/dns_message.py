"""DNS messages, read and written with dnslib: the part of the lab's DNS server that knows the wire.

Only the server imports this file; the machine needs no dnslib to put it into the server's image.
Sources: RFC 1035, RFC 6891 (EDNS0), RFC 2181 9 (TC), RFC 8906 (what else not to do).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import dnslib

from ..kube.dns_answers import Record

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "TXT": 16, "AAAA": 28, "SRV": 33, "ANY": 255}
_NAMES = {number: name for name, number in TYPES.items()}
_TRANSFERS = (251, 252)  # IXFR, AXFR
_OPT = 41
_DO = 0x8000
RCODES = {"NOERROR": 0, "FORMERR": 1, "SERVFAIL": 2, "NXDOMAIN": 3, "NOTIMP": 4, "REFUSED": 5, "BADVERS": 16}
_HEADER = struct.Struct("!6H")
# Without EDNS0 (RFC 1035); what we ask others to send; what fits into packets that travel whole; what TCP can carry.
PLAIN_SIZE, OUR_SIZE, LARGEST_UDP, LARGEST_TCP = 512, 1232, 4096, 65535
# A name's pointer, type, class, TTL and length.
_SMALLEST_RECORD = 12
# A question has one name of at most 255 octets, and options.
_LARGEST_QUESTION = 4096


class Query(NamedTuple):
    """A question. name: without the last dot. kind: of TYPES, or the number. size: the largest UDP answer.

    refused: the response code when there is no answering it. dnssec: the bit DO, which an answer has to repeat.
    """

    data: bytes
    record: dnslib.DNSRecord
    name: str
    kind: str
    size: int
    edns: bool
    refused: str = ""
    dnssec: bool = False


def read(data: bytes) -> Query | bytes | None:
    """A Query; or the answer to something that cannot be read; None for what must not be answered at all."""
    if len(data) < _HEADER.size:
        return None
    ident, flags, questions, answers, authority, additional = _HEADER.unpack_from(data)
    if flags & 0x8000:
        return None  # an answer: two servers must not keep answering each other
    if flags >> 11 & 15:
        return _bare(ident, flags, "NOTIMP")
    if questions != 1 or answers or authority or additional > 2 or len(data) > _LARGEST_QUESTION:
        return _bare(ident, flags, "FORMERR")
    try:
        record = dnslib.DNSRecord.parse(data)
    except Exception:  # whatever a hostile packet makes of the parser
        return _bare(ident, flags, "FORMERR")
    question = record.q
    labels = question.qname.label
    options = [extra for extra in record.ar if extra.rtype == _OPT]
    if any(len(label) > 63 for label in labels) or sum(len(label) + 1 for label in labels) > 254 or len(options) > 1:
        return _bare(ident, flags, "FORMERR")
    # There is no earlier name that a pointer could lead to.
    plain = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    if not data.startswith(plain, _HEADER.size):
        return _bare(ident, flags, "FORMERR")
    refused = "REFUSED" if question.qclass != 1 or question.qtype in _TRANSFERS else ""
    size = PLAIN_SIZE
    if options:
        size = min(max(PLAIN_SIZE, options[0].rclass), LARGEST_UDP)
        refused = "BADVERS" if options[0].ttl >> 16 & 255 else refused
    # A dot inside a label is not the one between two.
    name = ".".join(label.decode("latin-1").replace(".", "\\.") for label in labels)
    kind = _NAMES.get(question.qtype, str(question.qtype))
    dnssec = bool(options and options[0].ttl & _DO)
    return Query(data, record, name, kind, size, bool(options), refused, dnssec)


def failure(data: bytes) -> bytes:
    """SERVFAIL to a message that read() has read."""
    ident, flags = _HEADER.unpack_from(data)[:2]
    return _bare(ident, flags, "SERVFAIL")


def _bare(ident: int, flags: int, rcode: str) -> bytes:
    """A header alone: opcode and RD are the question's."""
    return _HEADER.pack(ident, 0x8000 | flags & 0x7900 | RCODES[rcode], 0, 0, 0, 0)


class Reply(NamedTuple):
    """What to say. more: resource records of another server, for the answer section."""

    rcode: str
    answers: Sequence[Record] = ()
    authority: Sequence[Record] = ()
    additional: Sequence[Record] = ()
    more: Sequence[dnslib.RR] = ()
    ours: bool = True


def write(query: Query, reply: Reply, limit: int, recursion: bool) -> bytes:
    """The message, cut to limit: first what is only additional; then answers, with the bit that says so (TC).

    limit: query.size over UDP, LARGEST_TCP over TCP. recursion: whether there is an upstream to ask.
    """
    # One more than can ever fit is as good as a thousand more, and costs a thousandth.
    most = limit // _SMALLEST_RECORD + 1
    answers = [*_rrs(query, reply.answers[:most]), *reply.more]
    authority = _rrs(query, reply.authority)
    data = _packed(query, reply, recursion, (answers, authority, _rrs(query, reply.additional[:most])))
    if len(data) > limit:
        data = _packed(query, reply, recursion, (answers, authority, []))
    while len(data) > limit and (answers or authority):
        # All of one kind, and so of about one size: rarely more than two rounds.
        answers = answers[: min(len(answers) - 1, len(answers) * limit // len(data))] if answers else []
        authority = []
        data = _packed(query, reply, recursion, (answers, authority, []), truncated=True)
    return data


def _packed(
    query: Query,
    reply: Reply,
    recursion: bool,
    parts: tuple[Sequence[dnslib.RR], Sequence[dnslib.RR], Sequence[dnslib.RR]],
    truncated: bool = False,
) -> bytes:
    code = RCODES[reply.rcode]
    asked = query.record.header
    header = dnslib.DNSHeader(
        id=asked.id, qr=1, aa=int(reply.ours), tc=int(truncated), rd=asked.rd, ra=int(recursion), rcode=code & 15
    )
    bits = "do" if query.dnssec else ""
    options = [dnslib.EDNS0(flags=bits, ext_rcode=code >> 4, udp_len=OUR_SIZE)] if query.edns else []
    answers, authority, additional = parts
    sections = {"rr": answers, "auth": authority, "ar": [*additional, *options]}
    return bytes(dnslib.DNSRecord(header, questions=[query.record.q], **sections).pack())


def question(ident: int, name: str, kind: str) -> bytes:
    """A question to an upstream server."""
    header = dnslib.DNSHeader(id=ident, rd=1)
    asked = dnslib.DNSQuestion(_label(name), TYPES[kind])
    return bytes(dnslib.DNSRecord(header, questions=[asked], ar=[dnslib.EDNS0(udp_len=OUR_SIZE)]).pack())


def truncated(data: bytes) -> bool:
    """Whether a message says that it is only a part (TC)."""
    return len(data) >= _HEADER.size and bool(data[2] & 2)


def found(data: bytes) -> Sequence[dnslib.RR]:
    """The answers of an upstream's message; none when it makes no sense."""
    try:
        answers = list(dnslib.DNSRecord.parse(data).rr)
        # dnslib reads more than it can write, such as a record without data.
        dnslib.DNSRecord(rr=answers).pack()
        return answers
    except Exception:  # as in read(): it comes from outside
        return []


def _label(name: str) -> dnslib.DNSLabel:
    """As bytes: dnslib would run text through IDNA."""
    return dnslib.DNSLabel([part.encode() for part in name.rstrip(".").split(".")])


def _rrs(query: Query, records: Sequence[Record]) -> list[dnslib.RR]:
    own = query.record.q.qname
    return [
        dnslib.RR(
            own if record.name == query.name else _label(record.name),
            TYPES[record.kind],
            ttl=record.ttl,
            rdata=_data(record),
        )
        for record in records
    ]


def _data(record: Record) -> dnslib.RD:
    words = record.data.split()
    if record.kind == "SRV":
        return dnslib.SRV(*(int(word) for word in words[:3]), _label(words[3]))
    if record.kind == "SOA":
        return dnslib.SOA(_label(words[0]), _label(words[1]), tuple(int(word) for word in words[2:]))
    if record.kind == "TXT":
        return dnslib.TXT(record.data.strip('"').encode())
    if record.kind in ("A", "AAAA"):
        return (dnslib.A if record.kind == "A" else dnslib.AAAA)(record.data)
    return getattr(dnslib, record.kind)(_label(record.data))
