"""A grpc probe: one call of grpc.health.v1.Health/Check over HTTP/2, as bytes in and bytes out. Pure.

Sources: k8s pkg/probe/grpc/grpc.go, the gRPC health checking protocol, RFC 9113, grpc-go's internal/transport. The pod
supervisor imports this file, hence no import that costs memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

from .hpack import Decoder, literal
from .probe_http import USER_AGENT, authority
from .probes import FAILURE, SUCCESS

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GO_AWAY, _CONTINUATION = 0, 1, 3, 4, 6, 7, 9
_ACK = _END_STREAM = 0x1
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20
_HEAD = 9
# What a peer may send in one frame, since we do not allow more, and what a call's headers and answer may take.
_FRAME_LIMIT = 16384
_LIMIT = 65536
_NO_PUSH = struct.pack("!HI", 0x2, 0)
_STREAM = 1

_CODES = (
    *("OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists"),
    *("PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented"),
    *("Internal", "Unavailable", "DataLoss", "Unauthenticated"),
)
_UNIMPLEMENTED = 12
# What an HTTP status means where a server does not speak gRPC (grpc's http-grpc-status-mapping).
_BY_STATUS = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
_UNKNOWN = 2
_SERVING = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")

# Outcome and text.
Answer = tuple[str, str]


def timed_out(spec: Mapping[str, Any], address: str, connected: bool) -> str:
    """What the kubelet says when the time is up. connected: the server speaks HTTP/2."""
    within = duration(spec["timeout"])
    if connected:
        return f"timeout: health rpc did not complete within {within}"
    where = authority(address, spec["port"])
    return f'timeout: failed to connect service "{where}" within {within}: context deadline exceeded'


def duration(seconds: int) -> str:
    """As Go writes it: 1s, 1m30s, 1h0m0s."""
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s" if minutes else f"{rest}s"


class Call:
    """One call on a connection of its own. connected: the server has answered as HTTP/2 does. answer: None until then.

    Raises ValueError for what is no HTTP/2.
    """

    def __init__(self, spec: Mapping[str, Any], address: str) -> None:
        self._spec = spec
        self._where = authority(address, spec["port"])
        self._fields = Decoder()
        self._said = b""
        self._block = b""
        self._head: dict[bytes, bytes] = {}
        self._body = b""
        self._kept = 0
        self._over = False
        self.connected = False
        self.answer: Answer | None = None

    def hello(self) -> bytes:
        """What is said first."""
        return _PREFACE + _frame(_SETTINGS, 0, 0, _NO_PUSH)

    def feed(self, data: bytes) -> bytes:
        """Take what the server said; return what to say."""
        self._said += data
        replies = b""
        for kind, flags, stream, payload in self._frames():
            if not self.connected and kind != _SETTINGS:
                raise ValueError(f"the first frame is of type {kind}, not SETTINGS")
            replies += self._take(kind, flags, stream, payload)
            if self.answer:
                break
        return replies

    def ended(self) -> Answer:
        """The server has closed the connection before its answer."""
        return self._failed(14, "error reading from server: EOF")

    def broken(self, why: str) -> Answer:
        """What came from a server that had answered as HTTP/2 does was none."""
        return self._failed(13, why)

    def _frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        while len(self._said) >= _HEAD:
            length = int.from_bytes(self._said[:3], "big")
            if length > _FRAME_LIMIT:
                raise ValueError(f"a frame of {length} bytes")
            if len(self._said) < _HEAD + length:
                return
            kind, flags = self._said[3], self._said[4]
            stream = int.from_bytes(self._said[5:9], "big") & 0x7FFFFFFF
            payload = self._said[_HEAD : _HEAD + length]
            self._said = self._said[_HEAD + length :]
            yield kind, flags, stream, payload

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if kind == _SETTINGS and not flags & _ACK:
            first, self.connected = not self.connected, True
            return _frame(_SETTINGS, _ACK, 0, b"") + (self._request() if first else b"")
        if kind == _PING and not flags & _ACK:
            return _frame(_PING, _ACK, 0, payload)
        if kind == _GO_AWAY:
            self._go_away(payload)
        elif stream == _STREAM:
            self._take_ours(kind, flags, payload)
        return b""

    def _go_away(self, payload: bytes) -> None:
        last, code = struct.unpack("!II", payload[:8]) if len(payload) >= 8 else (0, 0)
        # One that answers us yet is no end.
        if last < _STREAM:
            self.answer = self._failed(14, f"closing transport due to: received GOAWAY with error code {code}")

    def _take_ours(self, kind: int, flags: int, payload: bytes) -> None:
        self._kept += len(payload)
        if self._kept > _LIMIT:
            raise ValueError(f"an answer of more than {_LIMIT} bytes")
        if kind == _RESET:
            code = int.from_bytes(payload[:4], "big")
            self.answer = self._failed(13, f"stream terminated by RST_STREAM with error code: {code}")
        elif kind == _DATA:
            self._body += _unpadded(flags, payload)
        elif kind in (_HEADERS, _CONTINUATION):
            self._block += _headers(flags, payload) if kind == _HEADERS else payload
            if flags & _END_HEADERS:
                self._head.update(self._fields.decode(self._block))
                self._block = b""
        # A block of headers may be longer than the frame that ends the stream.
        self._over = self._over or bool(kind in (_DATA, _HEADERS) and flags & _END_STREAM)
        if self._over and not self._block and self.answer is None:
            self.answer = self._judge()

    def _request(self) -> bytes:
        """HEADERS and DATA of the call. Health/Check's message has one field, the service's name."""
        name = self._spec["service"].encode()
        message = b"\x0a" + _varint(len(name)) + name if name else b""
        fields = {
            ":method": "POST",
            ":scheme": "https" if self._spec["tls"] else "http",
            ":path": "/grpc.health.v1.Health/Check",
            ":authority": self._where,
            "content-type": "application/grpc",
            "user-agent": USER_AGENT,
            "te": "trailers",
            "grpc-timeout": f"{self._spec['timeout']}S",
        }
        block = b"".join(literal(key, value) for key, value in fields.items())
        data = b"\0" + struct.pack("!I", len(message)) + message
        # A name may fill a frame, and more.
        parts = [data[at : at + _FRAME_LIMIT] for at in range(0, len(data), _FRAME_LIMIT)]
        sent = [_frame(_DATA, _END_STREAM * (part is parts[-1]), _STREAM, part) for part in parts]
        return _frame(_HEADERS, _END_HEADERS, _STREAM, block) + b"".join(sent)

    # -- what it means ------------------------------------------------------------------------------------------------

    def _judge(self) -> Answer:
        status = _number(self._head.get(b":status", b""))
        if b"grpc-status" not in self._head:
            return self._failed(
                _BY_STATUS.get(status, _UNKNOWN), f"unexpected HTTP status code received from server: {status}"
            )
        code = _number(self._head[b"grpc-status"])
        if code:
            return self._failed(code, _message(self._head.get(b"grpc-message", b"")))
        if len(self._body) < 5 or self._body[0]:
            return self._failed(13, "the server has sent no message that could be read")
        size = int.from_bytes(self._body[1:5], "big")
        serving = _status(self._body[5 : 5 + size])
        if serving == 1:
            return SUCCESS, "service healthy"
        name = _SERVING[serving] if serving < len(_SERVING) else str(serving)
        return FAILURE, f'service unhealthy (responded with "{name}")'

    def _failed(self, code: int, message: str) -> Answer:
        if code == _UNIMPLEMENTED:
            text = f"this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
            return FAILURE, f"error: {text}"
        name = _CODES[code] if code < len(_CODES) else f"Code({code})"
        return FAILURE, f"error: health rpc probe failed: rpc error: code = {name} desc = {message}"


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ValueError("a frame of padding only")
    return payload[1 : len(payload) - payload[0]]


def _headers(flags: int, payload: bytes) -> bytes:
    payload = _unpadded(flags, payload)
    return payload[5:] if flags & _PRIORITY else payload


def _number(text: bytes) -> int:
    return int(text) if text.isdigit() else _UNKNOWN


def _message(text: bytes) -> str:
    """grpc-message: percent-encoded UTF-8."""
    parts = text.split(b"%")
    out = parts[0]
    for part in parts[1:]:
        try:
            out += bytes([int(part[:2], 16)]) + part[2:]
        except ValueError:
            out += b"%" + part
    return out.decode("utf-8", "replace")


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([128 | number & 127])
        number >>= 7
    return out + bytes([number])


def _status(message: bytes) -> int:
    """Field 1 of a HealthCheckResponse; 0 when it is not there."""
    at, found = 0, 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        if tag & 7 == 0:
            value, at = _read_varint(message, at)
            found = value if tag >> 3 == 1 else found
        elif tag & 7 == 2:
            length, at = _read_varint(message, at)
            at += length
        else:
            at += 8 if tag & 7 == 1 else 4
    return found


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a message that is cut off")
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 128:
            return value, at
